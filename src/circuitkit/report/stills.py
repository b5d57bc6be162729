"""Still pictures: matplotlib's figures as SVG with text that stays text, and figures that lie in a folder."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from circuitkit.plots.files import as_svg
from circuitkit.report.errors import ReportError
from circuitkit.report.kinds import spoiled
from circuitkit.report.section import Still

_PNG = b"\x89PNG\r\n\x1a\n"
_SVG = "{http://www.w3.org/2000/svg}"
_ACTIVE = frozenset({"script", "foreignObject", "handler"})
_DRAWN = frozenset(
    {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
        "http://creativecommons.org/ns#",
        "http://purl.org/dc/elements/1.1/",
    }
)
"""Namespaces of drawings and of what is told of them."""

_LOADS = re.compile(r"url\(\s*['\"]?\s*(?!['\"#\s])|@import|image-set\(|\\", re.IGNORECASE)
"""What loads in a style; a backslash could hide it."""


def drawn(figure: Figure | Axes, alt: str) -> Still:
    """A figure as SVG, the same bytes each time; as PNG where it has so much in it that it would be large.

    >>> from circuitkit import plots
    >>> still = drawn(plots.new_axes(2, 1), "nothing")
    >>> still.media_type, still.image[:5]
    ('image/svg+xml', b'<?xml')
    """
    if (image := as_svg(figure)) is not None:
        return Still(alt, image, "image/svg+xml")
    whole = figure.get_figure(root=True) if isinstance(figure, Axes) else figure
    assert whole is not None  # circuitkit's plots draw on figures
    pixels = io.BytesIO()
    whole.savefig(pixels, format="png", dpi=100, metadata={"Software": None}, bbox_inches="tight")
    return Still(alt, pixels.getvalue(), "image/png")


def of_result(result: Any, alt: str, **options: Any) -> Still:
    """What a result's own `.plot()` draws."""
    return drawn(result.plot(**options), alt)


def of_file(path: Path, alt: str) -> Still:
    """A PNG or SVG file as it is: what an SVG is called stands behind `alt`.

    The page shows it as an image, in which a browser runs nothing and loads nothing; one that holds more than a drawing
    is refused all the same.

    Raises:
        ReportError: it is neither, cut short, cannot be read, or is an SVG that runs or loads something.
    """
    try:
        image = path.read_bytes()
    except OSError as error:
        raise spoiled(path, error) from error
    if path.suffix == ".svg":
        title = _title_of_drawing(path, image)
        return Still(f"{alt}: {title}" if title else alt, image, "image/svg+xml")
    if not image.startswith(_PNG) or b"IEND" not in image[-12:]:
        raise ReportError(f"{path} is cut short or no PNG: make it again, or take it out of the folder")
    return Still(alt, image, "image/png")


def _title_of_drawing(path: Path, image: bytes) -> str:
    """What an SVG is called, if it is nothing but a drawing."""
    if b"\0" in image:
        raise ReportError(f"{path} is not shown: it is not in UTF-8; make it again, or take it out of the folder")
    if b"<?xml-stylesheet" in image:
        raise ReportError(f"{path} is not shown: it loads a style sheet; make it again, or take it out of the folder")
    if b"<!ENTITY" in image:
        raise ReportError(f"{path} is not shown: it defines entities; make it again, or take it out of the folder")
    try:
        root = ET.fromstring(image)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise spoiled(path, error) from error
    if root.tag != f"{_SVG}svg":
        raise ReportError(f"{path} is no SVG, whatever its name says: make it again, or take it out of the folder")
    for element in root.iter():
        if why := _more_than_drawn(element):
            raise ReportError(f"{path} is not shown: it holds {why}; make it again, or take it out of the folder")
    return " ".join((root.findtext(f"{_SVG}title") or "").split())


def _more_than_drawn(element: ET.Element) -> str | None:
    """What of an element runs or loads something."""
    space, _, name = element.tag.rpartition("}")
    if name in _ACTIVE:
        return f"a {name}"
    if space.removeprefix("{") not in _DRAWN:
        return f"what is of no drawing ({name[:60]})"
    if name == "style" and _LOADS.search("".join(element.itertext())):
        return "a style that loads something"
    for attribute, value in element.attrib.items():
        plain = attribute.rpartition("}")[2]
        if plain.lower().startswith("on"):
            return f"what is run on an event ({plain})"
        if plain == "href" and not value.strip().startswith(("#", "data:image/png;base64,")):
            return f"a link to elsewhere ({value[:60]})"
        if _LOADS.search(value) and plain != "href":
            return f"what is loaded from elsewhere ({value[:60]})"
    return None
