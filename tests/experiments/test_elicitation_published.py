"""The elicitation paper's table through its study: shares, figures, sentences."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from eliciting import figures
from eliciting.published import (
    BENCHMARKS,
    CHANCE,
    accuracies,
    fewest,
    lora_table,
    loss_order,
    published_study,
    recovered_table,
    table_1,
)
from matplotlib import image

AIME, GPQA = BENCHMARKS.values()
# By hand from the printed table: 29, 58, 116, 232, 464 and 928 examples, then rank-1 LoRA.
BY_HAND = {
    ("1.5B", AIME): (-4, -5, -4, -5, -2, -5, -5),
    ("7B", AIME): (-24, 10, 3, -4, 9, 22, 13),
    ("7B", GPQA): (-314, -18, -53, -47, 15, 38, -158),
    ("14B", AIME): (-17, 24, 29, 36, 42, 50, 23),
    ("14B", GPQA): (-67, 44, 46, 68, 81, 78, 36),
    ("32B", AIME): (39, 43, 62, 69, 70, 78, 55),
    ("32B", GPQA): (91, 87, 103, 122, 117, 105, 86),
}


@pytest.fixture(scope="module")
def shares() -> pd.DataFrame:
    return recovered_table(draws=500)


def test_the_shares_are_those_of_the_printed_table(shares: pd.DataFrame) -> None:
    assert len(shares) == 2 * 4 * 7
    for (size, benchmark), expected in BY_HAND.items():
        rows = shares[(shares["size"] == size) & (shares["benchmark"] == benchmark)]
        assert rows["examples"].tolist() == [29, 58, 116, 232, 464, 928, 1000]
        assert rows["recovered"].to_numpy() == pytest.approx(np.array(expected), abs=1.0)


def test_29_examples_recover_39_and_92_per_cent_at_32b(shares: pd.DataFrame) -> None:
    found = shares.query("size == '32B' and examples == 29").set_index("benchmark")["recovered"]
    assert found.round().to_dict() == {AIME: 39, GPQA: 91} and round(found[GPQA], 1) == 91.5


def test_the_smallest_models_share_on_gpqa_is_undefined_and_no_other(shares: pd.DataFrame) -> None:
    missing = shares[shares["undefined"].notna()]
    assert set(zip(missing["size"], missing["benchmark"], strict=True)) == {("1.5B", GPQA)} and len(missing) == 7
    assert missing["recovered"].isna().all() and shares.loc[shares.index.difference(missing.index), "se"].notna().all()


def test_lora_has_70_and_82_per_cent_of_full_fine_tunings_gain() -> None:
    found = lora_table(draws=500).query("size == '32B'").set_index("benchmark")["recovered"]
    assert found.round().to_dict() == {AIME: 70, GPQA: 82}


def test_the_fewest_examples_that_help_are_fewer_the_larger_the_model(shares: pd.DataFrame) -> None:
    found = fewest(shares).set_index(["benchmark", "size"])["fewest"]
    assert found[GPQA].fillna(0).to_dict() == {"1.5B": 0, "7B": 0, "14B": 58, "32B": 29}
    assert found[AIME].fillna(0).to_dict() == {"1.5B": 0, "7B": 928, "14B": 58, "32B": 29}


def test_a_panel_shows_every_defined_share(shares: pd.DataFrame) -> None:
    aime, gpqa = figures.shares(shares).axes
    marked = [value for line in aime.lines for value in line.get_ydata() if line.get_marker() in "osD^"]
    expected = shares.loc[shares["benchmark"] == AIME, "recovered"]
    assert sorted(marked) == pytest.approx(sorted(expected))
    assert gpqa.get_title() == "GPQA Diamond (1.5B: undefined)"
    assert [text.get_text() for text in gpqa.texts] == ["−314"]


def test_sizes_stand_in_the_published_order_of_their_loss(shares: pd.DataFrame) -> None:
    assert loss_order() == ["1.5B", "32B", "14B", "7B"]
    axes = figures.gains(shares, loss_order()).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == loss_order()
    means = {
        round(line.get_xdata()[0]): line.get_ydata()[0] for line in axes.lines if line.get_marker() == "X"
    }  # fmt: skip
    gain = shares.query("training == 'full'").loc[lambda rows: rows["benchmark"] == AIME].groupby("size")["gain"].mean()
    assert [means[place] for place in range(4)] == pytest.approx(gain.loc[loss_order()].tolist())


def test_bars_and_lines_are_the_tables() -> None:
    table = accuracies()
    axes = figures.bars(table, CHANCE).axes[1]
    heights = sorted(bar.get_height() for bar in axes.patches)
    chosen = table[(table["benchmark"] == GPQA) & ((table["training"] != "full") | (table["examples"] == 928))]
    assert heights == pytest.approx(sorted(chosen["accuracy"]))
    assert "± standard error over seeds" in [
        text.get_text() for text in figures.bars(table, CHANCE).legends[0].get_texts()
    ]
    panels = figures.every_accuracy(table, CHANCE).axes
    assert [axes.get_title() for axes in panels][:5] == [
        *(f"{size}, {AIME}" for size in ("1.5B", "7B", "14B", "32B")),
        f"1.5B, {GPQA}",
    ]


@pytest.mark.slow
def test_the_study_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published_study(tmp_path, draws=200, seed=0)
    told = capsys.readouterr().out
    assert "39.2 % of the way to the skyline" in told and "91.5 % of the way to the skyline" in told
    assert "29 examples improve 32B on both benchmarks by more than the error" in told
    assert "has as much as 80 % recovered" in told and "80 % is within the interval" in told
    assert "the share is undefined: the skyline does not beat the base by more than its error" in told
    assert "8 trained models are below chance (25 %) by more than two errors: 1.5B (7), 7B (1)" in told
    assert pd.read_csv(tmp_path / "table_1.csv").shape == table_1().shape == (36, 7)
    written = {path.name for path in tmp_path.iterdir()}
    drawn = {f"figure_{n}.png" for n in range(1, 5)}
    assert written == drawn | {name.replace(".png", ".svg") for name in drawn} | {
        "table_1.csv", "recovered.csv", "lora_against_full.csv", "fewest_examples.csv", "trainable_shares.csv",
        "sentences.md", "provenance.json",
    }  # fmt: skip
    assert all(image.imread(tmp_path / name).shape[0] > 500 for name in drawn)
