"""What the two studies are made of: the embedded family with its presets, and models of the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import circuitkit as ck
from eliciting.cells import Method
from eliciting.proofs import Proofs, Questions
from eliciting.study import Plan, Study, Twins
from eliciting.traces import Contest, Traces

SIZES = ("5k", "20k", "60k", "130k", "400k", "1m")
# Adam's steps are about as long as the learning rate whatever the gradient, and these models' weights are some ten
# times as large as those of billions of parameters: the paper's 1e-5 would not move them in 300 steps.
RATES: Mapping[Method, tuple[float, ...]] = {"full": (1e-3, 3e-3), "lora": (1e-2, 3e-2)}

FULL = Plan(RATES, steps=200, every=20)
SMALL = Plan({"full": (3e-3,), "lora": (3e-2,)}, examples=(29, 232), seeds=(0, 1), steps=150, every=15, tokens=500)
PLANS = {"small": (SMALL, SIZES[1:4], Questions(n=20)), "full": (FULL, SIZES, Questions(n=40))}

JUDGED = {"headline": "proofs found", "strict": "proofs strictly right"}


def family_study(
    out: Path,
    preset: str,
    changed: Mapping[str, Any],
    workers: int | None,
    rates: tuple[float, ...] = (),
    lora_rates: tuple[float, ...] = (),
) -> Study:
    """The study of the embedded family, by one of its presets, at the preset's learning rates or at others."""
    plan, sizes, asked = PLANS[preset]
    plan = replace(plan, rates={"full": rates or plan.rates["full"], "lora": lora_rates or plan.rates["lora"]})
    twins = [Twins(size, f"deductor-{size}-base", f"deductor-{size}-reason") for size in sizes]
    return Study(twins, Proofs(), asked, replace(plan, **changed), JUDGED, out, workers)


def hub_study(
    out: Path,
    models: Sequence[str],
    data: str,
    task: str,
    changed: Mapping[str, Any],
    workers: int | None,
    *,
    rates: Mapping[Method, tuple[float, ...]],
    max_new_tokens: int,
    limit: int | None,
    device_batch_size: int,
) -> Study:
    """The same study of models of the hub, taught traces and asked a contest, as in the paper."""
    twins, taught = [_twins(pair) for pair in models], Traces(data)
    if len({each.size for each in twins}) < len(twins):
        raise SystemExit(
            f"two bases of --models have one name, of {', '.join(each.size for each in twins)}: tables tell them apart "
            "by the last part alone"
        )
    asked = Contest(task, taught, max_new_tokens=max_new_tokens, limit=limit)
    plan = Plan(rates, seeds=(0,), every=20, text="chat", memory_batch=device_batch_size)
    judge = next(iter(ck.tasks.load(task).judges))
    return Study(twins, taught, asked, replace(plan, **changed), {judge: task}, out, workers)


def _twins(pair: str) -> Twins:
    base, colon, skyline = pair.partition(":")
    if not colon or not base or not skyline:
        raise SystemExit(f"--models takes pairs BASE:SKYLINE, and {pair!r} is none")
    return Twins(Path(base).name, base, skyline)
