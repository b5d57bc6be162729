"""Cross-validation: how well each curve, fitted without a model or a whole family, predicts its answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy
from jaxtyping import Bool, Float

from circuitkit.thresholds.curves import CURVES, ISOTONIC, Curve
from circuitkit.thresholds.fitting import fit_curve
from circuitkit.thresholds.models import Models
from circuitkit.thresholds.spread import correlations, dispersions, log_score


def isotonic(models: Models, kept: Bool[np.ndarray, " model"] | None = None) -> tuple[Float[np.ndarray, " size"], int]:
    """The accuracies at each size that fit best among those that never fall, and how many levels they have.

    Between sizes that are kept, they go straight in log size. Source: Barlow & Brunk 1972, J. Am. Stat. Assoc. 67.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"model": list("abcd"), "family": "x", "parameters": [1e6, 2e6, 4e6, 8e6],
    ...                       "correct": [1, 4, 2, 9], "total": 10})
    >>> isotonic(Models.of(table))[0].round(2).tolist()
    [0.1, 0.3, 0.3, 0.9]
    """
    kept = np.ones(len(models.at), dtype=bool) if kept is None else kept
    correct, total = (models.pooled((counts * kept)[None])[0] for counts in (models.correct, models.total))
    there = total > 0
    found = scipy.optimize.isotonic_regression(correct[there] / total[there], weights=total[there])
    levels = np.interp(models.log_sizes, models.log_sizes[there], np.asarray(found.x))
    least = 0.5 / (float(models.total.mean()) + 1)
    return np.clip(levels, least, 1 - least), len(found.blocks) - 1


def scores(models: Models, left_out: Sequence[Bool[np.ndarray, " model"]]) -> dict[str, Float[np.ndarray, " model"]]:
    """Each curve's log score, in nats, of every model's count, fitted to the models outside its fold.

    `left_out` are the folds, each model in one of them. The spread about a curve is that of the others, too. Where the
    others cannot place a breakpoint, as when the model next to a step is left out, the prediction is a mixture over
    places, each weighing as much as its likelihood (over the dispersion).
    """
    out = np.array(left_out)
    told = {name: _scores_of(curve, models, out) for name, curve in CURVES.items() if len(curve.places(models))}
    return told | {ISOTONIC: _scores_of_isotonic(models, out)}


def _scores_of(curve: Curve, models: Models, out: Bool[np.ndarray, "fold model"]) -> Float[np.ndarray, " model"]:
    correct, total = models.correct * ~out, models.total * ~out
    fits = fit_curve(curve, models, models.pooled(correct), models.pooled(total))
    spread = dispersions(correct, total, fits.accuracy[:, models.at], curve.free)
    behind = (fits.by_place - fits.log_likelihood[:, None]) / np.maximum(spread, 1.0)[:, None]
    weight = behind - scipy.special.logsumexp(behind, axis=1, keepdims=True)
    alike = correlations(spread, total)[:, None, None]
    accuracy = np.einsum("psc,dpc->dps", curve.at(models), fits.coefficients)[..., models.at]
    each = log_score(models.correct, models.total, accuracy, alike)
    mixed = scipy.special.logsumexp(each + weight[..., None], axis=1)
    return np.asarray((mixed * out).sum(0))


def _scores_of_isotonic(models: Models, out: Bool[np.ndarray, "fold model"]) -> Float[np.ndarray, " model"]:
    told = np.zeros(len(models.at))
    for fold in out:
        levels, blocks = isotonic(models, ~fold)
        at_model = levels[models.at]
        total = (models.total * ~fold)[None]
        spread = dispersions((models.correct * ~fold)[None], total, at_model[None], blocks)
        each = log_score(models.correct, models.total, at_model, correlations(spread, total))
        told += np.where(fold, each, 0.0)
    return told


def by_model(models: Models) -> dict[str, Float[np.ndarray, " model"]]:
    """Scores with one model left out at a time."""
    return scores(models, list(np.eye(len(models.at), dtype=bool)))


def by_family(models: Models) -> dict[str, Float[np.ndarray, " model"]] | None:
    """Scores with a whole family left out at a time; None where what is left holds too few sizes to fit."""
    folds = [models.family == family for family in range(len(models.families))]
    if len(folds) < 2 or any(len(set(models.at[~fold])) < 3 for fold in folds):
        return None
    return scores(models, folds)
