"""The study: models judged, learning rates chosen by validation loss, bases trained and judged, and all compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import answers_to_read
import numpy as np
import pandas as pd
from reports import listed, write_report
from sweeps import ended_well

import circuitkit as ck
from circuitkit import studies
from circuitkit.records import provenance
from circuitkit.statistics import holm
from circuitkit.training.subsets import SIZES
from eliciting import comparing, pictures, tables
from eliciting.cells import Asked, Method, Taught, Way, judged, trained, tried
from eliciting.proofs import Questions

TRYING_SEED = 1000  # of no training that counts


@dataclass(frozen=True)
class Twins:
    """A size: a base that is trained, and the skyline that it is measured by."""

    size: str
    base: str
    skyline: str


@dataclass(frozen=True)
class Plan:
    """How much is run.

    Attributes:
        rates: learning rates that are tried for each method; one alone is taken without a trial.
        examples: of each full fine-tuning; adapters are trained on all there are.
        seeds: trainings of each kind.
        steps: of a training, at most.
        every: steps from one evaluation and checkpoint to the next.
        text: "plain" or "chat".
        memory_batch: examples that go through the model at once.
        tokens: that representations are compared at.
    """

    rates: Mapping[Method, tuple[float, ...]]
    examples: tuple[int, ...] = SIZES[::-1]
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    steps: int = 300
    every: int = 10
    text: Literal["plain", "chat"] = "plain"
    memory_batch: int | None = None
    tokens: int = 2000

    @property
    def compared(self) -> tuple[int, ...]:
        """The numbers of examples whose models are compared with base and skyline: the fewest and the most."""
        return tuple(dict.fromkeys((min(self.examples), max(self.examples))))

    def way(self, method: Method, rate: float) -> Way:
        """How a base is trained at a learning rate."""
        return Way(method, rate, self.steps, self.every, self.text, self.memory_batch)


@dataclass(frozen=True)
class Study:
    """Sizes, what they are taught and asked, and where everything is kept."""

    twins: Sequence[Twins]
    taught: Taught
    asked: Asked
    plan: Plan
    benchmarks: Mapping[str, str]
    out: Path
    workers: int | None = None

    def run(self, seed: int) -> None:
        """Run what is missing, and write tables, figures, sentences and provenance."""
        ends, tries = self.ends(), self.tries()
        runs = self.trainings(chosen_rates(tries))
        cells = self.comparisons(runs)
        self.keep_answers(runs)
        found = tables.elicited_table(ends, runs, self.benchmarks, seed)
        enough = tables.sufficiency_table(ends, runs, self.benchmarks, seed, min(self.plan.examples))
        headline = next(iter(self.benchmarks.values()))
        gains = {n: gains_of(found, headline, n) for n in self.plan.compared}
        against = {n: comparing.against_gain(cells, gain, n) for n, gain in gains.items()}
        moves, alike = comparing.unfolded(cells, "moves"), comparing.unfolded(cells, "alike")
        written = {
            "models": ends.drop(columns=["right", "items"]),
            "learning_rates": tries,
            "trainings": runs.drop(columns=["right", "items", "curve"]),
            "elicited": found,
            "sufficiency": enough,
            "fewest": tables.fewest_table(found),
            "comparisons": cells.drop(columns=["moves", "alike"]),
            "moved_by_role": comparing.by_role(moves),
            "alike_by_layer": comparing.by_layer(alike),
            "against_gain": pd.concat([table.assign(examples=n) for n, table in against.items()]),
        }
        drawn, said = pictures.drawn(found, runs, moves, alike, cells, gains), self.said(enough, against)
        write_report(self.out, written, drawn, listed(said), self._provenance(seed))
        print(found.to_string(index=False, float_format=lambda value: f"{value:.3g}"), "\n")
        print("\n".join(said), f"\nTables, figures and sentences are in {self.out}")

    def keep_answers(self, runs: pd.DataFrame) -> None:
        """Keep proofs of each base, its skyline and what the most examples make of it; a contest's cost too much."""
        if not isinstance(self.asked, Questions):
            return
        most = runs[(runs["training"] == "full") & (runs["examples"] == max(self.plan.examples))]
        tuned = most.drop_duplicates("size").set_index("size")["kept"]
        models = {
            f"{each.size} {name}": weights
            for each in self.twins
            for name, weights in (
                ("base", each.base),
                (f"full {max(self.plan.examples)}", str(Path(tuned[each.size]) / "model")),
                ("skyline", each.skyline),
            )
        }
        answers_to_read.keep(models, self.asked.task(), self.out, decoding="clean")

    def said(self, enough: pd.DataFrame, against: Mapping[int, pd.DataFrame]) -> list[str]:
        """Whether few examples suffice, benchmark by benchmark, and what goes with the gain."""
        answers = enough.groupby("benchmark", sort=False)
        said = [f"{benchmark}: {tables.answer(part)}" for benchmark, part in answers]
        return said + [f"{n} examples: {comparing.sentence(table)}" for n, table in against.items()]

    def _provenance(self, seed: int) -> dict[str, Any]:
        """Where the study comes from."""
        names = ", ".join(name for each in self.twins for name in (each.base, each.skyline))
        return provenance(
            model_name=names, seed=seed, plan=asdict(self.plan), asked=repr(self.asked), taught=repr(self.taught)
        )

    def ends(self) -> pd.DataFrame:
        """Bases and skylines, judged as they are."""
        cells = [
            studies.Cell(judged, {"model": model, "asked": self.asked})
            for each in self.twins
            for model in (each.base, each.skyline)
        ]
        known = {each.base: (each.size, "base") for each in self.twins}
        known |= {each.skyline: (each.size, "skyline") for each in self.twins}
        frame = self._finished(cells)
        size, role = zip(*(known[model] for model in frame["model"]), strict=True)
        return frame.assign(size=size, role=role)

    def tries(self) -> pd.DataFrame:
        """The lowest validation loss of every learning rate, for each base and method, and which one is `chosen`."""
        rows = []
        for method, rates in self.plan.rates.items():
            tried_here = [self._tried(method, rate) for rate in rates] if len(rates) > 1 else []
            if not tried_here:
                tried_here = [pd.DataFrame({"size": [each.size for each in self.twins]}).assign(lowest=float("nan"))]
            rows += [
                frame.assign(training=method, learning_rate=rate) for rate, frame in zip(rates, tried_here, strict=True)
            ]
        found = pd.concat(rows, ignore_index=True)
        best = found.fillna({"lowest": np.inf}).groupby(["size", "training"])["lowest"].idxmin()
        return found.assign(chosen=found.index.isin(best))

    def _tried(self, method: Method, rate: float) -> pd.DataFrame:
        cells = [
            studies.Cell(
                tried,
                {
                    "base": each.base,
                    "taught": self.taught,
                    "way": self.plan.way(method, rate),
                    "seed": TRYING_SEED,
                    "folder": self.out / "trainings",
                },
            )
            for each in self.twins
        ]
        return self._sized(self._finished(cells))[["size", "lowest", "last", "seconds_training"]]

    def trainings(self, rates: Mapping[tuple[str, str], float]) -> pd.DataFrame:
        """Every training of every size, judged: a row a training."""
        kinds: list[tuple[Method, int]] = [("full", n) for n in self.plan.examples]
        if "lora" in self.plan.rates:
            kinds.append(("lora", len(self.taught.examples())))
        planned = [
            (each, method, n, seed)
            # Whole sizes last, so that a study that is cut short has something of all of them.
            for seed in self.plan.seeds
            for method, n in kinds
            for each in self.twins
        ]
        cells = [
            studies.Cell(
                trained,
                {
                    "base": each.base,
                    "taught": self.taught,
                    "asked": self.asked,
                    "examples": n,
                    "way": self.plan.way(method, rates[each.size, method]),
                    "seed": seed,
                    "folder": self.out / "trainings",
                },
            )
            for each, method, n, seed in planned
        ]
        frame = self._sized(self._finished(cells))
        methods = [method for _, method, _, _ in planned]
        return frame.assign(
            training=methods,
            learning_rate=[rates[key] for key in zip(frame["size"], methods, strict=True)],
        )

    def comparisons(self, runs: pd.DataFrame) -> pd.DataFrame:
        """How trained models differ from their bases, beside their skylines: a row a training."""
        skylines = {each.base: each.skyline for each in self.twins}
        kept = runs[(runs["training"] == "full") & runs["examples"].isin(self.plan.compared)]
        cells = [
            studies.Cell(
                comparing.compared,
                {
                    "base": row["base"],
                    "skyline": skylines[row["base"]],
                    "tuned": Path(row["kept"]) / "model",
                    "read": self.asked,
                    "most": self.plan.tokens,
                    "seed": 0,
                },
            )
            for row in kept.to_dict("records")
        ]
        frame = self._sized(self._finished(cells))
        return frame.assign(examples=kept["examples"].tolist(), seed=kept["seed"].tolist())

    def _sized(self, frame: pd.DataFrame) -> pd.DataFrame:
        sizes = {each.base: each.size for each in self.twins}
        return frame.assign(size=[sizes[base] for base in frame["base"]])

    def _finished(self, cells: list[studies.Cell]) -> pd.DataFrame:
        """The table of cells that have all ended well."""
        return ended_well(ck.sweep(cells, self.out / "cells", workers=self.workers)).frame


def chosen_rates(tries: pd.DataFrame) -> dict[tuple[str, str], float]:
    """By size and method, the learning rate whose validation loss came lowest."""
    best = tries[tries["chosen"]]
    return dict(zip(zip(best["size"], best["training"], strict=True), best["learning_rate"], strict=True))


def gains_of(found: pd.DataFrame, benchmark: str, examples: int) -> pd.DataFrame:
    """A row a size: its gain from so many examples, and whether there surely is one (p < 0.05, Holm over sizes)."""
    rows = found[(found["benchmark"] == benchmark) & (found["training"] == "full") & (found["examples"] == examples)]
    surely = holm(rows["p_gain"]) < 0.05
    return rows[["size", "parameters", "gain", "recovered"]].assign(gains=(rows["gain"] > 0) & surely)
