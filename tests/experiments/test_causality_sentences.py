"""What the causal tests of attention say of their tables: figures, intervals, corrected p, and tests not made."""

from __future__ import annotations

import pandas as pd
from causality.sentences import said

MODELS = pd.DataFrame(
    [{"model": "m", "succeeds": True, "accuracy": 0.95, "low": 0.76, "high": 0.99, "n": 20, "n_layers": 1, "shots": 0}]
)


def row_of(name: str, value: float) -> dict[str, float]:
    return {name: value, f"{name}_low": value - 0.1, f"{name}_high": value + 0.1, f"{name}_p_corrected": 0.012}


def test_a_loss_is_told_beside_those_of_random_tokens() -> None:
    of = {"model": "m", "tokens": "all", "k": 2}
    rows = [
        {**of, "masked": "chosen", "accuracy": 0.05, **row_of("loss", 0.9)},
        {**of, "masked": "random", "accuracy": 0.85, **row_of("chosen_costs_more", 0.8)},
    ]
    told = list(said(MODELS, pd.DataFrame(rows), None))
    assert told[0] == "m succeeds: 95 % of 20 proofs are right (76 % to 99 %)."
    assert "5 % are right, a loss of +90 points (+80 to +100; p = 0.012)" in told[1]
    assert "Its excess: +80 points (+70 to +90; p = 0.012) against as many random ones." in told[1]
    assert told[2] == "No model fails, so that no attention was forced."


def test_gains_are_told_in_all_layers_and_counted_in_each_alone() -> None:
    of = {"model": "m", "steps": "matched", "weight": 0.25, "accuracy": 0.4, "not_forced": 0.3}
    rows = [
        {**of, "layer": layer, "forced_onto": onto, **row_of("gain", gain), **row_of("right_gains_more", 0.1)}
        for layer, gain in (("0", 0.2), ("1", -0.2), ("all", 0.1))
        for onto in ("right", "random")
    ]
    told = list(said(MODELS, None, pd.DataFrame(rows)))
    assert told[1] == "No model succeeds, so that nothing was masked."
    assert "25 % of attention forced onto the right tokens in all layers: next tokens come right in 40 %" in told[2]
    assert "a change of +10 points (+0 to +20; p = 0.012). Its excess: +10 points" in told[2]
    assert told[3] == "m, one layer forced alone: a gain survives correction in 1 of 2 cases: layer 0."
