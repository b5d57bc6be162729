"""What a tensor was and what it became: hashes of its bytes, norms, and the size of the change."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

_CHUNK = 1 << 15
"""Elements that are summed at a time: few enough for a core's cache, too few for PyTorch to divide among threads."""


@dataclass(frozen=True)
class Change:
    """How one stored tensor of a written checkpoint differs from the base's.

    Attributes:
        tensor: its stored name.
        roles: of its parts; empty for a router or an attention sink.
        layer: None where it lies in none.
        dtype, shape: of both.
        elements, changed: how many there are, and how many have another value than before.
        sha256_before, sha256_after: of its bytes, in hex; before is None where the base does not store the tensor.
        norm_before, norm_after, norm_change: L2, of the old values, the new ones, and their difference.
        cosine: of the old and new values; NaN where either is all zeros.
        largest_change, mean_change: of the absolute differences.
        told: what else its edit says: which heads, how, how many values were rounded.
    """

    tensor: str
    roles: tuple[str, ...]
    layer: int | None
    dtype: str
    shape: tuple[int, ...]
    elements: int
    changed: int
    sha256_before: str | None
    sha256_after: str
    norm_before: float
    norm_after: float
    norm_change: float
    cosine: float
    largest_change: float
    mean_change: float
    told: Mapping[str, Any] = field(default_factory=dict)


class Tally:
    """Adds up a change, block after block, in the order in which the blocks lie in the file."""

    def __init__(self) -> None:
        self._before, self._after = hashlib.sha256(), hashlib.sha256()
        self._squares_before = self._squares_after = self._squares_change = self._products = 0.0
        self._largest = self._absolute = 0.0
        self._elements = self._changed = 0
        self._buffers = [torch.empty(_CHUNK, dtype=torch.float64) for _ in range(3)]
        self._single = torch.empty(_CHUNK, dtype=torch.float32)

    def add(self, old: Tensor, new: Tensor) -> None:
        """Count a block in, old and new of one dtype and shape."""
        self._before.update(raw(old))
        self._after.update(raw(new))
        old, new = old.reshape(-1), new.reshape(-1)
        for start in range(0, old.numel(), _CHUNK):
            self._add(old[start : start + _CHUNK], new[start : start + _CHUNK])
        self._elements += old.numel()

    def numbers(self, *, stored_before: bool) -> dict[str, Any]:
        """The fields of a `Change` that are counted here."""
        norms = math.sqrt(self._squares_before) * math.sqrt(self._squares_after)
        return {
            "elements": self._elements,
            "changed": self._changed,
            "sha256_before": self._before.hexdigest() if stored_before else None,
            "sha256_after": self._after.hexdigest(),
            "norm_before": math.sqrt(self._squares_before),
            "norm_after": math.sqrt(self._squares_after),
            "norm_change": math.sqrt(self._squares_change),
            "cosine": self._products / norms if norms else math.nan,
            "largest_change": self._largest,
            "mean_change": self._absolute / self._elements if self._elements else 0.0,
        }

    def _add(self, old: Tensor, new: Tensor) -> None:
        before, after, difference = (buffer[: old.numel()] for buffer in self._buffers)
        for values, wide in ((old, before), (new, after)):
            # 16 bits go to 64 by way of 32 much faster than at once, and as exactly.
            short = values.dtype.itemsize < 4
            wide.copy_(self._single[: values.numel()].copy_(values) if short else values)
        torch.sub(after, before, out=difference)
        self._squares_before += torch.dot(before, before).item()
        self._squares_after += torch.dot(after, after).item()
        self._products += torch.dot(before, after).item()
        self._squares_change += torch.dot(difference, difference).item()
        difference.abs_()
        self._largest = max(self._largest, difference.max().item())
        self._absolute += difference.sum().item()
        self._changed += int(torch.count_nonzero(difference))


def raw(block: Tensor) -> memoryview:
    """The bytes of a tensor as they lie in memory, without a copy where it lies in one piece.

    >>> bytes(raw(torch.tensor([1, 2], dtype=torch.int16)))
    b'\\x01\\x00\\x02\\x00'
    """
    return block.contiguous().view(-1).view(torch.uint8).numpy().data
