"""Streamed scores equal those of captured patterns, on every architecture, padded or not, in several blocks."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

import architectures
import circuitkit as ck
from circuitkit.model.pattern_blocks import row_blocks

LONG = 40
"""Longer than two blocks of rows, and than every window."""


def by_capture(model: ck.Model, prompts: architectures.Prompts, layer: int, first_column: str) -> torch.Tensor:
    cache = model.run(prompts.input_ids, capture=["pattern"], attention_mask=prompts.attention_mask).cache
    pattern = cache[ck.Site("pattern", layer=layer)]
    rows = [
        ck.attention.token_scores(each, first_column=first_column, real=real)
        for each, real in zip(pattern, prompts.real, strict=True)
    ]
    return torch.stack(rows)


def assert_same_scores(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5, equal_nan=True)


@pytest.mark.parametrize("kind", ["equal", "left_padded"])
@pytest.mark.parametrize("name", architectures.NAMES)
def test_streamed_scores_equal_those_of_captured_patterns(name, kind):
    model = ck.Model(*architectures.build(name))
    prompts = architectures.prompts(kind, length=LONG)
    layers = model.layers_with("pattern")
    streamed = ck.attention.scores(
        model, prompts.input_ids, layers, attention_mask=prompts.attention_mask, progress=False
    )
    for at, layer in enumerate(layers):
        oracle = by_capture(model, prompts, layer, "zeroed")
        assert_same_scores(streamed.values[:, at, : oracle.shape[1]], oracle)
        assert streamed.values[:, at, oracle.shape[1] :].isnan().all()
    assert bool((streamed.values.isnan().all((1, 2)) == ~prompts.real).all())


def test_a_long_map_is_read_in_blocks_and_a_short_one_at_once():
    cpu = torch.device("cpu")
    assert len(list(row_blocks(12, LONG, LONG, cpu))) == 3
    long = list(row_blocks(12, 4096, 4096, cpu))
    assert max(len(rows) for rows in long) * 12 * 4096 <= 2**21
    assert [row for rows in long for row in rows] == list(range(4096))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_scores_do_not_depend_on_the_attention_that_the_model_runs(implementation):
    hf, tokenizer = architectures.build("mistral")
    hf.set_attn_implementation(implementation)
    model, prompts = ck.Model(hf, tokenizer), architectures.prompts("left_padded", length=LONG)
    streamed = ck.attention.scores(
        model, prompts.input_ids, attention_mask=prompts.attention_mask, first_column="kept", progress=False
    )
    assert_same_scores(streamed.values[:, 0], by_capture(model, prompts, 2, "kept"))


def test_right_padding_and_batches_change_nothing():
    model = ck.Model(*architectures.build("qwen2"))
    rows = [list(range(5, 5 + length)) for length in (30, 7, 19, 2)]
    together = ck.attention.scores(model, rows, range(3), progress=False)
    ids = torch.zeros(4, 30, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)], mask[row, : len(tokens)] = torch.tensor(tokens), 1
    right = ck.attention.scores(model, ids, range(3), attention_mask=mask, batch_size=3, progress=False)
    for row, tokens in enumerate(rows):
        alone = ck.attention.scores(model, [tokens], range(3), progress=False)
        for layer, head in ((0, 1), (2, 3)):
            assert_same_scores(together.of(row, layer, head), alone.of(0, layer, head))
            assert_same_scores(right.of(row, layer, head), alone.of(0, layer, head))


def test_some_heads_are_scored_in_the_order_in_which_they_are_named():
    model = ck.Model(*architectures.build("openelm_style"))
    prompts = architectures.prompts(length=LONG)
    counts = [model.n_heads(layer) for layer in range(model.n_layers)]
    assert len(set(counts)) > 1, "the zoo's OpenELM has layers of unlike widths"
    most = max(counts)
    every = ck.attention.scores(model, prompts.input_ids, range(model.n_layers), progress=False)
    some = ck.attention.scores(model, prompts.input_ids, range(model.n_layers), [most - 1, 0], progress=False)
    assert_same_scores(some.values, every.values[:, :, [most - 1, 0]])
    missing = some.frame.query("head == @most - 1")["layer"].unique().tolist()
    assert missing == [layer for layer, count in enumerate(counts) if count == most]


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_within_a_context_the_changed_patterns_are_scored(name):
    model, prompts = ck.Model(*architectures.build(name)), architectures.prompts(length=12)
    with model.intervene([ck.knockout(1, 2, keys=[3])]):
        streamed = ck.attention.scores(model, prompts.input_ids, 1, progress=False)
    cut = model.run(prompts.input_ids, [ck.knockout(1, 2, keys=[3])], ["pattern[layer=1]"]).cache["pattern[layer=1]"]
    assert_same_scores(streamed.values[:, 0], ck.attention.token_scores(cut))
    plain = ck.attention.scores(model, prompts.input_ids, 1, progress=False)
    assert (streamed.values[:, 0, 2] - plain.values[:, 0, 2]).abs().max() > 1e-3


def test_the_model_is_left_as_it_was_and_its_output_is_its_own():
    model = ck.Model(*architectures.build("llama"))
    prompts = architectures.prompts(length=LONG)
    before = model.run(prompts.input_ids, logits_at=-1).logits
    seen = []
    handle = model.hf.register_forward_hook(lambda module, args, output: seen.append(output.logits))
    ck.attention.scores(model, prompts.input_ids, range(3), batch_size=3, progress=False)
    handle.remove()
    assert torch.equal(seen[-1][:, -1], before)
    assert torch.equal(model.run(prompts.input_ids, logits_at=-1).logits, before)


@pytest.mark.parametrize("sharper", [4, 30])
def test_tokens_that_receive_next_to_nothing_are_scored_alike(sharper):
    model = ck.Model(*architectures.build("llama"))
    model.hf.model.layers[1].self_attn.q_proj.weight.mul_(sharper)
    prompts = architectures.prompts(length=LONG)
    pattern = model.run(prompts.input_ids, capture=["pattern[layer=1]"]).cache["pattern[layer=1]"]
    least = pattern.sum(-2).min()
    streamed = ck.attention.scores(model, prompts.input_ids, 1, progress=False)
    assert_same_scores(streamed.values[:, 0], ck.attention.token_scores(pattern))
    if sharper == 4:
        # So little that its square, which a column of B sums to, is 0 in single precision.
        assert 0 < least < 1e-23
        assert_same_scores(streamed.values[:, 0].double(), ck.attention.token_scores(pattern.double()))
    else:
        assert least == 0


def test_scores_load_again_as_they_were_saved(tmp_path):
    model = ck.load("deductor-5k")
    scored = ck.attention.scores(model, ["Every wumpus is a dumpus.", "Fae is bright."], progress=False)
    again = ck.attention.TokenScores.load(scored.save(tmp_path))
    assert again.frame.equals(scored.frame) and again.provenance == scored.provenance
    assert again.plot(1).get_title() == scored.plot(1).get_title()
    assert scored.frame["token"].tolist()[:2] == list(scored.words[0][:2])
    top = np.nanmax(scored.values.numpy(), axis=-1)
    assert np.allclose(top, 1.0)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((tmp_path / "token_scores.safetensors").read_bytes()[:50])
    with pytest.raises(ValueError, match="cut short"):
        ck.attention.TokenScores.load(broken)
    with pytest.raises(FileNotFoundError, match="no such file"):
        ck.attention.TokenScores.load(tmp_path / "none.safetensors")


def test_what_cannot_be_scored_is_named():
    model = ck.Model(*architectures.build("llama"))
    with pytest.raises(ValueError, match="prompt 1 has one token"):
        ck.attention.scores(model, [[5, 6, 7], [8]], progress=False)
    with pytest.raises(ValueError, match="layer 9 does not exist"):
        ck.attention.scores(model, [[5, 6, 7]], 9, progress=False)
    with pytest.raises(ValueError, match="head 4 does not exist"):
        ck.attention.scores(model, [[5, 6, 7]], heads=4, progress=False)
    with pytest.raises(ValueError, match="'zeroed' or 'kept'"):
        ck.attention.scores(model, [[5, 6, 7]], first_column="dropped", progress=False)
    with pytest.raises(ValueError, match="no head is named"):
        ck.attention.scores(model, [[5, 6, 7]], heads=[], progress=False)
    with pytest.raises(ValueError, match="no layer is named"):
        ck.attention.scores(model, [[5, 6, 7]], [], progress=False)
    with pytest.raises(KeyError, match="layer 0 was not scored; scored were 2"):
        ck.attention.scores(model, [[5, 6, 7]], progress=False).of(layer=0)
    model.hf.model.layers[0].mlp.down_proj.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="NaN"):
        ck.attention.scores(model, [[5, 6, 7]], progress=False)


class _Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor has that anything gives."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = func(*args, **(kwargs or {}))
        for each in given if isinstance(given, tuple | list) else (given,):
            if isinstance(each, torch.Tensor) and not each._is_view():
                self.numbers = max(self.numbers, each.numel())
        return given


@pytest.mark.parametrize("studied", ["scores", "top_edges", "profile"])
def test_no_map_of_all_tokens_is_ever_made(studied):
    length = 1024
    hf = LlamaForCausalLM(LlamaConfig(**{**architectures.DECODER, "max_position_embeddings": length}))
    hf.set_attn_implementation("sdpa")
    model = ck.Model(hf.eval(), architectures.tokenizer())
    ids = architectures.prompts(batch=1, length=length).input_ids
    run = {
        "scores": lambda: ck.attention.scores(model, ids, [0, 2], progress=False),
        "top_edges": lambda: ck.attention.top_edges(model, ids, 1, 2),
        "profile": lambda: ck.attention.profile(model, ids, ck.attention.Lexicon(), 1, progress=False),
    }[studied]
    assert len(model.layers) == 3
    with _Largest() as largest:
        run()
    # A map has 4 heads x 1024 x 1024; a block an eighth of it at most, and one mask for all heads.
    assert length * 4 < largest.numbers <= 4 * length * length // 8
