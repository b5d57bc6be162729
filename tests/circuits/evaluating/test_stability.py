"""Stability: sure scores, pure noise, models with random weights, and Jaccard indices counted by hand."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

import circuitkit as ck
from circuitkit.circuits import CircuitError, Convention, Graph, Layout, Stability, agreement, stability
from circuitkit.circuits.evaluating.overlaps import chance_jaccard, pairwise_jaccard
from circuitkit.statistics import jaccard

LAYOUT = Layout((2, 2), (2, 2), (False, False))
CONVENTION = Convention("eap", "logit_difference", unit="logits")


def graph_of(each: torch.Tensor, convention: Convention = CONVENTION, groups: list[int] | None = None) -> Graph:
    each = each * LAYOUT.reach
    joined = (each.abs() if convention.examples == "mean-absolute" else each).mean(0)
    clusters = None if groups is None else torch.tensor(groups)
    return Graph(LAYOUT, joined, LAYOUT.reach, convention, per_example=each, groups=clusters)


def noise(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, *LAYOUT.reach.shape, generator=torch.Generator().manual_seed(seed))


def found(graph: Graph, n: int = 20, **settings: object) -> Stability:
    return stability(graph, n, progress=False, **settings)  # type: ignore[arg-type]  # settings of one call


@settings(max_examples=25)
@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=2, max_size=5))
def test_jaccard_of_every_two_is_that_of_their_sets(rows: list[list[bool]]) -> None:
    square = pairwise_jaccard(np.array(rows))
    sets = [set(np.flatnonzero(row).tolist()) for row in rows]
    for one, other in itertools.combinations(range(len(rows)), 2):
        if sets[one] | sets[other]:
            assert square[one, other] == pytest.approx(jaccard(sets[one], sets[other]))
        else:
            assert np.isnan(square[one, other])


@pytest.mark.parametrize(("size", "n"), [(2, 5), (4, 5), (3, 3)])
def test_chance_is_the_mean_over_all_circuits_of_that_size(size: int, n: int) -> None:
    every = list(itertools.combinations(range(n), size))
    assert chance_jaccard(size, n) == pytest.approx(np.mean([jaccard(every[0], other) for other in every]))


def test_chance_counts_signs_of_random_circuits() -> None:
    stable = found(graph_of(noise(12)), n=36, prune=False, resamples=10)
    assert stable.size == 36 and LAYOUT.n_edges == 46
    rng = np.random.default_rng(0)
    drawn = [(1 + rng.permutation(46)[:36]) * rng.choice([-1, 1], 36) for _ in range(600)]
    expected = np.mean([jaccard(set(a.tolist()), set(b.tolist())) for a, b in itertools.pairwise(drawn)])
    told = stable.summary.set_index("what")["chance"]
    assert told["edges"] == pytest.approx(chance_jaccard(36, 46))
    assert told["signed"] == pytest.approx(expected, abs=0.01)


def test_scores_without_a_doubt_give_the_same_circuit_each_time(tmp_path: Path) -> None:
    sure = noise(1).expand(12, -1, -1) + 1e-3 * noise(12, seed=1)
    stable = found(graph_of(sure), resamples=20)
    assert stable.value == stable.same_sign == 1.0 and stable.verdict == "good" and stable.p < 0.05
    assert torch.equal(stable.frequency == 1, stable.circuit.members)
    assert torch.equal(stable.frequency == 0, ~stable.circuit.members)
    assert str(stable).startswith(
        "stability good: circuits of 20 resamples of 12 examples have a Jaccard index of 1.00"
    )
    stable.save(tmp_path)
    assert Stability.load(tmp_path) == stable
    assert str(Stability.load(tmp_path)) == str(stable)
    assert stable.plot().get_xlabel() == "head"


def test_edges_of_large_variance_and_no_effect_are_not_called_stable() -> None:
    # The same few edges are always the largest, with now one sign, now the other.
    large = torch.zeros(LAYOUT.reach.shape)
    large[0] = 100.0
    stable = found(graph_of(noise(40, seed=1) * (1 + large)), n=int(LAYOUT.reach[0].sum()), prune=False)
    assert stable.value > 0.9 and stable.same_sign < 0.6
    assert stable.verdict == "poor" and stable.p > 0.05 and "no larger than by chance" in str(stable)


@pytest.mark.parametrize(("by", "enough"), [("absolute", 6), ("signed", 5)])
def test_examples_too_few_to_tell_from_chance_are_told(by: str, enough: int) -> None:
    sure = noise(1).expand(enough, -1, -1) + 1e-3 * noise(enough, seed=1)
    few, told = found(graph_of(sure[1:]), by=by, resamples=10, seed=1), f"of fewer than {enough} nothing can be told"
    assert few.verdict == "poor" and few.p > 0.05 and told in str(few)
    assert told not in str(found(graph_of(noise(enough)), by=by, resamples=10))


def test_groups_are_drawn_whole() -> None:
    # Within a group examples cancel: drawn apart they would give other circuits.
    half = noise(6)
    each = torch.cat([half + 50 * noise(6, seed=1), half - 50 * noise(6, seed=1)])
    together = found(graph_of(each, groups=[*range(6), *range(6)]), resamples=30)
    one = found(graph_of(half), resamples=30)
    assert together.n_clusters == 6
    assert together.value == pytest.approx(one.value, abs=0.02)
    assert abs(found(graph_of(each), resamples=30).value - one.value) > 0.03


def test_magnitudes_say_that_signs_are_unknown() -> None:
    stable = found(graph_of(noise(12), Convention("eap", "kl", examples="mean-absolute")), resamples=10)
    assert np.isnan(stable.p) and not len(stable.noise) and "scores are magnitudes" in str(stable)


def test_a_random_model_is_told_as_poor_and_a_trained_one_as_better() -> None:
    model = ck.load("deductor-130k")
    pairs = ck.tasks.deductions.pairs(model.tokenizer, n=16)
    torch.manual_seed(0)
    random = ck.Model(AutoModelForCausalLM.from_config(model.hf.config), model.tokenizer)
    trained, untrained = (
        stability(ck.circuits.attribute(each, pairs, method="eap", progress=False), 26, resamples=40, progress=False)
        for each in (model, random)
    )
    assert untrained.verdict == "poor" and untrained.value < 0.5
    assert "stability poor" in str(untrained) and "says little about the model" in str(untrained)
    assert trained.verdict != "poor" and trained.value > untrained.value + 0.2 and trained.p < 0.05


def test_seeds_and_methods_are_compared_as_graphs() -> None:
    one, other = graph_of(noise(4)), graph_of(noise(4, seed=1))
    agreed = agreement({"one": one, "again": one, "other": other}, 20)
    assert agreed.edges[0, 1] == 1.0 and agreed.edges[0, 2] < 1.0
    assert agreed.frame["a"].tolist() == ["one", "one", "again"] and agreed.plot().get_ylabel() == "circuit"
    with pytest.raises(CircuitError, match="two at least"):
        agreement({"one": one})


@pytest.mark.parametrize(
    ("graph", "settings", "message"),
    [
        (Graph(LAYOUT, noise(1)[0] * LAYOUT.reach, LAYOUT.reach, CONVENTION), {"n": 5}, "keep_examples=True"),
        (graph_of(noise(4)), {}, "give n or threshold"),
        (graph_of(noise(4)), {"n": 5, "threshold": 0.1}, "one of them"),
        (graph_of(noise(1)), {"n": 5}, "needs two at least: got 1"),
        (graph_of(noise(4), groups=[0, 0, 0, 0]), {"n": 5}, "draws groups anew, and needs two at least: got 1"),
        (graph_of(noise(4)), {"threshold": float("nan")}, "threshold is NaN"),
        (graph_of(noise(4)), {"n": 5, "resamples": 1}, "1 resamples have nothing to compare"),
        (graph_of(noise(4)), {"n": 5, "select": "best"}, "'top' or 'greedy'"),
    ],
)
def test_what_has_no_stability_is_refused(graph: Graph, settings: dict[str, object], message: str) -> None:
    with pytest.raises(CircuitError, match=message):
        stability(graph, progress=False, **settings)  # type: ignore[arg-type]  # settings of one call


def test_scores_that_are_not_made_of_their_examples_are_refused() -> None:
    each = noise(4) * LAYOUT.reach
    with pytest.raises(CircuitError, match="not the mean of its examples'"):
        found(Graph(LAYOUT, 2 * each.mean(0), LAYOUT.reach, CONVENTION, per_example=each))
