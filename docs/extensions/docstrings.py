"""Docstrings are plain English with names in backticks; this makes reStructuredText of them.

Without it a formula's `*` or `|` would be markup, and a name in backticks a title of something else.
"""

import inspect
import re
import typing
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

LITERAL = re.compile(r"(``.+?``|`[^`]+`)")
COLON = "\ue000"
MARKUP = re.compile(r"([*|]|(?<=\w)_(?=\W|$))")


def plain(line: str) -> str:
    """A line whose names are literals, and whose signs are signs."""
    parts = LITERAL.split(line)
    # Names in backticks are every second part.
    for at, part in enumerate(parts):
        parts[at] = f"\\ ``{part.strip('`')}``\\ " if at % 2 else MARKUP.sub(r"\\\1", part)
    # A literal ends before a space or a sign, and needs a break that is not seen before a letter.
    return re.sub(r"(?<!\w)\\ (?=``)|(?<=``)\\ (?!\w)", "", "".join(parts))


def borrowed(obj: Any, lines: list[str]) -> bool:
    """Whether lines are what Python says of a value's class, such as of any tuple, and nothing of the value."""
    classes = (type(obj), typing.get_origin(obj))
    return "\n".join(lines).strip() in [(inspect.getdoc(each) or "").strip() for each in classes if each is not None]


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Rewrite all lines of a docstring but its examples; before napoleon reads its sections."""
    if what == "data" and borrowed(obj, lines):
        lines.clear()
    # A name in backticks may be broken over two lines.
    text = re.sub(r"`[^`]+`", lambda found: re.sub(r"\n *", " ", found[0]), "\n".join(lines))
    example = False
    rewritten = []
    for line in text.split("\n"):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        rewritten.append(line if example else plain(line))
    if what in ("attribute", "data", "property"):
        # Napoleon takes what stands before a colon in a property's first line for its type.
        rewritten[0] = rewritten[0].replace(":", COLON)
    lines[:] = rewritten


def put_colons_back(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Undo what was hidden from napoleon."""
    lines[:] = [line.replace(COLON, ":") for line in lines]


ALIAS = re.compile(r"(?:~?[\w.]*)TypeAliasForwardRef\('(\w+)'\)")
ARRAY = re.compile(r"~?[\w.]*\bndarray\[tuple\[~?[\w.]*Any, \.\.\.\], ~?[\w.]*dtype\[(~?[\w.]+)\]\]")


def readable(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Write aliases of types by their names."""

    def shortened(text: str | None) -> str | None:
        return None if text is None else ARRAY.sub(r"NDArray[\1]", ALIAS.sub(r"\1", text))

    return shortened(signature), shortened(returned)


def name_attributes(app: Sphinx, tree: nodes.document, page: str) -> None:
    """Call attributes what the docstrings call them, where Sphinx says variables."""
    for name in tree.findall(nodes.field_name):
        if name.astext() == "Variables":
            name.replace_self(nodes.field_name("", "Attributes"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", process, priority=400)
    app.connect("autodoc-process-docstring", put_colons_back, priority=600)
    app.connect("autodoc-process-signature", readable)
    app.connect("doctree-resolved", name_attributes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
