"""Figures of the threshold study: accuracy, failures and attention against size."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from circuitkit import plots

_FAILING = 16.0


def overview(accuracy: pd.DataFrame, folder: Path) -> None:
    """Accuracy against size, a panel a rule and a line a number of hops, for each way of decoding."""
    if "hops" not in accuracy:
        return
    proofs = accuracy.dropna(subset=["hops"])
    proofs = proofs.assign(rule=proofs["rule"].str.replace("_", " "), hops=proofs["hops"].astype(int))
    for decoding, part in proofs.groupby("decoding"):
        # More families than dashes can tell apart are drawn one figure each.
        apart = [(None, part)] if part["family"].nunique() <= 4 else list(part.groupby("family"))
        for family, rows in apart:
            hops = sorted(set(rows["hops"]))
            drawn = plots.size_panels(
                rows,
                panel="rule",
                line="hops",
                line_names=[f"{n} hop" + "s" * (n > 1) for n in hops],
                title=f"Accuracy by rule and hops, decoding {decoding}" + (f", {family}" if family else ""),
                y_name="accuracy, % of proofs",
            )
            plots.save(drawn, folder / f"accuracy_{decoding}{f'_{family}' if family else ''}.png")


def failures(accuracy: pd.DataFrame, folder: Path) -> None:
    """The share of answers that cannot be read, and that were broken off, against size, over all tasks."""
    for what, name in (("unparseable", "unparseable answers, %"), ("truncated", "answers broken off, %")):
        if what not in accuracy:
            continue
        for decoding, part in accuracy.groupby("decoding"):
            sums = part.groupby(["model", "family", "parameters"], as_index=False)[[what, "total"]].sum()
            sums["share"] = 100 * sums[what] / sums["total"]
            title = f"{name.removesuffix(', %').capitalize()} against size, all tasks, decoding {decoding}"
            drawn = plots.models_against(sums, "parameters", "share", title=title, x_name="", y_name=name)
            drawn.set_ylim(-3, 103)
            if what == "unparseable":
                drawn.axhline(_FAILING, color="0.6", linestyle=":", linewidth=1.2)
                drawn.text(
                    drawn.get_xlim()[0], _FAILING + 1, " failing, as published: over 16 %", fontsize=8, color="0.4"
                )
            plots.save(drawn, folder / f"{what}_{decoding}.png")


def attention(scores: pd.DataFrame, within: pd.DataFrame, folder: Path) -> None:
    """Attention scores against accuracy over models, and within models on right against wrong proofs."""
    over = scores.groupby(["model", "family", "parameters"], as_index=False)[["score", "accuracy"]].mean()
    drawn = plots.models_against(
        over.assign(accuracy=100 * over["accuracy"]),
        "score",
        "accuracy",
        title="Attention score of the next gold token against accuracy\n"
        "(means over rules and hops; last layer; lines join a family's sizes)",
        x_name="attention score (0 to 1)",
        y_name="accuracy, % of proofs",
    )
    plots.save(drawn, folder / "attention_against_accuracy.png")
    tested = within.dropna(subset=["p"])
    if not len(tested):
        return
    of_model = scores[["model", "family", "parameters"]].drop_duplicates()
    drawn = plots.models_against(
        tested.merge(of_model, on="model").assign(difference=tested["right"].to_numpy() - tested["wrong"].to_numpy()),
        "parameters",
        "difference",
        title="Attention score of right proofs less that of wrong ones, within a model\n"
        "(a mark a rule and number of hops with five proofs or more of either)",
        x_name="",
        y_name="difference of mean scores (0 to 1)",
        joined=False,
    )
    drawn.axhline(0.0, color="0.6", linewidth=0.8)
    plots.save(drawn, folder / "attention_right_against_wrong.png")
