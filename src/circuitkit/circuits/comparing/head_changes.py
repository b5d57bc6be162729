"""What post-training did to the heads of a circuit: which emerged, which stayed, which were lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool
from torch import Tensor

from circuitkit import saving
from circuitkit.circuits.comparing.comparable import called, head_mask, heads_in, there, uncut
from circuitkit.circuits.comparing.importance_effects import HeadEffects, effect
from circuitkit.circuits.comparing.support import Support
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs import files
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.showing import Shown
from circuitkit.statistics import Head

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SURE = 0.95
_SHOWN = 24
_WORDS = ("neither", "lost", "emergent", "retained")


@dataclass(frozen=True, eq=False)
class HeadChanges(Shown):
    """Two circuits of one architecture, head by head.

    Attributes:
        base, post: the circuits.
        names: what both are called.
        support: what resamples say; None where nothing is known, `unknown` says why.
        unknown: why.
        provenance: where both come from.
    """

    base: Graph
    post: Graph
    names: tuple[str, str] = ("base", "post-trained")
    support: Support | None = None
    unknown: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    # Heads and MLPs

    @cached_property
    def masks(self) -> tuple[Bool[Tensor, "layer head"], Bool[Tensor, "layer head"]]:
        """Which heads are in either circuit."""
        return head_mask(self.base), head_mask(self.post)

    @property
    def emergent(self) -> list[Head]:
        """Heads of the post-trained circuit that are not in the base's, each as layer and head."""
        return heads_in(self.masks[1] & ~self.masks[0])

    @property
    def retained(self) -> list[Head]:
        """Heads of both circuits."""
        return heads_in(self.masks[0] & self.masks[1])

    @property
    def lost(self) -> list[Head]:
        """Heads of the base's circuit that are not in the post-trained one's."""
        return heads_in(self.masks[0] & ~self.masks[1])

    @property
    def sure(self) -> list[Head]:
        """Emergent heads that are so in 95 % of resamples at least; none where there are no resamples."""
        if self.support is None:
            return []
        return [head for head in self.emergent if self.support.emergent[head] >= _SURE]

    @property
    def mlps(self) -> dict[str, list[int]]:
        """The layers of emergent, retained and lost MLPs."""
        before, after = set(self.base.mlps), set(self.post.mlps)
        parts = {"emergent": after - before, "retained": after & before, "lost": before - after}
        return {name: sorted(layers) for name, layers in parts.items()}

    @property
    def counts(self) -> dict[str, int]:
        """How many heads are in either circuit, emergent, retained, lost, and for sure emergent."""
        sizes = {f"{name} heads": int(mask.sum()) for name, mask in zip(self.names, self.masks, strict=True)}
        parts = ("emergent", "retained", "lost", "sure")
        return sizes | {name: len(getattr(self, name)) for name in parts}

    @property
    def notes(self) -> list[str]:
        """What has to be known to read the counts."""
        told = []
        for graph, name, what in zip(
            (self.base, self.post), self.names, ("nothing can emerge", "nothing can be lost"), strict=True
        ):
            if uncut(graph):
                told.append(
                    f"{name} is uncut: all its heads are in the circuit, so {what}; cut it first (top, threshold)"
                )
            elif not graph.size:
                told.append(f"{name} has no edge in its circuit")
        sizes = self.base.size, self.post.size
        if min(sizes) and max(sizes) > 1.5 * min(sizes):
            told.append(
                f"the circuits differ in size ({sizes[0]:,} and {sizes[1]:,} edges), and a larger one has more heads "
                "whatever they do; cut both to one number of edges to see what is left of it"
            )
        return [*told, self.unknown] if self.unknown else told

    # Tables

    @cached_property
    def effects(self) -> HeadEffects:
        """Importances before and after, and the effect that is made of them; see `effect`."""
        return effect(self.base, self.post, names=self.names)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row for each head of the model, those that changed first.

        Columns: `layer`, `head`, `change` ("emergent", "lost", "retained", "neither"), `importance_base` and
        `importance_post` (shares of all heads'), `effect`; and of resamples, where there are any, how often it is
        `in_base`, `in_post` and `emergent`, and how often it would seem emergent by noise alone (`by_noise`).
        """
        layers, heads = (column.numpy() for column in there(self.base.layout).nonzero().T)
        before, after = (mask.numpy()[layers, heads] for mask in self.masks)
        table: dict[str, Any] = {
            "layer": layers,
            "head": heads,
            "change": np.array(_WORDS, dtype=object)[before + 2 * after.astype(int)],
            "importance_base": self.effects.base.numpy()[layers, heads],
            "importance_post": self.effects.post.numpy()[layers, heads],
            "effect": self.effects.values.numpy()[layers, heads],
        }
        if self.support is not None:
            columns = {"in_base": "base", "in_post": "post", "emergent": "emergent", "by_noise": "by_noise"}
            table |= {name: getattr(self.support, of).numpy()[layers, heads] for name, of in columns.items()}
        rank = {"emergent": 0, "lost": 1, "retained": 2, "neither": 3}
        frame = pd.DataFrame(table)
        order = np.lexsort((-frame["importance_post"], frame["change"].map(rank)))
        return frame.iloc[order].reset_index(drop=True)

    @property
    def layers(self) -> pd.DataFrame:
        """A row a layer: how many heads are emergent, retained and lost, and what became of its MLP."""
        parts = {"emergent": self.emergent, "retained": self.retained, "lost": self.lost}
        table: dict[str, Any] = {"layer": range(self.base.layout.n_layers)}
        for name, heads in parts.items():
            table[name] = np.bincount([layer for layer, _ in heads], minlength=self.base.layout.n_layers)
        became = {layer: name for name, layers in self.mlps.items() for layer in layers}
        table["mlp"] = [became.get(layer, "neither") for layer in table["layer"]]
        return pd.DataFrame(table)

    # Pictures

    def plot(self, of: Literal["heads", "circuits"] = "heads", *, axes: Axes | None = None) -> Axes:
        """Draw each head's effect with outlines round what emerged, stayed and was lost, or both circuits overlaid.

        Raises:
            CircuitError: of neither.
        """
        from circuitkit import plots

        title = f"From {self.names[0]} to {self.names[1]}"
        if of == "circuits":
            return plots.circuit_overlay(self.base, self.post, names=self.names, title=title, axes=axes)
        if of != "heads":
            raise CircuitError(f"heads or circuits can be drawn, not {of!r}")
        before, after = self.masks
        return plots.head_map(
            self.effects.values,
            title=f"{title}: effect of training on heads' importance",
            unit="effect: (post − base) / (post + base)",
            outlined={"emergent": after & ~before, "lost": before & ~after, "retained": before & after},
            centre=0.0,
            axes=axes,
        )

    # Said

    def __str__(self) -> str:
        base, post = self.names
        lines = [
            f"{base}: {self.base.size:,} edges, {len(self.base.heads)} heads, {len(self.base.mlps)} MLPs; {post}: "
            f"{self.post.size:,} edges, {len(self.post.heads)} heads, {len(self.post.mlps)} MLPs"
        ]
        for name in ("emergent", "lost", "retained"):
            heads: list[Head] = getattr(self, name)
            lines.append(f"{name}: {len(heads)} head{'s' * (len(heads) != 1)}{self._told(name, heads)}")
        lines.append("MLPs: " + ", ".join(f"{len(layers)} {name}" for name, layers in self.mlps.items()))
        if self.support is not None:
            lines.append(self._sureness(self.support))
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _told(self, name: str, heads: Sequence[Head]) -> str:
        if not heads:
            return ""
        strength = self.effects.base if name == "lost" else self.effects.post
        ordered = sorted(heads, key=lambda head: -float(strength[head]))
        said = [called(head) + self._often(name, head) for head in ordered[:_SHOWN]]
        more = f" and {len(heads) - _SHOWN} more" if len(heads) > _SHOWN else ""
        return f": {', '.join(said)}{more}"

    def _often(self, name: str, head: Head) -> str:
        if self.support is None:
            return ""
        often = float(getattr(self.support, name)[head])
        return "" if often >= _SURE else f" ({100 * often:.0f} % of resamples)"

    def _sureness(self, support: Support) -> str:
        n = len(self.emergent)
        draws = len(support.counts)
        noise = [
            f"{name} against itself {each.double().mean():.1f} (at most {int(each.max())})"
            for name, each in zip(self.names, support.noise, strict=True)
        ]
        drawn = "the same problems for both" if support.paired else "each model's own problems"
        return (
            f"of {n} emergent head{'s' * (n != 1)} {len(self.sure)} emerge{'s' * (len(self.sure) == 1)} in "
            f"{100 * _SURE:.0f} % of resamples or more ({draws} resamples of {support.clusters} problems, {drawn}); "
            f"noise alone makes emerge: {', '.join(noise)}; chance of as many between two samples of one model: p "
            f"{support.p(n):.3f}"
        )

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        return f"HeadChanges({self.names[0]} to {self.names[1]}: {counts})"

    # Files

    def save(self, path: str | Path) -> Path:
        """Write both circuits and what resamples say to one file, whole or not at all; the examples' scores stay out.

        A folder gets `head_changes.safetensors`. Raises ValueError for a file of another suffix.
        """
        arrays: dict[str, Tensor] = {}
        told: dict[str, Any] = {"names": list(self.names), "unknown": self.unknown, "provenance": dict(self.provenance)}
        for name, graph in (("base", self.base), ("post", self.post)):
            parts, of_graph = files.packed(graph)
            arrays |= {
                f"{name}.{part}": array for part, array in parts.items() if part not in ("per_example", "groups")
            }
            told[name] = of_graph
        # Importances are made of the examples' scores, and kept.
        arrays |= {f"importance.{name}": getattr(self.effects, name) for name in ("base", "post")}
        told["importance_of"] = self.effects.of
        if self.support is not None:
            held = {each.name: getattr(self.support, each.name) for each in fields(Support)}
            arrays |= {f"support.{name}": value for name, value in held.items() if isinstance(value, Tensor)}
            told["support"] = {name: value for name, value in held.items() if not isinstance(value, Tensor)}
        return saving.save(path, "head_changes", arrays, told)

    @classmethod
    def load(cls, path: str | Path) -> HeadChanges:
        """Read what `save` wrote, from its file or its folder.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the file is cut short, or holds something else.
        """
        arrays, told = saving.load(path, "head_changes")
        base, post = (
            files.unpacked(path, {key.removeprefix(f"{name}."): array for key, array in arrays.items()}, told[name])
            for name in ("base", "post")
        )
        support = None
        if "support" in told:
            held: dict[str, Any] = {
                name.removeprefix("support."): value for name, value in arrays.items() if name.startswith("support.")
            }
            held |= told["support"] | {"rules": tuple(told["support"]["rules"])}
            support = Support(**held)
        names = told["names"][0], told["names"][1]
        changes = cls(base, post, names, support, told["unknown"], told["provenance"])
        changes.__dict__["effects"] = HeadEffects(
            arrays["importance.base"], arrays["importance.post"], of=told["importance_of"], names=names
        )
        return changes
