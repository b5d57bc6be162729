"""Tasks of random words for the tiny random models, and what each model answers on its own, by plain `generate`."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

import architectures
from circuitkit import Model
from circuitkit.tasks import Item, Judgement, Task

NEW = 12


@cache
def model_of(name: str) -> Model:
    """A model of the zoo that may end a response: by chance, at one of a few words."""
    hf, tokenizer = architectures.build(name)
    hf.generation_config.eos_token_id = [5, 11, 17, 23, 31, 47]
    return Model(hf, tokenizer, name=name)


def says(item: Item, said: str) -> Judgement:
    """Right where the response holds the gold word; its first word is what was said."""
    words = said.split()
    return Judgement(item.gold in words, words[0] if words else None)


def task(n: int = 11, longest: int = 14, seed: int = 0, **settings: Any) -> Task:
    """Questions of 1 to `longest` random words."""
    generator = torch.Generator().manual_seed(seed)

    def words(count: int) -> str:
        ids = torch.randint(3, architectures.VOCABULARY, (count,), generator=generator)
        return " ".join(f"w{token}" for token in ids.tolist())

    lengths = torch.randint(1, longest + 1, (n,), generator=generator).tolist()
    items = tuple(
        Item(f"item {at}", words(length), words(1), groups={"long": int(length > longest // 2), "half": f"h{at % 2}"})
        for at, length in enumerate(lengths)
    )
    return Task("words", items, {"says": says}, max_new_tokens=NEW, **settings)


def alone(model: Model, prompt: str, **settings: Any) -> list[int]:
    """The new tokens of one prompt by transformers' own generate, unpadded, greedy unless it is told otherwise."""
    if any(session.interventions for session in model.sessions):
        return generated(model, prompt, **settings)
    return list(_kept(model, prompt, tuple(sorted(settings.items()))))


@cache
def _kept(model: Model, prompt: str, settings: tuple[tuple[str, Any], ...]) -> list[int]:
    return generated(model, prompt, **dict(settings))


def generated(model: Model, prompt: str, **settings: Any) -> list[int]:
    """The same, generated whenever it is asked for."""
    ids = model.tokenizer(prompt, return_tensors="pt")["input_ids"]
    given: dict[str, Any] = {"do_sample": False, "max_new_tokens": NEW, "pad_token_id": architectures.PAD, **settings}
    whole: Tensor = model.generate(ids, torch.ones_like(ids), **given)
    return whole[0, ids.shape[1] :].tolist()


def text_of(model: Model, ids: list[int]) -> str:
    return str(model.tokenizer.decode(ids, skip_special_tokens=True))
