"""Where each tensor of a written checkpoint lies: shard for shard as in the base's, so that most of it is copied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from circuitkit.sfn.streams.checkpoint import Checkpoint
from circuitkit.sfn.streams.headers import Stored

_LENGTH = 8
"""Bytes that tell the length of a safetensors header."""


@dataclass(frozen=True)
class Placed:
    """A tensor of a new shard.

    Attributes:
        name: its stored name.
        like: the base's tensor that it is made from, of the same dtype and shape.
        start: its first byte in the new file.
    """

    name: str
    like: Stored
    start: int


@dataclass(frozen=True)
class Shard:
    """A new file: a header, and behind it the tensors in the order in which they lie.

    Attributes:
        source: the base's file that it is made from.
        name: of the new file.
        header: its first bytes, with their length.
        placed: its tensors.
    """

    source: Path
    name: str
    header: bytes
    placed: tuple[Placed, ...]

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return max((each.start + each.like.nbytes for each in self.placed), default=len(self.header))


def shards(base: Checkpoint, extra: Mapping[str, str]) -> tuple[Shard, ...]:
    """The files of a checkpoint that is made from a base.

    Args:
        base: a folder's.
        extra: tensors that the base has not, by the base's tensors that they are made from, beside which they lie.
    """
    by_file: dict[Path, list[Stored]] = {}
    for stored in base.tensors.values():
        if stored.file is not None:
            by_file.setdefault(stored.file, []).append(stored)
    return tuple(
        _shard(file, sorted(inside, key=lambda stored: stored.offset), extra) for file, inside in by_file.items()
    )


def _shard(file: Path, inside: list[Stored], extra: Mapping[str, str]) -> Shard:
    header = _header(file)
    more = [(name, stored) for name, like in extra.items() for stored in inside if stored.name == like]
    if not more:
        kept = (Placed(stored.name, stored, stored.offset) for stored in inside)
        return Shard(file, file.name, header, tuple(kept))
    # By falling width, as the format's own writer has it, so that every tensor stays aligned.
    order = sorted([(stored.name, stored) for stored in inside] + more, key=lambda each: -each[1].dtype.itemsize)
    told = json.loads(header[_LENGTH:])
    kinds = {stored.name: told[stored.name]["dtype"] for stored in inside}
    described: dict[str, Any] = {"__metadata__": told["__metadata__"]} if "__metadata__" in told else {}
    begin = 0
    for name, stored in order:
        described[name] = {
            "dtype": kinds[stored.name],
            "shape": list(stored.shape),
            "data_offsets": [begin, begin + stored.nbytes],
        }
        begin += stored.nbytes
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _LENGTH)
    header = len(text).to_bytes(_LENGTH, "little") + text
    starts = (len(header) + described[name]["data_offsets"][0] for name, _ in order)
    placed = (Placed(name, stored, start) for (name, stored), start in zip(order, starts, strict=True))
    return Shard(file, file.name, header, tuple(placed))


def _header(file: Path) -> bytes:
    with file.open("rb") as opened:
        length = opened.read(_LENGTH)
        return length + opened.read(int.from_bytes(length, "little"))
