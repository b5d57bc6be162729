"""How likely a reference finds the tokens of responses, each behind a prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuitkit.evaluation.writing import end_tokens
from circuitkit.run.memory import memory, some_at_a_time
from circuitkit.sfn.response_levels.errors import LevelError

if TYPE_CHECKING:
    from circuitkit.model import Model

Scores = NDArray[np.float64]
_CHUNK = 64
_MOST_ROWS = 64
# A processor is fastest while a batch stays in its caches.
_TOKENS_AT_ONCE_ON_CPU = 1024


@dataclass(frozen=True)
class Row:
    """A response's tokens behind a prompt's.

    Attributes:
        prompt: the prompt's tokens.
        response: the response's.
        ended: whether its end is scored too.
    """

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    ended: bool = False


class Reference:
    """An intact model that scores text with its own tokenizer.

    Args:
        model: the model.

    Raises:
        LevelError: it has no tokenizer, is training, or holds interventions, which would not be intact.
    """

    def __init__(self, model: Model) -> None:
        if model.tokenizer is None:
            raise LevelError(f"the reference {model.name} has no tokenizer: load it with one, since it reads text")
        if model.sessions:
            raise LevelError(f"interventions are held on the reference {model.name}: leave their context first")
        if model.hf.training:
            raise LevelError(f"the reference {model.name} is training: call model.hf.eval() first")
        self.model, self.tokenizer = model, model.tokenizer

    @cached_property
    def ends(self) -> Tensor:
        """Tokens by which a response, or a paragraph of it, may end: end tokens, and those that begin a new line."""
        size = self.model.vocabulary or len(self.tokenizer)
        texts = self.tokenizer.batch_decode([[token] for token in range(min(size, len(self.tokenizer)))])
        lines = {token for token, text in enumerate(texts) if text[:1] == "\n"}
        return torch.tensor(sorted(lines | end_tokens(self.model)), dtype=torch.long)

    @property
    def chance(self) -> float:
        """The log-likelihood of a token that is guessed among all tokens, in nats."""
        size: int = self.model.vocabulary or len(self.tokenizer)
        return -math.log(size)

    def prompt(self, text: str) -> tuple[int, ...]:
        """A prompt's tokens; a chat template has written the beginning of a text itself.

        Raises:
            LevelError: it leaves no room in the context.
        """
        begins = self.tokenizer.bos_token
        ids = self.tokenizer(text, add_special_tokens=not (begins and text.startswith(begins)))["input_ids"]
        if not ids:
            raise LevelError(f"the reference's tokenizer makes no token of the prompt {text[:60]!r}")
        if self.model.context is not None and len(ids) >= self.model.context:
            raise LevelError(
                f"a prompt has {len(ids)} tokens, and the context of the reference {self.model.name} holds "
                f"{self.model.context}, a response included: give a reference with a longer one, or fewer exemplars"
            )
        return tuple(ids)

    def response(self, text: str) -> tuple[int, ...]:
        """A response's tokens."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def unknown(self, ids: Sequence[int]) -> float:
        """The share of tokens that stand for words which the tokenizer does not know."""
        token = getattr(self.tokenizer, "unk_token_id", None)
        if token is None or not ids or token in {self.tokenizer.eos_token_id, self.tokenizer.bos_token_id}:
            return 0.0
        return float(np.mean([each == token for each in ids]))

    def score(self, rows: Sequence[Row], done: Callable[[int], Any]) -> list[Scores]:
        """The log-likelihood of each response's tokens, in nats; of its end too, as a last number, where it is wanted.

        What the context does not hold any more is left out at the end.

        Raises:
            LevelError: a log-likelihood is no number.
        """
        order = sorted(range(len(rows)), key=lambda at: len(rows[at].prompt) + len(rows[at].response))
        scored: dict[int, Scores] = {}
        longest = max(len(row.prompt) + len(row.response) for row in rows)
        size = min(_MOST_ROWS, memory(self.model, None) // (16 * longest * (self.model.vocabulary or 1 << 16)))
        if self.model.device.type == "cpu":
            size = min(size, _TOKENS_AT_ONCE_ON_CPU // longest)
        for batch, found in some_at_a_time(
            self.model, order, max(1, size), lambda at: self._batch(rows, at), "responses"
        ):
            scored |= zip(batch, found, strict=True)
            done(len(batch))
        return [scored[at] for at in range(len(rows))]

    def _batch(self, rows: Sequence[Row], order: Sequence[int]) -> list[Scores]:
        some = [self._cut(rows[at]) for at in order]
        width = max(len(row.prompt) + len(row.response) for row in some)
        # Padding stands behind all that is read, so that no token sees it.
        ids = torch.tensor(
            [
                [*row.prompt, *row.response, *[row.prompt[0]] * (width - len(row.prompt) - len(row.response))]
                for row in some
            ],
            device=self.model.device,
        )
        lengths = torch.tensor([len(row.prompt) + len(row.response) for row in some], device=ids.device)
        mask = (torch.arange(width, device=ids.device) < lengths[:, None]).long()
        first = min(len(row.prompt) for row in some) - 1
        arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if self.model.accepts("use_cache"):
            arguments["use_cache"] = False
        if self.model.accepts("logits_to_keep"):
            arguments["logits_to_keep"] = width - first
        with torch.inference_mode():
            logits = self.model.hf(**arguments).logits
        first = width - logits.shape[1]
        return [self._row(row, each[len(row.prompt) - 1 - first :]) for row, each in zip(some, logits, strict=True)]

    def _row(self, row: Row, logits: Tensor) -> Scores:
        """Of the logits from the prompt's last token on, `[token, vocab]`."""
        wanted = torch.tensor(row.response, dtype=torch.long, device=logits.device)
        parts = []
        for at in range(0, len(wanted), _CHUNK):
            here = logits[at : at + _CHUNK][: len(wanted) - at].float().log_softmax(-1)
            parts.append(here.gather(-1, wanted[at : at + _CHUNK, None])[:, 0])
        if row.ended:
            last = logits[len(wanted)].float().log_softmax(-1)
            parts.append(last[self.ends.to(last.device)].logsumexp(-1)[None])
        found = torch.cat(parts).double().cpu().numpy() if parts else np.zeros(0)
        if np.isnan(found).any():
            raise LevelError(
                f"the reference {self.model.name} gives NaN after {int(np.isnan(found).argmax())} tokens of a text, "
                "so it is not intact, or its dtype is too narrow: load it with dtype='float32'"
            )
        return np.asarray(found, dtype=np.float64)

    def _cut(self, row: Row) -> Row:
        room = (self.model.context or 1 << 62) - len(row.prompt)
        return row if len(row.response) <= room else Row(row.prompt, row.response[:room], False)
