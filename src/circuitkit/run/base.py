"""The base run of a study: done once, and what cells take from it instead of computing it again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from circuitkit.model.forwards import forward_replaced
from circuitkit.model.sharding import check_same_prompts
from circuitkit.model.site import ATTENTION_KINDS, Site
from circuitkit.model.tokens import Pass, Tokens
from circuitkit.pairs import Reading
from circuitkit.run.cells import Cell, Stack, places, stacked
from circuitkit.run.interventions import scale
from circuitkit.run.memory import ran_out
from circuitkit.run.resume import resumed, whole_runs_only
from circuitkit.run.run import forward
from circuitkit.run.session import Session

if TYPE_CHECKING:
    from circuitkit.model.model import Model


@dataclass(frozen=True)
class Shortcuts:
    """Which ways of computing less give the model's own numbers; each is tried on the model before it is used.

    Attributes:
        resume: begin at the first layer that a cell touches.
        prefix: begin behind the last column that no cell changes, on the base run's keys and values.
    """

    resume: bool
    prefix: bool


_ROUNDING = {torch.float64: 1e-9, torch.float32: 5e-4, torch.float16: 3e-2, torch.bfloat16: 2e-1}
"""How far rounding alone moves logits, in their standard deviations; `circuitkit doctor` holds models to the same."""

_trusted: WeakKeyDictionary[Model, tuple[list[int], Shortcuts]] = WeakKeyDictionary()
"""What was found on a model, with the hooks that were on it then."""


class Base:
    """A model's run on the prompts without interventions, and cells run on top of it.

    Args:
        model: the model.
        reading: the prompts, and whose logits are read.
        cells: the cells to come, which tell what has to be kept.
    """

    def __init__(self, model: Model, reading: Reading, cells: Sequence[Cell]) -> None:
        self.model, self.reading, self.tokens = model, reading, reading.tokens
        check_same_prompts(model.group, self.tokens)
        self.now = self._pass(0)
        self.spared = {cell.layer for cell in cells if cell.layer is not None and cell.spares_attention}
        layers = {cell.layer for cell in cells if cell.layer}
        kept = [*places(model, cells), *(Site("resid_pre", layer=layer) for layer in sorted(layers))]
        kept += [Site("z", layer=layer) for layer in sorted(self.spared) if layer in model.layers_with("z")]
        self.keys = _new_cache(model)
        self.attention_outputs: dict[int, Any] = {}
        self.explicit = _explicit(model, cells)
        session = Session(model, [scale(place, 1.0) for place in self.explicit], kept)
        with session, self._noting_attention_outputs():
            self.logits = forward(model, self.tokens, reading.columns, self.keys)
        cache = session.cache
        self.values = {site: cache[site] for site in cache}
        self.shortcuts = self._trusted()

    def run(self, cells: Sequence[Cell], layer: int | None, first: int) -> Float[Tensor, "row reads vocab"]:
        """Logits of cells that first touch one layer, and change nothing before one column."""
        n = len(cells)
        tokens = Tokens(stacked(self.tokens.ids, n), stacked(self.tokens.mask, n))
        resumes = layer if layer and self.shortcuts.resume else 0
        cache = self._prefix(first, n, resumes) if first else None
        stack = Stack(self.model, cells, self._pass(first))
        with ExitStack() as held:
            if resumes:
                stream = self.values[Site("resid_pre", layer=resumes)][:, first:]
                held.enter_context(resumed(self.model, resumes, stacked(stream, n)))
            spared = self.shortcuts.resume and all(cell.spares_attention for cell in cells)
            if layer in self.attention_outputs and spared:
                held.enter_context(self._attention_as_it_was(layer, first, n))
            for place in self.explicit:
                if place.layer is not None and place.layer >= (layer or 0):
                    stack.actions.setdefault(place, [_as_it_is])
            held.enter_context(self.model.tapped(stack.actions, stack.this_pass))
            if layer is not None and self.shortcuts.resume:
                # Behind the cells' own hooks, which may be within it and know of every column.
                held.enter_context(self._last_layer_where_read(first))
            return forward(self.model, tokens, stacked(self.reading.columns, n), cache)

    def _pass(self, first: int) -> Pass:
        mask = self.tokens.mask
        return Pass(mask, mask.shape[1] - first, mask, first_row=self.reading.first_row)

    # Shortcuts, and their trial

    def _trusted(self) -> Shortcuts:
        if self.model.sessions:
            # What an outer context holds may name rows, and is in the base run's values already.
            return Shortcuts(resume=False, prefix=False)
        hooks = _hooks(self.model.hf)
        if self.model not in _trusted or _trusted[self.model][0] != hooks:
            tried = self._tried()
            if tried.resume and not tried.prefix and self._half == 0:
                return tried
            _trusted[self.model] = hooks, tried
        return _trusted[self.model][1]

    @property
    def _half(self) -> int:
        """Columns that a trial puts into the prefix; none where the prompts are too short."""
        return min(self.tokens.ids.shape[1] // 2, int(self.reading.columns.min()))

    def _tried(self) -> Shortcuts:
        if (reason := whole_runs_only(self.model)) is not None:
            warnings.warn(f"{self.model.name}: {reason}", stacklevel=2)
            return Shortcuts(resume=False, prefix=False)
        middle = self.model.n_layers // 2
        site = Site("resid_pre", layer=middle)
        self.values.setdefault(site, self.model.run(self.tokens, capture=[site]).cache[site])
        self.shortcuts = Shortcuts(resume=True, prefix=False)
        if (reason := self._differs(middle, 0)) is not None:
            warnings.warn(f"{self.model.name} cannot be resumed ({reason}), so every cell is run whole", stacklevel=2)
            return Shortcuts(resume=False, prefix=False)
        if self.keys is None or self._half == 0:
            return self.shortcuts
        self.shortcuts = Shortcuts(resume=True, prefix=True)
        if (reason := self._differs(middle, self._half)) is not None:
            warnings.warn(
                f"{self.model.name}: every column is run, since a prefix is not its own ({reason})", stacklevel=2
            )
            return Shortcuts(resume=True, prefix=False)
        return self.shortcuts

    def _differs(self, layer: int, first: int) -> str | None:
        """How a run with shortcuts differs from the whole one, or None where it does not."""
        try:
            again = self.run([Cell(self.model, ())], layer, first)
        except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            if ran_out(error):
                raise
            # Whatever a model's code makes of a cache that it did not fill itself: it is then not used.
            return f"{type(error).__name__}: {error}"
        worst = float((again.double() - self.logits.double()).abs().max() / self.logits.double().std().clamp(min=1e-30))
        return None if worst <= _ROUNDING[self.logits.dtype] else f"logits differ by {worst:.1e} standard deviations"

    def _prefix(self, first: int, n: int, resumed_at: int) -> Any:
        """The base run's keys and values of the first columns, for every cell's rows."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for index, layer in enumerate(self.keys.layers):
            keys, values = layer.keys[:, :, :first], layer.values[:, :, :first]
            # Of a layer that is skipped, only the length is asked for.
            below = index < resumed_at
            cache.update(keys[:1] if below else stacked(keys, n), values[:1] if below else stacked(values, n), index)
        return cache

    @contextmanager
    def _noting_attention_outputs(self) -> Iterator[None]:
        with ExitStack() as stack:
            for index in self.spared:
                block = self.model.anatomy.blocks[index]
                if block.attn is None or block.o is None or not _is_branch(self.model, index):
                    continue

                def note(module: nn.Module, args: Any, output: Any, index: int = index) -> None:
                    self.attention_outputs[index] = output if isinstance(output, Tensor) else (None,) * len(output)

                stack.callback(block.attn.register_forward_hook(note).remove)
            yield

    @contextmanager
    def _attention_as_it_was(self, layer: int, first: int, n: int) -> Iterator[None]:
        """Let a layer's attention begin at its output projection, from the base run's `z`."""
        block, noted = self.model.anatomy.blocks[layer], self.attention_outputs[layer]
        assert block.attn is not None and block.o is not None
        # Contiguous, as the model's own attention would hand it over.
        z = stacked(self.values[Site("z", layer=layer)][:, first:].flatten(-2), n).contiguous()
        z = self.model.point(Site("z", layer=layer)).own(z)

        def project(*args: Any, **kwargs: Any) -> Any:
            out = block.o(z)  # type: ignore[misc]  # asserted above
            return out if isinstance(noted, Tensor) else (out, *noted[1:])

        def inject(module: nn.Module, args: Any) -> Any:
            return (z,) if get_ident() == thread else None

        thread = get_ident()
        # Behind the hooks that were there, whose work `z` has in it, and before the cells' own.
        handle = block.o.register_forward_pre_hook(inject)
        try:
            with forward_replaced(block.attn, project):
                yield
        finally:
            handle.remove()

    @contextmanager
    def _last_layer_where_read(self, first: int) -> Iterator[None]:
        """Let the last layer make queries, outputs and its MLP's work only for the columns whose logits are read.

        Its keys and values are needed of every column. What stands elsewhere instead, zeros, is never read.
        """
        last, read = self.model.anatomy.blocks[-1], torch.unique(self.reading.columns) - first
        with ExitStack() as held:
            for module in (last.q, last.o, last.mlp):
                if module is not None and not _hooked_inside(module):
                    held.enter_context(forward_replaced(module, _where_read(module.forward, read)))
            yield


def _where_read(whole: Callable[..., Any], read: Int[Tensor, " read"]) -> Callable[..., Any]:
    """A forward that works token by token, on some columns alone."""

    def compute(*args: Any, **kwargs: Any) -> Any:
        if len(args) != 1 or kwargs or args[0].ndim != 3:
            return whole(*args, **kwargs)
        out = whole(args[0].index_select(1, read.to(args[0].device)))
        if not isinstance(out, Tensor):
            return whole(*args)
        return out.new_zeros(args[0].shape[:2] + out.shape[2:]).index_copy(1, read.to(out.device), out)

    return compute


def _hooked_inside(module: nn.Module) -> bool:
    """Whether a hook within would meet fewer columns than it knows of."""
    return any(each._forward_hooks or each._forward_pre_hooks for each in module.modules() if each is not module)


def _hooks(hf: nn.Module) -> list[int]:
    """The hooks that a user has on a model, by the numbers that torch gives them, none of them twice."""
    return [
        number for each in hf.modules() for hooks in (each._forward_hooks, each._forward_pre_hooks) for number in hooks
    ]


def _explicit(model: Model, cells: Sequence[Cell]) -> list[Site]:
    """Where all runs of a study take explicit attention, since some do and half precision can tell them apart."""
    if model.hf.dtype not in (torch.float16, torch.bfloat16):
        return []
    return [place for place in places(model, cells) if place.kind in ATTENTION_KINDS]


def _as_it_is(tensor: Tensor, now: Pass) -> Tensor:
    return tensor.clone()


def _is_branch(model: Model, layer: int) -> bool:
    """Whether the attention module returns just what its output projection does (BLOOM's adds the stream)."""
    block, point = model.anatomy.blocks[layer], model.layers[layer].points.get("attn_out")
    return point is not None and point.module in (block.attn, block.ln1_post)


def _new_cache(model: Model) -> Any:
    """A cache that keeps every key of every layer, or None where the model has layers that keep something else."""
    kinds = set(getattr(model.config, "layer_types", None) or [])
    if not model.accepts("past_key_values") or not kinds <= {"full_attention", "sliding_attention"}:
        return None
    from transformers import DynamicCache

    return DynamicCache()
