"""Prompts whose attention a folder holds: their patterns without padding, what they are called, and their habits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.attention import Attention
from circuitkit.model.site import Site
from circuitkit.report.contents import Contents, File

Head = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Captured:
    """One prompt of the patterns that a file holds.

    Attributes:
        attention: the file's patterns.
        row: which prompt of theirs.
        name: what it is called on the page, beside the others; empty where it is the only one.
        first: whether it is its file's first.
    """

    attention: Attention
    row: int
    name: str
    first: bool

    @property
    def model(self) -> str:
        """Whose attention it is."""
        return str(self.attention.provenance.get("model", "a model"))

    @property
    def words(self) -> tuple[str, ...]:
        """The prompt's tokens."""
        return self.attention.words[self.row]

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that were captured."""
        return self.attention.layers

    def n_heads(self, layer: int) -> int:
        """How many heads a layer has."""
        return self.attention.n_heads(layer)

    @property
    def heads(self) -> list[Head]:
        """Every head that was captured, layer by layer."""
        return [(layer, head) for layer in self.layers for head in range(self.n_heads(layer))]

    def has(self, head: Head) -> bool:
        """Whether a head was captured."""
        return head[0] in self.layers and 0 <= head[1] < self.n_heads(head[0])

    def patterns(self, layer: int) -> Float[Tensor, "head query key"]:
        """A layer's patterns on the prompt, its real tokens alone, in single precision."""
        whole = self.attention.cache[Site("pattern", layer=layer)][self.row]
        real = self.attention.tokens.mask[self.row].to(whole.device)
        return whole[:, real][:, :, real].float().cpu()


def captured_in(contents: Contents) -> Iterator[Captured]:
    """The prompts of a folder's patterns, then those of the folder beside it."""
    files = [(contents.name, file) for file in contents.of_kind("attention")]
    if contents.beside is not None:
        files += [(contents.beside.name, file) for file in contents.beside.of_kind("attention")]
    for (_, file), called in zip(files, _called(files), strict=True):
        attention: Attention = file.value
        n = len(attention.words)
        for row in range(n):
            prompt = attention.names[row] if attention.names else f"prompt {row}" if n > 1 else ""
            yield Captured(attention, row, ", ".join(filter(None, (called, prompt))), row == 0)


def _called(files: Sequence[tuple[str, File]]) -> list[str]:
    """What tells files apart: nothing where there is one, their models, their folders, or their own names."""
    models = [str(file.value.provenance.get("model", "a model")) for _, file in files]
    folders = [f"{model} in {folder}" for model, (folder, _) in zip(models, files, strict=True)]
    names = [f"{each}/{file.path.name}" for each, (_, file) in zip(folders, files, strict=True)]
    stems = [f"{model}, {file.title}" for model, (_, file) in zip(models, files, strict=True)]
    ways = ([""] * len(files), models, stems, folders, names)
    return next((each for each in ways if len(set(each)) == len(files)), names)


def elsewhere(patterns: Float[Tensor, "*heads query key"]) -> Float[Tensor, "*heads"]:
    """The share of attention, from the third token on, that goes neither to the first token nor to the one that looks.

    >>> elsewhere(torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])).item()
    0.25
    """
    n = patterns.shape[-1]
    others = torch.ones(n, n).fill_diagonal_(0.0)
    others[:, 0] = 0.0
    return (patterns * others)[..., 2:, :].sum((-1, -2)) / max(1, n - 2)


def habits(captured: Captured) -> str | None:
    """How many heads look mostly at the first token, at the one before, and at themselves; None of under 3 tokens."""
    n = len(captured.words)
    if n < 3:
        return None
    first, before, itself, heads = 0, 0, 0, 0
    for layer in captured.layers:
        late = captured.patterns(layer)[:, 2:]
        at = torch.arange(2, n)
        first += int((late[:, :, 0].mean(-1) > 0.5).sum())
        before += int((late[:, at - 2, at - 1].mean(-1) > 0.5).sum())
        itself += int((late[:, at - 2, at].mean(-1) > 0.5).sum())
        heads += len(late)
    on = f'On "{captured.name}"' if captured.name else "On the prompt"
    return (
        f"{on} ({n} tokens), {first} of {heads} heads put more than half of their attention on the first token, "
        f"{before} on the token before, {itself} on the token that looks (means over the tokens from the third on)."
    )
