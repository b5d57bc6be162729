"""Answers that a study keeps to be read: of every kind some, asked once."""

from __future__ import annotations

import answers_to_read

from circuitkit.evaluation import Evaluation
from circuitkit.tasks import prontoqa


def test_some_answers_of_every_kind_are_kept_and_asked_once(tmp_path):
    task = prontoqa.task(["implication_elimination", "conjunction_introduction"], shots=0, n=3)
    answers_to_read.keep({"5k / base": "deductor-5k-base"}, task, tmp_path, each=2, max_new_tokens=4)
    folder = tmp_path / "read" / "5k-base"
    found = Evaluation.load(folder)
    assert [item.key for item in found.items] == [task.items[i].key for i in (0, 1, 3, 4)]
    before = (folder / "evaluation.json").stat().st_mtime_ns
    answers_to_read.keep({"5k / base": "deductor-5k-base"}, task, tmp_path, each=2, max_new_tokens=4)
    assert (folder / "evaluation.json").stat().st_mtime_ns == before
