"""Is there a threshold at all: each threshold curve against each smooth one, by a bootstrapped likelihood ratio.

Under a curve without a threshold there is no place to estimate, so a likelihood ratio has no chi-squared law (Davies
1987, Biometrika 74; Hinkley 1970, Biometrika 57); and a step does not contain a logistic curve. Its law is drawn
instead: counts from the fitted smooth curve with its own spread, both curves fitted again to each (Williams 1970,
Biometrics 26). The ratio is divided by the dispersion about the threshold curve, as in a quasi-likelihood F test.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Float
from tqdm import tqdm

from circuitkit.thresholds.curves import CURVES, SMOOTH, THRESHOLDS
from circuitkit.thresholds.fitting import fit_curve
from circuitkit.thresholds.models import Models
from circuitkit.thresholds.spread import dispersions, drawn_about, spread_about

_AT_A_TIME, _PERMUTATIONS = 500, 9999


def against_smooth(models: Models, *, draws: int, seed: int, progress: bool = False) -> pd.DataFrame:
    """Test every threshold curve against every smooth one.

    Columns: `smooth`, `threshold`, `statistic` (the gain in log likelihood, in nats, over the dispersion), `p`, the
    share of draws from the smooth curve, the table itself among them, whose statistic is as large, and `p_corrected`,
    the share in which that of any threshold curve is: several were tried; and the `draws`.
    """
    names = [name for name in THRESHOLDS if len(CURVES[name].places(models))]
    rows = []
    observed = models.correct[None]
    with tqdm(total=len(SMOOTH) * draws, desc="drawing from smooth curves", disable=not progress, leave=False) as bar:
        for number, smooth in enumerate(SMOOTH):
            generator = np.random.default_rng([seed, number])
            curve = CURVES[smooth]
            accuracy = fit_curve(curve, models, models.pooled(observed), models.pooled(models.total[None])).accuracy[0]
            spread = spread_about(models, accuracy[models.at], curve.free)
            drawn = []
            for start in range(0, draws, _AT_A_TIME):
                n = min(_AT_A_TIME, draws - start)
                counts = drawn_about(models, accuracy[models.at], spread, n, generator)
                drawn.append(_gains(models, counts, smooth, names))
                bar.update(n)
            null = np.concatenate(drawn, axis=1)
            told = _gains(models, observed, smooth, names)[:, 0]
            laws = dict(zip(names, null, strict=True))
            rows += [
                {"smooth": smooth, "threshold": name, "statistic": float(value)}
                | {"p": _share(laws[name], value), "p_corrected": _share(null.max(0), value), "draws": draws}
                for name, value in zip(names, told, strict=True)
            ]
    return pd.DataFrame(rows)


def trend(models: Models, *, seed: int) -> float:
    """The p of accuracy going with size at all: Spearman's rank correlation, two-sided, permuting models.

    All permutations are taken where there are fewer than ten thousand. Models count as independent: where families
    deviate together and are of neighbouring sizes, it is small more often than it says.
    """
    size = scipy.stats.rankdata(models.at)
    accuracy = scipy.stats.rankdata(models.correct / models.total)
    if len(set(accuracy)) < 2:
        return 1.0
    test = scipy.stats.permutation_test(
        (accuracy,),
        lambda ranks, axis: (ranks * size).sum(axis),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=_PERMUTATIONS,
        rng=seed,
    )
    return float(test.pvalue)


def _share(law: Float[np.ndarray, " draw"], value: float) -> float:
    return float((1 + (law >= value - 1e-9).sum()) / (1 + len(law)))


def _gains(
    models: Models, correct: Float[np.ndarray, "draw model"], smooth: str, names: list[str]
) -> Float[np.ndarray, "curve draw"]:
    """What each threshold curve gains over a smooth one, over the dispersion about itself."""
    total = np.broadcast_to(models.total, correct.shape)
    pooled = models.pooled(correct), models.pooled(total)
    base = fit_curve(CURVES[smooth], models, *pooled).log_likelihood
    gains = []
    for name in names:
        fits = fit_curve(CURVES[name], models, *pooled)
        spread = dispersions(correct, total, fits.accuracy[:, models.at], CURVES[name].free)
        gains.append((fits.log_likelihood - base) / np.maximum(spread, 1.0))
    return np.array(gains)
