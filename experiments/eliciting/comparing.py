"""What the paper left out: how weights moved, and how alike representations stayed, at sizes that gain and that don't.

The paper names neither. Each measure is held against the gain over the six sizes, by exact permutations: with so few
sizes only a nearly perfect order can be told from chance, and whatever grows with size goes along with all else that
does, which no test of six models can take apart.
"""

from __future__ import annotations

import json
from itertools import combinations
from math import comb, factorial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

import circuitkit as ck
from circuitkit import similarity
from circuitkit.statistics import holm
from eliciting.cells import Cell

MEASURES = {
    "moved": "how far the weights moved, relative to the base's",
    "moved_of_skyline": "how far the weights moved, as a share of how far the skyline's did",
    "stable_rank": "stable rank of a matrix's change, as a share of its smaller side",
    "cosine": "cosine of the change and the skyline's change",
    "cka_base": "CKA with the base, mean over layers",
    "cka_skyline": "CKA with the skyline, mean over layers",
    "cka_approach": "CKA with the skyline, less that of the base with the skyline",
}
"""Of each trained model, a number each; what they are called in tables and what they mean."""
_LARGEST = 8  # sizes whose permutations are counted in full
_SHUFFLES = 10_000  # of more sizes


class Read(Protocol):
    """What all models read to be compared."""

    def texts(self) -> list[str]:
        """Questions with their answers."""


def compared(base: str, skyline: str, tuned: Path, read: Read, most: int, seed: int) -> Cell:
    """How a trained model differs from its base, beside how the skyline does: weight by weight and layer by layer.

    All three read the same token ids, those of the base's tokenizer; `most` of them are drawn.
    """
    start, end, trained = (ck.load(each) for each in (base, skyline, tuned))
    moves = similarity.movement(start, trained).merge(
        similarity.movement(start, end)[["name", "change", "relative", "stable_rank"]],
        on="name",
        suffixes=("", "_skyline"),
    )
    moves = moves.merge(similarity.alignment(start, trained, end)[["name", "cosine"]], on="name")
    sides = {name: min(weight.shape) for name, weight in start.hf.named_parameters()}
    moves["smaller_side"] = moves["name"].map(sides)
    ids = [start.tokenizer(text)["input_ids"] for text in read.texts()]
    held = [similarity.representations(each, ids, most=most, seed=seed) for each in (start, trained, end)]
    pairs = {"cka_base": (0, 1), "cka_skyline": (1, 2), "cka_base_skyline": (0, 2)}
    alike = {
        name: similarity.layer_similarity(held[one], held[other]).set_index("layer")["cka"]
        for name, (one, other) in pairs.items()
    }
    return {
        "moves": moves.to_json(orient="records"),
        "alike": pd.DataFrame(alike).reset_index().to_json(orient="records"),
        "tokens": len(held[0][0]),
        **_summary(moves, pd.DataFrame(alike)),
    }


def _summary(moves: pd.DataFrame, alike: pd.DataFrame) -> dict[str, float]:
    """A number a measure: weights as one vector, matrices' ranks and layers' CKA by their means."""
    changed, changed_skyline = (np.sqrt((moves[f"change{end}"] ** 2).sum()) for end in ("", "_skyline"))
    # The whole's cosine is the mean of its parts', weighted by how long the changes are.
    lengths = moves["change"] * moves["change_skyline"]
    matrices = moves[moves["stable_rank"].notna()]
    return {
        "moved": float(changed / np.sqrt((moves["norm"] ** 2).sum())),
        "moved_of_skyline": float(changed / changed_skyline),
        "stable_rank": float((matrices["stable_rank"] / matrices["smaller_side"]).mean()),
        "cosine": float((moves["cosine"].fillna(0.0) * lengths).sum() / (changed * changed_skyline)),
        "cka_base": float(alike["cka_base"].mean()),
        "cka_skyline": float(alike["cka_skyline"].mean()),
        "cka_approach": float((alike["cka_skyline"] - alike["cka_base_skyline"]).mean()),
    }


def unfolded(cells: pd.DataFrame, column: str) -> pd.DataFrame:
    """What cells kept row by row ("moves", "alike"), each row with its cell's size, examples and seed."""
    parts = [
        pd.DataFrame(json.loads(row[column])).assign(size=row["size"], examples=row["examples"], seed=row["seed"])
        for row in cells.to_dict("records")
    ]
    return pd.concat(parts, ignore_index=True)


def by_role(moves: pd.DataFrame) -> pd.DataFrame:
    """A row a size, number of examples, role and layer: means over seeds (and over a role's matrices in a layer)."""
    measured = ["relative", "relative_skyline", "stable_rank", "stable_rank_skyline", "cosine"]
    found = moves[moves["role"] != ""].groupby(["size", "examples", "role", "layer"], sort=False)
    return found[measured].mean().reset_index()


def by_layer(alike: pd.DataFrame) -> pd.DataFrame:
    """A row a size, number of examples and layer: means over seeds of the three CKAs."""
    measured = ["cka_base", "cka_skyline", "cka_base_skyline"]
    return alike.groupby(["size", "examples", "layer"], sort=False)[measured].mean().reset_index()


def against_gain(cells: pd.DataFrame, gains: pd.DataFrame, examples: int) -> pd.DataFrame:
    """A row a measure: how it goes with the gain over sizes, and how it differs between those that gain and the rest.

    `gains` has a row a size: `size`, `parameters`, `gain` and whether it `gains` (p < 0.05, corrected). Columns: the
    rank correlation with the gain and its exact two-sided p, corrected over measures (Holm); that with the number of
    parameters, which the former has to be read beside; the measure's means in both groups of sizes and the exact p of
    their difference; and the smallest p that so many sizes can give.
    """
    of_size = cells[cells["examples"] == examples].groupby("size")[list(MEASURES)].mean()
    table = gains.set_index("size").join(of_size, how="inner")
    rows = [_measured(name, table) for name in MEASURES]
    found = pd.DataFrame(rows)
    return found.assign(**{f"{name}_corrected": holm(found[name]) for name in ("p", "p_groups")})


def _measured(name: str, table: pd.DataFrame) -> dict[str, Any]:
    values, gain = (table[each].to_numpy(dtype=np.float64) for each in (name, "gain"))
    gains = table["gains"].to_numpy(dtype=bool)
    rho, p = rank_correlation(values, gain)
    with_size, p_size = rank_correlation(values, table["parameters"].to_numpy(dtype=np.float64))
    row = {
        "measure": name,
        "means": MEASURES[name],
        "sizes": len(table),
        "correlation": rho,
        "p": p,
        "smallest_p": 2 / (factorial(len(table)) if len(table) <= _LARGEST else _SHUFFLES + 1),
        "correlation_with_size": with_size,
        "p_with_size": p_size,
        "sizes_that_gain": int(gains.sum()),
        **dict.fromkeys(("mean_where_gained", "mean_elsewhere", "p_groups", "smallest_p_groups"), np.nan),
    }
    if 0 < gains.sum() < len(gains):
        row |= {"mean_where_gained": values[gains].mean(), "mean_elsewhere": values[~gains].mean()}
        row |= {"p_groups": groups_p(values[gains], values[~gains])}
        row |= {"smallest_p_groups": (2 if 2 * gains.sum() == len(gains) else 1) / comb(len(gains), int(gains.sum()))}
    return row


def sentence(found: pd.DataFrame) -> str:
    """In words: which measures go with the gain, by an `against_gain` table, and what so few sizes can tell at all."""
    n, smallest = int(found["sizes"].iloc[0]), float(found["smallest_p"].iloc[0])
    known = found[found["p"].notna()]
    sure = known[known["p_corrected"] < 0.05]
    told = "; ".join(
        f"{row.means} (rank correlation {row.correlation:+.2f}, p = {row.p_corrected:.2g}, with size "
        f"{row.correlation_with_size:+.2f})"
        for row in sure.itertuples(name="Row")
    )
    most = known.loc[known["correlation"].abs().idxmax()] if len(known) else None
    if len(sure):
        said = f"Over {n} sizes the gain goes with {told}."
    elif most is not None:
        said = (
            f"Over {n} sizes no measure surely goes with the gain; the nearest is {most['means']} (rank correlation "
            f"{most['correlation']:+.2f}, p = {most['p']:.2g} alone, {most['p_corrected']:.2g} corrected)."
        )
    else:
        said = f"Over {n} sizes nothing can be held against the gain: they are too few, or it is the same for all."
    if len(known):
        corrected = min(1.0, len(known) * smallest)
        said += f" With {n} sizes p cannot be under {smallest:.2g}, or {corrected:.2g} corrected."
    return said.replace("-", "−")


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """Spearman's correlation and its two-sided p, of all orders of up to eight values; NaN if one is constant."""
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan"), float("nan")
    ranks = stats.rankdata(one), stats.rankdata(other)
    draws = np.inf if len(one) <= _LARGEST else _SHUFFLES
    found = stats.permutation_test(
        (ranks[0],),
        lambda shuffled: np.corrcoef(shuffled, ranks[1])[0, 1],
        permutation_type="pairings",
        n_resamples=draws,
        rng=np.random.default_rng(0),
    )
    return float(found.statistic), float(found.pvalue)


def groups_p(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The two-sided p of a difference of two groups' means, of all ways to divide them so."""
    values = np.concatenate([one, other])
    divided = [list(first) for first in combinations(range(len(values)), len(one))]
    differences = [values[first].mean() - np.delete(values, first).mean() for first in divided]
    reached = abs(one.mean() - other.mean()) * (1 - 1e-9)
    return float(np.mean(np.abs(differences) >= reached))
