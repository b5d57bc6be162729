"""Scores of edges against those that the EAP-IG reference implementation gives of the same weights and pairs."""

import json
from pathlib import Path

import pytest
import torch

import circuitkit as ck
from architectures import build, prompts

SCORES = json.loads((Path(__file__).parent / "reference_scores.json").read_text(encoding="utf-8"))["scores"]
ANSWER, DISTRACTOR = torch.tensor([[5], [9], [11]]), torch.tensor([[7], [3], [20]])


@pytest.mark.parametrize("method", ["eap", "eap-ig", "clean-corrupted"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_scores_are_those_of_the_reference_implementation(name, method):
    hf, words = build(name, seed=0)
    clean, corrupt = (prompts("equal", batch=3, length=6, seed=seed) for seed in (0, 1))
    pairs = ck.Pairs(clean.texts, corrupt.texts, ANSWER, DISTRACTOR)
    # Its rule is the left one, and so is ours where none is named.
    graph = ck.circuits.attribute(ck.Model(hf, words), pairs, method=method, steps=5, progress=False)
    theirs = torch.tensor(SCORES[name][method])
    assert (graph.scores - theirs).abs().max() <= 1e-5 * theirs.abs().max()
