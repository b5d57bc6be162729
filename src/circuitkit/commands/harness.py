"""`circuitkit eval MODEL --harness TASK`: lm-evaluation-harness asks its own tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuitkit.interop.lm_eval import HarnessEvaluation
    from circuitkit.model import Model
    from circuitkit.run.interventions import Intervention


def refuse(given: Mapping[str, bool]) -> None:
    """Refuse options that lm-eval's tasks do not have.

    Raises:
        ValueError: one is given.

    >>> refuse({"--shots": False})
    """
    if named := [option for option, is_given in given.items() if is_given]:
        raise ValueError(f"{named[0]} is for --task: lm-eval's tasks have their own, so leave it out with --harness")


def ask(
    model: Model,
    tasks: Sequence[str],
    held: Sequence[Intervention],
    temperature: float,
    generation: Mapping[str, Any],
    own: Mapping[str, str],
    out: Path,
    *,
    think: bool | None,
    batch_size: int | None,
    **asking: Any,
) -> None:
    """Run tasks of lm-eval, tell what was found, and keep it in a folder.

    Raises:
        HarnessError, EvaluationError: see `circuitkit.interop.lm_eval.evaluate`.
    """
    from circuitkit import plots
    from circuitkit.evaluation.asking import THOUGHT_ENDS
    from circuitkit.interop.lm_eval import evaluate

    how: dict[str, Any] = {} if batch_size is None else {"batch_size": batch_size}
    if think is not None:
        how |= {"enable_thinking": think, "think_end_token": THOUGHT_ENDS}
    found = evaluate(
        model,
        tasks,
        list(held),
        temperature=temperature,
        generation=generation,
        data=own,
        out=out,
        **asking,
        **how,
    )
    plots.save(found.plot(), out / "harness.png")
    _tell(found, out)


def _tell(found: HarnessEvaluation, out: Path) -> None:
    from circuitkit.interop.lm_eval.outcome import AIME

    print(f"lm-evaluation-harness, {found.model}")
    table = found.table.copy()
    shares = ["mean", "standard_error", "unextracted", "truncated", "cut"]
    table[shares] = (100 * table[shares]).round(1)
    print(table.to_string(index=False))
    if set(AIME) <= set(found.tasks):
        both = found.pooled()
        print(
            f"AIME, both: {100 * both.mean:.1f} %, standard error {100 * both.standard_error:.1f} over {both.n} seeds"
        )
    print(f"shares are in %; runs, table, figure and provenance are in {out}/")
