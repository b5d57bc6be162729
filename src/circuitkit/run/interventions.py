"""Interventions: a site and what to do there. Patching, ablation, steering and knock-out differ in nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.model.site import ATTENTION_KINDS, HEAD_KINDS, Kind, Site

During = Literal["prompt", "generated", "both"]
Operation = Literal["replace", "scale", "add", "knockout"]


class InterventionError(ValueError):
    """An intervention that does not fit the model or the prompts, or that never took place."""


@dataclass(frozen=True, eq=False)
class Intervention:
    """A site and what to do there; made by `replace`, `zero`, `mean`, `scale`, `add` and `knockout`.

    Attributes:
        site: where.
        operation: what.
        value: with what: a number, or a tensor that broadcasts to the site's value from its last axis.
        during: whether it holds in the prompt, in generated tokens, or both.
        queries, keys: for a knock-out, the positions on either side; None for all.
    """

    site: Site
    operation: Operation
    value: Tensor | float = 0.0
    during: During = "both"
    queries: tuple[int, ...] | None = None
    keys: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.during not in ("prompt", "generated", "both"):
            raise InterventionError(f"during is 'prompt', 'generated' or 'both', not {self.during!r}")
        if isinstance(self.value, Tensor) and self.value.is_floating_point() and bool(torch.isnan(self.value).any()):
            raise InterventionError(f"the value for {self.site} holds NaN: look at the run that it came from")
        if self.site.position is not None and self.site.position < 0 and self.during == "generated":
            raise InterventionError(
                f"{self.site}: negative positions mean the prompt, so during='generated' never holds"
            )

    def axes(self, tensor_ndim: int) -> list[int]:
        """Which axes of the site's whole tensor the value's axes are: all but those that the site names."""
        named = {
            axis for axis, name in enumerate(axis_names(self.site.kind)) if getattr(self.site, name, None) is not None
        }
        return [axis for axis in range(tensor_ndim) if axis not in named]

    @property
    def names_rows(self) -> bool:
        """Whether the value differs from row to row of the batch."""
        if not isinstance(self.value, Tensor):
            return False
        ndim = len(self.axes(len(axis_names(self.site.kind))))
        return self.value.ndim >= ndim and self.value.shape[0] > 1


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
    queries: int | Iterable[int] | None = None,
    keys: int | Iterable[int] | None = None,
    *,
    during: During = "both",
) -> Intervention:
    """Forbid attention from some positions to others, before the softmax; the other keys share what they had.

    A query left without any key attends to nothing: its row of the pattern is zero, never NaN.

    Args:
        layer: whose attention.
        head: which query head; None for all.
        queries, keys: positions attended from and to; None for all. Negative ones count from the prompt's end.
        during: whether it holds for queries in the prompt, in generated tokens, or both.

    >>> knockout(1, head=2, queries=-1, keys=[0, 1]).keys
    (0, 1)
    """
    site = Site("scores", layer=layer, head=head)
    return Intervention(site, "knockout", 0.0, during, _positions(queries), _positions(keys))


def _positions(positions: int | Iterable[int] | None) -> tuple[int, ...] | None:
    if positions is None:
        return None
    return (positions,) if isinstance(positions, int) else tuple(positions)


Interventions = Sequence[Intervention]
