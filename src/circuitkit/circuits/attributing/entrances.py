"""How each layer's heads, and a parallel layer's MLP, read the stream: through which norm, and by which projection."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from circuitkit.circuits.attributing.linear_maps import by_heads, check_whole, made_of, matrix_of, wide
from circuitkit.circuits.attributing.norms import Norm
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.model.hooks import before_forward
from circuitkit.model.points import Point, first_tensor
from circuitkit.model.short_run import removed, short_run
from circuitkit.model.site import Site

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Projected = Literal["q", "k", "v"]
PROJECTED: tuple[Projected, ...] = ("q", "k", "v")


@dataclass(frozen=True, eq=False)
class Entrance:
    """How something reads the stream.

    Attributes:
        point: the projection's output; of a parallel MLP, the module's input.
        norm: the norm before it, where it is a known one.
        way: what lies between: nothing, that norm, or something else, which autograd alone can go back through.
        heads: how many read so, and how wide each; None of an MLP.
    """

    point: Point
    norm: Norm | None
    way: Literal["nothing", "norm", "graph"]
    heads: tuple[int, int] | None = None

    def weight(self, model: Model) -> Float[Tensor, "head d_head d_model"]:
        """Each head's part of the projection, held against the unit-scale stream where the norm is known."""
        matrix = by_heads(self.point, matrix_of(self.point.module, model.d_model, model.hf.dtype))
        matrix = matrix.to(wide(matrix.dtype))
        return matrix if self.norm is None else self.norm.folded(matrix)

    def offset(self, model: Model, like: Tensor) -> Float[Tensor, "head d_head"]:
        """What the projection makes where the unit-scale stream is zero: of the norm's shift, and its own bias."""
        nothing = like.new_zeros(1, model.d_model)
        shift = None if self.norm is None else self.norm.shift(nothing)
        nothing = nothing if shift is None else nothing + shift
        with torch.no_grad():
            made = made_of(self.point.module, nothing.to(model.hf.dtype))
        return self.point.view.read(made[None])[0, 0].to(like)


@dataclass(frozen=True, eq=False)
class Reads:
    """How one layer reads.

    Attributes:
        heads: by kind.
        mlp: where its MLP's own copy of the stream goes in; None where the layer is parallel.
        parallel_mlp: how a parallel layer's MLP reads.
    """

    heads: dict[Projected, Entrance]
    mlp: Point | None
    parallel_mlp: Entrance | None

    @property
    def needs_graph(self) -> bool:
        """Whether autograd has to go back through something that is not known."""
        return any(each.way == "graph" for each in self._entrances)

    @property
    def _entrances(self) -> list[Entrance]:
        return [*self.heads.values(), *([] if self.parallel_mlp is None else [self.parallel_mlp])]

    @cached_property
    def norms(self) -> tuple[Norm, ...]:
        """The known norms that it reads through."""
        return tuple(dict.fromkeys(each.norm for each in self._entrances if each.norm is not None))

    @cached_property
    def norms_of_heads(self) -> tuple[Norm, ...]:
        """Those among them that heads read through."""
        return tuple(dict.fromkeys(each.norm for each in self.heads.values() if each.norm is not None))


_reads: WeakKeyDictionary[Model, tuple[Reads, ...]] = WeakKeyDictionary()


def reads_of(model: Model) -> tuple[Reads, ...]:
    """How each layer reads, found out in one short run at first use.

    Raises:
        CircuitError: a layer's heads or MLP cannot be told apart; or the model is divided among processes.

    >>> [each.heads["q"].way for each in reads_of(ck.load("deductor-130k"))]
    ['norm', 'norm', 'norm']
    """
    if model not in _reads:
        check_whole(model)
        Layout.of(model)
        _reads[model] = _found(model)
    return _reads[model]


@dataclass
class _Seen:
    """What one block's modules were handed and made, kept so that no other tensor takes their place."""

    stream: Tensor | None = None
    handed: dict[nn.Module, Tensor] = field(default_factory=dict)
    made: list[tuple[nn.Module, Tensor, Tensor]] = field(default_factory=list)


def _found(model: Model) -> tuple[Reads, ...]:
    seen = [_Seen() for _ in range(model.n_layers)]
    with ExitStack() as stack:
        for block, record in zip(model.anatomy.blocks, seen, strict=True):
            _watch(block.block, record, stack)
        short_run(model.anatomy, model.group)
    return tuple(_layer(model, layer, record) for layer, record in enumerate(seen))


def _watch(block: nn.Module, record: _Seen, stack: ExitStack) -> None:
    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        record.stream = first_tensor((*args, *kwargs.values()))

    def hand(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if tensors := [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]:
            record.handed.setdefault(module, tensors[0])

    def make(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        tensors = [value for value in args if isinstance(value, Tensor)]
        if tensors and isinstance(output, Tensor):
            record.made.append((module, tensors[0], output))

    stack.enter_context(removed(before_forward(block, enter)))
    for module in block.modules():
        if module is not block:
            stack.enter_context(removed(before_forward(module, hand)))
            stack.enter_context(removed(module.register_forward_hook(make)))


def _layer(model: Model, layer: int, seen: _Seen) -> Reads:
    norms: dict[nn.Module, Norm | None] = {}

    def entrance(point: Point, heads: tuple[int, int] | None = None) -> Entrance:
        handed, stream = seen.handed.get(point.module), seen.stream
        if handed is None or stream is None:
            raise CircuitError(f"a short run of {model.name} does not call {point.module} of layer {layer}")
        if _same(handed, stream):
            return Entrance(point, None, "nothing", heads)
        for module, taken, made in seen.made:
            if _same(made, handed) and _same(taken, stream):
                if module not in norms:
                    norms[module] = Norm.of(module, model.d_model, model.hf.dtype)
                if norms[module] is not None:
                    return Entrance(point, norms[module], "norm", heads)
        return Entrance(point, None, "graph", heads)

    def of_heads(kind: Projected) -> Entrance:
        point = model.point(Site(kind, layer=layer))
        made = next(made for module, _, made in seen.made if module is point.module)
        _, _, n_heads, d_head = point.view.read(made).shape
        return entrance(point, (n_heads, d_head))

    heads = {kind: of_heads(kind) for kind in PROJECTED}
    if "resid_mid" in model.layers[layer].points:
        return Reads(heads, model.point(Site("resid_mid", layer=layer)), None)
    mlp = model.anatomy.blocks[layer].mlp
    if mlp is None:
        raise CircuitError(f"layer {layer} of {model.name} is parallel, and has no module that is its MLP")
    return Reads(heads, None, entrance(Point(mlp, "input")))


def _same(one: Tensor, other: Tensor) -> bool:
    alike = one.shape == other.shape and one.stride() == other.stride()
    return one is other or (alike and one.data_ptr() == other.data_ptr())
