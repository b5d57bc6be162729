"""What models hold of the same tokens: representations site by site, and how alike two models' are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.model.site import Kind, Site
from circuitkit.similarity.kernels import cka

if TYPE_CHECKING:
    from circuitkit.model import Model
    from circuitkit.model.tokens import Tokens


def representations(
    model: Model,
    prompts: Sequence[str] | Sequence[Sequence[int]],
    kind: Kind = "resid_post",
    *,
    most: int | None = None,
    seed: int = 0,
    batch_size: int = 32,
) -> dict[int, Float[Tensor, "token feature"]]:
    """What each layer holds of every real token of some prompts, or of a random choice among them.

    Models that are to be compared read the same tokens: give token ids where their tokenizers differ, as those of twins
    do that add a token at the start.

    Args:
        model: who reads.
        prompts: texts or token ids.
        kind: of site; heads are laid side by side.
        most: how many tokens, drawn from those of all prompts; all of them, if None.
        seed: of that draw, the same for every model that reads these tokens.
        batch_size: prompts run at a time.

    Gives, by layer, `[token, feature]` in float32 on the CPU, tokens in the order of the prompts.

    Raises:
        ValueError: there are no prompts, or `most` is under 1.
        SiteError, PromptError: the model has no such site, or a prompt cannot be read.

    >>> held = representations(ck.load("deductor-20k"), ["Fae is loud.", "Every wumpus is a dumpus. Fae is loud."])
    >>> sorted(held), held[1].shape
    ([0, 1], torch.Size([14, 24]))
    """
    tokens = _read(model, prompts)
    lengths = tokens.lengths.cpu()
    chosen = torch.ones(int(lengths.sum()), dtype=torch.bool)
    if most is not None and most < len(chosen):
        if most < 1:
            raise ValueError(f"{most} tokens are none: give 1 or more, or None for all")
        chosen[torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed))[most:]] = False
    kept: dict[int, list[Tensor]] = {layer: [] for layer in model.layers_with(kind)}
    seen = 0
    for start in range(0, len(tokens), batch_size):
        batch = tokens[slice(start, start + batch_size)]
        cache = model.run(batch, capture=[Site(kind, layer=layer) for layer in kept], logits_at=-1).cache
        real = batch.mask.cpu()
        wanted = chosen[seen : seen + int(real.sum())]
        seen += len(wanted)
        for layer, parts in kept.items():
            value = cache[Site(kind, layer=layer)].float().cpu()
            parts.append(value.flatten(2)[real][wanted])
    return {layer: torch.cat(parts) for layer, parts in kept.items()}


def layer_similarity(
    first: Mapping[int, Float[Tensor, "token feature"]],
    second: Mapping[int, Float[Tensor, "token feature"]],
    *,
    debiased: bool = True,
) -> pd.DataFrame:
    """Linear CKA of two models' representations of the same tokens, layer by layer: columns `layer`, `cka`, `tokens`.

    Raises:
        ValueError: the models have other layers, or hold other tokens.

    >>> prompts = ["Every wumpus is a dumpus. Fae is a wumpus. Fae is loud."]
    >>> base, twin = (representations(ck.load(f"deductor-20k{end}"), prompts) for end in ("-base", "-reason"))
    >>> found = layer_similarity(base, twin)
    >>> found["layer"].tolist(), bool(found["cka"].between(0, 1).all())
    ([0, 1], True)
    """
    if first.keys() != second.keys():
        raise ValueError(f"layers {sorted(first)} cannot be held against layers {sorted(second)}")
    rows = [(layer, cka(first[layer], second[layer], debiased=debiased), len(first[layer])) for layer in sorted(first)]
    return pd.DataFrame(rows, columns=["layer", "cka", "tokens"])


def _read(model: Model, prompts: Sequence[str] | Sequence[Sequence[int]]) -> Tokens:
    if not len(prompts):
        raise ValueError("there are no prompts to read: give one at least")
    return model.tokens(prompts)
