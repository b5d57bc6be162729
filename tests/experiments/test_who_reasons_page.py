"""The page on who reasons says what the study measured."""

from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "who_reasons.md").read_text(encoding="utf-8")
SETS = ("o_proj", "q, k, v", "mlp", "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj")


def measured(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "experiments" / "measured" / "who_reasons" / f"{name}.csv")


def rows(heading: str) -> list[list[str]]:
    part = PAGE.split(f"### {heading}\n")[1].split("\n#")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def per_cent(share: float) -> str:
    return f"{100 * share + 0.0:.0f}".replace("-0", "0")


def points(row: pd.Series, name: str, ends: str | None = None) -> str:
    found = (row[name], row[f"{ends or name}_low"], row[f"{ends or name}_high"])
    value, low, high = (f"{100 * each:+.0f}".replace("-", "−") for each in found)
    return f"{value} ({low} to {high})"


@pytest.fixture(scope="module")
def merges() -> pd.DataFrame:
    return measured("merges").set_index(["pair", "direction", "set"]).sort_index()


def test_what_grafts_of_o_proj_do_is_that_of_the_table(merges):
    told = rows("o_proj and as many other weights")
    assert len(told) == 2 * len(merges.index.unique("pair"))
    for pair, way, intact, accuracy, effect, others, beyond, p, corrected in told:
        row = merges.loc[(pair, way, "o_proj")]
        assert intact == per_cent(merges.loc[(pair, way, "none"), "accuracy"])
        assert accuracy == f"{per_cent(row['accuracy'])} ({per_cent(row['low'])} to {per_cent(row['high'])})"
        assert effect == points(row, "effect") and beyond == points(row, "margin")
        assert others == points(row, "control_effect", "control")
        assert (p, corrected) == (f"{row['p']:.3f}", f"{row['p_corrected']:.2f}")


def test_every_set_is_that_of_the_table(merges):
    told = rows("Every set, and as many other weights")
    assert len(told) == 2 * len(merges.index.unique("pair"))
    for pair, way, *shares in told:
        own = merges.loc[(pair, way)]
        expected = [per_cent(own.loc[name, "accuracy"]) for name in ("none", "all projections")]
        for name in SETS:
            row = own.loc[name]
            controls = row["accuracy"] - row["effect"] + row["control_effect"]
            expected.append(f"{per_cent(row['accuracy'])} / {per_cent(controls)}")
        assert shares == expected


def test_trainings_are_those_of_the_table():
    table = measured("trainings")
    own = table[table["kind"] == "set"].set_index("set")
    told = rows("Freeze")
    assert [row[0] for row in told] == own.index.tolist()
    for name, trained, accuracy, seeds, rates in told:
        row = own.loc[name]
        assert trained == f"{row['trainable']:,}" and (seeds, rates) == (row["seeds"], row["rates"])
        assert accuracy == f"{per_cent(row['accuracy'])} ({per_cent(row['low'])} to {per_cent(row['high'])})"


def test_what_is_said_in_words_is_so(merges):
    flat = " ".join(PAGE.split())
    sets = merges[merges["kind"] == "set"]
    into, back = (sets.xs(way, level="direction") for way in ("into A", "back into B"))
    whole = merges.xs(("into A", "all projections"), level=("direction", "set"))["accuracy"]
    assert "lift A to 19 to 55 %" in flat and [per_cent(whole.min()), per_cent(whole.max())] == ["19", "55"]
    assert into["effect"].max() < 0.03 and not (sets["p_corrected"] < 0.05).any()
    left = [
        per_cent(back.loc[(pair, "o_proj"), "accuracy"]) for pair in ("deductor-130k", "deductor-400k", "deductor-1m")
    ]
    assert left == ["15", "60", "40"] and "are left 15, 60 and 40 %" in flat
    p = back.xs("o_proj", level="set")["p"]
    assert p.min() > 0.34 and p.max() <= 0.6
    keys = back.xs("k_proj", level="set")["accuracy"]
    assert (per_cent(keys.min()), per_cent(keys.max())) == ("6", "25") and "leaves 6 to 25 %" in flat
    assert (back.xs("q, k, v", level="set")["accuracy"] < 0.035).all()
    fluency = back["fluency_change"].unstack("set").drop("deductor-130k trained here")
    assert (fluency.idxmin(axis=1) == "mlp").all()
    moved = into.xs("o_proj", level="set")["moved"]
    assert "10 to 13 % of the squared change" in flat and moved.min() > 0.095 and moved.max() < 0.135
    trained = measured("trainings").set_index("set").loc["o_proj"]
    ends = tuple(round(100 * trained[f"margin_{end}"]) for end in ("low", "high"))
    assert ends == (1, 22) and "beyond their mean (1 to 22)" in flat
    assert trained["p"] == 0.3 and round(100 * trained["margin"]) == 11 and "5 of 19 sets do as well (p = 0.30)" in flat


def test_what_is_said_of_destruction_is_so():
    table = measured("destructions").query("how == 'zero'").set_index(["layers", "set"])
    for layer, shares in (("1", "58, 51 and 65 %"), ("2", "49, 28 and 3 %")):
        found = [per_cent(table.loc[(layer, name), "accuracy"]) for name in ("q_proj", "o_proj", "down_proj")]
        assert f"{found[0]}, {found[1]} and {found[2]} %" == shares and shares in PAGE
    for same in (("q_proj", "k_proj"), ("v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj", "mlp")):
        for layer in ("0", "1", "2", "all"):
            assert table.loc[[(layer, name) for name in same], "accuracy"].nunique() == 1
    assert not table.xs("all", level="layers")["accuracy"].any()
    row = table.loc[("1", "o_proj")]
    # What is right is of level IV, but for what repeats itself.
    assert per_cent(row["accuracy"] - row["level IV"]) == "44"
    assert "in 44 % of the answers of B without layer 1's attention" in PAGE
