"""Which prompts' and heads' attention a page has room for: tokens are never cut, and what is left out is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil, floor

from circuitkit.report.sections.attending import Captured, Head, elsewhere
from circuitkit.report.sections.attention_weights import Shown

MOST_WEIGHTS = 1_000_000
"""How many bytes the weights of all prompts and heads have: half as many weights of 16 bits, or all of them of 8."""

MOST_SMALL = 250_000
"""How many bytes the small maps of heads that are left out have."""

SIDES = (32, 16)
"""Pixels of a small map's side, as many as there is room for."""

_ROUNDING = 1e-6
"""By how much a weight may be over 1, or under 0, from rounding alone."""


@dataclass(frozen=True)
class Chosen:
    """What of captured attention is in a page.

    Attributes:
        readings: the prompts, with their heads.
        start: the head that is shown first.
        beside: which reading stands beside the first; None for none.
        notes: what is left out.
    """

    readings: tuple[Shown, ...]
    start: Head
    beside: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Measured:
    """A prompt, how far each head looks about on it, and how it is held; heads with NaN have no strength."""

    captured: Captured
    strengths: dict[Head, float]
    causal: bool
    low: float
    high: float

    def cost(self, fine: bool) -> int:
        """Bytes of a head's weights; those that may be under 0 have no root, and so always 16 bits."""
        return self.n_weights * (2 if self.fine(fine) else 1)

    def fine(self, fine: bool) -> bool:
        return fine or self.low < 0

    @property
    def n_weights(self) -> int:
        n = len(self.captured.words)
        return n * (n + 1) // 2 if self.causal else n * n


def chosen(every: Sequence[Captured], start: Head | None, most: int = MOST_WEIGHTS) -> Chosen:
    """Choose prompts and heads so that their weights have no more than `most` bytes.

    The first prompt of each file stays, and one of a name beside it, if one head of each has room; then as many heads
    as there is room for, those first that attend most to tokens other than the first one and themselves; then prompts.
    Weights have 16 bits where those of all heads have room, and 8 else.

    Args:
        every: all prompts.
        start: the head that a study found, if one did.
        most: bytes that there is room for.
    """
    beside = _beside(every)
    wanted = [each for at, each in enumerate(every) if at == 0 or at == beside or (each.first and at < 4)]
    measured = [_measured(each) for each in wanted]
    notes = [note for each in measured if (note := _spoiled(each))]
    measured = [each for each in measured if each.strengths]
    fine = sum(len(each.strengths) * each.cost(True) for each in measured) <= most
    while measured and sum(each.cost(fine) for each in measured) > most:
        left = measured.pop()
        notes.append(
            f"{_of(left.captured)} is left out: one head's attention on its {len(left.captured.words):,} tokens has "
            f"{left.n_weights:,} weights, and the page has room for {most:,} in all. 'circuitkit attention scores' "
            "scores long prompts."
        )
    ranked = _ranked(measured, start)
    if not ranked:
        return Chosen((), start or every[0].heads[0], None, tuple(notes))
    heads = _fitting(measured, ranked, fine, most)
    side = _side(measured, heads)
    notes += _left_out(measured, ranked, heads, side)
    readings = [_shown(each, heads, side, fine) for each in measured]
    room = most - sum(len(each.kept) * one.cost(fine) for each, one in zip(readings, measured, strict=True))
    notes += [
        f"{_of(each.captured)} is left out: there is room for none of its heads." for each in readings if not each.kept
    ]
    readings = [each for each in readings if each.kept]
    more = _more(every, wanted, heads, fine, room) if len(heads) == len(ranked) else []
    if left_out := len(every) - len(wanted) - len(more):
        notes.append(f"{left_out} of {len(every)} prompts are left out, to keep the page small.")
    kept = [each.captured for each in readings]
    second = every[beside] if beside is not None else None
    return Chosen((*readings, *more), ranked[0], kept.index(second) if second in kept else None, tuple(notes))


def _beside(every: Sequence[Captured]) -> int | None:
    """The prompt that stands beside the first: another file's first, or the second where prompts have names."""
    others = [at for at, each in enumerate(every) if at and each.first]
    if others:
        return others[0]
    return 1 if len(every) > 1 and every[0].attention.names else None


def _measured(captured: Captured) -> _Measured:
    strengths: dict[Head, float] = {}
    causal, low, high = True, 0.0, 1.0
    for layer in captured.layers:
        patterns = captured.patterns(layer)
        causal &= not bool(patterns.nan_to_num().triu(1).any())
        finite = patterns[patterns.isfinite()]
        if len(finite):
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        for head, (pattern, strength) in enumerate(zip(patterns, elsewhere(patterns).tolist(), strict=True)):
            if bool(pattern.isfinite().all()):
                strengths[layer, head] = strength
    return _Measured(captured, strengths, causal, floor(low + _ROUNDING), ceil(high - _ROUNDING))


def _spoiled(measured: _Measured) -> str | None:
    nan = [head for head in measured.captured.heads if head not in measured.strengths]
    if not nan:
        return None
    return f"On {_of(measured.captured)}, the attention of {_listed(nan)} holds NaN or infinity, and is left out."


def _ranked(measured: Sequence[_Measured], start: Head | None) -> list[Head]:
    """Heads of any of the prompts, the one that a study found first, then by where they look on average."""
    found: dict[Head, list[float]] = {}
    for each in measured:
        for head, strength in each.strengths.items():
            found.setdefault(head, []).append(strength)
    return sorted(found, key=lambda head: (head != start, -sum(found[head]) / len(found[head]), head))


def _fitting(measured: Sequence[_Measured], ranked: Sequence[Head], fine: bool, most: int) -> set[Head]:
    heads: set[Head] = set()
    taken = 0
    for head in ranked:
        taken += sum(each.cost(fine) for each in measured if head in each.strengths)
        if taken > most:
            break
        heads.add(head)
    return heads


def _side(measured: Sequence[_Measured], heads: set[Head]) -> int | None:
    """The largest side of small maps for which there is room."""
    left_out = sum(len(each.strengths.keys() - heads) for each in measured)
    return next((side for side in SIDES if left_out * side * side <= MOST_SMALL), None)


def _left_out(measured: Sequence[_Measured], ranked: Sequence[Head], heads: set[Head], side: int | None) -> list[str]:
    if len(heads) == len(ranked):
        return []
    lengths = ", ".join(f"{len(each.captured.words):,}" for each in measured)
    what = "Left out are" if side is None else "Only small maps are there of"
    return [
        f"With prompts of {lengths} tokens, {len(heads)} of {len(ranked)} heads are in the page: those that attend "
        "most to tokens other than the first one and the one that looks. "
        f"{what} {_listed(sorted(set(ranked) - heads))}. Patterns of fewer layers, or of a shorter prompt, have room "
        "for more."
    ]


def _shown(measured: _Measured, heads: set[Head], side: int | None, fine: bool) -> Shown:
    there = [head for head in measured.captured.heads if head in measured.strengths]
    kept, left_out = (tuple(head for head in there if (head in heads) is which) for which in (True, False))
    return Shown(
        measured.captured, kept, left_out, side, measured.causal, measured.fine(fine), measured.low, measured.high
    )


def _more(
    every: Sequence[Captured], wanted: Sequence[Captured], heads: set[Head], fine: bool, room: int
) -> list[Shown]:
    """Further prompts with all their heads, in their order, while there is room."""
    found = []
    for captured in every:
        if captured in wanted:
            continue
        measured = _measured(captured)
        shown = _shown(measured, heads, None, fine)
        room -= len(shown.kept) * measured.cost(fine)
        if room < 0:
            break
        if shown.kept:
            found.append(shown)
    return found


def _of(captured: Captured) -> str:
    return captured.name or "the prompt"


def _listed(heads: Sequence[Head]) -> str:
    """Heads in words, runs of neighbours as one.

    >>> _listed([(0, 1), (0, 2), (0, 3), (0, 5), (2, 0)])
    'layer 0 heads 1-3, 5; layer 2 head 0'
    """
    told = []
    for layer, group in groupby(heads, key=lambda head: head[0]):
        numbers = [head for _, head in group]
        runs = [
            [number for _, number in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
        ]
        parts = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
        told.append(f"layer {layer} head{'s' if len(numbers) > 1 else ''} {', '.join(parts)}")
    return "; ".join(told)
