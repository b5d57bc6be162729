"""Every public name is documented, and what the code calls it links there.

`circuitkit.run.cache.Cache` is documented as `circuitkit.Cache`, and a docstring calls it `Cache`.
"""

import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from docutils.nodes import Element, TextElement
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError
from sphinx.util.nodes import make_refnode

import circuitkit

BESIDE = ("model", "run", "pairs", "spans", "doctor")
"""Public modules that are imported by their path; all others are attributes of the package."""


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: TextElement) -> Element | None:
    """The reference to the one documented object of the package that has the name's last part, if there is one."""
    target = str(node.get("reftarget", ""))
    if node.get("refdomain") != "py" or not (target.startswith("circuitkit.") or "." not in target):
        return None
    name = target.rpartition(".")[2]
    documented: dict[str, Any] = env.domains["py"].data["objects"]
    found = {full: entry for full, entry in documented.items() if full.rpartition(".")[2] == name}
    # A class comes before the functions, methods and attributes that have its name.
    for kinds in (("class", "exception"), ("function",), None):
        among = [entry for entry in found.values() if kinds is None or entry.objtype in kinds]
        homes = {(entry.docname, entry.node_id) for entry in among}
        if len(homes) == 1:
            ((page, place),) = homes
            return make_refnode(app.builder, node["refdoc"], page, place, content, target)
    return None


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The public names of a module and of the public modules in it, with what they stand for.

    Without `__all__` those are what it defines itself; values have no home, and none are told from imported ones.
    """
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    for name in getattr(module, "__all__", own):
        value = getattr(module, name)
        if inspect.ismodule(value):
            yield from public(value)
        else:
            yield f"{module.__name__}.{name}", value


def undocumented(documented: dict[str, Any]) -> list[str]:
    """The public names that no page tells of: neither as they are, nor as the same thing by another of its names.

    What says no more than "See …" of itself is told there.
    """
    modules = [circuitkit, *(importlib.import_module(f"circuitkit.{name}") for name in BESIDE)]
    names = {
        name: value
        for module in modules
        for name, value in public(module)
        if not (getattr(value, "__doc__", None) or "").startswith("See `")
    }
    told = {id(value) for name, value in names.items() if name in documented}
    homes = {
        name: f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
        for name, value in names.items()
    }
    return [name for name in names if {name, homes[name]}.isdisjoint(documented) and id(names[name]) not in told]


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """Fail where a public name has no place in the pages."""
    if missing := undocumented(env.domains["py"].data["objects"]):
        raise SphinxError("public names that no page of docs/api tells of:\n" + "\n".join(missing))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("missing-reference", resolve)
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
