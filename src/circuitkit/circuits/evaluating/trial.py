"""Whether what circuits compute by a layer's parts is what the model computes by the whole, tried on one prompt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from circuitkit.circuits.attributing.entrances import PROJECTED
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.evaluating.layers import Layers
from circuitkit.circuits.evaluating.reading_anew import BlockCall
from circuitkit.model import taps
from circuitkit.model.hooks import before_forward
from circuitkit.model.points import Point
from circuitkit.model.site import Kind
from circuitkit.model.tokens import Pass, Tokens
from circuitkit.run.run import forward

_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4}
_ROUNDING_IN_HALF = 5e-2


def check_layers(layers: Layers, tokens: Tokens) -> None:
    """Try what every layer reads on some tokens.

    Raises:
        CircuitError: heads' queries, keys or values, or what an MLP reads, is not what the model computes; the layer is
            named.
    """
    model = layers.model
    calls: dict[int, BlockCall] = {}
    seen: dict[tuple[str, int], Tensor] = {}

    def keep(name: str, layer: int, tensor: Tensor, now: Pass) -> None:
        seen[name, layer] = tensor.clone()

    def note(layer: int, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls[layer] = args, kwargs

    actions: dict[Point, list[taps.Action]] = {}
    for layer, (point, _) in enumerate(layers.mlp_inputs):
        kinds: tuple[Kind, ...] = ("resid_pre", *PROJECTED)
        for kind in kinds:
            actions.setdefault(layers.point(kind, layer), []).append(partial(keep, kind, layer))
        actions.setdefault(point, []).append(partial(keep, "mlp input", layer))
    with torch.no_grad(), _noting(layers, note), _held(actions, tokens):
        forward(model, tokens, tokens.columns(-1)[:, None])
    with torch.no_grad():
        for layer in range(model.n_layers):
            _check_layer(layers, layer, calls[layer], seen)


def _check_layer(layers: Layers, layer: int, call: BlockCall, seen: dict[tuple[str, int], Tensor]) -> None:
    reads = layers.reads[layer]
    stream = seen["resid_pre", layer]
    normed, projections = reads.normed(stream, call), reads.projections()
    for kind in PROJECTED:
        own = seen[kind, layer]
        _check(layers, layer, f"the {kind} of its heads", projections.of(kind, normed, range(own.shape[2])), own)
    if "resid_mid" not in layers.model.layers[layer].points:
        entering = normed if layers.mlp_inputs[layer][1] else stream
        _check(layers, layer, "what its MLP reads", entering, seen["mlp input", layer])


def _check(layers: Layers, layer: int, what: str, computed: Tensor, own: Tensor) -> None:
    tolerance = _ROUNDING.get(own.dtype, _ROUNDING_IN_HALF)
    computed = computed.double()
    off = float((computed - own.to(computed)).norm() / own.double().norm().clamp(min=1e-30))
    if not off <= tolerance:
        raise CircuitError(
            f"{what} in layer {layer} of {layers.model.name} is not what its own modules make of the stream (off by "
            f"{off:.1e} of its size), so its edges cannot be told apart; is a hook of another library on it?"
        )


@contextmanager
def _noting(layers: Layers, note: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for layer, block in enumerate(layers.model.anatomy.blocks):
            hook = before_forward(block.block, partial(note, layer))
            stack.callback(hook.remove)
        yield


@contextmanager
def _held(actions: dict[Point, list[taps.Action]], tokens: Tokens) -> Iterator[None]:
    now, thread = Pass(tokens.mask, tokens.mask.shape[1], tokens.mask), get_ident()
    with taps.holding(actions, {}, {}, lambda: now if get_ident() == thread else None):
        yield
