"""How far each head attends to the token before, to the same token before, or to what followed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.model.site import Site
from circuitkit.showing import Shown
from circuitkit.tasks.induction import repeated

if TYPE_CHECKING:
    from circuitkit.model.model import Model


@dataclass(frozen=True, eq=False, repr=False)
class HeadScores(Shown):
    """Mean attention, between 0 and 1, of each head on repeated random tokens; NaN where a layer has no such head.

    Attributes:
        previous_token: from each token to the one before it.
        duplicate_token: from each token's second occurrence to its first.
        induction: from each token's second occurrence to what followed the first.
    """

    previous_token: Float[Tensor, "layer head"]
    duplicate_token: Float[Tensor, "layer head"]
    induction: Float[Tensor, "layer head"]

    @property
    def frame(self) -> pd.DataFrame:
        """A row a head, a column a score."""
        names = ("previous_token", "duplicate_token", "induction")
        real = (~self.previous_token.isnan()).nonzero().tolist()
        rows = [[layer, head, *(float(getattr(self, name)[layer, head]) for name in names)] for layer, head in real]
        return pd.DataFrame(rows, columns=["layer", "head", *names])

    def _says(self) -> list[str]:
        frame = self.frame
        told = []
        for name in frame.columns[2:]:
            best = frame.iloc[int(frame[name].argmax())]
            told.append(
                f"{name.replace('_', ' ')} {best[name]:.2f} (layer {best['layer']:.0f} head {best['head']:.0f})"
            )
        return [f"Mean attention, 0 to 1, on random tokens said twice. Most: {', '.join(told)}."]

    def _strongest(self) -> pd.DataFrame:
        return self.frame.sort_values("induction", ascending=False, kind="stable")


def score_heads(
    model: Model, n: int = 8, *, length: int = 24, seed: int = 0, vocabulary: Sequence[int] | None = None
) -> HeadScores:
    """Score heads as previous-token, duplicate-token and induction heads, on random tokens said twice.

    A pattern tells where a head looks, not what it does: hold a score against patching or ablation.

    Args:
        model: the model.
        n: rows of tokens.
        length: tokens that are repeated; all of a row differ, so that nothing but the repetition can be looked up.
        seed: of the draw.
        vocabulary: ids to draw from; the tokenizer's but its special ones if None.

    Raises:
        SiteError: no layer's pattern can be reached.
        ValueError: there are fewer ids than tokens to draw, or no tokenizer and no vocabulary.
        PromptError: twice the length does not fit the model's context.

    Source: Olsson et al. 2022, arXiv 2209.11895, "Head Activation Evaluators"; Wang et al. 2022, arXiv 2211.00593.

    >>> scores = score_heads(ck.load("deductor-130k"), n=2, length=8)
    >>> tuple(scores.induction.shape)
    (3, 4)
    """
    ids = repeated(model.tokenizer, n, seed, length=length, vocabulary=vocabulary)
    having = model.layers_with("pattern")
    kept = model.run(model.tokens(ids, torch.ones_like(ids)), capture=["pattern"], logits_at=-1).cache
    most = max(kept[Site("pattern", layer=layer)].shape[1] for layer in having)
    scores = torch.full((3, model.n_layers, most), torch.nan)
    for layer in having:
        pattern = kept[Site("pattern", layer=layer)].float()
        for number, back in enumerate((1, length, length - 1)):
            # Only tokens of the second round have an occurrence before.
            first = 1 if back == 1 else ids.shape[1] - length
            looked = pattern.diagonal(-back, dim1=-2, dim2=-1)[..., first - back :]
            scores[number, layer, : pattern.shape[1]] = looked.mean((0, -1)).cpu()
    return HeadScores(*scores)
