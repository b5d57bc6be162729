"""Faithfulness against its formula, the planted circuits, and what has no faithfulness."""

import numpy as np
import pytest
import torch

import circuitkit as ck
from circuitkit import statistics
from circuitkit.circuits import CircuitError, Faithfulness, faithfulness, run_circuits
from circuits.evaluating.planted_circuits import planted_circuit, planted_pairs

NAMES = ["planted-induction-gpt2", "planted-two-hop-llama"]


def found(circuit, clean, empty, **settings) -> Faithfulness:
    values = (torch.tensor(each, dtype=torch.float64) for each in (circuit, clean, empty))
    return Faithfulness(*values, 10, 100, "probability", **settings)


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_circuit_is_faithful_and_its_complement_is_not(name: str) -> None:
    model, graph = planted_circuit(name)
    kept = faithfulness(model, graph, planted_pairs(name), progress=False)
    rest = faithfulness(model, graph.complement(), planted_pairs(name), progress=False)
    assert (kept.value, kept.mean_of_ratios) == pytest.approx((1.0, 1.0), abs=0.01)
    assert rest.value == pytest.approx(0.0, abs=0.01)
    assert kept.interval().low <= kept.value <= kept.interval().high
    assert f"{graph.size} of {graph.layout.n_edges:,} edges" in str(kept)
    assert "4 examples in 3 groups" in str(kept)
    assert kept.unsure is None


@pytest.mark.parametrize("ablation", ["patch", "mean", "zero"])
def test_values_are_those_of_the_runs(ablation: str) -> None:
    model, graph = planted_circuit(NAMES[0])
    pairs = planted_pairs(NAMES[0])
    kept = faithfulness(model, graph, pairs, ablation=ablation, progress=False)
    runs = run_circuits(model, [graph, graph.empty(), graph.whole()], pairs, ablation=ablation, progress=False)
    for own, run in zip((kept.circuit, kept.empty, kept.clean), runs, strict=True):
        assert torch.allclose(own, run, atol=1e-5)
    circuit, empty, clean = runs.double().mean(-1).tolist()
    assert kept.value == pytest.approx((circuit - empty) / (clean - empty), abs=1e-5)


def test_kl_and_the_corrupt_run() -> None:
    model, graph = planted_circuit(NAMES[0])
    kept = faithfulness(model, graph, planted_pairs(NAMES[0]), "kl", progress=False)
    assert kept.clean.abs().max() < 1e-6
    assert kept.value == pytest.approx(1.0, abs=0.01)
    assert kept.unit == "nats"


def test_the_two_averagings_are_their_formulas_and_differ() -> None:
    kept = found([3.0, 1.0, 0.9], [4.0, 1.0, 1.0], [0.0, 0.5, 0.0])
    assert kept.value == pytest.approx((4.9 - 0.5) / (6.0 - 0.5))
    assert kept.per_example.tolist() == pytest.approx([0.75, 1.0, 0.9])
    assert kept.mean_of_ratios == pytest.approx((0.75 + 1.0 + 0.9) / 3)
    assert kept.frame["faithfulness"].tolist() == pytest.approx([0.75, 1.0, 0.9])


def test_intervals_draw_whole_groups() -> None:
    rng = np.random.default_rng(0)
    clean, empty = np.full(40, 2.0), np.zeros(40)
    group = np.repeat(np.arange(8), 5)
    circuit = 1.0 + rng.normal(size=8)[group] * 0.3
    alone = found(circuit, clean, empty)
    grouped = found(circuit, clean, empty, groups=torch.from_numpy(group))
    low, high = statistics.bootstrap_mean(circuit / 2, seed=0, groups=group.tolist())
    assert grouped.interval() == pytest.approx((float(low), float(high)), abs=0.02)
    assert grouped.interval("mean of ratios") == pytest.approx(grouped.interval(), abs=1e-9)
    width = {each: each.interval().high - each.interval().low for each in (alone, grouped)}
    assert width[grouped] > 1.4 * width[alone]
    assert grouped.interval(level=0.5).high < grouped.interval().high


def test_an_example_without_a_difference_is_named_and_left_out() -> None:
    kept = found([1.0, 5.0, 2.0], [2.0, 1.001, 4.0], [0.0, 1.0, 0.0])
    assert kept.left_out == (1,)
    assert kept.mean_of_ratios == pytest.approx(0.5)
    assert bool(kept.per_example[1].isnan())
    assert "without example 1" in str(kept)


def test_what_is_undefined_is_told() -> None:
    kept = found([1.0, 2.0], [1.0, 3.0], [3.0, 1.0])
    assert np.isnan(kept.value)
    assert np.isnan(kept.interval().low)
    assert "same mean probability" in str(kept)
    unsure = found([1.0, 2.0, 1.0, 2.0], [3.0, 1.0, 3.0, 1.1], [1.0, 3.0, 1.0, 3.0])
    assert unsure.unsure is not None
    assert "may be nothing" in str(unsure)


def test_shares_of_edges_are_written_out() -> None:
    for size, told in ((100, "100 of 100 edges (100 %)"), (99, "(99 %)"), (0, "(0 %)")):
        values = torch.tensor([[3.0], [4.0], [0.0]])
        assert told in str(Faithfulness(*values, size, 100, "probability"))
    assert "5 of 30,000 edges (0.017 %)" in str(Faithfulness(*values, 5, 30_000, "probability"))


def test_one_example_has_no_interval() -> None:
    kept = found([1.0], [2.0], [0.0])
    assert kept.value == 0.5
    assert np.isnan(kept.interval().low)
    assert "no interval of 1 example" in str(kept)


def test_saved_and_loaded_again_it_is_the_same(tmp_path) -> None:
    model, graph = planted_circuit(NAMES[0])
    kept = faithfulness(model, graph, planted_pairs(NAMES[0]), progress=False)
    again = Faithfulness.load(kept.save(tmp_path / "kept.safetensors"))
    assert str(again) == str(kept)
    assert again.frame.equals(kept.frame)
    assert again.provenance == kept.provenance
    assert again.provenance["study"] == "circuits.faithfulness"
    with pytest.raises(ValueError, match="holds no faithfulness"):
        Faithfulness.load(graph.save(tmp_path / "graph.safetensors"))


def test_what_is_no_faithfulness_is_refused() -> None:
    with pytest.raises(CircuitError, match="one value of each kind an example"):
        found([1.0, 2.0], [1.0], [0.0])
    with pytest.raises(CircuitError, match="NaN in circuit"):
        found([torch.nan], [1.0], [0.0])
    with pytest.raises(CircuitError, match="'ratio of means' or 'mean of ratios'"):
        found([1.0], [1.0], [0.0]).interval("median")
    _, graph = planted_circuit(NAMES[0])
    with pytest.raises(CircuitError, match="another architecture"):
        faithfulness(ck.load("deductor-5k"), graph, planted_pairs(NAMES[0]), progress=False)
