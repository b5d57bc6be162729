"""What the tables of `finetuning.py` say, in sentences that hold whatever the numbers are."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from scipy import stats
from sweeps import bits

from circuitkit.statistics import holm
from tuning.texts import HARD, RULES, in_words


def said_of_data(trained: pd.DataFrame) -> list[str]:
    """How many test questions were training questions too, and which checkpoints were chosen."""
    told = []
    for row in trained[trained["training"] == "all"].drop_duplicates("seed").to_dict("records"):
        counts = pd.Series(json.loads(row["duplicated"]))
        listed = ", ".join(f"{in_words(str(rule))} {count}" for rule, count in counts.items())
        told.append(f"Test questions that are training questions word for word (seed {row['seed']}): {listed}.")
    return told


def said_of_degraded(table: pd.DataFrame) -> list[str]:
    """Which rules fine-tuning made worse, and which better."""
    told = []
    for shots, part in table.groupby("base shots", sort=False):
        against = f"behind {shots} exemplars" if shots else "with no exemplars"
        for verdict in ("degraded", "improved"):
            found = part[part["verdict"] == verdict]
            named = "; ".join(
                f"{row['model']} ({row['training']}), {kind(row)}: {100 * row['base']:.0f} to "
                f"{100 * row['tuned']:.0f} % (p = {row['p_corrected']:.2g})"
                for row in found.sort_values("change").to_dict("records")
            )
            told.append(
                f"Against its base {against}, {len(found)} of {len(part)} rules and hops of tuned models are {verdict} "
                f"(McNemar, Holm over all){': ' + named if named else ''}."
            )
    return told


def said_of_confound(table: pd.DataFrame) -> list[str]:
    """What the published decoding, separator and judge hide or show of tuned models, rule by rule."""
    tuned = table[(table["training"] == "all") & (table["shots"] == 0)]
    told = []
    for model, part in tuned[(tuned["separator"] == "published") & ~tuned["rule"].isin(HARD)].groupby(
        "model", sort=False
    ):
        at = part.pivot(index="rule", columns="decoding", values="headline")
        shares = "; ".join(
            f"{in_words(str(rule))} {100 * row['clean']:.0f} greedy, {100 * row['paper']:.0f} as published"
            for rule, row in at.iterrows()
        )
        told.append(f"{model}, rules without hypotheses by decoding (headline, per cent): {shares}.")
    for (model, rule), part in tuned[tuned["rule"].isin(HARD)].groupby(["model", "rule"], sort=False):
        at = part.set_index(["decoding", "separator"])
        shares = {way: [f"{100 * at.loc[way, judge]:.0f}" for judge in ("headline", "strict")] for way in at.index}
        said = "; ".join(
            f"{decoding} decoding, {'one newline' if separator == 'trained' else 'two newlines'}: {headline} headline, "
            f"{strict} strict"
            for (decoding, separator), (headline, strict) in shares.items()
        )
        never = sorted(
            {
                word
                for told_of in part.loc[part["decoding"] == "paper", "never said"]
                for word in told_of.split(", ")
                if word
            }
        )
        words = f" Under the published decoding no response has {', '.join(never)}." if never else ""
        told.append(f"{model}, {in_words(rule)} (per cent): {said}.{words}")
    return told


def said_of_transfer(table: pd.DataFrame, level: float = 0.05) -> list[str]:
    """Whether a rule that training left out is proved all the same."""
    told = []
    for model, part in table[table["judge"] == "headline"].groupby("model", sort=False):
        for row in part.to_dict("records"):
            if row["gain_p_corrected"] < level:
                said = "more than untrained" if row["gain"] > 0 else "less than untrained"
            else:
                said = "not told apart from untrained"
            if row["gap_p_corrected"] < level:
                gap = f"and {'less' if row['gap'] > 0 else 'more'} than trained on all"
            else:
                gap = "and not told apart from trained on all"
            told.append(
                f"{model}, {kind(row)}: trained on the five other rules {percent(row, 'without')} (seeds "
                f"{row['seeds']}), untrained {percent(row, 'untrained')}, trained on all {percent(row, 'all')}: {said} "
                f"({points(row, 'gain')}) {gap} ({points(row, 'gap')})."
            )
        told += [
            f"{model}, {judge} judge: {carried_over(own, level)}"
            for judge, own in table[table["model"] == model].groupby("judge", sort=False)
        ]
    return told


def carried_over(part: pd.DataFrame, level: float) -> str:
    """What the rules of one model show together."""
    learnt = part[part["all"] > part["untrained_high"]]
    if learnt.empty:
        return "no rule is learnt even where it is shown, so that nothing could carry over."
    carried = learnt[(learnt["gain_p_corrected"] < level) & (learnt["gain"] > 0)]
    named = f" ({', '.join(in_words(rule) for rule in carried['rule'])})" if len(carried) else ""
    shown = f"of {len(learnt)} rules that are learnt where they are shown, {len(carried)} "
    if carried.empty:
        return f"{shown}are proved better than untrained where they are not."
    shares = ", ".join(f"{100 * share:.0f}" for share in carried["without"])
    return (
        f"{shown}{'is' if len(carried) == 1 else 'are'} proved better than untrained where not shown{named}: "
        f"there {shares} % of proofs are right."
    )


def said_of_memorising(table: pd.DataFrame) -> list[str]:
    """How far accuracy falls on what training did not show."""
    told = []
    for (model, training, usual, other), part in table.groupby(["model", "training", "usual", "other"], sort=False):
        worse, better = part[part["high"] < 0], part[part["low"] > 0]
        listed = "; ".join(
            f"{in_words(row['rule'])} {100 * row['on usual']:.0f} to {100 * row['on other']:.0f}"
            for row in worse.to_dict("records")
        )
        told.append(
            f"{model} ({training}): from {usual} to {other} accuracy falls in {len(worse)} of {len(part)} rules (95 % "
            f"intervals of single comparisons){' (' + listed + ' %)' if listed else ''}, and rises in {len(better)}."
        )
    return told


def stages_table(answers: pd.DataFrame) -> pd.DataFrame:
    """A row for each model, way of training, seed and kind of proof."""
    rows = [
        {
            "model": row["model"],
            "arm": row["training"],
            "seed": row["seed"],
            "rule": row["rule"],
            "hops": row["hops"],
            "kind": kind(row),
            "n": len(bits(row["headline"])),
            **{judge: bits(row[judge]).mean() for judge in ("headline", "strict", "sound", "truncated")},
        }
        for row in answers.to_dict("records")
    ]
    table = pd.DataFrame(rows)
    order = {rule: at for at, rule in enumerate(RULES)}
    return table.sort_values(
        ["model", "rule", "hops"], key=lambda by: by.map(order) if by.name == "rule" else by, kind="stable"
    )


def contrasts_table(table: pd.DataFrame, judge: str = "headline") -> pd.DataFrame:
    """A row for each way of training against that of equal steps, and kind of proof: means over seeds and their spread.

    Ways start from the same weights and see the same questions in each seed, so differences are taken seed by seed;
    `low` and `high` are Student's interval of their mean, of this comparison alone; `p` is that of the paired t-test,
    corrected over the whole table after Holm. Differences that are the same in every seed have none.
    """
    against = {
        "easy to hard": "mixed",
        "hard to easy": "mixed",
        "mixed, then GRPO on hard rules": "mixed, then fine-tuning on hard rules",
        "mixed, then fine-tuning on hard rules": "mixed, then fine-tuning on all",
    }
    rows = []
    for (model, name), part in table.groupby(["model", "kind"], sort=False):
        shares = part.pivot(index="seed", columns="arm", values=judge)
        for arm, other in against.items():
            if arm not in shares or other not in shares:
                continue
            each = (shares[arm] - shares[other]).to_numpy(dtype=float)
            rows.append(
                {
                    "model": model,
                    "kind": name,
                    "arm": arm,
                    "against": other,
                    "seeds": len(each),
                    "mean": shares[arm].mean(),
                    "mean against": shares[other].mean(),
                    "difference": each.mean(),
                    **_tested(each),
                }
            )
    table = pd.DataFrame(rows)
    return table.assign(p_corrected=holm(table["p"])) if len(table) else table


def _tested(differences: np.ndarray) -> dict[str, float]:
    """Student's interval of the differences' mean, and the p-value of its being 0: NaN of one seed."""
    n, mean = len(differences), differences.mean()
    if n < 2:
        return dict.fromkeys(("low", "high", "p"), np.nan)
    error = differences.std(ddof=1) / np.sqrt(n)
    reach = stats.t.ppf(0.975, n - 1) * error
    p = 2 * stats.t.sf(abs(mean) / error, n - 1) if error else np.nan
    return {"low": mean - reach, "high": mean + reach, "p": p}


def said_of_stages(contrasts: pd.DataFrame, level: float = 0.05) -> list[str]:
    """Whether stages or GRPO help where plain fine-tuning of as many steps does not."""
    told = []
    for (model, arm, other), part in contrasts.groupby(["model", "arm", "against"], sort=False):
        listed = "; ".join(
            f"{row['kind']} {100 * row['mean']:.0f} against {100 * row['mean against']:.0f} "
            f"({100 * row['difference']:+.0f}, {100 * row['low']:.0f} to {100 * row['high']:.0f})"
            for row in part.to_dict("records")
        )
        sure = part["p_corrected"] < level
        better, worse = (int((sure & (part["difference"] * sign > 0)).sum()) for sign in (1, -1))
        told.append(
            f"{model}: “{arm}” against “{other}”, means of {int(part['seeds'].iloc[0])} seeds in per cent (difference, "
            f"95 % interval over seeds of this comparison alone): {listed}. Corrected over all {len(contrasts)} "
            f"comparisons (paired t-test, Holm), better in {better}, worse in {worse} of {len(part)} kinds of proof."
        )
    return told


def kind(row: dict[str, object]) -> str:
    """A rule and its hops."""
    rule, hops = str(row["rule"]), int(str(row["hops"]))
    return in_words(rule) if rule in HARD else f"{in_words(rule)}, {hops} hop{'s' * (hops > 1)}"


def percent(row: dict[str, float], name: str) -> str:
    """A share in per cent with its interval."""
    return f"{100 * row[name]:.0f} % ({100 * row[f'{name}_low']:.0f} to {100 * row[f'{name}_high']:.0f})"


def points(row: dict[str, float], name: str) -> str:
    """A difference in points with its interval."""
    return f"{100 * row[name]:+.0f}, {100 * row[f'{name}_low']:.0f} to {100 * row[f'{name}_high']:.0f}"
