"""Attention patterns captured on a batch of prompts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from circuitkit import plots
from circuitkit.model.site import Site
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.pairs import token_text
from circuitkit.records import provenance
from circuitkit.run.cache import Cache

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from circuitkit.model.model import Model


@dataclass(frozen=True, eq=False)
class Attention:
    """Patterns of a batch of prompts.

    Attributes:
        cache: the patterns, `[batch, head, query, key]` a layer, padded columns kept.
        tokens: the batch.
        words: each row's real tokens as text.
        provenance: model, data hash, versions, command.
    """

    cache: Cache
    tokens: Tokens
    words: tuple[tuple[str, ...], ...]
    provenance: dict[str, Any]

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


def capture(
    model: Model,
    prompts: Prompts | Tokens,
    layers: Iterable[int] | None = None,
    *,
    attention_mask: Tensor | None = None,
) -> Attention:
    """Capture the patterns of some layers, or all, on a batch of prompts.

    Raises:
        SiteError: a layer does not exist or its pattern cannot be reached.

    >>> attention = capture(ck.load("deductor-130k"), "Every wumpus is a dumpus.")
    >>> attention.pattern(layer=1, head=0).shape == (len(attention.words[0]),) * 2
    True
    """
    tokens = model.tokens(prompts, attention_mask)
    sites = ["pattern"] if layers is None else [Site("pattern", layer=layer) for layer in layers]
    run = model.run(tokens, capture=sites, logits_at=-1)
    words = tuple(
        tuple(token_text(model, int(token)) for token in ids[mask])
        for ids, mask in zip(tokens.ids, tokens.mask, strict=True)
    )
    told = provenance(model_name=model.name, revision=model.revision, data=tokens.ids, study="attention.capture")
    return Attention(run.cache, tokens, words, told)
