"""A prompt's weights, scores and small maps as text for the page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Float, UInt8

from circuitkit.attention import token_scores
from circuitkit.report.packing import ROOT_STEPS, STEPS, packed, packed_small
from circuitkit.report.sections.attending import Captured, Head


class Packed(TypedDict):
    """A prompt's weights and scores, one kept head behind the other, and how they are to be read."""

    causal: bool
    bits: int
    low: float
    high: float
    weights: str
    scores: str
    unscored: list[int]
    small: Small | None


class Small(TypedDict):
    """Small maps of heads that are left out: of the weights that share a pixel the strongest, as 255 times its root."""

    side: int
    heads: list[Head]
    values: str


@dataclass(frozen=True, eq=False)
class Shown:
    """A prompt, and the heads whose attention on it is in the page.

    Attributes:
        captured: the prompt.
        kept: the heads, layer by layer.
        left_out: heads of which there is only a small map.
        side: the pixels of a small map's side; None where there are none.
        causal: whether no token attends to a later one, so that half of each pattern is enough.
        fine: whether weights have 16 bits in even steps, and not 8 in steps of their root.
        low, high: whole numbers that all weights lie between: 0 and 1, unless something changed the patterns.
    """

    captured: Captured
    kept: tuple[Head, ...]
    left_out: tuple[Head, ...]
    side: int | None
    causal: bool
    fine: bool
    low: float
    high: float

    def error(self, weight: float) -> float:
        """By how much such a weight in the page may differ from the file's."""
        reach = self.high - self.low
        return reach / (2 * STEPS) if self.fine else (reach * (weight - self.low)) ** 0.5 / ROOT_STEPS

    def packed(self) -> Packed:
        """The weights and scores of all kept heads, one head behind the other, and how they are to be read."""
        n = len(self.captured.words)
        places = np.tril_indices(n) if self.causal else tuple(np.indices((n, n)).reshape(2, -1))
        weights, scores, unscored = [], [], []
        for place, pattern in enumerate(self._patterns(self.kept)):
            weights.append(pattern[places].clip(self.low, self.high))
            try:
                scores.append(token_scores(torch.from_numpy(pattern)).numpy())
            except ValueError:
                # All tokens have one score, so that there is no scale.
                scores.append(np.zeros(n))
                unscored.append(place)
        return {
            "causal": self.causal,
            "bits": 16 if self.fine else 8,
            "low": self.low,
            "high": self.high,
            "weights": (packed if self.fine else packed_small)(np.concatenate(weights), self.low, self.high),
            "scores": packed(np.concatenate(scores).clip(0.0, 1.0), 0.0, 1.0),
            "unscored": unscored,
            "small": self._small() if self.left_out and self.side else None,
        }

    def _small(self) -> Small:
        assert self.side is not None
        maps = [_pooled(pattern, self.side) for pattern in self._patterns(self.left_out)]
        values = base64.b64encode(np.stack(maps).tobytes()).decode()
        return {"side": maps[0].shape[0], "heads": list(self.left_out), "values": values}

    def _patterns(self, those: Sequence[Head]) -> Iterable[Float[np.ndarray, "query key"]]:
        for layer, heads in groupby(those, key=lambda head: head[0]):
            patterns = self.captured.patterns(layer).numpy()
            for _, head in heads:
                yield patterns[head]


def _pooled(pattern: Float[np.ndarray, "query key"], side: int) -> UInt8[np.ndarray, "row column"]:
    """A pattern in fewer pixels."""
    n = len(pattern)
    starts = [ceil(at * n / min(side, n)) for at in range(min(side, n))]
    strongest = np.maximum.reduceat(np.maximum.reduceat(pattern, starts, axis=0), starts, axis=1)
    pixels: UInt8[np.ndarray, "row column"] = np.rint(255 * np.sqrt(strongest.clip(0.0, 1.0))).astype(np.uint8)
    return pixels
