"""Options that the gadgets of `circuitkit sfn` share: which modules, in which layers and heads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from circuitkit.commands.ablate.options import pairs_of_numbers
from circuitkit.commands.loading import LOADING
from circuitkit.commands.options import Words

if TYPE_CHECKING:
    from circuitkit.sfn import Checkpoint

WHERE = Group("Which weights", sort_key=0)
RevisionOfB = Annotated[str | None, Parameter(group=LOADING)]


@Parameter(name="*")
@dataclass(frozen=True)
class What:
    """Which weights, the same for every gadget that changes some."""

    modules: Annotated[Words, Parameter(group=WHERE)] = None
    """q_proj k_proj v_proj o_proj gate_proj up_proj down_proj embed lm_head norm, attention (the first four), mlp (the
    next three), all, or names of modules or parameters, with * for any text."""

    layers: Annotated[Words, Parameter(group=WHERE)] = None
    """Which layers, such as 0 5-29 -1: from 0, a range with both its ends, negative ones counting from the last. All if
    not given."""

    heads: Annotated[Words, Parameter(group=WHERE)] = None
    """Which heads alone, as layer.head, such as 3.5: their rows of q, k and v, and their columns of o_proj."""

    def chosen(self, *, whole: bool = False) -> dict[str, Any]:
        """What is given, as the functions of `circuitkit.sfn` take it.

        Args:
            whole: whole layers are meant, and no modules need to be named.

        Raises:
            ValueError: no module is named, layers and heads are given at once, or one is not so written.

        >>> What(modules=["o_proj"], layers=["5-7", "-1"]).chosen()
        {'modules': ['o_proj'], 'layers': [5, 6, 7, -1], 'heads': None}
        """
        if not self.modules and not whole:
            raise ValueError("say which weights: give --modules, such as --modules o_proj, or --modules all")
        if self.layers is not None and self.heads is not None:
            raise ValueError("--heads says which layers it is about (3.5 is head 5 of layer 3): leave --layers out")
        return {"modules": self.modules or [], "layers": layers_of(self.layers), "heads": heads_of(self.heads)}


@Parameter(name="*")
@dataclass(frozen=True)
class FromHub:
    """How A is opened."""

    revision: Annotated[str | None, Parameter(group=LOADING)] = None
    """Branch, tag or commit of A on the hub."""

    trust_remote_code: Annotated[bool, Parameter(group=LOADING, negative="")] = False
    """Run model code that comes with the weights, of every checkpoint that is named."""

    def opened(self, name: str) -> Checkpoint:
        """A, of which headers alone are read."""
        return self.another(name, self.revision)

    def another(self, name: str, revision: str | None = None) -> Checkpoint:
        """Another checkpoint, at a revision of its own."""
        from circuitkit.sfn import Checkpoint

        return Checkpoint.open(name, revision=revision, trust_remote_code=self.trust_remote_code)


def layers_of(words: Sequence[str] | None) -> list[int] | None:
    """The layers that words stand for, each a number or a range with both its ends; None for all.

    Raises:
        ValueError: a word is neither, or a range ends before it begins.

    >>> layers_of(["0", "5-7", "-1"])
    [0, 5, 6, 7, -1]
    """
    if words is None:
        return None
    layers: list[int] = []
    for word in words:
        numbers = re.fullmatch(r"(-?\d+)(?:-(\d+))?", word)
        if numbers is None or (numbers[2] is not None and not 0 <= int(numbers[1]) <= int(numbers[2])):
            raise ValueError(
                f"a layer is a number, such as 3 or -1, or a range from low to high, such as 5-29, not {word!r}"
            )
        first = int(numbers[1])
        layers += range(first, int(numbers[2] or first) + 1)
    return layers


def heads_of(words: Sequence[str] | None) -> list[tuple[int, int]] | None:
    """The heads that words stand for, each written LAYER.HEAD; None for all.

    Raises:
        ValueError: one is not so written.

    >>> heads_of(["3.5"])
    [(3, 5)]
    """
    return None if words is None else pairs_of_numbers(words, "head")
