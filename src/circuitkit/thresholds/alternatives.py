"""Is there a threshold at all: each threshold curve against each smooth one, by a bootstrapped likelihood ratio.

Under a curve without a threshold there is no place to estimate, so a likelihood ratio has no chi-squared law (Davies
1987, Biometrika 74; Hinkley 1970, Biometrika 57); and a step does not contain a logistic curve. Its law is drawn
instead: counts from the fitted smooth curve with its own spread, both curves fitted again to each (Williams 1970,
Biometrics 26). The ratio is divided by the dispersion about the threshold curve, as in a quasi-likelihood F test.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float
from tqdm import tqdm

from circuitkit.thresholds.curves import CURVES, SMOOTH, THRESHOLDS
from circuitkit.thresholds.fitting import fit_curve
from circuitkit.thresholds.models import Models
from circuitkit.thresholds.spread import dispersions, drawn_about, spread_about

ANY = "any"
_AT_A_TIME = 500


def against_smooth(models: Models, *, draws: int, seed: int, progress: bool = False) -> pd.DataFrame:
    """Test every threshold curve, and the best of them ("any"), against every smooth one.

    Columns: `smooth`, `threshold`, `statistic` (the gain in log likelihood, in nats, over the dispersion) and `p`, the
    share of draws from the smooth curve, the table itself among them, whose statistic is as large. "any" takes the
    largest of the threshold curves' statistics in each draw, so it needs no correction for trying several.
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
            pairs = [*zip(names, told, null, strict=True), (ANY, told.max(), null.max(0))]
            rows += [
                {
                    "smooth": smooth,
                    "threshold": name,
                    "statistic": float(value),
                    "p": float((1 + (law >= value - 1e-9).sum()) / (1 + draws)),
                }
                for name, value, law in pairs
            ]
    return pd.DataFrame(rows)


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
