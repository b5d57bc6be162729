"""Sets of heads ablated together, each beside random sets that are matched in layer and number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from circuitkit.ablation.head_sites import head_of, head_sites, named_sites
from circuitkit.ablation.replacements import How, Replacement
from circuitkit.metrics import Compute, Metric
from circuitkit.model.site import Site
from circuitkit.model.tokens import Prompts
from circuitkit.pairs import Pairs
from circuitkit.random_sets import RandomSets
from circuitkit.results import Result
from circuitkit.run.interventions import Intervention
from circuitkit.showing import Shown
from circuitkit.statistics import Control, against_controls
from circuitkit.study import Study

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Head = tuple[int, int]
Sets = Mapping[str, Iterable[Head]] | Sequence[Iterable[Head]]


@dataclass(frozen=True, eq=False, repr=False)
class Joint(Shown):
    """Sets of heads, each ablated together, beside random sets with as many heads in each layer.

    Attributes:
        sets: the heads of each set.
        result: what ablating each costs, beside its random sets; axis `("set",)`.
        disjoint: whether a set's random sets avoid its heads altogether, as they do where its layers have heads enough.
    """

    sets: tuple[tuple[Head, ...], ...]
    result: Result
    disjoint: tuple[bool, ...]

    @property
    def controls(self) -> tuple[Control | None, ...]:
        """Each set's mean effect beside those of its random sets.

        None where no other set has as many heads in each layer, or none was asked for.
        """
        assert self.result.controls is not None  # what these studies give has them, if none a set
        drawn = [row[~row.isnan()].tolist() for row in self.result.controls]
        effects = self.result.effects.tolist()
        return tuple(against_controls(one, row) if row else None for one, row in zip(effects, drawn, strict=True))

    @property
    def frame(self) -> pd.DataFrame:
        """A row a set: the result's columns, and whether its random sets share no head with it."""
        return self.result.frame.assign(control_disjoint=list(self.disjoint))

    def _title(self) -> str:
        return f"Joint: {self.result.title}"

    def _says(self) -> Sequence[str]:
        shared = len(self.disjoint) - sum(self.disjoint)
        note = f"The random sets of {shared} of them share heads with it: its layers have too few others."
        return [*self.result._says(), *([note] if shared and len(self.result.frame["control_mean"].dropna()) else [])]

    def _strongest(self) -> pd.DataFrame:
        return self.result._strongest()


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
    >>> together.result.axes, together.result.labels["set"], together.frame["control_n"].tolist()
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
    study, chosen = Study.of_prompts(model, prompts, metric), tuple(members.values())
    random = RandomSets.beside(model, [tuple(head_sites(model, one)) for one in chosen], controls, seed)
    of_head = interventions_of(study, replacement, (*chosen, *map(heads_of, random.others)))
    labels = tuple(members) if isinstance(sets, Mapping) else tuple(_text(heads) for heads in chosen)
    cells = [[of_head[head] for head in heads] for heads in chosen]
    values = study.measured(cells, f"{how} ablation of sets", progress)
    result = study.result(
        values,
        ("set",),
        f"Ablating sets of heads ({replacement})",
        seed,
        labels={"set": labels},
        controls=controls_of(study, of_head, random, values, progress),
        study="ablation.sets",
        how=how,
        sets=[[list(head) for head in heads] for heads in chosen],
    )
    return Joint(chosen, result, random.disjoint)


def interventions_of(
    study: Study, replacement: Replacement, sets: Iterable[Iterable[Head]]
) -> dict[Head, Intervention]:
    """What ablates each head of some sets."""
    heads = sorted({head for one in sets for head in one})
    ablations = replacement.at(study.model, study.tokens, head_sites(study.model, heads))
    return {head_of(site): each for site, each in ablations.items()}


def heads_of(sites: Iterable[Site]) -> tuple[Head, ...]:
    """The heads of a set."""
    return tuple(map(head_of, sites))


def controls_of(
    study: Study,
    of_head: Mapping[Head, Intervention],
    random: RandomSets,
    values: Float[Tensor, "set example"],
    progress: bool,
) -> Float[Tensor, "set draw"]:
    """The mean effects of the random sets beside some whose values have been measured."""
    cells = [[of_head[head] for head in heads_of(one)] for one in random.others]
    return study.beside(random, values, study.measured(cells, "random sets", progress))


def _text(heads: Sequence[Head]) -> str:
    return " ".join(f"{layer}.{head}" for layer, head in heads)
