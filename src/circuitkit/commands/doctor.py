"""`circuitkit doctor`: whether a model and its tap can be trusted on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from circuitkit.commands.loading import LoadAs, load


def doctor(
    model: str,
    *,
    prompts: Annotated[list[str] | None, Parameter(negative="")] = None,
    out: Path | None = None,
    load_as: LoadAs | None = None,
) -> int:
    """Check a model before studying it; the exit status is 1 where a check fails.

    Every figure is the largest difference on real tokens, relative to the standard deviation of what is compared, and
    is held against what rounding explains: 5e-4 in float32, 3e-2 in float16, 2e-1 in bfloat16.

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a planted one (planted-induction-llama), a folder, or a hub id.
    prompts
        Texts to run; random token ids in rows of unequal length if not given.
    out
        File for the table (CSV).
    """
    from circuitkit.doctor import examine
    from circuitkit.records import whole_file

    examination = examine(load(model, load_as), prompts)
    print(examination.table())
    if out is not None:
        with whole_file(out) as beside:
            examination.frame.to_csv(beside, index=False)
    return 0 if examination.ok else 1
