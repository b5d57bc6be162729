"""Responses that were labelled by hand, as evaluations; as a program, their agreement with the criterion.

python tests/sfn/response_levels/labelled.py deductor-400k
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import circuitkit as ck
from circuitkit.evaluation import Evaluation, Response
from circuitkit.sfn.response_levels.agreement import Agreement
from circuitkit.tasks.prontoqa.judges import DECISION_JUDGES, PROOF_JUDGES
from circuitkit.tasks.task import Item

FOLDER = Path(__file__).parent
HELD_OUT, TUNED_ON = FOLDER / "labelled.jsonl", FOLDER / "tuned_on.jsonl"


def rows(path: Path = HELD_OUT) -> list[dict[str, Any]]:
    """The labelled responses, a row each."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def evaluation(some: list[dict[str, Any]]) -> Evaluation:
    """Labelled responses of one kind of question as an evaluation, judged anew."""
    judges = PROOF_JUDGES if some[0]["mode"] == "proof" else DECISION_JUDGES
    items, responses = [], []
    for row in some:
        item = Item(row["key"], row["question"], row["gold"], groups={"kind": row["kind"]})
        found = {name: judge(item, row["response"]) for name, judge in judges.items()}
        text, n = row["response"], row["n_tokens"]
        responses.append(Response(row["key"], 0, 0, row["prompt"], text, text, n, row["truncated"], 0.0, found))
        items.append(item)
    return Evaluation("labelled", some[0]["mode"], tuple(items), tuple(judges), tuple(responses), "several", 0)


def graded(
    reference: ck.Model, path: Path = HELD_OUT, some: list[dict[str, Any]] | None = None
) -> tuple[list[ck.sfn.Levels], Agreement]:
    """The levels of labelled responses (all, or some), proofs and decisions apart, and how well they agree."""
    chosen = rows(path) if some is None else some
    given = {row["key"]: row["level"] for row in chosen}
    found = []
    for mode in ("proof", "direct"):
        found.append(
            ck.sfn.levels(evaluation([row for row in chosen if row["mode"] == mode]), reference, progress=False)
        )
    agreements = [each.agreement({g.answer.key: given[g.answer.key] for g in each.graded}) for each in found]
    together = Agreement(*(sum((getattr(each, name) for each in agreements), ()) for name in ("levels", "labels")))
    return found, together


if __name__ == "__main__":
    reference = ck.load(sys.argv[1])
    for file in (TUNED_ON, HELD_OUT):
        levels, agreement = graded(reference, file)
        print(f"{file.name}: {agreement}\n{agreement.confusion}")
        by_hand = {row["key"]: row["level"] for row in rows(file)}
        for each in (one for part in levels for one in part.graded):
            if each.level != by_hand[each.answer.key]:
                print(f"  {each.answer.key} by hand {by_hand[each.answer.key]}, {each.level}: {each.reason}")
