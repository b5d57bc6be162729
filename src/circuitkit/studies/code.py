"""The code version of a function or class: its own source, and what that reads in the same module, and theirs.

Values count by what they are when the cells are named: defaults, closures, module-level values, class attributes.
Comments, layout and docstrings don't count. Other modules count by nothing but their names: what changes there is a
sweep's `version` to say.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import enum
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

Canonical = Callable[[Any], Any]
"""Makes JSON of a value that code reads."""

_OF_THE_MODULE = frozenset({"__builtins__", "__spec__", "__loader__", "__name__"})


_FIXED = (FunctionType, GetSetDescriptorType, MemberDescriptorType, property, classmethod, staticmethod)
"""What a class has besides values."""


class UnhashableError(TypeError):
    """A value that has no form by which it could be told from others."""


def code_version(thing: Any, canonical: Canonical) -> dict[str, Any]:
    """The code of a function or class as JSON: its text, those of the functions and classes of its module that it
    reads, and the values that it reads.

    Raises:
        UnhashableError: it reads a value that has no canonical form.

    >>> def twice(x):
    ...     return FACTOR * x
    >>> FACTOR = 2
    >>> sorted(code_version(twice, lambda value: value))
    ['FACTOR', 'twice']
    """
    telling = _Telling(canonical, thing.__module__)
    telling.tell(thing.__name__, thing)
    return telling.told


@cache
def of_a_library(module: str | None) -> bool:
    """Whether a module is Python's, circuitkit's or an installed package's, whose state is not a study's.

    >>> of_a_library("json"), of_a_library("circuitkit.studies")
    (True, True)
    """
    top = (module or "builtins").split(".")[0]
    if top in sys.stdlib_module_names or top == "circuitkit":
        return top != "__main__"
    file = getattr(sys.modules.get(module or ""), "__file__", None) or getattr(sys.modules.get(top), "__file__", None)
    places = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")]
    return file is not None and any(place in Path(file).resolve().parents for place in places)


class _Telling:
    """Collects what one function or class reads, each thing once."""

    def __init__(self, canonical: Canonical, home: str) -> None:
        self.told: dict[str, Any] = {}
        self._canonical, self._home = canonical, home
        # Things are kept too, so that no other takes an id meanwhile.
        self._seen: dict[int, tuple[Any, str]] = {}

    def tell(self, name: str, thing: Any) -> None:
        """A function with all that it wraps, or a class."""
        if id(thing) in self._seen:
            self.told[name] = {"same": self._seen[id(thing)][1]}
            return
        self._seen[id(thing)] = (thing, name)
        if isinstance(thing, type):
            self._tell_class(name, thing)
        elif isinstance(thing, FunctionType):
            self._tell_function(name, thing)
        else:
            self.told[name] = {"wrapper": f"{type(thing).__module__}.{type(thing).__qualname__}"}
        wrapped = getattr(thing, "__wrapped__", None)
        if wrapped is not None:
            self.tell(f"{name}.__wrapped__", wrapped)

    def _tell_function(self, name: str, function: FunctionType) -> None:
        home = function.__globals__.get("__name__", function.__module__)
        strict = not of_a_library(home)
        self.told[name] = _text(function)
        for used, value in _read(function):
            if _told_by_code(value) and value.__module__ in (home, function.__module__):
                self.tell(used if home == self._home else f"{home}.{used}", value)
            elif strict or _constant(value):
                self._tell_value(used if home == self._home else f"{home}.{used}", value)
        for used, value in _held(function):
            if _told_by_code(value):
                self.tell(f"{name}.{used}", value)
            elif strict or _constant(value):
                self._tell_value(f"{name}.{used}", value)
            else:
                # What a library's wrapper keeps, such as no_grad's context, may have no form.
                with contextlib.suppress(UnhashableError):
                    self._tell_value(f"{name}.{used}", value)

    def _tell_value(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType):
            self.told[name] = {"module": value.__name__}
        elif _told_by_code(value) or isinstance(value, type):
            self.told[name] = {"named": f"{value.__module__}.{value.__qualname__}"}
        else:
            try:
                self.told[name] = self._canonical(value)
            except UnhashableError as error:
                raise UnhashableError(f"{name!r}, which is or holds {error}") from error

    def _tell_class(self, name: str, cls: type) -> None:
        self.told[name] = _text(cls)
        strict = not of_a_library(cls.__module__)
        for base in cls.__bases__:
            if base.__module__ == cls.__module__:
                self.tell(f"{name}.{base.__qualname__}", base)
        for method, function in _methods(cls):
            self.tell(f"{name}.{method}", function)
        for attribute, value in _attributes(cls) if strict else ():
            if _told_by_code(value):
                self.tell(f"{name}.{attribute}", value)
            else:
                self._tell_value(f"{name}.{attribute}", value)


def _told_by_code(value: Any) -> bool:
    return isinstance(value, FunctionType | type) or isinstance(inspect.unwrap(value), FunctionType)


def _read(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The module-level names that a function reads, in their order, whatever order the compiler met them in."""
    for name in sorted(set(_names(function.__code__)) & function.__globals__.keys() - _OF_THE_MODULE):
        yield name, function.__globals__[name]


def _names(code: CodeType) -> Iterator[str]:
    yield from (each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _held(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function carries with it: its closure, and the defaults of its parameters."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        # One that is not set yet has no value to tell.
        with contextlib.suppress(ValueError):
            if name != "__class__":
                yield name, cell.cell_contents
    defaults = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    yield from ((f"{name}=", value) for name, value in zip(names[len(names) - len(defaults) :], defaults, strict=True))
    yield from ((f"{name}=", value) for name, value in sorted((function.__kwdefaults__ or {}).items()))


def _methods(cls: type) -> Iterator[tuple[str, FunctionType]]:
    for name, value in vars(cls).items():
        if isinstance(value, property):
            parts: dict[str, Any] = {"get": value.fget, "set": value.fset}
        else:
            parts = {"": getattr(value, "__func__", None) or getattr(value, "func", None) or value}
        for part, function in parts.items():
            inner = inspect.unwrap(function)
            if not isinstance(inner, FunctionType) or inner.__globals__.get("__name__") != cls.__module__:
                continue
            # A dataclass's own methods follow from its fields.
            if "__create_fn__" not in inner.__code__.co_qualname:
                yield f"{name}.{part}" if part else name, function


def _attributes(cls: type) -> Iterator[tuple[str, Any]]:
    """A class's values: those in its body, an enumeration's members, and the defaults of a dataclass's fields."""
    if issubclass(cls, enum.Enum):
        yield from ((name, member.value) for name, member in cls.__members__.items())
        return
    methods = {name.split(".")[0] for name, _ in _methods(cls)}
    for name, value in vars(cls).items():
        generated = isinstance(value, _FIXED) or type(value).__name__ == "_tuplegetter"
        if not generated and name not in methods and not name.startswith(("__", "_abc_")):
            yield name, value
    for field in fields(cls) if is_dataclass(cls) else ():
        for kind, value in (("default", field.default), ("factory", field.default_factory)):
            if value is not MISSING:
                yield f"{field.name}.{kind}", value


def _constant(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(_constant(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def _text(thing: Any) -> Any:
    """The source without comments and docstrings; where there is none of its own, the compiled code."""
    # The code, as the source of a wrapper is its own and not that of what it wraps.
    written = thing.__code__ if isinstance(thing, FunctionType) else thing
    if thing.__name__ != "<lambda>":
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(written)))
        except (OSError, TypeError, SyntaxError):
            pass
        else:
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node):
                    node.body = node.body[1:] or [ast.Pass()]
            return ast.unparse(tree)
    if isinstance(thing, type):
        return [name for name, _ in _methods(thing)]
    return [sys.version_info[:2], _compiled(thing.__code__)]


def _compiled(code: CodeType) -> list[Any]:
    constants = [_compiled(each) if isinstance(each, CodeType) else _ordered(each) for each in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), list(code.co_varnames), constants]


def _ordered(constant: Any) -> str:
    return repr(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)
