"""The page on architecture and data says what the trainings measured."""

from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FLAT = " ".join(PAGE.split())


def measured(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "experiments" / "measured" / "architecture" / f"{name}.csv")


def whole(value: float) -> str:
    return f"{value:.0f}"


def test_accuracies_and_sizes_are_those_of_the_table() -> None:
    models = measured("models")
    assert len(models) == 36 and set(models["asked"]) == {350}
    means = (100 * models["headline"] / models["asked"]).groupby([models["questions"], models["architecture"]]).mean()
    lines = PAGE.split("| distinct questions | ")[1].split("\n\n")[0].splitlines()
    names = [name.strip() for name in lines[0].strip("|").split("|")]
    for line in lines[2:]:
        questions, *shares = (cell.strip() for cell in line.strip("|").split("|"))
        assert shares == [whole(means[int(questions.replace(",", "")), name]) for name in names]
    for name, parameters in models.groupby("architecture")["parameters"].first().items():
        assert any(
            line.startswith(f"| {name} |") and line.endswith(f"| {parameters:,} |") for line in PAGE.splitlines()
        )
    rates = models.groupby("architecture")["learning_rate"].unique()
    assert rates["Llama"] == [0.004] and all(rates[name] == [0.008] for name in ("GPT-2", "Gemma 2", "OpenELM"))


def test_shares_of_variance_are_those_of_the_table() -> None:
    shares = measured("variance").set_index(["outcome", "source"])
    names = {
        "architecture": "architecture makes",
        "data": "data",
        "architecture x data": "the two beyond their sum",
        "seed": "the seed",
        "left over": "a training's own luck",
    }
    headline = shares.loc["headline"]
    assert set(headline.index) == set(names)
    for source, name in names.items():
        share, low, high = (whole(100 * headline.loc[source, column]) for column in ("corrected", "low", "high"))
        assert f"{name} {share} % ({low} to {high})" in FLAT
    # In the same order.
    loss = [whole(100 * share) for share in shares.loc["validation_loss"].loc[list(names), "corrected"]]
    assert f"{loss[0]} %, {loss[1]} %, {loss[2]} %, {loss[3]} % and {loss[4]} % in validation loss" in FLAT


@pytest.mark.parametrize(
    ("other", "points", "sure"),
    [("Llama", (1, 8, -6), False), ("GPT-2", (-27, -21, -31), True), ("Gemma 2", (-25, -29, -42), True)],
)
def test_openelm_beside_the_others_is_that_of_the_table(other: str, points: tuple[int, ...], sure: bool) -> None:
    table = measured("architecture_contrasts").query("outcome == 'headline' and first_questions == second_questions")
    pair = table[((table["first"] == other) & (table["second"] == "OpenELM"))].set_index("first_questions")
    assert tuple(round(-value) for value in pair["points"]) == points
    assert (pair["p_corrected"] < 0.002).all() if sure else (pair["p_corrected"] > 0.05).all()


def test_more_questions_do_what_is_said() -> None:
    table = measured("data_contrasts").query("outcome == 'headline'")
    most = table[(table["first_questions"] == 16_000) & (table["second_questions"] == 1_000)].set_index("first")
    assert most["points"].round().astype(int).to_dict() == {"Llama": 6, "GPT-2": 3, "Gemma 2": 17, "OpenELM": -1}
    assert round(most.loc["Gemma 2", "p_corrected"], 3) == 0.002 and most["survives"].sum() == 1
