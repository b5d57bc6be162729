"""What a page is made of: sections, each with a picture that can be touched, still ones, a table, and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Still:
    """A still picture: what is seen without scripts, and in print.

    Attributes:
        alt: what it shows, in words.
        image: the file's bytes.
        media_type: what kind of file it is.
    """

    alt: str
    image: bytes
    media_type: Literal["image/svg+xml", "image/png"]


@dataclass(frozen=True)
class Section:
    """One card of a page.

    Attributes:
        name: its anchor, unique among the sections of its folder.
        title: its heading.
        caption: what is seen, with units, and how to use it.
        view: the front end's view that draws `data`; None where there are stills or a table only.
        data: what the view draws, as JSON can hold it (tensors and arrays too).
        stills: pictures that stand for the view where no script runs, and in print.
        table: shown as a table that sorts, thinned where it is long.
        notes: what was thinned, what is missing, and why.
        says: sentences for "What was found".
        group: with which other cards of its folder it is folded away, behind all that are not; empty of none.
    """

    name: str
    title: str
    caption: str = ""
    view: str | None = None
    data: Mapping[str, Any] | None = None
    stills: tuple[Still, ...] = ()
    table: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    group: str = ""
