"""Whether code that is not run names what there is: modules, functions, attributes and keywords of circuitkit."""

import ast
import dataclasses
import importlib
import inspect
from dataclasses import dataclass
from typing import Any

import circuitkit as ck


@dataclass(frozen=True)
class Of:
    """Some object of a class, of which nothing else is known."""

    cls: type


UNKNOWN = object()


def check_names(code: str, names: dict[str, Any]) -> None:
    """Hold a block of code against circuitkit; what other libraries and the reader bring is passed over.

    Names from earlier blocks that were run are known by their values; `model` is a model where nothing else is said.

    Raises AssertionError for what circuitkit does not have.
    """
    known = {"ck": ck, "model": Of(ck.Model), "pairs": Of(ck.Pairs)} | names
    for statement in ast.parse(code).body:
        for node in ast.walk(statement):
            if isinstance(node, ast.ImportFrom | ast.Import):
                _import(node, known)
        for node in ast.walk(statement):
            if isinstance(node, ast.Call):
                _check_call(node, known)
            elif isinstance(node, ast.Attribute):
                _value(node, known)
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            known[statement.targets[0].id] = _value(statement.value, known)


def _import(node: ast.ImportFrom | ast.Import, known: dict[str, Any]) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            known[alias.asname or alias.name] = importlib.import_module(alias.name)
        return
    module = importlib.import_module(str(node.module))
    for alias in node.names:
        known[alias.asname or alias.name] = getattr(module, alias.name)


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    """What an expression is, as far as it can be told without running it."""
    match node:
        case ast.Name():
            return known.get(node.id, UNKNOWN)
        case ast.Attribute():
            return _attribute(_value(node.value, known), node.attr, ast.unparse(node))
        case ast.Call():
            return _returned(_value(node.func, known))
        case _:
            return UNKNOWN


def _attribute(holder: Any, name: str, shown: str) -> Any:
    if holder is UNKNOWN:
        return UNKNOWN
    if not isinstance(holder, Of):
        assert hasattr(holder, name), f"there is no {shown}"
        return getattr(holder, name)
    fields = {field.name for field in dataclasses.fields(holder.cls)} if dataclasses.is_dataclass(holder.cls) else set()
    # What a plain class sets on itself stands in its source.
    there = hasattr(holder.cls, name) or name in fields or f"self.{name} =" in inspect.getsource(holder.cls)
    assert there or f"self.{name}:" in inspect.getsource(holder.cls), f"there is no {shown}"
    found = getattr(holder.cls, name, UNKNOWN)
    return UNKNOWN if isinstance(found, property) else found


def _returned(function: Any) -> Any:
    if inspect.isclass(function):
        return Of(function) if function.__module__.startswith("circuitkit") else UNKNOWN
    told = getattr(function, "__annotations__", {}).get("return")
    cls = getattr(ck, told, None) if isinstance(told, str) and told in ck.__all__ else told
    return Of(cls) if inspect.isclass(cls) and cls.__module__.startswith("circuitkit") else UNKNOWN


def _check_call(node: ast.Call, known: dict[str, Any]) -> None:
    function = _value(node.func, known)
    if not callable(function) or not str(getattr(function, "__module__", "")).startswith("circuitkit"):
        return
    parameters = inspect.signature(function).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return
    unknown = [word.arg for word in node.keywords if word.arg is not None and word.arg not in parameters]
    assert not unknown, f"{ast.unparse(node.func)} takes no {', '.join(unknown)}"
