"""Evaluations made by hand, as a study would keep them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from circuitkit.evaluation import Evaluation
from circuitkit.evaluation.responses import Response
from circuitkit.tasks import prontoqa
from circuitkit.tasks.prontoqa.judges import PROOF_JUDGES
from circuitkit.tasks.task import Item, Judgement


def choices(model: str, said: Sequence[str | None], **more: object) -> Evaluation:
    """Answers to questions of one letter, of which "a" is always right; None is no answer."""
    items = tuple(
        Item(f"q{i:03d}", f"Question {i}?", "a", groups={"kind": ("even", "odd")[i % 2]}) for i in range(len(said))
    )
    responses = tuple(
        Response(item.key, 0, 0, item.question, each or "", each or "", 1, each is None, 0.1, _judged(each))
        for item, each in zip(items, said, strict=True)
    )
    told: dict[str, object] = {"decoding": "clean", "shots": 0, "chance": 0.2} | more
    return Evaluation(model, "letters", items, ("exact",), responses, **told)  # type: ignore[arg-type]


def _judged(said: str | None) -> dict[str, Judgement]:
    return {"exact": Judgement(said == "a", said)}


def proofs(model: str, written: Mapping[int, str], n: int = 4) -> Evaluation:
    """Proofs of deductions: the gold ones, but for those that are written here."""
    task = prontoqa.task("implication_elimination", hops=2, shots=0, n=n)
    responses = []
    for number, item in enumerate(task.items):
        text = written.get(number, f" {item.gold}")
        judgements = {name: judge(item, text) for name, judge in PROOF_JUDGES.items()}
        responses.append(Response(item.key, 0, 0, item.question, text, text, 9, False, 0.1, judgements))
    return Evaluation(model, task.name, task.items, tuple(PROOF_JUDGES), tuple(responses), "clean", 0)
