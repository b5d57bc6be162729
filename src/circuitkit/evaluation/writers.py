"""The two ways in which a model writes its responses: in rows that come and go, and in batches that stay."""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from circuitkit.evaluation.batches import prompts_at_once, rows_at_once
from circuitkit.evaluation.choosing import Chooser
from circuitkit.evaluation.errors import EvaluationError
from circuitkit.evaluation.joining import holds_alike_for_prefix, may_share_prefix
from circuitkit.evaluation.reading import Prefix, left_padded, prefix_of
from circuitkit.evaluation.rows import Rows, check_finite
from circuitkit.evaluation.writing import Ending, Writing
from circuitkit.model.tokens import Tokens
from circuitkit.run.interventions import Interventions
from circuitkit.run.memory import may_go_on
from circuitkit.tasks.task import Item

if TYPE_CHECKING:
    from circuitkit.model import Model

ByBatch = Callable[[Sequence[Item], Tokens], Interventions]
"""The interventions of a batch: it is given each row's item, and the batch."""


class ComingAndGoing:
    """Writes responses in rows that come and go: what has ended makes room for the next prompt.

    Args:
        model: who writes.
        interventions: what holds throughout.
        chooser, ending: how tokens are chosen, and what ends a response.
        size: responses at a time; None for as many as the memory holds.

    Attributes:
        session: what holds the interventions while responses are written; None where there are none.
    """

    def __init__(
        self, model: Model, interventions: Interventions, chooser: Chooser, ending: Ending, size: int | None
    ) -> None:
        self.model, self.interventions, self.chooser, self.ending = model, interventions, chooser, ending
        self.size = size
        self.session = model.intervene(interventions) if interventions else None
        # Tried here, where the session does not hold yet.
        self._may_share = may_share_prefix(model)
        self._prefix: Prefix | None = None

    @property
    def how(self) -> str:
        """How responses were written, in words."""
        if self._prefix is None:
            return "rows that come and go"
        alike, spared = len(self._prefix.ids), self._prefix.spared
        return f"rows that come and go; {alike} tokens that all prompts begin with read once, which spared {spared}"

    def written(self, writings: Sequence[Writing]) -> Iterator[Writing]:
        """Each response, as it ends.

        Raises:
            EvaluationError: logits hold NaN, or infinity where tokens are drawn.
            InterventionError: an intervention never took place.
        """
        # The longest first, so that those that join are no longer than those that are there.
        waiting = sorted(writings, key=lambda writing: (-len(writing.asked.ids), writing.asked.ids))
        with ExitStack() as stack, torch.no_grad():
            if self.session is not None:
                stack.enter_context(self.session)
            stack.callback(self._unfollow)
            self._prefix = self._read_prefix(waiting)
            size = self.size or rows_at_once(self.model, waiting)
            left = dict.fromkeys(waiting)
            while left:
                rows = Rows(self.model, self.chooser, self.ending, self._prefix)
                try:
                    for writing in self._until_all_end(rows, list(left), size):
                        del left[writing]
                        yield writing
                except (RuntimeError, MemoryError) as error:
                    if not may_go_on(self.model, error, size):
                        raise
                    size = max(1, min(size, rows.live or size) // 2)
                    warnings.warn(f"memory ran out ({error}); going on with {size} responses at a time", stacklevel=2)
                    # Where memory runs out within a step, some have their token already, or are in both places.
                    for writing in left:
                        writing.begin()
                    del rows
                    gc.collect()

    def _read_prefix(self, waiting: Sequence[Writing]) -> Prefix | None:
        held = [each for session in self.model.sessions for each in session.interventions]
        if not self._may_share or not all(map(holds_alike_for_prefix, held)):
            return None
        return prefix_of(self.model, {writing.asked.ids for writing in waiting})

    def _until_all_end(self, rows: Rows, waiting: list[Writing], size: int) -> Iterator[Writing]:
        """Write until no response is left; those that have not begun stay in `waiting`."""
        while waiting or rows.live:
            free = size - rows.live
            # A prompt is read while all others wait, so that several are read together.
            if waiting and free >= min(max(1, size // 4), len(waiting)):
                yield from self._joined(rows, waiting, free)
            if rows.live:
                live = [writing for writing in rows.writings if writing.ended is None]
                rows.step()
                yield from (writing for writing in live if writing.ended is not None)

    def _joined(self, rows: Rows, waiting: list[Writing], free: int) -> Iterator[Writing]:
        while waiting and free > 0:
            prompts = list(dict.fromkeys(writing.asked.ids for writing in waiting[:free]))
            most = prompts_at_once(self.model, prompts, shared=0 if self._prefix is None else len(self._prefix.ids))
            together = set(prompts[:most])
            joining = [writing for writing in waiting[:free] if writing.asked.ids in together]
            rows.join(joining)
            # They sort by prompt, so those that joined are the first.
            del waiting[: len(joining)]
            free -= sum(writing.ended is None for writing in joining)
            yield from (writing for writing in joining if writing.ended is not None)

    def _unfollow(self) -> None:
        for session in self.model.sessions:
            session.follow(None)


class Staying:
    """Writes responses with the model's own `generate`, in batches whose rows stay to the end.

    Args:
        model: who writes.
        interventions: what holds throughout, or what says so for each batch.
        chooser, ending: how tokens are chosen, and what ends a response.
        size: responses at a time; None for as many as the memory holds.
        padded: whether prompts of different lengths may share a batch.
        how: how responses are written, in words.

    Attributes:
        session: what holds the interventions while responses are written; None where each batch has its own, or none.
    """

    def __init__(
        self,
        model: Model,
        interventions: Interventions | ByBatch,
        chooser: Chooser,
        ending: Ending,
        size: int | None,
        padded: bool,
        how: str,
    ) -> None:
        self.model, self.interventions, self.chooser, self.ending = model, interventions, chooser, ending
        self.size, self.padded, self.how = size, padded, how
        self.session = model.intervene(interventions) if not callable(interventions) and interventions else None

    def written(self, writings: Sequence[Writing]) -> Iterator[Writing]:
        """Each response, as its batch ends.

        Raises:
            EvaluationError: logits hold NaN, or infinity where tokens are drawn.
            InterventionError: an intervention never took place.
        """
        waiting = sorted(writings, key=lambda writing: (-len(writing.asked.ids), writing.asked.ids))
        size = self.size or rows_at_once(self.model, waiting)
        with ExitStack() as stack, torch.no_grad():
            if self.session is not None:
                stack.enter_context(self.session)
            while waiting:
                batch = self._next(waiting, size)
                try:
                    self._write(batch)
                except (RuntimeError, MemoryError) as error:
                    if not may_go_on(self.model, error, len(batch)):
                        raise
                    size = len(batch) // 2
                    warnings.warn(f"memory ran out ({error}); going on with {size} responses at a time", stacklevel=2)
                    for writing in batch:
                        writing.begin()
                    continue
                del waiting[: len(batch)]
                yield from batch

    def _next(self, waiting: list[Writing], size: int) -> list[Writing]:
        length, batch = len(waiting[0].asked.ids), waiting[:size]
        if self.padded:
            # A row that has ended is computed along with the others, and there may be no position past the context.
            last = self.model.context or length + max(writing.room for writing in batch)
            return [writing for writing in batch if length + writing.room <= last]
        return [writing for writing in batch if len(writing.asked.ids) == length]

    def _write(self, batch: list[Writing]) -> None:
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        began = time.perf_counter()
        ids, mask = left_padded([writing.asked.ids for writing in batch], self.model.device)
        tokens = Tokens(ids, mask)
        follower = _Follower(self.model, batch, mask, self.chooser, self.ending)
        config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
            do_sample=False,
            max_new_tokens=max(writing.room for writing in batch),
            pad_token_id=int(ids[0, -1]),
        )
        with ExitStack() as stack:
            stack.enter_context(_own_settings_alone(self.model.anatomy.root))
            if callable(self.interventions):
                held = self.interventions([writing.asked.item for writing in batch], tokens)
                stack.enter_context(self.model.intervene(held))
            self.model.generate(
                tokens,
                generation_config=config,
                logits_processor=LogitsProcessorList([follower.chosen]),
                stopping_criteria=StoppingCriteriaList([follower.ended]),
                pad_token_id=config.pad_token_id,
                eos_token_id=None,
            )
        for writing in batch:
            writing.seconds += (time.perf_counter() - began) / len(batch)


@contextmanager
def _own_settings_alone(root: Any) -> Iterator[None]:
    """Lay a model's generation config aside, out of which its `generate` takes whatever it is not told."""
    from transformers import GenerationConfig

    before = root.generation_config
    root.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    try:
        yield
    finally:
        root.generation_config = before


class _Follower:
    """Follows one `generate`: chooses every row's tokens, and says which rows have ended."""

    def __init__(self, model: Model, batch: Sequence[Writing], mask: Tensor, chooser: Chooser, ending: Ending) -> None:
        self.model, self.batch, self.mask, self.chooser, self.ending = model, batch, mask, chooser, ending

    def chosen(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Scores that leave each row the chosen token alone."""
        check_finite(self.model, scores, self.batch, drawn=not self.chooser.decoding.greedy)
        new = torch.ones(len(ids), ids.shape[1] - self.mask.shape[1], dtype=torch.bool, device=ids.device)
        randoms = [writing.random for writing in self.batch]
        tokens = self.chooser.choose(scores, ids, torch.cat([self.mask, new], dim=1), randoms)
        for writing, token in zip(self.batch, tokens.tolist(), strict=True):
            if writing.ended is None:
                self.ending.take(writing, token)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None], 0.0)

    def ended(self, ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """Which rows have ended."""
        return torch.tensor([writing.ended is not None for writing in self.batch], device=ids.device)


def check_size(size: int | None) -> None:
    """Refuse a batch of no rows.

    Raises:
        EvaluationError: it has none.
    """
    if size is not None and size < 1:
        raise EvaluationError(f"batch_size {size} holds no response: give 1 or more, or None for what fits the memory")
