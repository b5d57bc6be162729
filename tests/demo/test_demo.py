"""The demonstration says what its results hold: planted heads are named, noise is not, a trained model replicates."""

import json

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import circuitkit as ck
from circuitkit.demo import Findings, demonstrate
from circuitkit.model import planted
from circuitkit.results import Result
from circuitkit.tasks import deductions


def planted_findings(name: str, out) -> tuple[planted.Planted, Findings]:
    plant = planted.build(name)

    def draw(seed: int) -> ck.Pairs:
        drawn = plant.pairs(16, seed)
        return ck.Pairs(drawn.clean, drawn.corrupt, drawn.answer, drawn.distractor)

    return plant, demonstrate(ck.load(name), draw, out, progress=False)


@pytest.mark.parametrize("name", ["planted-induction-gpt2", "planted-two-hop-llama"])
def test_planted_heads_are_named_and_no_other(name, tmp_path):
    plant, findings = planted_findings(name, tmp_path)
    assert set(findings.found) == set(plant.heads)
    said = findings.sentences()[1]
    assert f"{len(plant.heads)} of " in said
    for layer, head in plant.heads:
        assert f"layer {layer} head {head} (" in said
    assert f"layer {plant.decoy[0]} head {plant.decoy[1]} (" not in said


def test_random_weights_give_nothing(tmp_path):
    trained = ck.load("deductor-130k")
    torch.manual_seed(0)
    model = ck.Model(
        LlamaForCausalLM(LlamaConfig(**trained.hf.config.to_dict())).eval(), trained.tokenizer, name="noise"
    )
    findings = demonstrate(model, lambda seed: deductions.pairs(model.tokenizer, 24, seed), tmp_path, progress=False)
    assert findings.found == []
    assert findings.sentences()[1].startswith("Nothing was found")
    assert (tmp_path / "findings.txt").read_text().count("Nothing was found") == 1


@pytest.mark.parametrize("name", ["deductor-130k", "deductor-1m"])
def test_the_strongest_heads_of_a_trained_model_replicate(name, tmp_path):
    model = ck.load(name)
    findings = demonstrate(model, lambda seed: deductions.pairs(model.tokenizer, 48, seed), tmp_path, progress=False)
    assert findings.solves, findings.sentences()[0]
    assert findings.found
    assert findings.agreement >= 0.6, findings.sentences()


def test_the_folder_holds_figures_tables_and_provenance(tmp_path):
    _, findings = planted_findings("planted-induction-llama", tmp_path)
    for name in ("residual", "heads", "ablation"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        again = Result.load(tmp_path / f"{name}.safetensors")
        torch.testing.assert_close(again.values, getattr(findings, name).values, equal_nan=True)
        header = (tmp_path / f"{name}.csv").read_text().splitlines()[0]
        assert "effect" in header and "p_corrected" in header
    for name in ("controls.png", "attention.png", "token_scores.csv"):
        assert (tmp_path / name).stat().st_size > 100
    told = json.loads((tmp_path / "provenance.json").read_text())
    assert told["sentences"] == findings.sentences()
    assert told["model"] == "planted-induction-llama" and "torch" in told["versions"]
