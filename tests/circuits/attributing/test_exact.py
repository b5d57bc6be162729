"""Exact edge patching against plain hooks, path patching, and planted circuits."""

import pytest
import torch

import circuitkit as ck
from circuitkit import Site, metrics
from circuitkit.circuits import CircuitError
from circuitkit.circuits.attributing.alignment import Aligned
from circuitkit.circuits.attributing.exact import exact_effects
from circuitkit.circuits.attributing.written import Differences
from circuitkit.model import planted
from circuitkit.spans import Span
from circuits.attributing.hooked_edges import NAMES, Oracle, built, drawn_pairs

LOGIT_DIFFERENCE = metrics.logit_difference


def effects(model: ck.Model, pairs: ck.Pairs, metric=LOGIT_DIFFERENCE, **settings) -> torch.Tensor:
    return exact_effects(model, Aligned.of(model, pairs, metric), metric, **settings)


@pytest.mark.parametrize("name", NAMES)
def test_every_edge_equals_plain_hooks(name):
    pairs = drawn_pairs((7, 5))
    oracle = Oracle(name, pairs)
    found = effects(oracle.model, pairs)
    for row, column in oracle.layout.reach.nonzero().tolist():
        if (row + 3 * column) % 8 == 0:
            torch.testing.assert_close(found[:, row, column], oracle.effect(row, column), atol=1e-5, rtol=1e-5)
    assert not found[:, ~oracle.layout.reach].any()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_it_is_path_patching_where_no_norm_follows_the_heads(name):
    _, model = built(name)
    pairs, layout = drawn_pairs(), ck.circuits.Layout.of(model)
    found = effects(model, pairs)
    senders = {"input": Site("embed"), "a0.h1": Site("z", 0, 1), "m1": Site("mlp_out", 1), "a1.h3": Site("z", 1, 3)}
    shared = "kv" if name == "llama" else "h"
    receivers = {
        "a2.h2<q>": Site("q", 2, 2),
        f"a2.{shared}1<k>": Site("k", 2, 1),
        f"a1.{shared}0<v>": Site("v", 1, 0),
        "m1": Site("mlp_out", 1),
        "logits": Site("resid_post", layer=-1),
    }
    theirs = ck.patching.paths(
        model, pairs, list(senders.values()), list(receivers.values()), direction="noise", controls=0, progress=False
    )
    compared = 0
    for i, source in enumerate(senders):
        for j, destination in enumerate(receivers):
            row, column = layout.source(source), layout.destination(destination)
            if layout.reach[row, column]:
                expected = theirs.baseline.clean - theirs.per_example[i, j]
                torch.testing.assert_close(found[:, row, column], expected, atol=1e-5, rtol=1e-5)
                compared += 1
    assert compared > 12


@pytest.mark.parametrize("metric", [metrics.kl, metrics.cross_entropy, metrics.log_probability])
def test_other_metrics_and_answers_of_several_tokens(metric):
    _, model = built("llama")
    pairs = drawn_pairs((6, 6))
    if metric.positions == "answer":
        pairs = ck.Pairs(pairs.clean, pairs.corrupt, [[7, 9], [8, -100]])
    found = effects(model, pairs, metric)
    layout = ck.circuits.Layout.of(model)
    row, column = layout.source("a0.h2"), layout.destination("a1.kv0<k>")
    path = ck.patching.paths(
        model, pairs, [Site("z", 0, 2)], [Site("k", 1, 0)], metric, "noise", controls=0, progress=False
    )
    expected = path.baseline.clean - path.per_example[0, 0]
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(found[:, row, column], expected, atol=1e-5, rtol=1e-5)


def test_some_edges_and_some_positions():
    _, model = built("gpt2")
    pairs, layout = drawn_pairs(), ck.circuits.Layout.of(model)
    aligned = Aligned.of(model, pairs, LOGIT_DIFFERENCE)
    some = layout.reach & (torch.arange(layout.reach.numel()).view_as(layout.reach) % 5 == 0)
    whole = exact_effects(model, aligned, LOGIT_DIFFERENCE)
    within = aligned.clean.tokens.mask
    found = exact_effects(model, aligned, LOGIT_DIFFERENCE, edges=some, within=within)
    torch.testing.assert_close(found[:, some], whole[:, some], atol=1e-5, rtol=1e-5)
    assert not found[:, ~some].any()
    # Pairs begin alike: there, no source writes anything else.
    before = aligned.clean.tokens.positions < 2
    assert not exact_effects(model, aligned, LOGIT_DIFFERENCE, edges=some, within=before).any()


def test_pairs_of_unequal_length_change_what_stands_for_something():
    _, model = built("llama")
    pairs = ck.Pairs(["w9 w8 w7 w6", "w9 w5 w7 w6"], ["w9 w20 w21 w7 w6", "w9 w22 w23 w7 w6"], [11, 12], [13, 14])
    spans = [Span.at(0), (Span.at(-2, -1), Span.at(-2, -1))]
    aligned = Aligned.of(model, pairs, LOGIT_DIFFERENCE, spans)
    found = exact_effects(model, aligned, LOGIT_DIFFERENCE)
    layout = ck.circuits.Layout.of(model)
    # The input writes the same at every token that stands for another, and elsewhere nothing stands for it.
    assert not found[:, 0].any()
    corrupt = model.run(pairs.corrupt, capture=["mlp_out[layer=1]"]).cache["mlp_out[layer=1]"]
    clean = model.run(pairs.clean, capture=["mlp_out[layer=1]"]).cache["mlp_out[layer=1]"]
    change = torch.zeros_like(clean)
    change[:, -1] = corrupt[:, -1] - clean[:, -1]
    patched = model.run(pairs.clean, [ck.add("resid_post[layer=2]", change)], logits_at=-1).logits
    unpatched = model.run(pairs.clean, logits_at=-1).logits
    answers = torch.tensor(pairs.answer)[:, None], torch.tensor(pairs.distractor)[:, None]
    lost = sum(sign * (unpatched - patched).gather(1, ids) for sign, ids in zip((1, -1), answers, strict=True))
    torch.testing.assert_close(found[:, layout.source("m1"), layout.logits_at], lost[:, 0], atol=1e-5, rtol=1e-5)


def test_small_batches_give_the_same(monkeypatch):
    _, model = built("gpt2")
    pairs, layout = drawn_pairs((6,)), ck.circuits.Layout.of(model)
    some = layout.reach & (torch.arange(layout.reach.shape[1]) % 4 == 0)
    whole = effects(model, pairs, edges=some)
    monkeypatch.setattr("circuitkit.circuits.attributing.exact.memory", lambda model, budget: 1)
    torch.testing.assert_close(effects(model, pairs, edges=some), whole, atol=1e-5, rtol=1e-5)


def test_nothing_is_made_of_sources_that_no_edge_leads_out_of(monkeypatch):
    _, model = built("gpt2")
    pairs, layout = drawn_pairs((6,)), ck.circuits.Layout.of(model)
    whole = effects(model, pairs)
    some = torch.zeros_like(layout.reach)
    rows = [layout.source(name) for name in ("input", "a0.h1", "a0.h2", "m1")]
    some[rows, layout.logits_at] = True
    made, block = [], Differences.block

    def counted(self, rows):
        made.extend(range(rows.start, rows.stop))
        return block(self, rows)

    monkeypatch.setattr(Differences, "block", counted)
    torch.testing.assert_close(effects(model, pairs, edges=some)[:, some], whole[:, some], atol=1e-6, rtol=1e-6)
    assert made == rows


def test_edges_that_are_none_are_refused():
    _, model = built("gpt2")
    with pytest.raises(CircuitError, match="of its layout"):
        effects(model, drawn_pairs((6,)), edges=torch.ones(3, 3, dtype=torch.bool))
    layout = ck.circuits.Layout.of(model)
    with pytest.raises(CircuitError, match=f"{layout.n_edges:,} that gpt2 has"):
        effects(model, drawn_pairs((6,)), edges=torch.ones_like(layout.reach))


@pytest.mark.slow
@pytest.mark.parametrize("corruption", ["subject", "query", "object"])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", planted.names())
def test_the_planted_truth_is_what_exact_patching_finds(name, seed, corruption):
    _, truth, found = planted_effects(name, seed, corruption)
    # Random components leak a little, one way in one pair and another way in the next: of many pairs, next to nothing.
    others = (found * ~truth).abs()
    again = truth | (others >= others.flatten().topk(30).values[-1])
    _, _, of_many = planted_effects(name, seed, corruption, n=32, edges=again)
    found = torch.where(again, of_many, found)
    assert found[truth].min() > 100 * found[~truth].abs().max()


@pytest.mark.parametrize("name", ["planted-two-hop-llama"])
def test_the_planted_truth_among_the_edges_that_could_be_taken_for_it(name):
    """Edges out of every planted head and the input, into planted heads, decoy and backup and the logits."""
    planned = planted.build(name)
    model = ck.Model(planned.model, planned.tokenizer)
    layout = ck.circuits.Layout.of(model)
    roles = [*planned.circuit.values(), planned.decoy, planned.backup]
    rows = torch.tensor([0, *(layout.source(f"a{layer}.h{head}") for layer, head in roles)])
    columns = [column for layer, head in roles for column in layout.inputs_of(f"a{layer}.h{head}")]
    some = torch.zeros_like(layout.reach)
    some[rows[:, None], torch.tensor([*columns, layout.logits_at])] = True
    _, truth, found = planted_effects(name, 0, "subject", edges=some & layout.reach)
    assert found[truth].min() > 100 * found[~truth].abs().max()
    assert found[layout.source("a{}.h{}".format(*planned.decoy))].abs().max() < 0.05


def planted_effects(name, seed, corruption, n=4, **settings):
    planned = planted.build(name, seed)
    model = ck.Model(planned.model, planned.tokenizer)
    layout = ck.circuits.Layout.of(model)
    truth = torch.zeros_like(layout.reach)
    for source, destination in planned.edges(corruption):
        truth[layout.source(source), layout.destination(destination)] = True
    pairs = ck.Pairs(*planned.pairs(n, seed=seed + 1, length=14, corruption=corruption))
    return model, truth, effects(model, pairs, **settings).mean(0)


def test_attribute_patches_the_edges_that_are_asked_for():
    _, model = built("llama")
    pairs, spans = drawn_pairs((6, 5)), {"changed": Span.at(2, 3)}
    whole = ck.circuits.attribute(model, pairs, method="exact", spans=spans, progress=False)
    torch.testing.assert_close(whole.per_example, effects(model, pairs), atol=1e-5, rtol=1e-5)
    # The input differs nowhere else, so that its edges are those of the span.
    torch.testing.assert_close(whole.by_span["changed"][0], whole.scores[0], atol=1e-5, rtol=1e-5)
    some = ck.circuits.attribute(model, pairs, method="exact", edges=whole.top(9), progress=False)
    assert torch.equal(some.members, whole.top(9).members)
    torch.testing.assert_close(some.scores, whole.scores * some.members, atol=1e-5, rtol=1e-5)


def test_what_exact_patching_cannot_do_is_refused():
    _, model = built("llama")
    pairs = drawn_pairs((6,))
    with pytest.raises(CircuitError, match="no sums over positions"):
        ck.circuits.attribute(model, pairs, method="exact", positions="sum-absolute", progress=False)
    with pytest.raises(CircuitError, match="edges= goes with exact"):
        ck.circuits.attribute(model, pairs, method="eap", edges=ck.circuits.Layout.of(model).reach, progress=False)
    other = ck.circuits.attribute(built("gpt2")[1], pairs, method="eap", progress=False)
    with pytest.raises(CircuitError, match="another architecture"):
        ck.circuits.attribute(model, pairs, method="exact", edges=other, progress=False)
