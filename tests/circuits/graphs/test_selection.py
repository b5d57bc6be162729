"""Circuits that are chosen from a graph, held against slow definitions in names and sets."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkit.circuits import CircuitError, Convention, Graph, Layout
from circuits.graphs.random_graphs import CONVENTION, graph_of, graphs, named, readers

few = settings(max_examples=30, deadline=None)
counts = st.integers(0, 30)


def ranked(graph: Graph, by: str) -> list[tuple[str, str]]:
    """The members from the strongest, equal ones by place."""
    strength = (lambda edge: -abs(edge[0])) if by == "absolute" else (lambda edge: -edge[0])
    layout = graph.layout
    edges = [(graph.scores[row, column].item(), row, column) for row, column in graph.members.nonzero().tolist()]
    return [(layout.sources[row], layout.destinations[column]) for _, row, column in sorted(edges, key=strength)]


def chosen(graph: Graph, how: str, *arguments: object) -> Graph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return getattr(graph, how)(*arguments)


@few
@given(graphs, counts, st.sampled_from(["absolute", "signed"]))
def test_top_takes_the_first_of_the_sorted_members(graph: Graph, n: int, by: str) -> None:
    top = chosen(graph, "top", n, by)
    assert named(top) == set(ranked(graph, by)[:n])
    assert top.scores is graph.scores and top.size == min(n, graph.size)


@few
@given(graphs, st.sampled_from([0.0, 1.0, 2.0, 2.5]))
def test_a_threshold_keeps_what_reaches_it_and_lets_nothing_in(graph: Graph, tau: float) -> None:
    assert named(graph.threshold(tau)) == {e for e in named(graph) if abs(graph.edge(*e).score) >= tau}
    assert named(graph.threshold(tau, by="signed")) == {e for e in named(graph) if graph.edge(*e).score >= tau}


@few
@given(graphs)
def test_pruning_drops_dead_ends_until_there_are_none(graph: Graph) -> None:
    read_by, left = readers(graph.layout), named(graph)
    while True:
        led = {"input", *(reader for _, destination in left for reader in read_by[destination])}
        leading = {"logits", *(source for source, _ in left)}
        kept = {(u, v) for u, v in left if u in led and read_by[v] & leading}
        if kept == left:
            break
        left = kept
    pruned = graph.prune()
    assert named(pruned) == left
    assert torch.equal(pruned.prune().members, pruned.members)


@few
@given(graphs, counts, st.sampled_from(["absolute", "signed"]))
def test_greedy_takes_the_best_edge_into_what_is_in(graph: Graph, n: int, by: str) -> None:
    read_by, order = readers(graph.layout), ranked(graph, by)
    inside, taken = {"logits"}, []
    while len(taken) < n:
        best = next((edge for edge in order if edge not in taken and read_by[edge[1]] & inside), None)
        if best is None:
            break
        taken.append(best)
        inside.add(best[0])
    assert named(chosen(graph, "greedy", n, by)) == set(taken)


@few
@given(graphs, counts, counts)
def test_more_edges_hold_fewer_ones(graph: Graph, n: int, more: int) -> None:
    for how in ("top", "greedy"):
        small, large = chosen(graph, how, n), chosen(graph, how, n + more)
        assert named(small) <= named(large) <= named(graph)
        assert torch.equal(chosen(large, how, n).members, small.members)
    strict, loose = graph.threshold(2.0), graph.threshold(1.0)
    assert named(strict.prune()) <= named(loose.prune())
    chain = chosen(graph, "top", n).threshold(1.0).prune()
    assert named(chain) <= named(chosen(graph, "top", n))


@few
@given(graphs, st.integers(0, 2**10))
def test_whole_empty_complement_and_set_operations(graph: Graph, seed: int) -> None:
    other, every = graph_of(graph.layout, seed, 0.5), named(graph.whole())
    assert len(every) == graph.layout.n_edges and not named(graph.empty())
    assert named(graph.complement()) == every - named(graph)
    assert named(graph & other) == named(graph) & named(other)
    assert named(graph | other) == named(graph) | named(other)
    assert named(graph - other) == named(graph) - named(other)
    assert (graph | other).scores is graph.scores


def test_signs_are_read_by_the_convention() -> None:
    layout = Layout((1,), (1,), (False,))
    scores = torch.tensor([[3.0, 0, 0, 0, 0], [0, 0, 0, 0, -2.0], [0, 0, 0, 0, 0]])

    def best(convention: Convention) -> str:
        return Graph(layout, scores, layout.reach, convention).top(1, by="signed").frame["source"].item()

    assert best(CONVENTION) == "input"
    assert best(Convention("eap", "kl", higher_is_better=False)) == "a0.h0"
    assert best(Convention("eap", "logit_difference", positive="corrupting raises the metric")) == "a0.h0"
    for convention in (Convention("eap", "?", positive="unknown"), Convention("eap", "kl", examples="mean-absolute")):
        with pytest.raises(CircuitError, match="by='absolute'"):
            best(convention)


def test_more_edges_than_there_are_are_told() -> None:
    graph = graph_of(Layout((2,), (2,), (False,)))
    with pytest.warns(UserWarning, match=r"5,000 edges were asked for, and there are 13 in the circuit"):
        assert graph.top(5000).size == 13
    dead_end = graph.with_members(graph.members & (torch.tensor([d != "logits" for d in graph.layout.destinations])))
    with pytest.warns(UserWarning, match="there are 0 that lead to the logits"):
        assert dead_end.greedy(3).size == 0


@pytest.mark.parametrize("n", [-1, 2.5, True, "many"])
def test_what_is_no_count_is_refused(n: object) -> None:
    for how in ("top", "greedy"):
        with pytest.raises(CircuitError, match="whole number of edges"):
            getattr(graph_of(Layout((1,), (1,), (False,))), how)(n)


def test_other_ways_to_rank_and_thresholds_that_say_nothing_are_refused() -> None:
    graph = graph_of(Layout((1,), (1,), (False,)))
    with pytest.raises(CircuitError, match="not 'size'"):
        graph.top(1, by="size")  # type: ignore[arg-type]
    for tau in (float("nan"), -0.1):
        with pytest.raises(CircuitError, match="threshold"):
            graph.threshold(tau)
    assert graph.threshold(-1.0, by="signed").size == int((graph.scores[graph.members] >= -1).sum())
