"""An example as text: by a template or a chat, with where the chain and the answer begin."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from circuitkit.training.errors import TrainingError
from circuitkit.training.examples import Example
from circuitkit.training.recipe import Recipe

PLAIN = "Q: {question}\nA: {chain}"
TASK = "{question} {chain}"
REPLY = "{chain}"
_PLACES = ("question", "chain", "answer")


@dataclass(frozen=True)
class Passage:
    """An example's text, and its parts by where they begin, in characters.

    Attributes:
        text: all of it.
        chain: where what the model is to write begins.
        answer: where the answer begins; None where the template has no place for one.
    """

    text: str
    chain: int
    answer: int | None


def check(template: str, *, chat: bool, loss_on: str) -> None:
    """Refuse a template that has no place for what is learnt, or places that do not exist.

    Raises:
        TrainingError: it is one of these.

    >>> check("Q: {question} A: {chain}", chat=False, loss_on="chain")
    """
    try:
        places = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise TrainingError(f"the template {template!r} cannot be read: {error}") from error
    if unknown := [name for name in places if name not in _PLACES]:
        raise TrainingError(f"the template {template!r} names {unknown[0]!r}; its places are {', '.join(_PLACES)}")
    needed = ["chain"] if chat else ["question", "chain"]
    if loss_on == "answer":
        needed.append("answer")
    for name in needed:
        if places.count(name) != 1:
            raise TrainingError(
                f"the template {template!r} has {{{name}}} {places.count(name)} times: it needs it once"
                + (", since the loss is on the answer" if name == "answer" else "")
            )
    order = [name for name in places if name in needed]
    if order != needed or (chat and "question" in places):
        wanted = " then ".join(f"{{{name}}}" for name in needed)
        raise TrainingError(f"the template {template!r} is to have {wanted}" + (" and no {question}" if chat else ""))


def passages(examples: Sequence[Example], recipe: Recipe, tokenizer: Any) -> list[Passage]:
    """Examples as text.

    Raises:
        TrainingError: the template does not fit; an example has no answer where the loss is on it; the tokenizer has no
            chat template, or one that does not give a reply back as it was.
    """
    chat = recipe.text == "chat"
    template = recipe.template or (REPLY if chat else PLAIN)
    check(template, chat=chat, loss_on=recipe.loss_on)
    if chat and getattr(tokenizer, "chat_template", None) is None:
        raise TrainingError("this tokenizer has no chat template: train on text='plain', or set it a chat_template")
    if recipe.loss_on == "answer":
        for number, example in enumerate(examples):
            if not example.answer.strip():
                raise TrainingError(f"example {_called(number, example)} has no answer, and the loss is on it")
    if not chat:
        return [_filled(template, example) for example in examples]
    return [_chat(template, recipe.system, example, tokenizer, number) for number, example in enumerate(examples)]


def _called(number: int, example: Example) -> str:
    return repr(example.key) if example.key else str(number)


def _filled(template: str, example: Example) -> Passage:
    """A template's places filled one by one, so that braces in a text stay what they are."""
    text, begins = "", {}
    for before, name, _, _ in string.Formatter().parse(template):
        text += before
        if name is not None:
            begins[name] = len(text)
            text += getattr(example, name)
    # The space before a chain is written by the model that continues a question.
    return Passage(text, begins["chain"], begins.get("answer"))


def _chat(template: str, system: str | None, example: Example, tokenizer: Any, number: int) -> Passage:
    reply = _filled(template, example)
    asked = [{"role": "system", "content": system}] if system is not None else []
    asked.append({"role": "user", "content": example.question})
    text = _rendered(tokenizer, [*asked, {"role": "assistant", "content": reply.text}])
    given = str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
    before = _before_reply(tokenizer, asked)
    at = text.find(reply.text, len(before)) if text.startswith(before) else -1
    if at != len(before):
        raise TrainingError(
            f"the chat template writes the reply of example {_called(number, example)} otherwise than it is given "
            "(it may strip white space, or leave thoughts out): train on text='plain', with a template that says all "
            "of it"
        )
    begins = len(given) if text.startswith(given) else at
    return Passage(text, begins, None if reply.answer is None else at + reply.answer)


_MARKS = ("0", "1")


def _before_reply(tokenizer: Any, asked: list[dict[str, str]]) -> str:
    """What stands before a reply: what two chats with replies of different beginnings have in common."""
    one, other = (_rendered(tokenizer, [*asked, {"role": "assistant", "content": mark}]) for mark in _MARKS)
    n = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    return one[:n]


def _rendered(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False))
