"""Where patched values come from: the pair's other run, other prompts, a mean over a data set, or given tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from circuitkit.model.site import Site
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.pairs import PairError
from circuitkit.run.cache import Cache
from circuitkit.study import Study

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Source = Literal["pair", "mean"] | Prompts | Mapping[Site, Tensor]


def values_from(study: Study, source: Source, reference: Prompts | None, places: Sequence[Site]) -> Cache:
    """The values of whole sites that a sweep patches in, a row for each of the base's.

    Args:
        study: the pairs, and which of their runs is patched.
        source: where the values come from; see `circuitkit.patching.sweep`.
        reference: the prompts that a mean is taken over; the pairs' other prompts if None.
        places: the sites.

    Raises:
        PairError: the values' positions are not those of the base.
    """
    if reference is not None and not (isinstance(source, str) and source == "mean"):
        raise ValueError("reference names the prompts of a mean: it goes with source='mean' alone")
    model, base = study.model, study.base
    if isinstance(source, Mapping):
        return _given(model, source, study.tokens)
    if isinstance(source, str) and source == "mean":
        others = study.as_read(study.source) if reference is None else model.tokens(reference)
        return _mean(model, others, study.tokens, places)
    pair = isinstance(source, str) and source == "pair"
    others = study.source if pair else _one_a_row(model.tokens(source), len(base))
    if others.mask.shape != base.mask.shape or not bool((others.mask == base.mask).all()):
        raise PairError(
            f"the source has prompts of {others.lengths.tolist()} tokens, the patched ones have "
            f"{base.lengths.tolist()}, so their positions do not correspond"
        )
    # Behind the backbone, where a module may be, one position's logits would leave the others out.
    read = None if any(site.module is not None for site in places) else -1
    return model.run(study.as_read(others), capture=places, logits_at=read).cache


def _one_a_row(tokens: Tokens, rows: int) -> Tokens:
    if len(tokens) == rows:
        return tokens
    if len(tokens) != 1:
        raise PairError(f"the source has {len(tokens)} prompts for {rows} pairs: give one for all, or one for each")
    return Tokens(tokens.ids.expand(rows, -1), tokens.mask.expand(rows, -1))


def _mean(model: Model, others: Tokens, base: Tokens, places: Sequence[Site]) -> Cache:
    lengths = {*others.lengths.tolist(), *base.lengths.tolist()}
    if len(lengths) > 1:
        raise PairError(
            f"a mean is taken position by position, but the prompts have {min(lengths)} to {max(lengths)} tokens: give "
            "reference prompts and pairs of one length"
        )
    kept = model.run(others, capture=places, logits_at=-1).cache
    return _cache(model, {site: kept[site].mean(0, keepdim=True) for site in places}, base)


def _given(model: Model, values: Mapping[Site, Tensor], base: Tokens) -> Cache:
    if isinstance(values, Cache):
        if len(values.prompt_lengths) not in (1, len(base)) or bool(
            (values.prompt_lengths.to(base.lengths) != base.lengths).any()
        ):
            raise PairError(
                f"the cache holds prompts of {values.prompt_lengths.tolist()} tokens, the patched ones have "
                f"{base.lengths.tolist()}, so their positions do not correspond"
            )
        if values.positions.shape == base.ids.shape:
            return values
    return _cache(model, {Site.parse(site): value for site, value in values.items()}, base)


def _cache(model: Model, values: Mapping[Site, Tensor], base: Tokens) -> Cache:
    """Tensors as a cache of the base's rows; one row stands for all."""
    filled = {site: _expanded(value, len(base)) for site, value in values.items()}
    return Cache(filled, base.positions, base.lengths, {}, model.n_layers)


def _expanded(value: Tensor, rows: int) -> Tensor:
    return value.expand(rows, *value.shape[1:]) if value.ndim > 1 and value.shape[0] == 1 else value
