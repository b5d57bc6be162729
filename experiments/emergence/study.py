"""The run of `emergent_heads.py`: circuits of both models and of checkpoints, compared, and their heads changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from sweeps import ended_well

import circuitkit as ck
from circuitkit import studies
from circuitkit.circuits import GenerationEffects, Graph
from circuitkit.statistics import Head
from circuitkit.studies import Pretrained
from emergence import cells
from emergence.plans import Plan, Recipe
from emergence.prompts import Opened, Role, Written, deductions, openings, tokenizer_of

SETS = ("emergent", "retained", "lost")


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

    def rows(self, planned: Sequence[studies.Cell]) -> pd.DataFrame:
        """What each cell returned, a row a cell, in their order."""
        if not planned:
            return pd.DataFrame()
        # What failed for want of memory or of a disk may go well now.
        sweep = ck.sweep(
            list(planned), self.out / "cells", workers=self.workers, retry_failed=True, progress=self.progress
        )
        found = ended_well(sweep).frame
        asked = {name for cell in planned for name in cell.parameters}
        values = found.drop(columns=[name for name in found if name in asked])
        # What is returned under a parameter's name stands under another in the sweep's table.
        return values.rename(columns=lambda name: name.removeprefix("returned.")).reset_index(drop=True)


@dataclass(frozen=True)
class Found:
    """The circuits of one recipe.

    Attributes:
        recipe: by which they were found.
        base, post: of either model, cut.
        checkpoints: those of checkpoints, cut, by step; the post-trained model's is the last.
        told: a row a graph: sizes, strongest score, stability.
        pairs: of prompts that they were found on.
    """

    recipe: Recipe
    base: Graph
    post: Graph
    checkpoints: Mapping[int, Graph]
    told: pd.DataFrame
    pairs: int


@dataclass(frozen=True)
class Study:
    """A plan and how it is run."""

    plan: Plan
    running: Running
    _found: dict[str, Found] = field(default_factory=dict)

    # Answers

    def think(self, role: Role) -> bool | None:
        """Whether a model is asked to think: told where both are one model."""
        return (role == "post") if self.plan.twins.thinking else None

    def model(self, name: str) -> Pretrained:
        """A model by name, as cells take it."""
        return Pretrained(name, **self.plan.loading)

    def names(self) -> dict[str, tuple[str, Role]]:
        """Base, checkpoints and post-trained model: what tables call each, its name, and whose prompts it is given."""
        twins = self.plan.twins
        told: dict[str, tuple[str, Role]] = {"base": (twins.base, "base")}
        told |= {str(step): (name, "post") for step, name in sorted(twins.checkpoints.items())}
        return told | {"post": (twins.post, "post")}

    def _answers(self, label: str) -> str:
        return str(self.running.out / "answers" / label)

    @cached_property
    def accuracies(self) -> pd.DataFrame:
        """How often base, checkpoints and post-trained model are right, a row each."""
        planned = [
            studies.Cell(
                cells.judged,
                {
                    "model": self.model(name),
                    "asked": self.plan.asked,
                    "think": self.think(role),
                    "out": self._answers(label),
                },
            )
            for label, (name, role) in self.names().items()
        ]
        return self.running.rows(planned).assign(model=list(self.names()))

    @cached_property
    def opened(self) -> Opened:
        """The circuits' questions, with how base and post-trained model begin to answer them."""
        roles: tuple[Role, ...] = ("base", "post")
        planned = [
            studies.Cell(
                cells.opened,
                {
                    "model": self.model(self.names()[role][0]),
                    "asked": self.plan.asked,
                    "think": self.think(role),
                    # A word or two more, so that where an answer is broken off is no part of its opening.
                    "tokens": 2 * self.plan.opening + 8,
                    "out": self._answers(f"{role}, openings"),
                },
            )
            for role in roles
        ]
        rows = self.running.rows(planned)
        base, post = (json.loads(answers) for answers in rows["answers"])
        return openings(
            self.tokenizers,
            json.loads(rows["problems"].iloc[0]),
            base,
            post,
            self.plan.opening,
            self.plan.pairs,
            chat=bool(self.plan.asked.settings.get("chat", False)),
            thinks=self.plan.twins.thinking,
        )

    @cached_property
    def tokenizers(self) -> dict[Role, Any]:
        """Of base and post-trained model."""
        return {"base": tokenizer_of(self.plan.twins.base), "post": tokenizer_of(self.plan.twins.post)}

    @cached_property
    def steps(self) -> dict[Role, Written]:
        """Deductions that differ in one rule, the same for both models, each in its own tokens."""
        return {role: deductions(each, self.plan.pairs, self.plan.seed) for role, each in self.tokenizers.items()}

    def written(self, recipe: Recipe) -> Mapping[Role, Written | Opened]:
        """The pairs of prompts of either model."""
        if recipe.prompts == "step":
            return self.steps
        return {"base": self.opened.of("base"), "post": self.opened.of("post")}

    # Circuits

    def found(self, recipe: Recipe) -> Found:
        """The circuits of base, checkpoints and post-trained model by one recipe."""
        if recipe.name not in self._found:
            self._found[recipe.name] = self._circuits(recipe)
        return self._found[recipe.name]

    def _circuits(self, recipe: Recipe) -> Found:
        written = self.written(recipe)
        planned = [
            studies.Cell(
                cells.attributed,
                {
                    "model": self.model(name),
                    "written": written[role],
                    "recipe": recipe,
                    "resamples": self.plan.resamples,
                    "seed": self.plan.seed,
                    "path": str(self.running.out / "graphs" / f"{recipe.name}, {label}.safetensors"),
                },
            )
            for label, (name, role) in self.names().items()
        ]
        told = self.running.rows(planned).assign(recipe=recipe.name, model=list(self.names()))
        graphs = {label: recipe.cut(Graph.load(path)) for label, path in zip(told["model"], told["graph"], strict=True)}
        final = {self.plan.twins.final: graphs["post"]} if self.plan.twins.checkpoints else {}
        checkpoints = {step: graphs[str(step)] for step in sorted(self.plan.twins.checkpoints)} | final
        return Found(recipe, graphs["base"], graphs["post"], checkpoints, told, len(written["post"]))

    # Interventions

    def sets(self, changes: ck.circuits.HeadChanges) -> dict[str, tuple[Head, ...]]:
        """Emergent, retained and lost heads, the most important of each; a kind without any is left out."""
        table, chosen = changes.frame, {}
        for name in SETS:
            importance = "importance_base" if name == "lost" else "importance_post"
            own = table[table["change"] == name].sort_values(importance, ascending=False, kind="stable")
            heads = tuple((int(layer), int(head)) for layer, head in own[["layer", "head"]].values[: self.plan.sets])
            if heads:
                chosen[name] = tuple(sorted(heads))
        return chosen

    def effects(self, role: Role, sets: Mapping[str, Sequence[Head]]) -> GenerationEffects:
        """What changing each set does while a model writes: a cell a set, so that all goes on where it stopped."""
        planned = [
            studies.Cell(
                cells.changed,
                {
                    "model": self.model(self.names()[role][0]),
                    "asked": self.plan.asked,
                    "think": self.think(role),
                    "sets": {name: tuple(heads)},
                    "ways": self.plan.ways,
                    "controls": self.plan.controls,
                    "seed": self.plan.seed,
                    "path": str(self.running.out / "effects" / f"{role}, {name.replace(': ', ', ')}.json"),
                },
            )
            for name, heads in sets.items()
        ]
        each = [GenerationEffects.load(path) for path in self.running.rows(planned)["effects"]]
        return replace(each[0], runs=tuple(run for one in each for run in one.runs))

    def patched(self, changes: ck.circuits.HeadChanges) -> pd.DataFrame:
        """The most important heads of each kind, moved between both models one by one: a row a head and direction.

        Both read the deductions of the recipe "step", without which none is moved.
        """
        heads = [head for each in self.sets(changes).values() for head in each][: self.plan.patched]
        steps = any(recipe.prompts == "step" for recipe in self.plan.recipes)
        if not heads or not steps or self.plan.twins.thinking:
            return pd.DataFrame()
        cell = studies.Cell(
            cells.patched,
            {
                "model": self.model(self.plan.twins.post),
                "other": self.model(self.plan.twins.base),
                "written": self.steps["post"],
                "heads": tuple(heads),
                "controls": self.plan.controls,
                "seed": self.plan.seed,
            },
        )
        return pd.DataFrame(json.loads(self.running.rows([cell])["rows"].iloc[0]))
