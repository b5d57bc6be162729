"""What all figures share: a canvas of its own, token labels that can be read, and colours."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis, Tick
from matplotlib.colors import CenteredNorm, Colormap, Normalize
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter
from numpy.typing import NDArray

from circuitkit.showing import without_folders

DIVERGING = "PuOr_r"
"""Purple below the centre, orange above, white at it: told apart under every common colour blindness."""
SEQUENTIAL = "cividis"
MISSING = "0.88"
"""The grey of a cell that does not exist, hatched so that no colour is mistaken for it."""

_DPI_OF_NOTEBOOKS = 80
_LONGEST = 14
_MOST_LABELS = 60


class ShownAxes(Axes):
    """Axes that a notebook shows as the picture that they are on, since no pyplot knows of it.

    What is shown there is committed: no title in it holds a folder of this machine, where a model was read.
    """

    def __repr__(self) -> str:
        return without_folders(super().__repr__())

    def _repr_png_(self) -> bytes:
        whole = self.get_figure(root=True)
        assert whole is not None  # circuitkit's plots draw on figures
        as_written(whole)
        pixels = io.BytesIO()
        with _without_folders_in(whole), warnings.catch_warnings():
            # Tokens may be of a script that the font lacks: they are drawn as boxes.
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            whole.savefig(pixels, format="png", dpi=_DPI_OF_NOTEBOOKS, metadata={"Software": None})
        return pixels.getvalue()


@contextmanager
def _without_folders_in(figure: Figure) -> Iterator[None]:
    """A figure whose texts and written tick labels hold no folder of this machine, as long as this lasts."""
    texts = [(text, text.get_text()) for text in figure.findobj(Text)]
    changed = [(text, told) for text, told in texts if without_folders(told) != told]
    # Texts of ticks are written anew whenever they are drawn.
    formatters = {id(each): each for each in (axis.get_major_formatter() for axis in figure.findobj(Axis))}
    writing = [(each, each.func) for each in formatters.values() if isinstance(each, FuncFormatter)]
    for each, write in writing:
        each.func = partial(_written_without_folders, write)
    for text, told in changed:
        text.set_text(without_folders(told))
    try:
        yield
    finally:
        for text, told in changed:
            text.set_text(told)
        for each, write in writing:
            each.func = write


def _written_without_folders(write: Callable[..., str], *place: Any) -> str:
    return without_folders(write(*place))


class NewFigure(Figure):
    """A figure outside pyplot's state, whose axes show themselves."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained")

    def add_subplot(self, *args: Any, **options: Any) -> Axes:
        """See matplotlib."""
        made: Axes = super().add_subplot(*args, **({"axes_class": ShownAxes} | options))
        return made


def as_written(figure: Figure) -> None:
    """Show texts as they are: a title may hold a model's name or a token, and a "$" in it begins no formula.

    Ticks that matplotlib writes are left alone, since it writes powers of ten as formulas.
    """
    for axis in figure.findobj(Axis):
        named = isinstance(axis.get_major_formatter(), FixedFormatter | FuncFormatter)
        if named and isinstance(axis.get_major_locator(), FixedLocator):
            for label in axis.get_majorticklabels():
                label.set_parse_math(False)
    of_ticks = {id(text) for tick in figure.findobj(Tick) for text in tick.findobj(Text)}
    for text in figure.findobj(Text):
        if id(text) not in of_ticks:
            text.set_parse_math(False)


def new_axes(width: float, height: float) -> Axes:
    """Make axes on a figure of their own, in inches, outside pyplot's state.

    >>> new_axes(4, 3).figure.get_size_inches().tolist()
    [4.0, 3.0]
    """
    return NewFigure(width, height).subplots()


def shown(token: str) -> str:
    """Write a token so that it can be read on an axis: spaces and breaks visible, long ones cut.

    >>> shown(" a\\n"), shown("antidisestablishmentarianism")
    ('·a↵', 'antidisestabl…')
    """
    plain = token.replace("\n", "↵").replace("\t", "⇥").replace(" ", "·")
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1] + "…"


def label_entries(axis: Axis, labels: Sequence[str], *, rotated: bool = False, most: int = _MOST_LABELS) -> None:
    """Put a label at every entry of an axis, or at evenly spaced ones where there are more than `most`."""
    step = -(-len(labels) // most)
    places = range(0, len(labels), step)
    axis.set_ticks(list(places), [shown(labels[i]) for i in places])
    for text in axis.get_ticklabels():
        # A token such as "$x$" is text here, not mathematics.
        text.set_parse_math(False)
        text.set_rotation(90 if rotated else 0)
        text.set_fontsize(8 if len(labels) > 20 else 9)


def explain(axes: Axes, notes: Sequence[Artist | Container], *, alone: bool) -> None:
    """Put a legend under the figure, or inside axes that share theirs with others."""
    if alone:
        axes.figure.legend(handles=list(notes), loc="outside lower center", frameon=False, fontsize=8)
    else:
        axes.legend(handles=list(notes), fontsize=8)


def readable_on(colour: Sequence[float] | NDArray[np.float64]) -> str:
    """Whether black or white writing can be read on a colour.

    >>> readable_on((1.0, 1.0, 0.8)), readable_on((0.2, 0.0, 0.3))
    ('black', 'white')
    """
    return "black" if float(np.dot(colour[:3], (0.299, 0.587, 0.114))) > 0.55 else "white"


def colours(values: NDArray[np.float64], centre: float | None) -> tuple[Colormap, Normalize]:
    """Choose the colour map and its range: diverging about a centre, or sequential without one.

    >>> colours(np.array([-1.0, 3.0]), 0.0)[1].vmin
    -3.0
    """
    finite = values[np.isfinite(values)]
    if centre is None:
        norm = Normalize(*((float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)))
        return mpl.colormaps[SEQUENTIAL], norm
    reach = float(np.abs(finite - centre).max()) if len(finite) else 0.0
    # Where nothing differs from the centre, all is the centre's colour.
    return mpl.colormaps[DIVERGING], CenteredNorm(centre, reach or 1.0)
