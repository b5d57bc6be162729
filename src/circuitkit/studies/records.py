"""What is kept of a cell that ended: one JSON file, which says of itself whether it is whole."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from circuitkit.studies.cells import NamedCell, Shown

_START = b'{"crc32": "00000000", '


class SpoiledError(ValueError):
    """A file that is cut short, altered, or no record."""


@dataclass(frozen=True)
class Stored:
    """A result or tensor of a cell, in a file beside its record.

    Attributes:
        file: the file's name.
        kind: "result" or "tensor".
        size: in bytes.
        crc32: of the file.
    """

    file: str
    kind: str
    size: int
    crc32: int


@dataclass(frozen=True)
class Failure:
    """Why a cell failed.

    Attributes:
        error: the exception's last line.
        traceback: all of it, from the cell's function on.
    """

    error: str
    traceback: str


@dataclass(frozen=True)
class Record:
    """A cell that ended: what it was called with, and what it returned or how it failed.

    Attributes:
        key, function, parameters: see `NamedCell`.
        columns: the returned numbers and texts by name.
        stored: the returned results and tensors by name.
        failure: why it failed; None where it returned.
        seconds: how long it ran.
        attempt: how often it was run.
        host: where.
        time: when it ended, in seconds since 1970.
    """

    key: str
    function: str
    parameters: Mapping[str, Shown]
    columns: Mapping[str, Shown] = field(default_factory=dict)
    stored: Mapping[str, Stored] = field(default_factory=dict)
    failure: Failure | None = None
    seconds: float = 0.0
    attempt: int = 1
    host: str = ""
    time: float = 0.0

    @classmethod
    def of(cls, cell: NamedCell, **ended: Any) -> Record:
        """The record of a cell."""
        return cls(cell.key, cell.function, dict(cell.shown), **ended)

    def to_bytes(self) -> bytes:
        """The file: JSON whose first field is the checksum of all that follows it.

        >>> Record.from_bytes(Record("0" * 32, "f", {"x": 1}).to_bytes()).parameters
        {'x': 1}
        """
        rest = json.dumps(asdict(self), ensure_ascii=False).encode()[1:] + b"\n"
        return b'{"crc32": "%08x", ' % zlib.crc32(rest) + rest

    @classmethod
    def from_bytes(cls, data: bytes) -> Record:
        """A file's record.

        Raises:
            SpoiledError: it is not whole, or not a record.
        """
        rest = data[len(_START) :]
        if not rest or data[: len(_START)] != b'{"crc32": "%08x", ' % zlib.crc32(rest):
            raise SpoiledError("cut short or altered" if data else "empty")
        told: dict[str, Any] = json.loads(b"{" + rest)
        if told["failure"] is not None:
            told["failure"] = Failure(**told["failure"])
        if told["stored"]:
            told["stored"] = {name: Stored(**each) for name, each in told["stored"].items()}
        return cls(**told)
