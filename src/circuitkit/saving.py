"""Tensors and what is told of them, in one file that is written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from circuitkit.records import whole_file
from circuitkit.showing import Shown


@dataclass(frozen=True, eq=False, repr=False)
class InOneFile(Shown):
    """A dataclass of which each field is a tensor, or JSON: it is saved in one file, and loads again.

    Sequences among its fields are tuples. A field that is None, its default, is left out of the file.

    >>> @dataclass(frozen=True)
    ... class Sizes(InOneFile):
    ...     _kind = "sizes"
    ...     sizes: tuple[int, ...]
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Sizes.load(Sizes((1, 2)).save(folder)).sizes
    (1, 2)
    """

    _kind: ClassVar[str]
    _format: ClassVar[int] = 1

    def save(self, path: str | Path) -> Path:
        """Write everything to one safetensors file, whole or not at all, and give its path.

        A folder gets a file that is called after what it holds, such as `curve.safetensors`.

        Raises:
            ValueError: the file has another suffix.
        """
        held = {each.name: getattr(self, each.name) for each in fields(self)}
        tensors = {name: value for name, value in held.items() if isinstance(value, Tensor)}
        told = {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in held.items()
            if name not in tensors and value is not None
        }
        return save(path, self._kind, tensors, told | {"format": self._format})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote, from its file or its folder.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is cut short, holds something else, or is of a later version.
        """
        tensors, told = load(path, cls._kind)
        if told.pop("format", None) != cls._format:
            raise ValueError(f"{path}: written by a later circuitkit; upgrade to read it")
        held = tensors | {name: _as_tuples(value) for name, value in told.items()}
        try:
            return cls(**held)
        except TypeError as wrong:
            raise ValueError(f"{path}: holds no {cls._kind} as it should be ({wrong}); make it again") from None


def save(path: str | Path, kind: str, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> Path:
    """Write tensors and JSON to one safetensors file, and give its path; a folder gets one of the kind's name.

    Raises:
        ValueError: the file has another suffix.
    """
    path = _file(path, kind)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: this is saved as .safetensors; its table is in .frame")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as beside:
        save_file(plain, beside, metadata={f"circuitkit.{kind}": json.dumps(told)})
    return path


def load(path: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save` wrote of a kind, from its file or its folder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is cut short, or holds something else.
    """
    path = _file(path, kind)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; save one there first")
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get(f"circuitkit.{kind}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # a file has keys, but is no mapping
    except SafetensorError as error:
        raise ValueError(
            f"{path}: cut short or not a safetensors file ({error}); make it again, or copy it whole"
        ) from error
    if told is None:
        raise ValueError(f"{path}: a safetensors file, but it holds no {kind.replace('_', ' ')}")
    return tensors, json.loads(told)


def _as_tuples(value: Any) -> Any:
    """A sequence, and those in it, as the tuples that they were before they were JSON."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _file(path: str | Path, kind: str) -> Path:
    path = Path(path)
    return path / f"{kind}.safetensors" if path.is_dir() or not path.suffix else path
