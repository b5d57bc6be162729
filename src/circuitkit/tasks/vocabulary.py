"""What a tokenizer has: words of one token, and texts without a word that it does not know."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """A text's token ids, no special tokens added; none where a word-level tokenizer refuses a word.

    >>> len(token_ids(ck.load("deductor-130k").tokenizer, " wumpus"))
    1
    """
    try:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    except Exception as error:
        # A word-level tokenizer without an unknown token refuses a word, with an error of no class of its own.
        if "UNK" not in str(error):
            raise
        return []


def single_tokens(tokenizer: Any, words: Sequence[str]) -> list[str]:
    """Those of the words that are one known token behind a space.

    >>> single_tokens(ck.load("deductor-130k").tokenizer, ["wumpus", "aardvark"])
    ['wumpus']
    """
    found = {word: token_ids(tokenizer, f" {word}") for word in words}
    return [word for word, ids in found.items() if len(ids) == 1 and ids[0] != tokenizer.unk_token_id]


def require_known(tokenizer: Any, texts: Iterable[str], task: str) -> None:
    """Refuse a tokenizer that does not know a word of some texts.

    Raises:
        ValueError: it does not; the words that it lacks are named.
    """
    for text in texts:
        if not _knows(tokenizer, text):
            words = dict.fromkeys(re.findall(r"\w+|[^\w\s]", text))
            lacking = [word for word in words if not (_knows(tokenizer, word) or _knows(tokenizer, f" {word}"))]
            named = f": it lacks {', '.join(map(repr, lacking))}" if lacking else ""
            raise ValueError(
                f"the tokenizer does not know every word of {text!r}, so {task} cannot be asked with it{named}"
            )


def _knows(tokenizer: Any, text: str) -> bool:
    ids = token_ids(tokenizer, text)
    return bool(ids) and (tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids)


def words_to_draw(tokenizer: Any, vocabulary: Any | Sequence[int]) -> list[int]:
    """The ids that random tokens are drawn from: those given, or all of a tokenizer's but its special ones.

    Raises:
        ValueError: there is neither.
    """
    if vocabulary is not None:
        return [int(token) for token in vocabulary]
    if tokenizer is None:
        raise ValueError("without a tokenizer, name the token ids to draw from: vocabulary=range(…)")
    special = set(tokenizer.all_special_ids)
    return [token for token in range(len(tokenizer)) if token not in special]


def opening(tokenizer: Any) -> list[int]:
    """The token that a tokenizer begins every text with, if it does.

    >>> from circuitkit.model.planted.words import tokenizer
    >>> opening(tokenizer())
    [1]
    """
    bos, special = getattr(tokenizer, "bos_token_id", None), set(tokenizer.all_special_ids)
    if bos is None:
        return []
    # A word-level tokenizer may refuse any word but its own.
    known = next(text for text, token in tokenizer.get_vocab().items() if token not in special)
    return [bos] if list(tokenizer(known)["input_ids"])[:1] == [bos] else []
