"""The judge against published data: 1,800 gold proofs, and what eleven models answered in 114 runs of 100."""

import json
import os
from pathlib import Path
from random import Random

import pytest

import circuitkit as ck
from circuitkit.tasks.prontoqa.parsing import sentences

pytestmark = pytest.mark.skipif(
    "CIRCUITKIT_DATA" not in os.environ,
    reason="CIRCUITKIT_DATA names no folder with prontoqa/prompts.json and the models' answers beside it",
)
judge = ck.tasks.prontoqa.judge
FOLDER = Path(os.environ.get("CIRCUITKIT_DATA", "")) / "prontoqa"


@pytest.fixture(scope="module")
def published() -> dict[str, dict[str, list[str]]]:
    return json.loads((FOLDER / "prompts.json").read_text())


@pytest.fixture(scope="module")
def golds(published) -> list[tuple[str, str]]:
    return [pair for run in published.values() for pair in zip(run["prompts"], run["gold"], strict=True)]


@pytest.fixture(scope="module")
def runs(published) -> list[tuple[dict, list[ck.tasks.prontoqa.Verdict]]]:
    told = [json.loads(line) for path in sorted(FOLDER.glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [
        (run, [judge(*pair) for pair in zip(published[run["prompts"]]["prompts"], run["predictions"], strict=True)])
        for run in told
    ]


def flipped(sentence: str) -> str:
    for verb in (" is", " are"):
        if f"{verb} not " in sentence:
            return sentence.replace(f"{verb} not ", f"{verb} ", 1)
    return sentence.replace(" is ", " is not ", 1).replace(" are ", " are not ", 1)


def test_every_gold_is_strictly_correct_and_sound(golds):
    verdicts = [judge(*pair) for pair in golds]
    assert len(verdicts) == 1800
    assert all(verdict.correct and verdict.strict and verdict.sound for verdict in verdicts)
    assert {step.verdict for verdict in verdicts for step in verdict.steps} == {"correct"}


@pytest.mark.parametrize(("share", "field"), [("judged_correct", "correct"), ("judged_strictly_correct", "strict")])
def test_the_shares_are_those_of_the_published_analysis(runs, share, field):
    known = [(run, verdicts) for run, verdicts in runs if run[share] is not None]
    ours = [sum(getattr(verdict, field) for verdict in verdicts) / len(verdicts) for _, verdicts in known]
    # Shares of 100 answers differ by whole hundredths.
    off = [
        (run["model"], run["finetuned"], run["rule"], run["shots"], run[share], mine)
        for (run, _), mine in zip(known, ours, strict=True)
        if round(100 * abs(run[share] - mine)) > 1
    ]
    assert len(known) >= 113
    assert len(off) <= 0.02 * len(known), off


def test_sound_answers_are_strict_and_strict_ones_correct(runs):
    verdicts = [verdict for _, verdicts in runs for verdict in verdicts]
    assert len(verdicts) == 11_400
    assert all(verdict.correct >= verdict.strict >= verdict.sound for verdict in verdicts)
    # The published scorer accepts proofs by cases whose cases rest on themselves.
    assert 0 < sum(verdict.strict and not verdict.sound for verdict in verdicts) < 0.02 * len(verdicts)


def test_golds_with_a_step_dropped_or_flipped_or_put_after_the_next_are_not_sound(golds):
    random = Random(0)
    for prompt, gold in golds:
        steps = sentences(gold)
        place = random.randrange(len(steps))
        dropped = [*steps[:place], *steps[place + 1 :]]
        if steps[place] not in dropped:
            assert not judge(prompt, " ".join(dropped)).sound
        if not steps[place].startswith(("Assume", "This", "Since")) and steps.count(steps[place]) == 1:
            denied = [*steps[:place], flipped(steps[place]), *steps[place + 1 :]]
            assert not judge(prompt, " ".join(denied)).sound
        late = [steps[-1], *steps[:-1]]
        assert not judge(prompt, " ".join(late)).sound


def test_golds_with_a_hypothesis_left_open_are_not_correct(golds):
    opened = [(prompt, sentences(gold)) for prompt, gold in golds if gold.strip().startswith("Assume")]
    assert len(opened) == 600
    for prompt, steps in opened:
        assert not judge(prompt, " ".join(steps[: next(i for i, s in enumerate(steps) if i and "Assume" in s)])).correct
        assert not judge(prompt, " ".join(steps[:-1])).correct
