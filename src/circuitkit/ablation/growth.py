"""A set of heads grown head by head, each time by the one whose ablation, with those before, costs most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch

from circuitkit.ablation.head_sites import Heads, head_of, head_sites
from circuitkit.ablation.joint import Head, Joint, controls_of, interventions_of
from circuitkit.ablation.replacements import How, Replacement
from circuitkit.metrics import Compute, Metric
from circuitkit.model.tokens import Prompts
from circuitkit.pairs import Pairs
from circuitkit.random_sets import RandomSets
from circuitkit.study import Study

if TYPE_CHECKING:
    from circuitkit.model.model import Model


class Growth(Joint):
    """A set of heads grown one at a time, each set's joint ablation beside that of random sets.

    Attributes:
        sets: the first head, the first two, …
        result: their joint ablation; axis `("size",)`, counted from 1.
        disjoint: as of `Joint`.
    """

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads in the order in which they were added."""
        return self.sets[-1]

    @property
    def frame(self) -> pd.DataFrame:
        """A row a size: the head added, the set's effect, and the mean, range and p of the random sets."""
        frame = super().frame.drop(columns="size_label")
        frame.insert(1, "head", [head for _, head in self.heads])
        frame.insert(1, "layer", [layer for layer, _ in self.heads])
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

    What costs is a fall of the metric, or a rise where it is a divergence or a loss (see `Metric.higher_is_better`). A
    set is grown on the prompts that it is measured on, so its effect is an optimistic one; measure it again on others
    with `ablation.sets`.

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
    study = Study.of_prompts(model, prompts, metric)
    of_head = interventions_of(study, replacement, [_whole_layers(model, candidates)])
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
    sets = tuple(tuple(grown[: step + 1]) for step in range(size))
    random = RandomSets.beside(model, [tuple(head_sites(model, one)) for one in sets], controls, seed)
    result = study.result(
        torch.stack(steps),
        ("size",),
        f"Ablating a grown set of heads ({replacement})",
        seed,
        coordinates={"size": tuple(range(1, size + 1))},
        labels={"size": tuple(f"+{layer}.{head}" for layer, head in grown)},
        controls=controls_of(study, of_head, random, torch.stack(steps), progress),
        study="ablation.grow",
        how=how,
        heads=[list(head) for head in grown],
    )
    return Growth(sets, result, random.disjoint)


def _whole_layers(model: Model, heads: Sequence[Head]) -> list[Head]:
    """All heads of the layers that some are in, of which random sets are drawn."""
    return [(layer, head) for layer in sorted({layer for layer, _ in heads}) for head in range(model.n_heads(layer))]
