"""The page on emergent heads says what the study measured."""

from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "emergent_heads.md").read_text(encoding="utf-8")


def measured(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "experiments" / "measured" / "emergent_heads" / f"{name}.csv")


def rows(head: str) -> list[list[str]]:
    lines = PAGE.split(head)[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def points(row: pd.Series, *names: str) -> str:
    value, low, high = (f"{100 * row[name]:+.0f}".replace("-", "−") for name in names)
    return f"{value} ({low} to {high})"


def test_what_emerges_by_each_recipe_is_that_of_the_table():
    counts = measured("counts").set_index("recipe")
    told = rows("| recipe | edges, base and post")
    assert len(told) == len(counts) == 3
    for recipe, edges, heads, emergent, sure, noise, p, lost in told:
        row = counts.loc[recipe]
        assert edges == f"{row['base_edges']:.0f}, {row['post_edges']:.0f}"
        assert heads == f"{row['base_heads']:.0f}, {row['post_heads']:.0f}"
        assert (emergent, sure, lost) == tuple(f"{row[name]:.0f}" for name in ("emergent", "sure", "lost"))
        assert noise == f"{max(row['noise_base'], row['noise_post']):.1f}" and p == f"{row['p']:.2f}"


def test_what_changing_heads_does_is_that_of_the_table():
    effects = measured("effects").set_index(["set", "way"])
    told = rows("| set (`step`) | way |")
    assert len(told) == 7
    for name, way, intact, changed, effect, random, of_them, corrected in told:
        row = effects.loc[(f"step: {name.split()[0]}", way)]
        assert name.endswith(f"({row['heads']:.0f})") and of_them == f"{row['controls']:.0f}"
        assert (intact, changed) == (f"{100 * row['before']:.0f}", f"{100 * row['after']:.0f}")
        assert effect == points(row, "effect", "low", "high")
        assert random == f"{100 * row['control_effect']:+.0f}".replace("-", "−")
        assert corrected == ("<0.001" if row["p_corrected"] < 0.001 else f"{row['p_corrected']:.2f}")


def test_what_the_text_says_is_measured():
    heads = measured("heads").set_index(["recipe", "layer", "head"])
    assert (heads.loc[("step", 2, 1), "emergent"], heads.loc[("step", 2, 3), "emergent"]) == (0.98, 0.57)
    patched = measured("patched").set_index(["direction", "set"])["effect"].round(2)
    assert (patched["post + base", "L2H1"], patched["post + base", "L2H3"]) == (-0.94, -0.93)
    assert (patched["base + post", "L2H1"], patched["base + post", "L2H3"]) == (0.12, 0.07)
    assert patched["post + base"].idxmin() == "L0H1"
    trades = measured("trades")
    assert not trades["trades"].any()
    row = trades.set_index(["set", "way"]).loc["step: retained", "zero"]
    assert f"{100 * row['difference']:+.0f}" == f"{100 * row['control_difference']:+.0f}" == "+78"
    failures = measured("failures").set_index(["set", "way", "outcome"]).loc["step: emergent", "zero", "loop"]
    assert f"{100 * failures['after']:.0f}" == "47" and f"{100 * failures['control_effect']:.0f}" == "11"
    overlaps = measured("overlaps")
    assert (overlaps.loc[overlaps["one"] == "base", "p_corrected"] == 1).all()


def test_which_circuits_share_more_than_chance_and_whose_heads_are_more_connected_is_measured():
    overlaps = measured("overlaps")
    assert (overlaps["p_corrected"] > 0.05).all()
    row = overlaps[overlaps["of"] == "edges"].set_index(["recipe", "one", "other"]).loc[("step", "4000", 8000)]
    assert (
        f"({row['jaccard']:.2f}, chance {row['chance']:.2f})" in PAGE
        and f"p {row['p']:.2g}, {row['p_corrected']:.2g} after" in PAGE
    )
    complexity = measured("complexity")
    step = complexity[(complexity["recipe"] == "step") & complexity["measure"].str.contains("degree")]
    assert len(complexity) == 12 and step["p"].round(4).eq(0.0099).all() and step["p_corrected"].round(2).eq(0.12).all()


def test_when_heads_and_accuracy_come_is_measured():
    accuracy = measured("accuracies").set_index("model")["accuracy"]
    assert [f"{100 * accuracy[step]:.0f}" for step in ("600", "1500", "4000")] == ["21", "35", "53"]
    cohorts = measured("cohorts").set_index(["recipe", "layer", "head"]).sort_index()
    assert cohorts.loc[("step", 2, 3), "first"] == 1500 and cohorts.loc[("step", 2, 1), "first"] == 4000
    assert (cohorts.loc[("step", 1, 3), ["first", "last"]] == 600).all()
    assert pd.isna(cohorts.loc[("step", 1, 2), "last"]) and cohorts.loc[("step", 0, 1), "last"] == 200
    new = cohorts[~cohorts["in_base"]]
    openings = new.loc["openings"]
    assert (openings["first"] == 200).sum() == 2 and not openings["at_end"].any()
    assert new.loc["published", "first"].min() == 4000


def test_how_many_new_heads_each_checkpoint_has_is_measured():
    steps = [200, 600, 1500, 4000, 8000]
    accuracy = measured("accuracies").set_index("model")["accuracy"]
    right = [f"{100 * accuracy[step]:.0f}" for step in ("200", "600", "1500", "4000", "post")]
    cohorts = measured("cohorts")
    counts = {}
    for recipe, new in cohorts[~cohorts["in_base"]].groupby("recipe"):
        present = dict.fromkeys(steps, 0)
        for head in new.itertuples():
            between = [step for step in steps if head.first <= step <= head.last]
            # One that comes again was there at the first and the last of them alone.
            there = between if len(between) == round(5 * head.frequency) else [head.first, head.last]
            assert len(there) == round(5 * head.frequency)
            for step in there:
                present[step] += 1
        counts[recipe] = list(present.values())
    assert counts == {"step": [0, 1, 1, 2, 2], "published": [0, 0, 0, 2, 3], "openings": [2, 0, 1, 1, 0]}
    page = " ".join(PAGE.split())
    for numbers in (right, *counts.values()):
        *most, last = map(str, numbers)
        assert f"{', '.join(most)} and {last}" in page
