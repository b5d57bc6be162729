"""Tokens chosen by the attention that they receive, and random ones to set beside them: what causal tests cut or force.

A choice is positions for each prompt, as interventions take them for `keys` and `queries`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from circuitkit.attention.proofs import Proofs, Texts
from circuitkit.attention.sides import layers_and_heads
from circuitkit.model.pattern_blocks import PatternBlocks
from circuitkit.model.tokens import Tokens
from circuitkit.run.interventions import Rows
from circuitkit.run.streaming import batch_of, row_batches, stream
from circuitkit.spans import Span, SpanError, Tagger
from circuitkit.tasks.prontoqa.lexicon import tagged

if TYPE_CHECKING:
    from circuitkit.model.model import Model


def received(
    model: Model,
    prompts: Texts,
    answers: Texts,
    layers: int | Iterable[int] | None = None,
    heads: int | Iterable[int] | None = None,
    *,
    between: str | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> list[Float[Tensor, " token"]]:
    """How much attention each token of a prompt receives while the answer behind it is written.

    The share of its attention that the token before each of the answer's tokens, which that one is predicted from,
    puts on a token of the prompt: the mean over the answer's tokens, layers and heads. The shares of a prompt sum to at
    most 1, since the answer receives attention too. For one prompt, a share for each of its tokens.

    Args:
        model: a causal model.
        prompts: what is asked, as text or as token ids.
        answers: what is written behind each: a gold proof, or what the model itself wrote.
        layers: which; all that have a pattern if None.
        heads: which; all if None.
        between: what stands between a prompt and its answer; one space if None, see `gold_scores`.
        batch_size: prompts at once; as many as are worth it if None.
        progress: show a bar over the prompts.

    Raises:
        SiteError: a layer or head does not exist, or has no pattern.
        PromptError: a prompt and its answer do not fit the model.
        ValueError: there is not one answer a prompt, or one is empty.

    >>> (shares,) = received(ck.load("deductor-130k"), ["Every wumpus is a"], ["dumpus."], progress=False)
    >>> len(shares), bool(0 < shares.sum() <= 1)
    (4, True)
    """
    layer_at, head_at = layers_and_heads(model, layers, heads)
    proofs = Proofs.of(model, prompts, answers, between)
    found: list[Tensor] = [torch.empty(0)] * len(proofs.tokens)
    with tqdm(total=len(found), desc="attention received", unit="prompt", disable=not progress) as bar:
        for rows, columns in row_batches(model, proofs.tokens, batch_size):
            part = batch_of(proofs.tokens, rows, columns)
            n_gold = torch.tensor([proofs.n_gold[row] for row in rows.tolist()])
            shares = _shares(model, part, n_gold, layer_at, head_at)
            for row, given, mask, n in zip(rows.tolist(), shares, part.mask, n_gold.tolist(), strict=True):
                found[row] = given[mask][:-n].cpu()
            bar.update(len(rows))
    return found


def _shares(
    model: Model, part: Tokens, n_gold: Tensor, layers: Sequence[int], heads: Sequence[int]
) -> Float[Tensor, "batch column"]:
    """The mean of the rows of pattern that an answer is written from."""
    n_columns = part.ids.shape[1]
    totals: list[Tensor] = []
    ends = part.mask.long().cumsum(-1).argmax(-1).to(n_gold.device)
    # The answer's last token is predicted from the one before it, and its first from the prompt's last.
    at = torch.arange(n_columns)
    writes = (at < ends[:, None]) & (at >= (ends - n_gold)[:, None])

    def read(layer: int, blocks: PatternBlocks) -> None:
        having = [head for head in heads if head < model.n_heads(layer)]
        for block in blocks:
            weights = block.weights[:, having]
            queries = writes[:, block.queries].to(weights.device)
            total = weights.new_zeros(len(weights), n_columns)
            total[:, block.keys] = (weights * queries[:, None, :, None]).sum((1, 2)) / len(having)
            totals.append(total.cpu())

    stream(model, part, layers, read)
    return torch.stack(totals).sum(0) / (len(layers) * n_gold[:, None])


def most_attended(shares: Sequence[Float[Tensor, " token"]], k: int, among: Sequence[Sequence[int]]) -> Rows:
    """The k positions of each prompt that receive the most, of those that may be chosen, in the order of the text.

    Raises:
        ValueError: a prompt has fewer than k positions to choose from, or k is under 1.

    >>> most_attended([torch.tensor([0.9, 0.1, 0.3, 0.2])], 2, among=[(1, 2, 3)])
    ((2, 3),)
    """
    _require(k, shares, among)
    return tuple(
        tuple(sorted(sorted(places, key=lambda at: (-float(row[at]), at))[:k]))
        for row, places in zip(shares, among, strict=True)
    )


def random_tokens(
    beside: Sequence[Sequence[int]],
    among: Sequence[Sequence[int]],
    *,
    seed: int,
    kinds: Sequence[Sequence[str]] | None = None,
) -> Rows:
    """As many random positions as each prompt has chosen ones, none of these; of the same kinds where kinds are given.

    With kinds, one position is drawn for each chosen one, of its kind. Where a prompt has too few others, of a kind or
    at all, chosen ones fill the places that are left: `overlap` tells how many.

    Args:
        beside: the positions that were chosen.
        among: those that may be drawn.
        seed: of the draw.
        kinds: the kind of each token of each prompt, such as its part of speech.

    Raises:
        ValueError: a chosen position is none that may be drawn.

    >>> random_tokens([(1, 4)], [(1, 2, 3, 4)], seed=0)
    ((2, 3),)
    >>> random_tokens([(1,)], [(0, 1, 2)], seed=0, kinds=[["noun", "verb", "verb"]])
    ((2,),)
    """
    random = Random(seed)
    drawn: list[tuple[int, ...]] = []
    for row, (chosen, places) in enumerate(zip(beside, among, strict=True)):
        if missing := sorted(set(chosen) - set(places)):
            raise ValueError(f"position {missing[0]} of prompt {row} is chosen, and none of those that may be drawn")
        kind_of = (lambda at: "") if kinds is None else list(kinds[row]).__getitem__
        wanted: dict[str, list[int]] = defaultdict(list)
        for at in chosen:
            wanted[kind_of(at)].append(at)
        taken: list[int] = []
        for kind, those in wanted.items():
            others = [at for at in places if kind_of(at) == kind and at not in chosen]
            random.shuffle(others)
            lacking = max(0, len(those) - len(others))
            taken += [*others[: len(those)], *random.sample(those, lacking)]
        drawn.append(tuple(sorted(taken)))
    return tuple(drawn)


def overlap(one: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> float:
    """The share of one choice's positions that the other has too, over all prompts.

    >>> overlap([(1, 2)], [(2, 3)])
    0.5
    """
    both = sum(len(set(a) & set(b)) for a, b in zip(one, other, strict=True))
    return both / max(1, sum(len(row) for row in one))


def parts_of_speech(model: Model, prompts: Sequence[str], tagger: Tagger = tagged) -> list[tuple[str, ...]]:
    """Each token's part of speech, "other" for what the tagger passes over; every token of a word has the word's.

    Args:
        model: whose tokens.
        prompts: texts.
        tagger: tells a text's words and their tags; by default the lexicon of PrOntoQA's language.

    Raises:
        SpanError: there is no tokenizer.

    >>> parts_of_speech(ck.load("deductor-130k"), ["Fae is not loud."])
    [('entity', 'copula', 'negation', 'property', 'punctuation')]
    """
    if model.tokenizer is None:
        raise SpanError("parts of speech are told of text, but the model has no tokenizer")
    tokens = model.tokens(list(prompts))
    tags = [["other"] * int(length) for length in tokens.lengths]
    for row, text in enumerate(prompts):
        for tag in sorted({tag for _, _, tag in tagger(text)}):
            try:
                (places,) = Span.of_speech(tag, tagger=tagger).positions(model, text)
            except SpanError:
                # Blanks that are parts of words' tokens are no token's part of speech.
                continue
            for at in places:
                tags[row][at] = tag
    return [tuple(row) for row in tags]


def _require(k: int, shares: Sequence[Tensor], among: Sequence[Sequence[int]]) -> None:
    if k < 1:
        raise ValueError(f"k is how many tokens are chosen, 1 or more, not {k}")
    for row, (given, places) in enumerate(zip(shares, among, strict=True)):
        if len(places) < k:
            raise ValueError(f"prompt {row} has {len(places)} tokens to choose {k} from: ask for fewer")
        if outside := [at for at in places if not 0 <= at < len(given)]:
            raise ValueError(f"prompt {row} has {len(given)} tokens, so there is no position {outside[0]}")
