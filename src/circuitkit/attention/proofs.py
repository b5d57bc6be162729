"""Prompts with their gold answers, token by token: what each answer's token is predicted from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from circuitkit.model.tokens import Tokens

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Texts = Sequence[str] | Sequence[Sequence[int]]


@dataclass(frozen=True)
class Proofs:
    """Prompts that are followed by their gold answers, as one left-padded batch.

    Attributes:
        tokens: prompts and answers; every row's last token is its answer's.
        n_gold: how many of each row's tokens are its answer's.
    """

    tokens: Tokens
    n_gold: tuple[int, ...]

    @classmethod
    def of(cls, model: Model, prompts: Texts, golds: Texts, between: str | None) -> Proofs:
        """Prompts and answers as tokens.

        Raises:
            ValueError: there is not one answer a prompt, an answer is empty, or text and token ids are mixed.
            PromptError: a prompt and its answer together do not fit the model.
        """
        if isinstance(prompts, str) or isinstance(golds, str):
            raise ValueError("prompts and golds are lists: put a single one in brackets")
        if len(prompts) != len(golds) or not len(prompts):
            raise ValueError(f"{len(prompts)} prompts and {len(golds)} golds: give one gold for each prompt")
        if len({isinstance(each, str) for each in (*prompts, *golds)}) > 1:
            raise ValueError("prompts and golds are all text or all token ids, not a mixture")
        rows = [_joined(model, prompt, gold, between) for prompt, gold in zip(prompts, golds, strict=True)]
        for number, (ids, n_gold) in enumerate(rows):
            if n_gold < 1:
                raise ValueError(f"the gold of prompt {number} is empty: it needs one token at least")
            if len(ids) - n_gold < 2:
                raise ValueError(
                    f"prompt {number} has {len(ids) - n_gold} tokens, and a scale from 0 to 1 needs 2 or more before "
                    "the first gold token"
                )
        return cls(model.tokens([ids for ids, _ in rows]), tuple(n_gold for _, n_gold in rows))


def _joined(model: Model, prompt: Any, gold: Any, between: str | None) -> tuple[list[int], int]:
    """A prompt's tokens with its answer's behind them, and how many those are."""
    if not isinstance(prompt, str):
        return [*map(int, prompt), *map(int, gold)], len(gold)
    if model.tokenizer is None:
        raise ValueError(f"{model.name} has no tokenizer: give prompts and golds as token ids")
    if between is None:
        # A doubled space is a token of its own in many vocabularies, and nothing that a model would write.
        between = "" if prompt[-1:].isspace() else " "
    alone: list[int] = list(model.tokenizer(prompt)["input_ids"])
    whole: list[int] = list(model.tokenizer(prompt + between + gold.lstrip(" "))["input_ids"])
    end = getattr(model.tokenizer, "eos_token_id", None)
    if end is not None and len(whole) > 1 and alone[-1:] == whole[-1:] == [end]:
        whole = whole[:-1]
    # Where the two texts' tokens part, the answer begins: a tokenizer may join its first letter to the prompt's end.
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(alone, whole, strict=False)))
    return whole, len(whole) - common if gold.strip() else 0
