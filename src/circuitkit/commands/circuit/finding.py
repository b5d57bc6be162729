"""A circuit that was found, what it does alone, how far to trust it; what is written and said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from circuitkit import circuits, plots
from circuitkit.circuits.evaluating.baselines import random_circuits
from circuitkit.circuits.evaluating.choosing import Choice
from circuitkit.circuits.evaluating.curves import MIB_SIZES
from circuitkit.circuits.evaluating.replaced import Ablation
from circuitkit.metrics import Metric
from circuitkit.pairs import Pairs
from circuitkit.writing import write_json, write_table

if TYPE_CHECKING:
    from circuitkit.model import Model

_SHOWN = 12
_CURVE_CONTROLS = 4
"""The circuit itself has so many times as many random ones beside it as a size of the curve has."""


class Test(NamedTuple):
    """The pairs that a circuit is measured on, and what they are beside those that it was found on."""

    pairs: Pairs
    told: str


def test_of(draw: Callable[[int], Pairs], seed: int, tested: Pairs | None, given: Pairs | None) -> Test:
    """Which pairs a circuit is measured on: those named for it, fresh ones where pairs are drawn, or the same again."""
    if tested is not None:
        return Test(tested, "pairs of their own")
    if given is not None:
        return Test(given, "the very pairs that it was found on, which flatters it")
    return Test(draw(seed + 1), "fresh pairs")


def check_found(circuit: circuits.Graph, choice: Choice, out: Path) -> None:
    """Refuse a circuit without edges.

    Raises:
        ValueError: pruning has left none.
    """
    if not circuit.size:
        raise ValueError(
            f"of the {choice} none is left, since no way leads along them from the input to the logits: take more "
            f"(--top, --share), or --select greedy; the scores are in {out / 'graph.safetensors'}"
        )


@dataclass(frozen=True, eq=False)
class Finding:
    """A circuit, its faithfulness and that of random circuits, and its stability.

    Attributes:
        circuit: the circuit, with the scores of all edges.
        choice: the rule by which it was cut.
        test: what it was measured on.
        faithful: what it keeps of the behaviour.
        random: what random circuits of as many edges keep.
        stable: how stable it is; None where that is not known, `unknown` says why.
        curve: what circuits of other sizes keep; None where that was not asked for, or cannot be.
    """

    circuit: circuits.Graph
    choice: Choice
    test: Test
    faithful: circuits.Faithfulness
    random: Float[np.ndarray, " draw"]
    stable: circuits.Stability | None
    unknown: str = ""
    curve: circuits.Curve | None = None

    @classmethod
    def of(
        cls,
        model: Model,
        circuit: circuits.Graph,
        choice: Choice,
        test: Test,
        metric: Metric,
        ablation: Ablation,
        resamples: int,
        controls: int,
        seed: int,
        edges_of: Path | None = None,
        *,
        sizes: bool = True,
    ) -> Finding:
        """Measure a circuit, and circuits of other `sizes` of the same scores unless they are not asked for.

        `edges_of` is the file that said which edges had scores, where not all have; the others are in no order, so
        that there are no circuits of other sizes.
        """
        faithful = circuits.faithfulness(model, circuit, test.pairs, metric, ablation, seed=seed)
        drawn = random_circuits(circuit.layout, [choice], [circuit.size], controls, seed=seed)
        kept = np.empty(0)
        if drawn:
            beside = [circuit.with_members(members) for (members,) in drawn]
            values = circuits.run_circuits(model, beside, test.pairs, metric, ablation).double().mean(1).numpy()
            clean, empty = (float(each.double().mean()) for each in (faithful.clean, faithful.empty))
            kept = (values - empty) / (clean - empty) if faithful.undefined is None else np.full_like(values, np.nan)
        stable, unknown = _stability(circuit, choice, resamples, seed, edges_of)
        curve = None
        if sizes and edges_of is None and faithful.undefined is None:
            rule = (choice.by, ablation, choice.select)
            curve = circuits.curve(
                model,
                circuit,
                test.pairs,
                metric,
                MIB_SIZES,
                *rule,
                prune=choice.prune,
                controls=controls // _CURVE_CONTROLS,
                magnitude=False,
                seed=seed,
            )
        return cls(circuit, choice, test, faithful, kept, stable, unknown, curve)

    # Written

    def write(self, out: Path) -> None:
        """Write tables, figures and provenance into a folder, beside the graph."""
        write_table(out / "circuit.csv", self.edges)
        write_table(out / "heads.csv", self.heads)
        write_table(out / "faithfulness.csv", self.faithful.frame)
        write_table(out / "summary.csv", self.summary)
        plots.save(self.circuit.plot(), out / "circuit.png")
        plots.save(self.circuit.head_map(), out / "heads.png")
        self.faithful.save(out / "faithfulness.safetensors")
        for name in ("stability", "curve"):
            for suffix in ("safetensors", "png", "svg"):
                (out / f"{name}.{suffix}").unlink(missing_ok=True)
        if self.curve is not None:
            self.curve.save(out / "curve.safetensors")
            plots.save(self.curve.plot(), out / "curve.png")
        if self.stable is not None:
            self.stable.save(out / "stability.safetensors")
            plots.save(self.stable.plot(), out / "stability.png")
        told = {"rule": str(self.choice), "convention": str(self.circuit.convention), "measured_on": self.test.told}
        write_json(out / "provenance.json", {**self.circuit.provenance, **told, "test": dict(self.faithful.provenance)})

    @property
    def edges(self) -> pd.DataFrame:
        """A row an edge of the circuit, the strongest first, with how often it is in a resample's."""
        table = self.circuit.frame.drop(columns="in_circuit")
        if self.stable is not None:
            often = self.stable.frame.set_index(["source", "destination"])["frequency"]
            ends = pd.MultiIndex.from_frame(table[["source", "destination"]])
            table.insert(4, "frequency", often.reindex(ends).to_numpy())
        return table

    @property
    def heads(self) -> pd.DataFrame:
        """A row a head: what its edges sum up to in magnitude, whether it is in, and how often in a resample's."""
        every, inside = self.circuit.importance().numpy(), set(self.circuit.heads)
        often = None if self.stable is None else self.stable.head_frequency.numpy()
        rows = [
            {
                "layer": layer,
                "head": head,
                "importance": every[layer, head],
                "in_circuit": (layer, head) in inside,
                **({} if often is None else {"frequency": often[layer, head]}),
            }
            for layer, count in enumerate(self.circuit.layout.n_heads)
            for head in range(count)
        ]
        return pd.DataFrame(rows).sort_values("importance", ascending=False, kind="stable")

    @property
    def summary(self) -> pd.DataFrame:
        """One row with all figures that are told."""
        circuit, faithful = self.circuit, self.faithful
        (low, high), (low_ratios, high_ratios) = faithful.interval(), faithful.interval("mean of ratios")
        row: dict[str, object] = {
            "edges": circuit.size,
            "of": circuit.layout.n_edges,
            "heads": len(circuit.heads),
            "mlps": len(circuit.mlps),
            "faithfulness": faithful.value,
            "low": low,
            "high": high,
            "mean_of_ratios": faithful.mean_of_ratios,
            "mean_of_ratios_low": low_ratios,
            "mean_of_ratios_high": high_ratios,
            "random_mean": float(self.random.mean()) if len(self.random) else float("nan"),
            "random_p": self._p,
        }
        if self.stable is not None:
            stable = self.stable
            row |= {"jaccard": stable.value, "jaccard_same_sign": stable.same_sign, "stability_p": stable.p}
            row["stability"] = stable.verdict
        return pd.DataFrame([row])

    # Said

    def tell(self, out: Path) -> None:
        """Print what was found, how well it does alone, how stable it is, and where all is."""
        circuit = self.circuit
        print(
            f"Circuit of {circuit.provenance['model']} ({circuit.convention}; {circuit.provenance['pairs']} pairs): "
            f"{self.choice}; {circuit.size:,} of {circuit.layout.n_edges:,} edges, {len(circuit.heads)} heads and "
            f"{len(circuit.mlps)} MLPs"
        )
        shown = ["source", "destination", "score", *(["frequency"] if self.stable is not None else [])]
        print(self.edges[shown].head(_SHOWN).to_string(index=False, float_format="{:.3g}".format))
        if circuit.size > _SHOWN:
            print(f"… and {circuit.size - _SHOWN:,} more")
        print(f"Measured on {self.test.told}. {self.faithful}")
        if len(self.random) and self.faithful.undefined is None:
            low, high = np.quantile(self.random, [0.025, 0.975])
            print(
                f"Random circuits of at least as many edges keep {100 * self.random.mean():.0f} % ({len(self.random)} "
                f"of them, middle 95 %: {100 * low:.0f} to {100 * high:.0f}; as much or more by chance: p "
                f"{self._p:.3f})."
            )
        told = self.unknown if self.stable is None else f"{self.stable}."
        print(f"{told[:1].upper()}{told[1:]}")
        print(f"the graph, tables and figures are in {out}/")

    @property
    def _p(self) -> float:
        """The chance that a random circuit keeps as much."""
        if not len(self.random) or self.faithful.undefined is not None:
            return float("nan")
        return float((1 + (self.random >= self.faithful.value).sum()) / (1 + len(self.random)))


def _stability(
    circuit: circuits.Graph, choice: Choice, resamples: int, seed: int, edges_of: Path | None
) -> tuple[circuits.Stability | None, str]:
    """How stable a circuit is, or why that is not known."""
    if edges_of is not None:
        return None, (
            f"stability is not known: that the circuit lies in {edges_of} was settled before these pairs were scored, "
            "so resamples of them would come out alike whatever they say."
        )
    if resamples == 0:
        return None, "stability was not asked for (--resamples 0): do not take this circuit for a finding yet."
    try:
        found = circuits.stability(
            circuit,
            choice.n,
            choice.by,
            threshold=choice.threshold,
            select=choice.select,
            prune=choice.prune,
            resamples=resamples,
            seed=seed,
        )
    except circuits.CircuitError as error:
        return None, f"stability is not known: {error}."
    return found, ""
