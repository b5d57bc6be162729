"""Reference captures by tools that share no code with the package, one module for each tool.

Each module has ``capture(...) -> Captures`` and ``supports(name) -> frozenset`` of the kinds that it gives for
an architecture of the zoo; what it leaves out stands there as data with the reason. What the kinds mean:

- ``embed``: what the token embedding hands on, scaled where the model scales, before positions or norms
- ``resid_pre``, ``resid_mid``, ``resid_post``: the stream [batch, position, d_model]; no ``resid_mid`` where
  attention and feed-forward read the same stream
- ``attn_out``, ``mlp_out``: what is added to the stream, after post-norms
- ``q``, ``k``, ``v``: projection outputs [batch, position, head, d_head], before norm and rotary; ``k`` and
  ``v`` have the key/value heads
- ``z``: the output projection's input [batch, position, head, d_head]
- ``scores``: what enters the softmax [batch, head, query, key], without a sink's column; where a key is hidden,
  some number below ``HIDDEN`` (the dtype's minimum plus the score, or minus infinity)
- ``pattern``: what leaves the softmax [batch, head, query, key], without a sink's column
- ``logits`` [batch, position, vocab]

``embed`` and ``logits`` stand under layer ``None``.
"""

import torch
from torch import Tensor

Captures = dict[tuple[str, int | None], Tensor]

LAYER_KINDS = (
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "mlp_out",
    "q",
    "k",
    "v",
    "z",
    "scores",
    "pattern",
)
KINDS = ("embed", *LAYER_KINDS, "logits")

#: Scores below this are those of hidden keys.
HIDDEN = -1e30

#: Attention and feed-forward read the same stream, so there is no stream between them.
PARALLEL = frozenset({"gpt_neox", "falcon", "falcon_multi_query"})


def positions(attention_mask: Tensor) -> Tensor:
    """Positions that count real tokens only, [batch, position]; padding gets 0."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


def kinds_of(name: str) -> frozenset[str]:
    """The kinds that exist in an architecture of the zoo, whatever the tool."""
    return frozenset(KINDS) - ({"resid_mid"} if name in PARALLEL else set())


def first(value: Tensor | tuple) -> Tensor:
    """The tensor that a module passes on, alone or first in a tuple, safe from later in-place changes."""
    tensor = value[0] if isinstance(value, tuple) else value
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"expected a tensor or a tuple that starts with one, not {type(value).__name__}")
    return tensor.detach().clone()
