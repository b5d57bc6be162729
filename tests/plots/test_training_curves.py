"""A training's figure: what was logged, which checkpoint was chosen, the margin, and rewards in their own panel."""

import io
import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from circuitkit import plots

STEPS = np.arange(10, 101, 10)
CURVE = pd.DataFrame(
    {
        "step": STEPS,
        "epoch": STEPS / 20,
        "loss": 2.0 / np.sqrt(STEPS),
        "validation_loss": [0.9, np.nan, 0.7, np.nan, 0.6, np.nan, 0.65, np.nan, 0.8, np.nan],
    }
)


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for legend in axes.figure.legends for text in legend.get_texts()]


def render(axes: Axes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes.figure.savefig(io.BytesIO(), format="png")


def test_it_draws_what_was_logged_and_marks_what_was_chosen() -> None:
    axes = plots.training_curves(CURVE, chosen=70, rule="last within", margin=0.1, title="a model on proofs")
    assert texts(axes) == [
        "training loss",
        "validation loss",
        "within 0.1 nats of the best",
        "chosen by the rule “last within”: step 70",
    ]
    training, validation, ring, chosen = axes.lines
    assert training.get_ydata().tolist() == CURVE["loss"].tolist()
    # NaN is a step at which nothing was measured, and no gap in the line.
    assert validation.get_xdata().tolist() == [10, 30, 50, 70, 90]
    assert ring.get_xydata().tolist() == [[70, 0.65]] and set(chosen.get_xdata()) == {70}
    (band,) = axes.patches
    assert (band.get_y(), band.get_height()) == (0.6, pytest.approx(0.1))
    assert axes.get_title() == "a model on proofs" and axes.get_ylabel() == "loss, nats a token"
    assert axes.get_xlabel() == "step (20 steps an epoch, 5 epochs)"
    render(axes)


def test_rewards_have_a_panel_of_their_own() -> None:
    curve = CURVE.assign(reward=np.linspace(0.1, 0.8, 10), validation_reward=[np.nan, 0.5] * 5)
    axes = plots.training_curves(curve, chosen=100, loss_name="policy loss")
    above, below = axes.figure.axes
    assert axes is above and below.get_ylabel() == "mean reward" and above.get_xlabel() == ""
    drawn = {line.get_label(): list(line.get_ydata()) for line in below.lines}
    assert drawn["reward in training"] == pytest.approx(np.linspace(0.1, 0.8, 10).tolist())
    assert drawn["validation reward"] == [0.5] * 5
    render(axes)


def test_a_training_without_validation_and_one_of_many_steps_can_be_drawn() -> None:
    plain = plots.training_curves(CURVE[["step", "loss"]])
    assert texts(plain) == ["training loss"] and plain.get_xlabel() == "step"
    many = pd.DataFrame({"step": range(1, 301), "loss": np.linspace(2, 1, 300)})
    assert plots.training_curves(many).lines[0].get_marker() in ("", "None")
    assert plots.training_curves(CURVE[["step", "loss"]]).lines[0].get_marker() == "."
    render(plots.training_curves(CURVE.assign(epoch=0.0).head(1)))


def test_losses_can_stand_among_other_axes() -> None:
    mine = plots.new_axes(4, 3)
    assert plots.training_curves(CURVE.assign(reward=1.0), chosen=50, axes=mine) is mine
    assert len(mine.figure.axes) == 1 and mine.get_legend() is not None


def test_a_curve_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="a column named step"):
        plots.training_curves(CURVE.drop(columns="step"))
