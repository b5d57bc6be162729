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

import circuitkit as ck
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


def test_spans_make_an_annotated_map_of_edges() -> None:
    values = torch.tensor([[0.5, torch.nan], [-2.25, -0.001]])
    axes = plots.edge_map(
        values,
        queries=["rule", "question"],
        keys=["rule", "question"],
        title="Cut",
        unit="logits",
        significant=torch.tensor([[False, False], [True, False]]),
    )
    assert axes.yaxis_inverted() and axes.patch.get_hatch()
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "0.50", (0, 1): "−2.25", (1, 1): "0.00"}
    (frame,) = axes.patches
    assert (frame.get_x() + frame.get_width() / 2, frame.get_y() + frame.get_height() / 2) == pytest.approx((0, 1))
    assert [text.get_fontweight() for text in axes.texts] == ["normal", "bold", "normal"]
    assert legend_texts(axes) == ["survives correction", "no such edge: the key comes after the query"]
    assert colour_bar_label(axes) == "logits" and rendered(axes)


def test_maps_between_many_tokens_have_dots_and_no_numbers() -> None:
    values = torch.ones(20, 20).tril()
    words = [f"tok{i}" for i in range(20)]
    significant = torch.eye(20, dtype=torch.bool)
    axes = plots.edge_map(values, queries=words, keys=words, title="t", unit="u", significant=significant)
    assert not axes.texts and len(axes.get_lines()[0].get_xdata()) == 20
    assert rendered(axes)


def a_result(cells: torch.Tensor, axes: tuple[str, ...]) -> Result:
    """A denoising result whose normalised effects are these, with every example alike."""
    per_example = cells[..., None].expand(*cells.shape, 8).clone()
    return Result(per_example, axes, Baseline(torch.ones(8), torch.zeros(8)), "denoise", "kl", "nats", title="Study")


def titled(axes: Axes) -> dict[str, Axes]:
    return {each.get_title(): each for each in axes.figure.axes if each.get_title()}


def test_a_third_axis_makes_panels_on_one_scale() -> None:
    cells = torch.zeros(2, 3, 4)
    cells[1, 2, 3] = 0.75
    result = a_result(cells, ("layer", "head", "position"))
    axes = result.plot()
    drawn = titled(axes)
    assert list(drawn) == ["layer 0", "layer 1"] and drawn["layer 0"] is axes
    assert [each.images[0].get_clim() for each in drawn.values()] == [(-0.75, 0.75)] * 2
    assert [each.get_array()[2, 3] for panel in drawn.values() for each in panel.images] == [0.0, 0.75]
    assert [len(panel.get_lines()[0].get_xdata()) for panel in drawn.values()] == [0, 1]
    (bar,) = [each for each in axes.figure.axes if each not in drawn.values()]
    assert bar.get_ylabel() == "share of clean − corrupt restored"
    assert "Study" in axes.figure.get_suptitle() and rendered(axes)
    with pytest.raises(ValueError, match="panels on a figure of their own"):
        result.plot(axes=plots.new_axes(2, 2))


def test_a_fourth_axis_names_both_and_heads_that_are_not_there_have_no_panel() -> None:
    cells = torch.zeros(2, 2, 2, 2)
    cells[..., 0, 1] = torch.nan
    cells[1, 1] = torch.nan
    axes = a_result(cells, ("layer", "head", "query", "key")).plot()
    assert list(titled(axes)) == ["layer 0, head 0", "layer 0, head 1", "layer 1, head 0"]
    assert axes.yaxis_inverted() and "no such edge" in legend_texts(axes)[-1]
    assert rendered(axes)


def test_of_many_panels_the_strongest_are_drawn_and_the_rest_counted(tmp_path: Path) -> None:
    cells = torch.linspace(0, 1, 40)[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    result = a_result(cells[:, None, None].expand(40, 2, 2), ("layer", "head", "position"))
    axes = result.plot(of="effect")
    strongest = cells.argsort(descending=True)[:12].tolist()
    assert list(titled(axes)) == [f"layer {layer}" for layer in strongest]
    assert "28 weaker ones are left out" in axes.figure.get_suptitle()
    assert image.imread(plots.save(axes, tmp_path / "many.png")).ndim == 3


@given(st.integers(1, 5), st.integers(1, 7), st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=4, deadline=None)
def test_panels_of_any_shape_are_drawn(layers: int, heads: int, rows: int, columns: int) -> None:
    axes = a_result(torch.zeros(layers, heads, rows, columns), ("layer", "head", "query", "key")).plot()
    assert rendered(axes)


def test_a_growth_is_drawn_over_its_random_sets() -> None:
    model = ck.load("deductor-5k")
    growth = ck.ablation.grow(model, ["Every wumpus is a dumpus.", "Fae is a wumpus."], 2, controls=4, progress=False)
    axes = plots.growth_curve(growth)
    grown = axes.get_lines()[0]
    assert grown.get_ydata().tolist() == pytest.approx(growth.result.effects.tolist())
    assert [text.get_text() for text in axes.get_xticklabels()] == list(growth.result.labels["size"])
    random = next(line for line in axes.get_lines() if str(line.get_label()).startswith("random"))
    means = [np.nan if control is None else control.mean for control in growth.controls]
    np.testing.assert_allclose(random.get_ydata(), means)
    assert axes.get_ylabel() == "kl, clean − value [nats]" and rendered(axes)


def test_sets_stand_beside_their_random_sets() -> None:
    sets = {"one": [(0, 0)], "every head": [(0, head) for head in range(ck.load("deductor-5k").n_heads(0))]}
    joint = ck.ablation.sets(ck.load("deductor-5k"), ["Every wumpus is a dumpus."], sets, progress=False)
    axes = plots.joint_effects(joint)
    effects, controls = axes.containers
    assert [bar.get_height() for bar in effects] == pytest.approx(joint.result.effects.tolist())
    assert joint.controls[1] is None and np.isnan(controls[1].get_height())
    assert rendered(axes)


def test_total_effects_are_drawn_against_direct_ones() -> None:
    prompts = ["Every wumpus is a dumpus.", "Fae is a wumpus."]
    both = ck.ablation.effects(ck.load("deductor-5k"), prompts, progress=False)
    axes = plots.total_and_direct(both)
    (spots,) = axes.collections
    assert spots.get_offsets().tolist() == both.frame[["direct", "total"]].to_numpy().tolist()
    strongest = both.frame.loc[both.frame[["direct", "total"]].abs().max(axis=1).idxmax()]
    assert f"{strongest['layer']:.0f}.{strongest['head']:.0f}" in {text.get_text() for text in axes.texts}
    assert (axes.get_xlabel()[:13], axes.get_ylabel()[:12]) == ("direct effect", "total effect")
    assert "total and direct effect" in axes.get_title() and rendered(axes)


def test_figures_may_share_a_canvas() -> None:
    left, right = Figure(figsize=(12, 5), layout="constrained").subplots(1, 2)
    assert grid(torch.eye(3), significant=torch.eye(3, dtype=torch.bool), axes=left) is left
    assert plots.bars(torch.ones(2), labels=["a", "b"], title="t", unit="u", axes=right) is right
    assert not left.figure.legends and left.get_legend() is not None
    assert rendered(left)


def test_saved_figures_are_whole_images_and_pyplot_stays_untouched(tmp_path: Path) -> None:
    backend = mpl.rcParams._get_backend_or_none()  # type: ignore[attr-defined]
    path = plots.save(grid(torch.eye(3)), tmp_path / "figures" / "effect.png")
    assert image.imread(path).ndim == 3 and sorted(path.parent.iterdir()) == [path, path.with_suffix(".svg")]
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
        (
            lambda: plots.edge_map(torch.ones(2), queries=["a"], keys=["a"], title="t", unit="u"),
            r"values \[query, key\]",
        ),
        (
            lambda: plots.panels(
                torch.full((1, 2, 2), torch.nan), names=["a"], title="t", row_name="r", column_name="c", unit="u"
            ),
            "nothing to draw",
        ),
        (lambda: plots.tokens(["a"], torch.ones(2), title="t", unit="u"), "give one per token"),
    ],
)
def test_what_does_not_fit_is_refused(draw: object, message: str) -> None:
    assert callable(draw)
    with pytest.raises(ValueError, match=message):
        draw()
