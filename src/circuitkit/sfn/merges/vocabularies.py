"""Whether two models mean the same token by the same row of their embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def other_tokens(a: Path, b: Path) -> dict[str, tuple[int | None, int | None]]:
    """The tokens to which two folders' tokenizers give different numbers, with both; None where one has no such token.

    Empty where either has no `tokenizer.json`, and nothing can be told.

    >>> from circuitkit.model import embedded
    >>> other_tokens(embedded.path("deductor-5k-base"), embedded.path("deductor-5k"))
    {}
    """
    first, second = _numbers(a), _numbers(b)
    if not first or not second:
        return {}
    return {
        token: (first.get(token), second.get(token))
        for token in (first | second)
        if first.get(token) != second.get(token)
    }


def _numbers(folder: Path) -> dict[str, int]:
    try:
        told: Any = json.loads((folder / "tokenizer.json").read_bytes())
        vocabulary = told["model"]["vocab"]
        # Unigram models list pieces with their scores, in the order of their numbers.
        by_token = vocabulary if isinstance(vocabulary, dict) else {piece[0]: at for at, piece in enumerate(vocabulary)}
        return dict(by_token) | {added["content"]: added["id"] for added in told.get("added_tokens") or ()}
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return {}
