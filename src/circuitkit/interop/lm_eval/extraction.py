"""Whether the harness could read an answer out of a response, beside whether it was right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from circuitkit.interop.lm_eval.bridging import UNPARSEABLE
from circuitkit.tasks.answers import harness
from circuitkit.tasks.task import Item

INVALID = "[invalid]"
"""What lm-eval's regex filters give for a response in which they find nothing."""


def extracted(told: Mapping[str, Any], sample: Mapping[str, Any]) -> bool | None:
    r"""Whether a response has an answer that the task's rules read; None where the task has no such rules.

    A filter of regexes has found something or not; a task of circuitkit has its judge. AIME's task has neither, and
    compares a whole response where it has neither \boxed{} nor dollars: there an answer is read where what is compared
    is a whole number.

    Args:
        told: the task's configuration.
        sample: what lm-eval logged of the response.

    >>> aime = {"process_results": type("", (), {"__module__": "lm_eval.tasks.aime.utils"})}
    >>> said = (r"\boxed{073}", "So $n = 73$", " 73", "The answer is 73.")
    >>> [extracted(aime, {"filter": "none", "filtered_resps": [each]}) for each in said]
    [True, True, True, False]
    """
    read = sample["filtered_resps"][0]
    if UNPARSEABLE in sample:
        return not sample[UNPARSEABLE]
    if getattr(told.get("process_results"), "__module__", "").endswith("aime.utils"):
        return _is_number(str(read))
    if any(_finds(part) for each in told.get("filter_list") or () for part in each["filter"]):
        return bool(read != INVALID)
    return None


def _finds(part: Mapping[str, Any]) -> bool:
    return "regex" in str(part.get("function"))


def _is_number(response: str) -> bool:
    said = harness.aime(Item("", "", "0"), response).said
    try:
        return said is not None and harness.canonical(said).isdecimal()
    except ValueError:
        return False
