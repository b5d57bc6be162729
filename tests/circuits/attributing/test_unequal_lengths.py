"""Pairs of unequal lengths, left-padded: every method held against its definition at the columns that correspond."""

import pytest
import torch

import circuitkit as ck
from circuitkit import Site
from circuitkit.circuits import Layout, attribute, attribute_nodes
from circuits.attributing import brute_force
from circuits.attributing.hooked_edges import Oracle, built

CLEAN, CORRUPT = ["w9 w5 w6 w7", "w9 w5 w5 w6 w7"], ["w9 w20 w21 w6 w8 w7", "w9 w30 w6 w7"]
PAIRS = ck.Pairs(CLEAN, CORRUPT, [5, 9], [7, 3])
AT = [[-1, 0, -1, -1, 5], [2, -1, -1, 4, 5]]
"""The corrupt column of each clean one where beginnings and ends are common; both are padded on the left."""
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
POINTS = {"left": [0, 0.5], "right": [0.5, 1], "midpoint": [0.25, 0.75]}


def scored(model: ck.Model, method: str, **more) -> torch.Tensor:
    return attribute(model, PAIRS, method=method, align="common", progress=False, **more).per_example


def difference(logits: torch.Tensor) -> torch.Tensor:
    rows = torch.arange(len(logits))
    return logits[rows, -1, PAIRS.answer] - logits[rows, -1, PAIRS.distractor]


def both(model: ck.Model) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    return tuple((tokens.ids, tokens.mask) for tokens in map(model.tokens, (CLEAN, CORRUPT)))


@pytest.mark.parametrize(("name", "rules"), [("llama", POINTS), ("gemma2", ["midpoint"]), ("gpt_neox", ["left"])])
def test_rules_over_activations_go_between_what_corresponds(name, rules):
    hf, model = built(name)
    for rule in rules:
        found = scored(model, "eap-ig-activations", steps=2, rule=rule)
        expected = brute_force.activation_scores(hf, name, *both(model), difference, POINTS[rule], torch.tensor(AT))
        assert float(expected.abs().max()) > 1e-2
        torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_neox"])
def test_both_ends_of_the_way_are_taken_where_it_begins_at_what_corresponds(name):
    hf, model = built(name)
    expected = brute_force.edge_scores(hf, name, *both(model), difference, [0, 1], torch.tensor(AT))
    assert float(expected.abs().max()) > 1e-2
    torch.testing.assert_close(scored(model, "clean-corrupted"), expected, **CLOSE)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gpt_neox"])
def test_exact_patching_puts_in_what_corresponds(name):
    oracle = Oracle(name, PAIRS, AT)
    places = [(r, c) for r, c in oracle.layout.reach.nonzero().tolist() if r and (5 * r + 3 * c) % 13 == 0]
    some = torch.zeros_like(oracle.layout.reach)
    some[tuple(zip(*places, strict=True))] = True
    found = scored(oracle.model, "exact", edges=some)
    expected = torch.stack([oracle.effect(row, column) for row, column in places], dim=1)
    assert float(expected.abs().max()) > 1e-2
    torch.testing.assert_close(found[:, some], expected, **CLOSE)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_neox"])
def test_nodes_take_what_corresponds(name):
    oracle = Oracle(name, PAIRS, AT)
    model = oracle.model
    exact, plain = (
        attribute_nodes(model, PAIRS, method=method, align="common", progress=False) for method in ("exact", "ap")
    )
    sites = [Site("q", 1), Site("k", 2), Site("v", 0), Site("z", 1), Site("mlp_out", 0)]
    clean, corrupt = (model.run(each, capture=sites).cache for each in (CLEAN, CORRUPT))
    run = model.run(CLEAN, capture=sites, logits_at=-1, gradients=True)
    gradients = run.gradients(-difference(run.logits[:, None]))
    for site in sites:
        change = oracle.aligned(corrupt[site], clean[site])
        kind = "mlp" if site.kind == "mlp_out" else site.kind
        here = [at for at, node in enumerate(exact.nodes) if (node.kind, node.layer) == (kind, site.layer)]
        for at in here:
            head = exact.nodes[at].head
            own = (slice(None), slice(None), head) if head >= 0 else ()
            where = site.at(head=head) if head >= 0 else site
            torch.testing.assert_close(
                plain.per_example[:, at], (change * gradients[site])[own].flatten(1).sum(1), **CLOSE
            )
            patched = model.run(CLEAN, [ck.replace(where, (clean[site] + change)[own])], logits_at=-1).logits
            lost = difference(run.logits[:, None]) - difference(patched[:, None])
            torch.testing.assert_close(exact.per_example[:, at], lost.detach(), **CLOSE)


def test_columns_are_those_that_the_tests_name():
    model = built("llama")[1]
    assert model.tokens(CLEAN).ids.shape == (2, 5) and model.tokens(CORRUPT).ids.shape == (2, 6)
    assert Layout.of(model).n_edges > 0
    spans = [(ck.Span.at(0), ck.Span.at(0)), (ck.Span.at(-1), ck.Span.at(-1))]
    by_spans = attribute(model, PAIRS, method="eap", align=spans, progress=False)
    # The second pair ends in two tokens alike, and spans name one of them.
    assert torch.allclose(by_spans.per_example[0], scored(model, "eap")[0], atol=1e-6)
    assert not torch.allclose(by_spans.per_example[1], scored(model, "eap")[1], atol=1e-4)
