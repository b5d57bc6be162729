"""The run of `who_reasons.py`: weights compared, modules grafted, trained and destroyed, beside controls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from sweeps import ended_well

import circuitkit as ck
from circuitkit import studies
from circuitkit.model import roles
from circuitkit.model.roles import RoleError
from circuitkit.sfn import Delta, Part
from circuitkit.studies import Pretrained
from stethoscope.cells import answered, trained
from stethoscope.changing import Change, Destruction, Graft, Weights
from stethoscope.modules import PROJECTIONS, Control, Modules, controls, sets, whole_matrices
from stethoscope.plans import DIRECTIONS, Direction, Freezing, Pair, Plan, stretch
from stethoscope.weights import compared

Planned = tuple[dict[str, Any], studies.Cell]
"""What tables call a cell, and the cell."""

O_PROJ = "o_proj"
INTACT, EVERY = "none", "all projections"
ATTENTION = Modules("q, k, v, o", roles.GROUPS["attention"])


@dataclass(frozen=True)
class Running:
    """Where the study keeps what it does, and how it runs.

    Attributes:
        out: the folder.
        workers: processes that run cells.
        progress: show bars.
    """

    out: Path
    workers: int | None = None
    progress: bool = True

    def rows(self, planned: Iterable[Planned], folder: str = "cells") -> pd.DataFrame:
        """A row for every planned cell, with its labels; cells that are planned twice are run once."""
        labels, places, cells = [], [], {}
        for told, cell in planned:
            key = repr(cell)
            cells.setdefault(key, (len(cells), cell))
            labels.append(told)
            places.append(cells[key][0])
        if not cells:
            return pd.DataFrame()
        every = [cell for _, cell in cells.values()]
        found = ended_well(ck.sweep(every, self.out / folder, workers=self.workers, progress=self.progress)).frame
        asked = {name for cell in every for name in cell.parameters}
        values = found.drop(columns=[name for name in found if name in asked])
        # What is returned under a parameter's name stands under another in the sweep's table.
        values = values.rename(columns=lambda name: name.removeprefix("returned."))
        return pd.concat([pd.DataFrame(labels), values.iloc[places].reset_index(drop=True)], axis=1)


@dataclass(frozen=True)
class Study:
    """A plan and how it is run."""

    plan: Plan
    running: Running
    _parts: dict[str, tuple[Part, ...]] = field(default_factory=dict)

    def parts(self, name: str) -> tuple[Part, ...]:
        """The parts of a model's weights."""
        if name not in self._parts:
            self._parts[name] = ck.sfn.Checkpoint.open(name).parts
        return self._parts[name]

    def sets(self, name: str) -> list[Modules]:
        """The sets of modules that a model has."""
        return sets([role for part in self.parts(name) for role in part.roles])

    def notes(self) -> list[str]:
        """What the figures hang on: what seeds draw, what is read for the fluency."""
        asked, seeds = self.plan.asked, ", ".join(map(str, self.plan.seeds))
        drawn = {
            "questions": "questions of its own; answers are greedy, so that a graft has no other chance in it",
            "tokens": "the tokens of all answers; the questions are the same, and intervals are over questions",
        }[asked.draws]
        return [
            f"Seeds {seeds}: each draws {drawn}. Random fillings and trainings are drawn anew with each seed, too.",
            f"Fluency is the mean log-likelihood of {len(asked.fluent())} held-out texts, in nats a token.",
        ]

    # Freeze

    def trainings(self) -> pd.DataFrame:
        """Every training of part of a base: a row a training."""
        return self.running.rows(cell for each in self.plan.freezing for cell in self._trainings(each))

    def _trainings(self, freezing: Freezing) -> Iterable[Planned]:
        model = ck.sfn.Checkpoint.open(freezing.base).skeleton
        parts = self.parts(freezing.base)
        wanted: list[tuple[str, str, tuple[str, ...] | None]] = [("none", "set", ()), ("all", "set", None)]
        wanted += [
            (each.name, "set", each.roles) for each in [*self.sets(freezing.base), ATTENTION] if _alone(model, each)
        ]
        like = next(each for each in self.sets(freezing.base) if each.name == O_PROJ)
        wanted += [
            (f"matrices {number}", "control", names)
            for number, names in enumerate(whole_matrices(parts, like, freezing.controls))
        ]
        for name, kind, train in wanted:
            for seed in freezing.seeds:
                folder = self.running.out / "trainings" / slug(freezing.base) / f"{slug(name)} seed {seed}"
                labels = {"base": freezing.base, "set": name, "kind": kind, "seed": seed, "trained": _listed(train)}
                yield (
                    labels,
                    studies.Cell(
                        trained,
                        {
                            "base": freezing.base,
                            "train": train,
                            "taught": freezing.taught,
                            "way": freezing.whole if train is None else freezing.way,
                            "asked": self.plan.asked,
                            "seed": seed,
                            "reference": Weights.of(freezing.reference, self.plan.loading),
                            "folder": folder,
                        },
                    ),
                )

    def pairs(self, trainings: pd.DataFrame) -> list[Pair]:
        """The pairs of the plan, and of each base with what was fully trained of it."""
        found = list(self.plan.pairs)
        for each in self.plan.freezing:
            if each.near is not None:
                whole = trainings[(trainings["base"] == each.base) & (trainings["set"] == "all")].sort_values("seed")
                found.append(replace(each.near, b=tuple(whole["weights"]), reference=each.reference))
        return found

    # Delta

    def deltas(self, pairs: Sequence[Pair]) -> dict[str, Delta]:
        """How the weights of each pair differ; of a pair with several twins, those of the first."""
        cells = [
            studies.Cell(
                compared,
                {
                    "a": Weights.of(pair.a, self.plan.loading),
                    "b": Weights.of(pair.b[0], self.plan.loading),
                    "path": str(self.running.out / "deltas" / f"{slug(pair.name)}.safetensors"),
                },
            )
            for pair in pairs
        ]
        found = self.running.rows(({"pair": pair.name}, cell) for pair, cell in zip(pairs, cells, strict=True))
        return {pair: Delta.load(path) for pair, path in zip(found["pair"], found["kept"], strict=True)}

    # Merge

    def merges(self, pairs: Sequence[Pair]) -> pd.DataFrame:
        """Every graft of every pair, both ways: a row a graft and twin."""
        return self.running.rows(cell for pair in pairs for cell in self.grafts(pair))

    def grafts(self, pair: Pair) -> Iterable[Planned]:
        """A cell each graft of a pair, both ways."""
        return (cell for direction in DIRECTIONS for cell in self._merges(pair, direction))

    def _merges(self, pair: Pair, direction: Direction) -> Iterable[Planned]:
        parts = self.parts(pair.a)
        there = tuple(role for role in PROJECTIONS if any(role in part.roles for part in parts))
        wanted: list[tuple[dict[str, Any], Modules | Control | None]] = [
            ({"set": INTACT, "kind": "end"}, None),
            ({"set": EVERY, "kind": "end"}, Modules(EVERY, there)),
        ]
        for each in self.sets(pair.a):
            first = each.name == O_PROJ
            wanted.append(({"set": each.name, "kind": "set"}, each))
            slices = controls(parts, each, "slices", pair.controls if first else pair.others)
            rows = controls(parts, each, "rows", pair.rows if first else 0)
            wanted += [
                ({"set": each.name, "kind": control.kind, "number": number}, control)
                for drawn in (slices, rows)
                for number, control in enumerate(drawn)
            ]
        for host, giver, seeds in pair.hosts(direction, self.plan.seeds):
            source = Weights.of(giver, self.plan.loading)
            for labels, which in wanted:
                change = None if which is None else Graft(which, source)
                yield {"pair": pair.name, "direction": direction, **labels}, self._answered(pair, host, change, seeds)

    def _answered(self, pair: Pair, host: str, change: Change | None, seeds: tuple[int, ...]) -> studies.Cell:
        # Of controls the accuracy and the fluency are wanted alone.
        controls = change is not None and isinstance(change.which, Control)
        return studies.Cell(
            answered,
            {
                "model": Pretrained(host, **self.plan.loading),
                "change": change,
                "asked": self.plan.asked,
                "seeds": seeds,
                "reference": None if controls else Weights.of(pair.reference or pair.b[0], self.plan.loading),
            },
        )

    # Destruction

    def destructions(self, pairs: Sequence[Pair]) -> pd.DataFrame:
        """Every destruction in the reasoning twins: a row a destruction and twin."""
        return self.running.rows(cell for pair in pairs if pair.destroyed for cell in self.ruins(pair))

    def _places(self, layers: int) -> dict[str, tuple[int, ...]]:
        """Where sets are destroyed besides everywhere, and what is removed: each layer, or the paper's stretch."""
        if self.plan.each_layer:
            return {str(layer): (layer,) for layer in range(layers)}
        middle = stretch(layers)
        return {f"{middle[0]} to {middle[-1]}": middle}

    def ruins(self, pair: Pair) -> Iterable[Planned]:
        """A cell each destruction in the reasoning twin of a pair."""
        parts = self.parts(pair.a)
        places = self._places(len({part.layer for part in parts if part.layer is not None}))
        wanted: list[tuple[dict[str, Any], Change | None]] = [({"how": "none", "set": INTACT, "kind": "end"}, None)]
        for how in self.plan.hows:
            if how == "remove":
                for name, at in places.items():
                    labels = {"how": how, "set": f"layer {name}", "kind": "set", "layers": name}
                    wanted.append((labels, Destruction(Modules("layer", ("all",), at), how)))
                continue
            for each in self.sets(pair.a):
                for name, at in {"all": None, **places}.items():
                    told = {"how": how, "set": each.name, "layers": name}
                    own = replace(each, layers=at)
                    wanted.append((told | {"kind": "set"}, Destruction(own, how, self.plan.sigma)))
                    drawn = controls(parts, own, "slices", pair.destroyed) if at is None else []
                    wanted += [
                        (told | {"kind": "slices", "number": n}, Destruction(control, how, self.plan.sigma))
                        for n, control in enumerate(drawn)
                    ]
        for host, seeds in pair.twins(self.plan.seeds):
            for labels, change in wanted:
                yield {"pair": pair.name, **labels}, self._answered(pair, host, change, seeds)


def _alone(model: ck.Model, modules: Modules) -> bool:
    """Whether modules can be trained without others: a fused tensor is trained whole."""
    try:
        return bool(roles.chosen(model, modules.roles))
    except RoleError:
        return False


def _listed(train: tuple[str, ...] | None) -> str:
    return "all" if train is None else ", ".join(train) or "none"


def slug(name: str) -> str:
    """A name as a folder may have it.

    >>> slug("a/b: c")
    'a-b- c'
    """
    return "".join(each if each.isalnum() or each in "-_. " else "-" for each in name)
