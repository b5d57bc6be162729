"""What `who_reasons.py` runs: pairs of models, and how many controls, seeds and trainings, by preset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from stethoscope.asking import Asked, Contest, Deductions, TaughtProofs, TaughtTraces
from stethoscope.cells import Taught, Way
from stethoscope.changing import How

Direction = Literal["into A", "back into B"]
DIRECTIONS: tuple[Direction, ...] = ("into A", "back into B")
"""Modules of B put into A: do they suffice? Modules of A put back into B: are they needed?"""


@dataclass(frozen=True)
class Pair:
    """A base and its reasoning twin.

    Attributes:
        name: what tables call the two.
        a: the base, by name.
        b: the reasoning twin; or several, one a seed, where the study trained it itself.
        controls: draws of slices for o_proj, on which the page's answer hangs.
        others: draws of slices for the other sets.
        rows: draws of random rows for o_proj.
        destroyed: draws of controls for each destruction; 0 destroys nothing.
        reference: an intact model that can do the task, which tells the levels of answers; b if None.
    """

    name: str
    a: str
    b: tuple[str, ...]
    controls: int = 39
    others: int = 39
    rows: int = 19
    destroyed: int = 0
    reference: str | None = None

    def hosts(self, direction: Direction, seeds: Sequence[int]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Which model is changed, out of which weights are taken, and the seeds that are asked of it."""
        for b, own in self.twins(seeds):
            yield (self.a, b, own) if direction == "into A" else (b, self.a, own)

    def twins(self, seeds: Sequence[int]) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Each reasoning twin with its seeds."""
        if len(self.b) == 1:
            yield self.b[0], tuple(seeds)
            return
        for b, seed in zip(self.b, seeds, strict=True):
            yield b, (seed,)


@dataclass(frozen=True)
class Freezing:
    """What is trained in part.

    Attributes:
        base: by name.
        reference: an intact model that can do the task, which tells the levels of answers.
        taught: what it learns.
        way: how, where a part is trained.
        whole: how, where all of it is; a rate that trains a part well is too high for the whole.
        seeds: of trainings; each asks its own questions.
        controls: random sets of whole matrices with as many parameters as o_proj, each trained with every seed.
        near: whether the fully trained models are a pair of the study too, and with how many controls.
    """

    base: str
    reference: str
    taught: Taught
    way: Way
    whole: Way
    seeds: tuple[int, ...] = (0, 1, 2)
    controls: int = 8
    near: Pair | None = None


@dataclass(frozen=True)
class Plan:
    """All that is run.

    Attributes:
        pairs: of models that there are.
        asked: what they are asked.
        seeds: of questions or tokens, and of random fillings.
        freezing: bases that are trained; none leaves Freeze out.
        hows: ways to destroy.
        sigma: standard deviation of re-initialised weights.
        each_layer: whether each layer is destroyed alone; else a stretch of them, the share that the paper destroyed.
        loading: how models are loaded: `dtype` and `device_map`, as in `ck.load`.
    """

    pairs: tuple[Pair, ...]
    asked: Asked
    seeds: tuple[int, ...] = (0, 1, 2)
    freezing: tuple[Freezing, ...] = ()
    hows: tuple[How, ...] = ("zero", "reinit", "noise", "remove")
    sigma: float = 0.02
    each_layer: bool = True
    loading: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < 3:
            raise ValueError(f"seeds {self.seeds} are too few for an interval: give three at least, each another")
        for pair in self.pairs:
            if len(pair.b) not in (1, len(self.seeds)):
                raise ValueError(
                    f"{pair.name} has {len(pair.b)} twins for {len(self.seeds)} seeds: give one, or one each"
                )


def stretch(layers: int) -> tuple[int, ...]:
    """The layers that stand where blocks 5 to 29 of the paper's 64 do.

    >>> stretch(64) == tuple(range(5, 30)), stretch(28)[0], stretch(28)[-1]
    (True, 2, 12)
    """
    return tuple(range(round(5 / 64 * layers), max(round(30 / 64 * layers), 1)))


def twins(size: str, **settings: int) -> Pair:
    """The embedded twins of a size."""
    return Pair(f"deductor-{size}", f"deductor-{size}-base", (f"deductor-{size}-reason",), **settings)


def trainings(steps: int, rates: tuple[float, ...]) -> Way:
    """How an embedded base is trained on proofs."""
    return Way(rates, {"text": "plain", "epochs": 3, "max_steps": steps, "evaluate_every": steps})


NEAR = "trained here"
"""Pairs of a base and what the study itself made of it."""

FULL = Plan(
    pairs=(
        twins("130k", controls=199, others=19, rows=39, destroyed=19),
        twins("400k", controls=39, others=4, rows=4),
        twins("1m", controls=19, others=2, rows=2),
    ),
    asked=Deductions(n=12),
    freezing=(
        Freezing(
            "deductor-130k-base",
            "deductor-130k-reason",
            TaughtProofs(),
            way=trainings(200, (1e-2, 3e-2)),
            whole=trainings(200, (5e-3,)),
            controls=19,
            near=Pair(f"deductor-130k {NEAR}", "deductor-130k-base", (), controls=199, others=19, rows=39),
        ),
    ),
    hows=("zero", "reinit", "remove"),
)
SMALL = Plan(
    pairs=(twins("20k", controls=9, others=3, rows=3, destroyed=3),),
    asked=Deductions(n=5, texts=24),
    freezing=(
        Freezing(
            "deductor-130k-base",
            "deductor-130k-reason",
            TaughtProofs(n=320),
            way=trainings(60, (3e-2,)),
            whole=trainings(60, (1e-2,)),
            controls=3,
            near=Pair(f"deductor-130k {NEAR}", "deductor-130k-base", (), controls=9, others=3, rows=3),
        ),
    ),
    hows=("zero", "reinit", "remove"),
)
PRESETS = {"small": SMALL, "full": FULL}


def hub_plan(
    a: str, b: str, task: str | None, fluency: Path | None, traces: str | None, asking: Mapping[str, Any]
) -> Plan:
    """The plan of a pair of one's own, asked a task, or deductions where none is named.

    Args:
        asking: settings of `Contest`.
    """
    pair = Pair(f"{Path(a).name} and {Path(b).name}", a, (b,), controls=19, others=4, rows=4, destroyed=4)
    if task is None or fluency is None:
        return Plan((pair,), Deductions())
    way = Way((1e-5,), {"device_batch_size": 1})
    freezing = () if traces is None else (Freezing(a, b, TaughtTraces(traces), way, way, controls=2),)
    return Plan((pair,), Contest(task, fluency, **asking), freezing=freezing, each_layer=False)


def but(
    plan: Plan,
    seeds: tuple[int, ...],
    controls: int | None,
    questions: int | None,
    loading: Mapping[str, str] | None = None,
) -> Plan:
    """A plan with what the command line says otherwise."""
    if controls is not None and controls < 1:
        raise SystemExit(f"--controls {controls} leaves nothing to hold modules against: give one at least")

    def with_controls(pair: Pair) -> Pair:
        if controls is None:
            return pair
        fewer = max(1, controls // 5)
        return replace(pair, controls=controls, others=fewer, rows=fewer, destroyed=min(pair.destroyed, controls))

    freezing = tuple(
        replace(each, seeds=seeds, near=None if each.near is None else with_controls(each.near))
        for each in plan.freezing
    )
    asked = plan.asked
    if questions is not None:
        if not isinstance(asked, Deductions):
            raise SystemExit("--questions counts deductions: a task has its own, of which --limit takes the first")
        asked = replace(asked, n=questions)
    pairs = tuple(with_controls(pair) for pair in plan.pairs)
    return replace(plan, pairs=pairs, freezing=freezing, asked=asked, seeds=seeds, loading=dict(loading or {}))
