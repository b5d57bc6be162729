"""Pages ask for nothing from other hosts: no fonts, scripts, styles or pictures."""

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import SphinxError

ASKED = {
    ".html": re.compile(r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\s\"'>]+"),
    ".css": re.compile(r"(?:@import\s+|url\(\s*)[\"']?(?:https?:)?//[^\s\"')]+"),
}
STYLES = re.compile(
    r"<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon))[^>]*href=[\"']?(?:https?:)?//[^>]+"
)


def check(app: Sphinx, error: Exception | None) -> None:
    """Fail where a page that was written would ask another host for something."""
    if error is not None or app.builder.format != "html":
        return
    found = []
    for path in sorted(Path(app.outdir).rglob("*")):
        if pattern := ASKED.get(path.suffix):
            text = path.read_text(encoding="utf-8")
            found += [f"{path}: {asked}" for asked in pattern.findall(text)]
            found += [f"{path}: {asked}" for asked in STYLES.findall(text) if path.suffix == ".html"]
    if found:
        raise SphinxError("pages ask other hosts for\n" + "\n".join(found))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
