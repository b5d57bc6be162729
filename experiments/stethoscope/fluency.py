"""How likely a model finds held-out text that needs no reasoning."""

from __future__ import annotations

from collections.abc import Sequence

import torch

import circuitkit as ck


def log_likelihoods(model: ck.Model, texts: Sequence[str], batch: int = 64) -> list[float]:
    """For each text, the mean log-likelihood of its tokens but the first, in nats a token.

    Raises:
        ValueError: a text is a single token, which nothing predicts.

    >>> round(log_likelihoods(ck.load("deductor-5k"), ["Q: Every wumpus is shy. Max is a wumpus."])[0], 1)
    -2.0
    """
    found: list[float] = []
    for start in range(0, len(texts), batch):
        tokens = model.tokens(list(texts[start : start + batch]))
        ids, mask = tokens.ids.to(model.device), tokens.mask.to(model.device).bool()
        with torch.no_grad():
            logits = model.run(ids, attention_mask=mask.long()).logits
        # A token is predicted by the one before it, where both are real.
        predicted = mask[:, 1:] & mask[:, :-1]
        each = torch.log_softmax(logits[:, :-1].float(), dim=-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        counts = predicted.sum(1)
        if not bool((counts > 0).all()):
            raise ValueError(f"{texts[start + int(counts.argmin())]!r} is a single token, which nothing predicts")
        found += ((each * predicted).sum(1) / counts).tolist()
    return found
