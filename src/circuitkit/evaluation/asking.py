"""Prompts: an item behind its exemplars, through the chat template or not, as tokens that fit the model's context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from circuitkit.evaluation.errors import EvaluationError
from circuitkit.tasks.task import Item, Task

if TYPE_CHECKING:
    from circuitkit.model import Model

THOUGHT_ENDS = "</think>"


@dataclass(frozen=True)
class Asked:
    """An item as the model is asked it.

    Attributes:
        item: the question.
        prompt: all of the text, the chat template's own included.
        ids: the same as tokens.
    """

    item: Item
    prompt: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Asking:
    """How items become prompts.

    Attributes:
        task: the task.
        tokenizer: the model's.
        shots: exemplars before each question.
        chat: whether the prompt is one message of the user in the tokenizer's chat template.
        think: what the template's `enable_thinking` is set to; None leaves it to the template.

    Raises:
        EvaluationError: the tokenizer has no chat template, or one that cannot turn thinking on and off.
    """

    task: Task
    tokenizer: Any
    shots: int
    chat: bool = False
    think: bool | None = None

    def __post_init__(self) -> None:
        check_template(self.tokenizer, self.chat, self.think)

    def asked(self, items: Sequence[Item]) -> list[Asked]:
        """The prompts of some items, in their order."""
        texts = [self._templated(self.task.prompt(item, self.shots)) for item in items]
        # A chat template writes the tokens that a text begins with itself.
        encoded = self.tokenizer(texts, add_special_tokens=not self.chat)["input_ids"]
        return [Asked(*each) for each in zip(items, texts, map(tuple, encoded), strict=True)]

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many tokens texts have as prompts."""
        asked = [self._templated(text) for text in texts]
        return [len(ids) for ids in self.tokenizer(asked, add_special_tokens=not self.chat)["input_ids"]]

    def _templated(self, text: str) -> str:
        return templated(self.tokenizer, text, self.chat, self.think)


def check_template(tokenizer: Any, chat: bool, think: bool | None) -> None:
    """Refuse a chat template that is not there, or that cannot turn thinking on and off.

    Raises:
        EvaluationError: it is so.
    """
    if think is not None and not chat:
        raise EvaluationError("think turns thinking on or off in a chat template: give chat=True as well")
    if not chat:
        return
    template = getattr(tokenizer, "chat_template", None)
    if template is None:
        raise EvaluationError("this tokenizer has no chat template: leave chat out, or set tokenizer.chat_template")
    if think is not None and "enable_thinking" not in str(template):
        raise EvaluationError(
            "this tokenizer's chat template does not know enable_thinking, so thinking cannot be turned on or off "
            "by it: leave think out"
        )


def templated(tokenizer: Any, text: str, chat: bool, think: bool | None = None) -> str:
    """A text as one message of the user in the chat template, up to where the answer begins; itself without `chat`."""
    if not chat:
        return text
    settings = {} if think is None else {"enable_thinking": think}
    messages = [{"role": "user", "content": text}]
    told: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **settings)
    return told


def check_fits(model: Model, asked: Sequence[Asked], shots: int) -> None:
    """Refuse prompts that leave no room for an answer, or hold no token.

    Raises:
        EvaluationError: there is one; the item and the counts are named.
    """
    for each in asked:
        if not each.ids:
            raise EvaluationError(f"item {each.item.key!r} has an empty prompt: a prompt needs at least one token")
        if model.context is not None and len(each.ids) >= model.context:
            behind = f" behind {shots} exemplars: ask it with fewer" if shots else ": leave the item out"
            raise EvaluationError(
                f"the prompt of item {each.item.key!r} has {len(each.ids)} tokens, and the context of {model.name} "
                f"holds {model.context}, an answer included{behind}"
            )
