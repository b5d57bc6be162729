"""What the commands run a model on: a file of pairs, a planted model's own task, or deductions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from circuitkit.model import Model
from circuitkit.pairs import Pairs


def pairs_of(model: Model, path: Path | None, n: int) -> Callable[[int], Pairs]:
    """Pairs by seed: those of a file, the same for every seed, or drawn for the model.

    Raises:
        PairError: the file cannot be read.
        ValueError: the model's tokenizer lacks the words that deductions are made of.
    """
    if path is not None:
        read = Pairs.from_jsonl(path)
        return lambda seed: read
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
