"""Interventions: a site and what to do there. Patching, ablation, steering and knock-out differ in nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_fields
from operator import index
from typing import Any, Literal, SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitkit.model.site import ATTENTION_KINDS, HEAD_KINDS, Kind, Site
from circuitkit.showing import Shown

During = Literal["prompt", "generated", "both"]
Operation = Literal["replace", "scale", "add", "knockout", "force"]
Rows = tuple[tuple[int, ...], ...]
Positions = int | Iterable[int] | Iterable[Iterable[int]] | None
"""One position, those of every row alike, or those of each row (as `Span.positions` gives them); None for all."""


class InterventionError(ValueError):
    """An intervention that does not fit the model or the prompts, or that never took place."""


@dataclass(frozen=True, eq=False, repr=False)
class Intervention(Shown):
    """A site and what to do there; made by `replace`, `zero`, `mean`, `scale`, `add`, `knockout` and `attention.force`.

    Attributes:
        site: where.
        operation: what.
        value: with what: a number, or a tensor that broadcasts to the site's value from its last axis.
        during: whether it holds in the prompt, in generated tokens, or both.
        queries, keys: the positions of queries (for sites without attention, of tokens) and of keys; None for all.
        queries_by_row, keys_by_row: the same, each row of the batch having its own; a row may have none.
        value_positions: the position of each of the value's columns, -1 on padding, where they come from prompts that
            are padded otherwise, or reach further; None where they are the prompt's.
    """

    site: Site
    operation: Operation
    value: Tensor | float = 0.0
    during: During = "both"
    queries: tuple[int, ...] | None = None
    keys: tuple[int, ...] | None = None
    queries_by_row: Rows | None = None
    keys_by_row: Rows | None = None
    value_positions: Int[Tensor, "batch column"] | None = None

    def __post_init__(self) -> None:
        if self.during not in ("prompt", "generated", "both"):
            raise InterventionError(f"during is 'prompt', 'generated' or 'both', not {self.during!r}")
        if bool(torch.isnan(torch.as_tensor(self.value)).any()):
            raise InterventionError(f"the value for {self.site} holds NaN: look at the run that it came from")
        if self.site.position is not None and self.site.position < 0 and self.during == "generated":
            raise InterventionError(
                f"{self.site}: negative positions mean the prompt, so during='generated' never holds"
            )

    def _says(self) -> list[str]:
        value = self.value
        put = (
            f"a value of the shape {list(value.shape)}"
            if isinstance(value, Tensor) and value.ndim
            else f"{float(value):g}"
        )
        what = "" if self.operation == "knockout" else f" ({put})"
        when = {"both": "in the prompt and in new tokens", "prompt": "in the prompt", "generated": "in new tokens"}
        return [f"At {self.site}: {self.operation}{what}, {when[self.during]}."]

    def axes(self, tensor_ndim: int) -> list[int]:
        """Which axes of the site's whole tensor the value's axes are: all but those that the site names."""
        named = {
            axis for axis, name in enumerate(axis_names(self.site.kind)) if getattr(self.site, name, None) is not None
        }
        return [axis for axis in range(tensor_ndim) if axis not in named]

    @property
    def names_positions(self) -> bool:
        """Whether positions are named beside the site, or its value has its own."""
        named = (self.queries, self.queries_by_row, self.keys, self.keys_by_row, self.value_positions)
        return any(each is not None for each in named)

    @property
    def names_rows(self) -> bool:
        """Whether the value, or what it reaches, differs from row to row of the batch."""
        return self.queries_by_row is not None or self.keys_by_row is not None or self._value_by_row

    @property
    def _value_by_row(self) -> bool:
        if not isinstance(self.value, Tensor):
            return False
        if self.operation == "force":
            return self.value.numel() > 1
        ndim = len(self.axes(len(axis_names(self.site.kind))))
        return self.value.ndim >= ndim and self.value.shape[0] > 1

    def for_rows(self, rows: slice, n_rows: int) -> Intervention:
        """The same intervention for some rows of a batch of so many.

        Raises:
            InterventionError: it names another number of rows.
        """
        positions = self.value_positions
        by_row = {
            "value": self.value if self._value_by_row else None,
            "value_positions": None if positions is None or len(positions) == 1 else positions,
            "queries_by_row": self.queries_by_row,
            "keys_by_row": self.keys_by_row,
        }
        of_rows: dict[str, Any] = {}
        for name, each in by_row.items():
            if isinstance(each, Tensor | tuple):
                if len(each) != n_rows:
                    raise InterventionError(
                        f"{self.site}: {name.removesuffix('_by_row')} of {len(each)} rows, but the batch has {n_rows}"
                    )
                of_rows[name] = each[rows]
        return with_fields(self, **of_rows) if of_rows else self


def axis_names(kind: Kind | None) -> tuple[str, ...]:
    """The axes of a site's whole tensor, by the names that `Site` gives them."""
    if kind in ATTENTION_KINDS:
        return ("batch", "head", "position", "key")
    return ("batch", "position", "head", "d_head") if kind in HEAD_KINDS else ("batch", "position", "d_model")


def replace(site: Site | str, value: Float[Tensor, "..."] | float, *, during: During = "both") -> Intervention:
    """Put a value in a site's place.

    A value with a position axis names the prompt's columns, and so holds in the prompt alone.

    >>> replace("z[layer=0, head=1]", torch.zeros(16)).site
    z[layer=0, head=1]
    """
    return Intervention(Site.parse(site), "replace", value, during)


def zero(site: Site | str, *, during: During = "both") -> Intervention:
    """Put zero in a site's place.

    >>> zero("mlp_out[layer=2]").value
    0.0
    """
    return Intervention(Site.parse(site), "replace", 0.0, during)


def mean(site: Site | str, value: Float[Tensor, "..."], *, during: During = "both") -> Intervention:
    """Put a mean over a reference set in a site's place; the mean has no batch axis.

    Raises:
        InterventionError: the value still has one row per prompt.

    >>> mean("z[layer=0, head=1]", torch.ones(16)).operation
    'replace'
    """
    intervention = Intervention(Site.parse(site), "replace", value, during)
    if intervention.names_rows:
        raise InterventionError(
            f"a mean has no batch axis, but the value for {site} is {list(value.shape)}: average it"
        )
    return intervention


def scale(site: Site | str, factor: float, *, during: During = "both") -> Intervention:
    """Multiply a site by a factor.

    >>> scale("z[layer=0, head=1]", 1.3).value
    1.3
    """
    return Intervention(Site.parse(site), "scale", factor, during)


def add(site: Site | str, vector: Float[Tensor, "..."] | float, *, during: During = "both") -> Intervention:
    """Add a vector to a site (steering).

    >>> add("resid_post[layer=1]", torch.ones(64)).operation
    'add'
    """
    return Intervention(Site.parse(site), "add", vector, during)


def knockout(
    layer: int,
    head: int | None = None,
    queries: Positions = None,
    keys: Positions = None,
    *,
    during: During = "both",
) -> Intervention:
    """Forbid attention from some positions to others, before the softmax; the other keys share what they had.

    A query left without any key attends to nothing: its row of the pattern is zero, never NaN.

    Args:
        layer: whose attention.
        head: which query head; None for all.
        queries, keys: positions attended from and to, of all rows or of each (see `Span.positions`); None for all.
            Negative ones count from the prompt's end.
        during: whether it holds for queries in the prompt, in generated tokens, or both.

    >>> knockout(1, head=2, queries=-1, keys=[0, 1]).keys
    (0, 1)
    >>> knockout(1, queries=[(3, 4), (5,)]).queries_by_row
    ((3, 4), (5,))
    """
    return between(Intervention(Site("scores", layer=layer, head=head), "knockout", 0.0, during), queries, keys)


def between(intervention: Intervention, queries: Positions = None, keys: Positions = None) -> Intervention:
    """The same intervention, from some queries to some keys alone.

    Raises:
        InterventionError: keys are named at a site without them, or positions are named in two ways.

    >>> between(scale("pattern[layer=1]", 0.5), queries=-1, keys=[(0, 1), (2,)]).keys_by_row
    ((0, 1), (2,))
    """
    site = intervention.site
    if keys is not None and site.kind not in ATTENTION_KINDS:
        raise InterventionError(f"{site} has no keys; only scores and pattern have")
    if (queries is not None and site.position is not None) or (keys is not None and site.key is not None):
        raise InterventionError(f"{site} names a position already: name it there or beside it, not in both")
    shared_queries, queries_by_row = _positions(queries)
    shared_keys, keys_by_row = _positions(keys)
    return with_fields(
        intervention,
        queries=shared_queries,
        keys=shared_keys,
        queries_by_row=queries_by_row,
        keys_by_row=keys_by_row,
    )


def _positions(positions: Positions) -> tuple[tuple[int, ...] | None, Rows | None]:
    """Positions of all rows alike, or those of each row; one of the two is None."""
    if positions is None:
        return None, None
    if isinstance(positions, Tensor):
        positions = positions.tolist()
    if isinstance(positions, SupportsIndex):
        return (index(positions),), None
    named: list[Any] = list(positions)
    numbers = [isinstance(each, SupportsIndex) for each in named]
    if all(numbers):
        return tuple(index(each) for each in named), None
    if any(numbers):
        raise InterventionError(f"positions are all numbers, or all lists of numbers, one a row; got {named}")
    return None, tuple(tuple(index(position) for position in row) for row in named)


Interventions = Sequence[Intervention]
