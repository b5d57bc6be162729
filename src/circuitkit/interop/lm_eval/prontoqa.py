"""What the YAML files of PrOntoQA-OOD under `tasks/` call: its documents, and its judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.registry import model_registry

from circuitkit.interop.lm_eval.bridging import documents_of, judged_by, splits_of
from circuitkit.tasks.prontoqa import task
from circuitkit.tasks.prontoqa.judges import PROOF_JUDGES
from circuitkit.tasks.task import Item

# lm-eval's own command reads a task's file before it looks for the model, and so learns of it.
if "circuitkit" not in model_registry:
    model_registry.register("circuitkit", target="circuitkit.interop.lm_eval.harness_model:HarnessModel")


def documents(rule: str, hops: int = 1, shots: int = 8, n: int = 100, seed: int = 0, **_: Any) -> dict[str, Any]:
    """The questions of a rule as `circuitkit.tasks.prontoqa.task` draws them, with lm-eval's `--metadata` as arguments.

    >>> documents("ModusPonens", shots=0, n=2)["test"]["prompt"][0].startswith("Q: ")
    True
    """
    drawn = task(rule, int(hops), int(shots), int(n), int(seed))
    found: dict[str, Any] = splits_of(documents_of(drawn, None), ("test",))()
    return found


def _item(document: Mapping[str, Any]) -> Item:
    return Item(document["key"], document["question"], document["gold"])


_judged = judged_by(PROOF_JUDGES, _item)


def judged(document: Mapping[str, Any], responses: Sequence[str]) -> dict[str, int]:
    """What the judges of proofs say of a response, and whether it is unparseable."""
    return _judged(document, responses)
