"""Axes of a single entry: told in the title, so that the others make one map."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circuitkit.results import Result

_TOLD = {"query": "from", "key": "to", "position": "at"}


def without_single(result: Result) -> Result:
    """A result of more than two axes without its queries, keys or positions of one entry.

    >>> import torch
    >>> from circuitkit.results import Baseline, Result
    >>> edge = Result(torch.ones(3, 2, 1, 1, 4), ("layer", "head", "query", "key"), Baseline(torch.ones(4)), "ablate",
    ...               "kl", title="Moving attention", coordinates={"query": (-1,), "key": ("rules",)})
    >>> without_single(edge).axes, without_single(edge).title
    (('layer', 'head'), 'Moving attention, from -1, to rules')
    """
    for axis, told in _TOLD.items():
        if axis not in result.axes or len(result.axes) <= 2:
            continue
        at = result.axes.index(axis)
        if result.per_example.shape[at] != 1:
            continue
        [name] = result.labels.get(axis) or result.coordinates.get(axis) or (0,)
        result = replace(
            result,
            per_example=result.per_example.squeeze(at),
            controls=None if result.controls is None else result.controls.squeeze(at),
            axes=tuple(each for each in result.axes if each != axis),
            title=f"{result.title}, {told} {name}",
            coordinates={each: names for each, names in result.coordinates.items() if each != axis},
            labels={each: names for each, names in result.labels.items() if each != axis},
        )
    return result
