"""Where patched values come from: the pair's other run, other prompts, a mean over a data set, or given tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from circuitkit.metrics import Metric, Targets
from circuitkit.model.site import Site
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.pairs import PairError, Reading
from circuitkit.run.cache import Cache

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Source = Literal["pair", "mean"] | Prompts | Mapping[Site, Tensor]


def values_from(
    model: Model,
    source: Source,
    reference: Prompts | None,
    pair: Tokens,
    base: Tokens,
    targets: Targets,
    metric: Metric,
    places: Sequence[Site],
) -> Cache:
    """The values of whole sites that a sweep patches in, a row for each of the base's.

    Args:
        model: the model.
        source: where they come from; see `circuitkit.patching.sweep`.
        reference: the prompts that a mean is taken over; the pairs' other prompts if None.
        pair: the pairs' other prompts.
        base: the prompts that are patched.
        targets, metric: which tell whether answers stand behind the prompts.
        places: the sites.

    Raises:
        PairError: the values' positions are not those of the base.
    """
    if reference is not None and not (isinstance(source, str) and source == "mean"):
        raise ValueError("reference names the prompts of a mean: it goes with source='mean' alone")
    run_on = Reading.of(base, targets, metric).tokens
    if isinstance(source, Mapping):
        return _given(model, source, run_on)
    if isinstance(source, str) and source == "mean":
        others = Reading.of(pair, targets, metric).tokens if reference is None else model.tokens(reference)
        return _mean(model, others, run_on, places)
    others = pair if isinstance(source, str) and source == "pair" else _one_a_row(model.tokens(source), len(base))
    if others.mask.shape != base.mask.shape or not bool((others.mask == base.mask).all()):
        raise PairError(
            f"the source has prompts of {others.lengths.tolist()} tokens, the patched ones have "
            f"{base.lengths.tolist()}, so their positions do not correspond"
        )
    return model.run(Reading.of(others, targets, metric).tokens, capture=places).cache


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
