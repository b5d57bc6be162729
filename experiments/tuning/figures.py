"""The figures of `finetuning.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tuning.texts import HARD, RULES, in_words

# Okabe and Ito's colours, told apart under every common colour blindness; markers tell them apart in grey.
LOOKS = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"))
SHORT = dict(
    zip(
        RULES,
        ("impl. elim.", "conj. intro.", "conj. elim.", "disj. intro.", "disj. elim.", "contradiction"),
        strict=True,
    )
)
PER_CENT = "proofs right (%)"
WAYS = {
    ("clean", "trained"): "clean,\none newline",
    ("clean", "published"): "clean,\ntwo newlines",
    ("paper", "trained"): "paper,\none newline",
    ("paper", "published"): "paper,\ntwo newlines",
}
"""Decodings and separators, and what figures call them."""


def before_after(accuracy: pd.DataFrame, judge: str = "headline") -> Figure:
    """Draw each rule's accuracy before and after fine-tuning: a panel a model, 95 % intervals."""
    kept = accuracy[
        (accuracy["decoding"] == "clean") & (accuracy["separator"] == "published") & (accuracy["hops"] == 1)
    ]
    kept = kept[kept["of"] == "test"]
    series = {
        "base, 3 exemplars": (kept["training"] == "none") & (kept["shots"] > 0),
        "base, no exemplars": (kept["training"] == "none") & (kept["shots"] == 0),
        "tuned, best validation loss": kept["training"] == "all",
        "tuned, last step": kept["training"] == "all, last step",
    }
    names = list(kept["model"].unique())
    figure, panels = _panels(len(names), columns=3)
    for axes, name in zip(panels, names, strict=False):
        for place, (label, where) in enumerate(series.items()):
            rows = kept[where & (kept["model"] == name)].drop_duplicates("rule").set_index("rule")
            _points(axes, rows, judge, label, place, len(series))
        _rules(axes, name)
    return _finished(figure, panels, f"PrOntoQA-OOD before and after fine-tuning ({judge} judge, clean decoding)")


def confound(table: pd.DataFrame) -> Figure:
    """Draw tuned models on the two rules with hypotheses, by decoding, separator and judge, 95 % intervals."""
    tuned = table[(table["training"] == "all") & (table["shots"] == 0)]
    names = list(tuned["model"].unique())
    rules = [rule for rule in HARD if rule in set(tuned["rule"])]
    figure = Figure(figsize=(2.9 * len(names) + 1, 3.1 * len(rules) + 1), layout="constrained")
    panels = figure.subplots(len(rules), len(names), sharey=True, squeeze=False)
    for row, rule in zip(panels, rules, strict=True):
        for axes, name in zip(row, names, strict=True):
            _by_way(axes, tuned[(tuned["model"] == name) & (tuned["rule"] == rule)])
            axes.set_title(f"{name}:\n{in_words(rule)}", fontsize=8)
        row[0].set_ylabel(PER_CENT)
    title = "Fine-tuned models asked with no exemplars: decoding, separator and judge"
    return _finished(figure, list(panels.flat), title, told="")


def _by_way(axes: Axes, rows: pd.DataFrame) -> None:
    at_ways = rows.set_index(["decoding", "separator"])
    for place, judge in enumerate(("headline", "strict", "sound")):
        colour, marker = LOOKS[place]
        at = np.arange(len(WAYS)) + 0.2 * (place - 1)
        values = 100 * at_ways[judge].reindex(list(WAYS)).to_numpy(dtype=float)
        axes.plot(at, values, marker, color=colour, label=judge, markersize=7)
        axes.vlines(at, 0, values, color=colour, linewidth=1, alpha=0.5)
    axes.set_xticks(range(len(WAYS)), list(WAYS.values()), fontsize=7)
    axes.set(ylim=(-3, 103), xlabel="decoding, separator before “A:”")


def decodings(table: pd.DataFrame) -> Figure:
    """Draw tuned models' accuracy by rule under both decodings: a panel a model; open marks are strict shares."""
    kept = table[(table["training"] == "all") & (table["shots"] == 0) & (table["separator"] == "published")]
    names = list(kept["model"].unique())
    figure, panels = _panels(len(names), columns=3)
    for axes, name in zip(panels, names, strict=True):
        for place, (decoding, label) in enumerate({"clean": "greedy", "paper": "as published"}.items()):
            rows = kept[(kept["model"] == name) & (kept["decoding"] == decoding)].set_index("rule")
            colour, marker = LOOKS[place]
            at = _places(rows.index, place, 2)
            axes.plot(at, 100 * rows["headline"], marker, color=colour, label=label, markersize=6)
            axes.plot(at, 100 * rows["strict"], marker, color=colour, markerfacecolor="none", markersize=9)
        _rules(axes, name)
    title = "Fine-tuned models with no exemplars, decoded in two ways; open mark: strict share"
    return _finished(figure, panels, title, told="")


def transfer(table: pd.DataFrame, judge: str = "headline") -> Figure:
    """Draw accuracy on each rule untrained, trained without it, and trained on all: a panel a model."""
    kept = table[table["judge"] == judge]
    names = list(kept["model"].unique())
    figure, panels = _panels(len(names), columns=2)
    for axes, name in zip(panels, names, strict=False):
        rows = kept[kept["model"] == name].drop_duplicates("rule").set_index("rule")
        for place, (column, label) in enumerate(
            {
                "untrained": "untrained",
                "without": "trained on the five other rules",
                "all": "trained on all six",
            }.items()
        ):
            shown = rows.rename(columns={f"{column}_low": "low", f"{column}_high": "high"})[[column, "low", "high"]]
            _points(axes, shown, column, label, place, 3)
        _rules(axes, f"{name} ({int(rows['n'].iloc[0])} questions a rule)")
    return _finished(figure, panels, f"Each rule left out of the training set ({judge} judge, no exemplars)")


def memorising(table: pd.DataFrame) -> Figure:
    """Draw the difference of accuracy on other questions and words than the usual ones, rule by rule."""
    table = table.assign(what=table["other"] + " less " + table["usual"])
    names = list(table["model"].unique())
    figure, panels = _panels(len(names), columns=2)
    for axes, name in zip(panels, names, strict=False):
        axes.axhline(0, color="0.3", linewidth=0.8)
        kinds = list(dict.fromkeys(table["what"]))
        for place, what in enumerate(kinds):
            rows = table[(table["model"] == name) & (table["what"] == what)].drop_duplicates("rule").set_index("rule")
            _points(axes, rows, "difference", what, place, len(kinds))
        _rules(axes, name)
        axes.set(ylim=(-103, 103))
        axes.set_ylabel("difference of proofs right (points)")
    return _finished(figure, panels, "What is remembered rather than reasoned: accuracy on what training did not show")


def stages(table: pd.DataFrame, model: str) -> Figure:
    """Draw accuracy of trainings in stages and after: a panel a kind of proof, a mark a seed, a bar the mean."""
    kept = table[table["model"] == model]
    kinds, arms = list(dict.fromkeys(kept["kind"])), list(dict.fromkeys(kept["arm"]))
    figure, panels = _panels(len(kinds), columns=4, height=0.9 + 0.2 * len(arms))
    for axes, kind in zip(panels, kinds, strict=False):
        for place, arm in enumerate(arms):
            own = kept[(kept["kind"] == kind) & (kept["arm"] == arm)]
            colour, marker = LOOKS[place % len(LOOKS)]
            height = len(arms) - 1 - place
            axes.plot(100 * own["headline"], [height] * len(own), marker, color=colour, alpha=0.55, markersize=6)
            axes.plot([100 * own["headline"].mean()], [height], "|", color="black", markersize=14)
        axes.set_yticks(range(len(arms)), arms[::-1], fontsize=8)
        axes.set(title=kind, xlabel=PER_CENT, xlim=(-3, 103))
        axes.title.set_fontsize(9)
    _tidy(figure, panels)
    figure.suptitle(f"{model}: stages, and what is done after (mark: a seed; line: their mean)", fontsize=10)
    return figure


def losses(curves: Mapping[str, pd.DataFrame], chosen: Mapping[str, int]) -> Figure:
    """Draw training and validation loss against steps: a panel a model, the chosen step marked."""
    figure, panels = _panels(len(curves), columns=3, share="none")
    for axes, (name, curve) in zip(panels, curves.items(), strict=False):
        for place, (column, label) in enumerate({"loss": "training", "validation_loss": "validation"}.items()):
            known = curve.dropna(subset=[column])
            colour, _ = LOOKS[place]
            axes.plot(known["step"], known[column], color=colour, label=label, linewidth=1.4)
        axes.axvline(chosen[name], color="0.3", linestyle="--", linewidth=1, label="chosen")
        axes.set(title=name, xlabel="step", ylabel="loss (nats a token)")
    return _finished(figure, panels, "Loss of fine-tuning on all six rules", told="")


def published(table: pd.DataFrame) -> Figure:
    """Draw the published accuracies before and after fine-tuning: a panel a model; open marks are strict shares."""
    names = list(table["model"].unique())
    figure, panels = _panels(len(names), columns=3)
    kinds = list(dict.fromkeys(table["tuned"]))
    for axes, name in zip(panels, names, strict=False):
        for place, tuned in enumerate(kinds):
            rows = table[(table["model"] == name) & (table["tuned"] == tuned)].set_index("rule")
            colour, marker = LOOKS[place]
            at = _places(rows.index, place, len(kinds))
            label = "none (3 exemplars)" if tuned == "none" else tuned
            axes.plot(at, rows["headline"], marker, color=colour, label=label, markersize=6)
            axes.plot(at, rows["strict"].astype(float), marker, color=colour, markerfacecolor="none", markersize=9)
        _rules(axes, name)
    return _finished(
        figure,
        panels,
        "Published fine-tuning (Hsiao & Dutta 2025); open mark: strict share, where answers are released",
        told="",
    )


def _points(axes: Axes, rows: pd.DataFrame, column: str, label: str, place: int, of: int) -> None:
    colour, marker = LOOKS[place]
    values, at = 100 * rows[column].astype(float), _places(rows.index, place, of)
    if {"low", "high"} <= set(rows.columns) and column in ("headline", "difference", "untrained", "without", "all"):
        axes.vlines(at, 100 * rows["low"].astype(float), 100 * rows["high"].astype(float), color=colour, linewidth=1.3)
    axes.plot(at, values, marker, color=colour, label=label, markersize=6)


def _places(rules: Sequence[str] | pd.Index, place: int, of: int) -> np.ndarray:
    return np.array([RULES.index(rule) for rule in rules]) + 0.17 * (place - (of - 1) / 2)


def _rules(axes: Axes, title: str) -> None:
    axes.set_xticks(range(len(RULES)), [SHORT[rule] for rule in RULES], rotation=30, ha="right", fontsize=8)
    axes.set(title=title, ylim=(-3, 103))
    axes.title.set_fontsize(9)
    axes.set_ylabel(PER_CENT)


def _panels(n: int, columns: int, height: float = 3.0, share: str = "y") -> tuple[Figure, list[Axes]]:
    columns = min(columns, n)
    rows = -(-n // columns)
    figure = Figure(figsize=(max(7.0, 4.1 * columns + 0.6), height * rows + 0.9), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=share == "y", squeeze=False)
    panels = list(grid.flat)
    for spare in panels[n:]:
        spare.set_visible(False)
    return figure, panels[:n]


def _finished(figure: Figure, panels: Sequence[Axes], title: str, told: str = "; 95 % intervals") -> Figure:
    kept = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        kept |= dict(zip(labels, handles, strict=True))
    figure.legend(
        kept.values(), kept.keys(), loc="outside lower center", ncols=min(4, len(kept)), fontsize=8, frameon=False
    )
    figure.suptitle(f"{title}{told}", fontsize=10)
    _tidy(figure, panels)
    return figure


def _tidy(figure: Figure, panels: Sequence[Axes]) -> None:
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.9", linewidth=0.6)
