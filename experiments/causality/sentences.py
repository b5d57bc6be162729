"""What the two causal tests found, in sentences, with intervals and what survives correction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

ALPHA = 0.05
_KINDS = {"random": "random ones", "same part of speech": "random ones of the same part of speech"}


def said(models: pd.DataFrame, masking: pd.DataFrame | None, forcing: pd.DataFrame | None) -> Iterator[str]:
    """What each model does as it is, and under each test; a test that no model took is told too."""
    for row in models.to_dict("records"):
        counts = "succeeds" if row["succeeds"] else "fails"
        yield (
            f"{row['model']} {counts}: {_percent(row['accuracy'])} of {row['n']} proofs are right "
            f"({_percent(row['low'])} to {_percent(row['high'])})."
        )
    if masking is None:
        yield "No model succeeds, so that nothing was masked."
    else:
        yield from _of_masking(masking)
    if forcing is None:
        yield "No model fails, so that no attention was forced."
    else:
        yield from _of_forcing(forcing)
    yield "p-values are of paired tests, corrected over all rows of a test's table after Holm; intervals are of 95 %."


def _of_masking(table: pd.DataFrame) -> Iterator[str]:
    for (model, tokens, k), part in table.groupby(["model", "tokens", "k"], sort=False):
        chosen = part[part["masked"] == "chosen"].iloc[0]
        of = "prompt tokens" if tokens == "all" else "names, concepts and properties"
        others = [
            f"{_points(row, 'chosen_costs_more')} against as many {_KINDS[row['masked']]}"
            for row in part[part["masked"] != "chosen"].to_dict("records")
        ]
        yield (
            f"{model}, the {k} {of} masked that its proof attended to most: {_percent(chosen['accuracy'])} are right, "
            f"a loss of {_points(chosen, 'loss')}. Its excess: {'; '.join(others)}."
        )


def _of_forcing(table: pd.DataFrame) -> Iterator[str]:
    matched = table[table["steps"] == "matched"]
    for model, rows in matched.groupby("model", sort=False):
        right = rows[rows["forced_onto"] == "right"]
        everywhere = right[right["layer"] == "all"]
        for row in everywhere.to_dict("records"):
            same = (rows["layer"] == "all") & (rows["weight"] == row["weight"])
            more = [
                f"{_points(each, 'right_gains_more')} against {_KINDS[each['forced_onto']]}"
                for each in rows[same & (rows["forced_onto"] != "right")].to_dict("records")
            ]
            yield (
                f"{model}, {_percent(row['weight'])} of attention forced onto the right tokens in all layers: "
                f"next tokens come right in {_percent(row['accuracy'])} and not {_percent(row['not_forced'])}, a "
                f"change of {_points(row, 'gain')}. Its excess: {'; '.join(more)}."
            )
        alone = right[right["layer"] != "all"]
        helped = alone[(alone["gain_p_corrected"] < ALPHA) & (alone["gain"] > 0)]
        named = "" if helped.empty else f": layer {', '.join(dict.fromkeys(helped['layer']))}"
        yield (
            f"{model}, one layer forced alone: a gain survives correction in {len(helped)} of {len(alone)} "
            f"cases{named}."
        )


def _points(row: Mapping[Any, Any], name: str) -> str:
    """A difference in points with its interval and corrected p."""
    value, low, high = (100 * row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:+.3g} points ({low:+.3g} to {high:+.3g}; p = {row[f'{name}_p_corrected']:.2g})"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
