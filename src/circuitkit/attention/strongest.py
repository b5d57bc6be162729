"""The strongest edges of one head, found as its pattern streams by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitkit import plots
from circuitkit.attention.reductions import Columns, FirstColumn, require_first_column
from circuitkit.attention.sides import layers_and_heads
from circuitkit.attention.streamed import words_of
from circuitkit.model.pattern_blocks import PatternBlocks
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.records import provenance
from circuitkit.run.streaming import stream
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from circuitkit.model.model import Model


@dataclass(frozen=True, eq=False, repr=False)
class TopEdges(Shown):
    """The strongest edges of one head on each of a batch of prompts, strongest first.

    Attributes:
        queries, keys: positions among a row's real tokens; -1 where a prompt has fewer edges.
        weights: attention; 0 where a prompt has fewer edges.
        layer, head: whose they are.
        words: each row's real tokens as text.
        provenance: model, data hash, versions, command.
    """

    queries: Int[Tensor, "batch edge"]
    keys: Int[Tensor, "batch edge"]
    weights: Float[Tensor, "batch edge"]
    layer: int
    head: int
    words: tuple[tuple[str, ...], ...]
    provenance: dict[str, Any]

    @property
    def frame(self) -> pd.DataFrame:
        """A row a prompt and edge: positions and texts of its query and key, and its weight."""
        row, edge = (self.queries >= 0).nonzero(as_tuple=True)
        query, key = self.queries[row, edge].tolist(), self.keys[row, edge].tolist()
        said = {
            f"{name}_token": [self.words[at][place] for at, place in zip(row.tolist(), places, strict=True)]
            for name, places in (("query", query), ("key", key))
        }
        weights = self.weights[row, edge].tolist()
        return pd.DataFrame({"prompt": row.tolist(), "query": query, "key": key, **said, "weight": weights})

    def _says(self) -> list[str]:
        n, edges = len(self.words), self.queries.shape[1]
        told = [f"The strongest {edges} edges of layer {self.layer}, head {self.head} on {n} prompt{'s' * (n != 1)}."]
        if len(frame := self.frame):
            first = frame.iloc[int(frame["weight"].argmax())]
            words = (str(first[name]).strip() for name in ("query_token", "key_token"))
            told.append(
                "Most, {:.2f}, goes from {!r} to {!r} in prompt {}.".format(first["weight"], *words, first["prompt"])
            )
        return told

    def plot(self, row: int = 0, *, axes: Axes | None = None) -> Axes:
        """Draw one prompt's edges as arcs over its tokens."""
        there = self.queries[row] >= 0
        return plots.attention_arcs(
            self.words[row],
            self.queries[row, there],
            self.keys[row, there],
            self.weights[row, there],
            title=f"Strongest {int(there.sum())} edges of layer {self.layer}, head {self.head}",
            axes=axes,
        )


def top_edges(
    model: Model,
    prompts: Prompts | Tokens,
    layer: int = -1,
    head: int = 0,
    *,
    n: int = 50,
    first_column: FirstColumn = "zeroed",
    attention_mask: Tensor | None = None,
) -> TopEdges:
    """Find the edges from query to key that carry most attention in one head; the papers draw the top 50.

    Args:
        model: the model.
        prompts: what it reads.
        layer, head: whose edges; the papers draw those of the last layer's head 0.
        n: how many edges a prompt.
        first_column: "zeroed" leaves out edges to the first token, which take most attention in most heads.
        attention_mask: 1 on real tokens, for a padded token tensor.

    Raises:
        SiteError: the layer or head does not exist, or has no pattern.
        ValueError: `n` is under 1.

    Source: Hsiao & Dutta 2025, arXiv 2502.15120, figures of attention.

    >>> edges = top_edges(ck.load("deductor-130k"), "Every wumpus is a dumpus.", n=3)
    >>> edges.frame["weight"].is_monotonic_decreasing
    True
    """
    require_first_column(first_column)
    if n < 1:
        raise ValueError(f"{n} edges are none: give 1 or more")
    tokens = model.tokens(prompts, attention_mask)
    (at,), (named,) = layers_and_heads(model, layer, head)
    found = _Strongest(tokens, named, n, first_column)
    stream(model, tokens, [at], found.read)
    queries, keys = (tokens.positions.cpu().gather(1, places.cpu()) for places in (found.queries, found.keys))
    none = found.weights.cpu() <= 0
    told = provenance(model_name=model.name, revision=model.revision, data=tokens.ids, study="attention.top_edges")
    return TopEdges(
        queries.masked_fill(none, -1),
        keys.masked_fill(none, -1),
        found.weights.cpu().clamp(min=0),
        at,
        named,
        words_of(model, tokens),
        told,
    )


class _Strongest:
    """The strongest edges so far, as columns of a batch."""

    def __init__(self, tokens: Tokens, head: int, n: int, first_column: FirstColumn) -> None:
        self.tokens, self.head, self.first_column = tokens, head, first_column
        device = tokens.ids.device
        self.weights = torch.full((len(tokens), n), -1.0, device=device)
        self.queries = self.keys = torch.zeros(len(tokens), n, dtype=torch.long, device=device)

    def read(self, layer: int, blocks: PatternBlocks) -> None:
        """Take the block's strongest edges among the strongest so far."""
        for block in blocks:
            columns = Columns.of(self.tokens.mask, block.weights.device)
            weights = columns.weights(block, [self.head])[:, 0]
            if self.first_column == "zeroed":
                weights = weights.masked_fill(columns.first[:, None, block.keys], 0.0)
            width, n = weights.shape[-1], self.weights.shape[-1]
            best, where = weights.flatten(1).topk(min(n, weights[0].numel()), dim=-1)
            best, where = best.to(self.weights), where.to(self.queries)
            candidates = [
                torch.cat([self.weights, best], -1),
                torch.cat([self.queries, where // width + block.queries.start], -1),
                torch.cat([self.keys, where % width + block.keys.start], -1),
            ]
            order = candidates[0].argsort(dim=-1, descending=True, stable=True)[:, :n]
            self.weights, self.queries, self.keys = (each.gather(1, order) for each in candidates)
