"""Every model that the package ships: its accuracy is what its card says, and the demo on it is sound."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

import circuitkit as ck
from circuitkit.commands.prompts import pairs_of
from circuitkit.demo import demonstrate
from circuitkit.demo.findings import SURE, Findings, carrying
from circuitkit.model import embedded, planted
from circuitkit.statistics import wilson

pytestmark = pytest.mark.slow

prontoqa = ck.tasks.prontoqa
FOLDERS = sorted({embedded.path(name) for name in embedded.names()})
SEEDS = range(5)
LONGEST_PROOF = 160
README = Path(__file__).parents[2] / "README.md"


@cache
def held_out(hops: int) -> list:
    """The first of the questions that the cards' figures were measured on, which training passed over."""
    return prontoqa.generate("implication_elimination", hops=hops, shots=0, n=300, seed=7)[:60]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_proofs_of_held_out_questions_are_as_often_correct_as_the_card_says(folder):
    model = ck.load(folder)
    recorded = json.loads((folder / "accuracy.json").read_text())["proof"]["implication_elimination"]
    for hops in (1, 2, 3):
        examples = held_out(hops)
        batch = model.tokenizer([example.prompt for example in examples], return_tensors="pt", padding=True)
        with torch.inference_mode():
            written = model.hf.generate(**batch, max_new_tokens=LONGEST_PROOF, do_sample=False)
        proofs = model.tokenizer.batch_decode(written[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        hits = sum(
            prontoqa.judge(example.judged, proof).correct for example, proof in zip(examples, proofs, strict=True)
        )
        low, high = wilson(hits, len(examples))
        said = recorded[str(hops)]["correct"]
        assert low <= said["high"] and said["low"] <= high, (hops, hits, said)


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory) -> Callable[[Path], tuple[Findings, Path]]:
    """The demo on a model, run once, and its folder."""

    @cache
    def run(folder: Path) -> tuple[Findings, Path]:
        model, out = ck.load(folder), tmp_path_factory.mktemp(folder.name)
        return demonstrate(model, pairs_of(model, None, 48), out, progress=False), out

    return run


def test_the_demo_says_what_the_readme_quotes(demonstrated):
    blocks = re.findall(r"```text\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    quoted = next(text for text in blocks if text.startswith("deductor-1m prefers"))
    findings, _ = demonstrated(embedded.path("deductor-1m"))
    # Loaded by its name there, by its folder here.
    assert "\n".join(replace(findings, model="deductor-1m").sentences()).startswith(quoted.strip())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_demo_says_what_it_found_and_replicates_where_the_task_is_solved(folder, demonstrated):
    findings, out = demonstrated(folder)
    sentences = findings.sentences()
    assert (out / "findings.txt").read_text().splitlines() == sentences
    assert sentences[1].startswith("Nothing was found") == (not findings.found)
    claimed = any(sentence.endswith("the found heads carry the proof.") for sentence in sentences)
    if not findings.found:
        assert not claimed
        return
    assert findings.solves
    assert findings.agreement >= 0.6, sentences
    assert sentences[1].startswith(f"{len(findings.found)} of ")
    assert all(f"layer {layer} head {head} (" in sentences[1] for layer, head in findings.found)
    control = findings.joint
    assert claimed == (control is not None and control.observed > max(control.controls) and control.p <= SURE)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", planted.names())
def test_denoising_heads_names_the_planted_ones_whatever_the_seed(name, seed):
    plant = planted.build(name, seed)
    drawn = plant.pairs(24, seed)
    pairs = ck.Pairs(drawn.clean, drawn.corrupt, drawn.answer, drawn.distractor)
    result = ck.patching.sweep(ck.Model(plant.model, plant.tokenizer), pairs, over="z", seed=seed, progress=False)
    assert set(carrying(result)) == set(plant.heads)
