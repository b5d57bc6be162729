"""Which parameters of a checkpoint are others than in the one that it was trained from, and whether they were to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from circuitkit.sfn.errors import SfnError
from circuitkit.sfn.progress import bytes_bar
from circuitkit.sfn.streams.checkpoint import Checkpoint
from circuitkit.sfn.streams.selection import Paired, pair, select
from circuitkit.showing import Shown

if TYPE_CHECKING:
    import pandas as pd

    from circuitkit.model import Model

_BLOCK = 1 << 24
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class MovedError(SfnError):
    """A parameter that was to stay as it was, and has not."""


@dataclass(frozen=True, eq=False, repr=False)
class Moved(Shown):
    """What a training moved, told from two checkpoints.

    Attributes:
        a, b: their names.
        train: the modules that were to be trained.
        frame: a row a parameter of a role: `parameter`, `module`, `layer` (−1 outside of layers), `numbers`, whether it
            was to be `trained`, and how many of its numbers are others (`changed`).
        rounded: B is stored in less precision than A, so that A was rounded to B's, and moves below that are not seen.
    """

    a: str
    b: str
    train: tuple[str, ...]
    frame: pd.DataFrame
    rounded: bool

    def check(self) -> None:
        """Refuse a training that moved what was frozen.

        Raises:
            MovedError: it did; the first such parameter is named.
        """
        astray = self.frame[~self.frame["trained"] & (self.frame["changed"] > 0)]
        if len(astray):
            first = astray.iloc[0]
            raise MovedError(
                f"{len(astray)} parameters of {self.b} were to stay as in {self.a} and have moved: the first is "
                f"{first['parameter']} ({first['module']}), {first['changed']:,} of {first['numbers']:,} numbers"
            )


def moved(
    a: str | Path | Checkpoint | Model,
    b: str | Path | Checkpoint | Model,
    train: str | Iterable[str],
    layers: int | Sequence[int] | None = None,
    *,
    progress: bool = True,
) -> Moved:
    """Compare every parameter of a trained checkpoint with that before, number by number, in blocks.

    A is rounded to B's precision where that is less; a model that was trained in more precision than it was stored in
    is compared in that.

    Args:
        a: before the training: a folder, a hub id, an embedded model, or a `ck.Model`.
        b: after it.
        train: roles, groups or names of the modules that were trained.
        layers: of these layers alone, negative ones from the end, and those outside of layers; all if None.
        progress: show a bar, in bytes.

    Raises:
        SelectionError: there are no such modules or layers.
        PairError: the two are not of one architecture and size.

    >>> found = moved("deductor-20k-base", "deductor-20k-base", ["o_proj"], progress=False)
    >>> found.check(), int(found.frame["changed"].sum())
    (None, 0)
    """
    before, after = Checkpoint.open(a), Checkpoint.open(b)
    asked = (train,) if isinstance(train, str) else tuple(train)
    chosen = {part.key for part in _chosen(before, asked, layers)}
    pairs = pair(before, after)
    total = sum(each.a.numel * before.tensors[each.a.tensor].dtype.itemsize for each in pairs)
    rows = []
    with bytes_bar(total, f"comparing {after.name}", progress) as bar:
        for each in pairs:
            rows.append(_row(each, each.a.key in chosen, _changed(before, after, each, bar)))
    return Moved(before.name, after.name, asked, _frame(rows), any(_narrower(before, after, each) for each in pairs))


def _chosen(checkpoint: Checkpoint, train: Sequence[str], layers: int | Sequence[int] | None) -> tuple[Any, ...]:
    """The parts of the modules, biases too: of layers that are named, and what lies in none, as a training has it."""
    parts = select(checkpoint.parts, train, biases=True, name=checkpoint.name)
    if layers is None:
        return parts
    inside = {part.key for part in select(checkpoint.parts, "all", layers, biases=True, name=checkpoint.name)}
    return tuple(part for part in parts if part.layer is None or part.key in inside)


def _changed(before: Checkpoint, after: Checkpoint, each: Paired, bar: Any) -> int:
    """How many numbers of a part are others than in its counterpart."""
    mine, theirs = each.a, each.b
    if (mine.rows, mine.columns, mine.of[-1:]) != (theirs.rows, theirs.columns, theirs.of[-1:]):
        # Other tensors lie around it there: the part is compared as a whole.
        old, new = mine.take(before.read(mine.tensor)), theirs.take(after.read(theirs.tensor))
        bar.update(old.nbytes)
        return _differing(old, new)
    found = 0
    held = (before, before.tensors[mine.tensor]), (after, after.tensors[theirs.tensor])
    rows = max(1, _BLOCK // max(stored.row_nbytes for _, stored in held))
    sides = (checkpoint.blocks(stored.name, rows * stored.row_nbytes) for checkpoint, stored in held)
    for (at, old), (_, new) in zip(*sides, strict=False):
        own, other = mine.within(at), theirs.within(at)
        if own is not None and other is not None:
            piece = own[0].take(old)
            bar.update(piece.nbytes)
            found += _differing(piece, other[0].take(new))
    return found


def _differing(old: Tensor, new: Tensor) -> int:
    kind = _BITS[new.dtype.itemsize]
    one, other = (each.contiguous().view(kind) for each in (old.to(new.dtype), new))
    return int(torch.count_nonzero(one != other))


def _narrower(before: Checkpoint, after: Checkpoint, each: Paired) -> bool:
    old, new = before.tensors[each.a.tensor].dtype, after.tensors[each.b.tensor].dtype
    return torch.promote_types(old, new) != new


def _row(each: Paired, trained: bool, changed: int) -> dict[str, Any]:
    return {
        "parameter": each.a.parameter,
        "module": each.a.label,
        "layer": -1 if each.a.layer is None else each.a.layer,
        "numbers": each.a.numel,
        "trained": trained,
        "changed": changed,
    }


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)
