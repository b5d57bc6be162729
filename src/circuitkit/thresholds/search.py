"""The search itself: every curve, every test, every family, put together as one finding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from circuitkit.records import provenance
from circuitkit.statistics.cells import checked_level
from circuitkit.thresholds.alternatives import against_smooth, trend
from circuitkit.thresholds.chance import judge_models
from circuitkit.thresholds.curves import CURVES, ISOTONIC, THRESHOLDS, Curve
from circuitkit.thresholds.errors import ThresholdError
from circuitkit.thresholds.families import within_families
from circuitkit.thresholds.finding import Threshold
from circuitkit.thresholds.fitting import fit_curve
from circuitkit.thresholds.location import Location, locate, unit_drawn
from circuitkit.thresholds.models import LEAST_SIZES, Models
from circuitkit.thresholds.prediction import by_family, by_model, isotonic
from circuitkit.thresholds.spread import spread_about

_POINTS = 240
_LEAST_DRAWS = 19
_FEW_DRAWS = 99
_OPEN = 4.0
"""Of fewer standard errors than this from the level, a p of few draws may be on either side of it."""


def find(
    table: pd.DataFrame,
    *,
    task: str = "",
    chance: float | None = None,
    draws: int = 2000,
    level: float = 0.95,
    leave_out: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> Threshold:
    """Look for a threshold in accuracy against the number of parameters.

    Args:
        table: a row a model, with columns `model`, `family`, `parameters`, `correct`, `total`, and, if it is known,
            `unparseable` (counts). A family is what shares training data and architecture; other columns are kept.
        task: what the answers are to, for titles and sentences.
        chance: the accuracy of a random answer, where there is such a thing: `Task.chance`.
        draws: of the bootstrap and of each test. A search without a family takes all of them too where 99 cannot
            tell on which side of the level its p is.
        leave_out: whether to search again without each family.

    Raises:
        ThresholdError: a column, a model or a number is missing or impossible, or there are fewer than four sizes; it
            names the row.

    >>> table = pd.DataFrame({"model": list("abcdefgh"), "family": list("xyxyxyxy"),
    ...                       "parameters": [1e6 * 2**k for k in range(8)], "correct": [20] * 4 + [90] * 4,
    ...                       "total": 100})
    >>> found = find(table, draws=199, progress=False)
    >>> found.verdict, round(found.breakpoint / 1e6, 1)
    ('threshold', 11.3)
    """
    checked_level(level)
    if draws < _LEAST_DRAWS:
        raise ThresholdError(f"{draws} draws tell no p under 0.05; take {_LEAST_DRAWS} at the least, better 2000")
    models = Models.of(table)
    frame = judge_models(models.frame, chance=chance, task=task, level=level)
    names = [name for name in THRESHOLDS if len(CURVES[name].places(models))]
    located = locate(models, names, draws=draws, level=level, seed=seed)
    scores, family_scores = by_model(models), by_family(models)
    told = {f"score_{name}": values for name, values in scores.items()}
    told |= {f"family_score_{name}": values for name, values in (family_scores or {}).items()}
    found = Threshold(
        frame=frame.assign(**told),
        curves=_curves(models, located, scores, family_scores),
        lines=_lines(models),
        tests=against_smooth(models, draws=draws, seed=seed, progress=progress),
        p_trend=trend(models, seed=seed),
        families=pd.DataFrame(),
        left_out=_left_out(models, draws if leave_out else 0, level, seed, progress),
        task=task,
        chance=chance,
        level=level,
        seed=seed,
        resampled=unit_drawn(models),
        provenance=_origin(models, seed, draws),
    )
    return replace(found, families=within_families(models, found.breakpoint, float(found.best["rise"]), level=level))


def _origin(models: Models, seed: int, draws: int) -> dict[str, Any]:
    counts = models.frame[["model", "family", "parameters", "correct", "total"]]
    return provenance(
        model_name=f"{len(counts)} models",
        data=[[str(value) for value in row] for row in counts.to_numpy().tolist()],
        seed=seed,
        study="thresholds.find",
        draws=draws,
    )


def _curves(
    models: Models,
    located: dict[str, Location],
    model_scores: dict[str, Any],
    family_scores: dict[str, Any] | None,
) -> pd.DataFrame:
    correct, total = models.pooled(models.correct[None]), models.pooled(models.total[None])
    rows = []
    for name, scores in model_scores.items():
        if name == ISOTONIC:
            levels, free = isotonic(models)
            accuracy, kind = levels, "rising"
        elif len(CURVES[name].places(models)):
            accuracy, free = fit_curve(CURVES[name], models, correct, total, near=1e-9).accuracy[0], CURVES[name].free
            kind = "threshold" if CURVES[name].threshold else "smooth"
        else:
            continue
        spread = spread_about(models, accuracy[models.at], free)
        row = {"curve": name, "kind": kind, "free": free, "log_likelihood": _likelihood(models, accuracy)}
        row |= {"dispersion": spread.dispersion, "answer_correlation": spread.correlation}
        row |= {"family_correlation": spread.family, "model_score": float(scores.mean())}
        row["family_score"] = float(family_scores[name].mean()) if family_scores else np.nan
        rows.append(row | _place(located.get(name)))
    return pd.DataFrame(rows)


def _likelihood(models: Models, accuracy: Any) -> float:
    at_model = accuracy[models.at]
    wrong = models.total - models.correct
    return float((models.correct * np.log(at_model) + wrong * np.log1p(-at_model)).sum())


def _place(location: Location | None) -> dict[str, float]:
    columns = ("breakpoint", "gap_low", "gap_high", "low", "high", "before", "rise", "rise_low", "rise_high", "draws")
    if location is None:
        return dict.fromkeys(columns, np.nan)
    values = (
        location.breakpoint,
        *location.gap,
        *location.interval,
        location.before,
        location.rise,
        *location.rise_interval,
        float(location.draws),
    )
    return dict(zip(columns, values, strict=True))


def _lines(models: Models) -> pd.DataFrame:
    """Each curve at evenly spaced log sizes, the mean over its best places."""
    points = np.linspace(0.0, models.log_sizes[-1], _POINTS)
    correct, total = models.pooled(models.correct[None]), models.pooled(models.total[None])
    drawn = {ISOTONIC: np.interp(points, models.log_sizes, isotonic(models)[0])}
    for name, curve in CURVES.items():
        if len(curve.places(models)):
            drawn[name] = _drawn_out(curve, models, points, correct, total)
    parameters = models.sizes[0] * np.exp(points)
    return pd.concat(
        [pd.DataFrame({"curve": name, "parameters": parameters, "accuracy": line}) for name, line in drawn.items()],
        ignore_index=True,
    )


def _drawn_out(curve: Curve, models: Models, points: Any, correct: Any, total: Any) -> Any:
    fits = fit_curve(curve, models, correct, total, near=1e-9)
    best = fits.best[0]
    each = (curve.at(models, points)[best] * fits.coefficients[0, best][:, None]).sum(-1)
    return each.mean(0)


def _searched(table: pd.DataFrame, draws: int, level: float, seed: int) -> Threshold:
    """A search with few draws, and with all of them where the few leave it open whether its p is under the level."""
    found = find(table, draws=min(draws, _FEW_DRAWS), level=level, seed=seed, leave_out=False, progress=False)
    if draws <= _FEW_DRAWS or abs(found.p - (1 - level)) > _OPEN * found.p_error:
        return found
    return find(table, draws=draws, level=level, seed=seed, leave_out=False, progress=False)


def _left_out(models: Models, draws: int, level: float, seed: int, progress: bool) -> pd.DataFrame:
    """The search again without each family; a family without which too few sizes are left has no verdict."""
    columns = ("family", "verdict", "curve", "breakpoint", "low", "high", "p")
    families = models.families if draws and len(models.families) > 1 else ()
    rows: list[dict[str, Any]] = []
    for family in tqdm(families, desc="leaving out families", disable=not progress, leave=False):
        rest = models.without(family)
        row: dict[str, Any] = dict.fromkeys(columns, np.nan) | {
            "family": family,
            "verdict": "too few sizes",
            "curve": "",
        }
        if rest["parameters"].nunique() >= LEAST_SIZES:
            found = _searched(rest, draws, level, seed)
            row |= {
                "verdict": found.verdict,
                "curve": found.best["curve"],
                "breakpoint": found.breakpoint,
                "p": found.p,
            }
            row |= dict(zip(("low", "high"), found.interval, strict=True))
        rows.append(row)
    return pd.DataFrame(rows, columns=list(columns))
