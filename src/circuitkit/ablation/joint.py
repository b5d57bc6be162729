"""Sets of heads ablated together, each beside random sets that are matched in layer and number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from circuitkit.ablation.head_sites import head_counts, head_of, head_sites, named_sites
from circuitkit.ablation.replacements import How, Replacement
from circuitkit.metrics import Compute, Metric
from circuitkit.model.tokens import Prompts
from circuitkit.pairs import Pairs
from circuitkit.results import Result
from circuitkit.run.interventions import Intervention
from circuitkit.statistics import Control, against_controls, matched_heads
from circuitkit.study import Study

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Head = tuple[int, int]
Sets = Mapping[str, Iterable[Head]] | Sequence[Iterable[Head]]


@dataclass(frozen=True, eq=False)
class Joint:
    """Sets of heads, each ablated together, beside random sets with as many heads in each layer.

    Attributes:
        sets: the heads of each set.
        result: what ablating each costs; axis `("set",)`.
        controls: each set's mean effect beside those of its random sets; None where no other set has as many heads in
            each layer, or none was asked for.
        disjoint: whether a set's random sets avoid its heads altogether, as they do where its layers have heads enough.
    """

    sets: tuple[tuple[Head, ...], ...]
    result: Result
    controls: tuple[Control | None, ...]
    disjoint: tuple[bool, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """A row a set: the result's columns, and the mean, range and p of the random sets."""
        frame = self.result.frame.copy()
        for name in ("mean", "low", "high", "p"):
            frame[f"control_{name}"] = [np.nan if each is None else getattr(each, name) for each in self.controls]
        frame["control_sets"] = [0 if each is None else len(each.controls) for each in self.controls]
        frame["control_disjoint"] = list(self.disjoint)
        return frame


def sets(
    model: Model,
    prompts: Prompts | Pairs,
    sets: Sets,
    how: How = "zero",
    metric: Metric | Compute | str | None = None,
    *,
    controls: int = 20,
    factor: float | None = None,
    reference: Prompts | None = None,
    by_position: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Joint:
    """Ablate sets of heads, the heads of a set together, and measure what the clean run loses.

    Args:
        sets: lists of `(layer, head)` pairs, named where they come as a mapping.
        controls: how many random sets, matched in layer and number and drawn by the seed, to set beside each; 0 for
            none.

    The other arguments and the errors are those of `ablation.sweep`.

    Raises:
        ValueError: there is no set, one is empty or names a head twice, or there are fewer than 0 controls.

    >>> model = ck.load("deductor-130k")
    >>> together = ck.ablation.sets(model, "Every wumpus is a dumpus.", [[(0, 1)], [(0, 1), (2, 3)]], progress=False)
    >>> together.result.axes, together.result.labels["set"], together.frame["control_sets"].tolist()
    (('set',), ('0.1', '0.1 2.3'), [3, 9])
    """
    replacement = Replacement(how, factor, reference, by_position, seed)
    named = dict(sets) if isinstance(sets, Mapping) else {str(number): one for number, one in enumerate(sets)}
    members = {name: tuple(head_of(site) for site in named_sites(model, one)) for name, one in named.items()}
    for name, heads in members.items():
        if not heads or len(set(heads)) < len(heads):
            raise ValueError(f"set {name!r} {'names a head twice' if heads else 'is empty'}: {list(heads)}")
    if not members:
        raise ValueError("there is no set of heads to ablate")
    if controls < 0:
        raise ValueError(f"controls is how many random sets come beside each, 0 or more, not {controls}")
    study, chosen = Study.of_prompts(model, prompts, metric), tuple(members.values())
    of_head = interventions_of(study, replacement, chosen, whole_layers=controls > 0)
    labels = tuple(members) if isinstance(sets, Mapping) else tuple(_text(heads) for heads in chosen)
    cells = [[of_head[head] for head in heads] for heads in chosen]
    result = study.result(
        study.measured(cells, f"{how} ablation of sets", progress),
        ("set",),
        f"Ablating sets of heads ({replacement})",
        seed,
        labels={"set": labels},
        study="ablation.sets",
        how=how,
        sets=[[list(head) for head in heads] for heads in chosen],
    )
    return Joint(chosen, result, *beside_random_sets(study, of_head, chosen, result, controls, seed, progress))


def interventions_of(
    study: Study, replacement: Replacement, sets: Iterable[Sequence[Head]], *, whole_layers: bool
) -> dict[Head, Intervention]:
    """What ablates each head of some sets, and each other head of their layers, of which random sets are drawn."""
    heads = {head for one in sets for head in one}
    if whole_layers:
        counts = head_counts(study.model)
        heads = {(layer, head) for layer in {layer for layer, _ in heads} for head in range(counts[layer])}
    ablations = replacement.at(study.model, study.tokens, head_sites(study.model, sorted(heads)))
    return {head_of(site): each for site, each in ablations.items()}


def beside_random_sets(
    study: Study,
    of_head: Mapping[Head, Intervention],
    sets: Sequence[Sequence[Head]],
    result: Result,
    draws: int,
    seed: int,
    progress: bool,
) -> tuple[tuple[Control | None, ...], tuple[bool, ...]]:
    """Each set's effect beside those of random sets, and whether these share no head with it."""
    counts = head_counts(study.model)
    drawn: list[list[tuple[Head, ...]]] = []
    disjoint: list[bool] = []
    for heads in sets:
        inside = [sum(layer == at for layer, _ in heads) for at in range(len(counts))]
        none_left = all(count in (0, counts[at]) for at, count in enumerate(inside))
        disjoint.append(not none_left and all(2 * count <= counts[at] for at, count in enumerate(inside)))
        others = not none_left and draws
        drawn.append(matched_heads(heads, counts, draws=draws, seed=seed, disjoint=disjoint[-1]) if others else [])
    cells = [[of_head[head] for head in one] for others in drawn for one in others]
    values = study.measured(cells, "random sets", progress)
    effects = iter((study.baseline.clean - values).mean(-1).tolist())
    controls = [
        against_controls(float(effect), [next(effects) for _ in others]) if others else None
        for effect, others in zip(result.effects, drawn, strict=True)
    ]
    return tuple(controls), tuple(disjoint)


def _text(heads: Sequence[Head]) -> str:
    return " ".join(f"{layer}.{head}" for layer, head in heads)
