"""What a forward leaves zero, or as it was, whatever the numbers: followed through every operation.

Nothing is computed, so that models on the meta device will do. What is known is kept by the memory of tensors: that all
of it is zero, or that it holds the layer's input. It errs on one side only: an operation without a rule here gives a
tensor of which nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

IsZero = Callable[[Any], bool]
Rule = Callable[[IsZero, Sequence[Any]], bool]
"""From which values are zero, and an operation's own, says whether it gives zeros alone."""


def _always(zero: IsZero, args: Sequence[Any]) -> bool:
    return True


def _first(zero: IsZero, args: Sequence[Any]) -> bool:
    return zero(args[0])


def _either(zero: IsZero, args: Sequence[Any]) -> bool:
    return zero(args[0]) or zero(args[1])


def _and(*places: int) -> Rule:
    return lambda zero, args: all(zero(args[place]) for place in places)


def _sum_and_product(zero: IsZero, args: Sequence[Any]) -> bool:
    return zero(args[0]) and (zero(args[1]) or zero(args[2]))


def _linear(zero: IsZero, args: Sequence[Any]) -> bool:
    return _either(zero, args) and all(map(zero, args[2:]))


def _divided(zero: IsZero, args: Sequence[Any]) -> bool:
    return zero(args[0]) and _is_number(args[1]) and args[1] != 0


def _power(zero: IsZero, args: Sequence[Any]) -> bool:
    return zero(args[0]) and _is_number(args[1]) and args[1] > 0


def _rules(*of: tuple[str, Rule]) -> dict[str, Rule]:
    return {name: rule for names, rule in of for name in names.split()}


_ZERO = _rules(
    ("zeros zeros_like new_zeros zero", _always),
    # Made of one number.
    ("full full_like", _and(1)),
    ("new_full", _and(2)),
    # What is 0 where its input is 0, or moves entries about.
    ("abs erf gelu hardswish neg relu silu sin sqrt square tanh", _first),
    ("cumsum mean sum _fused_rms_norm", _first),
    ("clone _to_copy detach flip repeat repeat_interleave roll embedding gather index index_select", _first),
    ("mul mm bmm mv dot _grouped_mm", _either),
    ("addmm addmv baddbmm", _sum_and_product),
    ("linear", _linear),
    ("add sub maximum minimum", _and(0, 1)),
    ("div", _divided),
    ("pow", _power),
    # A norm of zeros is its bias.
    ("native_layer_norm", _and(0, 3)),
    ("cat stack", lambda zero, args: all(map(zero, args[0]))),
    ("where", _and(1, 2)),
    # Written into what is zero already; all of it anew, with `copy` and `fill`.
    ("copy fill", _and(1)),
    ("masked_fill index_put", _and(0, 2)),
    ("index_add index_copy scatter scatter_add", _and(0, 3)),
)
_COPYING = frozenset(("clone", "_to_copy", "detach", "alias", "lift_fresh", "_unsafe_view"))
_POLES = frozenset(("rsqrt", "reciprocal", "log", "pow"))


class Followed(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types no constructor of it
    """Knows, while it is entered, which tensors are all zeros and which are the layer's input."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._zero: set[int] = set()
        self._input: set[int] = set()
        # What may be infinite: times zero it is not zero.
        self._infinite: set[int] = set()
        self._origin: dict[int, str] = {}
        # Memory of which something is known is held, so that no later tensor goes by the same number.
        self._kept: list[Tensor] = []
        self._dtype = torch.float32

    def zeros(self, tensor: Tensor) -> None:
        """Take a tensor's memory for all zeros."""
        self._kept.append(tensor)
        self._zero.add(_memory(tensor))

    def starts(self, stream: Tensor) -> None:
        """A layer begins, whose input this is."""
        self._kept.append(stream)
        self._input = {_memory(stream)} if _is_whole(stream) else set()
        self._dtype = stream.dtype

    def is_zero(self, value: Any) -> bool:
        """Whether a tensor or number is zero, or absent."""
        if isinstance(value, Tensor):
            return _memory(value) in self._zero
        return value is None or (_is_number(value) and value == 0)

    def is_input(self, value: Any) -> bool:
        """Whether it is a tensor that holds the layer's input, element for element."""
        return isinstance(value, Tensor) and _memory(value) in self._input and _is_whole(value)

    def origin(self, tensor: Tensor) -> str:
        """The operation that made a tensor."""
        return self._origin.get(_memory(tensor), "another module")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        out = func(*args, **kwargs)
        if written := list(_written(func, args, kwargs)):
            for into in written:
                # Only what is written into the operation's own first tensor has rules.
                self._write(name.removesuffix("_"), into, args, kwargs, known=bool(args) and into is args[0])
        else:
            made = out[0] if isinstance(out, tuple | list) and out else out
            if isinstance(made, Tensor) and not any(_memory(made) == _memory(each) for each in _tensors(args)):
                self._make(name, made, args, kwargs)
        return out

    def _make(self, name: str, made: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._kept.append(made)
        memory = _memory(made)
        self._origin[memory] = name
        if self._is_pole(name, args):
            self._infinite.add(memory)
        elif self._gives_zeros(name, args):
            self._zero.add(memory)
        elif self._holds(self._handed_on(name, args, kwargs), made):
            self._input.add(memory)

    def _write(self, name: str, into: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any], *, known: bool) -> None:
        memory = _memory(into)
        zero = known and self._gives_zeros(name, args) and (memory in self._zero or _is_whole(into))
        input_ = known and self._holds(self._handed_on(name, args, kwargs), into) and _is_whole(into)
        infinite = self._is_pole(name, args)
        self._kept.append(into)
        self._origin[memory] = name
        for those, holds in ((self._zero, zero), (self._input, input_)):
            (those.add if holds else those.discard)(memory)
        if infinite:
            self._infinite.add(memory)

    def _gives_zeros(self, name: str, args: Sequence[Any]) -> bool:
        return name in _ZERO and _ZERO[name](self.is_zero, args) and not self._is_pole(name, args)

    def _is_pole(self, name: str, args: Sequence[Any]) -> bool:
        """Whether what an operation gives may be infinite since something is zero."""
        if any(_memory(each) in self._infinite for each in _tensors(args)):
            return True
        if name == "div":
            return self.is_zero(args[1])
        return name in _POLES and self.is_zero(args[0]) and not (name == "pow" and _power(self.is_zero, args))

    def _handed_on(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
        """The layer's input, where an operation gives it back as it is."""
        place: int | None = None
        if name in _COPYING:
            place = 0
        elif name == "copy":
            place = 1
        elif name in ("add", "sub") and isinstance(args[1], Tensor):
            if self.is_input(args[0]) and self.is_zero(args[1]):
                place = 0
            elif name == "add" and self.is_zero(args[0]) and kwargs.get("alpha", 1) == 1:
                place = 1
        elif name in ("mul", "div") and _is_number(args[1]) and args[1] == 1:
            place = 0
        found = None if place is None else args[place]
        return found if self.is_input(found) else None

    def _holds(self, source: Tensor | None, into: Tensor) -> bool:
        """Whether a tensor that is given the layer's input holds it as it was, not broadcast and not rounded."""
        wide = torch.promote_types(into.dtype, self._dtype) == into.dtype
        return source is not None and source.shape == into.shape and wide


def _written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """The tensors that an operation writes into."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from _tensors([args[place] if place < len(args) else kwargs.get(argument.name)])


def _tensors(args: Sequence[Any]) -> Iterator[Tensor]:
    """The tensors among an operation's values, those in lists too."""
    for each in args:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, list | tuple):
            yield from _tensors(each)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _is_whole(tensor: Tensor) -> bool:
    """Whether a tensor is its memory, in order."""
    return tensor.is_contiguous() and tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()
