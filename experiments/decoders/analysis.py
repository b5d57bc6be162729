"""How much of the outcome is architecture, how much data: variance shares, contrasts, and the answer in plain words.

The unit is a trained model. The same seed means the same questions in the same order for every architecture and the
first of them for every amount, so seeds are blocks: outcome ~ architecture x amount of data + seed. What is left is
the luck of a single training. Accuracies enter as logits; all models answer the same test questions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
from jaxtyping import Float
from scipy import stats
from statsmodels.regression.linear_model import RegressionResultsWrapper

from circuitkit import statistics

Outcome = Literal["headline", "strict", "validation_loss"]
SOURCES = ("architecture", "data", "architecture x data", "seed", "left over")
_TERMS = {
    "C(architecture)": "architecture",
    "C(questions)": "data",
    "C(architecture):C(questions)": "architecture x data",
    "C(seed)": "seed",
    "Residual": "left over",
}
_FORMULA = "y ~ C(architecture) * C(questions) + C(seed)"
LEVEL = 0.95
Cube = Float[np.ndarray, "*draw architecture amount seed"]
Cell = tuple[str, int]


def outcome(models: pd.DataFrame, what: Outcome) -> pd.Series:
    """Give each model's outcome on the scale on which effects add up: logits of accuracies, logs of losses.

    `models` has a row a model; an accuracy is the column of hits `what` among `asked`, half a hit added on both sides
    so that nought and all have a logit.
    """
    if what == "validation_loss":
        return pd.Series(np.log(models[what]), index=models.index)
    hits, missed = models[what] + 0.5, models["asked"] - models[what] + 0.5
    return pd.Series(np.log(hits / missed), index=models.index)


def varies(models: pd.DataFrame, what: Outcome) -> bool:
    """Whether any two models differ in an outcome."""
    return models[what].nunique() > 1


def fitted(models: pd.DataFrame, what: Outcome) -> RegressionResultsWrapper:
    """Fit the study's linear model.

    Raises `ValueError` unless each architecture is there once with every amount of data and every seed.
    """
    counts = models.groupby(["architecture", "questions", "seed"]).size()
    cells = [models[name].nunique() for name in ("architecture", "questions", "seed")]
    if len(counts) != np.prod(cells) or (counts != 1).any():
        raise ValueError("the design is not whole: every architecture needs each amount of data with each seed, once")
    if cells[2] < 2:
        raise ValueError("one seed leaves nothing to tell chance by: train two at least")
    return smf.ols(_FORMULA, models.assign(y=outcome(models, what))).fit()


def variance_shares(models: pd.DataFrame, what: Outcome, *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Give each source's share of the variance between models, with intervals and tests; a row a source.

    `share` is its sum of squares over the total; `corrected` is omega squared, from which what chance alone would give
    is taken off (Hays 1963); `low` and `high` are its 95 % interval by a parametric bootstrap of the fitted model; all
    three are cut to 0 to 1. `F` and `p` are the analysis of variance's. `p_shuffled` asks nothing of the distribution:
    architectures are shuffled within each amount and seed, amounts within each architecture and seed.

    Raises `ValueError` where the design is not whole, or all models have the same outcome.
    """
    if not varies(models, what):
        raise ValueError(f"all models have the same {what}: there is no variance to divide")
    fit = fitted(models, what)
    table = sm.stats.anova_lm(fit).rename(index=_TERMS).loc[list(SOURCES)]
    random = np.random.default_rng(seed)
    drawn = _cube(models, fit.fittedvalues) + random.normal(
        0, fit.mse_resid**0.5, (draws, *_cube(models, fit.fittedvalues).shape)
    )
    observed = _cube(models, outcome(models, what))
    shares = _shares(observed)
    corrected = _corrected(drawn)
    return pd.DataFrame(
        {
            "source": SOURCES,
            "share": shares,
            "corrected": _corrected(observed),
            "low": np.quantile(corrected, (1 - LEVEL) / 2, axis=0),
            "high": np.quantile(corrected, (1 + LEVEL) / 2, axis=0),
            "df": table["df"].to_numpy(),
            "F": table["F"].to_numpy(),
            "p": table["PR(>F)"].to_numpy(),
            "p_shuffled": [*_shuffled(observed, draws, random), np.nan, np.nan, np.nan],
        }
    )


def _cube(models: pd.DataFrame, values: pd.Series) -> Cube:
    """Lay values out as [architecture, amount, seed]."""
    keyed = (
        models[["architecture", "questions", "seed"]]
        .assign(y=values)
        .sort_values(["architecture", "questions", "seed"])
    )
    return keyed["y"].to_numpy().reshape([keyed[name].nunique() for name in ("architecture", "questions", "seed")])


def _squares(cube: Cube) -> tuple[Cube, Float[np.ndarray, " source"]]:
    """Give the sums of squares and degrees of freedom of the sources; draws may lead the axes of `cube`."""
    a, q, s = cube.shape[-3:]
    centred = cube - cube.mean((-3, -2, -1), keepdims=True)
    architecture, data, seed = (centred.mean(axes, keepdims=True) for axes in ((-2, -1), (-3, -1), (-3, -2)))
    both = centred.mean(-1, keepdims=True) - architecture - data
    parts = [architecture, data, both, seed, centred - architecture - data - both - seed]
    sums = [(np.broadcast_to(part, cube.shape) ** 2).sum((-3, -2, -1)) for part in parts]
    return np.stack(sums, -1), np.array([a - 1, q - 1, (a - 1) * (q - 1), s - 1, (a * q - 1) * (s - 1)], dtype=float)


def _shares(cube: Cube) -> Cube:
    sums, _ = _squares(cube)
    shares: Cube = sums / sums.sum(-1, keepdims=True)
    return shares


def _corrected(cube: Cube) -> Cube:
    """Omega squared of every source; what is left over gets what the others lose."""
    sums, df = _squares(cube)
    chance = sums[..., -1:] / df[-1]
    found = (sums - df * chance) / (sums.sum(-1, keepdims=True) + chance)
    found[..., -1] = 1 - found[..., :-1].sum(-1)
    cut: Cube = found.clip(0, 1)
    return cut


def _shuffled(cube: Cube, draws: int, random: np.random.Generator) -> list[float]:
    """How often shuffled architectures, and shuffled amounts, have as large a share as the true ones."""
    found = []
    for axis in (0, 1):
        drawn = random.permuted(np.broadcast_to(cube, (draws, *cube.shape)), axis=axis + 1)
        as_large = _shares(drawn)[:, axis] >= _shares(cube)[axis] * (1 - 1e-9)
        found.append((1 + int(as_large.sum())) / (1 + draws))
    return found


def architecture_contrasts(models: pd.DataFrame, what: Outcome) -> pd.DataFrame:
    """Compare architectures at each amount of data: a row a pair and an amount, as in `_contrasts`."""
    names = list(dict.fromkeys(models["architecture"]))
    amounts = sorted(models["questions"].unique())
    pairs = [((a, q), (b, q)) for q in amounts for a, b in itertools.combinations(names, 2)]
    return _contrasts(models, what, pairs)


def data_contrasts(models: pd.DataFrame, what: Outcome) -> pd.DataFrame:
    """Compare amounts of data for each architecture: a row a step to the next amount, and the least to the most."""
    names = list(dict.fromkeys(models["architecture"]))
    amounts = sorted(models["questions"].unique())
    steps = list(dict.fromkeys([*itertools.pairwise(amounts), (amounts[0], amounts[-1])]))
    return _contrasts(models, what, [((a, more), (a, less)) for a in names for less, more in steps])


def _contrasts(models: pd.DataFrame, what: Outcome, pairs: Sequence[tuple[Cell, Cell]]) -> pd.DataFrame:
    """Contrast pairs of (architecture, amount): `difference` is the first minus the second on the model's scale.

    Its standard error is that of all trainings together, seeds being blocks. `low` and `high` hold for all rows at once
    (Bonferroni), `p_corrected` is Holm's, and `survives` says that it is below 0.05. `points` is the difference of the
    mean accuracies in percentage points, or of the mean losses in nats, as it was measured.
    """
    fit, y = fitted(models, what), outcome(models, what)
    plain = models["validation_loss"] if what == "validation_loss" else 100 * models[what] / models["asked"]
    cell = pd.MultiIndex.from_frame(models[["architecture", "questions"]])
    means, measured = y.groupby(cell).mean(), plain.groupby(cell).mean()
    error = (2 * fit.mse_resid / models["seed"].nunique()) ** 0.5
    rows = pd.DataFrame(
        {
            "first": [a for (a, _), _ in pairs],
            "first_questions": [q for (_, q), _ in pairs],
            "second": [b for _, (b, _) in pairs],
            "second_questions": [q for _, (_, q) in pairs],
            "difference": [means[a] - means[b] for a, b in pairs],
            "points": [measured[a] - measured[b] for a, b in pairs],
        }
    )
    reach = error * stats.t.ppf(1 - (1 - LEVEL) / 2 / len(pairs), fit.df_resid)
    rows["low"], rows["high"] = rows["difference"] - reach, rows["difference"] + reach
    rows["p"] = 2 * stats.t.sf(np.abs(rows["difference"]) / error, fit.df_resid)
    corrected = statistics.holm(rows["p"])
    return rows.assign(survives=corrected < 1 - LEVEL, p_corrected=corrected)
