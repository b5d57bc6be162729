"""How training moved heads' importances: E = (post − base) / (post + base), head by head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.circuits.comparing.comparable import by_layer, check_comparable, paired, there
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.evaluating.resampling import Resampling
from circuitkit.circuits.graphs.graph import Counted, Graph
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EPSILON = 1e-6
"""What keeps the effect of a head that has no importance in either model at 0; of importances that add up to 1."""
Summed = Literal["examples", "means"]


@dataclass(frozen=True, eq=False, repr=False)
class HeadEffects(Shown):
    """Each head's share of all heads' importance before and after, and the effect that is made of them.

    Attributes:
        base: importances in the base model, which add up to 1; NaN where a layer has no such head.
        post: those in the post-trained model; of several checkpoints, their mean.
        of: whether magnitudes were added up example by example ("examples"), or those of mean scores ("means").
        names: what both are called.
        checkpoints: each checkpoint's effect, where there are several.
        low, high: the ends of a 95 % interval, over problems drawn anew; None where there is none.
    """

    base: Float[Tensor, "layer head"]
    post: Float[Tensor, "layer head"]
    of: Summed = "means"
    names: tuple[str, str] = ("base", "post-trained")
    checkpoints: Float[Tensor, "checkpoint layer head"] | None = None
    low: Float[Tensor, "layer head"] | None = None
    high: Float[Tensor, "layer head"] | None = None

    @cached_property
    def values(self) -> Float[Tensor, "layer head"]:
        """The effect, between −1 (all importance lost) and 1 (all of it new); of checkpoints, the mean of theirs."""
        return _effect(self.base, self.post) if self.checkpoints is None else self.checkpoints.mean(0)

    @property
    def frame(self) -> pd.DataFrame:
        """A row a head, the largest effects first: `layer`, `head`, `base`, `post`, `effect` and its `low`, `high`."""
        layers, heads = (column.numpy() for column in (~self.values.isnan()).nonzero().T)
        table = {"layer": layers, "head": heads}
        columns = {"base": self.base, "post": self.post, "effect": self.values, "low": self.low, "high": self.high}
        rows = pd.DataFrame(
            table | {name: value.numpy()[layers, heads] for name, value in columns.items() if value is not None}
        )
        return rows.sort_values(
            "effect", ascending=False, key=lambda each: each.abs(), kind="stable", ignore_index=True
        )

    def plot(self, *, axes: Axes | None = None) -> Axes:
        """Draw the effect as a map of heads, layers upwards."""
        from circuitkit import plots

        return plots.head_map(
            self.values,
            title=f"Importance of heads from {self.names[0]} to {self.names[1]}",
            unit="effect: (post − base) / (post + base)",
            centre=0.0,
            axes=axes,
        )


def effect(
    base: Graph,
    post: Graph | Sequence[Graph] | Mapping[int, Graph],
    edges: Counted = "all",
    *,
    names: tuple[str, str] = ("base", "post-trained"),
    draws: int = 0,
    seed: int = 0,
) -> HeadEffects:
    """How training moved each head's importance: E = (I_post − I_base) / (I_post + I_base + 1e-6).

    A head's importance I is the sum of the magnitudes of the edges out of it, over edges and examples, divided by that
    of all heads. Where a graph has not kept its examples' scores, magnitudes of the mean scores are added up for both
    models instead, which lets effects of opposite sign on different examples cancel: `of` says which. E of a head with
    hardly any importance is all noise: read it beside the importances, or its interval.

    Args:
        base, post: graphs of one architecture that were scored in one way; of several checkpoints, E is their mean.
        edges: count all edges out of a head, or those of each graph's circuit alone.
        names: what both are called.
        draws: resamples for an interval (BCa) over problems; both have to have kept the scores of the same ones.
        seed: of the resamples.

    Raises:
        CircuitError: there is no checkpoint, the graphs cannot be compared, or no head has any importance; or resamples
            are asked for and graphs have not kept the scores of the same problems.

    Source: "Thinking Sparks!" (arXiv 2509.25758).

    >>> layout = ck.circuits.Layout((2,), (2,), (False,))
    >>> scores = torch.zeros(layout.reach.shape)
    >>> scores[1, -1], scores[2, -1] = 3.0, 1.0
    >>> convention = ck.circuits.Convention("eap", "logit_difference")
    >>> base = ck.circuits.Graph(layout, scores, layout.reach, convention)
    >>> post = ck.circuits.Graph(layout, scores[[0, 2, 1, 3]], layout.reach, convention)
    >>> effect(base, post).values.round(decimals=3).tolist()
    [[-0.5, 0.5]]
    """
    after = [post] if isinstance(post, Graph) else list(post.values() if isinstance(post, Mapping) else post)
    if not after:
        raise CircuitError("there is no checkpoint to hold against the base: give one at least")
    for each in after:
        check_comparable(base, each, names)
    kept = all(graph.per_example is not None for graph in (base, *after))
    of: Summed = "examples" if kept else "means"
    if draws:
        _check_drawable(base, after)
    shares = [_share(graph, edges, of) for graph in (base, *after)]
    ends = _interval(base, after, edges, draws, seed) if draws else (None, None)
    several = torch.stack([_effect(shares[0], one) for one in shares[1:]]) if len(after) > 1 else None
    return HeadEffects(shares[0], torch.stack(shares[1:]).mean(0), of, names, several, *ends)


def _effect(base: Tensor, post: Tensor) -> Tensor:
    return (post - base) / (post + base + EPSILON)


def _counted(graph: Graph, edges: Counted) -> Tensor:
    if edges not in ("all", "circuit"):
        raise CircuitError(f"importance counts edges='all' or edges='circuit', not {edges!r}")
    return graph.layout.reach if edges == "all" else graph.members


def _by_example(graph: Graph, edges: Counted) -> Float[Tensor, "example source"]:
    """The sum of magnitudes of edges out of each source, example by example."""
    assert graph.per_example is not None  # the caller looked
    counted = _counted(graph, edges)
    return torch.stack([(each.abs() * counted).sum(1, dtype=torch.float64) for each in graph.per_example])


def _share(graph: Graph, edges: Counted, of: Summed) -> Float[Tensor, "layer head"]:
    if of == "examples":
        importance = by_layer(graph.layout, _by_example(graph, edges).sum(0))
    else:
        importance = by_layer(graph.layout, (graph.scores.abs() * _counted(graph, edges)).sum(1, dtype=torch.float64))
    total = importance.sum()
    if not total > 0:
        raise CircuitError(
            f"no head of {graph.provenance.get('model', 'a graph')} has any importance, since all scores "
            f"{'' if edges == 'all' else 'of its circuit '}out of heads are 0"
        )
    return (importance / total).masked_fill(~there(graph.layout), torch.nan)


def _check_drawable(base: Graph, after: Sequence[Graph]) -> None:
    """Refuse an interval over problems where there is none to draw, since one that is left out would go unseen."""
    for graph in (base, *after):
        if graph.per_example is None:
            raise CircuitError(
                f"no interval can be told: {graph.provenance.get('model', 'a graph')} has no scores of single examples "
                "(attribute with keep_examples=True, or leave draws at 0)"
            )
        if not paired(base, graph):
            before = 0 if base.per_example is None else len(base.per_example)
            raise CircuitError(
                f"no interval can be told: the base has scores of {before} examples and "
                f"{graph.provenance.get('model', 'a graph after it')} of {len(graph.per_example)}, or in other groups; "
                "score both on the same problems, or leave draws at 0"
            )


def _interval(base: Graph, after: Sequence[Graph], edges: Counted, draws: int, seed: int) -> tuple[Tensor, Tensor]:
    groups = None if base.groups is None else base.groups.tolist()
    mask = there(base.layout)
    tables = [by_layer(each.layout, _by_example(each, edges))[:, mask].numpy() for each in (base, *after)]

    def statistic(weights: Float[np.ndarray, "draw example"]) -> Float[np.ndarray, "draw head"]:
        sums = [weights @ table for table in tables]
        before, *later = (each / np.maximum(each.sum(1, keepdims=True), 1e-300) for each in sums)
        return np.asarray(np.mean([(one - before) / (one + before + EPSILON) for one in later], axis=0))

    found = Resampling.of(len(tables[0]), groups, draws, seed).estimates(statistic)
    ends = []
    for end in (found.low, found.high):
        table = torch.full(mask.shape, torch.nan, dtype=torch.float64)
        table[mask] = torch.from_numpy(end)
        ends.append(table)
    return ends[0], ends[1]
