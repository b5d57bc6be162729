"""Figures as files: SVG beside PNG, the same each time, readable, and small however dense."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from circuitkit import plots
from circuitkit.plots import files

SVG = "{http://www.w3.org/2000/svg}"


def titled(*, dots: int = 3) -> Axes:
    axes = plots.new_axes(3, 2)
    axes.scatter(*np.random.default_rng(0).normal(size=(2, dots)), label="<dots> & more")
    axes.set_title("of $x$\x07\nand more")
    axes.legend(loc="upper left")
    return axes


def texts(path: Path) -> set[str]:
    return {each.text or "" for each in ET.parse(path).getroot().iter(f"{SVG}text")}


def test_beside_each_png_stands_an_svg_of_the_same_bytes_each_time(tmp_path: Path) -> None:
    one, other = (plots.save(titled(), tmp_path / name / "fit 0.9.png") for name in ("one", "other"))
    drawing = one.with_suffix(".svg")
    assert [path.name for path in sorted(one.parent.iterdir())] == ["fit 0.9.png", "fit 0.9.svg"]
    assert drawing.read_bytes() == other.with_suffix(".svg").read_bytes()
    assert one.read_bytes() == other.read_bytes()
    assert {"of $x$\ufffd", "and more", "<dots> & more"} <= texts(drawing)
    assert ET.parse(drawing).getroot().findtext(f"{SVG}title") == "of $x$\ufffd and more"


def test_what_is_too_dense_for_strokes_is_pixels_and_its_names_stay_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plots.save(titled(dots=3_000), tmp_path / "dense.png").with_suffix(".svg")
    assert path.stat().st_size < 60_000 and len(list(ET.parse(path).getroot().iter(f"{SVG}image"))) == 1
    assert {"and more", "<dots> & more"} <= texts(path)
    many = plots.new_axes(3, 2)
    many.eventplot(np.arange(60)[:, None], colors="k")
    strokes = files.as_svg(many) or b""
    assert strokes and b"<image" not in strokes
    monkeypatch.setattr(files, "LARGEST_SVG", len(strokes) - 1)
    assert b"<image" in (files.as_svg(many) or b"")
    assert not any(each.get_rasterized() for each in many.collections)


def test_no_svg_of_an_older_figure_is_left_beside_one_that_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plots.save(titled(), tmp_path / "a.png")
    engine = (figure := Figure(layout="constrained")).get_layout_engine()
    figure.subplots().plot([0, 1])
    monkeypatch.setattr(files, "LARGEST_SVG", 1_000)
    plots.save(figure, path)
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]
    assert figure.get_layout_engine() is engine and figure.dpi == 100


def test_names_at_an_axis_are_text_and_no_formula(tmp_path: Path) -> None:
    axes = plots.new_axes(3, 2)
    axes.set_yticks([0, 1], ["$\\frac{$ a", "$x^2$"])
    assert "$x^2$" in plots.save(axes, tmp_path / "a.png").with_suffix(".svg").read_text()
