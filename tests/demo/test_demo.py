"""The demonstration says what its results hold: planted heads are named, noise is not, a trained model replicates."""

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import circuitkit as ck
from circuitkit.demo import Findings, demonstrate
from circuitkit.model import planted
from circuitkit.results import Baseline, Result
from circuitkit.statistics import against_controls
from circuitkit.tasks import deductions


def planted_findings(name: str, out) -> tuple[planted.Planted, Findings]:
    plant = planted.build(name)

    def draw(seed: int) -> ck.Pairs:
        drawn = plant.pairs(16, seed)
        return ck.Pairs(drawn.clean, drawn.corrupt, drawn.answer, drawn.distractor)

    return plant, demonstrate(ck.load(name), draw, out, progress=False)


@pytest.mark.parametrize(
    "name", ["planted-induction-gpt2", pytest.param("planted-two-hop-llama", marks=pytest.mark.slow)]
)
def test_planted_heads_are_named_and_no_other(name, tmp_path):
    plant, findings = planted_findings(name, tmp_path)
    assert set(findings.found) == set(plant.heads)
    said = findings.sentences()[1]
    assert f"{len(plant.heads)} of " in said
    for layer, head in plant.heads:
        assert f"layer {layer} head {head} (" in said
    assert f"layer {plant.decoy[0]} head {plant.decoy[1]} (" not in said
    assert findings.sentences()[2].endswith("the found heads carry the proof.")
    assert "without a found head" in findings.sentences()[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def found(folder) -> Findings:
    return planted_findings("planted-induction-llama", folder)[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Callable[[str], tuple[ck.Model, Findings]]:
    """What is found in a trained model, once for all who ask."""

    @functools.cache
    def demonstrated(name: str) -> tuple[ck.Model, Findings]:
        model = ck.load(name)
        out = tmp_path_factory.mktemp("trained")
        return model, demonstrate(model, lambda seed: deductions.pairs(model.tokenizer, 48, seed), out, progress=False)

    return demonstrated


@pytest.mark.parametrize(
    ("controls", "said"),
    [
        ([0.1] * 20, "and none as much (p = 0.048): the found heads carry the proof."),
        ([0.1] * 19 + [5.0], "and 1 of them as much or more (p = 0.095): ablating the found heads costs no more than"),
        ([0.1] * 3, "and none as much, but so few sets cannot tell (p = 0.25)"),
    ],
)
def test_heads_carry_the_proof_only_where_random_ones_cost_less(found, controls, said):
    sentences = replace(found, joint=against_controls(2.0, controls)).sentences()
    assert said in sentences[2]
    assert "restore the answer" in sentences[1] and "carry the proof" not in sentences[1]
    assert ("the found heads carry the proof." in sentences[2]) == (controls == [0.1] * 20)


def test_controls_that_share_found_heads_are_told(found):
    said = replace(found, shared=True).sentences()[2]
    assert "which for want of others hold found heads too" in said and "without a found head" not in said


def test_where_the_layers_have_no_other_heads_random_sets_share_some(trained):
    model, findings = trained("deductor-130k")
    in_layer = [sum(layer == at for layer, _ in findings.found) for at in range(model.n_layers)]
    assert max(in_layer) > model.n_heads(0) / 2, "what this test is about"
    assert findings.shared


def stream(shares: list[list[float]]) -> Result:
    """A residual sweep that restores these shares, layer x position, of two pairs alike."""
    baseline = Baseline(torch.ones(2), torch.zeros(2))
    labels = {"position": tuple(f" w{at}" for at in range(len(shares[0])))}
    values = torch.tensor(shares)[..., None].repeat(1, 1, 2)
    return Result(values, ("layer", "position"), baseline, "denoise", "logit_difference", "logits", "t", labels=labels)


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        (
            [[0.9, 0.0], [0.1, 0.8], [0.0, 1.0]],
            "At the input of layer 0, position 0 ('w0' in the first pair) alone restores most of the answer (90%); "
            "from the input of layer 1 on, the last position alone restores most of it (80% or more).",
        ),
        (
            [[0.3, 0.0], [0.1, 0.8], [0.3, 0.4], [0.0, 0.7]],
            "At the input of layer 0, no position alone restores most of the answer: position 0 ('w0' in the first "
            "pair) restores 30%; from the input of layer 3 on, the last position alone restores most of it "
            "(70% or more).",
        ),
        (
            [[0.6, 0.0], [0.6, 0.8], [0.2, 0.4]],
            "At the input of layer 0, position 0 ('w0' in the first pair) alone restores most of the answer (60%); at "
            "that of the last layer, the last position restores 40%.",
        ),
    ],
)
def test_the_stream_is_said_by_its_shares(found, shares, said):
    assert replace(found, residual=stream(shares)).sentences()[-1] == said


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


@pytest.mark.parametrize("name", ["deductor-130k", pytest.param("deductor-1m", marks=pytest.mark.slow)])
def test_the_strongest_heads_of_a_trained_model_replicate(name, trained):
    _, findings = trained(name)
    assert findings.solves, findings.sentences()[0]
    assert findings.found
    assert findings.agreement >= 0.6, findings.sentences()


def test_the_folder_holds_figures_tables_and_provenance(folder, found):
    for name in ("residual", "heads", "ablation"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        again = Result.load(folder / f"{name}.safetensors")
        torch.testing.assert_close(again.values, getattr(found, name).values, equal_nan=True)
        header = (folder / f"{name}.csv").read_text().splitlines()[0]
        assert "effect" in header and "p_corrected" in header
    for name in ("controls.png", "attention.png", "token_scores.csv"):
        assert (folder / name).stat().st_size > 100
    told = json.loads((folder / "provenance.json").read_text())
    assert told["sentences"] == found.sentences()
    assert told["model"] == "planted-induction-llama" and "torch" in told["versions"]
