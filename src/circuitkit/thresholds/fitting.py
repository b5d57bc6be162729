"""Maximum likelihood of a curve, for many data sets and all places of its threshold at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from circuitkit.thresholds.curves import Basis, Curve
from circuitkit.thresholds.models import Models

Counts = Float[np.ndarray, "draw size"]

_BLOCK = 200_000
"""At most how many numbers an array of place, draw and size holds, so that it stays in the processor's cache."""
_MOST_STEPS, _MOST_HALVINGS, _ROUNDING = 100, 8, 1e-12
_HOPE = 10.0
_TIED = 1e-5
"""In nats: places this near are as likely, such as two between the same models of a draw."""


@dataclass(frozen=True)
class Fits:
    """One curve fitted to each of several sets of counts.

    Attributes:
        log_likelihood: of the counts, in nats, without the terms that no curve touches.
        by_place: the same, at each place.
        best: the places that are likeliest; several where the data cannot tell them apart.
        coefficients: the accuracies that the curve goes through, at each place.
        accuracy: at each size, the mean over the best places.
    """

    log_likelihood: Float[np.ndarray, " draw"]
    by_place: Float[np.ndarray, "draw place"]
    best: Bool[np.ndarray, "draw place"]
    coefficients: Float[np.ndarray, "draw place coefficient"]
    accuracy: Float[np.ndarray, "draw size"]


def fit_curve(curve: Curve, models: Models, correct: Counts, total: Counts, *, near: float = 0.01) -> Fits:
    """Fit a curve to each row of counts by binomial likelihood, at every place of its grid.

    Fisher scoring with coefficients held between half an answer above none and half an answer below all. The likelihood
    is concave, and steps are taken until none gains as much as `near`, in nats.

    >>> import pandas as pd
    >>> from circuitkit.thresholds.curves import CURVES
    >>> table = pd.DataFrame({"model": list("abcd"), "family": "x", "parameters": [1e6, 2e6, 4e6, 8e6],
    ...                       "correct": [1, 3, 9, 9], "total": 10})
    >>> models = Models.of(table)
    >>> fits = fit_curve(CURVES["step"], models, models.correct[None], models.total[None])
    >>> fits.accuracy.round(3).tolist()
    [[0.2, 0.2, 0.9, 0.9]]
    """
    basis = curve.at(models)
    if not len(basis):
        raise ValueError(f"{curve.name} has no place among these sizes")
    least = 0.5 / (float(models.total.mean()) + 1)
    step = max(1, _BLOCK // (basis.shape[0] * basis.shape[1]))
    parts = [
        _fit(basis, correct[start : start + step], total[start : start + step], least, near)
        for start in range(0, len(correct), step)
    ]
    return Fits(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _fit(basis: Basis, correct: Counts, total: Counts, least: float, near: float) -> tuple[NDArray[Any], ...]:
    places, _, n = basis.shape
    products = (basis[..., :, None] * basis[..., None, :]).reshape(places, basis.shape[1], n * n)
    pooled = np.clip(correct.sum(1) / total.sum(1), least, 1 - least)
    found = np.broadcast_to(pooled[None, :, None], (places, len(correct), n)).copy()
    wrong = total - correct
    accuracy = found @ basis.transpose(0, 2, 1)
    likelihood = _likelihood(accuracy, correct, wrong)
    for _ in range(_MOST_STEPS):
        weight = 1 / (accuracy * (1 - accuracy))
        curvature = ((weight * total) @ products).reshape(places, len(correct), n, n)
        moved = _solve(curvature, (weight * correct) @ basis, found, least)
        stepped = moved - found
        reached_at = moved @ basis.transpose(0, 2, 1)
        reached = _likelihood(reached_at, correct, wrong)
        # The likelihood is concave, so a step that overshot is halved until it climbs.
        for _ in range(_MOST_HALVINGS):
            place, draw = np.nonzero(reached < likelihood - _ROUNDING * np.abs(likelihood))
            if not len(place):
                break
            stepped[place, draw] /= 2
            moved[place, draw] = found[place, draw] + stepped[place, draw]
            reached_at[place, draw] = (moved[place, draw, None] * basis[place]).sum(-1)
            reached[place, draw] = _likelihood(reached_at[place, draw], correct[draw], wrong[draw])
        accuracy = reached_at
        climbed = np.maximum(reached - likelihood, 0.0)
        # Places that are far behind, and climb no faster than to stay there, can be left unfinished.
        matter = reached + _HOPE * climbed >= reached.max(0)
        found, likelihood = moved, reached
        if climbed[matter].max() < near:
            break
    top = likelihood.max(0)
    best = likelihood >= top - _TIED
    mean = (accuracy * best[..., None]).sum(0) / best.sum(0)[:, None]
    return top, likelihood.T, best.T, found.transpose(1, 0, 2), mean


def _likelihood(
    accuracy: Float[np.ndarray, "*places draw size"], correct: Counts, wrong: Counts
) -> Float[np.ndarray, "*places draw"]:
    return np.asarray((correct * np.log(accuracy) + wrong * np.log1p(-accuracy)).sum(-1))


def _solve(
    curvature: Float[np.ndarray, "place draw coefficient coefficient"],
    slope: Float[np.ndarray, "place draw coefficient"],
    start: Float[np.ndarray, "place draw coefficient"],
    least: float,
) -> Float[np.ndarray, "place draw coefficient"]:
    """The weighted least squares of coefficients in their box: solved freely, then by coordinates where it leaves it.

    A coefficient that no model speaks of stays where it was.
    """
    n = slope.shape[-1]
    diagonal = np.einsum("...kk->...k", curvature)
    unseen = diagonal <= 1e-9 * diagonal.max(-1, keepdims=True)
    # A ridge towards the start makes every system solvable, and moves none that is by itself.
    ridge = np.where(unseen, 1.0, 1e-12 * diagonal)
    full = curvature + np.eye(n) * ridge[..., None]
    aim = slope + ridge * start
    free = _freely(full, aim)
    found = np.clip(free, least, 1 - least)
    outside = (found != free).any(-1)
    if n > 1 and outside.any():
        part, matrix, target = found[outside], full[outside], aim[outside]
        for _ in range(8 * (n - 1)):
            for k in range(n):
                others = (matrix[:, k] * part).sum(-1) - matrix[:, k, k] * part[:, k]
                part[:, k] = np.clip((target[:, k] - others) / matrix[:, k, k], least, 1 - least)
        found[outside] = part
    return np.asarray(found)


def _freely(
    matrix: Float[np.ndarray, "place draw coefficient coefficient"],
    aim: Float[np.ndarray, "place draw coefficient"],
) -> Float[np.ndarray, "place draw coefficient"]:
    if aim.shape[-1] == 1:
        return np.asarray(aim / matrix[..., 0])
    if aim.shape[-1] == 2:
        # In closed form, which is many times faster than a call of LAPACK for each.
        (a, b), (c, d) = (matrix[..., 0, 0], matrix[..., 0, 1]), (matrix[..., 1, 0], matrix[..., 1, 1])
        determinant = np.maximum(a * d - b * c, 1e-300)
        first = (d * aim[..., 0] - b * aim[..., 1]) / determinant
        return np.stack([first, (a * aim[..., 1] - c * aim[..., 0]) / determinant], -1)
    return np.asarray(np.linalg.solve(matrix, aim[..., None])[..., 0])
