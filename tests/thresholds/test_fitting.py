"""Curves against what they should be: closed forms, and a general optimiser on the same likelihood."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import minimize

from circuitkit.thresholds import CURVES, Models
from circuitkit.thresholds.fitting import fit_curve
from circuitkit.thresholds.prediction import by_family, by_model, isotonic
from circuitkit.thresholds.spread import correlations, dispersions, drawn_about, log_score, spread_about
from planted_accuracy import hinge, planted, step


def pooled(models: Models) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return models.pooled(models.correct[None]), models.pooled(models.total[None])


def likelihood(models: Models, accuracy: NDArray[np.float64]) -> float:
    at_model = np.clip(accuracy, 1e-12, 1 - 1e-12)[models.at]
    return float((models.correct * np.log(at_model) + (models.total - models.correct) * np.log1p(-at_model)).sum())


@pytest.mark.parametrize("name", list(CURVES))
@given(seed=st.integers(0, 999), questions=st.sampled_from([8, 100]))
@settings(max_examples=3, deadline=None)
def test_no_place_has_a_likelier_curve_than_the_one_found(name: str, seed: int, questions: int) -> None:
    models = Models.of(planted(hinge, seed, models=8, questions=questions, sure=20))
    fits = fit_curve(CURVES[name], models, *pooled(models), near=1e-9)
    least = 0.5 / (questions + 1)
    basis = CURVES[name].at(models)
    for place in {0, len(basis) // 2, int(fits.best[0].argmax())}:
        oracle = minimize(
            lambda levels, at=place: -likelihood(models, basis[at] @ levels),
            np.full(basis.shape[-1], 0.4),
            bounds=[(least, 1 - least)] * basis.shape[-1],
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000},
        )
        assert -oracle.fun <= fits.log_likelihood[0] + 1e-4
        if fits.best[0, place]:
            assert fits.by_place[0, place] == pytest.approx(-oracle.fun, abs=1e-4)
    assert likelihood(models, fits.accuracy[0]) >= fits.log_likelihood[0] - 1e-3


def test_a_step_is_the_best_pair_of_shares() -> None:
    models = Models.of(planted(step, 3, models=10))
    counts = [
        [models.correct[side].sum() / models.total[side].sum() for side in (models.at < gap, models.at >= gap)]
        for gap in range(2, 9)
    ]
    by_hand = [
        likelihood(models, np.where(np.arange(10) < gap, *levels))
        for gap, levels in zip(range(2, 9), counts, strict=True)
    ]
    fits = fit_curve(CURVES["step"], models, *pooled(models))
    assert fits.by_place[0] == pytest.approx(by_hand, abs=1e-6)
    assert fits.coefficients[0, np.argmax(by_hand)] == pytest.approx(counts[np.argmax(by_hand)])


def test_many_sets_of_counts_are_fitted_as_each_by_itself() -> None:
    models = Models.of(planted(hinge, 1, models=9))
    correct = models.pooled(np.random.default_rng(0).binomial(models.total.astype(int), 0.4, size=(5, 9)).astype(float))
    total = np.repeat(models.pooled(models.total[None]), 5, axis=0)
    for curve in CURVES.values():
        together = fit_curve(curve, models, correct, total, near=1e-9).accuracy
        alone = [fit_curve(curve, models, correct[i : i + 1], total[:1], near=1e-9).accuracy[0] for i in range(5)]
        assert together == pytest.approx(np.array(alone), abs=1e-4)


def test_isotonic_accuracy_never_falls_and_pools_what_would() -> None:
    models = Models.of(planted(step, 5, models=12, sure=10))
    levels, blocks = isotonic(models)
    assert (np.diff(levels) >= -1e-12).all() and blocks == len(np.unique(levels.round(9)))
    for level in np.unique(levels):
        here = levels == level
        assert level == pytest.approx(models.correct[here].sum() / models.total[here].sum(), abs=1e-9)


def test_the_score_is_a_beta_binomial_log_probability() -> None:
    counts, accuracy, alike = np.arange(21.0), 0.3, 0.2
    expected = stats.betabinom.logpmf(counts, 20, accuracy * (1 / alike - 1), (1 - accuracy) * (1 / alike - 1))
    assert log_score(counts, np.float64(20), np.float64(accuracy), np.float64(alike)) == pytest.approx(expected)
    binomial = log_score(counts, np.float64(20), np.float64(accuracy), np.float64(0))
    assert binomial == pytest.approx(stats.binom.logpmf(counts, 20, accuracy), abs=1e-4)


def test_leaving_a_model_out_is_fitting_the_others() -> None:
    models = Models.of(planted(step, 2, models=8, families=4, sure=40))
    left = np.arange(8) == 3
    share = models.correct[~left].sum() / models.total[~left].sum()
    kept = models.correct[None] * ~left, models.total[None] * ~left
    spread = correlations(dispersions(*kept, np.full((1, 8), share), 1), kept[1])
    expected = log_score(models.correct[3], models.total[3], np.float64(share), spread[0])
    assert by_model(models)["constant"][3] == pytest.approx(float(expected), abs=1e-6)
    family = models.family == models.family[3]
    share = models.correct[~family].sum() / models.total[~family].sum()
    kept = models.correct[None] * ~family, models.total[None] * ~family
    spread = correlations(dispersions(*kept, np.full((1, 8), share), 1), kept[1])
    folds = by_family(models)
    assert folds is not None
    expected = log_score(models.correct[3], models.total[3], np.float64(share), spread[0])
    assert folds["constant"][3] == pytest.approx(float(expected), abs=1e-6)


def test_drawn_counts_have_the_spread_that_they_were_drawn_with() -> None:
    models = Models.of(planted(step, 0, models=60, families=6, questions=300, sure=30))
    accuracy = np.full(60, 0.4)
    spread = spread_about(models, accuracy, 1)
    drawn = drawn_about(models, accuracy, spread, 400, np.random.default_rng(0))
    again = dispersions(drawn, np.broadcast_to(models.total, drawn.shape), accuracy[None], 0)
    assert again.mean() == pytest.approx(spread.dispersion, rel=0.15)
    assert (drawn / 300).mean() == pytest.approx(0.4, abs=0.02)
