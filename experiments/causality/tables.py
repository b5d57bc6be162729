"""The tables of `attention_causality.py`: what cells gave item by item, as shares, differences and their p-values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sweeps import bits

from circuitkit import statistics

JUDGES = ("headline", "strict", "sound")


def models_table(cells: pd.DataFrame, names: list[str], succeeds: float) -> pd.DataFrame:
    """A row a model: its size, how many of its proofs are right, and whether it counts as successful."""
    rows = []
    for name, cell in zip(names, cells.to_dict("records"), strict=True):
        right = bits(cell["headline"])
        low, high = statistics.wilson(int(right.sum()), len(right))
        rows.append(
            {
                "model": name,
                "parameters": cell["parameters"],
                "n_layers": cell["n_layers"],
                "shots": cell["shots"],
                "n": len(right),
                "accuracy": right.mean(),
                "low": low,
                "high": high,
                "strict": bits(cell["strict"]).mean(),
                "sound": bits(cell["sound"]).mean(),
                "unparseable": cell["unparseable"],
                "succeeds": right.mean() >= succeeds,
            }
        )
    return pd.DataFrame(rows)


def masking_table(cells: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a model, set of tokens, k and kind: the accuracy left, the loss, and what the chosen tokens cost more.

    Draws of one kind are averaged item by item, so that every test is paired by item: the sign-flip test for losses and
    their differences, and McNemar's for the chosen tokens, which are one set an item.
    """
    rows = []
    for cell in cells.to_dict("records"):
        conditions = json.loads(cell["conditions"])
        clean = bits(cell["headline"])
        chosen = _mean(conditions, "chosen", "headline")
        for kind in dict.fromkeys(each["kind"] for each in conditions):
            left = _mean(conditions, kind, "headline")
            mcnemar = statistics.mcnemar(clean > 0, left > 0) if kind == "chosen" else None
            rows.append(
                {
                    "model": _name(cell["model"]),
                    "tokens": cell["tokens"],
                    "k": int(cell["k"]),
                    "masked": kind,
                    "n": int(cell["n"]),
                    "accuracy": left.mean(),
                    **_tested(clean - left, "loss", seed),
                    "p_mcnemar": np.nan if mcnemar is None else mcnemar.p,
                    **(_tested(left - chosen, "chosen_costs_more", seed) if kind != "chosen" else {}),
                    "overlap": np.mean([each["overlap"] for each in conditions if each["kind"] == kind]),
                    **{judge: _mean(conditions, kind, judge).mean() for judge in JUDGES[1:]},
                    "share_received": cell["share_received"],
                    "chosen_kinds": cell["chosen_kinds"],
                }
            )
    return _corrected(pd.DataFrame(rows))


def forcing_table(cells: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a model, layer, weight, kind of token and set of steps: next-token accuracy, and its gain.

    `fixed` is the share of wrong next tokens that come right, `broken` that of right ones that go wrong.
    Steps are the gold tokens that have occurred before; "matched" ones have as many other tokens of the same part of
    speech, so that all kinds can be compared on them. Tokens of one proof hang together, so whole proofs are drawn by
    the bootstrap, and flipped by the test.
    """
    rows = []
    for cell in cells.to_dict("records"):
        conditions = json.loads(cell["conditions"])
        proofs, matched = np.array(json.loads(cell["proofs"])), bits(cell["matched"]) > 0
        for called, among in (("matched", matched), ("all", np.ones_like(matched))):
            before, log_before = (_mean(conditions, "not forced", what)[among] for what in ("correct", "log_p"))
            right = _mean(conditions, "chosen", "correct")[among]
            for kind in ("chosen", "random", "same part of speech"):
                if called == "all" and kind == "same part of speech":
                    continue
                after, log_after = (_mean(conditions, kind, what)[among] for what in ("correct", "log_p"))
                rows.append(
                    {
                        "model": _name(cell["model"]),
                        "layer": str(cell["layer"]),
                        "weight": cell["weight"],
                        "forced_onto": "right" if kind == "chosen" else kind,
                        "steps": called,
                        "n": int(among.sum()),
                        "n_proofs": len(np.unique(proofs[among])),
                        "not_forced": before.mean(),
                        "accuracy": after.mean(),
                        **_tested(after - before, "gain", seed, proofs[among]),
                        **(_tested(right - after, "right_gains_more", seed, proofs[among]) if kind != "chosen" else {}),
                        "fixed": ((1 - before) * after).sum() / max(1, (1 - before).sum()),
                        "broken": (before * (1 - after)).sum() / max(1, before.sum()),
                        "gain_nats": (log_after - log_before).mean(),
                    }
                )
    return _corrected(pd.DataFrame(rows))


def _mean(conditions: Sequence[dict[str, Any]], kind: str, what: str) -> np.ndarray:
    """Each item's mean over the draws of one kind."""
    drawn = [each[what] for each in conditions if each["kind"] == kind]
    return np.mean([bits(each) if isinstance(each, str) else np.array(each) for each in drawn], axis=0)


def _tested(values: np.ndarray, name: str, seed: int, groups: np.ndarray | None = None) -> dict[str, float]:
    """A mean with its bootstrap interval and the p-value of its being 0."""
    low, high = statistics.bootstrap_mean(values, seed=seed, groups=groups)
    p = statistics.sign_flip_test(values, seed=seed, groups=groups).p
    return {name: values.mean(), f"{name}_low": float(low), f"{name}_high": float(high), f"{name}_p": float(p)}


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    """The table with each kind of p-value corrected over all of its rows, after Holm, beside it."""
    for name in [name for name in table if name.startswith("p_") or name.endswith("_p")]:
        corrected = statistics.holm(table[name])
        table.insert(list(table).index(name) + 1, f"{name}_corrected", corrected)
    return table


def _name(model: object) -> str:
    return str(getattr(model, "name", model))
