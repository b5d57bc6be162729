"""Ranks of attribution against exact patching: scipy, whole clusters, and what cannot be compared."""

import numpy as np
import pytest
import torch
from scipy import stats

import circuitkit as ck
from circuitkit.circuits import CircuitError, Convention, Graph, Layout, against_exact

LAYOUT = Layout((3, 2), (3, 1), (False, False))


def drawn(seed: int, method: str = "exact", metric: str = "kl", examples: int = 12, **settings) -> Graph:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(examples, *LAYOUT.reach.shape, generator=generator) * LAYOUT.reach
    return Graph(LAYOUT, scores.mean(0), LAYOUT.reach, Convention(method, metric), scores, **settings)


def test_values_are_spearmans_and_shares_of_the_strongest():
    exact, other = drawn(0), drawn(1, "eap")
    mixed = Graph(
        LAYOUT, exact.scores + other.scores, LAYOUT.reach, other.convention, exact.per_example + other.per_example
    )
    found = against_exact(exact, mixed, n=[5, 20], draws=50)
    ours, theirs = (each.scores[LAYOUT.reach].numpy() for each in (exact, mixed))
    assert found.values["rank correlation"] == pytest.approx(stats.spearmanr(ours, theirs).statistic)
    magnitudes = stats.spearmanr(np.abs(ours), np.abs(theirs)).statistic
    assert found.values["rank correlation of magnitudes"] == pytest.approx(magnitudes)
    for n in (5, 20):
        strongest = [set(np.argsort(-np.abs(each))[:n].tolist()) for each in (ours, theirs)]
        name = f"overlap of the {n} strongest"
        assert found.values[name] == len(strongest[0] & strongest[1]) / n
        assert found.chance[name] == n / LAYOUT.n_edges
    for name, (low, high) in found.intervals.items():
        assert low < high and low <= found.values[name] <= high
    assert list(found.frame["measure"]) == list(found.values) and "eap against exact" in str(found)


def test_intervals_are_of_whole_groups_about_the_value():
    # Examples of a group are alike: drawn one by one, their means would hardly move.
    scattered, grouped = [], []
    for groups in (None, torch.arange(12) // 4):
        exact, other = drawn(0, groups=groups), drawn(1, "eap", groups=groups)
        both = Graph(
            LAYOUT, exact.scores + other.scores, LAYOUT.reach, other.convention, exact.per_example + other.per_example
        )
        (scattered if groups is None else grouped).append(against_exact(exact, both, n=[5], draws=300))
    for found in (*scattered, *grouped):
        for name, (low, high) in found.intervals.items():
            assert low <= found.values[name] <= high <= 1
    one, three = (found[0].intervals["rank correlation"] for found in (scattered, grouped))
    assert one != three
    alone = drawn(0, groups=torch.zeros(12, dtype=torch.long))
    assert np.isnan(against_exact(alone, alone, n=[5]).intervals["rank correlation"].low)


def test_magnitudes_have_no_signed_ranks_and_graphs_without_examples_no_intervals():
    exact, other = drawn(0), drawn(1, "eap")
    absolute = Convention("eap", "kl", examples="mean-absolute")
    found = against_exact(exact, Graph(LAYOUT, other.per_example.abs().mean(0), LAYOUT.reach, absolute))
    assert np.isnan(found.values["rank correlation"]) and not np.isnan(found.values["rank correlation of magnitudes"])
    assert all(np.isnan(low) and np.isnan(high) for low, high in found.intervals.values())
    assert found.n_examples == 0


def test_only_edges_that_both_have_are_compared():
    exact, other = drawn(0).top(10), drawn(1, "eap")
    found = against_exact(exact, other, n=[3], draws=5)
    ours, theirs = (each.scores[exact.members].numpy() for each in (exact, other))
    assert found.n_edges == 10
    assert found.values["rank correlation"] == pytest.approx(stats.spearmanr(ours, theirs).statistic)


def test_what_cannot_be_compared():
    exact = drawn(0)
    with pytest.raises(CircuitError, match="one metric"):
        against_exact(exact, drawn(1, metric="logit_difference"))
    with pytest.raises(CircuitError, match="12 and 8 pairs"):
        against_exact(exact, drawn(1, examples=8))
    with pytest.raises(CircuitError, match="n=0"):
        against_exact(exact, drawn(1), n=[0])
    for settings in ({"draws": 1}, {"level": 95}):
        with pytest.raises(CircuitError, match="2 draws or more and a level between 0 and 1"):
            against_exact(exact, drawn(1), **settings)
    with pytest.raises(CircuitError, match="share 2 edges"):
        against_exact(exact.top(2), drawn(1))


def test_methods_rank_the_edges_of_a_deductor_as_patching_does():
    model = ck.load("deductor-20k")
    pairs = ck.tasks.deductions.pairs(model.tokenizer, n=4)
    exact, eap = (ck.circuits.attribute(model, pairs, method=each, progress=False) for each in ("exact", "eap-ig"))
    found = against_exact(exact, eap, draws=50)
    assert found.values["rank correlation"] > 0.7 and found.intervals["rank correlation"].low > 0.5
