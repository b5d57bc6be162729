"""Pairs as attribution reads them: which position of the corrupt prompt stands for which of the clean one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from circuitkit.circuits.attributing.linear_maps import wide
from circuitkit.circuits.errors import CircuitError
from circuitkit.metrics import Metric, Targets
from circuitkit.model.tokens import Tokens
from circuitkit.pairs import AlignedPairs, Pairs, Reading, prompt_text
from circuitkit.spans import Span, SpanError

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Align = Literal["tokens", "common"] | Sequence[Span | tuple[Span, Span]]
Matches = list[tuple[int, int]]
"""Positions of a clean prompt, and of its corrupt one, that stand for each other."""


@dataclass(frozen=True, eq=False)
class Aligned:
    """Clean and corrupt prompts as a metric reads them, and which of their columns stand for each other.

    Both run on with all answer tokens but the last where the metric reads those too.

    Attributes:
        clean, corrupt: the two batches, and whose logits are read.
        targets: the answers.
        corrupt_at: the corrupt column that stands for each clean one; −1 where there is none, as on padding.
        first_row: the first row's number among all pairs.
        groups: which pairs share a template.

    >>> from circuitkit.metrics import logit_difference
    >>> pairs = ck.Pairs(["Fae is a lempus."], ["Fae is a wumpus."], [" Fae"], [" Rex"])
    >>> Aligned.of(ck.load("deductor-130k"), pairs, logit_difference).corrupt_at.tolist()
    [[0, 1, 2, 3, 4]]
    """

    clean: Reading
    corrupt: Reading
    targets: Targets
    corrupt_at: Int[Tensor, "batch column"]
    first_row: int = 0
    groups: Int[Tensor, " batch"] | None = None

    @classmethod
    def of(cls, model: Model, pairs: Pairs, metric: Metric, align: Align = "tokens") -> Aligned:
        """Align pairs for a model.

        Args:
            model: the model.
            pairs: the pairs.
            metric: what will be measured, which may read the answer's tokens too.
            align: "tokens" takes pairs of equal lengths, column by column. "common" takes any: the longest common
                beginning and end of each pair's tokens stand for each other, what lies between has no counterpart.
                Spans, each found in both prompts or a (clean, corrupt) pair of them, stand for each other token by
                token, and all else has no counterpart.

        Raises:
            PairError: `align="tokens"`, and a pair's prompts differ in length; or see `Pairs.on`.
            CircuitError: a pair has nothing that stands for each other, or spans of different lengths, missing or
                overlapping ones, or a pad token among its tokens; the pair is named.
        """
        read = pairs.on(model, unequal=align != "tokens")
        _check_padding(model, pairs, read)
        if align == "tokens":
            matches = [[(at, at) for at in range(int(length))] for length in read.clean.lengths]
        elif align == "common":
            matches = [_common(model, read, row) for row in range(len(read.clean))]
        elif not _are_spans(align):
            raise CircuitError(
                f'pairs are aligned by "tokens", "common" or a list of spans (circuitkit.spans.Span), not {align!r}'
            )
        else:
            matches = _by_spans(model, pairs, read, align)
        clean, corrupt = (Reading.of(each, read.targets, metric) for each in (read.clean, read.corrupt))
        return cls(clean, corrupt, read.targets, _columns(read, clean, corrupt, matches), groups=read.groups)

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def counterpart(self) -> Bool[Tensor, "batch column"]:
        """Which clean columns have a corrupt one that stands for them."""
        return self.corrupt_at >= 0

    @property
    def everywhere(self) -> bool:
        """Whether every clean token has a counterpart, and stands where it does."""
        same = self.clean.tokens.mask.shape == self.corrupt.tokens.mask.shape
        return same and bool((self.counterpart == self.clean.tokens.mask).all() & self._in_place)

    @cached_property
    def _in_place(self) -> Bool[Tensor, ""]:
        columns = torch.arange(self.corrupt_at.shape[1], device=self.corrupt_at.device)
        return ((self.corrupt_at == columns) | ~self.counterpart).all()

    def at_clean(self, value: Tensor) -> Tensor:
        """A value `[batch, corrupt column, …]` at the clean columns that it stands for; elsewhere anything."""
        if value.shape[1] == self.corrupt_at.shape[1] and bool(self._in_place):
            return value
        index = self.corrupt_at.clamp(min=0).to(value.device)
        index = index.view(*index.shape, *(1 for _ in value.shape[2:])).expand(-1, -1, *value.shape[2:])
        return value.gather(1, index)

    def difference(self, corrupt: Tensor, clean: Tensor) -> Tensor:
        """Corrupt less clean at clean columns, exactly 0 where there is no counterpart."""
        without = ~self.counterpart.to(clean.device)
        return (self.at_clean(corrupt) - clean).masked_fill_(
            without.view(*without.shape, *(1 for _ in clean.shape[2:])), 0
        )

    def between(self, corrupt: Tensor, clean: Tensor, alpha: float) -> Tensor:
        """A point on the way from corrupt (0) to clean (1) at clean columns; clean where there is no counterpart."""
        # In half precision, two shares of one number do not add up to it.
        dtype = wide(clean.dtype)
        mixed = torch.lerp(self.at_clean(corrupt).to(dtype), clean.to(dtype), alpha).to(clean.dtype)
        kept = self.counterpart.to(clean.device)
        return torch.where(kept.view(*kept.shape, *(1 for _ in clean.shape[2:])), mixed, clean)

    def part(self, rows: slice) -> Aligned:
        """Some rows, without columns that are padding in all of them."""
        clean, clean_from = _trimmed(self.clean, rows)
        corrupt, corrupt_from = _trimmed(self.corrupt, rows)
        at = self.corrupt_at[rows, clean_from:]
        at = torch.where(at >= 0, at - corrupt_from, at)
        targets = self.targets.select(torch.arange(len(self))[rows])
        groups = None if self.groups is None else self.groups[rows]
        return Aligned(clean, corrupt, targets, at, self.first_row + (rows.start or 0), groups)

    def batches(self, size: int) -> Iterator[Aligned]:
        """All rows, some at a time."""
        for start in range(0, len(self), size):
            yield self.part(slice(start, min(start + size, len(self))))


def _trimmed(reading: Reading, rows: slice) -> tuple[Reading, int]:
    mask = reading.tokens.mask[rows]
    first = int(mask.any(0).long().argmax())
    tokens = Tokens(reading.tokens.ids[rows, first:], mask[:, first:])
    return Reading(tokens, reading.columns[rows] - first, reading.first_row + (rows.start or 0)), first


def _check_padding(model: Model, pairs: Pairs, read: AlignedPairs) -> None:
    """Refuse padding that no mask covers, which would be patched as words are."""
    tokenizer = model.tokenizer
    pad = getattr(tokenizer, "pad_token_id", None)
    if pad is None:
        return
    ours = {getattr(tokenizer, f"{name}_token_id", None) for name in ("eos", "bos", "unk")}
    at = _at_uneven_ends(pairs, read, pad) if pad in ours else _anywhere(read, pad)
    if at is not None:
        name, row, position = at
        raise CircuitError(
            f"the {name} prompt of pair {row} has the pad token at position {position}, and it is not masked: give "
            "prompts as text, as lists of ids without padding, which are padded here, or with their mask, as "
            "model.tokens(ids, attention_mask=mask)"
        )


def _anywhere(read: AlignedPairs, pad: int) -> tuple[str, int, int] | None:
    """The first pad token among real tokens: prompt, row and position."""
    for name, tokens in (("clean", read.clean), ("corrupt", read.corrupt)):
        for row, column in ((tokens.ids == pad) & tokens.mask).nonzero().tolist():
            return name, row, int(tokens.positions[row, column])
    return None


def _at_uneven_ends(pairs: Pairs, read: AlignedPairs, pad: int) -> tuple[str, int, int] | None:
    """Padding by a token that prompts may have too: prompts end in one alone, and all in as many.

    Text has no padding, and whoever hands a mask has said what is.
    """
    given = (("clean", pairs.clean, read.clean), ("corrupt", pairs.corrupt, read.corrupt))
    rows = [
        (name, row, (ids[mask] == pad).tolist())
        for name, prompts, tokens in given
        if not isinstance(prompts, Tokens) and not all(isinstance(each, str) for each in prompts)
        for row, (ids, mask) in enumerate(zip(tokens.ids, tokens.mask, strict=True))
    ]
    for step in (1, -1):
        runs = [next((n for n, is_pad in enumerate(each[::step]) if not is_pad), len(each)) for _, _, each in rows]
        if runs and (max(runs) > 1 or max(runs) > min(runs)):
            name, row, each = rows[runs.index(max(runs))]
            return name, row, 0 if step == 1 else len(each) - 1
    return None


def _common(model: Model, read: AlignedPairs, row: int) -> Matches:
    clean, corrupt = (each.ids[row][each.mask[row]].tolist() for each in (read.clean, read.corrupt))
    shorter = min(len(clean), len(corrupt))
    first = next((at for at in range(shorter) if clean[at] != corrupt[at]), shorter)
    last = next((n for n in range(shorter - first) if clean[-1 - n] != corrupt[-1 - n]), shorter - first)
    if first + last == 0:
        raise CircuitError(
            f'pair {row} neither begins nor ends alike, so align="common" finds nothing that stands for each other: '
            f"name spans\n  clean:   {prompt_text(model, read.clean, row)}"
            f"\n  corrupt: {prompt_text(model, read.corrupt, row)}"
        )
    ends = [(len(clean) - n, len(corrupt) - n) for n in range(last, 0, -1)]
    return [(at, at) for at in range(first)] + ends


def _are_spans(align: object) -> bool:
    def is_span(each: object) -> bool:
        return isinstance(each, Span) or (
            isinstance(each, tuple) and len(each) == 2 and all(isinstance(one, Span) for one in each)
        )

    return isinstance(align, Sequence) and not isinstance(align, str) and all(is_span(each) for each in align)


def _by_spans(
    model: Model, pairs: Pairs, read: AlignedPairs, align: Sequence[Span | tuple[Span, Span]]
) -> list[Matches]:
    named = [each if isinstance(each, tuple) else (each, each) for each in align]
    if not named:
        raise CircuitError("align= names no spans: name those that stand for each other in clean and corrupt prompts")
    places = [
        (
            _places(model, "clean", one, pairs.clean, read.clean),
            _places(model, "corrupt", other, pairs.corrupt, read.corrupt),
        )
        for one, other in named
    ]
    matches: list[Matches] = []
    for row in range(len(read.clean)):
        found: Matches = []
        for (one, other), (of_clean, of_corrupt) in zip(named, places, strict=True):
            ours, theirs = of_clean[row], of_corrupt[row]
            if len(ours) != len(theirs):
                raise CircuitError(
                    f"span {one.name} has {len(ours)} tokens in the clean prompt of pair {row}, and span {other.name} "
                    f"{len(theirs)} in the corrupt one, so they do not stand for each other token by token: name "
                    "shorter spans, or several"
                )
            found += zip(ours, theirs, strict=True)
        for which, taken in (("clean", [a for a, _ in found]), ("corrupt", [b for _, b in found])):
            if twice := [at for at in taken if taken.count(at) > 1]:
                raise CircuitError(
                    f"position {twice[0]} of the {which} prompt of pair {row} lies in two of the spans to align by: "
                    "name spans that do not overlap"
                )
        matches.append(sorted(found))
    return matches


def _places(
    model: Model, which: str, span: Span, prompts: Sequence[str] | Tensor | Tokens, tokens: Tokens
) -> list[tuple[int, ...]]:
    text = not isinstance(prompts, Tensor | Tokens) and all(isinstance(each, str) for each in prompts)
    try:
        return span.positions(model, prompts if text else tokens)
    except SpanError as error:
        raise CircuitError(f"align: the {which} prompts lack span {span.name}: {error}") from error


def _columns(
    read: AlignedPairs, clean: Reading, corrupt: Reading, matches: list[Matches]
) -> Int[Tensor, "batch column"]:
    """Matched positions as columns, those of the answers' tokens behind the prompts among them."""
    at = torch.full_like(clean.tokens.ids, -1)
    for row, found in enumerate(matches):
        behind = int(clean.tokens.lengths[row] - read.clean.lengths[row])
        ends = [(int(read.clean.lengths[row]) + n, int(read.corrupt.lengths[row]) + n) for n in range(behind)]
        first, second = (int(each.tokens.mask[row].long().argmax()) for each in (clean, corrupt))
        for ours, theirs in [*found, *ends]:
            at[row, first + ours] = second + theirs
    return at
