"""What a decoder shows of itself in one short run: head counts, and where each site's tensor really is.

Names do not say everything: one architecture's attention module returns its addition to the stream, another's has
added the stream already, a third multiplies afterwards; fused projections interleave their heads in different ways.
So each claim is checked on the model's own numbers, `resid_pre + attn_out + mlp_out = resid_post` and
`pattern @ v = z`, and a site whose claim does not hold is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from circuitkit.model.anatomy import Anatomy, Block
from circuitkit.model.attention import AttentionTap, tapped
from circuitkit.model.hooks import before_forward
from circuitkit.model.points import Columns, Heads, Point, Whole, first_tensor
from circuitkit.model.sharding import Held, Shard, division, every_process, heads_divided
from circuitkit.model.short_run import keepers, removed, short_run
from circuitkit.model.site import ATTENTION_KINDS, Kind, SiteError

_BRANCHES: tuple[Kind, ...] = ("attn_out", "mlp_out", "resid_mid")
_PROJECTIONS: tuple[Kind, ...] = ("q", "k", "v")


@dataclass(frozen=True)
class Layer:
    """What one layer has: heads, the point of each site, and why the others are not to be had."""

    n_heads: int | None
    n_kv_heads: int | None
    d_head: int | None
    points: dict[Kind, Point]
    refusals: dict[Kind, str]


@dataclass
class _Seen:
    """What one layer's modules were handed and returned.

    Attributes:
        tensors: by part and end; put together where each process had a part.
        shards: of those, how they are divided among processes.
        apart: the ends where processes had what cannot be put together, and why.
    """

    tensors: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    pattern: Tensor | None = None
    softmaxes: int = 0
    shards: dict[tuple[str, str], Shard] = field(default_factory=dict)
    heads: Shard | None = None
    apart: dict[tuple[str, str], str] = field(default_factory=dict)

    def get(self, part: str, end: str) -> Tensor | None:
        return self.tensors.get((part, end))


def probe(anatomy: Anatomy, group: Any = None) -> tuple[Layer, ...]:
    """Run a few tokens through the decoder and work out each layer's points.

    Args:
        anatomy: the decoder's modules.
        group: the processes that its tensors are divided among, each of which probes at the same time.

    Raises:
        SiteError: the decoder does not run divided.
    """
    seen = [_Seen() for _ in anatomy.blocks]
    with ExitStack() as stack:
        for block, record in zip(anatomy.blocks, seen, strict=True):
            _watch(block, record, stack)
        config = short_run(anatomy, group)
    if group is not None:
        _join(anatomy.blocks, seen, group)
    return tuple(_layer(block, record, config) for block, record in zip(anatomy.blocks, seen, strict=True))


def _join(blocks: tuple[Block, ...], seen: list[_Seen], group: Any) -> None:
    """Put together what each process had a part of."""
    said = every_process([{at: Held.of(tensor) for at, tensor in each.tensors.items()} for each in seen], group)
    for index, (block, record) in enumerate(zip(blocks, seen, strict=True)):
        for (part, end), own in record.tensors.items():
            try:
                shard = division(getattr(block, part), end, [each[index][part, end] for each in said], group)
            except SiteError as error:
                record.apart[part, end] = str(error)
                continue
            if shard is not None:
                record.shards[part, end] = shard
                record.tensors[part, end] = shard.gathered(own)
        if record.pattern is not None:
            record.heads = heads_divided(record.pattern.shape[1], record.shards.get(("o", "input")), group)
            if record.heads is not None:
                record.pattern = record.heads.gathered(record.pattern)


def _watch(block: Block, record: _Seen, stack: ExitStack) -> None:
    def keep(part: str, end: str, values: Any) -> None:
        # A copy, because some decoders add to a branch's output in place.
        record.tensors[part, end] = first_tensor(values).detach().clone()

    for part, module in vars(block).items():
        if module is None:
            continue
        before, after = keepers(part, keep)
        stack.enter_context(removed(before_forward(module, before)))
        stack.enter_context(removed(module.register_forward_hook(after)))
    if block.attn is not None:

        def see(pattern: Tensor) -> None:
            record.pattern = pattern.detach().clone()

        def count(fired: int) -> None:
            record.softmaxes = fired

        stack.enter_context(tapped([AttentionTap(block.attn, lambda scores: None, see, count)]))


def _layer(block: Block, seen: _Seen, config: Any) -> Layer:
    points: dict[Kind, Point] = {
        "resid_pre": Point(block.block, "input"),
        "resid_post": Point(block.block, "output"),
    }
    refusals: dict[Kind, str] = {}
    _branches(block, seen, config, points, refusals)
    n_heads = _head_count(block, seen, config)
    n_kv_heads = d_head = None
    z_width = None if (z := seen.get("o", "input")) is None else z.shape[-1]
    if n_heads is None or z_width is None or z_width % n_heads or block.o is None:
        for kind in (*_PROJECTIONS, "z"):
            refusals[kind] = "no attention output projection, or no head count, was found there"
    else:
        d_head = z_width // n_heads
        points["z"] = Point(block.o, "input", Heads(n_heads))
        n_kv_heads = _projections(block, seen, n_heads, d_head, points, refusals)
    if seen.pattern is not None and seen.softmaxes == 1 and block.attn is not None:
        points["scores"] = points["pattern"] = Point(block.attn, "output", shard=seen.heads)
    else:
        reason = f"its attention computes {seen.softmaxes} softmaxes that can be reached, where one is expected"
        refusals["scores"] = refusals["pattern"] = reason
    _divide(block, seen, points, refusals)
    return Layer(n_heads, n_kv_heads, d_head, points, refusals)


def _divide(block: Block, seen: _Seen, points: dict[Kind, Point], refusals: dict[Kind, str]) -> None:
    """Tell points of what they are divided into, and refuse those where processes have what cannot be put together."""
    parts = {module: part for part, module in vars(block).items() if module is not None}
    for kind, point in [(kind, point) for kind, point in points.items() if kind not in ATTENTION_KINDS]:
        at = (parts[point.module], point.end)
        if at in seen.apart:
            del points[kind]
            refusals[kind] = seen.apart[at]
        elif at in seen.shards:
            points[kind] = replace(point, shard=seen.shards[at])


def _close(a: Tensor, b: Tensor) -> bool:
    tolerance = 1e-3 if a.dtype in (torch.float32, torch.float64) else 5e-2
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    return a.shape == b.shape and bool((a - b).norm() <= tolerance * b.norm().clamp(min=1e-30))


def _branches(block: Block, seen: _Seen, config: Any, points: dict[Kind, Point], refusals: dict[Kind, str]) -> None:
    """Find what attention and MLP add to the stream, and whether the stream has a middle."""
    pre, post = seen.tensors["block", "input"], seen.tensors["block", "output"]
    multipliers = dict.fromkeys([1.0, *_multipliers(block.block, config)])
    for multiplier in multipliers:
        view = Whole(multiplier)
        for attn_part in ("ln1_post", "attn", "o"):
            for mlp_part in ("ln2_post", "mlp", "mlp_down"):
                attn, mlp = seen.get(attn_part, "output"), seen.get(mlp_part, "output")
                if attn is None or mlp is None or attn.shape != pre.shape or mlp.shape != pre.shape:
                    continue
                attn = attn.to(pre.device) * multiplier
                if not _close(pre + attn + mlp.to(pre.device) * multiplier, post.to(pre.device)):
                    continue
                points["attn_out"] = Point(getattr(block, attn_part), "output", view)
                points["mlp_out"] = Point(getattr(block, mlp_part), "output", view)
                _middle(block, seen, pre, attn, config, points, refusals)
                return
    reason = "resid_pre + attn_out + mlp_out does not give resid_post on this model"
    for kind in _BRANCHES:
        refusals[kind] = reason


def _multipliers(block: nn.Module, config: Any) -> list[float]:
    found = (getattr(owner, "residual_multiplier", None) for owner in (block, config))
    return [float(value) for value in found if isinstance(value, int | float)]


_PARALLEL_FLAGS = ("use_parallel_residual", "parallel_attn", "new_decoder_architecture", "parallel_residual")


def _middle(
    block: Block,
    seen: _Seen,
    pre: Tensor,
    attn: Tensor,
    config: Any,
    points: dict[Kind, Point],
    refusals: dict[Kind, str],
) -> None:
    part = "ln2" if block.ln2 is not None else "mlp"
    entering = seen.get(part, "input")
    # Where attention adds nothing (a destroyed module), the numbers cannot tell parallel from sequential.
    parallel = any(getattr(config, flag, False) for flag in _PARALLEL_FLAGS) and _close(pre + attn, pre)
    if entering is not None and not parallel and _close(entering.to(pre.device), pre + attn):
        points["resid_mid"] = Point(getattr(block, part), "input")
    else:
        refusals["resid_mid"] = "attention and MLP read the same stream (parallel), so it has no middle"


def _head_count(block: Block, seen: _Seen, config: Any) -> int | None:
    if seen.pattern is not None:
        return seen.pattern.shape[1]
    if block.attn is None:
        return None
    for owner, name in ((block.attn, "num_heads"), (block.attn, "num_q_heads"), (config, "num_attention_heads")):
        if isinstance(count := getattr(owner, name, None), int):
            return count
    return None


def _projections(
    block: Block,
    seen: _Seen,
    n_heads: int,
    d_head: int,
    points: dict[Kind, Point],
    refusals: dict[Kind, str],
) -> int | None:
    """Find q, k and v, and return the number of key/value heads."""
    q, k, v = (seen.get(part, "output") for part in ("q", "k", "v"))
    if q is not None and k is not None and v is not None and block.q and block.k and block.v:
        d_query = int(getattr(block.attn, "head_dim", q.shape[-1] // n_heads))
        n_kv_heads = v.shape[-1] // d_head
        if q.shape[-1] == n_heads * d_query and k.shape[-1] == n_kv_heads * d_query and n_heads % n_kv_heads == 0:
            points["q"] = Point(block.q, "output", Heads(n_heads))
            points["k"] = Point(block.k, "output", Heads(n_kv_heads))
            points["v"] = Point(block.v, "output", Heads(n_kv_heads))
            return n_kv_heads
        reason = f"its projections of widths {q.shape[-1]}, {k.shape[-1]}, {v.shape[-1]} do not divide into heads"
    elif (fused := seen.get("qkv", "output")) is not None and block.qkv is not None:
        n_kv_heads = (fused.shape[-1] // d_head - n_heads) // 2
        if n_kv_heads > 0 and (n_heads + 2 * n_kv_heads) * d_head == fused.shape[-1] and n_heads % n_kv_heads == 0:
            for columns in layouts(n_heads, n_kv_heads, d_head):
                if _gives_z(fused, columns[2], seen, n_heads, n_kv_heads):
                    for kind, index, heads in zip(
                        _PROJECTIONS, columns, (n_heads, n_kv_heads, n_kv_heads), strict=True
                    ):
                        points[kind] = Point(block.qkv, "output", Columns(index, heads))
                    return n_kv_heads
        reason = "no known layout of its fused projection gives pattern @ v = z"
    else:
        reason = "its query, key and value projections were not found"
    for kind in _PROJECTIONS:
        refusals[kind] = reason
    return None


def layouts(n_heads: int, n_kv_heads: int, d_head: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Columns of q, k and v in a fused output: one after another, then interleaved by key/value head.

    >>> [[columns.tolist() for columns in layout] for layout in layouts(2, 2, 1)]
    [[[0, 1], [2, 3], [4, 5]], [[0, 3], [1, 4], [2, 5]]]
    """
    columns = torch.arange((n_heads + 2 * n_kv_heads) * d_head)
    q, k, v = torch.split(columns, [n_heads * d_head, n_kv_heads * d_head, n_kv_heads * d_head])
    yield q, k, v
    groups = columns.view(n_kv_heads, n_heads // n_kv_heads + 2, d_head)
    yield groups[:, :-2].flatten(), groups[:, -2].flatten(), groups[:, -1].flatten()


def _gives_z(fused: Tensor, columns: Tensor, seen: _Seen, n_heads: int, n_kv_heads: int) -> bool:
    if seen.pattern is None:
        return False
    v = Columns(columns, n_kv_heads).read(fused).repeat_interleave(n_heads // n_kv_heads, dim=2)
    z = torch.einsum("bhqk,bkhd->bqhd", seen.pattern.to(v.dtype), v).flatten(-2)
    return _close(z, seen.tensors["o", "input"])
