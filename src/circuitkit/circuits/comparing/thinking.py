"""Pairs of a thinking and a direct opening behind the same problem, as Thinking Sparks finds its circuits on.

The paper (arXiv 2509.25758) says: same problem, through the chat template; for the post-trained model's circuit the
clean prompt has a thinking opening and the corrupt one a direct opening, for the base model's the other way round;
measured is a divergence, typically the KL, at the next token. It leaves open how long openings are, how clean and
corrupt prompts of different lengths correspond, and which token is aimed at. What is done here is named in `LEFT_OPEN`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from circuitkit.circuits.comparing.openings import Ids, Openings, opening_ids, prompt_ids
from circuitkit.circuits.errors import CircuitError
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.pairs import Pairs
from circuitkit.showing import Shown
from circuitkit.spans import Span, SpanError

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Clean = Literal["thinking", "direct"]
Lengths = Literal["cut", "whole"]
LEFT_OPEN: Mapping[str, str] = {
    "length of openings": 'not stated; here at most `n_tokens`, and under lengths="cut" the shorter of a pair\'s two',
    "correspondence": (
        "not stated, and the reference code takes equal lengths alone; here tokens that both prompts begin with stand "
        "for each other, and behind them those that are as far from the end; what the longer prompt has more has no "
        "counterpart"
    ),
    "target": (
        "not stated beyond the next token; here the clean run's next-token distribution (KL), and as answer the token "
        "that the model finds most likely behind the clean prompt, as distractor that behind the corrupt one"
    ),
    "sequence objectives": "averages over supervised positions are mentioned; here the last position alone is read",
}
"""What the paper does not state, and what is done here."""


@dataclass(frozen=True, eq=False, repr=False)
class _Rows(Span):
    """Positions that each row has in its own place, whatever its text."""

    rows: tuple[tuple[int, ...], ...] = ()

    def positions(
        self, model: Model, prompts: Prompts | Tokens, attention_mask: Tensor | None = None
    ) -> list[tuple[int, ...]]:
        """See `Span.positions`.

        Raises:
            SpanError: there are other numbers of rows.
        """
        n = len(model.tokens(prompts, attention_mask))
        if n != len(self.rows):
            raise SpanError(f"span {self.name} has positions of {len(self.rows)} rows, and there are {n} prompts")
        return list(self.rows)


@dataclass(frozen=True, eq=False, repr=False)
class ThinkingPairs(Shown):
    """Pairs for one model's circuit, and how to attribute on them.

    Hand them on as `attribute(model, found.pairs, found.metric, align=found.align)`.

    Attributes:
        pairs: prompts as token ids; the answer is the model's own next token behind the clean prompt.
        align: which positions correspond: "tokens" where lengths are equal, else spans.
        metric: "kl".
        clean: which opening the clean prompts have.
        kept: the places of the problems that have a pair; those whose two openings are the same tokens have none.
        clean_openings, corrupt_openings: of each pair, as token ids.
        settings: what the pairs were made with.
    """

    pairs: Pairs
    align: Literal["tokens"] | tuple[tuple[Span, Span], ...]
    clean: Clean
    kept: tuple[int, ...]
    n_problems: int
    clean_openings: tuple[tuple[int, ...], ...]
    corrupt_openings: tuple[tuple[int, ...], ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    metric: str = "kl"

    def __len__(self) -> int:
        return len(self.pairs)

    def frame(self, model: Model) -> pd.DataFrame:
        """A row a pair: `problem` (its place), both openings, the answer and the distractor, as text."""

        def said(ids: Sequence[int]) -> str:
            return str(ids) if model.tokenizer is None else str(model.tokenizer.decode(list(ids)))

        answers, distractors = (torch.as_tensor(each).tolist() for each in (self.pairs.answer, self.pairs.distractor))
        return pd.DataFrame(
            {
                "problem": self.kept,
                "clean": [said(each) for each in self.clean_openings],
                "corrupt": [said(each) for each in self.corrupt_openings],
                "answer": [said(each) for each in answers],
                "distractor": [said(each) for each in distractors],
            }
        )

    def _strongest(self) -> None:
        """None, since a table of texts needs the model's tokenizer."""

    def __str__(self) -> str:
        left_out = self.n_problems - len(self)
        equal = "of equal lengths" if self.align == "tokens" else "of different lengths, aligned by spans"
        dropped = f"; left out, since both openings are the same tokens: {left_out}" if left_out else ""
        return f"{len(self)} pairs, {self.clean} openings clean, {equal}, KL of the next token{dropped}"


def thinking_pairs(
    model: Model,
    problems: Sequence[str],
    thinking: Openings,
    direct: Openings,
    *,
    clean: Clean = "thinking",
    n_tokens: int = 8,
    lengths: Lengths = "cut",
    chat: bool | None = None,
    think: bool | None = None,
    direct_problems: Sequence[str] | None = None,
    direct_think: bool | None = None,
    seed: int = 0,
) -> ThinkingPairs:
    """Pairs of a thinking and a direct opening behind the same problems, for one model's circuit.

    For the post-trained model's circuit the thinking opening is clean and the direct one corrupt, for the base model's
    the other way round (`clean="direct"`); give both the same openings. For thinking on against off, the direct opening
    is `openings.THINK_OFF`, or the template's own (`think=True, direct_think=False`).

    Args:
        model: whose circuit is to be found: it reads the prompts, and its next tokens are the answers.
        problems: texts.
        thinking, direct: openings: one for all, one for each problem, or some to draw from; as text, or as token ids
            such as `written_openings` gives.
        clean: which of them the clean prompts have.
        n_tokens: how many tokens of an opening are kept at most.
        lengths: "cut" cuts both openings of a pair to the shorter one's tokens, so that positions correspond one by
            one; "whole" keeps them, and they correspond from their ends.
        chat: whether problems go through the chat template; if None, wherever the tokenizer has one.
        think: what the template's `enable_thinking` is set to.
        direct_problems: the problems as they are asked behind direct openings, where that differs.
        direct_think: the template's `enable_thinking` there; `think` if None.
        seed: of the draw of openings.

    Raises:
        CircuitError: no problems, no openings, other numbers of them, or all pairs have the same opening twice.
        EvaluationError: the tokenizer has no chat template, or one that cannot turn thinking on and off.

    Source: "Thinking Sparks!" (arXiv 2509.25758); `LEFT_OPEN` tells what it does not state.

    >>> problems, thinking, direct = ck.circuits.deductions_with_openings(2, hops=1)
    >>> print(thinking_pairs(ck.load("deductor-130k"), problems, thinking, direct))
    2 pairs, thinking openings clean, of equal lengths, KL of the next token
    """
    _check(clean, lengths, n_tokens)
    first = prompt_ids(model, problems, chat, think)
    asked = problems if direct_problems is None else direct_problems
    second = prompt_ids(model, asked, chat, think if direct_think is None else direct_think)
    if len(first) != len(second):
        raise CircuitError(f"{len(second)} direct problems for {len(first)} problems: give one each")
    opened = [
        [ids[:n_tokens] for ids in opening_ids(model, each, len(first), seed, whose)]
        for each, whose in ((thinking, "thinking"), (direct, "direct"))
    ]
    if lengths == "cut":
        shortest = [min(map(len, pair)) for pair in zip(*opened, strict=True)]
        opened = [[ids[:n] for ids, n in zip(each, shortest, strict=True)] for each in opened]
    sides = [[a + b for a, b in zip(*each, strict=True)] for each in ((first, opened[0]), (second, opened[1]))]
    kept = [row for row, (one, other) in enumerate(zip(*sides, strict=True)) if one != other]
    if not kept:
        raise CircuitError(
            "the thinking and the direct opening of every problem are the same tokens, so nothing differs: give other "
            "openings, or more of them (n_tokens)"
        )
    ours, theirs = (0, 1) if clean == "thinking" else (1, 0)
    rows, others = ([sides[side][row] for row in kept] for side in (ours, theirs))
    pairs = Pairs(rows, others, _next(model, rows), _next(model, others))  # type: ignore[arg-type]  # lists of ids are prompts too
    in_clean, in_corrupt = (tuple(tuple(opened[side][row]) for row in kept) for side in (ours, theirs))
    settings = {"n_tokens": n_tokens, "lengths": lengths, "chat": chat, "think": think, "direct_think": direct_think}
    return ThinkingPairs(pairs, _aligned(rows, others), clean, tuple(kept), len(first), in_clean, in_corrupt, settings)


def _check(clean: str, lengths: str, n_tokens: int) -> None:
    if clean not in ("thinking", "direct"):
        raise CircuitError(f"the clean prompts have the 'thinking' or the 'direct' opening, not {clean!r}")
    if lengths not in ("cut", "whole"):
        raise CircuitError(f"openings are 'cut' to one length or 'whole', not {lengths!r}")
    if n_tokens < 1:
        raise CircuitError(f"openings of {n_tokens} tokens say nothing: give 1 or more")


def _next(model: Model, prompts: list[Ids], batch_size: int = 16) -> Int[Tensor, "pair 1"]:
    """The token that the model finds most likely behind each prompt."""
    parts = [
        model.run(prompts[start : start + batch_size], logits_at=-1).logits.argmax(-1, keepdim=True)
        for start in range(0, len(prompts), batch_size)
    ]
    return torch.cat(parts).cpu()


def _aligned(clean: list[Ids], corrupt: list[Ids]) -> Literal["tokens"] | tuple[tuple[Span, Span], ...]:
    """Which positions correspond: the common beginning, and what lies behind it from the ends on."""
    if all(len(one) == len(other) for one, other in zip(clean, corrupt, strict=True)):
        return "tokens"
    ours, theirs = [], []
    for one, other in zip(clean, corrupt, strict=True):
        shorter = min(len(one), len(other))
        begun = next((at for at in range(shorter) if one[at] != other[at]), shorter)
        behind = range(shorter - begun, 0, -1)
        ours.append((*range(begun), *(len(one) - n for n in behind)))
        theirs.append((*range(begun), *(len(other) - n for n in behind)))
    return ((_Rows("clean", rows=tuple(ours)), _Rows("corrupt", rows=tuple(theirs))),)
