"""Log-likelihoods of continuations under interventions: a context is the prompt, its continuation what is generated.

An intervention so means the same whether the model writes a continuation or is asked how likely it is: negative
positions count from the context's end, and `during="generated"` holds on the continuation's tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from circuitkit.interop.lm_eval.errors import HarnessError
from circuitkit.run.run import nan_advice, nan_row

if TYPE_CHECKING:
    from circuitkit.interop.lm_eval.harness_model import HarnessModel

Request = tuple[Any, list[int], list[int]]
"""What the harness asks: the texts (or None), the tokens of the context, those of the continuation."""


@dataclass(frozen=True)
class Row:
    """One request as the model reads it: all tokens but the last, which is only asked for."""

    ids: tuple[int, ...]
    continuation: tuple[int, ...]

    @property
    def n_context(self) -> int:
        """Tokens of the context that are left."""
        return len(self.ids) - len(self.continuation) + 1


def row_of(request: Request, most: int) -> Row:
    """A request cut from the left to so many tokens, as the harness cuts it.

    Raises:
        HarnessError: context or continuation is empty, or the continuation alone is longer.

    >>> row_of((None, [1, 2, 3], [4, 5]), 3)
    Row(ids=(2, 3, 4), continuation=(4, 5))
    """
    texts, context, continuation = request
    if not context or not continuation:
        raise HarnessError(
            f"the request {texts!r} has {len(context)} tokens of context and {len(continuation)} of continuation, and "
            "needs both: where a word has grown together with its context, begin the continuation with a space"
        )
    if len(continuation) > most:
        raise HarnessError(f"a continuation has {len(continuation)} tokens, and the model reads {most} at once")
    return Row(tuple([*context, *continuation][-(most + 1) :][:-1]), tuple(continuation))


def likelihoods(
    harness: HarnessModel, requests: Sequence[Request], size: int, progress: bool
) -> list[tuple[float, bool]]:
    """The log-likelihood of each request's continuation (nats), and whether greedy decoding would write it.

    Args:
        harness: whose interventions are in force.
        requests: what is asked.
        size: rows that are read at once.
        progress: show a bar.

    Raises:
        HarnessError: see `row_of`; or the logits hold NaN.
        InterventionError: an intervention does not fit.
    """
    rows = [row_of(request, harness.max_length) for request in requests]
    # The longest first, so that memory runs out at once or never.
    order = sorted(range(len(rows)), key=lambda at: (-len(rows[at].ids), rows[at].ids))
    found: dict[int, tuple[float, bool]] = {}
    with tqdm(total=len(rows), disable=not progress, desc="Running loglikelihood requests") as bar:
        for first in range(0, len(order), size):
            numbers = order[first : first + size]
            found.update(zip(numbers, _of_batch(harness, [rows[at] for at in numbers]), strict=True))
            bar.update(len(numbers))
    return [found[at] for at in range(len(rows))]


def _of_batch(harness: HarnessModel, rows: Sequence[Row]) -> Iterator[tuple[float, bool]]:
    ids, real, prompt = padded(rows, harness.device)
    logits = harness.read(ids, real, prompt)
    for row, own in zip(rows, logits, strict=True):
        last = own[row.n_context - 1 : len(row.ids)]
        if nan_row(last[None]) is not None:
            raise HarnessError(f"the logits of a continuation hold NaN: {nan_advice(harness.circuit_model)}")
        yield _likelihood(last, row.continuation, harness.softmax_dtype)


def _likelihood(
    logits: Float[Tensor, "token vocab"], continuation: Sequence[int], dtype: torch.dtype | None
) -> tuple[float, bool]:
    wanted = torch.tensor(continuation, device=logits.device)
    each = F.log_softmax(logits, dim=-1, dtype=dtype)
    likely = each.gather(-1, wanted[:, None]).sum()
    return float(likely), bool((each.argmax(-1) == wanted).all())


def padded(
    rows: Sequence[Row], device: torch.device
) -> tuple[Int[Tensor, "row column"], Bool[Tensor, "row column"], Bool[Tensor, "row column"]]:
    """Token ids padded on the right as the harness pads them, which columns are real, and which are the context's."""
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *[0] * (width - len(row.ids))] for row in rows], device=device)
    columns = torch.arange(width, device=device)
    lengths, contexts = (
        torch.tensor([count(row) for row in rows], device=device)[:, None]
        for count in (lambda row: len(row.ids), lambda row: row.n_context)
    )
    return ids, columns < lengths, columns < contexts
