"""Heads over a training: when each first becomes active, how long it stays, and what is left of the base's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuitkit import saving
from circuitkit.circuits.comparing.comparable import check_comparable, head_mask, heads_in, there, uncut
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.records import provenance
from circuitkit.showing import Shown
from circuitkit.statistics import Head, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class Cohorts(Shown):
    """Which heads are in the circuit at each checkpoint, beside those of the base.

    A cohort is all heads that first became active at one checkpoint and were not active in the base.

    Attributes:
        steps: the checkpoints, in order.
        active: which heads are in each checkpoint's circuit.
        base: which are in the base's.
        there: which heads there are.
        sizes: the number of edges of the base's circuit, and of each checkpoint's.
        unit: what steps count.
        provenance: where the graphs come from.
    """

    steps: tuple[int, ...]
    active: Bool[Tensor, "checkpoint layer head"]
    base: Bool[Tensor, "layer head"]
    there: Bool[Tensor, "layer head"]
    sizes: tuple[int, ...] = ()
    unit: str = "step"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def first(self) -> Int[Tensor, "layer head"]:
        """The place, among the steps, at which each new head is first active; −1 of all other heads."""
        new = self.active & ~self.base
        return torch.where(new.any(0), new.int().argmax(0), -1)

    @property
    def emergent(self) -> list[Head]:
        """Heads that are active at the last checkpoint, and were not in the base."""
        return heads_in(self.active[-1] & ~self.base)

    @property
    def frequency(self) -> Float[Tensor, "layer head"]:
        """At what share of checkpoints each head is active; NaN where a layer has no such head."""
        return self.active.double().mean(0).masked_fill(~self.there, torch.nan)

    # Tables

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each head that is active in the base or at any checkpoint, new ones first, as they emerged.

        Columns: `layer`, `head`, `in_base`, `first` (the step at which a new head first is active; missing of the
        base's), `last` (the last at which it is; missing if it never is), `frequency` (share of checkpoints), `stays`
        (share of the checkpoints from its first on), `returns` (how often it came back after being gone) and `at_end`.
        """
        rows = [self._row(layer, head) for layer, head in heads_in(self.base | self.active.any(0))]
        columns = ["layer", "head", "in_base", "first", "last", "frequency", "stays", "returns", "at_end"]
        frame = pd.DataFrame(rows, columns=columns).astype({"first": "Int64", "last": "Int64"})
        return frame.sort_values(["in_base", "first", "layer", "head"], kind="stable", ignore_index=True)

    def _row(self, layer: int, head: int) -> dict[str, Any]:
        active, in_base = self.active[:, layer, head], bool(self.base[layer, head])
        first = 0 if in_base else int(self.first[layer, head])
        places = active.nonzero().flatten().tolist()
        before = torch.cat([torch.tensor([in_base]), active[:-1]])
        starts = int((active & ~before).sum())
        return {
            "layer": layer,
            "head": head,
            "in_base": in_base,
            "first": pd.NA if in_base else self.steps[first],
            "last": self.steps[places[-1]] if places else pd.NA,
            "frequency": float(active.double().mean()),
            "stays": float(active[first:].double().mean()),
            "returns": starts - (0 if in_base else 1),
            "at_end": bool(active[-1]),
        }

    @property
    def counts(self) -> pd.DataFrame:
        """A row a checkpoint: how many of the base's heads are active (`retained`) and how many of each cohort."""
        table: dict[Any, Any] = {self.unit: self.steps, "retained": (self.active & self.base).sum((1, 2)).tolist()}
        for place, step in enumerate(self.steps):
            table[step] = (self.active & (self.first == place)).sum((1, 2)).tolist()
        return pd.DataFrame(table)

    @property
    def turnover(self) -> pd.DataFrame:
        """A row a checkpoint: heads that are active, new since the one before, gone since, and their Jaccard index."""
        rows = []
        for before, now, step in zip([self.base, *self.active[:-1]], self.active, self.steps, strict=True):
            either = int((before | now).sum())
            rows.append(
                {
                    self.unit: step,
                    "active": int(now.sum()),
                    "new": int((now & ~before).sum()),
                    "gone": int((before & ~now).sum()),
                    "jaccard": int((before & now).sum()) / either if either else float("nan"),
                }
            )
        return pd.DataFrame(rows)

    @property
    def survival(self) -> pd.DataFrame:
        """A row an age, of new heads and of the base's: how many are still active so many checkpoints later.

        Columns: `heads` ("emergent" or "base"), `age` (in checkpoints; 0 is a new head's first, and the base itself),
        `at_risk` (heads that the training is long enough to have at that age), `active` (the share of these that are
        active then, gone meanwhile or not) with its Wilson interval `low`, `high`, and `unbroken` (Kaplan-Meier: the
        share that has been active ever since; heads whose training ends first are censored, and it is NaN once all that
        are left are).
        """
        histories = {
            "emergent": [self.active[self.first[head] :, *head] for head in heads_in(self.first >= 0)],
            # The base itself is age 0.
            "base": [torch.cat([self.base[head][None], self.active[:, *head]]) for head in heads_in(self.base)],
        }
        rows = [row for name, each in histories.items() for row in _survival(name, each)]
        return pd.DataFrame(rows, columns=["heads", "age", "at_risk", "active", "low", "high", "unbroken"])

    # Pictures

    def plot(self, of: Literal["cohorts", "map", "survival"] = "cohorts", *, axes: Axes | None = None) -> Axes:
        """Draw stacked counts by cohort, the layer x head map of activation frequency, or survival.

        Raises:
            CircuitError: none of these.
        """
        from circuitkit import plots

        if of == "cohorts":
            return plots.head_cohorts(self, axes=axes)
        if of == "map":
            return plots.activation_map(self, axes=axes)
        if of == "survival":
            return plots.head_survival(self, axes=axes)
        raise CircuitError(f"cohorts, a map or survival can be drawn, not {of!r}")

    # Said and kept

    def __str__(self) -> str:
        base, end = int(self.base.sum()), self.active[-1]
        kept, new = int((end & self.base).sum()), len(self.emergent)
        ever = int((self.first >= 0).sum())
        return (
            f"{len(self.steps)} checkpoints ({self.unit} {self.steps[0]:,} to {self.steps[-1]:,}): of {base} heads of "
            f"the base {kept} are active at the end; {ever} new head{'s' * (ever != 1)} emerged at "
            f"some checkpoint, {new} of them are active at the end; from one checkpoint "
            f"to the next the Jaccard index of heads is {self.turnover['jaccard'].mean():.2f} on average"
        )

    def save(self, path: str | Path) -> Path:
        """Write all of it to one file, whole or not at all; a folder gets `head_cohorts.safetensors`."""
        told = {"steps": list(self.steps), "sizes": list(self.sizes), "unit": self.unit}
        arrays = {"active": self.active, "base": self.base, "there": self.there}
        return saving.save(path, "head_cohorts", arrays, told | {"provenance": dict(self.provenance)})

    @classmethod
    def load(cls, path: str | Path) -> Cohorts:
        """Read what `save` wrote, from its file or its folder.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the file is cut short, or holds something else.
        """
        arrays, told = saving.load(path, "head_cohorts")
        return cls(
            tuple(told["steps"]), **arrays, sizes=tuple(told["sizes"]), unit=told["unit"], provenance=told["provenance"]
        )


def cohorts(checkpoints: Mapping[int, Graph], base: Graph, *, unit: str = "step") -> Cohorts:
    """Follow heads over the checkpoints of a training: which emerge when, stay, vanish and return.

    Args:
        checkpoints: a circuit (cut and pruned) by step, in any order.
        base: the circuit before training.
        unit: what steps count, for tables and axes.

    Raises:
        CircuitError: there is no checkpoint, graphs cannot be compared, or one is uncut, so that all heads are in it.

    Source: "Thinking Sparks!" (arXiv 2509.25758), whose figures of cohorts and of activation frequency these are.

    >>> layout = ck.circuits.Layout((2,), (2,), (False,))
    >>> convention = ck.circuits.Convention("eap", "logit_difference")
    >>> graph = ck.circuits.Graph(layout, layout.reach.float(), layout.reach, convention)
    >>> print(cohorts({100: graph.top(11), 200: graph.top(12)}, base=graph.top(9)).counts.to_string(index=False))
     step  retained  100  200
      100         2    0    0
      200         2    0    0
    """
    if not checkpoints:
        raise CircuitError("there is no checkpoint: give circuits by step, such as {100: graph}")
    ordered = dict(sorted(checkpoints.items()))
    for name, graph in {"the base": base, **{f"{unit} {step}": each for step, each in ordered.items()}}.items():
        check_comparable(base, graph, ("the base", name))
        if uncut(graph):
            raise CircuitError(
                f"{name} is uncut: every edge is in its circuit, so every head is active; cut it first (top, threshold)"
            )
    return Cohorts(
        tuple(ordered),
        torch.stack([head_mask(graph) for graph in ordered.values()]),
        head_mask(base),
        there(base.layout),
        (base.size, *(graph.size for graph in ordered.values())),
        unit,
        provenance(
            model_name=str(base.provenance.get("model", "")),
            study="circuits.cohorts",
            base=dict(base.provenance),
            checkpoints={str(step): dict(graph.provenance) for step, graph in ordered.items()},
        ),
    )


def _survival(name: str, histories: Sequence[Bool[Tensor, " age"]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    unbroken = 1.0
    for age in range(max(map(len, histories), default=0)):
        old = [history for history in histories if len(history) > age]
        active = sum(bool(history[age]) for history in old)
        # Those that were active ever since, and of whom the next checkpoint is known.
        still = [history for history in old if bool(history[:age].all())]
        # Where the training ends before any of those is so old, nobody knows what becomes of them; none is left once
        # all are gone.
        if still:
            unbroken *= sum(bool(history[age]) for history in still) / len(still)
        elif unbroken > 0:
            unbroken = float("nan")
        found = wilson(active, len(old))
        rows.append(
            {
                "heads": name,
                "age": age,
                "at_risk": len(old),
                "active": active / len(old),
                "low": found.low,
                "high": found.high,
                "unbroken": unbroken,
            }
        )
    return rows
