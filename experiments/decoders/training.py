"""Train one decoder on a number of distinct deductions, as a sweep's cell.

Amounts of data differ, and steps do not: fewer questions come round more often, so that data and compute are apart.
A seed decides weights, questions and their order, so architectures see the same batches; the questions of a smaller
amount are the first of those of a larger one.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from train_deductors import Batch, batches, fit, tokenizer, weighted_loss
from transformers import PreTrainedModel
from transformers.utils import logging

from circuitkit.records import data_hash
from circuitkit.tasks import prontoqa
from circuitkit.tasks.prontoqa.parsing import sentences
from decoders.shapes import CONTEXT, new_decoder, parameters

HOPS = (1, 2, 3)
KINDS = tuple((rule, hops) for rule in prontoqa.RULES for hops in ((1,) if rule in prontoqa.ONE_HOP_RULES else HOPS))
"""Rule and hops of the questions, each kind as often as any other."""

TRAINING_SEED = 2_000_000
# No seed of training is as low as these.
HELD_OUT = {"validation": (11, 32), "test": (12, 100)}
"""Generator seed and questions of each kind: rates are tuned on the first set, answers are judged on the other."""


@functools.cache
def held_out(part: str) -> tuple[prontoqa.Example, ...]:
    """Return the questions of a held-out part, the kinds taking turns."""
    seed, n = HELD_OUT[part]
    kinds = [prontoqa.generate(rule, hops=hops, shots=0, n=n, seed=seed) for rule, hops in KINDS]
    return tuple(itertools.chain.from_iterable(zip(*kinds, strict=True)))


def said(example: prontoqa.Example) -> tuple[str, ...]:
    """Return what a question says, whatever the order of its sentences."""
    return (*sorted(sentences(example.question)), example.statement)


@functools.cache
def _withheld() -> frozenset[tuple[str, ...]]:
    return frozenset(said(example) for part in HELD_OUT for example in held_out(part))


def questions_hash() -> str:
    """Hash the held-out questions and their proofs: another generator is another experiment."""
    return data_hash([example.prompt + example.answer for part in HELD_OUT for example in held_out(part)])


def pool(questions: int, seed: int) -> list[prontoqa.Example]:
    """Draw so many questions, no two of which say the same, and none of which is held out.

    Raises `ValueError` where so many different ones do not turn up.
    """
    random = Random(TRAINING_SEED + seed)
    found: dict[tuple[str, ...], prontoqa.Example] = {}
    for drawn in range(100 + 20 * questions):
        if len(found) == questions:
            return list(found.values())
        # One kind after the other, so that a part of the pool has as many of each as the whole.
        rule, hops = KINDS[drawn % len(KINDS)]
        example = prontoqa.sample(random, rule, hops=hops)
        if (key := said(example)) not in _withheld():
            found.setdefault(key, example)
    raise ValueError(f"only {len(found)} different questions were drawn where {questions} are wanted: ask for fewer")


def training_batches(questions: int, seed: int, size: int) -> Iterator[Batch]:
    """Give batches of a pool for ever, its questions in another order each time round."""
    drawn, order = pool(questions, seed), Random(seed)

    def rounds() -> Iterator[prontoqa.Example]:
        while True:
            yield from order.sample(drawn, len(drawn))

    return batches(rounds(), size, seed)


@torch.inference_mode()
def validation_loss(model: PreTrainedModel) -> float:
    """Return the mean loss of the answers' tokens on the validation questions, in nats a token."""
    model.eval()
    examples, total, tokens = held_out("validation"), 0.0, 0
    # `batches` sorts sixteen batches at a time: so a sixteenth of the questions each, and every question once.
    for batch, weights in itertools.islice(batches(itertools.cycle(examples), len(examples) // 16, seed=0), 16):
        count = int((weights[:, 1:] >= 1).sum())
        total, tokens = total + weighted_loss(model, batch, weights)[1] * count, tokens + count
    return total / tokens


def trained(
    architecture: str, questions: int, seed: int, learning_rate: float, steps: int, batch: int, size: int
) -> Mapping[str, int | float | Tensor]:
    """The cell of one training: losses in nats a token of the answers, and the weights as one vector.

    `size` is the number of parameters that the architecture is to come near to. `train_loss` is the mean of the last
    fifty steps, `losses` has every step's.
    """
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    model = new_decoder(architecture, seed, size)
    losses = torch.tensor(
        list(itertools.islice(fit(model, training_batches(questions, seed, batch), steps, learning_rate), steps))
    )
    return {
        "parameters": parameters(model),
        "train_loss": losses[-50:].mean().item(),
        "validation_loss": validation_loss(model),
        "losses": losses,
        "weights": torch.nn.utils.parameters_to_vector(model.parameters()).detach(),
    }


def save_decoder(architecture: str, size: int, weights: Tensor, folder: Path) -> None:
    """Write a trained decoder and its tokenizer in the Hugging Face layout."""
    model = new_decoder(architecture, 0, size)
    torch.nn.utils.vector_to_parameters(weights, model.parameters())
    model.save_pretrained(folder)
    words = tokenizer()
    words.model_max_length = CONTEXT
    words.save_pretrained(folder)
