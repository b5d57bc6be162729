"""Token scores of any layers and heads, made as the patterns stream by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from circuitkit import plots, saving
from circuitkit.attention.reductions import FirstColumn, block_scores, require_first_column
from circuitkit.attention.sides import layers_and_heads
from circuitkit.model.pattern_blocks import PatternBlocks
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.pairs import token_text
from circuitkit.records import provenance
from circuitkit.run.streaming import batch_of, row_batches, stream
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from circuitkit.model.model import Model

_KIND = "token_scores"


@dataclass(frozen=True, eq=False, repr=False)
class TokenScores(Shown):
    """Scores of a batch of prompts' tokens, between 0 and 1 within a prompt, a layer and a head.

    Attributes:
        values: NaN on padding, and where a layer lacks a head.
        layers, heads: what the axes of `values` stand for.
        tokens: the batch.
        words: each row's real tokens as text.
        provenance: model, data hash, versions, command.
    """

    values: Float[Tensor, "batch layer head column"]
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    tokens: Tokens
    words: tuple[tuple[str, ...], ...]
    provenance: dict[str, Any]

    def of(self, row: int = 0, layer: int | None = None, head: int | None = None) -> Float[Tensor, " token"]:
        """One prompt's scores in a layer (the last one scored if None) and a head (the mean over heads if None).

        Raises:
            KeyError: the layer or head was not scored.
        """
        at = self._place("layer", self.layers, self.layers[-1] if layer is None else layer)
        scores = self.values[row, at][:, self.tokens.mask[row].to(self.values.device)]
        if head is not None:
            return scores[self._place("head", self.heads, head)]
        return scores[~scores.isnan().any(-1)].mean(0)

    def _place(self, axis: str, names: tuple[int, ...], name: int) -> int:
        if name not in names:
            raise KeyError(f"{axis} {name} was not scored; scored were {', '.join(map(str, names))}")
        return names.index(name)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row a prompt, layer, head and token, with its position and text."""
        values = self.values.cpu().numpy()
        row, layer, head, column = np.nonzero(~np.isnan(values))
        position = self.tokens.positions.cpu().numpy()[row, column]
        return pd.DataFrame(
            {
                "prompt": row,
                "layer": np.array(self.layers)[layer],
                "head": np.array(self.heads)[head],
                "position": position,
                "token": [self.words[at][place] for at, place in zip(row, position, strict=True)],
                "score": values[row, layer, head, column],
            }
        )

    def plot(
        self, row: int = 0, *, layer: int | None = None, head: int | None = None, axes: Axes | None = None
    ) -> Axes:
        """Write one prompt, each token on the colour of its score; see `of` for what no layer and no head mean."""
        shown = self.layers[-1] if layer is None else layer
        which = "mean over heads" if head is None else f"head {head}"
        return plots.tokens(
            self.words[row],
            self.of(row, layer, head),
            title=f"Attention scores of layer {shown}, {which}",
            unit="score (0 to 1 within the prompt)",
            centre=None,
            axes=axes,
        )

    def _says(self) -> list[str]:
        n, layers = len(self.tokens), ", ".join(map(str, self.layers))
        return [
            f"Scores of {n} prompt{'s' * (n != 1)} in layer{'s' * (len(self.layers) != 1)} {layers}; "
            f"below, the first prompt's tokens in layer {self.layers[-1]}, mean over heads."
        ]

    def _strongest(self) -> pd.DataFrame:
        scores = self.of(0)
        rows = {"position": range(len(scores)), "token": self.words[0], "score": scores.tolist()}
        return pd.DataFrame(rows).sort_values("score", ascending=False, kind="stable")

    def save(self, path: str | Path) -> Path:
        """Write the scores to one safetensors file, whole or not at all, and give its path; a folder names it itself.

        Raises:
            ValueError: the file has another suffix.
        """
        told = {"layers": self.layers, "heads": self.heads, "words": self.words, "provenance": self.provenance}
        tensors = {"values": self.values, "ids": self.tokens.ids, "mask": self.tokens.mask}
        return saving.save(path, _KIND, tensors, told)

    @classmethod
    def load(cls, path: str | Path) -> TokenScores:
        """Read scores that `save` wrote, from their file or its folder.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is cut short, or holds something else.
        """
        tensors, told = saving.load(path, _KIND)
        return cls(
            tensors["values"],
            tuple(told["layers"]),
            tuple(told["heads"]),
            Tokens(tensors["ids"], tensors["mask"]),
            tuple(tuple(row) for row in told["words"]),
            told["provenance"],
        )


def scores(
    model: Model,
    prompts: Prompts | Tokens,
    layers: int | Iterable[int] | None = None,
    heads: int | Iterable[int] | None = None,
    *,
    first_column: FirstColumn = "zeroed",
    attention_mask: Tensor | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> TokenScores:
    """Score tokens by the attention that they receive and that of those they attend to, keeping no pattern.

    What `token_scores` says of a captured pattern, made of blocks of a pattern's rows that go by twice, so that memory
    grows with the prompt's length and not with its square. Models that were loaded with eager attention, and those
    that compute attention in their module's forward, hold one layer's pattern at a time. The scores are of the model
    as open contexts have it: within `model.intervene(…)`, they are those of the changed patterns.

    Args:
        model: the model.
        prompts: what it reads.
        layers: which; the last that has a pattern if None. `range(model.n_layers)` are all.
        heads: which; all if None.
        first_column: "zeroed" leaves out what the first token receives, as the papers do; "kept" counts it.
        attention_mask: 1 on real tokens, for a padded token tensor.
        batch_size: prompts at once; as many as are worth it if None.
        progress: show a bar over the prompts.

    Raises:
        SiteError: a layer or head does not exist, or has no pattern.
        PromptError: the model cannot be run on the prompts.
        ValueError: a prompt's tokens all have one score, as those of a prompt of one token have.
        InterventionError: the logits hold NaN.

    Source: Kang & Shin 2023 (SAMRank), as used by Hsiao & Dutta 2025, arXiv 2502.15120.

    >>> scored = scores(ck.load("deductor-130k"), "Every wumpus is a dumpus.", progress=False)
    >>> scored.values.shape, scored.layers
    (torch.Size([1, 1, 4, 6]), (2,))
    """
    require_first_column(first_column)
    tokens = model.tokens(prompts, attention_mask)
    layer_at, head_at = layers_and_heads(model, model.layers_with("pattern")[-1:] if layers is None else layers, heads)
    _require_a_scale(tokens)
    shape = (len(tokens), len(layer_at), len(head_at), tokens.ids.shape[1])
    values = torch.full(shape, torch.nan, dtype=precision(model))
    with tqdm(total=len(tokens), desc="attention scores", unit="prompt", disable=not progress) as bar:
        for rows, columns in row_batches(model, tokens, batch_size):
            part, at = batch_of(tokens, rows, columns), rows.cpu()

            def read(
                layer: int, blocks: PatternBlocks, part: Tokens = part, at: Tensor = at, columns: slice = columns
            ) -> None:
                having = heads_of(model, layer, head_at)
                scored = block_scores(blocks, having, part.mask, first_column).to(values)
                place = [head_at.index(head) for head in having]
                values[at[:, None], layer_at.index(layer), torch.tensor(place)[None], columns] = scored

            stream(model, part, layer_at, read)
            bar.update(len(rows))
    told = provenance(
        model_name=model.name,
        revision=model.revision,
        data=tokens.ids,
        study="attention.scores",
        first_column=first_column,
    )
    return TokenScores(values, tuple(layer_at), tuple(head_at), tokens, words_of(model, tokens), told)


def heads_of(model: Model, layer: int, heads: Sequence[int]) -> list[int]:
    """Those of the heads that a layer has."""
    return [head for head in heads if head < model.n_heads(layer)]


def precision(model: Model) -> torch.dtype:
    """The precision of what is reduced from a pattern: single, or double for a model in double precision."""
    return torch.promote_types(torch.float32, next(model.hf.parameters()).dtype)


def words_of(model: Model, tokens: Tokens) -> tuple[tuple[str, ...], ...]:
    """Each row's real tokens as text."""
    texts = {token: token_text(model, token) for token in set(tokens.ids.flatten().tolist())}
    rows = zip(tokens.ids.tolist(), tokens.mask.tolist(), strict=True)
    return tuple(tuple(texts[token] for token, real in zip(ids, mask, strict=True) if real) for ids, mask in rows)


def _require_a_scale(tokens: Tokens) -> None:
    if len(short := (tokens.lengths < 2).nonzero()):
        raise ValueError(f"prompt {int(short[0])} has one token, so there is no scale from 0 to 1: give 2 or more")
