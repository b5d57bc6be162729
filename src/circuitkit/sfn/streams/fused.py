"""Which rows of a fused projection's outputs are query, key, value, gate and up, by the architecture alone.

Weights cannot tell, and a wrong guess shows nowhere: so an architecture that is not named here has no layout, and its
fused tensors are to be had whole only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from circuitkit.model.anatomy import Block
from circuitkit.sfn.streams.runs import Runs, joined


@dataclass(frozen=True)
class Heads:
    """How many heads an attention has, and how wide they are.

    Attributes:
        queries, keys: of q and o, and of k and v; None where they are not to be told.
        width: of one head of v, and in a fused projection of all.
    """

    queries: int | None
    keys: int | None
    width: int | None


def heads_of(block: Block, config: Any) -> Heads:
    """The heads of a layer, from the shapes of its projections and what its modules or the config say.

    Args:
        block: the layer's modules.
        config: of the decoder.
    """
    queries = _query_heads(block, config)
    z_width = _inputs(block.o)
    if queries is None or z_width is None or z_width % queries:
        return Heads(None, None, None)
    width = z_width // queries
    if block.qkv is not None or (block.q is not None and block.q is block.k):
        keys, odd = divmod((_outputs(block.qkv or block.q) or 0) - queries * width, 2 * width)
    else:
        keys, odd = divmod(_outputs(block.v) or 0, width)
    return Heads(queries, keys, width) if not odd and keys > 0 and queries % keys == 0 else Heads(queries, None, width)


def query_key_value(block: Block, heads: Heads) -> tuple[Runs, Runs, Runs] | None:
    """Which outputs of a fused projection are q, k and v; None where the architecture is not known here."""
    if heads.queries is None or heads.keys is None or heads.width is None or block.attn is None:
        return None
    named = (cls.__name__ for cls in type(block.attn).__mro__)
    layout = next((_LAYOUTS[name] for name in named if name in _LAYOUTS), None)
    return None if layout is None else layout(block.attn, heads.queries, heads.keys, heads.width)


def gate_up(module: nn.Module, parent: nn.Module | None, outputs: int) -> tuple[Runs, Runs] | None:
    """Which outputs of a fused projection are gate and up; None where the architecture is not known here.

    Args:
        module: the projection, or the experts whose tensor it is.
        parent: the MLP around it.
        outputs: how many there are.
    """
    half = outputs // 2
    if (side_by_side := getattr(module, "is_concatenated", None)) is not None:
        # Experts of transformers say it themselves.
        return _halves(half) if side_by_side else _alternating(outputs)
    named = {cls.__name__ for each in (module, parent) if each is not None for cls in type(each).__mro__}
    return _halves(half) if named & _GATE_FIRST else None


def _query_heads(block: Block, config: Any) -> int | None:
    owners = [(block.attn, name) for name in ("num_heads", "num_q_heads", "num_attention_heads", "n_heads", "n_head")]
    for owner, name in (*owners, (config, "num_attention_heads")):
        if isinstance(count := getattr(owner, name, None), int) and count > 0:
            return count
    return None


def _outputs(module: Any) -> int | None:
    """Width of a projection's output."""
    if module is None:
        return None
    width = getattr(module, "out_features", None) or getattr(module, "nf", None)
    return int(width) if width is not None else None


def _inputs(module: Any) -> int | None:
    if module is None:
        return None
    width = getattr(module, "in_features", None) or getattr(module, "nx", None)
    return int(width) if width is not None else None


def _one_after_another(attention: Any, queries: int, keys: int, width: int) -> tuple[Runs, Runs, Runs]:
    """All of q, then all of k, then all of v."""
    q, k = queries * width, keys * width
    return (slice(0, q, 1),), (slice(q, q + k, 1),), (slice(q + k, q + 2 * k, 1),)


def _by_key_head(attention: Any, queries: int, keys: int, width: int) -> tuple[Runs, Runs, Runs]:
    """For each key/value head: its queries, its key, its value."""
    of_queries = queries // keys * width
    group = of_queries + 2 * width
    starts = [head * group for head in range(keys)]
    return (
        joined(slice(start, start + of_queries) for start in starts),
        joined(slice(start + of_queries, start + of_queries + width) for start in starts),
        joined(slice(start + of_queries + width, start + group) for start in starts),
    )


def _bigcode(attention: Any, queries: int, keys: int, width: int) -> tuple[Runs, Runs, Runs]:
    return (_one_after_another if attention.multi_query else _by_key_head)(attention, queries, keys, width)


def _codegen(attention: Any, queries: int, keys: int, width: int) -> tuple[Runs, Runs, Runs]:
    """Four pieces, for the four cores that it was trained on, each of q, then v, then k."""
    pieces = 4
    share = queries * width // pieces
    q, v, k = (
        joined(slice(at * 3 * share + which * share, at * 3 * share + (which + 1) * share) for at in range(pieces))
        for which in range(3)
    )
    return q, k, v


_LAYOUTS: Mapping[str, Callable[[Any, int, int, int], tuple[Runs, Runs, Runs]]] = {
    **dict.fromkeys(("GPT2Attention", "Phi3Attention", "MptAttention", "DbrxAttention"), _one_after_another),
    "OpenELMMultiHeadCausalAttention": _one_after_another,
    **dict.fromkeys(("GPTNeoXAttention", "BloomAttention", "FalconAttention"), _by_key_head),
    "GPTBigCodeAttention": _bigcode,
    "CodeGenAttention": _codegen,
}
_GATE_FIRST = frozenset(("Phi3MLP", "GlmMLP", "Glm4MLP", "Llama4TextExperts", "OpenELMFeedForwardNetwork"))


def _halves(half: int) -> tuple[Runs, Runs]:
    return (slice(0, half, 1),), (slice(half, 2 * half, 1),)


def _alternating(outputs: int) -> tuple[Runs, Runs]:
    return (slice(0, outputs - 1, 2),), (slice(1, outputs, 2),)
