"""Attention patterns captured on a batch of prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from circuitkit import plots, saving
from circuitkit.model.site import Site
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.pairs import token_text
from circuitkit.records import provenance
from circuitkit.run.cache import Cache
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from circuitkit.model.model import Model

_KIND = "attention"


@dataclass(frozen=True, eq=False, repr=False)
class Attention(Shown):
    """Patterns of a batch of prompts.

    Attributes:
        cache: the patterns, `[batch, head, query, key]` a layer, padded columns kept.
        tokens: the batch.
        words: each row's real tokens as text.
        provenance: model, data hash, versions, command.
        names: what each prompt is called, such as "clean" and "corrupt"; None where they have no names.
    """

    cache: Cache
    tokens: Tokens
    words: tuple[tuple[str, ...], ...]
    provenance: dict[str, Any]
    names: tuple[str, ...] | None = None

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers whose patterns were captured."""
        return tuple(sorted(site.layer for site in self.cache if site.kind == "pattern" and site.layer is not None))

    def n_heads(self, layer: int) -> int:
        """How many heads a captured layer has."""
        return self.cache[Site("pattern", layer=layer)].shape[1]

    def pattern(self, layer: int, head: int, row: int = 0) -> Float[Tensor, "query key"]:
        """One head's pattern on one prompt, its real tokens alone."""
        whole = self.cache[Site("pattern", layer=layer, head=head)][row]
        real = self.tokens.mask[row].to(whole.device)
        return whole[real][:, real]

    def plot(self, layer: int, head: int, row: int = 0, *, axes: Axes | None = None) -> Axes:
        """Draw one head's pattern on one prompt, tokens on both axes."""
        return plots.attention_pattern(
            self.pattern(layer, head, row),
            tokens=self.words[row],
            title=f"Attention of layer {layer}, head {head}",
            axes=axes,
        )

    def _says(self) -> list[str]:
        n, longest = len(self.words), max(map(len, self.words))
        return [
            f"Patterns of {len(self.layers)} layers on {n} prompt{'s' * (n != 1)} of up to {longest} tokens; below, "
            "where heads look most in the first prompt, its first token and the query itself apart."
        ]

    def _strongest(self) -> pd.DataFrame | None:
        if len(self.words[0]) < 3:
            return None
        rows = [self._strongest_edge(layer, head) for layer in self.layers for head in range(self.n_heads(layer))]
        return pd.DataFrame(rows).sort_values("weight", ascending=False, kind="stable")

    def _strongest_edge(self, layer: int, head: int) -> dict[str, Any]:
        pattern = self.pattern(layer, head).float().cpu().clone()
        pattern[:, 0] = 0
        pattern.fill_diagonal_(0)
        query, key = divmod(int(pattern.argmax()), pattern.shape[1])
        said = {"query": self.words[0][query], "key": self.words[0][key]}
        return {"layer": layer, "head": head, **said, "weight": float(pattern[query, key])}

    def save(self, path: str | Path) -> Path:
        """Write the patterns to one safetensors file, whole or not at all, and give its path; a folder names it itself.

        Raises:
            ValueError: the file has another suffix.
        """
        tensors = {str(site): value for site, value in self.cache.items()}
        told = {
            "sites": list(tensors),
            "n_layers": self.cache.n_layers,
            "metadata": self.cache.metadata,
            "words": self.words,
            "provenance": self.provenance,
            "names": self.names,
        }
        return saving.save(path, _KIND, tensors | {"ids": self.tokens.ids, "mask": self.tokens.mask}, told)

    @classmethod
    def load(cls, path: str | Path) -> Attention:
        """Read patterns that `save` wrote, from their file or its folder.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is cut short, or holds something else.
        """
        tensors, told = saving.load(path, _KIND)
        tokens = Tokens(tensors["ids"], tensors["mask"])
        values = {Site.parse(site): tensors[site] for site in told["sites"]}
        cache = Cache(values, tokens.positions, tokens.lengths, told["metadata"], told["n_layers"])
        words = tuple(tuple(row) for row in told["words"])
        names = None if told["names"] is None else tuple(told["names"])
        return cls(cache, tokens, words, told["provenance"], names)


def capture(
    model: Model,
    prompts: Prompts | Tokens,
    layers: Iterable[int] | None = None,
    *,
    attention_mask: Tensor | None = None,
    names: Sequence[str] | None = None,
) -> Attention:
    """Capture the patterns of some layers, or all, on a batch of prompts.

    Args:
        model: the model.
        prompts: what it reads.
        layers: which; all if None.
        attention_mask: 1 on real tokens, for a padded token tensor.
        names: what each prompt is called where the patterns are shown.

    Raises:
        SiteError: a layer does not exist or its pattern cannot be reached.
        ValueError: there is not one name a prompt.

    >>> attention = capture(ck.load("deductor-130k"), "Every wumpus is a dumpus.")
    >>> attention.pattern(layer=1, head=0).shape == (len(attention.words[0]),) * 2
    True
    """
    tokens = model.tokens(prompts, attention_mask)
    if names is not None and len(names) != len(tokens):
        raise ValueError(f"{len(names)} names for {len(tokens)} prompts: give one each")
    sites = ["pattern"] if layers is None else [Site("pattern", layer=layer) for layer in layers]
    run = model.run(tokens, capture=sites, logits_at=-1)
    words = tuple(
        tuple(token_text(model, int(token)) for token in ids[mask])
        for ids, mask in zip(tokens.ids, tokens.mask, strict=True)
    )
    told = provenance(model_name=model.name, revision=model.revision, data=tokens.ids, study="attention.capture")
    return Attention(run.cache, tokens, words, told, None if names is None else tuple(names))
