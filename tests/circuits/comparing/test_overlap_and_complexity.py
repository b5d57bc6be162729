"""Overlap against the distribution by permutation; complexity against definitions; cohorts against counting by hand."""

import numpy as np
import pytest
import torch

from circuitkit.circuits import CircuitError, Cohorts, Graph, Layout, cohorts, compare_complexity, overlap
from circuitkit.circuits.comparing.overlapping import _names, shared
from circuits.comparing.test_emergence import graph_of, way
from circuits.graphs.random_graphs import CONVENTION
from circuits.graphs.random_graphs import graph_of as random_graph

LAYOUT = Layout((3, 3, 2), (3, 1, 2), (False, False, True))


def test_overlap_by_chance_is_that_of_permuted_labels():
    rng = np.random.default_rng(0)
    strata = np.repeat([0, 1, 2], [12, 20, 1])
    one, other = rng.random(33) < 0.4, rng.random(33) < 0.5
    found = shared(one, other, strata)
    counts = []
    for _ in range(4000):
        moved = other.copy()
        for stratum in range(3):
            moved[strata == stratum] = rng.permutation(other[strata == stratum])
        counts.append(int((one & moved).sum()))
    counts = np.array(counts)
    total = one.sum() + other.sum()
    assert found.both == (one & other).sum()
    assert found.p == pytest.approx((counts >= found.both).mean(), abs=0.03)
    assert found.p_apart == pytest.approx((counts <= found.both).mean(), abs=0.03)
    assert found.chance == pytest.approx((counts / (total - counts)).mean(), abs=0.005)


def test_layers_alone_are_no_evidence_of_the_same_heads():
    # All from the first layer to the logits: the layers agree and the heads do not.
    members = torch.zeros(2, *LAYOUT.reach.shape, dtype=torch.bool)
    members[0, LAYOUT.source("a0.h0"), -1] = members[1, LAYOUT.source("a0.h1"), -1] = True
    first, second = (Graph(LAYOUT, torch.zeros(LAYOUT.reach.shape), each, CONVENTION) for each in members)
    assert overlap(first, first, keep="layers").edges.p == pytest.approx(1 / 3)
    again = overlap(first, first, draws=499)
    assert again.edges.p == again.heads.p == pytest.approx(1 / 3, abs=0.06)
    assert overlap(first, first, keep="density").edges.p == pytest.approx(1 / LAYOUT.n_edges)
    assert overlap(first, second).edges.jaccard == 0 and overlap(first, second).frame["both"].tolist() == [0, 0, 0]
    with pytest.raises(CircuitError, match="'wiring', 'layers' or 'density'"):
        overlap(first, second, keep="all")
    with pytest.raises(CircuitError, match="without a draw"):
        overlap(first, second, draws=0)


def test_renaming_heads_takes_their_edges_along_and_keeps_groups():
    layout = Layout((4, 2), (2, 2), (False, True))
    circuit = random_graph(layout, 3, 0.3)
    reads = layout.reads.numpy()
    for seed in range(20):
        rows, columns = _names(layout, np.random.default_rng(seed))
        assert sorted(rows) == list(range(len(rows))) and sorted(columns) == list(range(len(columns)))
        assert np.array_equal(reads[rows][:, columns], reads)
        assert np.array_equal(layout.reach.numpy()[rows][:, columns], layout.reach.numpy())
    found = overlap(circuit, circuit)
    assert found.edges.both == circuit.size and found.heads.both == len(circuit.heads)
    assert found.edges.p >= 1 / 1000 and found.edges.chance < 1


def test_unrelated_circuits_agree_beyond_chance_no_more_often_than_p_says():
    layout = Layout((8,) * 4, (8,) * 4, (False,) * 4)
    rng = np.random.default_rng(0)
    reads, reach = layout.reads.numpy(), layout.reach.numpy()

    def unrelated() -> Graph:
        # Edges into and out of a strong node are strong.
        strong = rng.lognormal(0, 2.5, len(layout.sources))
        into = (reads.T @ strong) / np.maximum(1, reads.sum(0))
        into[layout.logits_at] = 1
        scores = rng.standard_normal(reach.shape) * strong[:, None] * into * reach
        return Graph(layout, torch.from_numpy(scores).float(), layout.reach, CONVENTION).top(400).prune()

    drawn = [(unrelated(), unrelated()) for _ in range(40)]
    renamed, permuted = (
        np.mean([overlap(*both, keep, draws=99).edges.p <= 0.05 for both in drawn]) for keep in ("wiring", "layers")
    )
    assert renamed <= 0.125  # p = 0.04 for 6 and more of 40 at a rate of 0.05
    assert permuted > 0.125


def test_complexity_is_that_of_the_circuits_heads_and_fewer_heads_alone_are_told():
    base, post = (random_graph(LAYOUT, seed, 0.6).prune() for seed in (0, 1))
    found = compare_complexity(base, post, draws=0)
    for name, graph in (("base", base), ("post", post)):
        table = graph.complexity[graph.complexity["head"] >= 0]
        table = table[table["in_degree"] + table["out_degree"] > 0]
        expected = [len(table), table["in_degree"].mean(), table["out_degree"].mean()]
        assert found.frame[name].tolist()[:3] == pytest.approx(expected)
    assert found.test == "heads permuted"
    rows = found.frame.set_index("measure")
    heads = rows.loc["heads"]
    assert rows.loc["out_degree", "by_fewer_heads"] == pytest.approx(
        rows.loc["out_degree", "base"] * (heads["base"] / heads["post"] - 1)
    )


def test_complexity_with_examples_tells_a_real_change_from_none():
    base = graph_of(way("a0.h0", 5.0), noise=0.1)
    into = {("input", f"a1.h1<{kind}>"): 5.0 for kind in "qkv"} | {("a0.h0", f"a1.h1<{kind}>"): 5.0 for kind in "qkv"}
    post = graph_of({**way("a0.h0", 5.0), **into, ("a1.h1", "logits"): 5.0}, noise=0.1, seed=1)
    found = compare_complexity(base.top(2), post.top(9), draws=19, progress=False)
    assert found.test == "problems interchanged"
    row = found.frame.set_index("measure").loc["in_degree"]
    assert row["base"] == 1 and row["low"] == row["high"] == row["change"] == 2.5
    same = compare_complexity(base.top(9), base.top(9), draws=19, progress=False)
    assert (same.frame["change"] == 0).all() and (same.frame["p"] == 1).all()
    with pytest.raises(CircuitError, match="no heads"):
        compare_complexity(base.empty(), post.top(9))


def test_cohorts_are_counted_by_first_emergence_and_followed(tmp_path):
    heads = {0: ["a0.h0", "a0.h1"], 100: ["a0.h0", "a1.h0"], 200: ["a1.h1"], 300: ["a0.h0", "a1.h0", "a1.h1"]}
    graphs = {
        step: graph_of({edge: score for head in named for edge, score in way(head, 5.0).items()}).threshold(1.0)
        for step, named in heads.items()
    }
    base = graphs.pop(0)
    found = cohorts(dict(reversed(graphs.items())), base)
    assert found.counts.values.tolist() == [[100, 1, 1, 0, 0], [200, 0, 0, 1, 0], [300, 1, 1, 1, 0]]
    rows = found.frame.set_index(["layer", "head"])
    assert rows.loc[(1, 0), ["first", "last", "returns", "at_end"]].tolist() == [100, 300, 1, True]
    assert rows.loc[(1, 0), "stays"] == pytest.approx(2 / 3) and rows.loc[(0, 1), "frequency"] == 0
    assert found.emergent == [(1, 0), (1, 1)]
    survival = found.survival.set_index(["heads", "age"])
    assert survival.loc[("emergent", 1), ["at_risk", "active", "unbroken"]].tolist() == [2, 0.5, 0.5]
    assert survival.loc[("base", 3), ["at_risk", "active", "unbroken"]].tolist() == [2, 0.5, 0.0]
    assert found.turnover["new"].tolist() == [1, 1, 2]
    loaded = Cohorts.load(found.save(tmp_path))
    assert loaded.frame.equals(found.frame) and str(loaded) == str(found)
    for kind in ("cohorts", "map", "survival"):
        axes = loaded.plot(kind)
        assert axes.get_title() and axes.get_xlabel() and axes.get_ylabel()


def test_cohorts_refuse_what_says_nothing():
    graph = graph_of(way("a0.h0", 5.0))
    with pytest.raises(CircuitError, match="step 7 is uncut"):
        cohorts({7: graph}, graph.top(2))
    with pytest.raises(CircuitError, match="no checkpoint"):
        cohorts({}, graph.top(2))


def test_survival_without_a_break_is_unknown_where_all_that_are_left_are_censored():
    # Of the heads that are new at 1 one goes at 2; the other one, new at 2, stays to the end.
    active = torch.tensor([[[True, False]], [[False, True]], [[False, True]]])
    found = Cohorts((1, 2, 3), active, torch.zeros(1, 2, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool))
    rows = found.survival.set_index(["heads", "age"])
    assert rows.loc[("emergent", 1), ["at_risk", "unbroken"]].tolist() == [2, 0.5]
    assert rows.loc[("emergent", 2), "at_risk"] == 1 and np.isnan(rows.loc[("emergent", 2), "unbroken"])


def test_an_interval_of_complexity_reaches_as_far_to_either_side_of_the_change():
    base, post = (graph_of(way(f"a1.h{head}", 3.0), noise=2.0, seed=head) for head in (0, 1))
    rows = compare_complexity(base.top(30), post.top(30), draws=30, progress=False).frame.iloc[1:]
    assert (rows["low"] < rows["high"]).all()
    assert (rows["high"] - rows["change"]).tolist() == pytest.approx((rows["change"] - rows["low"]).tolist())
