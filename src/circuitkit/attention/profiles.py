"""What each head attends to: how spread out its attention is, and how much falls on which part of speech."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from circuitkit import plots
from circuitkit.attention.reductions import Columns, FirstColumn, block_scores, require_first_column
from circuitkit.attention.sides import layers_and_heads
from circuitkit.attention.streamed import heads_of, precision, words_of
from circuitkit.attention.tagging import FIRST, Tagger, token_tags
from circuitkit.model.pattern_blocks import PatternBlocks
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.records import provenance
from circuitkit.run.streaming import batch_of, row_batches, stream
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from circuitkit.model.model import Model


@dataclass(frozen=True, eq=False, repr=False)
class Profile(Shown):
    """Each head's attention by part of speech, a mean over each prompt's queries.

    Attributes:
        entropy: in nats, of the rows of the pattern, each scaled to sum to 1 where a sink takes some of it.
        shares: of the attention, by the key's part of speech; they sum to 1.
        uniform: the shares if every query attended to all tokens up to itself alike, which shares are held against.
        scores: the mean score of the tokens of a part of speech; NaN where a prompt has none.
        tags: the parts of speech.
        function_words: those that are of function words.
        layers, heads: what the axes stand for; NaN where a layer lacks a head.
        provenance: model, data hash, versions, command.
    """

    entropy: Float[Tensor, "batch layer head"]
    shares: Float[Tensor, "batch layer head tag"]
    uniform: Float[Tensor, "batch tag"]
    scores: Float[Tensor, "batch layer head tag"]
    tags: tuple[str, ...]
    function_words: frozenset[str]
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    provenance: dict[str, Any]

    @property
    def on_function_words(self) -> Float[Tensor, "batch layer head"]:
        """The share of attention on function words, of all but the first token unless that is told apart by its tag."""
        return self.shares[..., self._function].sum(-1)

    @property
    def _function(self) -> list[int]:
        return [at for at, tag in enumerate(self.tags) if tag in self.function_words]

    @property
    def frame(self) -> pd.DataFrame:
        """A row a layer and head, means over prompts: entropy (nats), share on function words, and the uniform one."""
        expected = float(self.uniform[:, self._function].sum(-1).mean())
        rows = [
            {
                "layer": layer,
                "head": head,
                "entropy": float(self.entropy[:, at, place].mean()),
                "function_words": float(self.on_function_words[:, at, place].mean()),
                "function_words_uniform": expected,
            }
            for at, place, layer, head in self._cells()
        ]
        return pd.DataFrame(rows)

    @property
    def by_tag(self) -> pd.DataFrame:
        """A row a layer, head and part of speech, means over prompts: the share, the uniform one, and the score."""
        rows = [
            {
                "layer": layer,
                "head": head,
                "part_of_speech": tag,
                "function_word": tag in self.function_words,
                "share": float(self.shares[:, at, place, number].mean()),
                "uniform": float(self.uniform[:, number].mean()),
                "score": float(self.scores[:, at, place, number].nanmean()),
            }
            for at, place, layer, head in self._cells()
            for number, tag in enumerate(self.tags)
        ]
        return pd.DataFrame(rows)

    def _cells(self) -> list[tuple[int, int, int, int]]:
        real = ~self.entropy.isnan().all(0)
        return [(at, place, self.layers[at], self.heads[place]) for at, place in real.nonzero().tolist()]

    def _strongest(self) -> pd.DataFrame:
        return self.frame.sort_values("function_words", ascending=False, kind="stable")

    def plot(self, *, axes: Axes | None = None) -> Axes:
        """Draw the shares less the uniform ones, a row a head and a column a part of speech."""
        cells = self._cells()
        above = torch.stack([(self.shares[:, at, place] - self.uniform).mean(0) for at, place, _, _ in cells])
        return plots.heatmap(
            above,
            row_labels=[f"{layer}.{head}" for _, _, layer, head in cells],
            column_labels=list(self.tags),
            title=f"Attention by part of speech, {len(self.entropy)} prompt{'s' * (len(self.entropy) != 1)}",
            row_name="layer.head",
            column_name="part of speech of the key",
            unit="share above that of uniform attention",
            axes=axes,
        )


def profile(
    model: Model,
    prompts: Prompts | Tokens,
    tagger: Tagger,
    layers: int | Iterable[int] | None = None,
    heads: int | Iterable[int] | None = None,
    *,
    first_column: FirstColumn = "zeroed",
    attention_mask: Tensor | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> Profile:
    """Measure how spread out heads' attention is, and how much of it falls on each part of speech, keeping no pattern.

    Args:
        model: the model.
        prompts: what it reads; the model needs a tokenizer, whose texts are tagged.
        tagger: gives words their parts of speech: `Lexicon()` for PrOntoQA, `Spacy()`, or the user's own.
        layers: which; the last that has a pattern if None.
        heads: which; all if None.
        first_column: "zeroed" gives the first token a tag of its own, "first token", since it takes most of many heads'
            attention whatever word it is; "kept" gives it its word's.
        attention_mask: 1 on real tokens, for a padded token tensor.
        batch_size: prompts at once; as many as are worth it if None.
        progress: show a bar over the prompts.

    Raises:
        SiteError: a layer or head does not exist, or has no pattern.
        PromptError: the model cannot be run on the prompts.
        ValueError: the model has no tokenizer, or a prompt has one token alone.

    >>> from circuitkit.attention import Lexicon
    >>> found = profile(ck.load("deductor-130k"), "Fae is a wumpus.", Lexicon(), progress=False)
    >>> found.tags
    ('first token', 'copula', 'determiner', 'concept', 'punctuation')
    """
    require_first_column(first_column)
    if model.tokenizer is None:
        raise ValueError(f"{model.name} has no tokenizer, so its tokens have no text whose words could be tagged")
    tokens = model.tokens(prompts, attention_mask)
    layer_at, head_at = layers_and_heads(model, model.layers_with("pattern")[-1:] if layers is None else layers, heads)
    tags, members = _members(model, tokens, tagger, first_column)
    shape = (len(tokens), len(layer_at), len(head_at))
    entropy = torch.full(shape, torch.nan, dtype=precision(model))
    shares, scored = (torch.full((*shape, len(tags)), torch.nan, dtype=precision(model)) for _ in range(2))
    with tqdm(total=len(tokens), desc="attention profile", unit="prompt", disable=not progress) as bar:
        for rows, columns in row_batches(model, tokens, batch_size):
            part, at, of = batch_of(tokens, rows, columns), rows.cpu()[:, None], members[rows.cpu()][:, columns]

            def read(layer: int, blocks: PatternBlocks, part: Tokens = part, at: Tensor = at, of: Tensor = of) -> None:
                having = heads_of(model, layer, head_at)
                place = (at, layer_at.index(layer), torch.tensor([head_at.index(head) for head in having])[None])
                spread, share = _spread(blocks, having, part.mask, of)
                entropy[place], shares[place] = spread.to(entropy), share.to(shares)
                scores = block_scores(blocks, having, part.mask, first_column)
                scored[place] = _mean_by_tag(scores, of).to(scored)

            stream(model, part, layer_at, read)
            bar.update(len(rows))
    told = provenance(
        model_name=model.name,
        revision=model.revision,
        data=tokens.ids,
        study="attention.profile",
        tagger=type(tagger).__name__,
        first_column=first_column,
    )
    function_words = frozenset(tagger.function_words)
    uniform = _uniform(tokens, members).to(shares)
    return Profile(entropy, shares, uniform, scored, tags, function_words, tuple(layer_at), tuple(head_at), told)


def _members(
    model: Model, tokens: Tokens, tagger: Tagger, first_column: FirstColumn
) -> tuple[tuple[str, ...], Bool[Tensor, "batch column tag"]]:
    """The parts of speech in the order in which they occur, and which token has which."""
    tagged = [token_tags(words, tagger) for words in words_of(model, tokens)]
    if first_column == "zeroed":
        tagged = [[FIRST, *tags[1:]] for tags in tagged]
    names = tuple(dict.fromkeys(tag for tags in tagged for tag in tags))
    members = torch.zeros(*tokens.ids.shape, len(names), dtype=torch.bool)
    for row, (tags, real) in enumerate(zip(tagged, tokens.mask.cpu(), strict=True)):
        members[row, real.nonzero()[:, 0], torch.tensor([names.index(tag) for tag in tags])] = True
    return names, members


def _spread(
    blocks: PatternBlocks, heads: Sequence[int], real: Bool[Tensor, "batch column"], members: Tensor
) -> tuple[Float[Tensor, "batch head"], Float[Tensor, "batch head tag"]]:
    """Each head's entropy in nats, and its attention's shares by tag: means over a row's queries."""
    entropy = shares = torch.zeros(())
    for block in blocks:
        columns = Columns.of(real, block.weights.device)
        weights = columns.weights(block, heads)
        total = weights.sum(-1)
        # Of a row p that sums to s, the entropy of p / s is ln s - Σ p ln p / s; rows of padding sum to 0.
        known = total.where(total > 0, 1.0)
        spread = (known.log() + torch.special.entr(weights).sum(-1) / known) * (total > 0)
        entropy = entropy.to(spread) + spread.sum(-1)
        by_tag = weights @ members[:, block.keys].to(weights)[:, None]
        shares = shares.to(spread) + (by_tag / known[..., None]).sum(-2)
    count = real.sum(-1).to(entropy)
    return entropy / count[:, None], shares / count[:, None, None]


def _mean_by_tag(
    scores: Float[Tensor, "batch head column"], members: Bool[Tensor, "batch column tag"]
) -> Float[Tensor, "batch head tag"]:
    of = members.to(scores)
    # Without members, 0 / 0 is NaN, as it should be.
    return scores.nan_to_num(0.0) @ of / of.sum(1)[:, None]


def _uniform(tokens: Tokens, members: Bool[Tensor, "batch column tag"]) -> Float[Tensor, "batch tag"]:
    """Shares of attention that is the same on every token up to the query, a mean over queries."""
    real = tokens.mask.cpu().double()
    so_far = members.double().cumsum(1) / real.cumsum(1).clamp(min=1)[..., None]
    return (so_far * real[..., None]).sum(1) / real.sum(1)[:, None]
