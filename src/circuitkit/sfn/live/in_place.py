"""Weights of a model in memory that are other ones for a while, and come back bit for bit, in whatever order.

A change is written into the very tensor that the model computes with, so that tied weights stay tied, and whatever
else holds the tensor (an optimizer, a compiled graph, a TransformerLens bridge) sees it. Kept are the numbers that it
covers, and nothing else of the model.

Changes of a tensor lie on one another. Where one that others lie on is undone, what it covered is handed to those above
it: the tensor is left alone where they cover it too, and at their end gets back what was under all of them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from circuitkit.sfn.live.homes import Homes, LiveError, send_back, stay

if TYPE_CHECKING:
    from circuitkit.model import Model
    from circuitkit.sfn.streams.parts import Part


@dataclass(eq=False)
class _Change:
    """What lay under some parts of a tensor before they were written."""

    parts: Sequence[Part]
    before: list[Tensor]


_changes: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""Of each tensor that is changed now: its changes, the latest last."""

_lock = threading.RLock()


@contextmanager
def replaced(model: Model, parts: Sequence[Part], new: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
    """Put new numbers in place of some parts of a model's tensors while the context lasts.

    What is written into these parts meanwhile is lost at the end.

    Args:
        model: the model.
        parts: what is replaced, `Part.tensor` being the parameter's name.
        new: from a parameter's name and a copy of all of it on the CPU, what all of it becomes, of the same dtype and
            shape; only the parts are read.

    Raises:
        LiveError: a tensor is quantised or divided among processes, or has an adapter merged into it; or, at the end,
            is no more the model's.
    """
    of_tensor = _by_tensor(parts)
    homes = _checked(model, of_tensor)
    # Sites are found by what the model computes with its own weights, not with zeros in their place.
    _ = model.layers
    done: list[tuple[str, Tensor, _Change]] = []
    lost: dict[str, Exception | None] = {}
    try:
        with _lock:
            for name, mine in of_tensor.items():
                _change(name, homes.of(name), mine, new, done)
        yield
    finally:
        with _lock:
            for name, home, change in reversed(done):
                try:
                    _undo(home, change)
                except (RuntimeError, ValueError) as error:
                    lost[name] = error
                else:
                    lost |= {} if homes.has(name, home) else {name: None}
        for name, why in lost.items():
            other = LiveError(
                f"{name} of {model.name} is another tensor than when the context began, and its numbers could not be "
                "given back: convert, resize or quantise a model outside of the context"
            )
            # What the context ended with is told too.
            other.__cause__ = why or sys.exception()
            raise other


def replace(model: Model, parts: Sequence[Part], new: Callable[[str, Tensor], Tensor]) -> None:
    """Put new numbers in place of some parts of a model's tensors for good.

    Args:
        model: the model.
        parts: what is replaced, as of `replaced`.
        new: as of `replaced`; asked for all tensors before the first is written.

    Raises:
        LiveError: see `replaced`.
    """
    found: list[tuple[Tensor, list[tuple[Part, Tensor]]]] = []
    of_tensor = _by_tensor(parts)
    homes = _checked(model, of_tensor)
    with _lock:
        for name, mine in of_tensor.items():
            home = homes.of(name)
            with _given_up(home):
                value = new(name, home.detach().to("cpu", copy=True))
            found.append((home, [(part, part.take(value).clone()) for part in mine]))
        for home, values in found:
            _put(home, values)
            stay(home)


def _by_tensor(parts: Sequence[Part]) -> dict[str, list[Part]]:
    found: dict[str, list[Part]] = {}
    for part in parts:
        found.setdefault(part.tensor, []).append(part)
    return found


def _checked(model: Model, names: Iterable[str]) -> Homes:
    homes = Homes(model)
    for name in names:
        homes.check(name)
    return homes


def _change(
    name: str,
    home: Tensor,
    parts: Sequence[Part],
    new: Callable[[str, Tensor], Tensor],
    done: list[tuple[str, Tensor, _Change]],
) -> None:
    """Change one tensor, and note that it is to be undone before it is written."""
    with _given_up(home):
        value = new(name, home.detach().to("cpu", copy=True))
        done.append((name, home, _kept(home, parts)))
        _put(home, [(part, part.take(value)) for part in parts])


def _kept(home: Tensor, parts: Sequence[Part]) -> _Change:
    """A change that is about to be written, and what is under it."""
    plain = home.detach()
    change = _Change(parts, [part.take(plain).clone() for part in parts])
    _changes.setdefault(home, []).append(change)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return change


def _put(home: Tensor, values: Iterable[tuple[Part, Tensor]]) -> None:
    plain = home.detach()
    # What was made in inference mode is written in it alone.
    with torch.inference_mode() if home.is_inference() else torch.no_grad():
        for part, value in values:
            part.put(plain, value.to(plain))


def _undo(home: Tensor, change: _Change) -> None:
    stack = _changes[home]
    at = next(number for number, each in enumerate(stack) if each is change)
    above = stack[at + 1 :]
    del stack[at]
    if above:
        _hand_down(home, change, above)
    else:
        _put(home, zip(change.parts, change.before, strict=True))
    if not stack:
        del _changes[home]
        send_back(home)


@contextmanager
def _given_up(home: Tensor) -> Iterator[None]:
    """Where nothing comes of a change, leave what was brought from disk there."""
    try:
        yield
    except BaseException:
        if home not in _changes:
            send_back(home)
        raise


def _hand_down(home: Tensor, change: _Change, above: Sequence[_Change]) -> None:
    """Give what a change covered to those above that cover it too, the lowest first, and the rest to the tensor."""
    plain = home.detach()
    values, left = _spread(plain, change)
    for each in above:
        own, covered = _spread(plain, each)
        own = torch.where(left & covered, values, own)
        each.before = [part.take(own).clone() for part in each.parts]
        left &= ~covered
    with torch.inference_mode() if home.is_inference() else torch.no_grad():
        plain.copy_(torch.where(left, values, plain))


def _spread(plain: Tensor, change: _Change) -> tuple[Tensor, Tensor]:
    """What a change keeps, each number in its place, and where that is."""
    values, covered = plain.clone(), torch.zeros_like(plain, dtype=torch.bool)
    for part, before in zip(change.parts, change.before, strict=True):
        part.put(values, before.to(plain))
        part.put(covered, torch.ones(before.shape, dtype=torch.bool, device=plain.device))
    return values, covered
