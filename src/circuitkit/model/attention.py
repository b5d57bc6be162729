"""The attention tap: a layer's scores and pattern, read or edited inside the model's own attention code.

Transformers hands every layer's attention to a function looked up by name. While a layer is tapped, the function
under the name that the model already uses is wrapped: a module that is not tapped falls through to the original,
a tapped one runs its own file's `eager_attention_forward`, so that soft-caps, sinks and biases stay the model's own
code, and the softmax within is intercepted; where nothing was changed there, the original's own output goes on. No
new name is introduced, because model files branch on it. Models outside that interface are tapped at the softmax, or
at `scaled_dot_product_attention`, inside their attention module's forward.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Scores = Float[Tensor, "batch head query key"]
Edit = Callable[[Scores], Scores | None]

_SOFTMAX: frozenset[Any] = frozenset({F.softmax, torch.softmax, torch.Tensor.softmax, torch.special.softmax})


class AttentionTapError(RuntimeError):
    """An attention module whose softmax cannot be reached."""


@dataclass(frozen=True)
class AttentionTap:
    """What to do with one module's scores and pattern.

    Attributes:
        scores, pattern: edits; each returns the new tensor, or None to leave it.
        count: told how many softmaxes fired, instead of any number but one being an error.
        beside: reads the pattern from what the attention function was handed, so that the original alone runs; taken
            where no other tap wants more than that and the call allows it, and `scores` and `pattern` otherwise.
    """

    module: nn.Module
    scores: Edit
    pattern: Edit
    count: Callable[[int], None] | None = None
    beside: Callable[[AttentionCall], None] | None = None


@dataclass(frozen=True)
class AttentionCall:
    """What a module hands its attention function, from which rows of its pattern can be made one by one.

    Attributes:
        eager: the function of the module's own file.
        query, key, value: `[batch, head, position, d_head]`, keys and values with their own heads.
        mask: as it was handed over; None where a fused kernel needs none.
        is_causal: what no mask means.
        settings: all other arguments.
    """

    module: nn.Module
    eager: Callable[..., Any]
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Any
    is_causal: bool
    settings: dict[str, Any]

    def explicit_mask(self, rows: range | None = None) -> Tensor | None:
        """The additive mask that the eager function needs, of some queries or all."""
        window = self.settings.get("sliding_window")
        return _explicit_mask(self.mask, self.query, self.key, self.is_causal, window, rows)

    @property
    def by_rows(self) -> bool:
        """Whether every query's row can be made without the others: no setting holds something for each of them."""
        whole = (self.query.shape[-2], self.key.shape[-2])
        return not any(isinstance(each, Tensor) and each.shape[-2:] == whole for each in self.settings.values())

    def rows(self, rows: range, keys: slice, mask: Tensor | None, read: Callable[[Tensor], None]) -> None:
        """Have the module's own function make the pattern of some queries over some keys, and nothing behind it."""
        query, key = self.query[:, :, rows.start : rows.stop], self.key[:, :, keys]
        # Of the values, which come behind the softmax, the heads alone matter.
        value = self.value[:, :, keys, :1]

        def reached(pattern: Tensor) -> Tensor | None:
            read(pattern)
            raise _PatternReachedError

        tap = AttentionTap(self.module, lambda scores: None, reached)
        with suppress(_PatternReachedError), _SoftmaxTap([tap], query.shape[0], key.shape[-2]) as mode:
            self.eager(self.module, query, key, value, mask, **self.settings)
            mode.check()


class _PatternReachedError(Exception):
    """Ends an eager attention function at its softmax."""


@contextmanager
def tapped(taps: list[AttentionTap]) -> Iterator[None]:
    """Hold taps on attention modules, and put everything back at the end.

    Contexts nest: an outer one's edits come before an inner one's.
    """
    with ExitStack() as stack:
        for tap in taps:
            stack.enter_context(_TAPPED.holding(tap))
        yield


class _SoftmaxTap(TorchFunctionMode):
    """Runs a module's edits around the one softmax of its attention computation."""

    def __init__(self, taps: list[AttentionTap], batch: int, n_keys: int | None) -> None:
        super().__init__()
        self.taps, self.batch, self.n_keys, self.fired = taps, batch, n_keys, 0
        self.changed = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _SOFTMAX:
            return self.softmax(func, *args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self.explicit(*args, **kwargs)
        return func(*args, **kwargs)

    def softmax(self, func: Any, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.fired += 1
        shape = input.shape
        whole = input if input.ndim == 4 else input.view(self.batch, -1, *shape[-2:])
        n_keys = whole.shape[-1] if self.n_keys is None else self.n_keys
        for tap in self.taps:
            whole = self.edited(whole, n_keys, tap.scores)
        if whole.dtype == torch.float64 and kwargs.get("dtype") == torch.float32:
            # Meant to lift half precision, this would lower double; the fused functions do not do it either.
            kwargs["dtype"] = torch.float64
        whole = func(whole, *args, **kwargs)
        for tap in self.taps:
            whole = self.edited(whole, n_keys, tap.pattern)
        return whole.view(shape)

    def edited(self, whole: Tensor, n_keys: int, edit: Edit) -> Tensor:
        new = edit(whole[..., :n_keys])
        if new is None:
            return whole
        self.changed = True
        # Sinks are extra columns behind the keys; they are the model's own business.
        return torch.cat([new, whole[..., n_keys:]], -1) if whole.shape[-1] > n_keys else new

    def explicit(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        fused = partial(F.scaled_dot_product_attention, query, key, value, attn_mask, dropout_p, is_causal)
        if enable_gqa:
            key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
            value = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
        if is_causal:
            attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if attn_mask is not None:
            scores = scores + float_mask(attn_mask, scores.dtype)
        pattern = self.softmax(torch.softmax, scores.float() if scores.element_size() < 4 else scores, dim=-1)
        if not self.changed:
            return fused(scale=scale, enable_gqa=enable_gqa)
        return F.dropout(pattern.to(value.dtype), dropout_p) @ value

    def check(self) -> None:
        if (count := self.taps[0].count) is not None:
            count(self.fired)
        elif self.fired != 1:
            raise AttentionTapError(
                f"{type(self.taps[0].module).__name__} was tapped, but computed {self.fired} softmaxes where one was "
                "expected: its pattern cannot be read. Sites other than scores and pattern still work; loading the "
                "model with attn_implementation='eager' may help"
            )


def lowest_score(dtype: torch.dtype) -> float:
    """The score that forbids attention: finite, and still finite where a model computes its softmax in float32."""
    return max(torch.finfo(dtype).min, torch.finfo(torch.float32).min)


def float_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """An additive mask that never makes a row NaN: the lowest finite score where attention is forbidden."""
    lowest = lowest_score(dtype)
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, lowest)
    return mask.to(dtype).clamp(min=lowest)


def _explicit_mask(
    mask: Any, query: Tensor, key: Tensor, is_causal: bool, window: int | None, rows: range | None = None
) -> Tensor | None:
    """The additive mask that the eager function needs, from what a fused implementation was handed."""
    n_queries, n_keys = query.shape[-2], key.shape[-2]
    rows = range(n_queries) if rows is None else rows
    if mask is None:
        if n_queries == 1 or not is_causal:
            return None
        # A fused kernel's implied causal mask is upper-left: with more keys than queries, the rest are unwritten.
        seen = torch.ones(len(rows), n_keys, dtype=torch.bool, device=query.device).tril(rows.start)
        return float_mask(seen, query.dtype)
    if not isinstance(mask, Tensor):
        raise AttentionTapError(
            f"attention masks of type {type(mask).__name__} cannot be made explicit: load the model with "
            "attn_implementation='sdpa' or 'eager'"
        )
    if mask.ndim == 2:
        age = torch.arange(rows.start, rows.stop, device=query.device)[:, None] + n_keys - n_queries
        age = age - torch.arange(n_keys, device=query.device)[None, :]
        seen = (age >= 0) if window is None else (age >= 0) & (age < window)
        mask = mask.bool()[:, None, None, -n_keys:] & seen
    elif len(rows) < n_queries == mask.shape[-2]:
        mask = mask[..., rows.start : rows.stop, :]
    return float_mask(mask, query.dtype)


def _sources(module: nn.Module) -> Iterator[Any]:
    for cls in type(module).__mro__:
        if cls is not nn.Module and cls.__module__ in sys.modules:
            yield sys.modules[cls.__module__]


def _eager_of(module: nn.Module) -> Callable[..., Any] | None:
    return next((s.eager_attention_forward for s in _sources(module) if hasattr(s, "eager_attention_forward")), None)


def _interface_of(module: nn.Module) -> Any | None:
    """The table that a module looks its attention function up in, or None where it computes attention itself."""
    if _eager_of(module) is None or not hasattr(getattr(module, "config", None), "_attn_implementation"):
        return None
    return next((s.ALL_ATTENTION_FUNCTIONS for s in _sources(module) if hasattr(s, "ALL_ATTENTION_FUNCTIONS")), None)


_ABSENT = object()


class _TappedModules:
    """Which modules are tapped, and what was put aside to tap them.

    The table of attention functions is the process's own, so wrappers are counted: contexts may end in any order
    and in any thread.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.taps: dict[int, list[AttentionTap]] = {}
        self.wrapped: dict[tuple[int, str], tuple[int, Any]] = {}

    @contextmanager
    def holding(self, tap: AttentionTap) -> Iterator[None]:
        module = tap.module
        interface = _interface_of(module)
        config: Any = getattr(module, "config", None)
        name: str = getattr(config, "_attn_implementation", None) or "eager"
        with self.lock:
            taps = self.taps.setdefault(id(module), [])
            taps.append(tap)
            if interface is not None:
                self.wrap_interface(interface, name)
            elif len(taps) == 1:
                unwrap_forward = self.wrap_forward(module)
                self.wrapped[id(module), name] = (1, unwrap_forward)
        try:
            yield
        finally:
            with self.lock:
                taps.remove(tap)
                if interface is not None:
                    self.unwrap_interface(interface, name)
                elif not taps:
                    self.wrapped.pop((id(module), name))[1]()
                if not taps:
                    del self.taps[id(module)]

    def wrap_interface(self, interface: Any, name: str) -> None:
        count, original = self.wrapped.get((id(interface), name), (0, None))
        if not count:
            original = interface.get(name, None)
            interface[name] = self.attend_through(original)
        self.wrapped[id(interface), name] = (count + 1, original)

    def unwrap_interface(self, interface: Any, name: str) -> None:
        count, original = self.wrapped.pop((id(interface), name))
        if count > 1:
            self.wrapped[id(interface), name] = (count - 1, original)
            return
        del interface[name]
        # What is left after the removal is the library's own entry, unless a user had put another in its place.
        if original is not None and interface.get(name, None) is not original:
            interface[name] = original

    def attend_through(self, original: Any) -> Callable[..., Any]:
        """The attention function under its own name: the original, or eager around a tapped module's edits."""

        def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any) -> Any:
            # A copy, because a context in another thread may end meanwhile.
            taps = list(self.taps.get(id(module), ()))
            eager: Callable[..., Any] | None = _eager_of(module)
            if not taps or eager is None:
                plain: Any = original or eager
                return plain(module, query, key, value, mask, **kwargs)
            explicit_mask = mask
            if original is not None:
                causal = kwargs.get("is_causal")
                causal = getattr(module, "is_causal", True) if causal is None else causal
                call = AttentionCall(module, eager, query, key, value, mask, causal, kwargs)
                beside = [tap.beside for tap in taps if tap.beside is not None]
                if len(beside) == len(taps) and call.by_rows:
                    for read in beside:
                        read(call)
                    return original(module, query, key, value, mask, **kwargs)
                explicit_mask = call.explicit_mask()
            with _SoftmaxTap(taps, query.shape[0], key.shape[-2]) as mode:
                out, pattern = eager(module, query, key, value, explicit_mask, **kwargs)
            mode.check()
            if original is None:
                return out, pattern
            # Reading alone moves nothing: a fused kernel's own output goes on, bit for bit.
            return (out, None) if mode.changed else original(module, query, key, value, mask, **kwargs)

        return attend

    def wrap_forward(self, module: nn.Module) -> Callable[[], None]:
        """Tap a module that computes attention itself; returns what undoes it."""
        # accelerate keeps its own forward on the instance: what was there is put back, not deleted.
        previous = module.__dict__.get("forward", _ABSENT)
        forward = module.forward
        taps = self.taps[id(module)]

        def attend(*args: Any, **kwargs: Any) -> Any:
            held = list(taps)
            if not held:
                return forward(*args, **kwargs)
            hidden = next(x for x in (*args, *kwargs.values()) if isinstance(x, Tensor))
            with _SoftmaxTap(held, hidden.shape[0], None) as mode:
                out = forward(*args, **kwargs)
            mode.check()
            return out

        def undo() -> None:
            if previous is _ABSENT:
                del module.forward
            else:
                module.forward = previous

        module.forward = attend
        return undo


_TAPPED = _TappedModules()
