"""What stands in an ablated head's place: nothing, its mean, its output on another prompt, or a multiple of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitkit.model.site import Site
from circuitkit.model.tokens import PromptError, Prompts, Tokens
from circuitkit.run.interventions import Intervention, mean, replace, scale, zero

if TYPE_CHECKING:
    from circuitkit.model.model import Model

How = Literal["zero", "mean", "resample", "scale"]


@dataclass(frozen=True, eq=False)
class Replacement:
    """How heads are ablated.

    Attributes:
        how: "zero", "mean", "resample" or "scale".
        factor: what "scale" multiplies by.
        reference: the prompts that a mean or a resampled output comes from; those that are ablated if None.
        by_position: whether a mean is taken at each position, counted from the prompt's first token.
        seed: of resampling.

    Raises:
        ValueError: an unknown way, or a setting that the way does not have.
    """

    how: How
    factor: float | None = None
    reference: Prompts | None = None
    by_position: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.how not in ("zero", "mean", "resample", "scale"):
            raise ValueError(f"how is 'scale', 'zero', 'mean' or 'resample', not {self.how!r}")
        if (self.factor is not None) != (self.how == "scale"):
            raise ValueError(f"a factor goes with how='scale' and with nothing else, got {self.how!r}, {self.factor}")
        if self.by_position and self.how != "mean":
            raise ValueError(f"by_position tells how a mean is taken; with how={self.how!r} there is none")
        if self.reference is not None and self.how not in ("mean", "resample"):
            raise ValueError(f"how={self.how!r} takes nothing from other prompts, so a reference has no use")

    def __str__(self) -> str:
        return self.how if self.factor is None else f"times {self.factor:g}"

    def at(self, model: Model, tokens: Tokens, sites: Sequence[Site]) -> dict[Site, Intervention]:
        """The intervention that ablates each site's head, on these tokens.

        Raises:
            PromptError: the reference prompts do not fit the tokens.
        """
        if self.how == "zero":
            return {site: zero(site) for site in sites}
        if self.how == "scale":
            assert self.factor is not None  # refused above
            return {site: scale(site, self.factor) for site in sites}
        others = tokens if self.reference is None else model.tokens(self.reference)
        drawn = self._drawn(tokens, others) if self.how == "resample" else None
        kept = model.run(others, capture=list(dict.fromkeys(site.place for site in sites)), logits_at=-1).cache
        if drawn is not None:
            return {site: replace(site, kept[site][drawn]) for site in sites}
        if self.by_position:
            return {site: replace(site, _at_positions(kept[site], others, tokens)) for site in sites}
        return {site: mean(site, kept[site][others.mask.to(kept[site].device)].mean(0)) for site in sites}

    def _drawn(self, tokens: Tokens, others: Tokens) -> Int[Tensor, " batch"]:
        """For each prompt, the row that its heads' outputs come from."""
        lengths = torch.cat([tokens.lengths, others.lengths])
        if self.reference is None and len(tokens) < 2:
            raise PromptError("resampling takes a head's output from another prompt: give two prompts or more")
        if bool((lengths != lengths[0]).any()):
            raise PromptError(
                f"resampling goes position by position, but the prompts have {int(lengths.min())} to "
                f"{int(lengths.max())} tokens: give prompts of one length, or ablate to the mean"
            )
        generator = torch.Generator().manual_seed(self.seed)
        if self.reference is not None:
            return torch.randint(len(others), (len(tokens),), generator=generator)
        # A random cyclic order, so that no prompt is given itself.
        order = torch.randperm(len(tokens), generator=generator)
        drawn = torch.empty_like(order)
        drawn[order] = order.roll(1)
        return drawn


def _at_positions(
    value: Float[Tensor, "row column d_head"], others: Tokens, tokens: Tokens
) -> Float[Tensor, "batch column d_head"]:
    """The mean at each position over the rows that have it, laid out along the columns of a batch."""
    if int(tokens.lengths.max()) > int(others.lengths.max()):
        raise PromptError(
            f"a mean by position over prompts of at most {int(others.lengths.max())} tokens says nothing of position "
            f"{int(tokens.lengths.max()) - 1}: give longer reference prompts, or a mean over all positions"
        )
    positions = others.positions.to(value.device)
    summed = value.new_zeros(int(others.lengths.max()), value.shape[-1])
    real = positions >= 0
    summed = summed.index_add(0, positions[real], value[real])
    counts = torch.bincount(positions[real], minlength=len(summed))
    means = summed / counts[:, None]
    return means[tokens.positions.clamp(min=0).to(value.device)]
