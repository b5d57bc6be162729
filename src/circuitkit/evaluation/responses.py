"""Responses, and the file that keeps each as it ends: a line of JSON, whole or not counted."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from circuitkit.evaluation.errors import EvaluationError
from circuitkit.tasks.task import Judgement

_SECONDS_BETWEEN_SYNCS = 2.0


@dataclass(frozen=True)
class Response:
    """What a model answered to one prompt, and what the judges made of it.

    Attributes:
        key: the item's.
        sample, seed: which of the item's responses it is.
        prompt: all of the text that the model was given.
        text: what it wrote, up to the first stop text.
        judged: what of it the judges saw: what follows the thought, where the model thinks; else all.
        n_tokens: tokens that it wrote, an end token included.
        truncated: whether it was broken off, with neither end token nor stop text.
        seconds: its share of the time of the batches that it was in.
        judgements: by judge, that of the headline first.
    """

    key: str
    sample: int
    seed: int
    prompt: str
    text: str
    judged: str
    n_tokens: int
    truncated: bool
    seconds: float
    judgements: Mapping[str, Judgement]

    @property
    def name(self) -> tuple[str, int, int]:
        """What tells it from the others of its evaluation."""
        return (self.key, self.sample, self.seed)

    def to_line(self) -> str:
        """The response as a line of JSON.

        >>> said = Response("1", 0, 0, "Q:", " A", " A", 1, False, 0.5, {"exact": Judgement(True, "A")})
        >>> Response.from_line(said.to_line()) == said
        True
        """
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Response:
        """The response of a line.

        Raises:
            ValueError: it holds none.
        """
        told = json.loads(line)
        try:
            told["judgements"] = {name: Judgement(**each) for name, each in told["judgements"].items()}
            return cls(**told)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"no response ({error})") from error


def read_responses(path: Path) -> list[Response]:
    """The responses of a file; a last line that a killed run left broken is not among them.

    Raises:
        EvaluationError: another line holds no response.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[list[Response], int]:
    """The responses, and how many bytes of the file are whole lines."""
    found: list[Response] = []
    whole = 0
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, start=1):
        last = number == len(lines)
        try:
            if last and not line.endswith(b"\n"):
                break
            found.append(Response.from_line(line.decode()))
        except ValueError as error:
            if last:
                break
            raise EvaluationError(
                f"{path}, line {number}: {error}. Put the file back as it was, or take the line out to ask anew"
            ) from error
        whole += len(line)
    return found, whole


class Keeping:
    """Appends responses to a file, which one process at a time may do; used as a context.

    Args:
        path: the file; what a killed run left broken at its end is cut off.

    Raises:
        EvaluationError: on entering it, another process is writing it, or a line in its middle is broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept: Sequence[Response] = ()
        self._descriptor = -1
        self._synced = 0.0

    def __enter__(self) -> Keeping:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            self._lock()
            self.kept, whole = _read(self.path)
            os.ftruncate(self._descriptor, whole)
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.fsync(self._descriptor)
        os.close(self._descriptor)

    def keep(self, response: Response) -> None:
        """Append a response; a kill loses none that was appended, a power cut those of the last seconds."""
        line = response.to_line().encode()
        while line:
            line = line[os.write(self._descriptor, line) :]
        if time.monotonic() - self._synced > _SECONDS_BETWEEN_SYNCS:
            os.fsync(self._descriptor)
            self._synced = time.monotonic()

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EvaluationError(
                f"another process is writing {self.path}: wait for it, or give another folder"
            ) from error
