"""Tables of models with a planted law of accuracy, drawn with and without spread between models and families."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import stats

Law = Callable[[np.ndarray], np.ndarray]


def step(logs: np.ndarray) -> np.ndarray:
    return np.where(logs < np.log(1e9), 0.2, 0.65)


def hinge(logs: np.ndarray) -> np.ndarray:
    return 0.15 + 0.3 * np.clip(logs - np.log(1e9), 0, None)


def logistic(logs: np.ndarray) -> np.ndarray:
    return 0.1 + 0.8 / (1 + np.exp(-1.2 * (logs - np.log(1e9))))


def straight(logs: np.ndarray) -> np.ndarray:
    return 0.2 + 0.12 * (logs - np.log(1e8))


def chance(logs: np.ndarray) -> np.ndarray:
    return np.full_like(logs, 0.2)


def planted(
    law: Law,
    seed: int,
    *,
    models: int = 24,
    families: int = 8,
    questions: int = 400,
    sure: float = np.inf,
    alike: float = 0.0,
) -> pd.DataFrame:
    """Models from 1e8 to 1e10 parameters; of finite `sure`, accuracies are beta-distributed about the law.

    Where families are `alike`, each is of neighbouring sizes, and its models deviate together by that correlation.
    """
    generator = np.random.default_rng(seed)
    logs = np.linspace(np.log(1e8), np.log(1e10), models)
    accuracy = law(logs)
    family = np.arange(models) * families // models if alike else np.arange(models) % families
    if np.isfinite(sure) and alike:
        shared, own = generator.standard_normal(families)[family], generator.standard_normal(models)
        level = stats.norm.cdf(np.sqrt(alike) * shared + np.sqrt(1 - alike) * own)
        accuracy = stats.beta.ppf(level, accuracy * sure, (1 - accuracy) * sure)
    elif np.isfinite(sure):
        accuracy = generator.beta(accuracy * sure, (1 - accuracy) * sure)
    return pd.DataFrame(
        {
            "model": [f"m{i}" for i in range(models)],
            "family": [f"f{i}" for i in family],
            "parameters": np.exp(logs),
            "correct": generator.binomial(questions, accuracy),
            "total": questions,
        }
    )
