"""Prompts as token batches, and one forward pass's place in them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from circuitkit.showing import Shown

Prompts = str | Sequence[str] | Sequence[Sequence[int]] | Tensor


class PromptError(ValueError):
    """Prompts that the model cannot be run on."""


@dataclass(frozen=True, repr=False)
class Tokens(Shown):
    """A batch of prompts: token ids, and which columns are real tokens rather than padding.

    Attributes:
        ids: token ids, padding included.
        mask: True on real tokens.
    """

    ids: Int[Tensor, "batch column"]
    mask: Bool[Tensor, "batch column"]

    @cached_property
    def positions(self) -> Int[Tensor, "batch column"]:
        """Each column's position among its row's real tokens; -1 on padding."""
        return (self.mask.long().cumsum(-1) - 1).masked_fill(~self.mask, -1)

    @cached_property
    def lengths(self) -> Int[Tensor, " batch"]:
        """Real tokens in each row."""
        return self.mask.sum(-1)

    @property
    def padded(self) -> bool:
        """Whether any column of any row is padding."""
        return not bool(self.mask.all())

    def __len__(self) -> int:
        return self.ids.shape[0]

    def _says(self) -> list[str]:
        n, lengths = len(self), self.lengths.tolist()
        least, most = (min(lengths), max(lengths)) if lengths else (0, 0)
        long = f"{most}" if least == most else f"{least} to {most}"
        return [f"{n} prompt{'s' * (n != 1)} of {long} token{'s' * (most != 1)}{', padded' if self.padded else ''}."]

    def to(self, device: torch.device) -> Tokens:
        """The same batch on another device."""
        return Tokens(self.ids.to(device), self.mask.to(device))

    def __getitem__(self, rows: slice | Tensor) -> Tokens:
        return Tokens(self.ids[rows], self.mask[rows])

    def columns(self, position: int) -> Int[Tensor, " batch"]:
        """Each row's column of a position; negative positions count from the row's last real token.

        Raises:
            PromptError: a row has no such position.
        """
        columns, found = columns_of(self.positions, absolute(position, self.lengths))
        if not bool(found.all()):
            row = int((~found).nonzero()[0])
            raise PromptError(
                f"position {position} does not exist in row {row}, which has {int(self.lengths[row])} real tokens"
            )
        return columns


def absolute(position: int, lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """A position in every row, negative ones counted from the end of the row's prompt; below 0 where there is none."""
    return lengths + position if position < 0 else torch.full_like(lengths, position)


def columns_of(
    positions: Int[Tensor, "batch column"], wanted: Int[Tensor, " batch"]
) -> tuple[Int[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """Each row's column of a position counted from 0, and whether the row has it; 0 where it has not."""
    # Padding stands at -1, and so would a negative position one before a row's first token.
    here = (positions == wanted[:, None]) & (wanted >= 0)[:, None]
    return here.long().argmax(-1), here.any(-1)


def as_tokens(
    prompts: Prompts | Tokens,
    tokenizer: Any,
    attention_mask: Tensor | None,
    context: int | None,
    vocabulary: int | None = None,
) -> Tokens:
    """Turn text, lists of ids or a tensor into one left-padded batch.

    Text with a word that the tokenizer does not know, and gives its unknown token for, is warned of.

    Args:
        prompts: text, ids, or a batch made before.
        tokenizer: reads text, and says which token is padding; None where there is none.
        attention_mask: goes with a tensor of ids.
        context: most tokens that a prompt may have; None where that is not known.
        vocabulary: token ids lie below it; None where that is not known.

    Raises:
        PromptError: text without a tokenizer, an empty prompt, padding without a pad token or a mask, a token id
            outside the vocabulary, or more tokens than the model's context holds.
    """
    if isinstance(prompts, Tokens):
        tokens = prompts
    elif isinstance(prompts, Tensor):
        tokens = _from_tensor(prompts, tokenizer, attention_mask)
    else:
        if attention_mask is not None:
            raise PromptError("attention_mask goes with a token tensor; text and lists are padded here")
        tokens = _left_padded(_id_lists(prompts, tokenizer), tokenizer)
    if (tokens.lengths == 0).any():
        row = int((tokens.lengths == 0).nonzero()[0])
        raise PromptError(f"prompt {row} is empty: a prompt needs at least one token")
    if vocabulary is not None:
        _check_vocabulary(tokens.ids, vocabulary)
    longest = int(tokens.lengths.max())
    if context is not None and longest > context:
        row = int(tokens.lengths.argmax())
        raise PromptError(
            f"prompt {row} has {longest} tokens, but the model's context holds {context}: shorten it by "
            f"{longest - context} tokens, or use a model with a longer context"
        )
    return tokens


def _check_vocabulary(ids: Tensor, size: int) -> None:
    outside = (ids < 0) | (ids >= size)
    if bool(outside.any()):
        row, column = outside.nonzero()[0].tolist()
        raise PromptError(
            f"token id {int(ids[row, column])} in row {row} is outside the vocabulary, whose {size} ids are 0 to "
            f"{size - 1}: was it made by another model's tokenizer?"
        )


def _id_lists(prompts: str | Sequence[str] | Sequence[Sequence[int]], tokenizer: Any) -> list[list[int]]:
    rows: Sequence[Any] = [prompts] if isinstance(prompts, str) else list(prompts)
    if not rows:
        raise PromptError("there are no prompts")
    if all(isinstance(row, int) for row in rows):
        rows = [rows]
    if all(isinstance(row, str) for row in rows):
        if tokenizer is None:
            raise PromptError("this model has no tokenizer: give token ids, or load it with one")
        encoded = [list(ids) for ids in tokenizer(list(rows))["input_ids"]]
        _warn_of_unknown_words(rows, encoded, tokenizer)
        return encoded
    if any(isinstance(row, str) for row in rows):
        raise PromptError("prompts are all text or all token ids, not a mixture")
    return [[int(token) for token in row] for row in rows]


def _warn_of_unknown_words(texts: Sequence[str], encoded: Sequence[Sequence[int]], tokenizer: Any) -> None:
    unknown = getattr(tokenizer, "unk_token_id", None)
    # Tokenizers that read any text name another special token as the unknown one, and never give it for a word.
    others = {getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad")}
    if unknown is None or unknown in others:
        return
    for row, (text, ids) in enumerate(zip(texts, encoded, strict=True)):
        if unknown not in ids:
            continue
        word = _first_unknown_word(text, unknown, tokenizer)
        if word == tokenizer.unk_token:
            continue
        told = "a word" if word is None else repr(word)
        warnings.warn(
            f"the tokenizer does not know {told} of prompt {row}, so the model reads {tokenizer.unk_token} there",
            stacklevel=2,
        )
        return


def _first_unknown_word(text: str, unknown: int, tokenizer: Any) -> str | None:
    """The first word that becomes the unknown token; None where the tokenizer does not tell where tokens stand."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    read = tokenizer(text, return_offsets_mapping=True)
    words = (
        text[slice(*span)].strip()
        for span, id_ in zip(read["offset_mapping"], read["input_ids"], strict=True)
        if id_ == unknown
    )
    return next((word for word in words if word != tokenizer.unk_token), tokenizer.unk_token)


def _left_padded(rows: list[list[int]], tokenizer: Any) -> Tokens:
    width = max(len(row) for row in rows)
    pad = getattr(tokenizer, "pad_token_id", None)
    if pad is None:
        if any(len(row) != width for row in rows) and tokenizer is not None:
            raise PromptError(
                f"prompts of {min(map(len, rows))} to {width} tokens need padding, but the tokenizer has no pad token: "
                "set one (tokenizer.pad_token = tokenizer.eos_token), or give prompts of equal length"
            )
        # Masked columns are never read, so without a tokenizer any id does.
        pad = 0
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], dtype=torch.long)
    mask = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows])
    return Tokens(ids, mask)


def _from_tensor(ids: Tensor, tokenizer: Any, attention_mask: Tensor | None) -> Tokens:
    if ids.is_floating_point() or ids.ndim not in (1, 2):
        raise PromptError(f"token ids are integers [batch, position], not {ids.dtype} {list(ids.shape)}")
    ids = ids[None] if ids.ndim == 1 else ids
    if not len(ids):
        raise PromptError("there are no prompts")
    if attention_mask is not None:
        mask = attention_mask.to(ids.device).reshape(attention_mask.shape if attention_mask.ndim == 2 else (1, -1))
        if mask.shape != ids.shape:
            raise PromptError(f"attention_mask is {list(mask.shape)}, the token ids are {list(ids.shape)}")
        if ((mask.long().diff(dim=-1) != 0).sum(-1) > 1).any():
            raise PromptError("attention_mask has padding between real tokens; padding goes before or after them")
        return Tokens(ids, mask.bool())
    pad = getattr(tokenizer, "pad_token_id", None)
    special = {getattr(tokenizer, "eos_token_id", None), getattr(tokenizer, "bos_token_id", None)}
    if pad is not None and pad not in special and ids.shape[1]:
        padded = (ids[:, 0] == pad) | (ids[:, -1] == pad)
        if padded.any():
            raise PromptError(
                f"row {int(padded.nonzero()[0])} begins or ends with the pad token ({pad}), and no attention_mask was "
                "given: pass attention_mask, so that padding is not read as text"
            )
    return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))


@dataclass(frozen=True)
class Pass:
    """One forward pass: which columns it computes, and where they stand in their rows.

    Attributes:
        tokens_mask: True on the real tokens of every column so far, cached ones included.
        n_queries: the pass computes the last `n_queries` columns.
        prompt_mask: True on the real tokens of the prompt, whose end negative positions count from.
        repeats: rows that each row of the caller's values stands for (sampled returns).
        generating: whether more tokens may follow.
        first_row: the caller's number of the first row, where a batch is run in parts.
    """

    tokens_mask: Bool[Tensor, "batch column"]
    n_queries: int
    prompt_mask: Bool[Tensor, "batch column"]
    repeats: int = 1
    generating: bool = False
    first_row: int = 0

    @cached_property
    def prompt_lengths(self) -> Int[Tensor, " batch"]:
        """Real tokens of each row's prompt."""
        return self.prompt_mask.sum(-1)

    @cached_property
    def is_whole(self) -> bool:
        """Whether every column is a real token of the prompt, and every row one of the caller's."""
        return not self.generating and self.repeats == 1 and bool(self.tokens_mask.all() & self.prompt_mask.all())

    @property
    def prompt_columns(self) -> int:
        """Columns of the prompt, padding included."""
        return self.prompt_mask.shape[1]

    @cached_property
    def key_positions(self) -> Int[Tensor, "batch key"]:
        """The real position of every column so far; -1 on padding."""
        return (self.tokens_mask.long().cumsum(-1) - 1).masked_fill(~self.tokens_mask, -1)

    @cached_property
    def query_positions(self) -> Int[Tensor, "batch query"]:
        """The real position of each column that this pass computes; -1 on padding."""
        return self.key_positions[:, self.first_column :]

    @property
    def first_column(self) -> int:
        """The first column that this pass computes."""
        return self.tokens_mask.shape[1] - self.n_queries

    def absolute(self, position: int) -> Int[Tensor, " batch"]:
        """A position in every row, negative ones counted from the end of the prompt."""
        return absolute(position, self.prompt_lengths)

    def to(self, device: torch.device) -> Pass:
        """The same pass with its tensors on another device."""
        if self.tokens_mask.device == device:
            return self
        return replace(self, tokens_mask=self.tokens_mask.to(device), prompt_mask=self.prompt_mask.to(device))
