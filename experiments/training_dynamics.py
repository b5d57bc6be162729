"""Which heads appear, stay and vanish while a model learns to reason, and does that go with its reward?

    python experiments/training_dynamics.py --out FOLDER --preset small
    python experiments/training_dynamics.py --out FOLDER --preset full --workers 2
    python experiments/training_dynamics.py --out FOLDER --preset small --methods sft grpo --seeds 0 1 2

"Thinking Sparks!" (arXiv 2509.25758) says that distillation and SFT add many heads for good, while GRPO adds few, which
come and go with the reward. It follows one training of each, from bases that differ, and tests nothing. Here an
embedded base is fine-tuned until it is sometimes right, and from there trained on by SFT, by distillation from a larger
model and by GRPO, with several seeds each. Every few steps: how often it is right, and its circuit of a deduction.

It writes `report.md`, the page that says what was found; tables as CSV (`checkpoints`, `heads`, `methods`,
`complexity`, `correlations`: whether heads go with accuracy, tested by permuting blocks of checkpoints); figures as
PNG and SVG; `provenance.json`. Run again with the same `--out`, it goes on where it was stopped.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cyclopts
from cyclopts import Parameter
from dynamics.plans import PRESETS, Method
from dynamics.report import study
from emergence.study import Running

app = cyclopts.App(help=__doc__, help_format="plaintext", default_parameter=Parameter(consume_multiple=True))


@app.default
def main(
    *,
    out: Path,
    preset: Literal["quick", "small", "full"] = "small",
    base: str | None = None,
    methods: tuple[Method, ...] = (),
    seeds: tuple[int, ...] = (),
    steps: int | None = None,
    every: int | None = None,
    warm: int | None = None,
    block: int | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Train one start in several ways, and follow the heads of its circuit.

    Parameters
    ----------
    out
        Folder for the page, tables and figures, and for trainings and graphs that are gone on with.
    preset
        How much is run: "quick" is a test of a minute; "small" takes some minutes; "full" is the study.
    base
        An embedded base, where not the preset's.
    methods
        Of sft, distillation and grpo, those that are run; all if not given.
    seeds
        Of each training, where not the preset's.
    steps
        Of each training.
    every
        Steps from one circuit to the next.
    warm
        Steps of fine-tuning before the common start; 0 starts from the base itself, which earns no reward if it is
        never right.
    block
        Checkpoints in a permuted block; found from the curves' autocorrelation if not given.
    workers
        Processes that run cells.
    progress
        Show bars.
    """
    started = time.monotonic()
    changed: dict[str, Any] = {
        "base": base, "seeds": seeds or None, "steps": steps, "every": every, "warm": warm, "block": block,
    }  # fmt: skip
    changed = {name: value for name, value in changed.items() if value is not None}
    try:
        plan = replace(PRESETS[preset], **changed)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if methods:
        plan = replace(plan, ways={method: plan.ways[method] for method in methods})
    study(plan, Running(out, workers, progress), started)


if __name__ == "__main__":
    app()
