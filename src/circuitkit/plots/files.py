"""Figures as files: PNG, and SVG whose text stays text, of the same bytes each time, and small however dense."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from circuitkit.plots.figures import as_written
from circuitkit.records import whole_file

LARGEST_SVG = 400_000
"""Bytes above which a figure is drawn in pixels."""

_MOST_STROKES = 2_000
"""Of one artist: more are pixels in an SVG."""

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def save(figure: Figure | Axes, path: str | Path, *, dpi: int = 150) -> Path:
    """Write a figure as PNG and, beside it, as SVG of the same stem, each whole or not at all, and give the PNG's path.

    What is too dense for strokes is pixels in the SVG; there is none of a figure that would still take more than
    `LARGEST_SVG` bytes.

    Raises:
        ValueError: another suffix than .png.

    >>> import tempfile
    >>> from circuitkit import plots
    >>> path = save(plots.new_axes(1, 1), Path(tempfile.mkdtemp()) / "empty.png")
    >>> sorted(each.name for each in path.parent.iterdir())
    ['empty.png', 'empty.svg']
    """
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"{path}: figures are saved as .png, and as .svg beside it")
    as_strokes = path.with_suffix(".svg")
    with _laid_out(_whole(figure), dpi) as (whole, box):
        # Where this is cut short, no SVG of an older figure stands beside the new PNG.
        as_strokes.unlink(missing_ok=True)
        with whole_file(path) as beside:
            whole.savefig(beside, format="png", dpi=dpi, bbox_inches=box)
        drawing = _svg(whole, box, dpi)
    if drawing is not None:
        with whole_file(as_strokes) as beside:
            beside.write_bytes(drawing)
    return path


def as_svg(figure: Figure | Axes, *, dpi: int = 150) -> bytes | None:
    """A figure as SVG, the same bytes each time: None where it takes more than `LARGEST_SVG` bytes.

    Text stays text. Artists of more strokes than can be told apart are pixels; where the rest is still too large, all
    of the data is, and titles, axes and legends alone are not.

    >>> from circuitkit import plots
    >>> as_svg(plots.new_axes(2, 1))[:5]
    b'<?xml'
    """
    with _laid_out(_whole(figure), dpi) as (whole, box):
        return _svg(whole, box, dpi)


def _title_of(figure: Figure) -> str:
    """What a figure is called: its own title, or that of its first axes that has one."""
    titles = [figure.get_suptitle(), *(axes.get_title(loc) for axes in figure.axes for loc in ("center", "left"))]
    return " ".join(next((title for title in titles if title), "").split())


def _whole(figure: Figure | Axes) -> Figure:
    whole = figure.get_figure(root=True) if isinstance(figure, Axes) else figure
    if whole is None:
        raise ValueError("these axes belong to no figure any more")
    return whole


@contextmanager
def _laid_out(figure: Figure, dpi: int) -> Iterator[tuple[Figure, Bbox]]:
    """A figure whose parts have found their places, once for all that is written of it, and the box that holds them."""
    as_written(figure)
    engine, before = figure.get_layout_engine(), figure.dpi
    with warnings.catch_warnings():
        # Tokens may be of a script that the font lacks: in pixels they are boxes, and as text another font has them.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.dpi = dpi
        try:
            figure.draw_without_rendering()
            # Legends may be wider than their axes.
            box = figure.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
            figure.set_layout_engine(None)
            yield figure, box
        finally:
            figure.dpi = before
            figure.set_layout_engine(engine)


def _svg(figure: Figure, box: Bbox, dpi: int) -> bytes | None:
    inner = [artist for axes in figure.axes for artist in _data_of(axes)]
    with _in_pixels(artist for artist in inner if _strokes(artist) > _MOST_STROKES):
        drawing = _written(figure, box, dpi)
    if len(drawing) > LARGEST_SVG:
        with _in_pixels(inner):
            drawing = _written(figure, box, dpi)
    return drawing if len(drawing) <= LARGEST_SVG else None


def _written(figure: Figure, box: Bbox, dpi: int) -> bytes:
    written = io.BytesIO()
    told = {"Date": None, "Creator": None, **({"Title": title} if (title := _title_of(figure)) else {})}
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "circuitkit"}):
        figure.savefig(written, format="svg", dpi=dpi, bbox_inches=box, metadata=told)
    return _NOT_XML.sub("\ufffd", written.getvalue().decode("utf-8", "replace")).encode()


def _data_of(axes: Axes) -> list[Artist]:
    """What axes show, without what frames and names it."""
    legend = axes.get_legend()
    frame = {axes.patch, axes.title, axes.xaxis, axes.yaxis, *axes.spines.values(), *([legend] if legend else ())}
    return [each for each in axes.get_children() if each not in frame]


def _strokes(artist: Artist) -> int:
    if isinstance(artist, QuadMesh):
        shown = artist.get_array()
        return 0 if shown is None else int(shown.size)
    if isinstance(artist, Collection):
        return max(len(np.asarray(artist.get_offsets())), sum(len(path) for path in artist.get_paths()))
    return len(np.asarray(artist.get_xdata())) if isinstance(artist, Line2D) else 1


@contextmanager
def _in_pixels(artists: Iterable[Artist]) -> Iterator[None]:
    """Artists that are drawn in pixels, as long as this lasts."""
    before = [(artist, artist.get_rasterized()) for artist in artists]
    for artist, _ in before:
        artist.set_rasterized(True)
    try:
        yield
    finally:
        for artist, was in before:
            artist.set_rasterized(was)
