"""Options that the studies of `circuitkit ablate` have: what is ablated, how, on which prompts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from circuitkit.commands.loading import LoadAs, load
from circuitkit.commands.prompts import PROMPTS, PairsFrom, load_with_pairs, prompts_in

if TYPE_CHECKING:
    from circuitkit.ablation import Heads
    from circuitkit.model import Model
    from circuitkit.pairs import Pairs

Head = tuple[int, int]
Prompt = Annotated[list[str] | None, Parameter(group=PROMPTS, negative="")]
_WAYS = Group("Ablation", sort_key=0)


@Parameter(name="*")
@dataclass(frozen=True)
class Way:
    """How heads are ablated, the same for every study of heads."""

    how: Annotated[Literal["zero", "mean", "resample", "scale"], Parameter(group=_WAYS)] = "mean"
    """zero: a head writes nothing. mean: its mean over prompts. resample: its output on another prompt. scale: its
    output times --factor."""

    factor: Annotated[float | None, Parameter(group=_WAYS)] = None
    """For scale: what a head's output is multiplied by, such as 0.5 or -1."""

    reference: Annotated[Path | None, Parameter(group=_WAYS)] = None
    """For mean and resample: a file with the prompts that it comes from, one a line, or JSON lines; the ablated prompts
    themselves if not given."""

    by_position: Annotated[bool, Parameter(group=_WAYS, negative="")] = False
    """For mean: take it at each position by itself."""

    def settings(self) -> dict[str, Any]:
        """What the studies of `circuitkit.ablation` take, the reference's prompts read.

        Raises:
            ValueError: a setting that the way does not have, or a reference that cannot be read.

        >>> Way("scale", factor=0.5).settings()
        {'how': 'scale', 'factor': 0.5, 'reference': None, 'by_position': False}
        """
        if self.how == "scale" and self.factor is None:
            raise ValueError("--how scale needs what to multiply by: give a --factor, such as --factor 0.5")
        if self.how != "scale" and self.factor is not None:
            raise ValueError(f"--factor goes with --how scale, and --how is {self.how}")
        if self.by_position and self.how != "mean":
            raise ValueError(f"--by-position goes with --how mean, and --how is {self.how}")
        if self.reference is not None and self.how not in ("mean", "resample"):
            raise ValueError(f"--reference goes with --how mean or resample, and --how is {self.how}")
        others = None if self.reference is None else prompts_in(self.reference)
        return {"how": self.how, "factor": self.factor, "reference": others, "by_position": self.by_position}


def read(
    model: str, load_as: LoadAs | None, chosen: PairsFrom, prompt: Sequence[str] | None
) -> tuple[Model, Pairs | list[str]]:
    """A command's model, and its prompts where some are given, or its pairs.

    Raises:
        LoadError: see `circuitkit.commands.loading.load`.
        PairError: a file of pairs cannot be read.
        ValueError: prompts and pairs are named at once, or no pairs can be drawn for the model.

    >>> read("deductor-5k", None, PairsFrom(), ["Fae is a wumpus."])[1]
    ['Fae is a wumpus.']
    """
    if prompt is None:
        return load_with_pairs(model, load_as, chosen)
    if chosen.pairs is not None or chosen.task is not None:
        raise ValueError("--prompt names what is read: give it, or --pairs, or --task")
    return load(model, load_as), list(prompt)


def sets_of_heads(words: Sequence[str]) -> dict[str, list[Head]]:
    """Named sets of heads, each written NAME=HEAD,HEAD; a set without a name is called by its heads.

    Raises:
        ValueError: a head is not written LAYER.HEAD, a set is empty, or a name is given twice.

    >>> sets_of_heads(["movers=2.1,2.3", "0.1+0.2"])
    {'movers': [(2, 1), (2, 3)], '0.1+0.2': [(0, 1), (0, 2)]}
    """
    sets: dict[str, list[Head]] = {}
    for word in words:
        name, named, heads = word.rpartition("=")
        name = name if named else word
        if not heads.strip() or not name.strip():
            what = "is empty" if name.strip() else "has no name"
            raise ValueError(f"set {word!r} {what}: write NAME=HEAD,HEAD, such as movers=2.1,2.3")
        if name in sets:
            raise ValueError(f"two sets are called {name!r}: give each its own name")
        sets[name] = pairs_of_numbers(re.split(r"[,+\s]+", heads.strip()), "head")
    return sets


def heads_of(words: Sequence[str] | None) -> Heads:
    """The heads that are named, or all.

    Raises:
        ValueError: a head is not written LAYER.HEAD.

    >>> heads_of(["2.1"]), heads_of(None)
    ([(2, 1)], 'all')
    """
    return "all" if words is None else pairs_of_numbers(words, "head")


def pairs_of_numbers(words: Sequence[str], what: Literal["head", "neuron"]) -> list[tuple[int, int]]:
    """Heads or neurons, each written LAYER.NUMBER.

    Raises:
        ValueError: a word is not so written.

    >>> pairs_of_numbers(["2.1"], "head")
    [(2, 1)]
    """
    written = [(word, re.fullmatch(r"(\d+)\.(\d+)", word)) for word in words]
    for word, match in written:
        if match is None:
            raise ValueError(f"a {what} is written layer.{what}, such as 2.1, not {word!r}")
    return [(int(match[1]), int(match[2])) for _, match in written if match]
