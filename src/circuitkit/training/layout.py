"""Rows of tokens with labels: which tokens carry the loss, a row an example or all examples cut into rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from circuitkit.training.errors import TrainingError
from circuitkit.training.examples import Example
from circuitkit.training.losses import NO_LOSS
from circuitkit.training.recipe import Recipe
from circuitkit.training.template import Passage, passages


@dataclass(frozen=True)
class Row:
    """Tokens, each with itself as its label where it carries the loss, and else with −100."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]


class Rows(Sequence[dict[str, Any]]):
    """What a trainer reads: rows as mappings of "input_ids" and "labels".

    Attributes:
        rows: in order.
        dropped: how many examples were left out, as too long.
    """

    def __init__(self, rows: Sequence[Row], dropped: int = 0) -> None:
        self.rows, self.dropped = tuple(rows), dropped

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        row = self.rows[index]
        return {"input_ids": list(row.ids), "labels": list(row.labels)}


def rows_of(
    examples: Sequence[Example], recipe: Recipe, tokenizer: Any, context: int | None, what: str = "data"
) -> Rows:
    """Examples as rows of tokens.

    The loss is never on a row's first token, which nothing predicts.

    Args:
        examples: in order.
        recipe: says text, template, `loss_on`, layout and context.
        tokenizer: of the model, and fast: it tells where in the text each token stands.
        context: the model's, which a row may not exceed.
        what: what messages call the examples.

    Raises:
        TrainingError: an example is too long, or carries no loss; there are too few tokens for a packed row.
    """
    limit = _limit(recipe, context)
    texts = passages(examples, recipe, tokenizer)
    encoded = _encoded(texts, recipe, tokenizer)
    lined = [_row(*each, recipe, tokenizer) for each in zip(texts, encoded, strict=True)]
    if recipe.layout == "pack":
        return Rows(list(_packed(lined, limit, recipe, what)))
    fitting = _fitting([_first_aside(row) for row in lined], examples, limit, recipe, what)
    for row, example, number in fitting:
        if all(label == NO_LOSS for label in row.labels):
            raise TrainingError(
                f"no token of {what} example {example.key or number!r} carries a loss (loss_on {recipe.loss_on!r})"
            )
    return Rows([row for row, _, _ in fitting], len(lined) - len(fitting))


def _limit(recipe: Recipe, context: int | None) -> int | None:
    if recipe.context is None:
        if context is None and recipe.layout == "pack":
            raise TrainingError("this model does not say how long its context is: give context, as rows are cut to it")
        return context
    if context is not None and recipe.context > context:
        raise TrainingError(f"context {recipe.context} is more than the model's, {context}: give that or less")
    return recipe.context


def _encoded(texts: Sequence[Passage], recipe: Recipe, tokenizer: Any) -> list[tuple[list[int], list[int]]]:
    """The tokens of each text, and the character in which each token ends."""
    if not getattr(tokenizer, "is_fast", False):
        raise TrainingError(
            f"{type(tokenizer).__name__} does not tell where its tokens stand in a text: use a fast tokenizer"
        )
    # A chat template writes the tokens that a text begins with itself.
    told = tokenizer(
        [each.text for each in texts],
        add_special_tokens=recipe.text == "plain",
        return_offsets_mapping=True,
        verbose=False,
    )
    return [(list(ids), _ends(offsets)) for ids, offsets in zip(told["input_ids"], told["offset_mapping"], strict=True)]


def _ends(offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Where each token ends; one that stands for no text, such as an end token, ends with the one before."""
    ends, last = [], 0
    for _, end in offsets:
        last = max(last, end)
        ends.append(last)
    return ends


def _row(passage: Passage, encoded: tuple[list[int], list[int]], recipe: Recipe, tokenizer: Any) -> Row:
    ids, ends = encoded
    if recipe.end:
        eos = tokenizer.eos_token_id
        if eos is None:
            raise TrainingError("this tokenizer has no end-of-sequence token: give end=False, or set its eos_token")
        # A chat template may end the reply by this token itself, and write a line end behind it.
        turn = [token for token, end in zip(ids, ends, strict=True) if recipe.text == "chat" and end > passage.chain]
        if eos not in (turn or ids[-1:]):
            ids, ends = [*ids, eos], [*ends, len(passage.text)]
    carrying = _carrying(passage, recipe, ends)
    labels = [token if carries else NO_LOSS for token, carries in zip(ids, carrying, strict=True)]
    return Row(tuple(ids), tuple(labels))


def _first_aside(row: Row) -> Row:
    """A row without loss on its first token."""
    return Row(row.ids, (NO_LOSS, *row.labels[1:]))


def _carrying(passage: Passage, recipe: Recipe, ends: Sequence[int]) -> Iterator[bool]:
    """Whether each token carries the loss.

    A token that straddles two parts is of the later one: it is what has to be written once the earlier is given.
    """
    begins = passage.answer if recipe.loss_on == "answer" else passage.chain
    assert begins is not None
    for end in ends:
        if recipe.loss_on == "everything":
            yield True
        else:
            yield (end > begins) != (recipe.loss_on == "question")


def _fitting(
    rows: Sequence[Row], examples: Sequence[Example], limit: int | None, recipe: Recipe, what: str
) -> list[tuple[Row, Example, int]]:
    numbered = list(zip(rows, examples, range(len(rows)), strict=True))
    if limit is None:
        return numbered
    long = [each for each in numbered if len(each[0].ids) > limit]
    if long and recipe.too_long == "refuse":
        row, example, number = long[0]
        raise TrainingError(
            f"{what} example {example.key or number!r} has {len(row.ids)} tokens, and a row holds {limit} ({len(long)} "
            f"of {len(rows)} are too long): leave them out with too_long='drop', or give a larger context if the model "
            "has one"
        )
    if len(long) == len(rows):
        raise TrainingError(f"every example of {what} has more than {limit} tokens: give a larger context")
    if long:
        warnings.warn(
            f"{len(long)} of {len(rows)} examples of {what} have more than {limit} tokens and are left out",
            stacklevel=2,
        )
    return [each for each in numbered if len(each[0].ids) <= limit]


def _packed(rows: Sequence[Row], limit: int | None, recipe: Recipe, what: str) -> Iterator[Row]:
    assert limit is not None
    at_once = recipe.pack_examples or len(rows)
    n = 0
    for first in range(0, len(rows), at_once):
        some = rows[first : first + at_once]
        ids = [token for row in some for token in row.ids]
        labels = [label for row in some for label in row.labels]
        for begin in range(0, len(ids) - limit + 1, limit):
            n += 1
            yield Row(tuple(ids[begin : begin + limit]), (NO_LOSS, *labels[begin + 1 : begin + limit]))
    if n == 0:
        together = sum(len(row.ids) for row in rows)
        raise TrainingError(
            f"the examples of {what} have {together} tokens together, which do not fill a packed row of {limit}: give "
            "a smaller context, or layout='pad'"
        )


class Collator:
    """Puts rows into a batch, padded on the right with tokens that are masked and carry no loss."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Int[Tensor, "row token"]]:
        """A batch of rows."""
        longest = max(len(row["input_ids"]) for row in rows)

        def filled(name: str, fill: int) -> Tensor:
            return torch.tensor([[*row[name], *[fill] * (longest - len(row[name]))] for row in rows])

        mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows])
        return {"input_ids": filled("input_ids", self.pad), "attention_mask": mask, "labels": filled("labels", NO_LOSS)}
