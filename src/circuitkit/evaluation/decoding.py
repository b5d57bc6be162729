"""How the next token is chosen: greedily or drawn, out of logits that transformers' own processors have changed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from circuitkit.evaluation.errors import EvaluationError


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen.

    Nothing is taken from a model's generation config but its end tokens: what is not set here does not act. (With
    sampling on, `transformers` cuts to the 50 likeliest tokens unless it is told otherwise; here nothing is cut.)

    Attributes:
        temperature: what logits are divided by before a token is drawn; 0 takes the likeliest token (greedy).
        top_k: tokens are drawn among so many of the likeliest; None for all.
        top_p: tokens are drawn among the likeliest that hold this share of the probability together.
        min_p: tokens are drawn among those at least this share as likely as the likeliest.
        repetition_penalty: what logits of tokens that the row has already are divided by where positive, and multiplied
            by where negative (Keskar et al. 2019); 1 for none. Below 1 it favours them.
        name: what tables call it; its settings if not given.

    Raises:
        EvaluationError: a setting outside its range, or one that greedy decoding does not have.

    >>> Decoding(temperature=0.6, top_p=0.95).greedy
    False
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    name: str = ""

    def __post_init__(self) -> None:
        ranges = {
            "temperature": (self.temperature >= 0, "0 or more"),
            "top_k": (self.top_k is None or self.top_k >= 1, "1 or more"),
            "top_p": (0 < self.top_p <= 1, "over 0 and at most 1"),
            "min_p": (0 <= self.min_p < 1, "0 or more and under 1"),
            "repetition_penalty": (self.repetition_penalty > 0, "over 0"),
        }
        for setting, (fits, said) in ranges.items():
            if not fits:
                raise EvaluationError(f"{setting} is {getattr(self, setting)}, and has to be {said}")
        if self.greedy and (self.top_k, self.top_p, self.min_p) != (None, 1.0, 0.0):
            raise EvaluationError("top_k, top_p and min_p are for drawing tokens: give a temperature over 0 as well")
        if not self.name:
            object.__setattr__(self, "name", self._said())

    def _said(self) -> str:
        told = {key: value for key, value in self.settings.items() if value != getattr(Decoding, key)}
        return ", ".join(f"{key} {value:g}" for key, value in told.items()) or "greedy"

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken, so that a prompt has one response."""
        return self.temperature == 0

    @property
    def settings(self) -> dict[str, Any]:
        """All settings but the name."""
        told = asdict(self)
        del told["name"]
        return told


CLEAN = Decoding(name="clean")
"""Greedy decoding and nothing else."""

PAPER = Decoding(repetition_penalty=0.0001, name="paper")
"""Greedy decoding as Hsiao & Dutta 2025 (arXiv 2502.15120) ran it, whose penalty all but forbids words that are not in
the prompt: a token that was not seen yet wins only where the logits of all seen ones are negative."""


def decoding_of(decoding: str | Decoding) -> Decoding:
    """A way to decode by its name, or the one given.

    Raises:
        EvaluationError: there is none of that name.

    >>> decoding_of("paper").repetition_penalty
    0.0001
    """
    if isinstance(decoding, Decoding):
        return decoding
    named = {each.name: each for each in (CLEAN, PAPER)}
    if decoding not in named:
        raise EvaluationError(f"there is no decoding {decoding!r}: give one of {', '.join(named)}, or a Decoding(…)")
    return named[decoding]
