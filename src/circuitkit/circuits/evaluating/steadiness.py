"""How stable a circuit is, in numbers and in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit import saving
from circuitkit.circuits.evaluating.choosing import Choice
from circuitkit.circuits.evaluating.overlaps import chance_jaccard, mean_of_pairs, upper
from circuitkit.circuits.graphs.convention import By, Convention
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.showing import Shown
from circuitkit.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GOOD = 0.8
"""What Méloux et al. (arXiv 2510.00845) ask of a circuit, of 100 resamples or more."""
FAIR = 0.5
"""What resamples of pure noise come to, edges counted with their signs, where they always have the same edges: two
resamples of the same examples are correlated by a half, so a mean of 0 has the same sign in both in two cases of three,
and two thirds of the edges in common are a Jaccard index of (2/3) / (2 − 2/3)."""

Verdict = Literal["good", "fair", "poor"]
_P = 0.05
_FEWEST: dict[By, int] = {"absolute": 6, "signed": 5}
"""So many have flips of signs enough: of 2ⁿ one gives the circuit itself, and by magnitude all signs flipped too."""
_FORMAT = 1


@dataclass(frozen=True, eq=False, repr=False)
class Stability(Shown):
    """Circuits of examples drawn anew, and how much they have in common.

    Attributes:
        choice: the rule by which circuits were cut.
        circuit: the circuit of all examples.
        frequency: in which share of the resamples each edge is.
        node_frequency: in which share each source node is.
        edges, nodes, heads: the Jaccard index of every two resamples.
        signed: that of edges where the same edge has the same sign.
        to_circuit: that of each resample's edges and the circuit's.
        noise: for each random flip of signs, the mean index of its resamples, of edges and with signs, and the strength
            of its circuit. Empty where scores are magnitudes.
        strength: what the circuit's edges are together worth, before pruning.
        n_clusters: how many examples, or groups of them, were drawn from.
        provenance: model, rule, seed, versions.
    """

    choice: Choice
    circuit: Graph
    frequency: Float[Tensor, "sources destinations"]
    node_frequency: Float[Tensor, " source"]
    edges: Float[Tensor, "resample resample"]
    signed: Float[Tensor, "resample resample"]
    nodes: Float[Tensor, "resample resample"]
    heads: Float[Tensor, "resample resample"]
    to_circuit: Float[Tensor, " resample"]
    noise: Float[Tensor, "flip 3"]
    strength: float
    n_clusters: int
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The mean Jaccard index of the edges of every two resamples."""
        return mean_of_pairs(self.edges.numpy())[0]

    @property
    def error(self) -> float:
        """How far `value` may be off for there being so few resamples (jackknife standard error)."""
        return mean_of_pairs(self.edges.numpy())[1]

    @property
    def interval(self) -> Interval:
        """Where the middle 95 % of every two resamples lie."""
        return _middle(upper(self.edges.numpy()))

    @property
    def same_sign(self) -> float:
        """The mean Jaccard index where an edge has to have the same sign in both; `value` of magnitudes."""
        return mean_of_pairs(self.signed.numpy())[0]

    @property
    def size(self) -> float:
        """The mean number of edges of a resample's circuit."""
        return float(self.frequency.double().sum())

    @property
    def chance(self) -> float:
        """The expected Jaccard index of two random circuits of `size` edges (0 where they are empty)."""
        return float(np.nan_to_num(chance_jaccard(round(self.size), self.circuit.layout.n_edges)))

    @property
    def p(self) -> float:
        """The chance that edges without any consistent effect are together worth as much; NaN of magnitudes.

        A permutation test: each cluster's scores have their signs flipped at random, which leaves magnitudes, and what
        goes together, as they are, and the circuit is cut anew. 0.01 is the least that can come out.
        """
        if not len(self.noise):
            return float("nan")
        as_strong = int((self.noise[:, 2] >= self.strength * (1 - 1e-6)).sum())
        return (1 + as_strong) / (1 + len(self.noise))

    @property
    def verdict(self) -> Verdict:
        """`good` from 0.8 up (Méloux et al.), `fair` from 0.5 up, else `poor`; signs counted.

        Whatever the index, a circuit is poor where its effects may be chance (p over 0.05).
        """
        if self.same_sign < FAIR or self.p > _P:
            return "poor"
        return "good" if self.same_sign >= GOOD else "fair"

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row each for edges, edges with signs, nodes and heads: the mean index of two resamples, and its spread."""
        rows = []
        for what in ("edges", "signed", "nodes", "heads"):
            square = getattr(self, what).numpy()
            mean, error = mean_of_pairs(square)
            low, high = _middle(upper(square))
            rows.append({"what": what, "jaccard": mean, "error": error, "low": low, "high": high})
        table = pd.DataFrame(rows)
        table["noise"] = [*self._noise, np.nan, np.nan]
        # Of the edges that two random circuits share, random signs agree in half.
        table["chance"] = [self.chance, self.chance / (2 + self.chance), np.nan, np.nan]
        return table

    @property
    def _noise(self) -> list[float]:
        return self.noise[:, :2].mean(0).tolist() if len(self.noise) else [float("nan")] * 2

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each edge that is in the circuit or in any resample: its score, and how often it is in.

        The most frequent come first; the columns are those of `Graph.edges`, and `frequency`.
        """
        ever = self.circuit.with_members(self.circuit.members | (self.frequency > 0)).frame
        layout = self.circuit.layout
        rows = [layout.source(name) for name in ever["source"]]
        columns = [layout.destination(name) for name in ever["destination"]]
        ever["in_circuit"] = self.circuit.members[rows, columns].numpy()
        ever.insert(4, "frequency", self.frequency[rows, columns].numpy())
        return ever.sort_values("frequency", ascending=False, kind="stable").reset_index(drop=True)

    def _strongest(self) -> pd.DataFrame:
        return self.frame[["source", "destination", "kind", "score", "frequency", "in_circuit"]]

    @property
    def head_frequency(self) -> Float[Tensor, "layer head"]:
        """In which share of the resamples each head is; NaN where a layer has no such head."""
        layout = self.circuit.layout
        table = torch.full((layout.n_layers, max(layout.n_heads)), torch.nan, dtype=torch.float64)
        for layer, count in enumerate(layout.n_heads):
            table[layer, :count] = self.node_frequency[layout.heads_at(layer)]
        return table

    def plot(self, *, axes: Axes | None = None) -> Axes:
        """Draw how often each head is in the circuit of a resample, a layer a row."""
        from circuitkit import plots

        return plots.heatmap(
            self.head_frequency,
            title=f"Heads in circuits of {len(self.edges)} resamples\n{self.choice}; stability {self.verdict}",
            row_name="layer",
            column_name="head",
            unit="share of resamples",
            centre=None,
            axes=axes,
        )

    def __str__(self) -> str:
        low, high = self.interval
        told = (
            f"stability {self.verdict}: circuits of {len(self.edges)} resamples of {self.n_clusters} "
            f"{'examples' if self.circuit.groups is None else 'groups'} have a Jaccard index of {self.value:.2f} "
            f"(middle 95 %: {low:.2f} to {high:.2f}), {self.same_sign:.2f} where signs count; {GOOD:g} is asked for, "
            f"random circuits have {self.chance:.2f}"
        )
        if not len(self.noise):
            return f"{told}; scores are magnitudes, so nothing tells whether effects are consistent"
        noise = f"{told}, and scores of random sign {self._noise[1]:.2f}"
        if self.verdict != "poor":
            return noise
        why = "another circuit would come of other examples"
        if self.p > _P:
            why = f"its effects are no larger than by chance (p {self.p:.2f})"
            if self.n_clusters < (fewest := _FEWEST[self.choice.by]):
                why = f"of fewer than {fewest} nothing can be told from chance (p {self.p:.2f})"
        return f"{noise}: {why}, so what is in it says little about the model"

    def save(self, path: str | Path) -> Path:
        """Write it to one safetensors file, whole or not at all; a folder gets `stability.safetensors`."""
        circuit = self.circuit
        tensors = {name: getattr(self, name) for name in _TENSORS} | {
            "circuit.scores": circuit.scores,
            "circuit.members": circuit.members,
        }
        if circuit.groups is not None:
            tensors["circuit.groups"] = circuit.groups
        told = {
            "format": _FORMAT,
            "choice": asdict(self.choice),
            "layout": asdict(circuit.layout),
            "convention": asdict(circuit.convention),
            "circuit": dict(circuit.provenance),
            "n_clusters": self.n_clusters,
            "strength": self.strength,
            "provenance": dict(self.provenance),
        }
        return saving.save(path, "stability", tensors, told)

    @classmethod
    def load(cls, path: str | Path) -> Stability:
        """Read what `save` wrote; the circuit comes without each example's scores.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is cut short, holds something else, or is of a later version.
        """
        tensors, told = saving.load(path, "stability")
        if told["format"] != _FORMAT:
            raise ValueError(f"{path}: written by a later circuitkit; upgrade to read it")
        circuit = Graph(
            Layout(**{name: tuple(counts) for name, counts in told["layout"].items()}),
            tensors["circuit.scores"],
            tensors["circuit.members"],
            Convention(**told["convention"]),
            groups=tensors.get("circuit.groups"),
            provenance=told["circuit"],
        )
        arrays = {name: tensors[name] for name in _TENSORS}
        return cls(
            choice=Choice(**told["choice"]),
            circuit=circuit,
            n_clusters=told["n_clusters"],
            strength=told["strength"],
            provenance=told["provenance"],
            **arrays,
        )

    def __eq__(self, other: object) -> bool:
        """Equal numbers, rule and provenance."""
        if not isinstance(other, Stability):
            return NotImplemented
        told = [json.dumps(dict(each.provenance), sort_keys=True) for each in (self, other)]
        return (
            self.choice == other.choice
            and told[0] == told[1]
            and self.circuit.members.equal(other.circuit.members)
            and all(getattr(self, name).equal(getattr(other, name)) for name in _TENSORS)
        )

    __hash__ = None  # type: ignore[assignment]  # compared by value, and its tensors can change


_TENSORS = ("frequency", "node_frequency", "edges", "signed", "nodes", "heads", "to_circuit", "noise")


def _middle(values: Float[np.ndarray, " pair"]) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high))
