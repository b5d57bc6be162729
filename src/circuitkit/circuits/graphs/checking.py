"""Whether arrays make a graph of a layout, and whether two graphs are of one architecture."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.layout import Layout


def checked_scores(
    layout: Layout, scores: Float[Tensor, "*any sources destinations"], name: str
) -> Float[Tensor, "*any sources destinations"]:
    """Scores on the CPU in single or double precision, once they are known to be of edges of the layout and finite.

    Raises:
        CircuitError: another shape or kind of number, NaN or infinite, or a score where no edge is; the first is named.
    """
    if tuple(scores.shape[-2:]) != tuple(layout.reach.shape) or not scores.is_floating_point():
        raise CircuitError(
            f"{name} must be floats, a row for each of {len(layout.sources)} sources and a column for each of "
            f"{len(layout.destinations)} destinations of {layout}; got {scores.dtype} of shape {tuple(scores.shape)}"
        )
    held = scores.detach().cpu()
    held = held if held.dtype in (torch.float32, torch.float64) else held.float()
    if not bool(torch.isfinite(held).all()):
        where = _first(~torch.isfinite(held))
        raise CircuitError(
            f"{name} has {_told(layout, where)} = {float(held[where])}: leave out the examples whose metric is not "
            "finite, or run the model in fp32"
        )
    if bool((stray := (held != 0) & ~layout.reach).any()):
        raise CircuitError(
            f"{name} has a score at {_told(layout, _first(stray))}, where there is no edge: set what lies outside "
            "layout.reach to 0"
        )
    return held


def checked_members(
    layout: Layout, members: Bool[Tensor, "sources destinations"]
) -> Bool[Tensor, "sources destinations"]:
    """Members on the CPU, once they are known to be edges of the layout.

    Raises:
        CircuitError: another shape, no truth values, or a member where no edge is, which is named.
    """
    if tuple(members.shape) != tuple(layout.reach.shape) or members.dtype != torch.bool:
        raise CircuitError(
            f"members must be a bool for each of {len(layout.sources)} sources and {len(layout.destinations)} "
            f"destinations of {layout}; got {members.dtype} of shape {tuple(members.shape)}"
        )
    held = members.detach().cpu()
    if bool((stray := held & ~layout.reach).any()):
        raise CircuitError(
            f"members has {_told(layout, _first(stray))}, which is no edge: take `members & layout.reach`"
        )
    return held


def check_same(one: Layout, other: Layout, whose: str = "the other graph") -> None:
    """Refuse a graph of another architecture, and tell in what it differs.

    Raises:
        CircuitError: the layouts differ.

    >>> check_same(Layout((2,), (2,), (False,)), Layout((2,), (1,), (False,)))
    Traceback (most recent call last):
    circuitkit.circuits.errors.CircuitError: a graph of another architecture: key/value heads of layer 0 are 2 here and
    1 in the other graph
    """
    if one == other:
        return
    if one.n_layers != other.n_layers:
        what = f"it has {one.n_layers} layers and {whose} {other.n_layers}"
    else:
        what = next(
            f"{name} of layer {layer} are {ours[layer]} here and {theirs[layer]} in {whose}"
            for name, ours, theirs in (
                ("heads", one.n_heads, other.n_heads),
                ("key/value heads", one.n_kv_heads, other.n_kv_heads),
                ("attention and MLP in parallel", one.parallel, other.parallel),
            )
            for layer in range(one.n_layers)
            if ours[layer] != theirs[layer]
        )
    raise CircuitError(f"a graph of another architecture: {what}")


def _first(mask: Bool[Tensor, "*any sources destinations"]) -> tuple[int, ...]:
    return tuple(mask.nonzero()[0].tolist())


def _told(layout: Layout, where: tuple[int, ...]) -> str:
    *example, row, column = where
    of = f" of example {example[0]}" if example else ""
    return f"{layout.sources[row]}->{layout.destinations[column]}{of}"
