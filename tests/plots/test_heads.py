"""The map of heads: a cell each, outlines that are counted, and heads that are not there."""

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from circuitkit import plots
from circuitkit.circuits import CircuitError, Convention, Graph, Layout


def outlines(axes: Axes) -> list[tuple[int, int]]:
    boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return sorted((round(b.get_y() + b.get_height() / 2), round(b.get_x() + b.get_width() / 2)) for b in boxes)


def legend(axes: Axes) -> list[str]:
    return [text.get_text() for each in axes.figure.legends for text in each.get_texts()]


def test_a_map_shows_values_and_outlines() -> None:
    values = torch.tensor([[0.0, 3.0], [1.0, torch.nan]])
    final = torch.tensor([[False, True], [True, False]])
    axes = plots.head_map(values, title="Heads", unit="times", outlined={"at the end": final, "never": ~final & False})
    assert axes.images[0].get_array().filled(-1).tolist() == [[0.0, 3.0], [1.0, -1.0]]
    assert outlines(axes) == [(0, 1), (1, 0)]
    assert legend(axes) == ["at the end: 2 heads", "never: 0 heads", "no such head"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("head", "layer", "Heads")
    assert axes.images[0].norm.vmin == 0.0 and axes.images[0].norm.vmax == 3.0


def test_a_map_can_diverge_about_a_centre() -> None:
    norm = plots.head_map(np.array([[-1.0, 0.5]]), title="E", unit="", centre=0.0).images[0].norm
    assert (norm.vmin, norm.vmax) == (-1.0, 1.0)
    assert plots.head_map(np.zeros((2, 2)), title="E", unit="").images[0].norm.vmax == 1.0


def test_maps_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[layer, head\]"):
        plots.head_map(np.zeros(3), title="", unit="")
    with pytest.raises(ValueError, match="shape"):
        plots.head_map(np.zeros((2, 2)), title="", unit="", outlined={"a": np.zeros((2, 3), dtype=bool)})
    with pytest.raises(ValueError, match="up to 3"):
        plots.head_map(np.zeros((2, 2)), title="", unit="", outlined=dict.fromkeys("abcd", np.zeros((2, 2))))


def test_a_graphs_map_outlines_its_heads() -> None:
    layout = Layout((2, 1), (2, 1), (False, False))
    scores = torch.zeros(layout.reach.shape)
    scores[layout.source("a0.h1"), layout.destination("logits")] = -2.0
    scores[layout.source("a1.h0"), layout.destination("m1")] = 1.0
    convention = Convention("eap", "kl", "nats")
    graph = Graph(layout, scores, layout.reach, convention, provenance={"model": "tiny"}).top(1)
    axes = graph.head_map()
    assert outlines(axes) == [(0, 1)]
    assert axes.images[0].get_array().filled(-1).tolist() == [[0.0, 2.0], [1.0, -1.0]]
    assert graph.head_map("circuit").images[0].get_array().filled(-1).tolist() == [[0.0, 2.0], [0.0, -1.0]]
    assert axes.get_title() == "eap of kl, tiny\nall edges out of each head"
    (bar,) = [other for other in axes.figure.axes if other is not axes]
    assert bar.get_ylabel() == "sum of |scores|, nats"
    with pytest.raises(CircuitError, match="not 'half'"):
        graph.head_map("half")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(3, 4), (12, 12)])
def test_a_map_stands_in_the_middle_of_its_figure(shape: tuple[int, int]) -> None:
    axes = plots.head_map(np.ones(shape), title="Heads", unit="logits")
    axes.figure.draw_without_rendering()
    drawn = [part.get_tightbbox() for part in axes.figure.axes]
    left, right = min(each.x0 for each in drawn), max(each.x1 for each in drawn)
    assert abs((axes.figure.bbox.width - right) - left) < 0.1 * axes.figure.bbox.width


@pytest.mark.parametrize("shape", [(2, 2), (3, 4), (2, 30)])
def test_long_titles_and_units_are_not_cut_off(shape: tuple[int, int]) -> None:
    title = "From some-house/base-model-1.5B to some-house/base-model-reasoning-1.5B: effect on heads"
    named = dict.fromkeys(("emergent", "lost", "retained"), np.ones(shape, dtype=bool))
    unit = "effect: (post − base) / (post + base)"
    axes = plots.head_map(np.ones(shape), title=title, unit=unit, outlined=named, centre=0.0)
    axes.figure.draw_without_rendering()
    written = [axes.title, *(part.yaxis.label for part in axes.figure.axes), axes.xaxis.label]
    assert {"".join(text.get_text().split()) for text in written} >= {"".join(each.split()) for each in (title, unit)}
    for text in written:
        extent, whole = text.get_window_extent(), axes.figure.bbox
        assert whole.x0 <= extent.x0 < extent.x1 <= whole.x1 and whole.y0 <= extent.y0 < extent.y1 <= whole.y1
