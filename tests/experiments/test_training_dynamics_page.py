"""The page on training dynamics says what the study measured."""

from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training_dynamics.md").read_text(encoding="utf-8")


def measured(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "experiments" / "measured" / "training_dynamics" / f"{name}.csv")


def test_what_each_method_ends_with_is_that_of_the_table():
    methods = measured("methods").set_index("method")
    lines = PAGE.split("| method | accuracy at the end")[1].split("\n\n")[0].splitlines()[2:]
    assert len(lines) == len(methods) == 3
    for line in lines:
        method, accuracy, kept, new, turnover, noise = (cell.strip() for cell in line.strip("|").split(" | "))
        row = methods.loc[method]
        assert (accuracy, kept) == (f"{100 * row['accuracy']:.0f}", f"{100 * row['kept']:.0f}")
        assert (new, turnover, noise) == tuple(f"{row[name]:.1f}" for name in ("new", "turnover", "noise"))


def test_what_is_said_of_heads_and_reward_is_measured():
    found = measured("correlations").set_index(["method", "curve", "goes_with", "of"])
    row = found.loc[("grpo", "kept", "reward", "levels")]
    assert (round(row["correlation"], 2), round(row["correlation_other"], 2)) == (0.73, 0.46)
    assert (round(row["p_points"], 3), round(row["p"], 2), round(row["p_corrected"], 2)) == (0.002, 0.05, 0.77)
    row = found.loc[("all", "turnover", "accuracy", "levels")]
    assert (round(row["p_points"], 3), round(row["p"], 2)) == (0.005, 0.1)
    assert (found["p_corrected"].dropna() > 0.05).all()
    checkpoints = measured("checkpoints")
    assert checkpoints.loc[checkpoints["step"] == 0, "accuracy"].round(2).eq(0.71).all()
