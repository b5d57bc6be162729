"""Curves: areas in closed form, each circuit against its own run, and what stands beside them."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import architectures
import circuitkit as ck
from circuitkit.circuits import (
    CircuitError,
    Convention,
    Curve,
    Faithfulness,
    Graph,
    Layout,
    curve,
    magnitudes,
    run_circuit,
)
from circuitkit.circuits.evaluating.baselines import random_circuits
from circuitkit.circuits.evaluating.choosing import Choice
from circuitkit.circuits.evaluating.curves import MIB_SIZES
from circuitkit.circuits.evaluating.resampling import Resampling, ratio_of_means
from circuitkit.circuits.graphs import selection
from circuitkit.metrics import Targets

SETTINGS = {
    "title": "Circuits",
    "metric": "logit_difference",
    "unit": "logits",
    "by": "signed",
    "select": "top",
    "prune": True,
    "match": "actual",
    "ablation": "patch",
    "n_edges": 1000,
    "seed": 0,
}
SIZES = (0.01, 0.1, 1.0)


def made(f: Tensor, wholes: Tensor, empty: float = -1.0, groups: Tensor | None = None) -> Curve:
    """A curve on whose examples f is what it is given."""
    n = f.shape[-2]
    return Curve(
        fractions=MIB_SIZES[:n],
        requested=(1,) * n,
        sizes=(1,) * n,
        per_example=empty + f * wholes,
        clean=empty + wholes,
        empty=torch.full_like(wholes, empty),
        random=torch.zeros(0, n, len(wholes)),
        random_sizes=torch.zeros(0, n, dtype=torch.int64),
        settings=SETTINGS,
        groups=groups,
    )


@cache
def studied() -> tuple[ck.Model, ck.Pairs, Graph, Curve]:
    model = ck.load("deductor-5k")
    pairs = ck.tasks.deductions.pairs(model.tokenizer, n=5)
    graph = ck.circuits.attribute(model, pairs, method="eap", progress=False)
    return model, pairs, graph, curve(model, graph, pairs, sizes=SIZES, controls=3, progress=False)


def test_areas_of_known_curves() -> None:
    wholes = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    at = torch.tensor(MIB_SIZES, dtype=torch.float64)[:, None]
    one = made(torch.ones_like(at).expand(-1, 3), wholes)
    assert one.cpr == pytest.approx(0.999) and one.cmd == pytest.approx(0.0, abs=1e-12)
    assert one.area("cpr", from_zero=True).value == pytest.approx(0.9995)
    assert one.area("cmd", from_zero=True).value == pytest.approx(0.0005)
    rising = made(at.expand(-1, 3), wholes)
    assert rising.cpr == pytest.approx((1 - 0.001**2) / 2) and rising.cpr + rising.cmd == pytest.approx(0.999)
    twice = made(2 * torch.ones_like(at).expand(-1, 3), wholes)
    assert twice.cpr == pytest.approx(2 * 0.999) and twice.cmd == pytest.approx(0.999)
    assert set(one.areas["start"]) == {0.0, 0.001} and len(one.areas) == 8


def test_both_averagings_and_an_example_that_has_no_ratio() -> None:
    wholes = torch.tensor([1.0, 3.0, 0.0], dtype=torch.float64)
    f = torch.tensor([[1.0, 0.0, 0.0]] * 10, dtype=torch.float64)
    found = made(f, wholes)
    assert found.faithfulness["ratio of means"].value == pytest.approx(np.full(10, 0.25))
    assert found.faithfulness["mean of ratios"].value == pytest.approx(np.full(10, 0.5))


@given(st.lists(st.sampled_from([0.0, 0.009, -0.02, 0.5, 1.0, -3.0]), min_size=2, max_size=6).filter(any))
def test_curves_and_faithfulness_leave_the_same_examples_out(apart: list[float]) -> None:
    wholes = torch.tensor(apart, dtype=torch.float64)
    f = torch.arange(1.0, len(apart) + 1, dtype=torch.float64).repeat(3, 1)
    found = made(f, wholes, empty=0.0)
    kept = Faithfulness(found.per_example[0], found.clean, found.empty, 1, 9, "logit_difference")
    there = wholes.abs() > 0.01 * wholes.abs().mean()
    assert kept.left_out == tuple((~there).nonzero().flatten().tolist())
    expected = pytest.approx(float(f[0, there].mean()))
    assert kept.mean_of_ratios == expected
    assert found.faithfulness["mean of ratios"].value[0] == expected


def test_intervals_draw_groups_whole() -> None:
    rng = np.random.default_rng(0)
    parts, wholes = rng.normal(1, 1, (2, 9)), rng.normal(3, 1, 9)
    one = Resampling.of(9, None, 400, seed=0).estimates(ratio_of_means(parts, wholes))
    twice = Resampling.of(18, [*range(9)] * 2, 400, seed=0).estimates(
        ratio_of_means(np.tile(parts, 2), np.tile(wholes, 2))
    )
    for each, other in zip(one, twice, strict=True):
        assert each == pytest.approx(other, rel=1e-2)
    assert (one.low < one.value).all() and (one.value < one.high).all()
    apart = Resampling.of(18, None, 400, seed=0).estimates(ratio_of_means(np.tile(parts, 2), np.tile(wholes, 2)))
    assert (apart.high - apart.low < one.high - one.low).all()


def test_each_size_is_a_circuit_run_by_itself() -> None:
    model, pairs, graph, found = studied()
    n = graph.layout.n_edges
    assert found.requested == tuple(int(share * n) for share in SIZES)
    for place, edges in enumerate(found.requested):
        alone = graph.top(edges, "signed").prune()
        assert found.sizes[place] == alone.size
        values = run_circuit(model, alone, pairs, progress=False)
        assert torch.allclose(values, found.per_example[place], atol=1e-5)
    assert found.frame.query("circuit == 'found'")["faithfulness"].iloc[-1] == pytest.approx(1.0, abs=1e-4)
    assert torch.allclose(found.empty, run_circuit(model, graph.empty(), pairs, progress=False), atol=1e-5)
    assert (found.random_sizes >= torch.tensor(found.sizes)).all()
    assert list(found.frame["circuit"].unique()) == ["found", "magnitude", "random"]


def test_a_curve_that_loads_again_is_the_same(tmp_path: Path) -> None:
    found = studied()[-1]
    found.save(tmp_path)
    again = Curve.load(tmp_path)
    assert again == found and str(again) == str(found) and again.areas.equals(found.areas)
    axes = again.plot()
    assert axes.get_xscale() == "log" and axes.get_xlabel().startswith("edges asked for, % of all")


@pytest.mark.parametrize("select", ["top", "greedy"])
def test_random_circuits_are_on_a_way_and_as_large(select: str) -> None:
    layout = Layout((4, 4, 4), (2, 2, 2), (False, True, False))
    choices = [Choice(n, select=select) for n in (30, 60)]  # type: ignore[arg-type]  # a name of a test's case
    for small, large in random_circuits(layout, choices, [20, 50], draws=4, seed=1):
        assert int(small.sum()) >= 20 and int(large.sum()) >= 50 and not (small & ~large).any()
        for each in (small, large):
            assert np.array_equal(selection.on_a_way(layout, each.numpy()), each.numpy())
    asked = random_circuits(layout, choices, [20, 50], draws=4, match="requested", seed=1)
    assert all(int(small.sum()) <= 30 for small, _ in asked)


def test_magnitudes_are_differences_beside_the_stream_times_weights() -> None:
    hf, tokenizer = architectures.build("llama")
    model = ck.Model(hf, tokenizer)
    pairs = ck.Pairs([[5, 6, 7, 8], [9, 10, 11]], [[5, 12, 7, 8], [9, 13, 11]], [[20], [21]], [[22], [23]])
    graph = magnitudes(model, pairs, batch_size=1, progress=False)
    head = hf.model.layers[0].self_attn.q_proj.weight.detach()[: model.layers[0].d_head].square().sum(1).mean().sqrt()
    logits = hf.lm_head.weight.detach().square().sum(1).mean().sqrt()
    expected = []
    for clean, corrupt in zip(pairs.clean, pairs.corrupt, strict=True):
        ours, theirs = (
            model.run(torch.tensor([ids]), capture=["resid_pre", "resid_post"]).cache for ids in (clean, corrupt)
        )
        start = ours["resid_pre[layer=0]"]
        moved = (theirs["resid_pre[layer=0]"] - start).norm(dim=-1)
        last = ours[ck.Site("resid_post", layer=model.n_layers - 1)].norm(dim=-1)
        expected.append([(moved / start.norm(dim=-1)).mean() * head, (moved / last)[0, -1] * logits])
    wanted = torch.tensor(expected).mean(0)
    scores = [graph.edge("input", "a0.h0<q>").score, graph.edge("input", "logits").score]
    assert torch.tensor(scores) == pytest.approx(wanted, rel=1e-5)
    assert torch.equal(graph.scores, magnitudes(model, pairs, progress=False).scores) or torch.allclose(
        graph.scores, magnitudes(model, pairs, progress=False).scores, atol=1e-6
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": (0.5, 0.1)}, "rising"),
        ({"sizes": (0.0, 0.1)}, "above 0"),
        ({"sizes": (0.1, 2.0)}, "up to 1"),
        ({"controls": -1}, "0 or more, not -1"),
        ({"match": "some"}, "'actual' or 'requested'"),
    ],
)
def test_what_makes_no_curve_is_refused(settings: dict[str, object], message: str) -> None:
    model, pairs, graph, _ = studied()
    with pytest.raises(CircuitError, match=message):
        curve(model, graph, pairs, progress=False, **settings)  # type: ignore[arg-type]  # settings of one call


def test_a_graph_without_signs_has_no_signed_curve_and_one_of_another_model_none() -> None:
    model, pairs, graph, _ = studied()
    unsigned = Graph(graph.layout, graph.scores, graph.members, Convention("eap", "kl", positive="unknown"))
    with pytest.raises(CircuitError, match="by='absolute'"):
        curve(model, unsigned, pairs, progress=False)
    other = Layout((3,), (3,), (False,))
    with pytest.raises(CircuitError, match="another architecture"):
        curve(model, Graph(other, torch.zeros(other.reach.shape), other.reach, graph.convention), pairs, progress=False)


def test_pairs_that_the_model_does_not_tell_apart_have_no_curve() -> None:
    model, pairs, graph, _ = studied()
    same = ck.Pairs(pairs.clean, pairs.clean, pairs.answer, pairs.distractor)

    def hardly(logits: Tensor, targets: Targets) -> Tensor:
        return 1e3 + 1e-5 * logits[:, 0].double()

    for asked, metric in ((same, "logit_difference"), (pairs, hardly)):
        with pytest.raises(CircuitError, match="whole and with every edge cut"):
            curve(model, graph, asked, metric, SIZES, controls=0, magnitude=False, progress=False)


def test_a_curve_of_one_example_has_no_interval() -> None:
    one = made(torch.ones(10, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    assert "CPR 0.999 (area under faithfulness; no interval of so few examples)" in str(one)


def test_a_curve_of_what_may_be_nothing_says_so() -> None:
    wholes = torch.tensor([1.0, -1.1, 0.9, -0.7], dtype=torch.float64)
    found = made(torch.ones(10, 4, dtype=torch.float64), wholes)
    assert found.undefined is not None and "may be nothing" in str(found)
    assert made(torch.ones(10, 4, dtype=torch.float64), wholes.abs()).undefined is None
