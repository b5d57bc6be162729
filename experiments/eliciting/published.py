"""The published table: how much of the way to the skyline each training goes, with intervals, in figures and words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from reports import listed, write_report
from scipy import stats

from circuitkit.records import provenance
from circuitkit.statistics import recovered
from circuitkit.training.shares import QWEN2_5, lora_share, lora_share_by_formula, qwen2_5
from eliciting import figures

TABLE = Path(__file__).parents[1] / "published" / "elicitation.json"
RUNS = 4
"""Seeds that each mean and standard error is of."""
BENCHMARKS = {"aime": "AIME 2024 and 2025", "gpqa": "GPQA Diamond"}
CHANCE = {"AIME 2024 and 2025": 0.0, "GPQA Diamond": 25.0}
LEVEL = 0.95
TEXT_SHARE = 80.0
"""What the paper's text says that 29 examples recover on GPQA at 32B."""


def table_1() -> pd.DataFrame:
    """Table 1 as it is printed: a row a size and training, accuracies and standard errors in per cent."""
    table = pd.DataFrame(json.loads(TABLE.read_text(encoding="utf-8"))["models"])
    sizes = table["parameters"].map(lambda n: f"{n / 1e9:g}B")
    kept = ["training", "examples", *(f"{name}{end}" for name in BENCHMARKS for end in ("", "_se"))]
    return table[kept].astype({"examples": "Int64"}).assign(size=sizes)[["size", *kept]]


def loss_order() -> list[str]:
    """The sizes from the one whose validation loss falls least to the one whose falls most; no more is published."""
    order: list[str] = json.loads(TABLE.read_text(encoding="utf-8"))["loss_decrease_order"]
    return order[::-1]


def accuracies() -> pd.DataFrame:
    """A row a size, training and benchmark: accuracy and standard error, in per cent."""
    table = table_1()
    return pd.concat(
        [
            table[["size", "training", "examples"]].assign(
                benchmark=shown, accuracy=table[name], accuracy_se=table[f"{name}_se"]
            )
            for name, shown in BENCHMARKS.items()
        ],
        ignore_index=True,
    )


def against(frame: pd.DataFrame, trained: str, goal: str, *, draws: int, seed: int) -> pd.DataFrame:
    """The gain of some of the rows over the base, and its share of the gain that the goal has: `recovered`, per cent.

    `trained` and `goal` choose rows, as in `DataFrame.query`; the goal has one of each size and benchmark.
    """
    keys = ["size", "benchmark"]
    part = frame.query(trained).reset_index(drop=True)
    at = pd.MultiIndex.from_frame(part[keys])
    base, far = (frame.query(chosen).set_index(keys).loc[at] for chosen in ("training == 'none'", goal))
    means = [each["accuracy"].to_numpy(dtype=np.float64) for each in (base, part, far)]
    errors = [each["accuracy_se"].to_numpy(dtype=np.float64) for each in (base, part, far)]
    found = recovered(*means, se=(errors[0], errors[1], errors[2]), runs=RUNS, level=LEVEL, draws=draws, seed=seed)
    gain, squares = means[1] - means[0], np.square(errors[:2])
    # Welch and Satterthwaite's, as in the share's own intervals.
    freedom = squares.sum(0) ** 2 * (RUNS - 1) / (squares**2).sum(0)
    half = stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(squares.sum(0))
    gains = part.assign(gain=gain, gain_low=gain - half, gain_high=gain + half)
    return pd.concat([gains, found.frame.rename(columns={"value": "recovered"})], axis=1)


def recovered_table(*, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Every training's gain over its base, and the share of the way to the skyline of its size."""
    chosen = "training in ('full', 'lora')"
    return against(accuracies(), chosen, "training == 'distilled'", draws=draws, seed=seed)


def lora_table(*, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """How much of the gain of full fine-tuning on 928 examples rank-1 LoRA has."""
    return against(accuracies(), "training == 'lora'", "training == 'full' and examples == 928", draws=draws, seed=seed)


def trainable_table() -> pd.DataFrame:
    """What rank-1 LoRA trains of each published shape: peft's count on the meta device, and r (in + out) summed up."""
    rows = []
    for name in QWEN2_5:
        counted, summed = lora_share(qwen2_5(name)), lora_share_by_formula(qwen2_5(name))
        row = {"model": name, "trainable": counted.trainable, "by_formula": summed.trainable, "total": counted.total}
        rows.append(row | {"per_cent": counted.per_cent})
    return pd.DataFrame(rows)


def fewest(shares: pd.DataFrame) -> pd.DataFrame:
    """From how many examples on full fine-tuning surely beats the base, there and with all larger sets; NA if never.

    Surely: the interval of the gain lies above 0.
    """
    rows = []
    for (benchmark, size), part in shares[shares["training"] == "full"].groupby(["benchmark", "size"], sort=False):
        unsure = part.loc[part["gain_low"] <= 0, "examples"].max()
        enough = part["examples"] if pd.isna(unsure) else part.loc[part["examples"] > unsure, "examples"]
        rows.append({"benchmark": benchmark, "size": size, "fewest": enough.min() if len(enough) else pd.NA})
    return pd.DataFrame(rows)


def published_study(out: Path, *, draws: int, seed: int) -> None:
    """Write the published table, its shares with intervals, the paper's four figures, and what they say."""
    table, shares, lora = accuracies(), recovered_table(draws=draws, seed=seed), lora_table(draws=draws, seed=seed)
    tables = {
        "table_1": table_1(),
        "recovered": shares,
        "lora_against_full": lora,
        "fewest_examples": fewest(shares),
        "trainable_shares": trainable_table(),
    }
    drawn = {
        "figure_1": figures.shares(shares),
        "figure_2": figures.gains(shares, loss_order()),
        "figure_3": figures.bars(table, CHANCE),
        "figure_4": figures.every_accuracy(table, CHANCE),
    }
    said = sentences(shares, lora)
    told = provenance(model_name="published table", seed=seed, draws=draws)
    write_report(out, tables, drawn, listed(said), told)
    print("\n".join(said), f"\nTables, figures and sentences are in {out}")


def sentences(shares: pd.DataFrame, lora: pd.DataFrame) -> list[str]:
    """What the table says, in sentences, each with its interval."""
    few = shares[shares["examples"] == 29]
    said = []
    for row in few.to_dict("records"):
        what = f"{row['size']}, 29 examples, {row['benchmark']}: {_points(row)}"
        said.append(f"{what}; {_share(row)}.")
    said += [_suffices(few), _text_against_table(few)]
    goal = "full fine-tuning on 928 examples"
    for row in lora.to_dict("records"):
        said.append(f"{row['size']}, rank-1 LoRA, {row['benchmark']}: {_points(row)}; {_share(row, goal)}.")
    return said + _unlikely(shares)


def _points(row: dict[str, Any]) -> str:
    return f"{row['gain']:+.1f} points ({row['gain_low']:+.1f} to {row['gain_high']:+.1f})".replace("-", "−")


def _share(row: dict[str, Any], goal: str = "the skyline") -> str:
    if row["undefined"] is not None:
        told = str(row["undefined"])
        if goal != "the skyline":
            told = told.replace("the skyline", goal).replace("(skyline −", "(it −")
        return f"the share is {told}"
    share, low, high = (
        f"{row[name]:{form}}".replace("-", "−")
        for name, form in (("recovered", ".1f"), ("low", ".0f"), ("high", ".0f"))
    )
    return f"{share} % of the way to {goal} ({low} to {high})"


def _suffices(few: pd.DataFrame) -> str:
    """The sizes that 29 examples improve on both benchmarks by more than the error."""
    by_size = few.groupby("size", sort=False)
    surely = [str(size) for size, part in by_size if (part["gain_low"] > 0).all()]
    worse = [str(size) for size, part in by_size if (part["gain_high"] < 0).any()]
    return (
        f"29 examples improve {', '.join(surely) or 'no size'} on both benchmarks by more than the error, and make "
        f"{', '.join(worse) or 'no size'} worse on one at least."
    )


def _text_against_table(few: pd.DataFrame) -> str:
    """What the paper's text says of 29 examples, beside what its table gives."""
    (row,) = few[(few["size"] == "32B") & (few["benchmark"] == BENCHMARKS["gpqa"])].to_dict("records")
    within = "within" if row["low"] <= TEXT_SHARE <= row["high"] else "outside"
    return (
        f"The paper's text has as much as {TEXT_SHARE:.0f} % recovered on GPQA Diamond by 29 examples at 32B; its "
        f"Table 1 gives {row['recovered']:.1f} %. {TEXT_SHARE:.0f} % is {within} the interval."
    )


def _unlikely(shares: pd.DataFrame) -> list[str]:
    """What should make a reader careful: scores below chance, and beyond the skyline."""
    said = []
    for benchmark, chance in CHANCE.items():
        part = shares[shares["benchmark"] == benchmark]
        below = part[part["accuracy"] + 2 * part["accuracy_se"] < chance]
        if len(below):
            counts = ", ".join(f"{size} ({n})" for size, n in below["size"].value_counts(sort=False).items())
            said.append(
                f"{benchmark}: {len(below)} trained models are below chance ({chance:.0f} %) by more than two errors: "
                f"{counts}. Answers that are broken off or cannot be read count as wrong, and are not told apart."
            )
        beyond = part[part["recovered"] > 100]
        if len(beyond):
            surely = int((beyond["low"] > 100).sum())
            said.append(f"{benchmark}: {len(beyond)} trained models are beyond their skyline, {surely} of them surely.")
    return said
