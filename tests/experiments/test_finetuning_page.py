"""What docs/finetuning.md says of tables is what the tables say."""

import re
from pathlib import Path

import pandas as pd
import pytest
from tuning import findings, published
from tuning.texts import RULES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "finetuning.md").read_text(encoding="utf-8")
FLAT = " ".join(PAGE.split())
HOW = {
    "base, 3 exemplars": ("none", 3),
    "base, none": ("none", 0),
    "tuned": ("all", 0),
    "tuned, last": ("all, last step", 0),
}


def measured(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "experiments" / "measured" / "finetuning" / f"{name}.csv")


def rows(heading: str) -> list[list[str]]:
    part = PAGE.split(f"### {heading}\n")[1].split("\n### ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


@pytest.fixture(scope="module")
def confound() -> pd.DataFrame:
    table = measured("confound")
    return table.set_index(["model", "training", "shots", "decoding", "separator", "rule"]).sort_index()


def test_accuracy_before_and_after_is_that_of_the_table(confound):
    told = rows("Before and after")
    assert len(told) == 20
    for model, how, *shares in told:
        found = [confound.loc[(model, *HOW[how], "clean", "published", rule), "headline"] for rule in RULES]
        assert shares == [f"{100 * share:.0f}" for share in found]


def test_decodings_and_judges_are_those_of_the_table(confound):
    told = rows("Decoding, separator and judge")
    assert len(told) == 12
    for model, decoding, *shares in told:
        way = {"greedy": "clean", "published": "paper"}[decoding]
        found = [confound.loc[(model, "all", 0, way, "published", rule)] for rule in RULES]
        assert shares == [f"{100 * row['headline']:.0f}/{100 * row['strict']:.0f}" for row in found]
    paper = confound.xs("paper", level="decoding").query("shots == 0 and training == 'all'")
    assert not paper[["said Assume", "said Since", "said contradicts"]].to_numpy().any()
    for size, one, two in (("20k", 27, 7), ("60k", 29, 61), ("130k", 24, 12)):
        at = (f"deductor-{size}-base", "all", 0, "clean")
        shares = [confound.loc[(*at, gap, "disjunction_elimination"), "headline"] for gap in ("trained", "published")]
        assert [round(100 * share) for share in shares] == [one, two]
        assert f"{one} to {two} %" in PAGE


def test_rules_left_out_are_those_of_the_table():
    table = measured("transfer").query("judge == 'headline'").set_index(["model", "rule"])
    strict = measured("transfer").query("judge == 'strict'").set_index(["model", "rule"])
    told = rows("Rules left out")
    assert len(told) == 12 and set(table["n"]) == {200}
    for model, rule, *cells in told:
        row = table.loc[(model, rule.replace(" ", "_"))]
        untrained, without, whole = (
            f"{100 * row[name]:.0f} ({100 * row[f'{name}_low']:.0f} to {100 * row[f'{name}_high']:.0f})"
            for name in ("untrained", "without", "all")
        )
        shares = strict.loc[(model, rule.replace(" ", "_")), ["without", "all"]]
        strictly = ", ".join(f"{100 * share:.0f}" for share in shares)
        assert cells == [untrained, without, row["seeds"], whole, strictly]
    large = strict.loc["deductor-130k-base"]
    assert large["without"].max() == 1 / 200 and not (large["gain_p_corrected"] < 0.05).any()
    assert "Strictly nothing carries over in 130k (at most 1 of 200 proofs a rule)" in FLAT


def test_untrained_models_under_the_published_decoding_are_as_said(confound):
    bases = confound.xs("paper", level="decoding").query("training == 'none' and shots == 0")
    bases = bases.drop(index="deductor-130k-reason", level="model").reset_index()
    lenient = bases[bases["rule"] == "conjunction_elimination"]
    assert bases.loc[bases["rule"] != "conjunction_elimination", "headline"].max() == 0.03
    assert (lenient["headline"].min(), lenient["headline"].max(), lenient["strict"].max()) == (0.58, 0.99, 0.02)
    assert "0 to 3 % under the published decoding, except in conjunction elimination (58 to 99 %, at most 2 %" in FLAT


def test_training_questions_are_proved_better_where_it_is_said():
    table = measured("memorising").query("other == 'new questions'")
    worse = table[table["high"] < 0]
    assert (len(table), len(worse)) == (48, 3) and not (table["low"] > 0).any()
    for row in worse.to_dict("records"):
        assert f"{100 * row['on usual']:.0f} to {100 * row['on other']:.0f} %" in FLAT
    assert "of 48 comparisons" in FLAT


def test_names_that_were_never_shown_are_never_said():
    table = measured("memorising").query("model == 'deductor-130k-base' and other == 'withheld names'")
    assert (table["on other"] == 0).all()
    assert [round(100 * share) for share in table["on usual"]] == [82, 97, 94, 100, 36, 47]
    assert "82, 97, 94, 100, 36 and 47 %" in PAGE


def test_stages_are_those_of_the_table():
    table, every = measured("contrasts"), measured("stages")
    pd.testing.assert_frame_equal(findings.contrasts_table(every), table)
    assert len(table) == 40 and not (table["p_corrected"] < 0.05).any() and "None of the 40 survives" in FLAT
    kinds = [f"{rule.replace('_', ' ')}, 1 hop" for rule in RULES[:4]] + [rule.replace("_", " ") for rule in RULES[4:]]
    means = {}
    for row in table.to_dict("records"):
        means[row["arm"], row["kind"]] = row["mean"]
        means[row["against"], row["kind"]] = row["mean against"]
    for arm, *shares in rows("Stages and GRPO"):
        name = "mixed" if arm == "mixed throughout" else arm
        assert shares == [f"{100 * means[name, kind]:.0f}" for kind in kinds]
    sure = table.set_index(["arm", "kind"]).loc["easy to hard"]
    for kind, said in ((kinds[0], "45 points (3 to 87)"), (kinds[3], "67 (6 to 129)")):
        difference, low, high = (f"{100 * sure.loc[kind, name]:.0f}" for name in ("difference", "low", "high"))
        assert re.sub(" points", "", said) == f"{difference} ({low} to {high})" and said in FLAT
    mean = every.groupby(["arm", "kind"])[["headline", "strict"]].mean()
    begun, after = mean.loc["mixed"], mean.loc["mixed, then GRPO on hard rules"]
    assert (after - begun).abs().to_numpy().max() < 0.02
    lenient = [mean.loc[(arm, kinds[2])] for arm in ("mixed, then fine-tuning on hard rules", "mixed")]
    assert [round(100 * row["strict"]) for row in lenient] == [4, 13] and round(100 * lenient[0]["headline"]) == 59


def test_what_becomes_worse_is_what_the_table_flags():
    table = measured("degraded")
    worse = table.query("verdict == 'degraded'")
    assert len(worse) == 5 and set(worse["model"]) == {"deductor-130k-reason"} and set(worse["base shots"]) == {0}
    assert len(table.query("`base shots` == 0")) == 104
    for row in worse.to_dict("records"):
        assert f"{row['rule'].replace('_', ' ')} {100 * row['base']:.0f} to {100 * row['tuned']:.0f} %" in FLAT


def test_what_is_said_of_the_published_table_is_so():
    table = published.published_table()
    changes = published.degraded(table)
    strict = table.dropna(subset=["strict"])
    apart = (strict["headline"] - strict["strict"] >= 10).sum()
    counts = changes["verdict"].value_counts()
    assert (len(changes), counts["degraded"], counts["improved"], len(strict), apart) == (108, 10, 26, 55, 13)
    assert "Of 108 rules of fine-tuned models, 10 are worse" in PAGE and "those 55 shares, tuned or not, 13 are" in FLAT
    tuned = strict[(strict["tuned"] != "none") & (strict["rule"] == "proof_by_contradiction")]
    assert len(tuned) > 5 and not tuned["strict"].any()
