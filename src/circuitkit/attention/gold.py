"""How well attention points at the token that comes next, over proofs: the scores of Hsiao & Dutta's Table 3."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from circuitkit import plots, saving, statistics
from circuitkit.attention.prefixes import NotCausalError, received_by_prefix, scores_by_prefix
from circuitkit.attention.proofs import Proofs, Texts
from circuitkit.attention.reductions import FirstColumn, received, require_first_column
from circuitkit.attention.sides import layers_and_heads
from circuitkit.attention.streamed import heads_of, precision
from circuitkit.model.pattern_blocks import PatternBlocks
from circuitkit.model.tokens import Tokens
from circuitkit.pairs import token_text
from circuitkit.records import provenance
from circuitkit.run.streaming import batch_of, row_batches, stream
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from circuitkit.model.model import Model

_KIND = "gold_scores"
Match = Literal["id", "text"]


@dataclass(frozen=True, eq=False, repr=False)
class GoldScores(Shown):
    """The best score of each gold token among its earlier occurrences, by proof, layer and head.

    Attributes:
        by_token: 0 where the token occurs nowhere before, NaN behind a gold's end and where a layer lacks a head.
        absent: which gold tokens occur nowhere before.
        layers, heads: what the axes of `by_token` stand for.
        provenance: model, data hash, versions, command.
    """

    by_token: Float[Tensor, "proof layer head token"]
    absent: Bool[Tensor, "proof token"]
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    provenance: dict[str, Any]

    @property
    def values(self) -> Float[Tensor, "proof layer head"]:
        """The mean over each proof's gold tokens."""
        return self.by_token.nanmean(-1)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row a proof, layer and head: the mean score, how many gold tokens, and the share that is absent."""
        values = self.values.numpy()
        proof, layer, head = np.nonzero(~np.isnan(values))
        n_tokens = self._counted.sum(-1).numpy()
        absent = (self.absent & self._counted).sum(-1).numpy() / n_tokens
        return pd.DataFrame(
            {
                "proof": proof,
                "layer": np.array(self.layers)[layer],
                "head": np.array(self.heads)[head],
                "score": values[proof, layer, head],
                "gold_tokens": n_tokens[proof],
                "absent": absent[proof],
            }
        )

    @property
    def _counted(self) -> Bool[Tensor, "proof token"]:
        return ~self.by_token.isnan().all(2).all(1)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a layer and head: the mean over proofs with its 95 % interval (bootstrap over proofs).

        The row of head "mean" is the mean over a layer's heads; of the last layer, it is the papers' figure.
        """
        rows: list[dict[str, Any]] = []
        for at, layer in enumerate(self.layers):
            heads = self.values[:, at].T.double()
            real = ~heads.isnan().all(-1)
            cells = torch.cat([heads[real], heads[real].mean(0, keepdim=True)])
            several = cells.shape[-1] > 1
            low, high = statistics.bootstrap_mean(cells, seed=0) if several else np.full((2, len(cells)), np.nan)
            names = [*(head for head, there in zip(self.heads, real.tolist(), strict=True) if there), "mean"]
            for name, mean, *ends in zip(names, cells.mean(-1).tolist(), low, high, strict=True):
                rows.append({"layer": layer, "head": name, "score": mean, "low": ends[0], "high": ends[1]})
        return pd.DataFrame(rows).assign(proofs=len(self.by_token))

    @property
    def mean(self) -> float:
        """The mean over proofs of the last scored layer's mean over heads: a cell of the papers' Table 3."""
        last = self.table[(self.table["layer"] == self.layers[-1]) & (self.table["head"] == "mean")]
        return float(last["score"].iloc[0])

    def plot(self, *, axes: Axes | None = None) -> Axes:
        """Draw the mean over proofs by layer and head: bars with 95 % intervals for one layer, a map for several."""
        title = f"Attention score of the next gold token, {len(self.by_token)} proof{'s' * (len(self.by_token) != 1)}"
        unit = "best score of an earlier occurrence (0 to 1)"
        if len(self.layers) == 1:
            table = self.table
            several = len(self.by_token) > 1
            return plots.bars(
                table["score"].to_numpy(),
                labels=[f"{head}" for head in table["head"]],
                title=title,
                unit=unit,
                name=f"head of layer {self.layers[0]}",
                interval=(table["low"].to_numpy(), table["high"].to_numpy()) if several else None,
                effect_name="mean over proofs",
                axes=axes,
            )
        return plots.heatmap(
            self.values.nanmean(0),
            row_labels=[str(layer) for layer in self.layers],
            column_labels=[str(head) for head in self.heads],
            title=title,
            row_name="layer",
            column_name="head",
            unit=unit,
            centre=None,
            axes=axes,
        )

    def _strongest(self) -> pd.DataFrame:
        return self.table.sort_values("score", ascending=False, kind="stable")

    def save(self, path: str | Path) -> Path:
        """Write the scores to one safetensors file, whole or not at all, and give its path; a folder names it itself.

        Raises:
            ValueError: the file has another suffix.
        """
        told = {"layers": self.layers, "heads": self.heads, "provenance": self.provenance}
        return saving.save(path, _KIND, {"by_token": self.by_token, "absent": self.absent}, told)

    @classmethod
    def load(cls, path: str | Path) -> GoldScores:
        """Read scores that `save` wrote, from their file or its folder.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is cut short, or holds something else.
        """
        tensors, told = saving.load(path, _KIND)
        return cls(
            tensors["by_token"], tensors["absent"], tuple(told["layers"]), tuple(told["heads"]), told["provenance"]
        )


def gold_scores(
    model: Model,
    prompts: Texts,
    golds: Texts,
    layers: int | Iterable[int] | None = None,
    heads: int | Iterable[int] | None = None,
    *,
    match: Match = "id",
    between: str | None = None,
    first_column: FirstColumn = "zeroed",
    batch_size: int | None = None,
    progress: bool = True,
) -> GoldScores:
    """Score how far attention points at the token that comes next in gold answers, in one forward a proof.

    Before each gold token the prompt and the answer so far are scored as by `scores`; the token's value is the best
    score among positions that hold the same token, and 0 where there is none. The papers' Table 3 is the mean over the
    last layer's heads, over tokens, and over 100 proofs.

    The papers' code differs in two ways that move the figures. Its golds begin with a space and another is put before
    them: `between="  "` does so, where one space is meant. And it compares tokens as strings, so that a word with and
    without its space are one where the tokenizer's texts leave the space out: `match="text"`. High scores go with a
    model's family more than with its accuracy; see the page on attention scores.

    Args:
        model: a causal model.
        prompts, golds: what is asked and the right answers, as text or as token ids.
        layers: which; the last that has a pattern if None.
        heads: which; all if None.
        match: "id" compares token ids; "text" what the tokenizer writes for each alone.
        between: what stands between a prompt and its gold, whose own spaces in front are left out; one space if None,
            and nothing behind a prompt that ends in white space. Token ids are joined as they are.
        first_column: see `scores`.
        batch_size: proofs at once; as many as are worth it if None.
        progress: show a bar over the proofs.

    Raises:
        NotCausalError: the pattern of a prefix is no part of the whole's.
        SiteError: a layer or head does not exist, or has no pattern.
        PromptError: a prompt and its gold do not fit the model.
        ValueError: there is not one gold a prompt, one is empty, or the tokens of a prefix all have one score.

    Source: Hsiao & Dutta 2025, arXiv 2502.15120, Table 3 of the revision.

    >>> model = ck.load("deductor-130k")
    >>> scored = gold_scores(model, ["Fae is a wumpus. Prove: Fae is a wumpus."], ["Fae is a wumpus."], progress=False)
    >>> scored.by_token.shape, scored.absent.any().item()
    (torch.Size([1, 1, 4, 5]), False)
    """
    require_first_column(first_column)
    if match not in ("id", "text"):
        raise ValueError(f"match is 'id' or 'text', not {match!r}")
    layer_at, head_at = layers_and_heads(model, model.layers_with("pattern")[-1:] if layers is None else layers, heads)
    proofs = Proofs.of(model, prompts, golds, between)
    n_proofs, most = len(proofs.tokens), max(proofs.n_gold)
    names = _compared(model, proofs.tokens, match)
    by_token = torch.full((n_proofs, len(layer_at), len(head_at), most), torch.nan, dtype=precision(model))
    checked = bool(model.sessions)
    with tqdm(total=n_proofs, desc="gold scores", unit="proof", disable=not progress) as bar:
        for rows, columns in row_batches(model, proofs.tokens, batch_size):
            batch = _Batch.of(model, proofs, rows, columns, names, head_at, first_column)
            stream(model, batch.tokens, layer_at, batch.read)
            if not checked:
                batch.check_prefix(layer_at[0])
                checked = True
            for layer, best in batch.best.items():
                place = torch.tensor([head_at.index(head) for head in heads_of(model, layer, head_at)])
                for row, values, n_gold in zip(rows.tolist(), best.to(by_token), batch.n_gold, strict=True):
                    by_token[row, layer_at.index(layer), place, :n_gold] = values[:, values.shape[-1] - n_gold :]
            bar.update(len(rows))
    told = provenance(
        model_name=model.name,
        revision=model.revision,
        data=proofs.tokens.ids,
        study="attention.gold_scores",
        match=match,
        between=between,
        first_column=first_column,
    )
    return GoldScores(by_token, _absent(proofs, names), tuple(layer_at), tuple(head_at), told)


class _Batch:
    """Some proofs that are run together, and the best score of each of their gold tokens."""

    def __init__(
        self,
        model: Model,
        tokens: Tokens,
        n_gold: Sequence[int],
        names: Int[Tensor, "batch column"],
        heads: Sequence[int],
        first_column: FirstColumn,
    ) -> None:
        self.model, self.tokens, self.n_gold, self.names = model, tokens, n_gold, names
        self.heads, self.first_column = heads, first_column
        self.best: dict[int, Float[Tensor, "batch head prefix"]] = {}
        self.prompt_received: dict[int, Float[Tensor, "head column"]] = {}

    @classmethod
    def of(
        cls,
        model: Model,
        proofs: Proofs,
        rows: Int[Tensor, " row"],
        columns: slice,
        names: Int[Tensor, "proof column"],
        heads: Sequence[int],
        first_column: FirstColumn,
    ) -> _Batch:
        n_gold = [proofs.n_gold[row] for row in rows.tolist()]
        return cls(model, batch_of(proofs.tokens, rows, columns), n_gold, names[rows][:, columns], heads, first_column)

    @property
    def n_prefixes(self) -> int:
        return max(self.n_gold)

    def read(self, layer: int, blocks: PatternBlocks) -> None:
        """Keep the best score before each gold token, 0 where the token occurs nowhere before."""
        having = heads_of(self.model, layer, self.heads)
        given = received_by_prefix(blocks, having, self.tokens.mask, self.n_prefixes, self.first_column)
        # The first row is the longest, whose prompt is run alone afterwards.
        self.prompt_received[layer] = given[0, :, self.n_prefixes - self.n_gold[0]]
        scores = scores_by_prefix(blocks, having, self.tokens.mask, given)
        self._require_a_scale(layer, having, scores)
        same = self._same().to(scores.device)[:, None]
        self.best[layer] = scores.where(same, 0.0).nan_to_num(0.0).amax(-2)

    def _same(self) -> Bool[Tensor, "batch column prefix"]:
        return self.names[:, :, None] == self.names[:, None, -self.n_prefixes :]

    def _require_a_scale(
        self, layer: int, heads: Sequence[int], scores: Float[Tensor, "batch head column prefix"]
    ) -> None:
        flat = scores.isnan().all(-2)
        for row, n_gold in enumerate(self.n_gold):
            if len(where := flat[row, :, self.n_prefixes - n_gold :].nonzero()):
                raise ValueError(
                    f"before gold token {int(where[0, 1])} of a proof all tokens have one score in layer {layer}, head "
                    f"{heads[int(where[0, 0])]}, so there is no scale from 0 to 1"
                )

    def check_prefix(self, layer: int) -> None:
        """Run the first proof's prompt alone, and refuse a model that attends otherwise within it.

        Rotary embeddings that are scaled by the length of the text do, for one.
        """
        row = self.tokens[:1]
        length = int(row.lengths[0]) - self.n_gold[0]
        prompt = row.ids[0][row.mask[0]][:length]
        having = heads_of(self.model, layer, self.heads)
        alone: list[Tensor] = []

        def read(layer: int, blocks: PatternBlocks) -> None:
            alone.append(received(blocks, having, torch.ones(1, length, dtype=torch.bool), self.first_column)[0])

        stream(self.model, Tokens(prompt[None], torch.ones_like(prompt)[None].bool()), [layer], read)
        within = self.prompt_received[layer][:, row.mask[0].to(alone[0].device)][:, :length]
        tolerance = 1e-3 if next(self.model.hf.parameters()).element_size() >= 4 else 5e-2
        if not torch.allclose(within, alone[0], atol=tolerance, rtol=tolerance):
            raise NotCausalError(
                f"layer {layer} of {self.model.name} attends otherwise within a prompt than within the same prompt "
                "with its gold behind it: gold scores need a model whose attention does not hang on what follows, or "
                "on the length of the text"
            )


def _compared(model: Model, tokens: Tokens, match: Match) -> Int[Tensor, "proof column"]:
    """What tokens are compared by: their ids, or numbers of their texts; padding is like nothing."""
    ids = tokens.ids
    if match == "text":
        seen: dict[str, int] = {}
        numbers = {each: seen.setdefault(token_text(model, each), len(seen)) for each in set(ids.flatten().tolist())}
        ids = ids.clone().cpu().apply_(numbers.__getitem__).to(ids.device)
    return ids.masked_fill(~tokens.mask, -1)


def _absent(proofs: Proofs, names: Int[Tensor, "proof column"]) -> Bool[Tensor, "proof token"]:
    absent = torch.zeros(len(proofs.n_gold), max(proofs.n_gold), dtype=torch.bool)
    for row, n_gold in enumerate(proofs.n_gold):
        said = names[row].tolist()
        for at in range(n_gold):
            column = len(said) - n_gold + at
            absent[row, at] = said[column] not in said[:column]
    return absent
