"""What circuits of a graph do alone: curves over sizes, and one circuit's faithfulness; what is written and said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from circuitkit import circuits, plots
from circuitkit.circuits.evaluating.choosing import Select
from circuitkit.circuits.evaluating.curves import MIB_SIZES
from circuitkit.circuits.evaluating.replaced import Ablation
from circuitkit.circuits.graphs.convention import By
from circuitkit.metrics import Metric
from circuitkit.pairs import Pairs
from circuitkit.plots.circuit_tests import completeness_scatter, minimality_bars
from circuitkit.writing import write_json, write_table

if TYPE_CHECKING:
    from circuitkit.model import Model

_BY: tuple[By, ...] = ("signed", "absolute")
_SHOWN = ["fraction", "requested", "edges", "faithfulness", "low", "high", "random", "magnitude"]


@dataclass(frozen=True, eq=False)
class Settings:
    """What is run, as the options of `circuitkit circuit evaluate` say it."""

    metric: Metric
    ablation: Ablation
    sizes: Sequence[float] | None
    select: Select
    prune: bool
    controls: int
    sets: int
    parts: Literal["edges", "nodes"]
    most_parts: int


@dataclass(frozen=True, eq=False)
class Evaluating:
    """What circuits of a graph do alone.

    Attributes:
        circuit: the one circuit, with the scores of all edges.
        curves: over sizes, edges taken by sign and by magnitude.
        faithful, complete, minimal: of the one circuit; None of what was not asked for, or cannot be.
        unknown: what cannot be, and why.
        seed: with which pairs were drawn; None where they are from a file.
    """

    circuit: circuits.Graph
    curves: Mapping[By, circuits.Curve]
    faithful: circuits.Faithfulness
    complete: circuits.Completeness | None
    minimal: circuits.Minimality | None
    unknown: Sequence[str]
    seed: int | None

    @classmethod
    def of(
        cls, model: Model, circuit: circuits.Graph, pairs: Pairs, settings: Settings, seed: int, *, drawn: bool
    ) -> Evaluating:
        """Run them; `drawn` says that pairs were drawn with the seed.

        Raises:
            ValueError: the circuit has no edge.
        """
        if not circuit.size:
            raise ValueError("the circuit has no edge to run: take more with --top or --share, or try --select greedy")
        unknown = []
        curves: dict[By, circuits.Curve] = {}
        if unsigned := _unsigned(circuit):
            unknown.append(f"no CPR by sign: {unsigned}")
        for by in _BY[bool(unsigned) :]:
            curves[by] = circuits.curve(
                model,
                circuit,
                pairs,
                settings.metric,
                MIB_SIZES if settings.sizes is None else settings.sizes,
                by,
                settings.ablation,
                settings.select,
                prune=settings.prune,
                controls=settings.controls,
                seed=seed,
            )
        measured = (model, circuit, pairs, settings.metric, settings.ablation)
        faithful = circuits.faithfulness(*measured, seed=seed)
        complete = minimal = None
        if settings.sets and not (circuit.heads or circuit.mlps):
            unknown.append("no completeness: the circuit has no head and no MLP to take out")
        elif settings.sets:
            complete = circuits.completeness(*measured, sets=settings.sets, seed=seed)
        if settings.most_parts and (settings.parts == "edges" or circuit.heads or circuit.mlps):
            # Parts are cheaper to run than curves, and their p needs more of them.
            minimal = circuits.minimality(
                *measured, of=settings.parts, random=5 * settings.controls, most=settings.most_parts, seed=seed
            )
        return cls(circuit, curves, faithful, complete, minimal, unknown, seed if drawn else None)

    def write(self, out: Path) -> None:
        """Write curves, tables, figures and provenance into a folder, in place of an earlier evaluation's."""
        out.mkdir(parents=True, exist_ok=True)
        # The scores of each example, which may be most of the file, stay with the graph that was given.
        replace(self.circuit, per_example=None, groups=None).save(out / "evaluated.safetensors")
        self.faithful.save(out / "faithfulness.safetensors")
        for stale in (*(f"curve-{by}" for by in _BY), "completeness", "minimality"):
            for suffix in ("safetensors", "png", "svg", "csv"):
                (out / f"{stale}.{suffix}").unlink(missing_ok=True)
        for by, curve in self.curves.items():
            curve.save(out / f"curve-{by}.safetensors")
            plots.save(curve.plot(), out / f"curve-{by}.png")
        write_table(out / "curves.csv", _joined({by: curve.frame for by, curve in self.curves.items()}))
        write_table(out / "areas.csv", _joined({by: curve.areas for by, curve in self.curves.items()}))
        write_table(out / "faithfulness.csv", self.faithful.frame)
        if self.complete is not None:
            self.complete.save(out / "completeness.safetensors")
            write_table(out / "completeness.csv", self.complete.frame)
            plots.save(completeness_scatter(self.complete), out / "completeness.png")
        if self.minimal is not None:
            self.minimal.save(out / "minimality.safetensors")
            write_table(out / "minimality.csv", self.minimal.frame)
            plots.save(minimality_bars(self.minimal), out / "minimality.png")
        write_json(out / "provenance.json", {**self.faithful.provenance, "graph": dict(self.circuit.provenance)})

    def tell(self, out: Path) -> None:
        """Print the curves and their areas, the one circuit's figures, and where all is."""
        for curve in self.curves.values():
            print(curve)
            print(_shown(curve).to_string(index=False, na_rep="", float_format="{:.3f}".format))
        for each in (self.faithful, self.complete, self.minimal):
            if each is not None:
                print(each)
        for why in self.unknown:
            print(f"{why[:1].upper()}{why[1:]}.")
        whose, run = self.circuit.provenance.get("model"), self.faithful.provenance["model"]
        if whose not in (None, run):
            print(f"The scores are of {whose}, another model of the same architecture")
        elif self._on_its_own_pairs:
            print("These are the pairs that the scores were made on, which flatters: give another --seed, or --pairs")
        print(f"curves, areas and figures are in {out}/")

    @property
    def _on_its_own_pairs(self) -> bool:
        made_on, now = self.circuit.provenance, self.faithful.provenance
        same = made_on.get("data_sha256") is not None and made_on["data_sha256"] == now.get("data_sha256")
        # More pairs of the same draw begin with the same ones.
        return same or (self.seed is not None and made_on.get("seed") == self.seed)


def _unsigned(graph: circuits.Graph) -> str:
    """Why edges cannot be taken by sign, or nothing where they can."""
    try:
        graph.convention.helpful(graph.scores)
    except circuits.CircuitError as error:
        return str(error)
    return ""


def _joined(tables: Mapping[By, pd.DataFrame]) -> pd.DataFrame:
    """Tables of curves one behind the other, told apart by how edges were taken."""
    parts = []
    for by, table in tables.items():
        part = table.copy()
        part.insert(0, "by", by)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _shown(curve: circuits.Curve) -> pd.DataFrame:
    """A row a size, with what random circuits and those of the largest magnitude keep beside it."""
    parts = dict(iter(curve.frame.groupby("circuit", sort=False)))
    table = parts["found"].reset_index(drop=True).astype({"edges": int})
    for name in ("random", "magnitude"):
        table[name] = parts[name]["faithfulness"].to_numpy() if name in parts else float("nan")
    return table[_SHOWN].dropna(axis="columns", how="all")
