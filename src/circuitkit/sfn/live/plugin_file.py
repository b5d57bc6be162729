"""A plug-in's file: safetensors, with what it says of itself, and a hash of each tensor, in the header.

Written a tensor at a time, so that a large one never lies in memory as a whole, and whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from circuitkit.records import whole_file
from circuitkit.sfn.errors import SfnError
from circuitkit.sfn.written.changes import raw

FORMAT = 1
KINDS = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
"""What weights may be of, and what the format calls it."""

_KEY = "circuitkit.plugin"
_SAID = ("architecture", "modules", "layers", "heads", "biases", "base", "parts")
_SAID_OF_PART = ("parameter", "shape", "replaces", "sha256")
_WORD = 8
"""Bytes in which the format tells the length of its header, and by which what follows is aligned."""


class PluginError(SfnError):
    """A plug-in that is damaged, or that does not fit the model that it is put into."""


def check_file(out: str | Path) -> Path:
    """Refuse a place for a plug-in that is taken, that cannot be, or whose name is no plug-in's.

    Raises:
        PluginError: it is so.

    >>> check_file("not/there.safetensors").name
    'there.safetensors'
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise PluginError(f"{out}: a plug-in is one .safetensors file")
    if out.exists() or out.is_symlink():
        raise PluginError(f"{out} is there already, and nothing is overwritten: name another file, or remove it")
    if not (there := next(place for place in out.absolute().parents if place.exists())).is_dir():
        raise PluginError(f"{out} cannot be written: {there} is a file")
    return out


def told(plugin: str | Path) -> dict[str, Any]:
    """What a plug-in says of itself: its format, modules, layers, heads, base, and of each part what it replaces.

    Raises:
        PluginError: there is no such file, it is damaged, holds something else, or is of another format.
    """
    plugin = Path(plugin)
    if not plugin.is_file():
        raise PluginError(f"{plugin}: there is no such plug-in; ck.sfn.save_plugin writes one")
    try:
        with safe_open(plugin, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            names = set(file.keys())
    except SafetensorError as error:
        raise PluginError(f"{plugin} is cut short or no safetensors file ({error}): copy or make it again") from error
    if text is None:
        raise PluginError(f"{plugin} is a safetensors file, but no plug-in: ck.sfn.save_plugin writes one")
    try:
        found: dict[str, Any] = json.loads(text)
        if (version := found["format"]) != FORMAT:
            raise PluginError(
                f"{plugin} is of format {version}, and this version of circuitkit reads format {FORMAT}: update it, or "
                "save the plug-in again"
            )
        _ = [found[name] for name in _SAID]
        wanted = {each["name"] for each in found["parts"]}
        _ = [KINDS[getattr(torch, each["dtype"])] for each in found["parts"]]
        _ = [tuple(each["shape"]) + tuple(each["replaces"].items()) for each in found["parts"]]
        _ = [each[name] for each in found["parts"] for name in _SAID_OF_PART]
        _ = (found["base"]["name"], tuple(found["modules"]))
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise PluginError(f"{plugin} is damaged: what it says of itself cannot be read ({error})") from error
    if wanted != names:
        odd = sorted(wanted ^ names)[0]
        raise PluginError(f"{plugin} is damaged: {odd} is {'missing' if odd in wanted else 'in it and not described'}")
    return found


def write(out: Path, told: Mapping[str, Any], values: Iterable[Tensor], bar: Any) -> None:
    """Write a plug-in.

    Args:
        out: the file.
        told: what it says of itself; its `parts` tell name, dtype and shape of each tensor.
        values: the tensors, in that order.
        bar: told of the bytes that are written.

    Raises:
        PluginError: it cannot be written; nothing is left then.
    """
    header: dict[str, Any] = {"__metadata__": {_KEY: json.dumps(told)}}
    begin = 0
    for each in told["parts"]:
        dtype = getattr(torch, each["dtype"])
        size = dtype.itemsize * torch.Size(each["shape"]).numel()
        header[each["name"]] = {
            "dtype": KINDS[dtype],
            "shape": each["shape"],
            "data_offsets": [begin, begin + size],
        }
        begin += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _WORD)
    try:
        with whole_file(out) as beside, beside.open("wb") as file:
            file.write(len(text).to_bytes(_WORD, "little") + text)
            for value in values:
                file.write(raw(value))
                bar.update(value.nbytes)
    except OSError as error:
        raise PluginError(
            f"{out} could not be written ({error.strerror or error}); it needs {begin + len(text):,} bytes"
        ) from error


def sha256(tensor: Tensor) -> str:
    """The hash, in hex, of a tensor's bytes, row after row."""
    return hashlib.sha256(raw(tensor)).hexdigest()


def plain(dtype: torch.dtype) -> str:
    """A dtype as text.

    >>> plain(torch.float32)
    'float32'
    """
    return str(dtype).removeprefix("torch.")
