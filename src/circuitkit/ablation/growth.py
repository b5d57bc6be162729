"""Sets of heads ablated together: given ones, and one grown head by head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from circuitkit.ablation.replacements import How, Replacement
from circuitkit.ablation.study import Heads, Study, head_counts, head_of, head_sites, named_sites
from circuitkit.metrics import Compute, Metric
from circuitkit.model.site import Site
from circuitkit.model.tokens import Prompts
from circuitkit.pairs import Pairs
from circuitkit.results import Result
from circuitkit.run.interventions import Intervention
from circuitkit.statistics import Control, against_controls, matched_heads

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Head = tuple[int, int]
Sets = Mapping[str, Iterable[Head]] | Sequence[Iterable[Head]]


def sets(
    model: Model,
    prompts: Prompts | Pairs,
    sets: Sets,
    how: How = "zero",
    metric: Metric | Compute | str | None = None,
    *,
    factor: float | None = None,
    reference: Prompts | None = None,
    by_position: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Result:
    """Ablate sets of heads, the heads of a set together, and measure what the clean run loses.

    Args:
        sets: lists of `(layer, head)` pairs, named where they come as a mapping.

    The other arguments and the errors are those of `ablation.sweep`.

    Returns:
        A result with the axis `("set",)`, each set labelled by its name or its heads.

    Raises:
        ValueError: there is no set, or one is empty or names a head twice.

    >>> model = ck.load("deductor-130k")
    >>> together = ck.ablation.sets(model, "Every wumpus is a dumpus.", [[(0, 1)], [(0, 1), (2, 3)]], progress=False)
    >>> together.axes, together.labels["set"]
    (('set',), ('0.1', '0.1 2.3'))
    """
    replacement = Replacement(how, factor, reference, by_position, seed)
    named = dict(sets) if isinstance(sets, Mapping) else {str(number): one for number, one in enumerate(sets)}
    members = {name: [head_of(site) for site in named_sites(model, one)] for name, one in named.items()}
    for name, heads in members.items():
        if not heads or len(set(heads)) < len(heads):
            raise ValueError(f"set {name!r} {'names a head twice' if heads else 'is empty'}: {heads}")
    if not members:
        raise ValueError("there is no set of heads to ablate")
    study = Study.of(model, prompts, metric)
    of_head = _of_heads(study, replacement, sorted({head for heads in members.values() for head in heads}))
    cells = [[of_head[head] for head in heads] for heads in members.values()]
    labels = tuple(members) if isinstance(sets, Mapping) else tuple(_text(heads) for heads in members.values())
    return study.result(
        study.measured(cells, f"{how} ablation of sets", progress),
        ("set",),
        f"Ablating sets of heads ({how if factor is None else f'times {factor:g}'})",
        seed,
        labels={"set": labels},
        study="ablation.sets",
        how=how,
        sets=[[list(head) for head in heads] for heads in members.values()],
    )


@dataclass(frozen=True, eq=False)
class Growth:
    """A set of heads grown one at a time, each set's joint ablation beside that of random sets.

    Attributes:
        heads: the heads in the order in which they were added.
        result: the joint ablation of the first head, the first two, …; axis `("size",)`, counted from 1.
        controls: at each size, the set's mean effect beside those of random sets with as many heads in each layer; None
            where no other set has them.
        disjoint: at each size, whether the random sets avoid the grown one altogether, as they do where its layers
            have heads enough.
    """

    heads: tuple[Head, ...]
    result: Result
    controls: tuple[Control | None, ...]
    disjoint: tuple[bool, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """A row a size: the head added, the set's effect, and the mean, range and p of the random sets."""
        frame = self.result.frame.drop(columns="size_label")
        frame.insert(1, "head", [head for _, head in self.heads])
        frame.insert(1, "layer", [layer for layer, _ in self.heads])
        for name in ("mean", "low", "high", "p"):
            frame[f"control_{name}"] = [np.nan if each is None else getattr(each, name) for each in self.controls]
        frame["control_sets"] = [0 if each is None else len(each.controls) for each in self.controls]
        frame["control_disjoint"] = list(self.disjoint)
        return frame


def grow(
    model: Model,
    prompts: Prompts | Pairs,
    size: int,
    how: How = "zero",
    metric: Metric | Compute | str | None = None,
    *,
    heads: Heads = "all",
    controls: int = 20,
    factor: float | None = None,
    reference: Prompts | None = None,
    by_position: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Growth:
    """Grow a set of heads greedily: at each step comes the head whose ablation, with those before, costs most.

    What costs is a fall of the metric, or a rise where it is a divergence or a loss (`Metric.higher_is_better`). A set is
    grown on the prompts that it is measured on, so its effect is an optimistic one; measure it again on others with
    `ablation.sets`.

    Args:
        size: how many heads.
        heads: which to choose from.
        controls: how many random sets, matched in layer and number, to set beside each size; drawn by the seed.

    The other arguments and the errors are those of `ablation.sweep`.

    Raises:
        ValueError: the size is not between 1 and the number of heads, or there are to be no controls.

    >>> growth = grow(ck.load("deductor-130k"), ["Every wumpus is a dumpus."], 2, controls=3, progress=False)
    >>> len(growth.heads), tuple(growth.result.values.shape)
    (2, (2,))
    """
    replacement = Replacement(how, factor, reference, by_position, seed)
    candidates = [head_of(site) for site in head_sites(model, heads)]
    if not 1 <= size <= len(candidates):
        raise ValueError(f"a set of {size} heads cannot be grown from {len(candidates)}")
    if controls < 1:
        raise ValueError(f"a grown set is read beside random ones, so controls is 1 or more, not {controls}")
    study = Study.of(model, prompts, metric)
    of_head = _of_heads(study, replacement, [head_of(site) for site in head_sites(model, "all")])
    sign = -1 if study.metric.higher_is_better else 1
    grown: list[Head] = []
    steps = []
    for step in range(size):
        left = [head for head in candidates if head not in grown]
        cells = [[of_head[head] for head in (*grown, added)] for added in left]
        values = study.measured(cells, f"growing the set, head {step + 1}", progress)
        best = int((sign * values.mean(-1)).argmax())
        grown.append(left[best])
        steps.append(values[best])
    result = study.result(
        torch.stack(steps),
        ("size",),
        f"Ablating a grown set of heads ({how if factor is None else f'times {factor:g}'})",
        seed,
        coordinates={"size": tuple(range(1, size + 1))},
        labels={"size": tuple(f"+{layer}.{head}" for layer, head in grown)},
        study="ablation.grow",
        how=how,
        heads=[list(head) for head in grown],
    )
    beside = [
        _control(study, of_head, grown[: step + 1], float(result.effects[step]), controls, seed, progress)
        for step in range(size)
    ]
    return Growth(tuple(grown), result, tuple(control for control, _ in beside), tuple(apart for _, apart in beside))


def _control(
    study: Study,
    of_head: Mapping[Head, Intervention],
    grown: Sequence[Head],
    effect: float,
    draws: int,
    seed: int,
    progress: bool,
) -> tuple[Control | None, bool]:
    """A set's effect beside those of random sets, and whether these share no head with it."""
    counts = head_counts(study.model)
    inside = [sum(layer == at for layer, _ in grown) for at in range(len(counts))]
    if all(count in (0, counts[at]) for at, count in enumerate(inside)):
        return None, False
    disjoint = all(2 * count <= counts[at] for at, count in enumerate(inside))
    others = matched_heads(grown, counts, draws=draws, seed=seed, disjoint=disjoint)
    cells = [[of_head[head] for head in one] for one in others]
    values = study.measured(cells, f"random sets of {len(grown)}", progress)
    effects = (study.baseline.clean - values).mean(-1).tolist()
    return against_controls(effect, effects), disjoint


def _of_heads(study: Study, replacement: Replacement, heads: Sequence[Head]) -> dict[Head, Intervention]:
    sites: list[Site] = head_sites(study.model, heads)
    return {head_of(site): each for site, each in replacement.at(study.model, study.tokens, sites).items()}


def _text(heads: Sequence[Head]) -> str:
    return " ".join(f"{layer}.{head}" for layer, head in heads)
