"""What docs/elicitation.md says of the embedded family is what the study measured."""

from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "elicitation.md").read_text(encoding="utf-8")
FLAT = " ".join(PAGE.split())
BENCHMARKS = {"proofs found": "proofs found", "strictly right": "proofs strictly right"}


def measured(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "experiments" / "measured" / "elicitation" / f"{name}.csv")


def rows(head: str) -> list[list[str]]:
    lines = PAGE.split(head)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def told(value: float, digits: int = 0) -> str:
    text = f"{value:.{digits}f}"
    return text.replace("-", "−" if float(text) else "")


@pytest.fixture(scope="module")
def elicited() -> pd.DataFrame:
    return measured("elicited").set_index(["benchmark", "size", "training"]).sort_index()


@pytest.mark.parametrize("head", BENCHMARKS)
def test_what_is_recovered_is_that_of_the_table(elicited: pd.DataFrame, head: str) -> None:
    for size, base, skyline, *cells in rows(f"| {head} | base | skyline |"):
        own = elicited.loc[BENCHMARKS[head]].loc[size]
        ends = [f"{own.loc[name, 'accuracy'].item():.1f}" for name in ("none", "distilled")]
        assert [base, skyline] == ends
        trained = [*own.loc["full"].sort_values("examples").to_dict("records"), own.loc[["lora"]].iloc[0].to_dict()]
        for cell, row in zip(cells, trained, strict=True):
            if isinstance(row["undefined"], str):
                assert cell == "undefined"
            else:
                value, low, high = (told(row[name]) for name in ("recovered", "low", "high"))
                assert cell == f"{value} ({low} to {high})"


def test_29_examples_suffice_at_no_size() -> None:
    asked = measured("sufficiency").query("benchmark == 'proofs found'").dropna(subset="recovered")
    assert not asked["suffices"].any() and (asked["level"] == 0.99).all() and "**At no size from 20k to 1m.**" in FLAT
    for row in asked.to_dict("records"):
        value, low, high = (told(row[name]) for name in ("recovered", "low", "high"))
        assert f"{row['size']} {value} % ({low} to {high})" in FLAT


def test_how_weights_and_representations_moved_is_that_of_the_table() -> None:
    means = measured("comparisons").query("examples == 29").groupby("size").mean(numeric_only=True)
    names = ("moved", "moved_of_skyline", "stable_rank", "cosine", "cka_base", "cka_skyline", "cka_approach")
    lines = rows("| 29 examples | moved, relative to the base |")
    assert len(lines) == 6
    for size, *cells in lines:
        assert cells == [told(means.loc[size, name], 2) for name in names]


def test_what_is_said_in_words_is_so(elicited: pd.DataFrame) -> None:
    full = elicited.loc["proofs found"].xs("full", level="training").set_index("examples", append=True)
    for size, fall, gain in (("60k", 0.98, 4), ("130k", 1.15, 78), ("1m", 1.01, 3)):
        row = full.loc[(size, 928)]
        assert (round(row["loss_decrease"], 2), round(row["gain"])) == (fall, gain)
    half = full[full["low"] >= 50].index.tolist()
    assert half == [("130k", 232), ("130k", 464), ("130k", 928), ("400k", 464)]
    assert full.loc[half, "p_gain_corrected"].max() <= 0.03 and full.loc[("400k", 928), "p_gain_corrected"] > 0.05
    lora = elicited.loc["proofs found"].xs("lora", level="training")
    shares = (100 * lora["trainable"] / lora["parameters"]).round(1)
    assert (shares["1m"], shares["5k"]) == (1.0, 7.7) and "trains 1.0 % (1m) to 7.7 % (5k) of the parameters" in FLAT
    gain = measured("against_gain").set_index(["examples", "measure"])
    few, many = gain.loc[(29, "cka_skyline")], gain.loc[(928, "cka_approach")]
    assert [round(few[name], 3) for name in ("correlation", "p", "p_corrected")] == [0.886, 0.033, 0.233]
    assert [round(many[name], 2) for name in ("correlation", "p", "p_corrected")] == [0.77, 0.10, 0.72]
    projections = measured("moved_by_role").query("examples == 29 and role not in ('norm', 'embed+lm_head')")
    moved = projections.groupby(["size", "role"])["relative"].mean()
    assert f"{100 * moved.min():.0f} to {100 * moved.max():.0f} % of their norm" in FLAT
