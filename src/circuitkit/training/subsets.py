"""Nested training subsets: a held-out set, and ever smaller sets of what is left, each within the one before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from random import Random
from typing import Any, Generic, TypeVar

from circuitkit.training.errors import TrainingError

ExampleT = TypeVar("ExampleT")

SIZES = (928, 464, 232, 116, 58, 29)
HELD_OUT = 72


@dataclass(frozen=True)
class Subsets(Generic[ExampleT]):
    """A held-out set and nested training subsets of one set of examples.

    Attributes:
        held_out: what no subset holds.
        subsets: the examples of each size, the largest first; a smaller one is the beginning of a larger one.
        hashes: the SHA-256 of each size's examples, in hexadecimal, and that of the "held out".
        seed: of the draw.
    """

    held_out: tuple[ExampleT, ...]
    subsets: Mapping[int, tuple[ExampleT, ...]]
    hashes: Mapping[int | str, str]
    seed: int


def nested_subsets(
    examples: Sequence[ExampleT],
    sizes: Sequence[int] = SIZES,
    held_out: int = HELD_OUT,
    seed: int = 0,
) -> Subsets[ExampleT]:
    """Draw a held-out set, then training subsets each of which lies within all larger ones.

    Examples are shuffled once, with `seed`: the first are held out, and a subset of n is the n that come next. Examples
    beyond the largest subset are left out. A hash is of the contents, and does not hang on their order.

    Args:
        examples: `Example`s, other dataclasses or mappings with a `question`.
        sizes: how many examples each subset has, in any order.
        held_out: how many are held out, 0 or more.
        seed: of the draw.

    Raises:
        TrainingError: a question is there twice (white space aside), so that a draw could put it on both sides; there
            are too few examples; a size is under 1 or given twice; an example has no question.

    Source: Reasoning Elicitation is Scale Dependent (NeurIPS 2025 workshop): 72 held out, 928 ⊃ 464 ⊃ … ⊃ 29.

    >>> drawn = nested_subsets([{"question": f"{n} + 1?", "chain": str(n + 1)} for n in range(10)], (6, 3), held_out=4)
    >>> len(drawn.held_out), drawn.subsets[6][:3] == drawn.subsets[3], len(drawn.hashes[3])
    (4, True, 64)
    """
    _check_sizes(sizes, held_out, len(examples))
    _check_distinct(examples)
    shuffled = list(examples)
    Random(seed).shuffle(shuffled)
    aside, left = tuple(shuffled[:held_out]), shuffled[held_out:]
    subsets = {size: tuple(left[:size]) for size in sorted(sizes, reverse=True)}
    hashes: dict[int | str, str] = {"held out": _hash(aside)}
    hashes |= {size: _hash(subset) for size, subset in subsets.items()}
    return Subsets(aside, subsets, hashes, seed)


def _check_sizes(sizes: Sequence[int], held_out: int, n: int) -> None:
    if not sizes or min(sizes) < 1 or len(set(sizes)) != len(sizes) or held_out < 0:
        raise TrainingError(
            f"subsets of {', '.join(map(str, sizes)) or 'no size'} with {held_out} held out: give sizes of 1 or more, "
            "each once, and hold out 0 or more"
        )
    if n < held_out + max(sizes):
        raise TrainingError(
            f"{held_out} held out and {max(sizes)} to train on need {held_out + max(sizes)} examples, and there are "
            f"{n}: give more examples, or smaller sizes"
        )


def _check_distinct(examples: Sequence[Any]) -> None:
    seen: dict[str, int] = {}
    again = 0
    first: tuple[int, int, str] | None = None
    for number, example in enumerate(examples):
        question = " ".join(_question(number, example).split())
        if question in seen:
            again += 1
            first = first or (seen[question], number, question)
        seen.setdefault(question, number)
    if first is not None:
        raise TrainingError(
            f"examples {first[0]} and {first[1]} ask the same question, {first[2]!r:.80}, and could come to stand on "
            f"both sides of the split ({again} of {len(examples)} repeat an earlier one): leave duplicates out"
        )


def _question(number: int, example: Any) -> str:
    found = example.get("question") if isinstance(example, Mapping) else getattr(example, "question", None)
    if not isinstance(found, str) or not found.strip():
        raise TrainingError(f"example {number} has no question: give each a text in the field 'question'")
    return found


def _hash(examples: Sequence[Any]) -> str:
    """Of the examples' contents; by line, so that the order does not matter and no two sets can run together."""
    lines = sorted(json.dumps(_contents(example), sort_keys=True, default=str) for example in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _contents(example: Any) -> Any:
    if isinstance(example, Mapping):
        return dict(example)
    return asdict(example) if is_dataclass(example) and not isinstance(example, type) else vars(example)
