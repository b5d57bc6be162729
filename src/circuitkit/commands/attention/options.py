"""Options that several studies of `circuitkit attention` have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from circuitkit.commands.options import Numbers
from circuitkit.commands.prompts import PROMPTS, prompts_in

if TYPE_CHECKING:
    from circuitkit.model import Model

WHERE = Group("Layers and heads", sort_key=2)


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """Which layers and heads are looked at, the same for every study."""

    layers: Annotated[Numbers, Parameter(group=WHERE)] = None
    """Which layers; negative ones count from the last. The last one if not given, as in the papers."""

    all_layers: Annotated[bool, Parameter(group=WHERE, negative="")] = False
    """Look at every layer."""

    heads: Annotated[Numbers, Parameter(group=WHERE)] = None
    """Which heads; all if not given."""

    first_column: Annotated[Literal["zeroed", "kept"], Parameter(group=WHERE)] = "zeroed"
    """Whether the first token's attention counts: the published scores leave it out (zeroed)."""

    def of(self, model: Model) -> dict[str, Any]:
        """The arguments of a study of a model.

        Raises:
            ValueError: layers and all layers are asked for at once.
        """
        if self.all_layers and self.layers is not None:
            raise ValueError("--layers names some layers and --all-layers takes all: give one of the two")
        layers = model.layers_with("pattern") if self.all_layers else self.layers
        return {"layers": layers, "heads": self.heads, "first_column": self.first_column}


@Parameter(name="*")
@dataclass(frozen=True)
class Texts:
    """What the model reads."""

    prompts: Annotated[Path | None, Parameter(group=PROMPTS)] = None
    """A file of prompts instead of PROMPT: one a line, or JSON lines such as {"prompt": "Fae is bright."}."""

    def with_one(self, prompt: str | None) -> list[str]:
        """The prompts of the file, or the one given.

        Raises:
            ValueError: there is neither, or both; or the file cannot be read.
        """
        if (prompt is None) == (self.prompts is None):
            raise ValueError("give a PROMPT behind MODEL, or a file of them with --prompts, one of the two")
        return [prompt] if prompt is not None else prompts_in(self.prompts) if self.prompts is not None else []
