"""How circuits are run is said once: every measure takes the settings of `run_circuit`, and no others."""

import inspect

import pytest
import torch

import circuitkit as ck
from circuitkit.circuits import completeness, curve, faithfulness, minimality, run_circuit, run_circuits
from circuitkit.circuits.evaluating.running import Runs, RunSettings
from circuits.evaluating.planted_circuits import planted_circuit, planted_pairs

NAME = "planted-induction-gpt2"
MEASURES = [faithfulness, completeness, minimality, curve, run_circuits]


def named(function) -> dict[str, object]:
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def test_settings_and_their_defaults_are_those_that_run_circuit_explains() -> None:
    assert named(run_circuit) == named(Runs.of)
    assert set(named(run_circuit)) == set(RunSettings.__annotations__)
    for setting in RunSettings.__annotations__:
        assert f"        {setting}: " in (run_circuit.__doc__ or "")
    for measure in MEASURES:
        assert "`run_circuit`" in (measure.__doc__ or "")


@pytest.mark.parametrize("measure", MEASURES, ids=lambda each: each.__name__)
def test_an_unknown_setting_is_named(measure) -> None:
    model, graph = planted_circuit(NAME)
    with pytest.raises(TypeError, match="batch_sise"):
        measure(model, [graph] if measure is run_circuits else graph, planted_pairs(NAME), batch_sise=2)


def test_settings_are_handed_on() -> None:
    model, graph = planted_circuit(NAME)
    pairs = planted_pairs(NAME)
    settings = {
        "reference": pairs.clean[:1],
        "by_position": True,
        "batch_size": 1,
        "budget": 1 << 20,
        "progress": False,
    }
    alone = run_circuit(model, graph, pairs, "probability", "mean", **settings)
    assert not torch.allclose(alone, run_circuit(model, graph, pairs, "probability", "mean", progress=False))
    found = curve(
        model, graph, pairs, "probability", (0.5, 1.0), "absolute", "mean", controls=0, magnitude=False, **settings
    )
    for values in (
        faithfulness(model, graph, pairs, "probability", "mean", **settings).circuit,
        completeness(model, graph, pairs, "probability", "mean", sets=0, greedy=0, **settings).circuit[0],
        minimality(model, graph, pairs, "probability", "mean", random=0, most=1, **settings).whole,
        run_circuits(model, [graph], pairs, "probability", "mean", **settings)[0],
    ):
        assert torch.allclose(values.float(), alone.float(), atol=1e-6)
    assert torch.allclose(found.empty, run_circuit(model, graph.empty(), pairs, "probability", "mean", **settings))
    with pytest.raises(ck.circuits.CircuitError, match="batch_size"):
        curve(model, graph, pairs, batch_size=0)
