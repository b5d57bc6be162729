"""Pairs of prompts: a problem with how either model begins to answer it, and deductions that differ in one rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import circuitkit as ck
from circuitkit.circuits.attributing.alignment import Align

Role = Literal["base", "post"]
Ids = tuple[int, ...]
_FEWEST = 4


@dataclass(frozen=True)
class Written:
    """Pairs as token ids, the same for all models.

    Attributes:
        clean, corrupt: prompts of equal lengths, pair by pair.
        answer, distractor: the token that each calls for.
    """

    clean: tuple[Ids, ...]
    corrupt: tuple[Ids, ...]
    answer: Ids
    distractor: Ids

    def on(self, model: ck.Model) -> tuple[ck.Pairs, Align]:
        """The pairs, and how their positions correspond."""
        return ck.Pairs(self.clean, self.corrupt, list(self.answer), list(self.distractor)), "tokens"

    def __len__(self) -> int:
        return len(self.clean)


@dataclass(frozen=True)
class Opened:
    """Problems with how base and post-trained model begin to answer them, as the paper finds its circuits on.

    Attributes:
        problems: texts.
        thinking, direct: how the post-trained model and the base begin, as token ids, each of `tokens` at most.
        tokens: of an opening.
        clean: "thinking" for the post-trained model's circuit and its checkpoints', "direct" for the base's.
        chat: whether problems go through the chat template.
        thinks: whether both are one model, thinking turned on and off in the template.
    """

    problems: tuple[str, ...]
    thinking: tuple[Ids, ...]
    direct: tuple[Ids, ...]
    tokens: int
    clean: Literal["thinking", "direct"] = "thinking"
    chat: bool = False
    thinks: bool = False

    def on(self, model: ck.Model) -> tuple[ck.Pairs, Align]:
        """The pairs of a model, its own next tokens being the answers, and how their positions correspond."""
        found = ck.circuits.thinking_pairs(
            model,
            self.problems,
            self.thinking,
            self.direct,
            clean=self.clean,
            n_tokens=self.tokens,
            chat=self.chat,
            think=True if self.thinks else None,
            direct_think=False if self.thinks else None,
        )
        return found.pairs, found.align

    def of(self, role: Role) -> Opened:
        """Those of the base's circuit, or of the post-trained model's."""
        return replace(self, clean="thinking" if role == "post" else "direct")

    def __len__(self) -> int:
        return len(self.problems)


def tokenizer_of(name: str) -> Any:
    """A model's tokenizer, without the weights of a model from the hub or a folder."""
    if name.startswith(("deductor-", "planted-")):
        return ck.load(name).tokenizer
    # transformers takes seconds to import.
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f"the tokenizer of {name!r} cannot be loaded: {error}") from error


def openings(
    tokenizers: Mapping[Role, Any],
    problems: Sequence[str],
    base: Sequence[str],
    post: Sequence[str],
    tokens: int,
    most: int,
    *,
    chat: bool,
    thinks: bool,
) -> Opened:
    """Problems whose answers by base and post-trained model begin otherwise.

    Raises:
        SystemExit: there are fewer than four, or an opening is other tokens to the other model.
    """
    rows = []
    for problem, before, after in zip(problems, base, post, strict=True):
        direct, thinking = (_same_tokens(tokenizers, text, tokens) for text in (before, after))
        if len(direct) == len(thinking) == tokens and direct != thinking:
            rows.append((problem, thinking, direct))
    if len(rows) < _FEWEST:
        raise SystemExit(
            f"of {len(problems)} problems {len(rows)} are answered by base and post-trained model in {tokens} tokens "
            f"or more that differ, and {_FEWEST} are needed: ask more, or take another number of --opening-tokens"
        )
    asked, thinking_openings, direct_openings = zip(*rows[:most], strict=True)
    return Opened(asked, thinking_openings, direct_openings, tokens, chat=chat, thinks=thinks)


def _same_tokens(tokenizers: Mapping[Role, Any], text: str, tokens: int) -> Ids:
    """The first tokens of a text, which both models read."""
    base, post = (tuple(tokenizers[role].encode(text, add_special_tokens=False)[:tokens]) for role in ("base", "post"))
    if base != post:
        at = next((at for at, (one, other) in enumerate(zip(base, post, strict=False)) if one != other), 0)
        raise SystemExit(
            f"an answer that begins {text[:40]!r} is other tokens to base and post-trained model, from token {at} on "
            f"({tokenizers['base'].decode(base[at:])!r} and {tokenizers['post'].decode(post[at:])!r}): circuits on "
            "openings need models of one vocabulary, such as a base and a checkpoint of its own training"
        )
    return post


def deductions(tokenizer: Any, n: int, seed: int) -> Written:
    """Deductions broken off where the first rule is to be used, corrupt ones with the classes passed on: a step found.

    The same for base and post-trained model, so that what differs between their circuits is the model.
    """
    drawn = ck.tasks.deductions.pairs(tokenizer, n, seed)
    assert drawn.distractor is not None  # deductions have both answers

    def ids(texts: Iterable[Any]) -> tuple[Ids, ...]:
        return tuple(tuple(tokenizer(text)["input_ids"]) for text in texts)

    def first(texts: Iterable[Any]) -> Ids:
        return tuple(tokenizer.encode(text, add_special_tokens=False)[0] for text in texts)

    return Written(ids(drawn.clean), ids(drawn.corrupt), first(drawn.answer), first(drawn.distractor))
