"""How far models of a size differ from each other beyond the chance of their questions, and data drawn with it.

Answers of one model are alike: its count spreads wider than a binomial one. The spread is told as Pearson's dispersion
(the variance over a binomial one's), and drawn and scored as a beta-binomial, whose intraclass correlation gives the
same variance. Models of a family deviate together, by a correlation estimated from their residuals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from circuitkit.thresholds.models import Models

PerModel = Float[np.ndarray, "draw model"]

_MOST_ALIKE = 0.95


@dataclass(frozen=True)
class Spread:
    """How far models lie from a curve.

    Attributes:
        dispersion: Pearson's chi-squared over its degrees of freedom; 1 is binomial.
        correlation: between a model's answers, beyond the curve: the beta-binomial's intraclass correlation, 0 to 1.
        family: the correlation of the residuals of models of one family, 0 where it would be negative.
    """

    dispersion: float
    correlation: float
    family: float


def dispersions(correct: PerModel, total: PerModel, accuracy: PerModel, free: int) -> Float[np.ndarray, " draw"]:
    """Pearson's dispersion of each row of counts about a curve with so many fitted numbers; models of no count drop.

    >>> dispersions(np.array([[3.0, 7.0]]), np.array([[10.0, 10.0]]), np.array([[0.5, 0.5]]), 1).round(2).tolist()
    [3.2]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = np.where(total > 0, (correct - total * accuracy) ** 2 / (total * accuracy * (1 - accuracy)), 0.0)
    return np.asarray(squares.sum(-1) / np.maximum((total > 0).sum(-1) - free, 1))


def correlations(dispersion: Float[np.ndarray, " draw"], total: PerModel) -> Float[np.ndarray, " draw"]:
    """The intraclass correlation that gives a dispersion at the models' mean number of questions."""
    asked = total.sum(-1) / np.maximum((total > 0).sum(-1), 1)
    return np.asarray(np.clip((dispersion - 1) / np.maximum(asked - 1, 1), 0.0, 0.99))


def spread_about(models: Models, accuracy: Float[np.ndarray, " model"], free: int) -> Spread:
    """Estimate the spread of models about a curve of so many fitted numbers."""
    correct, total = models.correct[None], models.total[None]
    dispersion = dispersions(correct, total, accuracy[None], free)
    residual = (models.correct - models.total * accuracy) / np.sqrt(models.total * accuracy * (1 - accuracy))
    residual = residual - residual.mean()
    same = (models.family[:, None] == models.family) & ~np.eye(len(residual), dtype=bool)
    power = float((residual**2).mean())
    alike = float((np.outer(residual, residual) * same).sum() / same.sum() / power) if same.any() and power else 0.0
    return Spread(
        float(dispersion[0]), float(correlations(dispersion, total)[0]), float(np.clip(alike, 0.0, _MOST_ALIKE))
    )


def drawn_about(
    models: Models, accuracy: Float[np.ndarray, " model"], spread: Spread, draws: int, generator: np.random.Generator
) -> PerModel:
    """Draw beta-binomial counts about a curve, the families deviating together (by a Gaussian copula)."""
    shared = generator.standard_normal((draws, len(models.families)))[:, models.family]
    own = generator.standard_normal((draws, len(accuracy)))
    if spread.correlation < 1e-9:
        chances = np.broadcast_to(accuracy, own.shape)
    else:
        level = scipy.special.ndtr(np.sqrt(spread.family) * shared + np.sqrt(1 - spread.family) * own)
        sure = 1 / spread.correlation - 1
        chances = np.clip(scipy.special.betaincinv(accuracy * sure, (1 - accuracy) * sure, level), 0.0, 1.0)
    return generator.binomial(models.total.astype(np.int64), chances).astype(np.float64)


def log_score(
    correct: Float[np.ndarray, "..."],
    total: Float[np.ndarray, "..."],
    accuracy: Float[np.ndarray, "..."],
    correlation: Float[np.ndarray, "..."],
) -> Float[np.ndarray, "..."]:
    """The log probability of counts, in nats, under a beta-binomial of a mean and an intraclass correlation.

    >>> np.exp(log_score(*map(np.array, (1.0, 1.0, 0.25, 0.1)))).round(4).item()
    0.25
    """
    # At a correlation of 1e-7 a count of thousands is binomial to the sixth digit.
    sure = 1 / np.maximum(correlation, 1e-7) - 1
    a, b = accuracy * sure, (1 - accuracy) * sure
    ways = -scipy.special.betaln(correct + 1, total - correct + 1) - np.log(total + 1)
    return np.asarray(ways + scipy.special.betaln(correct + a, total - correct + b) - scipy.special.betaln(a, b))
