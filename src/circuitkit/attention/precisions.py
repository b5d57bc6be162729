"""How far attention scores hang on the precision that a model computes in."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.attention.reductions import FirstColumn
from circuitkit.attention.streamed import TokenScores, scores
from circuitkit.model.model import Model
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.run.interventions import InterventionError
from circuitkit.showing import Shown
from circuitkit.writing import write_table

_REFERENCE = "float32"


@dataclass(frozen=True, eq=False, repr=False)
class Agreement(Shown):
    """Scores of the same prompts by the same model in several precisions, each against single precision.

    Attributes:
        scored: by precision.
        frame: a row a prompt, precision, layer and head: Spearman's rank correlation over the prompt's tokens, the
            largest difference of a score, and the share of the highest tokens that are among the highest of both.
        top: how many tokens are the highest.
    """

    scored: dict[str, TokenScores]
    frame: pd.DataFrame
    top: int

    @property
    def table(self) -> pd.DataFrame:
        """A row a precision, layer and head: mean and lowest correlation, largest difference, mean overlap."""
        grouped = self.frame.groupby(["dtype", "layer", "head"], sort=False)
        columns = {
            "rank_correlation": ("rank_correlation", "mean"),
            "lowest_correlation": ("rank_correlation", "min"),
            "largest_difference": ("largest_difference", "max"),
            f"top_{self.top}_overlap": ("overlap", "mean"),
        }
        return grouped.agg(**columns).reset_index()

    def _says(self) -> list[str]:
        return [
            f"{dtype} against {_REFERENCE}: tokens' rank correlation {rows['rank_correlation'].mean():.4f} on average "
            f"(lowest {rows['rank_correlation'].min():.4f}); differences of {rows['largest_difference'].max():.2g} at "
            f"most; {rows['overlap'].mean():.0%} of the {self.top} highest tokens are the same."
            for dtype, rows in self.frame.groupby("dtype", sort=False)
        ]

    def _strongest(self) -> pd.DataFrame:
        return self.table.sort_values("rank_correlation", kind="stable")

    def to_csv(self, path: str | Path) -> Path:
        """Write `frame` as CSV, whole or not at all, and give the path."""
        path = Path(path)
        write_table(path, self.frame)
        return path


def agreement(
    model: Model,
    prompts: Prompts | Tokens,
    layers: int | Iterable[int] | None = None,
    heads: int | Iterable[int] | None = None,
    *,
    dtypes: Sequence[str] = ("float16", "bfloat16"),
    top: int = 10,
    first_column: FirstColumn = "zeroed",
    attention_mask: Tensor | None = None,
    progress: bool = True,
) -> Agreement:
    """Score the same prompts with the model in each precision, and tell how far the scores agree with single precision.

    A copy of the model is made for each precision in turn, and the given one is left as it is. Weights that were loaded
    in half precision are what single precision computes with too: only the computing differs then.

    Args:
        model: the model.
        prompts: what it reads.
        layers: which; the last that has a pattern if None.
        heads: which; all if None.
        dtypes: precisions that are held against float32.
        top: how many tokens count as the highest.
        first_column: see `scores`.
        attention_mask: 1 on real tokens, for a padded token tensor.
        progress: show bars over the prompts.

    Raises:
        ValueError: a precision has no such name, the model is quantised, or a prompt has fewer than `top` tokens.
        InterventionError: the logits hold NaN in one of the precisions, as float16's do where it overflows.
        SiteError, PromptError: see `scores`.

    >>> model = ck.load("deductor-5k")
    >>> found = agreement(model, "Every wumpus is a dumpus.", top=2, dtypes=["bfloat16"], progress=False)
    >>> bool(found.table["rank_correlation"].min() > 0.9)
    True
    """
    if not set(dtypes) - {_REFERENCE}:
        raise ValueError(f"no precision is held against {_REFERENCE}: name one at least, such as bfloat16")
    for name in dtypes:
        if not (isinstance(getattr(torch, name, None), torch.dtype) and getattr(torch, name).is_floating_point):
            raise ValueError(f"{name!r} is no precision: give float16, bfloat16 or float64")
    if getattr(model.hf, "is_quantized", False):
        raise ValueError(f"{model.name} is quantised, so it cannot be put into other precisions: load it without")
    tokens = model.tokens(prompts, attention_mask)
    if top < 1 or bool((tokens.lengths < top).any()):
        raise ValueError(
            f"the highest {top} tokens are asked for, and the shortest prompt has {int(tokens.lengths.min())}"
        )
    scored = {
        name: _scored(model, name, tokens, layers, heads, first_column, progress)
        for name in dict.fromkeys((_REFERENCE, *dtypes))
    }
    compared = [_compared(name, scored[_REFERENCE], scored[name], top) for name in scored if name != _REFERENCE]
    return Agreement(scored, pd.concat(compared, ignore_index=True), top)


def _scored(
    model: Model,
    dtype: str,
    tokens: Tokens,
    layers: int | Iterable[int] | None,
    heads: int | Iterable[int] | None,
    first_column: FirstColumn,
    progress: bool,
) -> TokenScores:
    one = Model(copy.deepcopy(model.hf).to(getattr(torch, dtype)), model.tokenizer, name=f"{model.name} ({dtype})")
    try:
        return scores(one, tokens, layers, heads, first_column=first_column, progress=progress)
    except InterventionError as error:
        raise InterventionError(f"{dtype}: {error}; leave {dtype} out, or look at why it overflows") from error


def _compared(dtype: str, reference: TokenScores, other: TokenScores, top: int) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for row in range(len(reference.words)):
        real = reference.tokens.mask[row].cpu()
        for at, layer in enumerate(reference.layers):
            for place, head in enumerate(reference.heads):
                exact, rough = (each.values[row, at, place][real].double().numpy() for each in (reference, other))
                if np.isnan(exact).any():
                    continue
                rows.append(
                    {"prompt": row, "dtype": dtype, "layer": layer, "head": head, **_agreeing(exact, rough, top)}
                )
    return pd.DataFrame(rows)


def _agreeing(exact: Float[np.ndarray, " token"], rough: Float[np.ndarray, " token"], top: int) -> dict[str, float]:
    both = set(np.argsort(-exact, kind="stable")[:top]) & set(np.argsort(-rough, kind="stable")[:top])
    return {
        "rank_correlation": float(scipy.stats.spearmanr(exact, rough).statistic),
        "largest_difference": float(np.abs(exact - rough).max()),
        "overlap": len(both) / top,
    }
