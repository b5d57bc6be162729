"""What a model computes, told from its content: its weights' bytes, its code, its settings and the machine's numerics.

Every byte of the weights is hashed once for a model. Whether that hash still holds is looked up each time it is asked
for, by sums over all bytes at the speed of memory, because a weight can be written past PyTorch's own counters
(`weight.data[…] = 0`).
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from circuitkit.model.telling import Telling, UntoldError

if TYPE_CHECKING:
    from circuitkit.model.model import Model

_PIECE = 1 << 26
"""Bytes that one thread hashes at a time, and copies from an accelerator."""

_WIDTH = 4096
"""Words of 8 bytes in a row, where sums over rows stand for a tensor."""

_ROWS = 64
"""Rows that are summed at a time, few enough for a core's own cache."""

OWN_ATTRIBUTES = frozenset(vars(nn.Module())) - {"training"}
"""What PyTorch keeps on every module; hooks among it are looked at, not hashed."""


def fingerprint(model: Model) -> str:
    """A hash, in hex, of all that decides a model's outputs, but for what is on it now (`circuitkit.model.held`).

    Models of equal content have equal fingerprints, wherever they were loaded from.

    Raises:
        UntoldError: a module keeps something that cannot be told by its content.

    >>> fingerprint(ck.load("planted-induction-llama")) == fingerprint(ck.load("planted-induction-llama"))
    True
    """
    root = model.anatomy.root
    telling = Telling({id(module): path for path, module in root.named_modules()})
    told = {
        "settings": [(path, *_settings(telling, path, module)) for path, module in root.named_modules()],
        "config": telling.of(getattr(root, "config", None)),
        "numerics": _numerics(root),
        "weights": _weights(model),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """The sha256, in hex, of named tensors' types, shapes and bytes.

    >>> content_digest({"a": torch.zeros(2)}) == content_digest({"a": torch.zeros(1, 2)})
    False
    """
    digests = _digests(tensors)
    told = [(name, _form(tensor), digests[name]) for name, tensor in sorted(tensors.items())]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


# Weights

_hashed: WeakKeyDictionary[Model, dict[str, tuple[tuple[Any, ...], str]]] = WeakKeyDictionary()


def _weights(model: Model) -> list[tuple[str, str, str]]:
    """Each tensor's name, form and hash; hashed anew where its mark has changed."""
    tensors = dict(tensors_of(model.anatomy.root))
    known = _hashed.get(model, {})
    marks = _marks(tensors)
    changed = {name: tensor for name, tensor in tensors.items() if known.get(name, (None,))[0] != marks[name]}
    digests = _digests(changed)
    now = {name: (marks[name], digests[name] if name in changed else known[name][1]) for name in tensors}
    _hashed[model] = now
    return [(name, f"{_form(tensors[name])} {tensors[name].device}", digest) for name, (_, digest) in now.items()]


def tensors_of(root: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a model: weights, tied ones once, buffers, and those that a module keeps as it likes."""
    seen: set[int] = set()
    for path, module in root.named_modules():
        for name, value in (*module._parameters.items(), *module._buffers.items(), *vars(module).items()):
            if isinstance(value, Tensor) and id(value) not in seen:
                seen.add(id(value))
                yield f"{path}.{name}", value.detach()


def _form(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"


def _marks(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    """What changes when a tensor does: where it is, how often PyTorch saw it written, and a sum over its bytes."""
    sums = {name: _sums(tensor) for name, tensor in tensors.items()}
    read: dict[str, int] = {}
    for device in {each.device for each in sums.values()}:
        names = [name for name, each in sums.items() if each.device == device]
        # One transfer from a device, not one a tensor.
        read |= dict(zip(names, torch.stack([sums[name] for name in names]).tolist(), strict=True))
    return {name: (_form(tensor), tensor.data_ptr(), _version(tensor), read[name]) for name, tensor in tensors.items()}


def _version(tensor: Tensor) -> int:
    # What was made in inference mode counts nothing.
    return -1 if tensor.is_inference() else tensor._version


def _sums(tensor: Tensor) -> Tensor:
    """A sum over all bytes of 64 bits, in which every word counts by its place.

    Rows of words are summed with pseudo-random multipliers of their columns, and what comes of each row is scattered
    anew by the row's place, so that edits with a structure, as moved ones or swapped rows, do not cancel.
    """
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    if flat.storage_offset() % 8:
        flat = flat.clone()
    n_rows = flat.numel() // (8 * _WIDTH)
    table, rest = flat[: n_rows * 8 * _WIDTH].view(torch.int64).view(n_rows, _WIDTH), flat[n_rows * 8 * _WIDTH :]
    last = torch.nn.functional.pad(rest, (0, -len(rest) % 8)).view(torch.int64)[None]
    multipliers = _multipliers(flat.device)
    last_sum = _row_sums(last, multipliers[: last.shape[1]])
    if n_rows == 0:
        return last_sum[0]
    at_once = _ROWS if flat.device.type == "cpu" else 64 * _ROWS
    sums = [_row_sums(table[at : at + at_once], multipliers) for at in range(0, n_rows, at_once)]
    places = torch.arange(1, n_rows + 2, device=flat.device)
    return _scattered(torch.cat([*sums, last_sum]) + _scattered(places)).sum()


def _row_sums(rows: Tensor, multipliers: Tensor) -> Tensor:
    # Upper halves are added to the lower, since of 1.0 all lower bits are 0, and products lose the upper ones.
    return (rows >> 32).add_(rows).mul_(multipliers).sum(1)


@cache
def _multipliers(device: torch.device) -> Tensor:
    return _scattered(torch.arange(1, _WIDTH + 1, device=device)) | 1


def _scattered(numbers: Tensor) -> Tensor:
    """Splitmix64 of each number, in arithmetic modulo 2⁶⁴ (Steele et al. 2014, "Fast splittable generators")."""
    numbers = numbers * -0x61C8864680B583EB
    numbers = (numbers ^ (numbers >> 30 & (1 << 34) - 1)) * -0x40A7B892E31B1A47
    numbers = (numbers ^ (numbers >> 27 & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15
    return numbers ^ (numbers >> 31 & (1 << 33) - 1)


def _digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Each tensor's sha256, in hex, of all its bytes, in as many threads as there are cores."""
    flats = {name: tensor.detach().contiguous().reshape(-1).view(torch.uint8) for name, tensor in tensors.items()}
    pieces = [(name, at) for name, flat in flats.items() for at in range(0, max(1, flat.numel()), _PIECE)]

    def digest(piece: tuple[str, int]) -> bytes:
        name, at = piece
        return hashlib.sha256(flats[name][at : at + _PIECE].cpu().numpy().data).digest()

    joined = {name: hashlib.sha256() for name in tensors}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        for (name, _), found in zip(pieces, threads.map(digest, pieces), strict=True):
            joined[name].update(found)
    return {name: each.hexdigest() for name, each in joined.items()}


# Settings, code and numerics


def _settings(telling: Telling, path: str, module: nn.Module) -> tuple[Any, ...]:
    """A module's class and what it keeps besides its tensors and children."""
    told = []
    for name, value in vars(module).items():
        if name not in OWN_ATTRIBUTES and not isinstance(value, Tensor):
            try:
                told.append((name, telling.of(value)))
            except UntoldError as error:
                kept = f"{path or 'the model'} keeps {name}"
                raise UntoldError(f"{kept}, which cannot be told by its content ({error})") from error
    return [telling.of(cls) for cls in type(module).__mro__], told


@cache
def _own_code() -> str:
    """The hash of the files here that say what a site is and how it is read."""
    package = Path(__file__).parent.parent
    files = sorted([*(package / "model").glob("*.py"), *(package / "run").glob("*.py")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _numerics(root: nn.Module) -> Any:
    """Versions, devices and switches that move rounding."""
    import transformers

    kinds = sorted({tensor.device.type for _, tensor in tensors_of(root)})
    backends: Any = torch.backends
    told: dict[str, Any] = {
        "versions": [sys.version, np.__version__, str(torch.__version__), transformers.__version__, _own_code()],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": [torch.get_float32_matmul_precision(), torch.get_default_dtype()],
        "cpu": [backends.cpu.get_cpu_capability(), torch.get_num_threads(), backends.mkldnn.enabled],
    }
    if "cuda" in kinds:
        devices = sorted({tensor.device for _, tensor in tensors_of(root) if tensor.device.type == "cuda"}, key=str)
        told["cuda"] = [
            [torch.cuda.get_device_name(device) for device in devices],
            torch.version.cuda,
            [backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, backends.cudnn.benchmark],
            [backends.cuda.flash_sdp_enabled(), backends.cuda.mem_efficient_sdp_enabled()],
            [backends.cuda.math_sdp_enabled(), backends.cuda.cudnn_sdp_enabled()],
        ]
    return Telling().of(told)
