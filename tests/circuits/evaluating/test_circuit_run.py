"""Circuits run by the package against their definition in loops, the model's own runs, ablation and path patching."""

from functools import cache
from typing import Any

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import architectures

import circuitkit as ck
from circuits.evaluating import brute_force
from circuitkit import Site, metrics
from circuitkit.circuits import CircuitError, Convention, Graph, Layout, run_circuit, run_circuits
from circuitkit.circuits.evaluating.running import Runs
from circuitkit.pairs import PairError

LENGTH = 7
WRITTEN_OUT = ("gpt2", "llama", "gemma2", "gpt_neox")
ABLATIONS = ("patch", "mean", "zero")


@cache
def built(name: str, dtype: torch.dtype = torch.float32) -> ck.Model:
    hf, tokenizer = architectures.build(name)
    return ck.Model(hf.to(dtype), tokenizer, name=name)


def drawn_pairs(padded: bool = True, n: int = 3, answer_len: int = 1) -> ck.Pairs:
    """Pairs that differ at their third token; padded, of 7, 6 and 5 tokens."""
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(5, architectures.VOCABULARY, (n, LENGTH), generator=generator)
    answers = torch.randint(5, architectures.VOCABULARY, (2, n, answer_len), generator=generator)
    clean, corrupt = [], []
    for number, row in enumerate(ids.tolist()):
        row = row[: LENGTH - number] if padded else row
        clean.append(list(row))
        row[2] = (row[2] + 7) % 60 + 5
        corrupt.append(row)
    return ck.Pairs(clean, corrupt, answers[0], answers[1])


def circuit(model: ck.Model, share: float, seed: int = 0) -> Graph:
    layout = Layout.of(model)
    drawn = torch.rand(layout.reach.shape, generator=torch.Generator().manual_seed(seed)) < share
    scores = torch.zeros(layout.reach.shape)
    return Graph(layout, scores, drawn & layout.reach, Convention("random", "logit_difference"))


def difference(logits: Tensor, pairs: ck.Pairs, row: int) -> float:
    return float(logits[pairs.answer[row, 0]] - logits[pairs.distractor[row, 0]])


def tokens_of(rows: Any) -> list[Tensor]:
    return [torch.tensor(row) for row in rows]


def by_hand(name: str, graph: Graph, pairs: ck.Pairs, ablation: str, by_position: bool = False) -> list[float]:
    """The logit difference of each example under a circuit, by loops."""
    decoder = brute_force.decoder_of(name, built(name).hf)
    layout = graph.layout
    row_of = {source: row for row, source in enumerate(layout.sources)}
    column_of = {destination: column for column, destination in enumerate(layout.destinations)}
    corrupt = [brute_force.run(decoder, ids)[1] for ids in tokens_of(pairs.corrupt)]
    values = []
    for row, ids in enumerate(tokens_of(pairs.clean)):
        if ablation == "patch":
            replaced = corrupt[row]
        elif ablation == "zero":
            replaced = {source: torch.zeros(1, 1).double() for source in layout.sources}
        elif by_position:
            replaced = {s: torch.stack([each[s] for each in corrupt]).mean(0) for s in layout.sources}
        else:
            replaced = {s: torch.cat([each[s] for each in corrupt]).mean(0, keepdim=True) for s in layout.sources}
        logits, _ = brute_force.run(
            decoder, ids, lambda u, v: bool(graph.members[row_of[u], column_of[v]]), replaced
        )
        values.append(difference(logits[-1], pairs, row))
    return values


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_decoders_written_out_are_the_models(name: str) -> None:
    ids = torch.tensor(drawn_pairs().clean[0])
    hf = built(name, torch.float64).hf
    # Their norms and angles compute in single precision whatever the weights are.
    assert torch.allclose(brute_force.run(brute_force.decoder_of(name, hf), ids)[0], hf(ids[None]).logits[0], atol=2e-6)


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("name", WRITTEN_OUT)
@settings(max_examples=3)
@given(share=st.floats(0.02, 0.98), seed=st.integers(0, 10**6))
def test_a_circuit_is_its_definition_in_loops(name: str, ablation: str, share: float, seed: int) -> None:
    pairs, graph = drawn_pairs(), circuit(built(name), share, seed)
    found = run_circuit(built(name), graph, pairs, ablation=ablation, progress=False)
    assert found.tolist() == pytest.approx(by_hand(name, graph, pairs, ablation), rel=1e-5, abs=1e-5)
