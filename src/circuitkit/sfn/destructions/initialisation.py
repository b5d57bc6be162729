"""How an architecture's own code fills each of its parameters before training, read off that code as it runs.

A model is built without memory for its weights, its class's own `_init_weights` is called on it, and what is done to
each parameter is written down: drawn from which distribution, filled with what, multiplied by what. So GPT-2's smaller
`c_proj`, norms of ones or (Gemma) of zeros, and a padding row of zeros are what transformers makes of them, and nothing
is guessed. Drawing by what was written down takes no more memory than the rows that are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import scipy
import torch
from jaxtyping import Float32
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from circuitkit.sfn.destructions.draws import Draws
from circuitkit.sfn.errors import SfnError

Step = tuple[str, tuple[float, ...]]


class InitialisationError(SfnError):
    """An architecture whose own initialisation cannot be told from its code."""


@dataclass(frozen=True)
class Law:
    """How one parameter is initialised.

    Attributes:
        steps: what is done to each element alike, first a start ("fill", "normal" or "uniform").
        patches: runs of elements that are filled with a number afterwards: first, behind the last, number.
        count: elements of the parameter.
        refusal: why it cannot be told, if so.
    """

    steps: tuple[Step, ...] = ()
    patches: tuple[tuple[int, int, float], ...] = ()
    count: int = 0
    refusal: str = ""

    def __str__(self) -> str:
        told = [f"{name}({', '.join(f'{each:g}' for each in numbers)})" for name, numbers in self.steps]
        told += [f"elements {first} to {stop - 1} = {number:g}" for first, stop, number in self.patches]
        return ", ".join(told) or "left as memory was"

    def check(self, parameter: str, shape: tuple[int, ...]) -> None:
        """Hold the law against a part of the parameter that it is to fill.

        Raises:
            InitialisationError: the law is not known, or differs from row to row where only some rows are to be filled.
        """
        if self.refusal or not self.steps:
            raise InitialisationError(
                f"{parameter}: what its architecture initialises it with cannot be told from its code "
                f"({self.refusal or 'it is never initialised'}); take how='reinit' with a sigma of your own"
            )
        if self.patches and math.prod(shape) != self.count:
            raise InitialisationError(f"{parameter} is initialised differently in parts ({self}): take all of it")

    def rows(self, draws: Draws, at: slice, columns: int) -> Float32[np.ndarray, " element"]:
        """The elements of some rows, one row after another."""
        start, stop = at.start * columns, at.stop * columns
        numbers = np.empty(0)
        for name, settings in self.steps:
            if name in _STARTS:
                numbers = _STARTS[name](draws, start, stop, *settings)
            else:
                numbers = _STEPS[name](numbers, *settings)
        for first, behind, number in self.patches:
            numbers[max(0, first - start) : max(0, behind - start)] = number
        return numbers.astype(np.float32)


def laws(cls: Any, config: Any) -> dict[str, Law]:
    """How a model class initialises each parameter, by the name that it gives it; a tied one under its names.

    Args:
        cls: a causal LM of transformers, or one of the same kind.
        config: its settings.

    Source: the class's own constructor and `_init_weights`.

    >>> hf = ck.load("deductor-130k").hf
    >>> found = laws(type(hf), hf.config)
    >>> str(found["model.norm.weight"]), str(found["model.layers.0.mlp.down_proj.weight"])
    ('fill(1)', 'normal(0, 0.1)')
    """
    from transformers.initialization import no_tie_weights

    recorder = _Recorder()
    # Tied only afterwards, as transformers does it: else the unembedding's initialisation would be the embedding's too.
    with no_tie_weights(), recorder.told():
        with recorder, torch.device("meta"):
            model = cls._from_config(config)
        for module in model.modules():
            module._is_hf_initialized = False
        with recorder, torch.no_grad():
            model.initialize_weights()
    return {name: recorder.law(tensor) for name, tensor in model.named_parameters(remove_duplicate=False)}


def _clamped(numbers: NDArray[np.float64], low: float = -math.inf, high: float = math.inf) -> NDArray[np.float64]:
    return np.clip(numbers, low, high)


def _erfinv(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    # As a function of ours, since scipy loads its parts when they are first named.
    return np.asarray(scipy.special.erfinv(numbers))


def _truncated(
    draws: Draws, start: int, stop: int, mean: float, std: float, low: float, high: float
) -> NDArray[np.float64]:
    """A normal law between two ends, by its inverse distribution function."""
    below, above = scipy.special.ndtr((low - mean) / std), scipy.special.ndtr((high - mean) / std)
    numbers = mean + std * scipy.special.ndtri(below + (above - below) * draws.uniform(start, stop).astype(np.float64))
    return np.clip(numbers, low, high)


_STARTS: Mapping[str, Callable[..., NDArray[np.float64]]] = {
    "fill": lambda draws, start, stop, number: np.full(stop - start, number, dtype=np.float64),
    "normal": lambda draws, start, stop, mean, std: mean + std * draws.normal(start, stop).astype(np.float64),
    "uniform": lambda draws, start, stop, low, high: low + (high - low) * draws.uniform(start, stop).astype(np.float64),
    "truncated": _truncated,
}
_STEPS: Mapping[str, Callable[..., NDArray[np.float64]]] = {
    "mul": lambda numbers, by: numbers * by,
    "div": lambda numbers, by: numbers / by,
    "add": lambda numbers, by, alpha=1.0: numbers + alpha * by,
    "sub": lambda numbers, by, alpha=1.0: numbers - alpha * by,
    "clamp": _clamped,
    "neg": np.negative,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "erfinv": _erfinv,
}
_DEFAULTS: Mapping[str, tuple[float, ...]] = {"normal": (0.0, 1.0), "uniform": (0.0, 1.0), "zero": (), "fill": ()}
_MADE: Mapping[str, float] = {"ones": 1.0, "zeros": 0.0, "ones_like": 1.0, "zeros_like": 0.0}
_HANGING_TOGETHER = ("orthogonal_", "dirac_", "sparse_")
_UNSET = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types no constructor of it
    """Writes down, of each piece of memory, what was done to it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.found: dict[int, Law] = {}
        self.kept: list[Tensor] = []

    @contextmanager
    def told(self) -> Iterator[None]:
        """Be told of those initialisations of torch that do nothing where there is no memory to fill."""
        from transformers.initialization import TORCH_INIT_FUNCTIONS

        def truncated(tensor: Tensor, mean: float, std: float, a: float, b: float, *more: Any, **rest: Any) -> Tensor:
            self._set(tensor, Law((("truncated", (mean, std, a, b)),)))
            return tensor

        def refused(name: str) -> Callable[..., Tensor]:
            def refuse(tensor: Tensor, *settings: Any, **more: Any) -> Tensor:
                self._set(tensor, Law(refusal=f"its entries hang together, by {name}"))
                return tensor

            return refuse

        with ExitStack() as stack:
            stack.enter_context(patch.object(nn.init, "_no_grad_trunc_normal_", truncated))
            for name in _HANGING_TOGETHER:
                stack.enter_context(patch.object(nn.init, name, refused(name)))
                stack.enter_context(patch.dict(TORCH_INIT_FUNCTIONS, {name: refused(name)}))
            yield

    def _set(self, tensor: Tensor, law: Law) -> None:
        self.kept.append(tensor)
        self.found[_memory(tensor)] = law if _is_whole(tensor) else Law(refusal="it is filled in pieces")

    def law(self, tensor: Tensor) -> Law:
        """What was written down of a tensor's memory."""
        return replace(self.found.get(_memory(tensor), Law()), count=tensor.numel())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        written = func._schema.arguments and func._schema.arguments[0].alias_info is not None
        if written and func._schema.arguments[0].alias_info.is_write:
            self._change(name, args[0], args[1:], kwargs or {})
        elif isinstance(out, Tensor) and all(_memory(out) != _memory(each) for each in args if _is_tensor(each)):
            self._make(name, out, args)
        return out

    def _make(self, name: str, out: Tensor, args: Sequence[Any]) -> None:
        # The memory is held, so that no later tensor goes by the same number.
        self.kept.append(out)
        if name in _MADE:
            law = Law((("fill", (_MADE[name],)),))
        elif name in ("full", "full_like") and isinstance(args[1], int | float):
            law = Law((("fill", (float(args[1]),)),))
        else:
            law = Law(refusal="" if name in _UNSET else f"it comes out of {name}")
        self.found[_memory(out)] = law

    def _change(self, name: str, into: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        memory, name = _memory(into), name.removesuffix("_")
        self.kept.append(into)
        before = self.found.get(memory, Law())
        if name == "copy":
            source = self.found.get(_memory(args[0]), Law(refusal="it is copied from numbers of the code's own"))
            whole = _is_whole(into) and _is_whole(args[0]) and args[0].numel() == into.numel()
            self.found[memory] = source if whole else Law(refusal="it is copied in pieces")
            return
        numbers = _numbers(name, args, kwargs)
        if numbers is None:
            self.found[memory] = Law(refusal=f"{name} with what is no number")
        elif _is_whole(into):
            self.found[memory] = _changed(before, name, numbers)
        elif name in ("fill", "zero") and into.is_contiguous():
            first, number = int(into.storage_offset()), numbers[0] if numbers else 0.0
            self.found[memory] = replace(before, patches=(*before.patches, (first, first + into.numel(), number)))
        else:
            self.found[memory] = Law(refusal=f"{name} of a piece of it")


def _changed(before: Law, name: str, numbers: tuple[float, ...]) -> Law:
    if name == "zero":
        return Law((("fill", (0.0,)),))
    if name in _STARTS:
        return Law(((name, numbers),))
    if name in _STEPS and not before.patches and not before.refusal:
        return Law((*before.steps, (name, numbers)))
    return Law(refusal=before.refusal or f"{name} is done to it")


def _numbers(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[float, ...] | None:
    """The settings of a change, None where one of them is no number."""
    given = [*args, *(value for key, value in kwargs.items() if key not in ("generator",))]
    default = _DEFAULTS.get(name, ())
    given += list(default[len(given) :])
    if name == "clamp":
        given = [side * math.inf if each is None else each for side, each in zip((-1, 1), given, strict=False)]
    if not all(isinstance(each, int | float) for each in given):
        return None
    return tuple(float(each) for each in given)


def _is_tensor(each: Any) -> bool:
    return isinstance(each, Tensor)


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _is_whole(tensor: Tensor) -> bool:
    return tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()
