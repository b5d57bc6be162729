"""Recovery of a known circuit against counts over all pairs of edges, and scipy's Mann-Whitney."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from circuitkit.circuits import CircuitError, Convention, Graph, Layout, auroc, average_precision

LAYOUT = Layout((2, 2), (2, 1), (False, True))
REACH = LAYOUT.reach
N = LAYOUT.n_edges
CONVENTION = Convention("eap", "logit_difference")


def graph_of(values: list[int], convention: Convention = CONVENTION) -> Graph:
    scores = torch.zeros(REACH.shape)
    scores[REACH] = torch.tensor(values, dtype=torch.float32)
    return Graph(LAYOUT, scores, REACH, convention)


def mask_of(chosen: list[bool]) -> torch.Tensor:
    mask = torch.zeros(REACH.shape, dtype=torch.bool)
    mask[REACH] = torch.tensor(chosen)
    return mask


@settings(max_examples=25)
@given(st.lists(st.integers(-4, 4), min_size=N, max_size=N), st.lists(st.booleans(), min_size=N, max_size=N))
def test_both_are_what_counting_gives(values: list[int], chosen: list[bool]) -> None:
    graph, truth = graph_of(values), mask_of(chosen)
    size = np.abs(values)
    true, false = size[chosen], size[~np.array(chosen)]
    if not len(true) or not len(false):
        with pytest.raises(CircuitError, match="some that are and some that are not"):
            auroc(graph, truth)
        return
    above = (true[:, None] > false).sum() + 0.5 * (true[:, None] == false).sum()
    assert auroc(graph, truth) == pytest.approx(above / (len(true) * len(false)))
    assert auroc(graph, truth) == pytest.approx(stats.mannwhitneyu(true, false)[0] / (len(true) * len(false)))
    precision = [(true >= each).sum() / (size >= each).sum() for each in true]
    assert average_precision(graph, truth) == pytest.approx(np.mean(precision))


def test_signed_scores_are_turned_as_their_convention_says() -> None:
    values = [-number for number in range(N)]
    truth = mask_of([number >= N - 3 for number in range(N)])
    assert auroc(graph_of(values), truth) == 1.0
    assert auroc(graph_of(values), truth, "signed") == 0.0
    raises = Convention("eap", "logit_difference", positive="corrupting raises the metric")
    assert auroc(graph_of(values, raises), truth, "signed") == 1.0


def test_a_truth_is_a_mask_a_graph_or_names() -> None:
    graph = graph_of(list(range(N)))
    names = [("input", "m0"), ("a0.h1", "a1.kv0<v>"), ("m1", "logits")]
    mask = torch.zeros_like(REACH)
    for source, destination in names:
        mask[LAYOUT.source(source), LAYOUT.destination(destination)] = True
    wanted = auroc(graph, mask)
    assert auroc(graph, graph.with_members(mask)) == auroc(graph, names) == wanted
    assert auroc(graph, [f"{source}->{destination}" for source, destination in names]) == wanted


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (["m1->m0"], "there is no edge m1->m0: m1 writes after m0 has read"),
        (["a0.h9->m0"], "no source 'a0.h9'"),
        (["input m0"], "written SOURCE->DESTINATION"),
        ("input->m0", r"a list: \['input->m0'\]"),
    ],
)
def test_a_true_edge_that_does_not_exist_is_named(edges: str | list[str], message: str) -> None:
    with pytest.raises(CircuitError, match=message):
        auroc(graph_of(list(range(N))), edges)


def test_a_truth_of_another_architecture_is_refused() -> None:
    other = Layout((2, 2), (2, 2), (False, True))
    truth = Graph(other, torch.zeros(other.reach.shape), other.reach, CONVENTION)
    with pytest.raises(CircuitError, match="another architecture"):
        average_precision(graph_of(list(range(N))), truth)
