"""Patterns of one run laid out for another: by spans where both sides of the edges are spans, else by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace as with_fields
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitkit.attention.sides import Places, Side
from circuitkit.model.site import Site
from circuitkit.model.tokens import Tokens
from circuitkit.pairs import AlignedPairs, Pairs
from circuitkit.spans import SpanError
from circuitkit.study import Study

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Patterns = dict[Site, Float[Tensor, "batch head query key"]]


def pairs_on(model: Model, pairs: Pairs, queries: Places, keys: Places) -> AlignedPairs:
    """Pairs as the model reads them; only where both sides are spans may a pair's prompts differ in length.

    Raises:
        PairError: see `Pairs.on`.
    """
    if not (isinstance(queries, Mapping) and isinstance(keys, Mapping)):
        return pairs.on(model)
    clean_alone = with_fields(pairs, corrupt=pairs.clean).on(model)
    return with_fields(clean_alone, corrupt=model.tokens(pairs.corrupt))


def source_patterns(
    study: Study, pairs: Pairs, places: Sequence[Site], queries: Places, keys: Places
) -> tuple[Side, Side, Patterns]:
    """The edges of the run that is changed, and the other run's patterns, put where the edges are.

    Raises:
        SpanError: a prompt lacks a span, or a pair's prompts do not have it in as many tokens.
    """
    model, source = study.model, study.as_read(study.source)
    assert study.corrupt is not None  # pairs have both
    aligned = AlignedPairs(study.clean, study.corrupt, study.targets)
    kept = model.run(source, capture=list(places), logits_at=-1).cache
    of_clean = [Side.of(model, pairs, aligned, each) for each in (queries, keys)]
    # By spans whatever the lengths are: what a pair gives is no matter of the pairs beside it.
    if not (isinstance(queries, Mapping) and isinstance(keys, Mapping)):
        return of_clean[0], of_clean[1], {place: kept[place] for place in places}
    of_corrupt = [Side.of_spans(model, pairs.corrupt, each) for each in (queries, keys)]
    ours, theirs = (of_clean, of_corrupt) if study.base is study.clean else (of_corrupt, of_clean)
    query, key = (_counterparts(study.tokens, source, *sides) for sides in zip(ours, theirs, strict=True))
    return ours[0], ours[1], {place: _moved(kept[place], query, key) for place in places}


def _counterparts(base: Tokens, source: Tokens, ours: Side, theirs: Side) -> Int[Tensor, "batch column"]:
    """For each of the base's columns in a span, the source's that has its place there; 0 for the others."""
    columns = torch.full(base.ids.shape, -1)
    first, first_there = ((tokens.positions == 0).long().argmax(-1).tolist() for tokens in (base, source))
    for name, here, there in zip(ours.names or (), ours.rows, theirs.rows, strict=True):
        assert here is not None and there is not None  # spans name their positions
        for row, (mine, other) in enumerate(zip(here, there, strict=True)):
            if len(mine) != len(other):
                raise SpanError(
                    f"span {name!r} has {len(mine)} tokens in one prompt of pair {row} and {len(other)} in the other, "
                    "so that their attention does not correspond"
                )
            placed = torch.tensor(other) + first_there[row]
            at = torch.tensor(mine) + first[row]
            if bool(((columns[row, at] >= 0) & (columns[row, at] != placed)).any()):
                raise SpanError(
                    f"span {name!r} overlaps with others of pair {row}, and otherwise in its other prompt: transplant "
                    "them one at a time"
                )
            columns[row, at] = placed
    return columns.clamp(min=0).to(base.ids.device)


def _moved(
    pattern: Float[Tensor, "batch head query key"],
    queries: Int[Tensor, "batch column"],
    keys: Int[Tensor, "batch column"],
) -> Float[Tensor, "batch head column column"]:
    rows = torch.arange(len(pattern), device=pattern.device)[:, None, None]
    queries, keys = queries.to(pattern.device), keys.to(pattern.device)
    return pattern.movedim(1, -1)[rows, queries[:, :, None], keys[:, None, :]].movedim(-1, 1)
