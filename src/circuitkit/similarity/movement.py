"""How the weights of a model moved: how far, in how many directions, and whether two trainings went the same way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from circuitkit.model import roles
from circuitkit.sfn.differences.ranks import stable_rank

if TYPE_CHECKING:
    from circuitkit.model import Model

__all__ = ["alignment", "movement", "stable_rank"]

NO_LAYER = -1


class _Weights(NamedTuple):
    name: str
    role: str
    layer: int
    tensor: Tensor


def movement(before: Model, after: Model) -> pd.DataFrame:
    """How far each weight moved from one model to another of the same shape, and in how many directions.

    Gives a row a parameter: its `name`, its `role` (several of a fused or tied one, joined by "+"; "" of a module that
    has none), `layer` (−1 outside the layers), the `numbers` it has, its `norm` before and that of its `change` (both
    Frobenius), `relative` = change / norm, and the change's `stable_rank` (NaN of a vector, or where nothing moved). A
    tensor that two modules share is there once.

    Raises:
        ValueError: the models have other parameters, or other shapes; the first is named.

    >>> base, twin = ck.load("deductor-20k-base"), ck.load("deductor-20k")
    >>> moved = movement(base, twin)
    >>> bool((moved["relative"] > 0).all()), moved.loc[moved["layer"] == 1, "role"].tolist()[:4]
    (True, ['q_proj', 'k_proj', 'v_proj', 'o_proj'])
    """
    rows = []
    for start, end in _paired(before, after):
        change = end.tensor - start.tensor
        norm = float(torch.linalg.vector_norm(start.tensor))
        moved = float(torch.linalg.vector_norm(change))
        rows.append(
            {
                "name": start.name,
                "role": start.role,
                "layer": start.layer,
                "numbers": change.numel(),
                "norm": norm,
                "change": moved,
                "relative": moved / norm if norm > 0 else float("nan"),
                "stable_rank": stable_rank(change) if change.ndim == 2 else float("nan"),
            }
        )
    return pd.DataFrame(rows)


def alignment(before: Model, first: Model, second: Model) -> pd.DataFrame:
    """Whether two trainings of one model moved each weight the same way: the cosine of their changes.

    Gives a row a parameter: `name`, `role`, `layer`, `numbers` and `cosine` (NaN where one did not move). Of random
    directions it is about 0, with a standard deviation of 1 / √numbers; trainings on any text share more than those.

    Raises:
        ValueError: the models have other parameters, or other shapes; the first is named.

    >>> base, twin = ck.load("deductor-20k-base"), ck.load("deductor-20k")
    >>> bool((alignment(base, twin, twin)["cosine"].round(6) == 1).all())
    True
    """
    rows = []
    for (start, one), (_, other) in zip(_paired(before, first), _paired(before, second), strict=True):
        changes = [(end.tensor - start.tensor).flatten() for end in (one, other)]
        norms = [float(torch.linalg.vector_norm(change)) for change in changes]
        cosine = float(changes[0] @ changes[1]) / (norms[0] * norms[1]) if min(norms) > 0 else float("nan")
        rows.append((start.name, start.role, start.layer, len(changes[0]), cosine))
    return pd.DataFrame(rows, columns=["name", "role", "layer", "numbers", "cosine"])


def _paired(before: Model, after: Model) -> Iterator[tuple[_Weights, _Weights]]:
    starts, ends = dict(_named(before)), dict(_named(after))
    if differing := sorted(starts.keys() ^ ends.keys()):
        holder = before.name if differing[0] in starts else after.name
        raise ValueError(
            f"{before.name} and {after.name} have other parameters: {differing[0]} is in {holder} alone. Give models "
            "of one shape, adapters merged"
        )
    for name, parameter in starts.items():
        if parameter.shape != ends[name].shape:
            raise ValueError(
                f"{name} is {tuple(parameter.shape)} in {before.name} and {tuple(ends[name].shape)} in {after.name}"
            )
    played, layers = roles.parameters(before), _layers(before)
    for name, parameter in starts.items():
        # In double precision: small changes of large weights are what is looked for.
        one, other = (each.detach().cpu().double() for each in (parameter, ends[name]))
        role, layer = "+".join(played[name]), layers.get(id(parameter), NO_LAYER)
        yield _Weights(name, role, layer, one), _Weights(name, role, layer, other)


def _named(model: Model) -> Iterator[tuple[str, Tensor]]:
    yield from model.anatomy.root.named_parameters()


def _layers(model: Model) -> dict[int, int]:
    """By the identity of a parameter, the layer that it is in."""
    return {
        id(parameter): layer
        for layer, block in enumerate(model.anatomy.blocks)
        for parameter in block.block.parameters()
    }
