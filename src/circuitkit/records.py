"""What every written file owes its reader: that it is whole, and where it comes from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

import circuitkit

_VERSIONED = ("torch", "transformers", "transformer-lens", "nnsight", "numpy")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to, and put it in place once the block ends without an error.

    A reader sees the old file or the new one, never a part.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder) / "a.txt") as beside:
    ...         _ = beside.write_text("all of it")
    ...     [path.name for path in Path(folder).iterdir()]
    ['a.txt']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        beside = Path(folder) / path.name
        yield beside
        # Some libraries write files that their owner alone can read; a new one has what the umask and the folder give.
        plain = Path(folder) / f"{path.name}.plain"
        plain.touch()
        beside.chmod(plain.stat().st_mode)
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)


def provenance(
    *,
    model_name: str,
    revision: str | None = None,
    data: Any = None,
    seed: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Tell where a result comes from: model, data hash, seed, library versions, command and time (UTC).

    `data` is hashed by `data_hash`; `more` must be JSON. Raises TypeError where something cannot be written
    as JSON.

    >>> import torch
    >>> told = provenance(model_name="gpt2", data=torch.tensor([[1, 2]]), seed=0, over="z")
    >>> told["model"], told["over"], len(told["data_sha256"])
    ('gpt2', 'z', 64)
    """
    versions = {"circuitkit": circuitkit.__version__, "python": platform.python_version()}
    for name in _VERSIONED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    told = {
        "model": model_name,
        "revision": revision,
        "data_sha256": None if data is None else data_hash(data),
        "seed": seed,
        "versions": versions,
        "command": shlex.join(sys.argv),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if taken := told.keys() & more.keys():
        raise TypeError(f"provenance already has {sorted(taken)}; give these another name")
    # Through JSON and back, so that a result that loads again equals the one that was saved.
    plain: dict[str, Any] = json.loads(json.dumps(told | more))
    return plain


def data_hash(data: Tensor | str | int | float | Sequence[Any] | Mapping[str, Any] | None) -> str:
    """The sha256, in hex, of tokens, texts, or nests of them.

    Integer tensors hash alike whatever their width and device. Raises TypeError for anything else.

    >>> import torch
    >>> data_hash(torch.tensor([1, 2])) == data_hash(torch.tensor([1, 2], dtype=torch.int32))
    True
    """
    digest = hashlib.sha256()
    for part in _bytes(data):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _bytes(data: Any) -> Iterator[bytes]:
    if isinstance(data, Tensor):
        exact = data.detach().cpu()
        exact = exact.double() if exact.is_floating_point() else exact.long()
        yield f"tensor {tuple(exact.shape)}".encode()
        yield exact.contiguous().numpy().astype("<f8" if exact.is_floating_point() else "<i8").tobytes()
    elif data is None or isinstance(data, str | int | float):
        yield f"{type(data).__name__} {data}".encode()
    elif isinstance(data, Mapping):
        yield f"mapping {len(data)}".encode()
        for key in sorted(data):
            yield from _bytes(key)
            yield from _bytes(data[key])
    elif isinstance(data, Sequence):
        yield f"sequence {len(data)}".encode()
        for item in data:
            yield from _bytes(item)
    else:
        raise TypeError(f"cannot hash a {type(data).__name__}; give token tensors, texts, or nests of them")
