"""The page on training dynamics says what the study measured."""

from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training_dynamics.md").read_text(encoding="utf-8")


def measured(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "experiments" / "measured" / "training_dynamics" / f"{name}.csv")


def test_what_each_method_ends_with_is_that_of_the_table():
    methods = measured("methods").set_index("method")
    lines = PAGE.split("| method | accuracy |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(lines) == len(methods) == 3
    for line in lines:
        method, accuracy, kept, new, turnover, noise = (cell.strip() for cell in line.strip("|").split(" | "))
        row = methods.loc[method]
        for name, told in (("accuracy", accuracy), ("kept", kept)):
            value, low, high = (100 * row[each] for each in (name, f"{name}_low", f"{name}_high"))
            assert told == f"{value:.0f} ({low:.0f} to {high:.0f})"
        assert new == f"{row['new']:.1f} ({row['new_low']:.1f} to {row['new_high']:.1f})"
        assert (turnover, noise) == (f"{row['turnover']:.1f}", f"{row['noise']:.1f}")


def test_what_is_said_of_heads_and_reward_is_measured():
    found = measured("correlations").set_index(["method", "curve", "goes_with", "of"])
    row = found.loc[("grpo", "turnover", "reward", "levels")]
    assert (round(row["correlation"], 2), round(row["correlation_other"], 2)) == (-0.51, -0.42)
    assert (round(row["p_points"], 4), round(row["p"], 3), round(row["p_corrected"], 2)) == (0.0003, 0.036, 0.54)
    row = found.loc[("all", "turnover", "accuracy", "changes")]
    assert (round(row["correlation"], 2), round(row["correlation_other"], 2)) == (0.49, 0.5)
    assert (round(row["p_points"], 3), round(row["p"], 3)) == (0.001, 0.058)
    assert (found["p_corrected"].dropna() > 0.05).all()


def test_what_is_said_of_accuracy_and_reward_is_measured():
    checkpoints = measured("checkpoints")
    assert checkpoints.loc[checkpoints["step"] == 0, "accuracy"].round(2).eq(0.71).all()
    reward = checkpoints[checkpoints["method"] == "grpo"].groupby("step")["reward"].mean().dropna()
    assert (round(reward.iloc[0], 2), round(reward.iloc[-1], 2)) == (0.36, 0.59)
    methods = measured("methods").set_index("method")
    degrees = ["in_degree of heads", "out_degree of heads"]
    assert methods.loc["grpo", degrees].astype(float).round(1).tolist() == [1.4, 1.6]
    assert methods.loc["sft", degrees].astype(float).round(1).tolist() == [1.6, 2.2]


def test_what_is_said_of_sureness_and_of_power_is_measured():
    changes = measured("changes")
    assert (changes["new"].sum(), changes["gone"].sum()) == (11, 11)
    assert not changes[["surely_new", "surely_gone"]].to_numpy().any() and round(changes["p"].min(), 2) == 0.29
    found = measured("correlations").set_index(["method", "curve", "goes_with"])
    for curve, of, told in (
        ("kept", "levels", (0.30, 0.045)),
        ("kept", "changes", (0.03, 0.876)),
        ("new", "levels", (-0.52, 0.058)),
        ("new", "changes", (0.29, 0.173)),
    ):
        row = found[found["of"] == of].loc[("grpo", curve, "reward")]
        assert (round(row["correlation"], 2), round(row["p"], 3)) == told
    able = {of: int((own["smallest_p"] * len(own) < 0.05).sum()) for of, own in found.groupby("of")}
    assert able == {"levels": 0, "changes": 12} and found.groupby("of").size().tolist() == [15, 15]
    levels = found.loc[found["of"] == "levels", "smallest_p"]
    assert (round(levels.min(), 3), round(levels.max(), 3)) == (0.010, 0.059)
