"""Figures that lie in a folder: SVG where there is one, and nothing that is more than a drawing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from circuitkit import plots, report

DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{}</svg>'


def test_of_a_figure_that_is_saved_twice_the_svg_is_shown_once_with_its_title(tmp_path: Path) -> None:
    axes = plots.new_axes(2, 1)
    axes.set_title("Losses <b>&")
    drawing = plots.save(axes, tmp_path / "figure_1.png").with_suffix(".svg")
    (section,) = report.read(tmp_path, progress=False).sections
    (still,) = section.stills
    assert (still.media_type, still.image) == ("image/svg+xml", drawing.read_bytes())
    assert section.title == "Figure 1" and still.alt.endswith(": Losses <b>&")
    page = report.read(tmp_path, progress=False).html
    # Never inline: what an image holds is neither run nor part of the page.
    assert 'src="data:image/svg+xml;base64,' in page and "dc:title" not in page and "Losses &lt;b&gt;&amp;" in page


@pytest.mark.parametrize(
    ("holds", "why"),
    [
        ("<script>alert(1)</script>", "holds a script"),
        ("<foreignObject><p>x</p></foreignObject>", "holds a foreignObject"),
        ('<rect onload="alert(1)"/>', r"run on an event \(onload\)"),
        ('<image xlink:href="https://example.org/x.png"/>', r"link to elsewhere \(https://example.org/x.png\)"),
        ("<style>@import url(http://example.org/a.css);</style>", "a style that loads something"),
        ('<rect style="fill:url(http://example.org/a.svg#b)"/>', "loaded from elsewhere"),
        ('<iframe xmlns="http://www.w3.org/1999/xhtml" src="http://example.org/"/>', r"of no drawing \(iframe\)"),
        ("<rect>", "cannot be read"),
    ],
)
def test_of_an_svg_that_is_more_than_a_drawing_the_png_is_shown(tmp_path: Path, holds: str, why: str) -> None:
    path = plots.save(plots.new_axes(1, 1), tmp_path / "a.png")
    path.with_suffix(".svg").write_text(DRAWING.format(holds))
    found = report.read(tmp_path, progress=False)
    ((still,),) = (section.stills for section in found.sections)
    assert still.media_type == "image/png"
    (told,) = found.contents.unread
    assert "a.svg" in told and re.search(why, told) and "take it out of the folder" in told
