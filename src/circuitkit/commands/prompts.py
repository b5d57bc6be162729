"""What the commands run a model on: a file of pairs, a planted model's own task, or pairs drawn from a task."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from circuitkit.commands.loading import LoadAs, load

if TYPE_CHECKING:
    from circuitkit.model import Model
    from circuitkit.pairs import Pairs

PROMPTS = Group("Prompts", sort_key=1)
Task = Literal["deductions", "indirect-objects", "greater-than", "induction"]


@Parameter(name="*")
@dataclass(frozen=True)
class PairsFrom:
    """Which pairs of clean and corrupt prompts are read or drawn, the same for every verb."""

    pairs: Annotated[Path | None, Parameter(group=PROMPTS)] = None
    """Clean and corrupt prompts as JSON lines, such as {"clean": "2 + 2 =", "corrupt": "2 + 3 =", "answer": " 4",
    "distractor": " 5"}; drawn from a task if not given."""

    task: Annotated[Task | None, Parameter(group=PROMPTS)] = None
    """What pairs are drawn; a planted model's own if not given, and deductions for all others."""

    template: Annotated[int | None, Parameter(group=PROMPTS)] = None
    """For indirect-objects: which sentence alone, from 0 to 5; then all pairs have their tokens in common places."""

    n: Annotated[int, Parameter(group=PROMPTS)] = 48
    """How many pairs to draw, where no file is given."""

    seed: Annotated[int, Parameter(group=PROMPTS)] = 0
    """Of the draw and of the statistics."""

    def checked(self) -> PairsFrom:
        """The options themselves.

        Raises:
            ValueError: a file and a task are named at once, a sentence of another task, or no pair.

        >>> PairsFrom(n=3).checked().n
        3
        """
        if self.pairs is not None and self.task is not None:
            raise ValueError("--pairs names prompts and --task draws them: give one of the two")
        if self.template is not None and self.task != "indirect-objects":
            raise ValueError("--template names a sentence of --task indirect-objects, and goes with no other prompts")
        if self.n < 1:
            raise ValueError(f"--n {self.n} draws no pair: give 1 or more")
        return self


def load_with_pairs(model: str, load_as: LoadAs | None, chosen: PairsFrom) -> tuple[Model, Pairs]:
    """A command's model and its pairs; a file of pairs is read before the model is loaded for it.

    Raises:
        LoadError: see `circuitkit.commands.loading.load`.
        PairError: the file cannot be read.
        ValueError: the task cannot be asked of the model, or a file and a task are named at once.

    >>> model, drawn = load_with_pairs("deductor-5k", None, PairsFrom(n=3))
    >>> len(drawn)
    3
    """
    given = pairs_in(chosen.checked().pairs)
    loaded = load(model, load_as)
    return loaded, pairs_of(loaded, given, chosen.n, chosen.task, chosen.template)(chosen.seed)


def pairs_in(path: Path | None) -> Pairs | None:
    """The pairs of a file, read before a model is loaded for them; None where no file is named.

    Raises:
        PairError: the file cannot be read.
    """
    from circuitkit.pairs import Pairs

    return None if path is None else Pairs.from_jsonl(path)


def pairs_of(
    model: Model, given: Pairs | None, n: int, task: Task | None = None, template: int | None = None
) -> Callable[[int], Pairs]:
    """Pairs by seed: those given, the same for every seed, or drawn for the model.

    Args:
        model: who reads them.
        given: pairs that are there already.
        n: how many to draw.
        task: from which task; a planted model's own, or deductions, if None.
        template: of indirect objects, one sentence alone.

    Raises:
        ValueError: the model's tokenizer lacks the words that the task is made of.
    """
    if given is not None:
        return lambda seed: given
    if task is None and model.name.startswith("planted-"):
        return _planted(model.name, n)
    if task == "induction":
        from circuitkit.tasks import induction

        vocabulary = None if model.tokenizer is not None else range(model.vocabulary or 0)
        return lambda seed: induction.pairs(model.tokenizer, n, seed, vocabulary=vocabulary)
    if model.tokenizer is None:
        raise ValueError(
            f"{model.name} has no tokenizer, so no prompts can be drawn for it: give token pairs in Python"
        )
    from circuitkit.tasks import deductions, greater_than

    if task == "greater-than":
        return lambda seed: greater_than.pairs(model.tokenizer, n, seed)
    if task == "indirect-objects":
        return lambda seed: _indirect_objects(model, n, seed, template)
    return lambda seed: deductions.pairs(model.tokenizer, n, seed)


def prompts_in(path: Path) -> list[str]:
    """The prompts of a text file, one a line; or of JSON lines, each a text or an object with the field prompt.

    Raises:
        ValueError: the file cannot be read, or a line of JSON holds no prompt; the line is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    said = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not said:
        raise ValueError(f"{path} holds no prompts")
    if path.suffix not in (".jsonl", ".json"):
        return [line for _, line in said]
    return [_prompt(path, number, line) for number, line in said]


def _prompt(path: Path, number: int, line: str) -> str:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
    prompt = row.get("prompt", row.get("clean")) if isinstance(row, dict) else row
    if not isinstance(prompt, str):
        raise ValueError(f'{path}, line {number}: a prompt is a text, or an object such as {{"prompt": "…"}}')
    return prompt


def _planted(name: str, n: int) -> Callable[[int], Pairs]:
    from circuitkit.model import planted
    from circuitkit.pairs import Pairs

    plant = planted.build(name)

    def draw(seed: int) -> Pairs:
        drawn = plant.pairs(n, seed)
        return Pairs(drawn.clean, drawn.corrupt, drawn.answer, drawn.distractor)

    return draw


def _indirect_objects(model: Model, n: int, seed: int, template: int | None) -> Pairs:
    from circuitkit.pairs import Pairs
    from circuitkit.tasks import indirect_objects

    drawn = indirect_objects.pairs(model.tokenizer, n, seed, templates=None if template is None else [template])
    # What is said of one sentence is said of it alone: its two orders would be too few clusters for any interval.
    return drawn if template is None else Pairs(drawn.clean, drawn.corrupt, drawn.answer, drawn.distractor)
