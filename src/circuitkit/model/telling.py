"""Telling by content what a module keeps beside its tensors: numbers, arrays, functions, objects, classes.

What cannot be told by its content, such as a lock or an object of a compiled library, is an error here and never a
mere name, since two that differ may share a name.
"""

from __future__ import annotations

import builtins
import dis
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from enum import Enum
from functools import cache, partial
from logging import Logger
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CodeType,
    EllipsisType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    NoneType,
    UnionType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_LIBRARIES = frozenset({"torch", "transformers", "accelerate", "numpy"}) | sys.stdlib_module_names

_ORIGIN = frozenset({"_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "architectures"})
"""Settings that say where a model comes from, not what it computes."""

_BY_TEXT = (
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
    slice,
    range,
    EllipsisType,
    re.Pattern,
    UnionType,
)

_BY_CODE = (FunctionType, property, staticmethod, classmethod, GetSetDescriptorType, MemberDescriptorType)
"""What a class has and is told by its functions, or by the class's own form."""

_MOST = 100_000
"""Objects within objects that are looked into."""


class UntoldError(ValueError):
    """Something that decides what a model computes, and cannot be told by its content."""


class Telling:
    """Tells values as JSON, each object once.

    Args:
        known: objects that are told elsewhere, and here by name: a model's own modules.

    >>> import functools
    >>> one, two = (Telling().of(functools.partial(torch.mul, other=k)) for k in (2, 3))
    >>> one == two, one == Telling().of(functools.partial(torch.mul, other=2))
    (False, True)
    """

    def __init__(self, known: Mapping[int, str] | None = None) -> None:
        self._known = known or {}
        # The objects themselves too, since a dead one's id may be another's.
        self._seen: dict[int, tuple[int, Any]] = {}
        self._untold: dict[int, UntoldError] = {}

    def of(self, value: Any) -> Any:
        """A value's content, as JSON.

        Raises:
            UntoldError: it cannot be told, or something in it.
        """
        if value is None or type(value) in (bool, int, float, str):
            return value
        if (name := self._known.get(id(value))) is not None:
            return ["known", name]
        if id(value) in self._untold:
            raise self._untold[id(value)]
        if id(value) in self._seen:
            return ["seen", self._seen[id(value)][0]]
        if isinstance(value, Tensor):
            return ["tensor", str(value.dtype), list(value.shape), str(value.device), _bytes_of(value)]
        if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
            return ["array", str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
        if isinstance(value, bytes | bytearray | complex):
            return [type(value).__name__, repr(value)]
        if isinstance(value, Enum):
            return [self.of(type(value)), value.name]
        if isinstance(value, _BY_TEXT) or type(value).__module__ == "torch._ops":
            return [type(value).__name__, str(value)]
        if isinstance(value, MethodType):
            return ["method", self.of(value.__self__), self.of(value.__func__)]
        if len(self._seen) == _MOST:
            raise UntoldError(f"more than {_MOST} objects")
        self._seen[id(value)] = (len(self._seen), value)
        try:
            return self._once(value)
        except UntoldError as error:
            self._untold[id(value)] = error
            raise

    def _once(self, value: Any) -> Any:
        if isinstance(value, ModuleType | Logger):
            return [type(value).__name__, value.__name__ if isinstance(value, ModuleType) else value.name]
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, partial):
            return ["partial", self.of(value.func), self.of(value.args), self.of(value.keywords), self._notes(value)]
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, BuiltinFunctionType | WrapperDescriptorType):
            return self._compiled_function(value)
        if type(value).__name__ == "_lru_cache_wrapper":
            return self.of(value.__wrapped__)
        if isinstance(value, nn.Module):
            raise UntoldError(f"a {type(value).__name__} that is not among its modules")
        if type(value) in (list, tuple, dict, set, frozenset):
            return self._contents(value)
        if hasattr(value, "to_diff_dict"):
            return [self.of(value.to_dict()), getattr(value, "_attn_implementation", None), _name(type(value))]
        return self._object(value)

    def _contents(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            told = [[self.of(key), self.of(each)] for key, each in value.items() if not _is_origin(key)]
            return [type(value).__name__, told]
        several = [self.of(each) for each in value]
        if isinstance(value, set | frozenset):
            several.sort(key=json.dumps)
        return [type(value).__name__, several]

    def _object(self, value: Any) -> Any:
        """An object of a class that is written in Python, by all that it holds."""
        cls = type(value)
        contents = None
        if isinstance(value, str | int | float):
            contents = [next(base.__name__ for base in (str, int, float) if isinstance(value, base)), repr(value)]
        elif isinstance(value, list | tuple | set | frozenset | dict):
            contents = self._contents(value)
        elif compiled := next((base for base in cls.__mro__[:-1] if _is_compiled(base)), None):
            raise UntoldError(f"a {_name(cls)}" + (f", which is a {_name(compiled)}" if compiled is not cls else ""))
        slots = {name: getattr(value, name) for name in _slots(cls) if hasattr(value, name)}
        return [self.of(cls), contents, self.of(slots), self.of(getattr(value, "__dict__", None))]

    def _class(self, cls: type) -> Any:
        """A class by its name where a library's version stands for it, and else by its file and its functions."""
        if of_a_library(cls.__module__) and _found_by_name(cls):
            return ["class", _name(cls)]
        told = [self.of(base) for base in cls.__bases__]
        for name, member in sorted(vars(cls).items()):
            parts = (member.fget, member.fset) if isinstance(member, property) else (member,)
            functions = [getattr(part, "__func__", part) for part in parts]
            told += [[name, self._function(each, member=True)] for each in functions if type(each) is FunctionType]
            if not (name.startswith("__") or name == "_abc_impl" or isinstance(member, _BY_CODE)):
                told.append([name, self._in_class(cls, member)])
        return ["class", _name(cls), _file_hash(cls.__module__), told]

    def _in_class(self, cls: type, member: Any) -> Any:
        """What a class keeps; where that cannot be told, a class that stands in a file has it from there."""
        try:
            return self.of(member)
        except UntoldError:
            if _found_by_name(cls) and _file_hash(cls.__module__) is not None:
                return None
            raise

    def _function(self, function: Any, member: bool = False) -> Any:
        """A function by its code and by what that reads: defaults, enclosing variables, and globals.

        What a library's function finds in its own module is what the library's version says; what a class finds in its
        own, and cannot be told, is what its file says.
        """
        name, library = _name(function), of_a_library(function.__module__)
        if library and _found_by_name(function):
            return ["function", name]
        cells = [_inside(cell) for cell in function.__closure__ or ()]
        told: list[Any] = ["function", name, _code_hash(function.__code__)]
        told += [self.of(each) for each in (function.__defaults__, function.__kwdefaults__, cells)]
        told.append(self._notes(function))
        around = {} if library else function.__globals__
        in_file = member and _file_hash(function.__module__) is not None
        for key in _globals_read(function.__code__):
            if key in around:
                try:
                    told.append([key, self.of(around[key])])
                except UntoldError:
                    if not in_file:
                        raise
        return told

    def _notes(self, function: Any) -> Any:
        """What was written on a function, but for what only says of which it was made."""
        return self.of({key: each for key, each in vars(function).items() if not key.startswith("__")})

    def _compiled_function(self, function: Any) -> Any:
        owner = getattr(function, "__self__", None)
        if owner is None or isinstance(owner, ModuleType | type):
            return ["builtin", str(getattr(owner, "__name__", "")), function.__module__, function.__qualname__]
        return ["builtin", self.of(owner), function.__qualname__]


def of_a_library(name: str | None) -> bool:
    """Whether a library's version stands for something of that name; code that came with a model has none.

    >>> of_a_library("torch.nn.modules.linear"), of_a_library("transformers_modules.mine")
    (True, False)
    """
    return name is not None and name.split(".")[0] in _LIBRARIES


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _is_origin(key: Any) -> bool:
    return isinstance(key, str) and key in _ORIGIN


def _bytes_of(tensor: Tensor) -> str:
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(flat.cpu().numpy().data).hexdigest()


def _is_compiled(cls: type) -> bool:
    """Whether a class makes its objects itself, in a way that Python does not see."""
    made = vars(cls).get("__new__")
    open_to_python = any(name in vars(base) for base in cls.__mro__ for name in ("__dict__", "__slots__"))
    heap_type = bool(cls.__flags__ & 1 << 9)
    return not (heap_type and open_to_python) or not (made is None or isinstance(made, staticmethod))


def _slots(cls: type) -> list[str]:
    named = [vars(base).get("__slots__", ()) for base in cls.__mro__]
    several = [name for names in named for name in ([names] if isinstance(names, str) else names)]
    return [name for name in several if name not in ("__dict__", "__weakref__")]


def _found_by_name(value: Any) -> bool:
    found: Any = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is value


def _inside(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        # It has been named and not yet set.
        return NoneType


@cache
def _code_hash(code: CodeType) -> str:
    told: list[Any] = [code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars, code.co_flags]
    told += [_code_hash(each) if isinstance(each, CodeType) else _constant(each) for each in code.co_consts]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _constant(value: Any) -> str:
    # A set's order may differ from process to process.
    return f"frozenset {sorted(map(repr, value))}" if isinstance(value, frozenset) else repr(value)


@cache
def _globals_read(code: CodeType) -> tuple[str, ...]:
    read = {each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for each in code.co_consts:
        if isinstance(each, CodeType):
            read |= set(_globals_read(each))
    return tuple(sorted(read - set(vars(builtins))))


@cache
def _file_hash(module: str) -> str | None:
    """The hash of the file that a module is written in; None where it is not in one."""
    path = getattr(sys.modules.get(module), "__file__", None)
    return None if path is None or not Path(path).is_file() else hashlib.sha256(Path(path).read_bytes()).hexdigest()
