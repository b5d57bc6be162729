"""What a cell is: the hash of its function's code and of its parameters.

Values become JSON that says all of what they are, and that is hashed. What has no such form is an error that names it,
before anything runs.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import json
import logging
import re
import sys
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, GenericAlias, MethodType, UnionType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from circuitkit.model.model import Model
from circuitkit.studies.code import UnhashableError, code_version, of_a_library

_DIGITS = 32

_HEAP_TYPE = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: a class written in Python, and no state but its attributes."""


class Identity:
    """Hashes values, each object once: it is used for one list of cells, while nothing of them changes.

    >>> Identity().digest({"seed": 0}) == Identity().digest({"seed": 0})
    True
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Any]] = {}
        self._within: set[int] = set()

    def digest(self, value: Any) -> str:
        """The hash of a value, 32 hexadecimal digits.

        Raises:
            UnhashableError: it holds something that has no canonical form.
        """
        return digest_of_json(self.canonical(value))

    def canonical(self, value: Any) -> Any:
        """A value as JSON that equals another's only where the values do.

        Tensors and arrays count by type, shape and content; files by content, other paths by their text; models by
        name, revision and weights; functions by name and code; dataclasses by their fields.

        Raises:
            UnhashableError: it holds something that has no canonical form.
        """
        if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)):
            return value
        known = self._known.get(id(value))
        if known is None:
            if id(value) in self._within:
                raise UnhashableError(f"a {type(value).__qualname__} that holds or reads itself")
            self._within.add(id(value))
            try:
                # The object is kept too, so that no other takes its id meanwhile.
                known = self._known[id(value)] = (value, self._shortened(self._form(value)))
            finally:
                self._within.discard(id(value))
        return known[1]

    def _shortened(self, form: Any) -> Any:
        text = json.dumps(form, sort_keys=True)
        return form if len(text) < 200 else {"sha256": _sha256(text.encode())}

    def _form(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self.canonical(item) for item in value]
        if isinstance(value, Mapping):
            return {"mapping": sorted(([self.canonical(k), self.canonical(v)] for k, v in value.items()), key=repr)}
        if isinstance(value, AbstractSet):
            return {"set": sorted((self.canonical(item) for item in value), key=repr)}
        if isinstance(value, Callable) and not isinstance(value, Model | torch.nn.Module | type):  # type: ignore[arg-type]
            return self._function(value)
        for form in (_of_numbers, self._of_classes, _of_named, self._of_parts, self._of_state):
            found = form(value)
            if found is not None:
                return found
        raise UnhashableError(f"a {type(value).__qualname__}")

    def _function(self, function: Any) -> Any:
        if isinstance(function, functools.partial):
            return {"partial": [self.canonical(part) for part in (function.func, function.args, function.keywords)]}
        if is_dataclass(function):
            return self._of_parts(function)
        if isinstance(function, MethodType):
            return {"method": [self.canonical(function.__func__), self.canonical(function.__self__)]}
        if isinstance(inspect.unwrap(function), FunctionType):
            return {"function": named(function), "code": code_version(function, self.canonical)}
        if isinstance(function, BuiltinFunctionType) or _named_by_a_library(function):
            return {"function": named(function)}
        found = _of_named(function) or self._of_state(function)
        if found is None:
            raise UnhashableError(f"a {type(function).__qualname__} that is called, and no plain function")
        return found

    def _of_classes(self, value: Any) -> Any:
        if isinstance(value, enum.Enum):
            return {"enum": self.canonical(type(value)), "member": value.name}
        if isinstance(value, type):
            code = None if of_a_library(value.__module__) else code_version(value, self.canonical)
            return {"class": named(value), "code": code}
        return None

    def _of_state(self, value: Any) -> Any:
        """An object of a study's own class: its code and its attributes, where these are all that it has."""
        classes = [cls for cls in type(value).__mro__ if cls is not object]
        if of_a_library(type(value).__module__) or isinstance(value, torch.nn.Module) or not hasattr(value, "__dict__"):
            return None
        if any(vars(cls).get("__slots__") or not cls.__flags__ & _HEAP_TYPE for cls in classes):
            return None
        return {"object": self.canonical(type(value)), "state": self.canonical(vars(value))}

    def _of_parts(self, value: Any) -> Any:
        if isinstance(value, Model):
            weights = hashlib.sha256()
            for name, tensor in sorted(value.hf.state_dict().items()):
                weights.update(json.dumps([name, _of_numbers(tensor)]).encode())
            return {"model": value.name, "revision": value.revision, "weights": weights.hexdigest()}
        if is_dataclass(value) and not isinstance(value, type):
            parts = {field.name: self.canonical(getattr(value, field.name)) for field in fields(value)}
            return {"dataclass": self.canonical(type(value)), "fields": parts}
        return None


def digest_of_json(form: Any) -> str:
    """The hash of plain JSON, 32 hexadecimal digits.

    >>> digest_of_json({"a": 1, "b": 2}) == digest_of_json({"b": 2, "a": 1})
    True
    """
    return _sha256(json.dumps(form, sort_keys=True).encode())[:_DIGITS]


def named(thing: Any) -> str:
    """The name of a function or class, with its module's; a script's is as if it were imported.

    >>> named(json.dumps)
    'json.dumps'
    """
    module = getattr(thing, "__module__", None) or type(thing).__module__
    if module == "__main__":
        main = sys.modules[module]
        file = getattr(main, "__file__", None)
        module = main.__spec__.name if main.__spec__ is not None else Path(file).stem if file else module
    return f"{module}.{getattr(thing, '__qualname__', None) or thing.__name__}"


def shown(value: Any) -> bool | int | float | str | None:
    """A value as a table's column has it: numbers and short texts as they are, anything else as a short text.

    >>> shown(0.5), shown([1, 2]), shown(torch.zeros(2, 3))
    (0.5, '[1, 2]', 'float32[2, 3]')
    """
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, np.generic):
        return shown(value.item())
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Tensor | np.ndarray):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, functools.partial):
        return f"{shown(value.func)}(…)"
    if isinstance(value, FunctionType | BuiltinFunctionType | type):
        return named(value)
    if isinstance(value, Model):
        return value.name
    text = str(value)
    return text if len(text) <= 80 else f"{text[:60]}… {_sha256(text.encode())[:8]}"


def _of_numbers(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        data = plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b""
        return {"tensor": str(value.dtype), "shape": list(value.shape), "sha256": _sha256(data)}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufcUS":
        data = np.ascontiguousarray(value).tobytes()
        return {"array": value.dtype.str, "shape": list(value.shape), "sha256": _sha256(data)}
    return None


def _of_named(value: Any) -> Any:
    if isinstance(value, Path):
        if not value.is_file():
            return {"path": str(value)}
        with value.open("rb") as file:
            return {"file": hashlib.file_digest(file, "sha256").hexdigest()}
    if isinstance(value, logging.Logger):
        return {"logger": value.name}
    if isinstance(value, re.Pattern):
        return {"pattern": str(value.pattern), "flags": value.flags}
    if isinstance(value, GenericAlias | UnionType) or type(value).__module__ == "typing":
        return {"annotation": str(value)}
    if isinstance(value, torch.dtype | torch.device | range | slice | bytes | complex):
        return {type(value).__name__: str(value)}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    return None


def _named_by_a_library(value: Any) -> bool:
    """Whether a name of a library stands for it, such as numpy's functions."""
    for name in (getattr(value, "__module__", None), "numpy", "scipy.special"):
        if (
            name
            and of_a_library(name)
            and getattr(sys.modules.get(name), getattr(value, "__name__", ""), None) is value
        ):
            return True
    return False


def _sha256(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()
