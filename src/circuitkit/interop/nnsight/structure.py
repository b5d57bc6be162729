"""Where a model's sites are, and in which order it comes to them, found out from its config alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from circuitkit.interop.nnsight.limits import EngineError
from circuitkit.interop.nnsight.twin import calls_of, twin_of
from circuitkit.model.anatomy import Anatomy, Block, dissect
from circuitkit.model.points import Columns, Heads, Point, View
from circuitkit.model.probe import Layer, layouts, probe
from circuitkit.model.site import KEY_VALUE_KINDS, Kind

_HEAD_KINDS: tuple[Kind, ...] = ("q", "k", "v", "z")


@dataclass(frozen=True)
class Structure:
    """What a narrow twin tells of a model.

    Attributes:
        layers: what each layer has, at the model's own widths.
        ranks: the order in which a forward comes to each module's input and output.
        shapes: the twin's shape of the tensor there.
        often: modules that one forward calls more than once.
        twin_width: the twin's width of the stream.
    """

    layers: tuple[Layer, ...]
    ranks: dict[tuple[str, str], int]
    shapes: dict[tuple[str, str], tuple[int, ...]]
    often: frozenset[str]
    twin_width: int

    @classmethod
    def of(cls, anatomy: Anatomy) -> Structure:
        """The structure of a model that may have no weights.

        Raises:
            EngineError: no twin can be made of its config.
        """
        root: Any = anatomy.root
        name = type(root).__name__
        try:
            twin = twin_of(root)
            small = dissect(twin, None)
            ids = (torch.arange(8) * 7 + 3)[None] % 64
            calls = list(calls_of(twin, ids))
            narrow = probe(small)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
            raise EngineError(
                f"the sites of {name} cannot be told from its config ({type(error).__name__}: {error}), and its "
                "weights are not here: load it without engine='nnsight'"
            ) from error
        layers = tuple(_widened(*each, twin, root) for each in zip(narrow, small.blocks, anatomy.blocks, strict=True))
        counts = Counter(path for path, end, _ in calls if end == "output")
        ranks = {(path, end): rank for rank, (path, end, _) in reversed(list(enumerate(calls)))}
        shapes = {(path, end): shape for path, end, shape in calls}
        often = frozenset(path for path, count in counts.items() if count > 1)
        return cls(layers, ranks, shapes, often, int(_text(twin).hidden_size))


def _text(model: Any) -> Any:
    return model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config


def _widened(layer: Layer, small: Block, block: Block, twin: Any, root: Any) -> Layer:
    """A twin's layer at the width of the model itself."""
    paths = {module: path for path, module in twin.named_modules()}
    points: dict[Kind, Point] = {}
    refusals = dict(layer.refusals)
    counts, narrow = _heads(block, root), _heads(small, twin)
    # What counts heads in the twin as its own numbers do counts them in the model too.
    counted = layer.n_heads is not None and (narrow.n_heads, narrow.d_head) == (layer.n_heads, layer.d_head)
    grouped = counted and layer.n_kv_heads is not None and narrow.n_kv_heads == layer.n_kv_heads
    for kind, point in layer.points.items():
        if kind in _HEAD_KINDS and not (counted if kind == "z" else grouped):
            refusals[kind] = "its heads cannot be counted without its weights"
            continue
        view = _view(kind, point.view, narrow, counts) if kind in _HEAD_KINDS else point.view
        points[kind] = Point(root.get_submodule(paths[point.module]), point.end, view)
    return Layer(
        counts.n_heads if layer.n_heads is not None else None,
        counts.n_kv_heads if grouped else None,
        counts.d_head if counted else None,
        points,
        refusals,
    )


@dataclass(frozen=True)
class _Heads:
    """How many heads a layer has, and how wide one's output is; None where that cannot be told."""

    n_heads: int
    n_kv_heads: int | None = None
    d_head: int | None = None


def _heads(block: Block, root: Any) -> _Heads:
    """Heads by the config and the projections' shapes."""
    n_heads: int = _text(root).num_attention_heads
    if (z_width := linear_width(block.o, "input")) is None or z_width % n_heads:
        return _Heads(n_heads)
    d_head = z_width // n_heads
    if (v_width := linear_width(block.v, "output")) is not None:
        return _Heads(n_heads, v_width // d_head, d_head)
    if (fused := linear_width(block.qkv, "output")) is not None:
        return _Heads(n_heads, (fused // d_head - n_heads) // 2, d_head)
    return _Heads(n_heads, None, d_head)


def linear_width(module: nn.Module | None, end: str) -> int | None:
    """The width of a linear module's input or output."""
    if module is None or not isinstance(weight := getattr(module, "weight", None), Tensor) or weight.ndim != 2:
        return None
    # Linear keeps [out, in]; GPT-2's Conv1D, which names its output width, [in, out].
    by_end = {"output": 1, "input": 0} if hasattr(module, "nf") else {"output": 0, "input": 1}
    return int(weight.shape[by_end[end]])


def _view(kind: Kind, view: View, narrow: _Heads, counts: _Heads) -> View:
    """A twin's view of heads with the model's numbers."""
    count = counts.n_kv_heads if kind in KEY_VALUE_KINDS else counts.n_heads
    assert count is not None  # the caller has counted them
    if not isinstance(view, Columns):
        return Heads(count)
    number = ("q", "k", "v").index(kind)
    rules = zip(_columns(narrow), _columns(counts), strict=True)
    return next(Columns(at[number], count) for small, at in rules if torch.equal(small[number], view.index))


def _columns(heads: _Heads) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    assert heads.n_kv_heads is not None and heads.d_head is not None  # fused projections were counted
    return layouts(heads.n_heads, heads.n_kv_heads, heads.d_head)


def width_of(model: nn.Module, structure: Structure, path: str, end: str, d_model: int) -> int | None:
    """The width of a module's input or output; None where it cannot be told."""
    shape = structure.shapes.get((path, end), ())
    if len(shape) != 3:
        return None
    if shape[-1] == structure.twin_width:
        return d_model
    return linear_width(model.get_submodule(path), end)
