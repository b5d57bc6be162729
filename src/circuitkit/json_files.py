"""A result as JSON in one file that is written whole or not at all; one that cannot be read is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from circuitkit.writing import write_text

Made = TypeVar("Made")


@dataclass(frozen=True)
class JsonFile:
    """The file that one kind of result is kept in.

    Attributes:
        name: what the file is called in a folder.
        holds: what is in it, as errors say it.
        error: what is raised of a file that is none.
        format: the number of the file's format; others are refused.

    >>> import tempfile
    >>> numbers = JsonFile("numbers.json", "numbers", ValueError)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     numbers.read(numbers.write(folder, {"all": [1, 2]}), lambda told: told["all"])
    [1, 2]
    """

    name: str
    holds: str
    error: type[ValueError]
    format: int = 1

    def write(self, path: str | Path, told: Mapping[str, Any], *, indent: int | None = None) -> Path:
        """Write it, whole or not at all, and give the path; a folder gets a file of the usual name.

        Raises:
            ValueError: the file has another suffix (an `error`).
        """
        path = self._file(path)
        text = json.dumps({"format": self.format, **told}, ensure_ascii=False, indent=indent)
        write_text(path, text + "\n")
        return path

    def read(self, path: str | Path, made: Callable[[dict[str, Any]], Made]) -> Made:
        """What is made of what was written.

        Raises:
            ValueError: there is no such file, it is cut short, or it holds something else (an `error`).
        """
        path = self._file(path)
        if not path.is_file():
            raise self.error(f"{path}: no such file; save {self.holds} there first")
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told["format"] != self.format:
                raise self.error(f"{path} was written by a version of circuitkit that this one does not know")
            return made(told)
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, self.error):
                raise
            raise self.error(f"{path} holds no {self.holds} ({error}): it is cut short or altered") from error

    def _file(self, path: str | Path) -> Path:
        path = Path(path)
        if path.is_dir() or not path.suffix:
            return path / self.name
        if path.suffix != ".json":
            raise self.error(f"{path}: {self.holds} are saved as .json; their table is in .frame")
        return path
