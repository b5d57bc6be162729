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
"""Words in a row, where sums over rows and over columns stand for a tensor."""

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
    """What changes when a tensor does: where it is, how often PyTorch saw it written, and sums over its bytes."""
    sums = {name: _sums(tensor) for name, tensor in tensors.items()}
    read: dict[str, list[int]] = {}
    for device in {each.device for each in sums.values()}:
        names = [name for name, each in sums.items() if each.device == device]
        # One transfer from a device, not one a tensor.
        read |= dict(zip(names, torch.stack([sums[name] for name in names]).tolist(), strict=True))
    return {name: (_form(tensor), tensor.data_ptr(), _version(tensor), *read[name]) for name, tensor in tensors.items()}


def _version(tensor: Tensor) -> int:
    # What was made in inference mode counts nothing.
    return -1 if tensor.is_inference() else tensor._version


def _sums(tensor: Tensor) -> Tensor:
    """Two sums over all bytes, of rows and of columns weighed by their place, so that moved values change one."""
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    if flat.storage_offset() % 8:
        flat = flat.clone()
    whole = flat.numel() // 8
    words, rest = flat[: whole * 8].view(torch.int64), flat[whole * 8 :].long()
    n_rows = whole // _WIDTH
    table, last = words[: n_rows * _WIDTH].view(n_rows, _WIDTH), words[n_rows * _WIDTH :]
    rows = _weighed(table.sum(1)) + _weighed(last) + 3 * _weighed(rest)
    return torch.stack([rows, _weighed(table.sum(0))])


def _weighed(words: Tensor) -> Tensor:
    places = torch.arange(1, len(words) + 1, device=words.device)
    # Odd multipliers far apart, in arithmetic modulo 2⁶⁴.
    return (words * (places * 0x2545F4914F6CDD1D | 1)).sum()


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
