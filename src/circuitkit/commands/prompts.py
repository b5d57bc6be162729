"""What the commands run a model on: a file of pairs, a planted model's own task, or deductions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from circuitkit.model import Model
from circuitkit.pairs import Pairs


def pairs_in(path: Path | None) -> Pairs | None:
    """The pairs of a file, read before a model is loaded for them; None where no file is named.

    Raises:
        PairError: the file cannot be read.
    """
    return None if path is None else Pairs.from_jsonl(path)


def pairs_of(model: Model, given: Pairs | None, n: int) -> Callable[[int], Pairs]:
    """Pairs by seed: those given, the same for every seed, or drawn for the model.

    Raises:
        ValueError: the model's tokenizer lacks the words that deductions are made of.
    """
    if given is not None:
        return lambda seed: given
    if model.name.startswith("planted-"):
        from circuitkit.model import planted

        plant = planted.build(model.name)

        def draw(seed: int) -> Pairs:
            drawn = plant.pairs(n, seed)
            return Pairs(drawn.clean, drawn.corrupt, drawn.answer, drawn.distractor)

        return draw
    if model.tokenizer is None:
        raise ValueError(
            f"{model.name} has no tokenizer, so no prompts can be drawn for it: give token pairs in Python"
        )
    from circuitkit.tasks import deductions

    return lambda seed: deductions.pairs(model.tokenizer, n, seed)
