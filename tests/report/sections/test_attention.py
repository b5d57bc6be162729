"""What attention takes into a page: weights of 16 or 8 bits, tokens never cut, and what is left out by name."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit.attention import Attention, token_scores
from circuitkit.model.site import Site
from circuitkit.model.tokens import Tokens
from circuitkit.report.contents import Contents
from circuitkit.report.embedding import as_json
from circuitkit.report.packing import STEPS, packed, packed_small, unpacked, unpacked_small
from circuitkit.report.sections.attending import captured_in
from circuitkit.report.sections.attention import sections
from circuitkit.report.sections.attention_choice import chosen
from circuitkit.results import Baseline, Result
from circuitkit.run.cache import Cache


def attention(lengths=(5,), layers=2, heads=3, model="toy", seed=0, names=None) -> Attention:
    """Random causal patterns of prompts padded on the left, part of each row's attention in a sink."""
    n, generator = max(lengths), torch.Generator().manual_seed(seed)
    mask = torch.stack([torch.arange(n) >= n - length for length in lengths])
    hidden = ~torch.ones(n, n, dtype=torch.bool).tril() | ~mask[:, None, None, :]
    patterns = {}
    for layer in range(layers):
        scores = 3 * torch.randn(len(lengths), heads, n, n, generator=generator)
        patterns[Site("pattern", layer=layer)] = 0.9 * scores.masked_fill(hidden, -1e9).softmax(-1) * ~hidden
    tokens = Tokens(torch.arange(n).repeat(len(lengths), 1), mask)
    words = tuple(tuple(f" w{at}" for at in range(length)) for length in lengths)
    cache = Cache(patterns, tokens.positions, tokens.lengths, {}, layers)
    return Attention(cache, tokens, words, {"model": model}, names)


def changed(kept: Attention, layer: int, pattern: torch.Tensor) -> Attention:
    """The same patterns with one layer's in the place of its own."""
    values = {site: kept.cache[site] for site in kept.cache} | {Site("pattern", layer=layer): pattern}
    cache = Cache(values, kept.tokens.positions, kept.tokens.lengths, {}, kept.cache.n_layers)
    return Attention(cache, kept.tokens, kept.words, kept.provenance, kept.names)


def contents_of(folder: Path, beside: Path | None = None, **files: Attention) -> Contents:
    for name, one in files.items():
        one.save(folder / f"{name}.safetensors")
    return Contents.of(folder, beside=beside)


def weights_of(reading) -> dict[tuple[int, int], np.ndarray]:
    """The patterns in a reading as the page's script reads them."""
    n = len(reading["tokens"])
    places = np.tril_indices(n) if reading["causal"] else tuple(np.indices((n, n)).reshape(2, -1))
    read = {16: unpacked, 8: unpacked_small}[reading["bits"]]
    values = read(reading["weights"], reading["low"], reading["high"]).reshape(len(reading["kept"]), -1)
    found = {}
    for head, row in zip(reading["kept"], values, strict=True):
        found[tuple(head)] = np.zeros((n, n))
        found[tuple(head)][places] = row
    return found


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-2, 3), min_size=1, max_size=40))
def test_packed_numbers_are_within_half_a_step(values):
    again = unpacked(packed(np.array(values), -2.0, 3.0), -2.0, 3.0)
    np.testing.assert_allclose(again, values, atol=5 / STEPS / 2 + 1e-12)
    shares = (np.array(values) + 2.0) / 5
    small = (unpacked_small(packed_small(np.array(values), -2.0, 3.0), -2.0, 3.0) + 2.0) / 5
    assert np.all(np.abs(small - shares) <= np.sqrt(shares) / 255 + 0.25 / 255**2 + 1e-12)


@pytest.mark.parametrize("value", [float("nan"), 1.5, -0.1])
@pytest.mark.parametrize("pack", [packed, packed_small])
def test_what_lies_outside_the_ends_is_refused(value, pack):
    with pytest.raises(ValueError, match="lie between 0 and 1, and none is NaN"):
        pack(np.array([0.5, value]), 0, 1)


def test_every_heads_weights_and_scores_are_in_the_page(tmp_path):
    kept = attention((6, 4), names=("clean", "corrupt"))
    (section,) = sections(contents_of(tmp_path, attention=kept))
    data = json.loads(as_json(section.data))
    assert [reading["name"] for reading in data["readings"]] == ["clean", "corrupt"] and data["beside"] == 1
    for row, reading in enumerate(data["readings"]):
        n = len(kept.words[row])
        assert (
            reading["tokens"] == list(kept.words[row])
            and reading["causal"]
            and (reading["low"], reading["high"]) == (0, 1)
        )
        scores = unpacked(reading["scores"], 0, 1).reshape(-1, n)
        for at, (head, weights) in enumerate(weights_of(reading).items()):
            pattern = kept.pattern(*head, row)
            np.testing.assert_allclose(weights, pattern, atol=0.5 / STEPS + 1e-9)
            np.testing.assert_allclose(scores[at], token_scores(pattern), atol=0.5 / STEPS + 1e-7)
    assert "in 16 bits, each within 8e-06 of the file's;" in section.notes[-1]
    assert len(section.stills) == 2


def test_a_folders_section_says_where_heads_look(tmp_path):
    kept = attention((5,), layers=1, heads=3)
    first, before, itself = torch.zeros(3, 5, 5)
    first[:, 0] = 0.8
    before[torch.arange(1, 5), torch.arange(4)] = 0.9
    before[0, 0] = 1.0
    itself.fill_diagonal_(0.6)
    kept = changed(kept, 0, torch.stack([first, before, itself])[None])
    (section,) = sections(contents_of(tmp_path, attention=kept))
    assert section.says == (
        "On the prompt (5 tokens), 1 of 3 heads put more than half of their attention on the first token, 1 on the "
        "token before, 1 on the token that looks (means over the tokens from the third on).",
    )


def test_prompts_and_heads_over_the_budget_are_left_out_by_name_and_no_token_is(tmp_path):
    kept = attention((6, 6, 6), layers=2, heads=2, names=("a", "b", "c"))
    every = list(captured_in(contents_of(tmp_path, attention=kept)))
    of_all, half, one = (chosen(every, (1, 0), most) for most in (2 * 3 * 4 * 21, 2 * 3 * 21, 21))
    assert len(of_all.readings) == 3 and of_all.notes == ()
    assert [each.captured.name for each in half.readings] == ["a", "b"]
    assert {len(each.kept) for each in half.readings} == {3} and (1, 0) in half.readings[0].kept
    (missing,) = set(every[0].heads) - set(half.readings[0].kept)
    assert "3 of 4 heads are in the page" in half.notes[0]
    assert f"Only small maps are there of layer {missing[0]} head {missing[1]}. Patterns of fewer" in half.notes[0]
    assert half.notes[1] == "1 of 3 prompts are left out, to keep the page small."
    assert [each.captured.name for each in one.readings] == ["a"] and one.readings[0].kept == ((1, 0),)
    assert one.notes[0].startswith("b is left out: one head's attention on its 6 tokens has 21 weights")
    assert one.beside is None
    nothing = chosen(every, None, 20)
    assert nothing.readings == () and "a is left out" in " ".join(nothing.notes)


def test_weights_for_which_there_is_no_room_in_16_bits_are_kept_in_8(tmp_path, monkeypatch):
    kept = attention((6,), layers=2, heads=2)
    contents = contents_of(tmp_path, attention=kept)
    every = list(captured_in(contents))
    fine, rough = (chosen(every, None, most).readings[0] for most in (2 * 4 * 21, 2 * 4 * 21 - 1))
    assert fine.kept == rough.kept == tuple(every[0].heads)
    assert (fine.fine, rough.fine) == (True, False)
    monkeypatch.setattr("circuitkit.report.sections.attention.chosen", lambda every, start: chosen(every, start, 84))
    (section,) = sections(contents)
    for head, weights in weights_of(section.data["readings"][0] | {"tokens": kept.words[0]}).items():
        pattern = kept.pattern(*head).numpy()
        assert np.all(np.abs(weights - pattern) <= np.sqrt(pattern) / 255 + 4e-6)
        assert np.abs(weights - pattern).max() > 1 / STEPS
    told = "in 8 bits, each within 0.004 of the file's, and small ones nearer (one of 0.01 within 0.0004);"
    assert told in section.notes[-1]
    # What may lie under 0 has no root.
    below = changed(attention((6,), 1, 1), 0, attention((6,), 1, 1).cache["pattern[layer=0]"] - 0.5)
    (tmp_path / "below").mkdir()
    (captured,) = captured_in(contents_of(tmp_path / "below", attention=below))
    assert chosen([captured], None, 2 * 36).readings[0].fine and chosen([captured], None, 2 * 36 - 1).readings == ()


@pytest.mark.parametrize("n", [20, 75])
def test_heads_that_are_left_out_have_small_maps_of_their_strongest_weights(tmp_path, n):
    kept = attention((n,), layers=1, heads=3)
    every = list(captured_in(contents_of(tmp_path, attention=kept)))
    (reading,) = chosen(every, (0, 1), 2 * (n * (n + 1) // 2)).readings
    small = reading.packed()["small"]
    ((layer, head),) = small["heads"]
    side = min(n, 32)
    maps = np.frombuffer(base64.b64decode(small["values"]), dtype=np.uint8).reshape(side, side)
    pattern, strongest = kept.pattern(layer, head).numpy(), np.zeros((side, side))
    for query in range(n):
        for key in range(n):
            at = query * side // n, key * side // n
            strongest[at] = max(strongest[at], pattern[query, key])
    np.testing.assert_array_equal(maps, np.rint(255 * np.sqrt(strongest)))


def test_the_head_that_a_study_found_is_shown_first_and_those_that_survive_are_marked(tmp_path):
    clean, corrupt = 4 + torch.rand(12), torch.rand(12)
    effects = 0.1 * torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(0))
    effects[1, 2] += 3
    told = {"provenance": {"model": "toy"}}
    study = Result(corrupt + effects, ("layer", "head"), Baseline(clean, corrupt), "denoise", "logits", **told)
    study.save(tmp_path / "heads.safetensors")
    (section,) = sections(contents_of(tmp_path, attention=attention()))
    assert section.data["start"] == (1, 2) and section.data["marked"] == [(1, 2)]
    assert section.data["study"] == "Heads"
    (section,) = sections(contents_of(tmp_path, attention=attention(model="another")))
    assert section.data["marked"] == [] and section.data["study"] is None


def test_a_head_with_nan_or_without_a_scale_is_told_and_patterns_that_are_not_causal_are_whole(tmp_path):
    kept = attention((4,), layers=2, heads=2)
    pattern = torch.full((1, 2, 4, 4), 0.25)
    pattern[0, 1, 2, 0] = torch.nan
    kept = changed(kept, 0, pattern)
    (section,) = sections(contents_of(tmp_path, attention=kept))
    (reading,) = section.data["readings"]
    assert reading["kept"] == [(0, 0), (1, 0), (1, 1)] and not reading["causal"]
    np.testing.assert_allclose(weights_of(reading)[0, 0], pattern[0, 0], atol=0.5 / STEPS)
    assert "the attention of layer 0 head 1 holds NaN or infinity, and is left out." in section.notes[0]
    one = changed(attention((1,), layers=1, heads=1), 0, torch.ones(1, 1, 1, 1))
    (section,) = sections(contents_of(tmp_path, attention=one))
    assert section.data["readings"][0]["unscored"] == [0] and section.says == ()


def test_patterns_that_something_changed_may_lie_outside_0_to_1(tmp_path):
    pattern = attention((4,), layers=1, heads=1).cache["pattern[layer=0]"] * 3 - 0.5
    (section,) = sections(contents_of(tmp_path, attention=changed(attention((4,), 1, 1), 0, pattern)))
    (reading,) = section.data["readings"]
    assert (reading["low"], reading["high"]) == (-1, 3)
    np.testing.assert_allclose(weights_of(reading)[0, 0], pattern[0, 0], atol=2 / STEPS + 1e-6)


def test_files_of_one_folder_and_of_the_one_beside_it_are_told_apart(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    attention(seed=1).save(tmp_path / "two" / "attention.safetensors")
    contents = contents_of(tmp_path / "one", tmp_path / "two", attention=attention())
    (section,) = sections(contents)
    assert [reading["name"] for reading in section.data["readings"]] == ["toy in one", "toy in two"]
    assert section.data["beside"] == 1
    # They are not shown again in the other folder's part.
    assert contents.of_kind("attention") == contents.beside.of_kind("attention") == ()
    attention(model="post", seed=1).save(tmp_path / "two" / "attention.safetensors")
    (section,) = sections(Contents.of(tmp_path / "one", beside=tmp_path / "two"))
    assert [reading["name"] for reading in section.data["readings"]] == ["toy", "post"]


def test_a_model_none_of_whose_heads_has_room_is_told(tmp_path):
    one = attention(layers=1, heads=2, model="one")
    looks_back = torch.zeros(1, 1, 5, 5)
    looks_back[..., 0] = 0.9
    cache = Cache({Site("pattern", layer=1): looks_back}, one.tokens.positions, one.tokens.lengths, {}, 2)
    other = Attention(cache, one.tokens, one.words, {"model": "two"})
    every = list(captured_in(contents_of(tmp_path, a=one, b=other)))
    assert [len(each.kept) for each in chosen(every, None, 3 * 15).readings] == [2, 1]
    choice = chosen(every, None, 2 * 15)
    assert [each.captured.name for each in choice.readings] == ["one"] and choice.beside is None
    assert choice.notes[-1] == "two is left out: there is room for none of its heads."


def test_what_the_command_writes_is_shown_with_its_figures_once(tmp_path, capsys):
    from circuitkit.commands.attention.capturing import capturing

    capturing("deductor-5k", "Every wumpus is a dumpus.", head=0, all_layers=True, out=tmp_path)
    page = ck.report.read(tmp_path, progress=False)
    views = {section.name: section.view for section in page.sections}
    assert views == {"s-attention": "attention", "s-token-scores": None}
