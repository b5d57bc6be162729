"""Figures: they say what they show, mark what survives, and leave nothing open behind them."""

import io
import itertools
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from circuitkit import plots
from circuitkit.results import Baseline, Result

TOKENS = [" a", r"$\oops$", "\n", " antidisestablishmentarianism", "_^", "."]


def rendered(axes: Axes) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes.figure.savefig(buffer, format="png")
    return buffer.getvalue()


def legend_texts(axes: Axes) -> list[str]:
    legends = [*axes.figure.legends, *([axes.get_legend()] if axes.get_legend() else [])]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def colour_bar_label(axes: Axes) -> str:
    (bar,) = [other for other in axes.figure.axes if other is not axes]
    return bar.get_ylabel()


def grid(values: torch.Tensor, **more: object) -> Axes:
    options = {"title": "Effect", "row_name": "layer", "column_name": "position", "unit": "logits"} | more
    return plots.heatmap(values, **options)  # type: ignore[arg-type]


def test_a_heat_map_says_what_it_shows() -> None:
    axes = grid(torch.eye(3, len(TOKENS)), column_labels=TOKENS)
    assert (axes.get_title(), axes.get_ylabel(), axes.get_xlabel()) == ("Effect", "layer", "position")
    assert colour_bar_label(axes) == "logits"
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ["·a", r"$\oops$", "↵", "·antidisestab…", "_^", "."]
    assert rendered(axes)


def test_colours_diverge_about_the_centre_by_equal_amounts() -> None:
    norm = grid(torch.tensor([[-1.0, 5.0]])).images[0].norm
    assert (norm.vmin, norm.vmax) == (-5.0, 5.0)
    assert grid(torch.tensor([[2.0, 5.0]]), centre=2.0).images[0].norm(2.0) == 0.5
    sequential = grid(torch.tensor([[2.0, 5.0]]), centre=None).images[0]
    assert (sequential.norm.vmin, sequential.norm.vmax, sequential.cmap.name) == (2.0, 5.0, "cividis")


def test_only_cells_that_survive_are_marked() -> None:
    survives = torch.zeros(3, 4, dtype=torch.bool)
    survives[1, 2] = survives[2, 0] = True
    axes = grid(torch.ones(3, 4), significant=survives)
    (dots,) = axes.get_lines()
    assert sorted(zip(*dots.get_data(), strict=True)) == [(0, 2), (2, 1)]
    assert legend_texts(axes) == ["survives correction"]
    assert not grid(torch.ones(3, 4)).get_lines()
    assert "no cell does" in legend_texts(grid(torch.ones(1, 1), significant=torch.tensor([[False]])))[0]


def test_missing_cells_are_not_painted_with_a_colour() -> None:
    values = torch.zeros(2, 3)
    values[1, 2] = torch.nan
    axes = grid(values)
    assert axes.images[0].get_array().mask.tolist() == [[False] * 3, [False, False, True]]
    assert axes.patch.get_hatch() and "no such cell" in legend_texts(axes)
    assert rendered(axes)


@pytest.mark.parametrize("n", [1, 40, 200])
def test_token_labels_do_not_overlap(n: int) -> None:
    axes = grid(torch.rand(4, n), column_labels=[f"tok{i}" for i in range(n)])
    rendered(axes)
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert boxes and all(a.x1 <= b.x0 + 1 for a, b in itertools.pairwise(boxes))
    title, whole = axes.title.get_window_extent(), axes.figure.bbox
    assert title.x0 >= whole.x0 and title.x1 <= whole.x1


@given(st.integers(1, 6), st.integers(1, 12), st.booleans())
@settings(max_examples=10, deadline=None)
def test_heat_maps_of_any_shape_are_drawn(rows: int, columns: int, empty: bool) -> None:
    values = torch.full((rows, columns), torch.nan) if empty else torch.zeros(rows, columns)
    assert rendered(grid(values))


def test_bars_stand_beside_their_controls() -> None:
    axes = plots.bars(
        torch.tensor([2.0, 0.5]),
        labels=["3.1", "0.2"],
        title="Ablated heads",
        unit="logits lost",
        name="layer.head",
        interval=(np.array([1.8, 0.2]), np.array([2.1, 0.9])),
        controls=torch.tensor([0.1, 0.4]),
        control_interval=(np.array([0.0, 0.1]), np.array([0.2, 0.6])),
    )
    effects, controls = axes.containers
    assert [bar.get_height() for bar in effects] == [2.0, 0.5]
    assert [bar.get_height() for bar in controls] == pytest.approx([0.1, 0.4])
    for effect, control in zip(effects, controls, strict=True):
        assert effect.get_x() + effect.get_width() == pytest.approx(control.get_x())
    ends = [line[:, 1].tolist() for lines in axes.collections for line in lines.get_segments()]
    assert ends == [[1.8, 2.1], [0.2, 0.9], [0.0, 0.2], [0.1, 0.6]]
    assert (axes.get_title(), axes.get_ylabel(), axes.get_xlabel()) == ("Ablated heads", "logits lost", "layer.head")
    texts = legend_texts(axes)
    assert "95% interval" in texts[0] and "matched in layer and number" in texts[1]
    assert rendered(axes)


def test_an_attention_pattern_has_tokens_on_both_axes() -> None:
    pattern = torch.eye(len(TOKENS))
    axes = plots.attention_pattern(pattern, TOKENS, title="Layer 1, head 2")
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("Layer 1, head 2", "key", "query")
    assert colour_bar_label(axes) == "attention weight"
    assert axes.images[0].get_clim() == (0.0, 1.0)
    queries = [text.get_text() for text in axes.get_yticklabels()]
    assert queries == [text.get_text() for text in axes.get_xticklabels()]
    assert axes.yaxis_inverted() and rendered(axes)
    decoding = plots.attention_pattern(pattern[-1:], TOKENS, title="One query")
    assert [text.get_text() for text in decoding.get_yticklabels()] == ["."]


def test_tokens_are_written_whole_and_wrapped() -> None:
    words = TOKENS * 10
    values = np.linspace(-1, 1, len(words))
    values[3] = np.nan
    axes = plots.tokens(words, values, title="By token", unit="logits")
    assert [text.get_text() for text in axes.texts][:3] == ["·a", r"$\oops$", "↵"] and len(axes.texts) == 60
    assert len({round(text.get_position()[1]) for text in axes.texts}) > 1
    assert max(patch.get_x() + patch.get_width() for patch in axes.patches) <= axes.get_xlim()[1]
    assert axes.get_title() == "By token" and colour_bar_label(axes) == "logits" and rendered(axes)


def test_a_result_draws_what_its_axes_call_for() -> None:
    clean, corrupt = torch.full((8,), 3.0), torch.full((8,), 1.0)
    per_example = corrupt + torch.zeros(2, 3, 8)
    per_example[1, 0] = 2.0
    labels = {"position": ("A", " cat", " is")}
    result = Result(
        per_example, ("layer", "position"), Baseline(clean, corrupt), "denoise", "kl", "nats", labels=labels
    )
    axes = result.plot()
    assert axes.images[0].get_array().tolist() == [[0, 0, 0], [0.5, 0, 0]]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["A", "·cat", "·is"]
    assert "8 examples, clean 3, corrupt 1, seed 0" in axes.get_title()
    assert colour_bar_label(axes) == "share of clean − corrupt restored"
    assert axes.get_lines()[0].get_xydata().tolist() == [[0.0, 1.0]]
    assert colour_bar_label(result.plot(of="effect")) == "kl, value − corrupt [nats]"
    layers = Result(per_example[:, 0], ("layer",), Baseline(clean, corrupt), "denoise", "kl")
    assert [bar.get_height() for bar in layers.plot(of="effect").containers[0]] == [0.0, 1.0]
    cube = Result(per_example[None], ("a", "b", "c"), Baseline(clean, corrupt), "denoise", "kl")
    with pytest.raises(ValueError, match="too many axes"):
        cube.plot()


def test_figures_may_share_a_canvas() -> None:
    left, right = Figure(figsize=(12, 5), layout="constrained").subplots(1, 2)
    assert grid(torch.eye(3), significant=torch.eye(3, dtype=torch.bool), axes=left) is left
    assert plots.bars(torch.ones(2), labels=["a", "b"], title="t", unit="u", axes=right) is right
    assert not left.figure.legends and left.get_legend() is not None
    assert rendered(left)


def test_saved_figures_are_whole_images_and_pyplot_stays_untouched(tmp_path: Path) -> None:
    backend = mpl.rcParams._get_backend_or_none()  # type: ignore[attr-defined]
    path = plots.save(grid(torch.eye(3)), tmp_path / "figures" / "effect.png")
    assert image.imread(path).ndim == 3 and list(path.parent.iterdir()) == [path]
    assert mpl.rcParams._get_backend_or_none() == backend  # type: ignore[attr-defined]
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []
    with pytest.raises(ValueError, match=r"effect\.pdf: figures are saved as \.png"):
        plots.save(grid(torch.eye(3)), tmp_path / "effect.pdf")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: grid(torch.ones(3)), r"values \[row, column\]"),
        (lambda: grid(torch.ones(2, 2), column_labels=["a"]), "1 labels for 2 entries of position"),
        (lambda: grid(torch.ones(2, 2), significant=torch.ones(3, 2)), "significant has shape"),
        (lambda: plots.bars(torch.ones(2), labels=["a"], title="t", unit="u"), "for 1 labels"),
        (
            lambda: plots.bars(torch.ones(1), labels=["a"], title="t", unit="u", controls=torch.ones(2)),
            "heights for",
        ),
        (
            lambda: plots.bars(torch.ones(1), labels=["a"], title="t", unit="u", interval=(np.ones(2), np.ones(2))),
            "interval ends",
        ),
        (lambda: plots.attention_pattern(torch.ones(2, 3), ["a"], title="t"), "does not fit 1 tokens"),
        (lambda: plots.tokens(["a"], torch.ones(2), title="t", unit="u"), "give one per token"),
    ],
)
def test_what_does_not_fit_is_refused(draw: object, message: str) -> None:
    assert callable(draw)
    with pytest.raises(ValueError, match=message):
        draw()
