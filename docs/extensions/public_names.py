"""Links from a name as the code has it to the name by which it is documented.

`circuitkit.run.cache.Cache` is documented as `circuitkit.Cache`, and a docstring calls it `Cache`.
"""

from typing import Any

from docutils.nodes import Element, TextElement
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode


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


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
