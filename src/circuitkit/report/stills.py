"""Still pictures: matplotlib's figures as SVG with text that stays text, and PNG files where no result draws itself."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from circuitkit.plots.figures import as_written
from circuitkit.report.errors import ReportError
from circuitkit.report.section import Still

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST_SVG = 400_000
"""Bytes above which a figure is smaller as PNG: one of very many strokes."""


def drawn(figure: Figure | Axes, alt: str) -> Still:
    """A figure as SVG, the same bytes each time; as PNG where it has so many strokes that SVG is larger.

    >>> from circuitkit import plots
    >>> still = drawn(plots.new_axes(2, 1), "nothing")
    >>> still.media_type, still.image[:5]
    ('image/svg+xml', b'<?xml')
    """
    whole = figure.get_figure(root=True) if isinstance(figure, Axes) else figure
    assert whole is not None  # circuitkit's plots draw on figures
    as_written(whole)
    written = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "circuitkit"}), warnings.catch_warnings():
        # The text stays text, and whoever looks at it has other fonts.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        whole.savefig(written, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    image = _NOT_XML.sub("\ufffd", written.getvalue().decode("utf-8", "replace")).encode()
    if len(image) <= _LARGEST_SVG:
        return Still(alt, image, "image/svg+xml")
    pixels = io.BytesIO()
    whole.savefig(pixels, format="png", dpi=100, metadata={"Software": None}, bbox_inches="tight")
    smaller = pixels.getvalue()
    return Still(alt, smaller, "image/png") if len(smaller) < len(image) else Still(alt, image, "image/svg+xml")


def of_result(result: Any, alt: str, **options: Any) -> Still:
    """What a result's own `.plot()` draws."""
    return drawn(result.plot(**options), alt)


def of_file(path: Path, alt: str) -> Still:
    """A PNG file as it is.

    Raises:
        ReportError: it is none, or cut short.
    """
    image = path.read_bytes()
    if not image.startswith(_PNG) or b"IEND" not in image[-12:]:
        raise ReportError(f"{path} is cut short or no PNG: make it again, or take it out of the folder")
    return Still(alt, image, "image/png")
