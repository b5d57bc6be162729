"""What docs/elicitation.md says of the published table is so: every number is computed anew."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from eliciting.published import (
    BENCHMARKS,
    TABLE,
    fewest,
    lora_table,
    loss_order,
    recovered_table,
    table_1,
    trainable_table,
)

from circuitkit.statistics import recovered
from circuitkit.training.shares import QWEN2_5

FILE = Path(__file__).parents[2] / "docs" / "elicitation.md"
PAGE = " ".join(FILE.read_text(encoding="utf-8").split())
SHORT = {"AIME": BENCHMARKS["aime"], "GPQA": BENCHMARKS["gpqa"]}


@pytest.fixture(scope="module")
def shares() -> pd.DataFrame:
    return recovered_table(draws=50)


def signed(text: str) -> str:
    return text.replace("-", "−")


def cells(name: str) -> list[str]:
    (line,) = re.findall(rf"^\| {re.escape(name)} \|(.*)\|$", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [cell.strip() for cell in line.split("|")]


def one(frame: pd.DataFrame, size: str, benchmark: str, **more: Any) -> pd.Series:
    chosen = (frame["size"] == size) & (frame["benchmark"] == SHORT[benchmark])
    for name, value in more.items():
        chosen &= frame[name] == value
    return frame[chosen].squeeze()


@pytest.mark.parametrize("benchmark", SHORT)
@pytest.mark.parametrize("size", ["1.5B", "7B", "14B", "32B"])
def test_shares_and_intervals_are_so(shares: pd.DataFrame, size: str, benchmark: str) -> None:
    rows = shares[(shares["size"] == size) & (shares["benchmark"] == SHORT[benchmark])]
    expected = [
        "undefined"
        if row["undefined"] is not None
        else signed(f"{row['recovered']:.1f} ({row['low']:.0f} to {row['high']:.0f})")
        for row in rows.to_dict("records")
    ]
    assert cells(f"{benchmark} {size}") == expected


@pytest.fixture(scope="module")
def trainable() -> pd.DataFrame:
    return trainable_table().set_index("model", drop=False)


@pytest.mark.parametrize("model", QWEN2_5)
def test_trainable_shares_are_so(trainable: pd.DataFrame, model: str) -> None:
    row = trainable.loc[model]
    assert row["trainable"] == row["by_formula"]
    assert cells(row["model"]) == [f"{row['trainable']:,}", f"{row['total']:,}", f"{row['per_cent']:.3f} %"]


def test_answers_are_counted_as_the_page_does() -> None:
    rows = table_1().query("size == '32B' and (training in ('none', 'distilled') or examples == 29)")
    aime, gpqa = ((rows[name] * n / 100).round().astype(int).tolist() for name, n in (("aime", 240), ("gpqa", 792)))
    assert (aime, gpqa) == ([35, 155, 82], [358, 452, 444])
    assert "have 358, 444 and 452 right on GPQA: 86 of 94 answers are recovered, which is 91.5 %" in PAGE
    assert "they have 35, 82 and 155: 47 of 120, which is 39.2 %" in PAGE
    assert f"{100 * 86 / 94:.1f} {100 * 47 / 120:.1f}" == "91.5 39.2"
    assert f"It would take {round(358 + 0.8 * 94)} right answers in place of 444" in PAGE
    assert f"the skyline is but {(452 - 358) / 7.92:.1f} points above the base" in PAGE


def test_the_text_beside_the_table(shares: pd.DataFrame) -> None:
    row = one(shares, "32B", "GPQA", examples=29)
    assert f"The interval of the 91.5 % is {row['low']:.0f} to {row['high']:.0f}, and holds 80" in PAGE
    assert row["low"] < 80 < row["high"]
    few, others = shares[shares["examples"] == 29], shares[shares["examples"] > 29]
    assert (few["recovered"] - 80).abs().min() > 10
    near = others[(others["recovered"] - 80).abs() < 2]
    assert set(zip(near["size"], near["benchmark"], near["examples"], strict=True)) == {
        ("14B", SHORT["GPQA"], 464),
        ("14B", SHORT["GPQA"], 928),
        ("32B", SHORT["AIME"], 928),
    }
    assert "14B at 464 and 928 examples (GPQA), 32B at 928 (AIME)" in PAGE


def test_from_how_many_examples_on_each_size_gains(shares: pd.DataFrame) -> None:
    aime, gpqa = (one(shares, "32B", name, examples=29) for name in SHORT)
    for row, of in ((aime, "on AIME"), (gpqa, "on GPQA")):
        points = f"{row['gain']:+.1f}" + (" points" if of == "on AIME" else "")
        assert f"{points} {of} ({row['gain_low']:.1f} to {row['gain_high']:.1f})" in PAGE
    lost = {(size, name): one(shares, size, name, examples=29) for size in ("7B", "14B") for name in SHORT}
    assert all(row["gain_high"] < 0 for row in lost.values())
    told = [f"{lost[key]['gain']:.1f}" for key in (("14B", "AIME"), ("7B", "AIME"), ("14B", "GPQA"), ("7B", "GPQA"))]
    assert told[0] == told[1]
    assert signed(f"{told[0]} points on AIME at either size, {told[2]} and {told[3]} on GPQA") in PAGE
    assert fewest(shares).set_index(["benchmark", "size"])["fewest"].fillna(0).tolist() == [
        0,
        928,
        58,
        29,
        0,
        0,
        58,
        29,
    ]
    assert "**14B needs 58**" in PAGE and "7B gains on AIME with 928 alone and on GPQA never; 1.5B never gains" in PAGE
    assert (
        loss_order() == ["1.5B", "32B", "14B", "7B"]
        and "largest at 7B, which hardly gains, then 14B, 32B, 1.5B" in PAGE
    )


def test_lora_against_full_fine_tuning() -> None:
    found = lora_table(draws=50)
    aime, gpqa = (one(found, "32B", name) for name in SHORT)
    told = [f"{row['recovered']:.0f} % ({row['low']:.0f} to {row['high']:.0f})" for row in (aime, gpqa)]
    assert f"has {told[0]} of full fine-tuning's gain on AIME and {told[1]} on GPQA at 32B" in PAGE
    middle = [f"{one(found, '14B', name)['recovered']:.0f} %" for name in SHORT]
    seven = one(found, "7B", "AIME")
    ends = signed(f"{seven['recovered']:.0f} % on AIME at 7B ({seven['low']:.0f} to {seven['high']:.0f})")
    assert f"{middle[0]} and {middle[1]} at 14B, {ends}, undefined elsewhere" in PAGE
    missing = found[found["undefined"].notna()]
    assert sorted(zip(missing["size"], missing["benchmark"], strict=True)) == [
        ("1.5B", SHORT["AIME"]), ("1.5B", SHORT["GPQA"]), ("7B", SHORT["GPQA"])
    ]  # fmt: skip


def test_how_sure_it_is(shares: pd.DataFrame) -> None:
    table = table_1()
    (few,) = table.query("size == '32B' and examples == 29").to_dict("records")
    share = few["aime"] / 100
    of_problems = 100 * np.sqrt(share * (1 - share) / 60)
    assert f"at {few['aime']:.0f} %, choosing them anew moves an accuracy by up to {of_problems:.1f} points" in PAGE
    assert f"the table's error is {few['aime_se']:.1f}" in PAGE
    normal = recovered(45.2, 56.06, 57.07, se=(1.85, 1.5, 0.65), draws=50)
    assert f"would have the interval {normal.low:.0f} to {normal.high:.0f}" in PAGE
    still = table[table["aime_se"] == 0]
    assert (still["aime"] == 0).all() and set(still["size"]) == {"1.5B"} and len(still) == 4
    assert "as in four cells of 1.5B" in PAGE
    seven = one(shares, "7B", "GPQA", examples=29)
    base, far = (
        table[(table["size"] == "7B") & (table["training"] == name)].squeeze() for name in ("none", "distilled")
    )
    lead, error = far["gpqa"] - base["gpqa"], np.hypot(far["gpqa_se"], base["gpqa_se"])
    assert f"it is {lead:.1f} points above, {lead / error:.1f} errors" in PAGE
    both = [f"{seven[f'{name}low']:.0f} to {seven[f'{name}high']:.0f}" for name in ("", "fieller_")]
    assert signed(f"The −314 % at 29 examples has the interval {both[0]} by the delta method and {both[1]} by") in PAGE
    assert signed(f"({seven['gain']:.1f}, {seven['gain_low']:.1f} to {seven['gain_high']:.1f})") in PAGE
    # Elsewhere the two agree: that is, both or neither hold 0.
    rest = shares[shares["undefined"].isna() & ~((shares["size"] == "7B") & (shares["benchmark"] == SHORT["GPQA"]))]
    assert ((rest["low"] > 0) == (rest["fieller_low"] > 0)).all() and (
        (rest["high"] < 0) == (rest["fieller_high"] < 0)
    ).all()
    assert len(shares) == 56 and "56 cells are looked at" in PAGE


def test_what_misleads(shares: pd.DataFrame) -> None:
    small = shares[(shares["size"] == "1.5B") & (shares["benchmark"] == SHORT["GPQA"])]
    low, high = small["accuracy"].min(), small["accuracy"].max()
    assert len(small) == 7 and (small["accuracy"] + 2 * small["accuracy_se"] < 25).all()
    seven = one(shares, "7B", "GPQA", examples=29)["accuracy"]
    assert (
        f"all seven trained models have {low:.0f} to {high:.0f} %, and so has 7B at 29 examples ({seven:.0f} %)" in PAGE
    )
    rows = table_1().query("size == '1.5B' and training in ('none', 'distilled')").set_index("training")
    told = f"skyline ({rows.loc['distilled', 'gpqa']:.1f} %) is below its base ({rows.loc['none', 'gpqa']:.1f} %)"
    assert told in PAGE and f"{round(rows.loc['none', 'aime'] * 2.4)} right answers of 240" in PAGE
    assert f"300 steps of 16 are {300 * 16 / 29:.0f} epochs of 29 examples" in PAGE
    beyond = shares[shares["recovered"] > 100]
    assert len(beyond) == 4 and set(beyond["size"]) == {"32B"} and (beyond["low"] < 100).all()
    assert "is recovered in four cells of 32B, in none of them surely" in PAGE
    assert "Qwen2.5-Math" in TABLE.read_text(encoding="utf-8")
