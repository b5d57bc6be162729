"""The page on attention and causality says what the study measured."""

from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "attention_causality.md").read_text(encoding="utf-8")
FLAT = " ".join(PAGE.split())
KINDS = ("chosen", "random", "same part of speech")


def measured(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "experiments" / "measured" / "attention_causality" / f"{name}.csv")


def rows(head: str) -> list[list[str]]:
    lines = PAGE.split(head)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def share(value: float) -> str:
    return f"{100 * value:.0f}"


def points(row: pd.Series, name: str) -> str:
    value, low, high = (f"{100 * row[f'{name}{end}']:.0f}".replace("-", "−") for end in ("", "_low", "_high"))
    return f"{value} ({low} to {high}"


@pytest.fixture(scope="module")
def masking() -> pd.DataFrame:
    return measured("masking").set_index(["model", "tokens", "k", "masked"]).sort_index()


@pytest.fixture(scope="module")
def forcing() -> pd.DataFrame:
    table = measured("forcing").query("steps == 'matched'").astype({"layer": str})
    return table.set_index(["model", "weight", "layer", "forced_onto"]).sort_index()


def test_right_proofs_of_models_are_as_told():
    for row in measured("models").to_dict("records"):
        name = row["model"].removeprefix("deductor-")
        ends = f" ({share(row['low'])} to {share(row['high'])}" if row["accuracy"] else ""
        assert f"{name} {share(row['accuracy'])} %{ends}" in FLAT


def test_what_masking_leaves_is_that_of_the_table(masking):
    told = rows("| model (nothing hidden) | k |")
    assert len(told) == 9
    name = ""
    for model, k, *cells in told:
        name = f"deductor-{model.split()[0]}" if model else name
        found = []
        for tokens in ("all", "content"):
            for kind in KINDS:
                row = masking.loc[(name, tokens, int(k), kind)]
                if model:
                    assert model.endswith(f"({share(row['accuracy'] + row['loss'])})")
                filled = kind != "chosen" and (kind == KINDS[2] or share(row["overlap"]) != "0")
                found.append(share(row["accuracy"]) + (f" ({share(row['overlap'])})" if filled else ""))
        assert cells == found, (name, k)


def test_what_forcing_gains_is_that_of_the_table(forcing):
    told = rows("| model (not forced) | weight |")
    assert len(told) == 20
    name = at = ""
    for model, weight, layer, *gains in told:
        name, at = (f"deductor-{model.split()[0]}" if model else name), weight or at
        found = forcing.loc[(name, float(at), layer)]
        if model:
            assert model.endswith(f"({share(found['not_forced'].iloc[0])} %)")
        expected = [f"{100 * found.loc[kind, 'gain']:+.0f}" for kind in ("right", *KINDS[1:])]
        assert [gain.replace("−", "-") for gain in gains] == expected, (name, at, layer)
    assert "No failing model gains" in PAGE and not ((forcing["gain"] > 0) & (forcing["gain_p_corrected"] < 0.05)).any()


def test_what_is_said_of_masking_is_measured(masking):
    small, middle, large = (masking.loc[f"deductor-{size}"] for size in ("130k", "400k", "1m"))
    costs = [share(each.loc[("all", 2, "chosen"), "loss"]) for each in (small, middle, large)]
    assert "costs {}, {} and {} points".format(*costs) in FLAT
    more = [points(each.loc[("all", 2, "random")], "chosen_costs_more") for each in (small, middle, large)]
    assert "less by {}), {}) and {})".format(*more) in FLAT
    same = [each.loc[("content", 2, "same part of speech")] for each in (small, middle, large)]
    for row, text in zip(same, ("by {}) in the 130k", "by {}) in the 400k", "{}) in the 1m"), strict=True):
        told = points(row, "chosen_costs_more")
        assert text.format(told.replace(" (", " points (", 1)) in FLAT or text.format(told) in FLAT
    assert [round(row["chosen_costs_more_p_corrected"], 3) for row in (same[0], same[2])] == [0.004, 0.004]
    row = middle.loc[("content", 4, "same part of speech")]
    assert points(row, "chosen_costs_more") == "25 (11 to 38" and round(row["chosen_costs_more_p_corrected"], 2) == 0.02
    fresh = [each.loc[("content", 2, "random")] for each in (small, middle, large)]
    assert [points(row, "chosen_costs_more") for row in fresh] == ["29 (13 to 43", "6 (−9 to 20", "25 (10 to 39"]
    assert [round(row["chosen_costs_more_p_corrected"], 2) for row in (fresh[0], fresh[2])] == [0.03, 0.08]
    row = small.loc[("content", 4, "same part of speech")]
    assert points(row, "chosen_costs_more") == "4 (−11 to 20" and "(4 points less, −11 to 20;" in FLAT
    two = [each.loc[("all", 2, "random"), "loss"] for each in (small, middle, large)]
    assert f"two of any kind {share(min(two))} to {share(max(two))} points" in FLAT


def test_what_is_said_of_forcing_is_measured(forcing):
    for name, layer, weight, told, p in (
        ("20k", "1", 1.0, "14 (10 to 20", 0.006),
        ("5k", "1", 1.0, "13 (5 to 19", 0.13),
        ("60k", "2", 1.0, "5 (2 to 9", 0.50),
        ("20k", "0", 0.25, "−16 (−22 to −9", None),
        ("60k", "0", 0.25, "−29 (−37 to −21", None),
        ("60k", "0", 1.0, "57 (50 to 64", None),
    ):
        row = forcing.loc[(f"deductor-{name}", weight, layer, "same part of speech")]
        assert points(row, "right_gains_more") == told, name
        found = row["right_gains_more_p_corrected"]
        assert round(found, 3 if p == 0.006 else 2) == p if p else found < 0.02
    row = forcing.loc[("deductor-60k", 1.0, "0", "right")]
    assert (
        (share(row["fixed"]), share(row["broken"])) == ("38", "33") and "38 % of them" in FLAT and "33 % there" in FLAT
    )
