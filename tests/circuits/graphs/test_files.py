"""Graphs that are saved load again equal, and what is no graph is refused."""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from circuitkit import saving
from circuitkit.circuits import CircuitError, Convention, Graph, Layout
from circuits.graphs.random_graphs import graph_of, graphs

LAYOUT = Layout((4, 2), (2, 2), (False, True))


def rich() -> Graph:
    graph = graph_of(LAYOUT, density=0.4)
    return replace(
        graph,
        convention=Convention("eap-ig", "kl", "nats", False, 5, "midpoint", "mean", "sum"),
        per_example=torch.stack([graph.scores, -graph.scores, 2 * graph.scores]),
        by_span={"question": graph.scores / 2, "think. at length": graph.scores / 2},
        groups=torch.tensor([0, 0, 1]),
        provenance={"model": "gpt2", "shape": (1, 2)},
    )


@settings(max_examples=10, deadline=None)
@given(found=graphs)
def test_a_graph_loads_as_it_was_saved(found: Graph) -> None:
    with TemporaryDirectory() as folder:
        assert Graph.load(found.save(folder)) == found


def test_all_that_a_graph_holds_is_in_its_file(tmp_path: Path) -> None:
    path = rich().save(tmp_path / "found.safetensors")
    loaded = Graph.load(path)
    assert loaded == rich()
    assert loaded.convention == rich().convention and list(loaded.by_span) == ["question", "think. at length"]
    assert loaded != replace(loaded, per_example=None) and loaded != replace(loaded, by_span={})
    assert loaded.top(3).threshold(1.0).prune() == rich().top(3).threshold(1.0).prune()


def edited(path: Path, **change: object) -> Path:
    with safe_open(path, framework="pt") as file:
        told = json.loads(file.metadata()["circuitkit.graph"])
    save_file(load_file(path), path, metadata={"circuitkit.graph": json.dumps(told | change)})
    return path


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = rich().save(tmp_path / "graph.safetensors")
    with pytest.raises(CircuitError, match=r"format 7, and this version reads 1.*upgrade"):
        Graph.load(edited(path, format=7))
    with pytest.raises(CircuitError, match=r"graph.safetensors: scores must be floats.*Layout\(1 layers"):
        Graph.load(edited(path, format=1, layout={"n_heads": [2], "n_kv_heads": [2], "parallel": [False]}))
    with pytest.raises(CircuitError, match=r"graph.safetensors.*unexpected keyword"):
        Graph.load(edited(path, layout={"heads": [2]}))
    other = saving.save(tmp_path / "other.safetensors", "result", {"values": torch.zeros(1)}, {})
    with pytest.raises(ValueError, match=r"other.safetensors.*holds no graph"):
        Graph.load(other)
    short = saving.save(tmp_path / "short.safetensors", "graph", {}, {"format": 1})
    with pytest.raises(CircuitError, match=r"short.safetensors: a graph without 'layout'"):
        Graph.load(short)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="cut short"):
        Graph.load(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        Graph.load(tmp_path / "none")
    with pytest.raises(ValueError, match=r"saved as \.safetensors"):
        rich().save(tmp_path / "graph.json")
