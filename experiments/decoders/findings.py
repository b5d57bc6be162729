"""What the study of architecture against data found, in plain sentences made from its tables alone."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from decoders.analysis import Outcome
from decoders.study import Plan

ASKED_ABOUT = "OpenELM"
_NAMES: Mapping[Outcome, str] = {
    "headline": "the headline accuracy",
    "strict": "the strict accuracy",
    "validation_loss": "the validation loss",
}


def said_of_design(plan: Plan, models: pd.DataFrame) -> str:
    """Say what was trained."""
    low, high = models["parameters"].min(), models["parameters"].max()
    amounts = _listed([f"{amount:,}" for amount in plan.questions])
    return (
        f"{len(models)} decoders of {low:,} to {high:,} parameters ({_listed(list(plan.architectures))}) were trained "
        f"for {plan.steps:,} steps of {plan.batch} questions each, on {amounts} distinct questions and with "
        f"{len(plan.seeds)} seeds; each proved the same {models['asked'].iloc[0]} held-out questions."
    )


def said_of_rates(plan: Plan, tuning: pd.DataFrame) -> str:
    """Say which learning rates were chosen, and whether one lies at the end of those tried."""
    chosen = tuning[tuning["chosen"]]
    rates = _listed([f"{rate:g} for {name}" for name, rate in chosen[["architecture", "learning_rate"]].to_numpy()])
    ends = chosen[chosen["learning_rate"].isin([min(plan.rates), max(plan.rates)])]["architecture"]
    beyond = f" Of {_listed(list(ends))} it is the last one tried, so a better one may lie beyond." if len(ends) else ""
    tried = _listed([f"{rate:g}" for rate in plan.rates])
    return (
        f"Peak learning rates were chosen for each architecture by validation loss on {plan.tuned_on:,} questions "
        f"(with a seed of their own) among {tried}: {rates}.{beyond}"
    )


def said_in_short(what: Outcome, shares: pd.DataFrame, contrasts: pd.DataFrame, asked_about: str = ASKED_ABOUT) -> str:
    """Say the answer to the question in one sentence or two."""
    rows = {row["source"]: row for row in shares.to_dict("records")}
    own = _from(contrasts, asked_about)
    weighed = (
        f"At this size and by {_NAMES[what]}, the amount of data makes {_share(rows['data'])} of the variance between "
        f"models and architecture {_share(rows['architecture'])}: {_weighed(rows)}."
    )
    return weighed if own.empty else f"{weighed} {_verdict(what, own, asked_about)}"


def said_of_variance(what: Outcome, shares: pd.DataFrame) -> str:
    """Say how the variance between trained models divides."""
    rows = {row["source"]: row for row in shares.to_dict("records")}

    data, architecture, both, seed, luck = (
        _share(rows[source]) for source in ("data", "architecture", "architecture x data", "seed", "left over")
    )
    return (
        f"Of the variance of {_NAMES[what]} between models, the amount of data makes {data}, architecture "
        f"{architecture}, the two together beyond their sum {both}, the seed {seed}, and a training's own luck {luck}."
    )


def _share(row: Mapping[str, float]) -> str:
    return f"{100 * row['corrected']:.0f} % ({100 * row['low']:.0f} to {100 * row['high']:.0f})"


def _weighed(rows: Mapping[str, Mapping[str, float]]) -> str:
    data, architecture = rows["data"], rows["architecture"]
    if data["low"] > architecture["high"]:
        return "data weighs more than architecture"
    if architecture["low"] > data["high"]:
        return "architecture weighs more than data"
    return "neither is shown to weigh more than the other"


def said_of_architecture(what: Outcome, contrasts: pd.DataFrame, asked_about: str = ASKED_ABOUT) -> list[str]:
    """Say how the architecture that is asked about stands against each other one at equal data."""
    own = _from(contrasts, asked_about)
    if own.empty:
        return []
    sentences = []
    for other, rows in own.groupby("second", sort=False):
        parts = [f"{_gap(what, row)} at {row['first_questions']:,}" for row in rows.to_dict("records")]
        sentences.append(f"In {_NAMES[what]}, {asked_about} against {other} at equal data: {_listed(parts)} questions.")
    return [*sentences, _verdict(what, own, asked_about)]


def _from(contrasts: pd.DataFrame, name: str) -> pd.DataFrame:
    """Contrasts with the named architecture first, turned round where it is second."""
    ahead, behind = contrasts[contrasts["first"] == name], contrasts[contrasts["second"] == name]
    turned = behind.assign(
        first=behind["second"],
        second=behind["first"],
        difference=-behind["difference"],
        points=-behind["points"],
        low=-behind["high"],
        high=-behind["low"],
    )
    return pd.concat([ahead, turned]).sort_values(["second", "first_questions"]).reset_index(drop=True)


def _worse(what: Outcome, rows: pd.DataFrame) -> pd.Series:
    return rows["difference"] > 0 if what == "validation_loss" else rows["difference"] < 0


def _gap(what: Outcome, row: Mapping[str, float]) -> str:
    """A contrast as it was measured, and on the model's scale with its interval and corrected p."""
    if what == "validation_loss":
        measured, scale = f"{row['points']:+.3f} nats", "log ratio"
    else:
        measured, scale = f"{row['points']:+.1f} points", "log odds"
    return (
        f"{measured} ({scale} {row['difference']:+.2f}, {row['low']:+.2f} to {row['high']:+.2f}, "
        f"p = {row['p_corrected']:.2g})"
    )


def _verdict(what: Outcome, own: pd.DataFrame, name: str) -> str:
    worse, better = (own[own["survives"] & (_worse(what, own) == side)] for side in (True, False))
    n = len(own)
    if worse.empty and better.empty:
        return (
            f"By {_NAMES[what]}, {name} is shown to be neither worse nor better than another architecture at equal "
            f"size and data, in any of {n} comparisons."
        )
    told = [f"worse than {_placed(worse)}"] if len(worse) else []
    told += [f"better than {_placed(better)}"] if len(better) else []
    rest = n - len(worse) - len(better)
    return (
        f"By {_NAMES[what]}, {name} at equal size and data is {' and '.join(told)}; {rest} of {n} comparisons show no "
        f"difference after correction."
    )


def _placed(rows: pd.DataFrame) -> str:
    parts = [
        f"{other} (at {_listed([f'{amount:,}' for amount in group['first_questions']])} questions)"
        for other, group in rows.groupby("second", sort=False)
    ]
    return _listed(parts)


def said_of_data(what: Outcome, contrasts: pd.DataFrame) -> str:
    """Say what the most data gives over the least, for each architecture."""
    least, most = contrasts["second_questions"].min(), contrasts["first_questions"].max()
    ends = contrasts[(contrasts["second_questions"] == least) & (contrasts["first_questions"] == most)]
    parts = [f"{row['first']} {_gap(what, row)}" for row in ends.to_dict("records")]
    return f"From {least:,} to {most:,} questions at equal steps, {_NAMES[what]} changes by {_listed(parts)}."


def _listed(parts: list[str]) -> str:
    """Join parts by commas and a last "and".

    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
