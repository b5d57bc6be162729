"""Attention forced, cut and frozen, against the same arithmetic by plain hooks, with and without a KV cache."""

from functools import cache

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache

import architectures
import circuitkit as ck
from circuitkit import Model
from circuitkit.model.tokens import Tokens
from circuitkit.run import InterventionError
from run import by_hand
from run.test_interventions import assert_same_logits

NAMES = ("gpt2", "llama", "gpt_oss", "falcon")
LOWEST = torch.finfo(torch.float32).min


@cache
def model_of(name: str) -> Model:
    return Model(*architectures.build(name))


@st.composite
def edges(draw):
    """A layer, a head or none, each row's queries and keys, and how the rows are padded; some row has an edge."""
    padded = draw(st.booleans())
    lengths = (9, 6) if padded else (9, 9)
    queries = [draw(st.lists(st.integers(0, n - 1), max_size=3, unique=True)) for n in lengths]
    keys = [draw(st.lists(st.integers(0, n - 1), max_size=3, unique=True)) for n in lengths]
    queries[0], keys[0] = [*queries[0], -1], [*keys[0], 1]
    head = draw(st.none() | st.integers(0, 3))
    return draw(st.integers(0, 2)), head, queries, keys, "left_padded" if padded else "equal"


def block(prompts: architectures.Prompts, head: int | None, queries, keys) -> Tensor:
    """True at the named edges, [batch, head, query, key] in columns; none to a key behind its query."""
    named = torch.zeros(2, 4, 9, 9, dtype=torch.bool)
    for row, real in enumerate(prompts.real):
        columns = torch.nonzero(real).flatten()
        for query in queries[row]:
            for key in keys[row]:
                if columns[key] <= columns[query]:
                    named[row, slice(None) if head is None else head, columns[query], columns[key]] = True
    return named


def forced(pattern: Tensor, named: Tensor, real: Tensor, weights: list[float]) -> Tensor:
    new = pattern.clone()
    for row, head, query in {tuple(at[:3].tolist()) for at in named.nonzero()}:
        line, keys = pattern[row, head, query], named[row, head, query]
        others = real[row] & ~keys & (torch.arange(len(keys)) <= query)
        weight = weights[row] if others.any() else 1.0
        total, left = line.sum(), line[others].sum()
        new[row, head, query, keys] = weight * total / keys.sum()
        rest = (1 - weight) * total
        new[row, head, query, others] = line[others] * rest / left if left > 0 else rest / others.sum()
    return new


@pytest.mark.parametrize("name", NAMES)
def test_forcing_and_cutting_by_row_equal_the_same_arithmetic_by_hand(name):
    model = model_of(name)

    @settings(max_examples=12, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(edges(), st.sampled_from([0.0, 0.3, 1.0]))
    def check(case, weight):
        layer, head, queries, keys, kind = case
        prompts = architectures.prompts(kind, batch=2)
        named, mask = block(prompts, head, queries, keys), prompts.attention_mask
        weights = torch.tensor([weight, 0.5])
        force = ck.attention.force(layer, head, queries, keys, weights)
        run = model.run(prompts.input_ids, [force], capture=["pattern"], attention_mask=mask)
        edit = {("pattern", layer): lambda pattern: forced(pattern, named, prompts.real, weights.tolist())}
        assert_same_logits(run.logits, by_hand.logits(model.hf, prompts.input_ids, mask, edit), mask)
        plain = model.run(prompts.input_ids, capture=["pattern"], attention_mask=mask)
        sums = [r.cache[f"pattern[layer={layer}]"].sum(-1).transpose(1, 2)[prompts.real] for r in (run, plain)]
        torch.testing.assert_close(sums[0], sums[1], atol=1e-5, rtol=1e-5)

        knockout = ck.knockout(layer, head, queries, keys)
        run = model.run(prompts.input_ids, [knockout], attention_mask=mask)
        cut = {("scores", layer): lambda scores: scores.masked_fill(named, LOWEST)}
        if not emptied(named, prompts.real).any():
            assert_same_logits(run.logits, by_hand.logits(model.hf, prompts.input_ids, mask, cut), mask)

    check()


def emptied(named: Tensor, real: Tensor) -> Tensor:
    """Queries that a cut leaves without keys: there the package attends to nothing, where a bare mask is uniform."""
    seen = real[:, None, None, :] & torch.ones(9, 9, dtype=torch.bool).tril()
    window = torch.ones(9, 9, dtype=torch.bool).triu(1 - architectures.WINDOW)
    return named.any(-1) & ~(seen & window & ~named).any(-1)


def test_one_list_for_all_rows_is_that_list_in_each():
    model, prompts = model_of("llama"), architectures.prompts("left_padded")
    for make in (ck.knockout, ck.attention.force):
        shared = make(1, head=2, queries=[-1, 1], keys=[0])
        by_row = make(1, head=2, queries=[(-1, 1)] * 3, keys=torch.zeros(3, 1, dtype=torch.long))
        logits = [
            model.run(prompts.input_ids, [each], attention_mask=prompts.attention_mask).logits
            for each in (shared, by_row)
        ]
        assert torch.equal(*logits)


def test_a_saturated_row_is_forced_too():
    """Nothing is left that could be scaled, and yet the weight is what was asked for."""
    hf, words = architectures.build("llama")
    hf.model.layers[0].self_attn.q_proj.weight.data *= 1e4
    model, prompts = Model(hf, words), architectures.prompts()
    site = "pattern[layer=0, head=0, position=-1]"
    plain = model.run(prompts.input_ids, capture=[site]).cache[site]
    peak = plain.argmax(-1)
    assert (plain.max(-1).values == 1).all(), "the row is there for its saturation"
    force = ck.attention.force(0, 0, -1, peak[:, None], 0.25)
    new = model.run(prompts.input_ids, [force], capture=[site]).cache[site]
    expected = torch.full((3, 9), 0.75 / 8)
    expected[torch.arange(3), peak] = 0.25
    torch.testing.assert_close(new, expected)


@pytest.mark.parametrize("name", NAMES)
def test_frozen_patterns_are_the_sources_and_only_values_change(name):
    model = model_of(name)
    prompts, source = (architectures.prompts("left_padded", seed=seed) for seed in (0, 5))
    kept = model.run(source.input_ids, capture=["pattern"], attention_mask=source.attention_mask).cache
    edits = {("pattern", site.layer): lambda pattern, site=site: kept[site] for site in kept}
    expected = by_hand.logits(model.hf, prompts.input_ids, prompts.attention_mask, edits)
    frozen = ck.attention.freeze(model, source.input_ids, attention_mask=source.attention_mask)
    run = model.run(prompts.input_ids, frozen, attention_mask=prompts.attention_mask)
    assert_same_logits(run.logits, expected, prompts.attention_mask)
    # Columns differ, positions do not.
    shifted = [torch.cat([torch.zeros(3, 2, dtype=torch.long), part], 1) for part in (source.input_ids, source.real)]
    frozen = ck.attention.freeze(model, Tokens(shifted[0], shifted[1].bool()))
    again = model.run(prompts.input_ids, frozen, attention_mask=prompts.attention_mask)
    assert_same_logits(again.logits, expected, prompts.attention_mask)


def test_freezing_some_heads_leaves_the_others_free():
    model, prompts, source = model_of("llama"), architectures.prompts(), architectures.prompts(seed=5)
    kept = model.run(source.input_ids, capture=["pattern"]).cache["pattern[layer=0]"]
    run = model.run(
        prompts.input_ids, ck.attention.freeze(model, source.input_ids, heads=[(0, 1)]), capture=["pattern"]
    )
    plain = model.run(prompts.input_ids, capture=["pattern"]).cache["pattern[layer=0]"]
    found = run.cache["pattern[layer=0]"]
    torch.testing.assert_close(found[:, 1], kept[:, 1])
    torch.testing.assert_close(found[:, [0, 2, 3]], plain[:, [0, 2, 3]])


def interventions_of(model: Model, prompts: architectures.Prompts, what: str, during: str):
    queries, keys = [(-2, -1, 9, 10), (5, 6, 7), (4, 5)], [(0, 2), (1,), (0, 3)]
    if what == "knockout":
        return [ck.knockout(1, None, None if during != "both" else queries, keys, during=during)]
    if what == "force":
        return [ck.attention.force(1, 2, None if during != "both" else queries, keys, 0.7, during=during)]
    with torch.no_grad():
        longer = model.generate(prompts.input_ids, prompts.attention_mask, max_new_tokens=6, do_sample=False)
    longer[:, -8:] = longer[:, -8:].flip(0)
    mask = torch.cat([prompts.attention_mask, torch.ones(3, 6, dtype=torch.long)], 1)
    return ck.attention.freeze(model, longer, attention_mask=mask, during=during)


@pytest.mark.parametrize("during", ["prompt", "generated", "both"])
@pytest.mark.parametrize("what", ["knockout", "force", "freeze"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_oss"])
def test_generating_with_a_cache_equals_recomputing_without(name, what, during):
    model, prompts = model_of(name), architectures.prompts("left_padded")
    held = interventions_of(model, prompts, what, during)
    found = []
    for caching in (True, False):
        past = {"past_key_values": DynamicCache()} if caching else {}
        with model.intervene(held, capture=["pattern", "resid_post"]) as session:
            ids = model.generate(
                prompts.input_ids,
                prompts.attention_mask,
                max_new_tokens=5,
                do_sample=False,
                use_cache=caching,
                **past,
            )
        found.append((ids, session.cache))
    assert torch.equal(found[0][0], found[1][0])
    real = torch.cat([prompts.real, torch.ones(3, 4, dtype=torch.bool)], 1)
    for site in found[0][1]:
        a, b = (cache[site].transpose(1, 2) if site.kind == "pattern" else cache[site] for _, cache in found)
        torch.testing.assert_close(a[real], b[real], atol=2e-5, rtol=1e-4)
    with model.intervene([], capture=["pattern"]) as session:
        model.generate(prompts.input_ids, prompts.attention_mask, max_new_tokens=5, do_sample=False)
    free, changed = (cache["pattern[layer=1]"].transpose(1, 2) for cache in (session.cache, found[0][1]))
    same = ((free - changed).abs().amax((-1, -2)) < 1e-4) | ~real
    assert not same[:, 9:].all() if during != "prompt" else not same[:, :9].all()
    if during == "generated":
        assert same[:, :9].all()


def test_frozen_generation_follows_the_source_and_then_runs_free():
    model, prompts = model_of("llama"), architectures.prompts()
    source = torch.cat([architectures.prompts(seed=5).input_ids, torch.full((3, 2), 7)], 1)
    kept = model.run(source, capture=["pattern"]).cache["pattern[layer=2]"]
    with model.intervene(ck.attention.freeze(model, source), capture=["pattern"]) as session:
        model.generate(prompts.input_ids, max_new_tokens=5, do_sample=False)
    found = session.cache["pattern[layer=2]"]
    torch.testing.assert_close(found[:, :, :11, :11], kept)
    torch.testing.assert_close(found[:, :, 11:].sum(-1), torch.ones(3, 4, 2))
    assert (found[:, :, 12, 11:13] > 0).all()


def test_rows_of_sampled_returns_keep_their_positions():
    model, prompts = model_of("llama"), architectures.prompts("left_padded")
    keys = [(0,), (2,), (3,)]
    with model.intervene([ck.attention.force(1, 0, None, keys)], capture=["pattern"]) as session:
        model.generate(
            prompts.input_ids, prompts.attention_mask, max_new_tokens=3, do_sample=True, num_return_sequences=2
        )
    last = session.cache["pattern[layer=1, head=0, position=-1]"]
    columns = [int(real.nonzero()[key[0]]) for real, key in zip(prompts.real, keys, strict=True)]
    assert last.argmax(-1).tolist() == [column for column in columns for _ in range(2)]
    by_row = [ck.knockout(1, keys=keys)]
    with pytest.raises(InterventionError, match="beam search reorders rows"), model.intervene(by_row):
        model.generate(prompts.input_ids, prompts.attention_mask, max_new_tokens=3, num_beams=2, do_sample=False)


def test_bad_input_is_named():
    model, prompts = model_of("llama"), architectures.prompts("left_padded")
    ids, mask = prompts.input_ids, prompts.attention_mask
    with pytest.raises(InterventionError, match="named for 2 rows, but the batch has 3"):
        model.run(ids, [ck.knockout(1, keys=[(0,), (1,)])], attention_mask=mask)
    with pytest.raises(InterventionError, match="position 8 does not exist in row 1, which has 6 real tokens"):
        model.run(ids, [ck.knockout(1, queries=[(8,), (8,), (1,)])], attention_mask=mask)
    with pytest.raises(InterventionError, match="never took place"):
        model.run(ids, [ck.knockout(1, queries=[(0,), (), (1,)], keys=[(1,), (0,), (2,)])], attention_mask=mask)
    with pytest.raises(InterventionError, match="all numbers, or all lists"):
        ck.knockout(1, queries=[1, (2, 3)])
    with pytest.raises(InterventionError, match="name them"):
        ck.attention.force(1, queries=-1)
    for weight in (1.5, -0.1, float("nan"), torch.ones(2, 2)):
        with pytest.raises(InterventionError, match="from 0 to 1"):
            ck.attention.force(1, keys=0, weight=weight)
    with pytest.raises(InterventionError, match="2 weights, but the batch has 3 rows"):
        model.run(ids, [ck.attention.force(1, keys=0, weight=torch.ones(2))], attention_mask=mask)
    with pytest.raises(InterventionError, match="has 8 positions in row 0, whose prompt has 9"):
        model.run(ids, ck.attention.freeze(model, ids[:, 1:], attention_mask=mask[:, 1:]), attention_mask=mask)
    with pytest.raises(InterventionError, match="has 2 rows, the batch has 3"):
        model.run(ids, ck.attention.freeze(model, ids[:2], attention_mask=mask[:2]), attention_mask=mask)
    with pytest.raises(InterventionError, match="layers or heads"):
        ck.attention.freeze(model, ids, layers=[0], heads=[(0, 1)], attention_mask=mask)
