"""Responses that a model is rewarded for while it learns: written, cut and judged as an evaluation does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from circuitkit.evaluation.asking import Asked, Asking, check_fits
from circuitkit.evaluation.choosing import Chooser
from circuitkit.evaluation.decoding import CLEAN, Decoding
from circuitkit.evaluation.errors import EvaluationError
from circuitkit.evaluation.joining import why_rows_stay
from circuitkit.evaluation.writers import ComingAndGoing, Staying
from circuitkit.evaluation.writing import Ending, Writing, end_tokens
from circuitkit.tasks import exemplars
from circuitkit.tasks.task import TaskError
from circuitkit.training.errors import TrainingError
from circuitkit.training.rewards import Reward

if TYPE_CHECKING:
    from circuitkit.model import Model


@dataclass(frozen=True)
class Rollout:
    """A response and what it earns.

    Attributes:
        key: the item's.
        prompt: the prompt's tokens.
        ids: the response's, up to the end token, or the token in which a stop text ends.
        text: the response as it is judged.
        reward: what it earns, from 0 to 1.
        right: whether the judge finds it right.
        truncated: whether it was broken off, with neither end token nor stop text.
    """

    key: str
    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    text: str
    reward: float
    right: bool
    truncated: bool


class Rollouts:
    """Writes responses to a task's items with a model as it is at the moment, and rewards them.

    A response ends at an end token of the model's generation config, within a stop text of the task, or where there is
    no more room; as in an evaluation, it is judged up to the stop text. Nothing is cut out of the distribution that
    tokens are drawn from. Each response is drawn with numbers of its own, which depend on nothing but the seed, the
    step, its place among the step's responses, and its item: neither on the batch, nor on how many processes there
    are, nor on a run having been cut short.

    Args:
        model: who writes.
        reward: what a response earns, and the task.
        temperature: what logits are divided by before a token is drawn.
        max_new_tokens: where a response is broken off; the task's if None.
        shots: exemplars before each question; as many as the task wants and the context holds, if None.
        chat: put each prompt into the tokenizer's chat template.
        context: most tokens of a prompt with its response; the model's if None.
        seed: of the draws.
        at_once: responses written at a time; as many as the memory holds, if None.

    Raises:
        TrainingError: the model has no tokenizer, a prompt does not fit its context, or a setting is out of its range.

    >>> from circuitkit.tasks import prontoqa
    >>> reward = Reward(prontoqa.task("implication_elimination", shots=0, n=2))
    >>> rollouts = Rollouts(ck.load("deductor-130k"), reward)
    >>> [each.reward for each in rollouts.likeliest(rollouts.keys)]
    [1.0, 1.0]
    """

    def __init__(
        self,
        model: Model,
        reward: Reward,
        *,
        temperature: float = 1.0,
        max_new_tokens: int | None = None,
        shots: int | None = None,
        chat: bool = False,
        context: int | None = None,
        seed: int = 0,
        at_once: int | None = None,
    ) -> None:
        if model.tokenizer is None:
            raise TrainingError(
                f"{model.name} has no tokenizer, and a task's questions are text: give ck.Model(hf_model, tokenizer)"
            )
        self.model, self.reward, self.seed, self.at_once = model, reward, seed, at_once
        task = reward.task
        self.max_new_tokens = task.max_new_tokens if max_new_tokens is None else max_new_tokens
        if not temperature > 0 or self.max_new_tokens < 1:
            raise TrainingError(
                f"responses are drawn at temperature {temperature} with {self.max_new_tokens} tokens at most: give a "
                "temperature over 0, and 1 token or more"
            )
        self.drawing = Decoding(temperature=temperature)
        limits = [limit for limit in (context, model.context) if limit is not None]
        self._context = min(limits, default=None)
        try:
            self._asked = {each.item.key: each for each in self._prompts(shots, chat)}
        except (EvaluationError, TaskError) as error:
            raise TrainingError(str(error)) from error
        self._ending = Ending(model.tokenizer, end_tokens(model), task.stop, thinks=chat)

    def _prompts(self, shots: int | None, chat: bool) -> list[Asked]:
        task, model = self.reward.task, self.model
        if shots is None:
            probe = Asking(task, model.tokenizer, 0, chat)
            shots = exemplars.that_fit(task, model.tokenizer, self._context, self.max_new_tokens, lengths=probe.lengths)
        asked = Asking(task, model.tokenizer, shots, chat).asked(task.items)
        check_fits(model, asked, shots)
        for each in asked:
            if self._context is not None and len(each.ids) >= self._context:
                raise TrainingError(
                    f"the prompt of item {each.item.key!r} has {len(each.ids)} tokens, and a context of "
                    f"{self._context} leaves no room for an answer: leave the item out, or give a larger context"
                )
        return asked

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all items, in the task's order."""
        return tuple(self._asked)

    def prompt(self, key: str) -> str:
        """The text that asks an item."""
        return self._asked[key].prompt

    def drawn(self, keys: Sequence[str], step: int, first: int = 0) -> list[Rollout]:
        """A response to each key, drawn; a key that stands several times has as many responses.

        Args:
            keys: of items.
            step: of the training.
            first: the place of the first key among all of the step's, where others write the rest.

        Raises:
            TrainingError: the model's logits are NaN or infinite.
        """
        return self._rollouts(
            keys, self.drawing, [f"step {step}, place {first + at}" for at in range(len(keys))], lambda: None
        )

    def likeliest(self, keys: Sequence[str], each_time: Callable[[], object] = lambda: None) -> list[Rollout]:
        """The greedy response to each key: what `ck.evaluate` judges.

        Args:
            keys: of items.
            each_time: called as a response ends.

        Raises:
            TrainingError: the model's logits are NaN.
        """
        return self._rollouts(keys, CLEAN, [""] * len(keys), each_time)

    def _rollouts(
        self,
        keys: Sequence[str],
        decoding: Decoding,
        places: Sequence[str],
        each_time: Callable[[], object] = lambda: None,
    ) -> list[Rollout]:
        writings = [self._writing(self._asked[key], place) for key, place in zip(keys, places, strict=True)]
        writer = self._writer(decoding)
        try:
            with _at_rest(self.model.hf):
                for _ in writer.written(writings):
                    each_time()
        except EvaluationError as error:
            raise TrainingError(f"the model that is trained writes no response any more: {error}") from error
        return [self._rewarded(key, writing) for key, writing in zip(keys, writings, strict=True)]

    def _writing(self, asked: Asked, place: str) -> Writing:
        room = self.max_new_tokens
        if self._context is not None:
            room = min(room, self._context - len(asked.ids))
        # A writing's numbers come of its item's key: each place has its own.
        item = replace(asked.item, key=f"{place}: {asked.item.key}")
        return Writing(replace(asked, item=item), sample=0, seed=self.seed, room=room)

    def _writer(self, decoding: Decoding) -> ComingAndGoing | Staying:
        chooser = Chooser(decoding)
        if (why := why_rows_stay(self.model)) is None:
            return ComingAndGoing(self.model, (), chooser, self._ending, self.at_once)
        return Staying(self.model, (), chooser, self._ending, self.at_once, padded=False, how=why)

    def _rewarded(self, key: str, writing: Writing) -> Rollout:
        item = self._asked[key].item
        text = self._ending.answer(self._ending.text(writing))
        earned = self.reward(item, text)
        return Rollout(
            key=key,
            prompt=writing.asked.ids,
            ids=tuple(writing.ids),
            text=text,
            reward=earned,
            right=earned == 1.0,
            truncated=writing.ended == "length",
        )


@contextmanager
def _at_rest(hf: Any) -> Iterator[None]:
    """No dropout and no gradient checkpointing while responses are written; every module's mode is put back."""
    modes = [(module, module.training) for module in hf.modules()]
    hf.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
