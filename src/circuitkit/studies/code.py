"""The code version of a function: its own source, and what that names in the same module.

Comments, layout and docstrings don't count. Other modules count by nothing but their names, save circuitkit itself by
its version: what changes there is a sweep's `version` to say.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

Canonical = Callable[[Any], Any]
"""Makes JSON of a value that a closure holds."""


def code_version(function: Callable[..., Any], canonical: Canonical) -> dict[str, Any]:
    """The code of a function as JSON: its text, those of the functions and classes of its module that it names, and
    the constants and closure that it reads.

    >>> def twice(x):
    ...     return FACTOR * x
    >>> FACTOR = 2
    >>> sorted(code_version(twice, lambda value: value))
    ['FACTOR', 'twice']
    """
    told: dict[str, Any] = {}
    _tell(function.__name__, function, told, set(), canonical)
    return told


def _tell(name: str, wrapped: Any, told: dict[str, Any], seen: set[int], canonical: Canonical) -> None:
    thing = inspect.unwrap(wrapped)
    if id(thing) in seen:
        return
    seen.add(id(thing))
    told[name] = _text(thing)
    for function in [thing] if isinstance(thing, FunctionType) else list(_methods(thing)):
        scope = function.__globals__
        # In the order of their names, whatever the order in which the compiler met them.
        for used in sorted(set(_names(function.__code__)) & scope.keys()):
            value = scope[used]
            if isinstance(value, FunctionType | type):
                if value.__module__ == function.__module__:
                    _tell(used, value, told, seen, canonical)
            elif _constant(value):
                told[used] = canonical(value)
        for used, value in _enclosed(function):
            if isinstance(value, FunctionType):
                _tell(f"{name}.{used}", value, told, seen, canonical)
            elif used != "__class__":
                told[f"{name}.{used}"] = canonical(value)


def _enclosed(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        # One that is not set yet has no value to tell.
        with contextlib.suppress(ValueError):
            yield name, cell.cell_contents


def _methods(thing: Any) -> Iterator[FunctionType]:
    for value in vars(thing).values() if isinstance(thing, type) else ():
        inner = inspect.unwrap(getattr(value, "__func__", None) or getattr(value, "fget", None) or value)
        if isinstance(inner, FunctionType) and inner.__module__ == thing.__module__:
            yield inner


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _constant(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(_constant(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def _text(thing: Any) -> Any:
    """The source without comments and docstrings; where there is none of its own, the compiled code."""
    if getattr(thing, "__name__", "") != "<lambda>":
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
        except (OSError, TypeError, SyntaxError):
            pass
        else:
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node):
                    node.body = node.body[1:] or [ast.Pass()]
            return ast.unparse(tree)
    if isinstance(thing, type):
        return [[method.__qualname__, _text(method)] for method in _methods(thing)]
    code = getattr(thing, "__code__", None)
    return None if code is None else [sys.version_info[:2], _compiled(code)]


def _compiled(code: CodeType) -> list[Any]:
    constants = [_compiled(each) if isinstance(each, CodeType) else _ordered(each) for each in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), list(code.co_varnames), constants]


def _ordered(constant: Any) -> str:
    return repr(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)
