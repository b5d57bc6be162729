"""Which stored tensors a model computes with; a file may hold others, such as masks and rotary tables of old."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circuitkit.sfn.streams.checkpoint import Checkpoint
    from circuitkit.sfn.streams.parts import Part


def computed_with(checkpoint: Checkpoint) -> frozenset[str]:
    """The parameters and buffers that the model has, by name; a file may hold others, such as masks of old.

    >>> sorted(computed_with(ck.sfn.Checkpoint.open("deductor-130k")))[:2]
    ['lm_head.weight', 'model.embed_tokens.weight']
    """
    return frozenset(checkpoint.skeleton.anatomy.root.state_dict(keep_vars=True))


def without_unused(a: Checkpoint, parts: Sequence[Part], others: Sequence[Checkpoint]) -> list[Part]:
    """Parts of A without those that it does not compute with, where another checkpoint does not store them."""
    known = computed_with(a)
    stored = [{part.parameter for part in each.parts} for each in others]
    return [part for part in parts if part.parameter in known or all(part.parameter in each for each in stored)]
