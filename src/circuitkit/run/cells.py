"""Cells of a study, stacked along the batch: each has its own rows, and its interventions reach only those."""

from __future__ import annotations

from collections.abc import Sequence
from threading import get_ident
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from circuitkit.model.site import ATTENTION_KINDS, Site
from circuitkit.model.tokens import Pass
from circuitkit.run.edits import Edit
from circuitkit.run.interventions import Interventions

if TYPE_CHECKING:
    from circuitkit.model.model import Model
    from circuitkit.model.taps import Action

# The order of a layer's sites in the computation.
_ORDER = ("resid_pre", "q", "k", "v", "scores", "pattern", "z", "attn_out", "resid_mid", "mlp_out", "resid_post")
_BEFORE_Z = frozenset(_ORDER[: _ORDER.index("z")])


class Cell:
    """A set of interventions, and what of the base run it leaves as it was.

    Attributes:
        edits: its interventions, one a site.
        sites: where each is held, the stream between two blocks being what enters the second.
        layer: the first layer that it touches; None where it touches something outside the layers.
    """

    def __init__(self, model: Model, interventions: Interventions) -> None:
        self.edits = [Edit(each, site) for each in interventions for site in model.sites(each.site)]
        self.sites = [_entering(model, edit.site) for edit in self.edits]
        self._layers = [_layer(model, site) for site in self.sites]
        layers = [at for at in self._layers if at is not None]
        self.layer = min(layers, default=0) if len(layers) == len(self._layers) else None
        self._before_z = [_before_z(model, site, at) for site, at in zip(self.sites, self._layers, strict=True)]

    @property
    def spares_attention(self) -> bool:
        """Whether attention in its first layer computes what it computed in the base run."""
        touched = zip(self._layers, self._before_z, strict=True)
        return not any(before for layer, before in touched if layer == self.layer)

    def first_change(self, base: dict[Site, Tensor], now: Pass) -> int | None:
        """The first column that can differ from the base run, or None where none can.

        Each edit that reaches something has fired then.
        """
        columns: list[int] = []
        for edit in self.edits:
            value = base[edit.site.place]
            columns += _changed(edit, value, now.to(value.device)).nonzero()[:1].flatten().tolist()
        return min(columns, default=None)


def _layer(model: Model, site: Site) -> int | None:
    """The layer that a site is in, a module's too; None outside the layers."""
    if site.module is None:
        return site.layer
    module = model.point(site).module
    return next((at for at, block in enumerate(model.anatomy.blocks) if module in block.block.modules()), None)


def _before_z(model: Model, site: Site, layer: int | None) -> bool:
    """Whether a site may change what attention in its layer computes: of a module, all but the MLP's."""
    if site.module is None or layer is None:
        return site.kind in _BEFORE_Z
    mlp = model.anatomy.blocks[layer].mlp
    return mlp is None or model.point(site).module not in mlp.modules()


def _changed(edit: Edit, value: Tensor, now: Pass) -> Bool[Tensor, " column"]:
    """The columns of a site's tensor that an intervention changes."""
    axis = 2 if edit.site.kind in ATTENTION_KINDS else 1
    changed = torch.zeros(value.shape[axis], dtype=torch.bool, device=value.device)
    if (piece := edit.piece(value, now)) is None:
        return changed
    index, new = piece
    # A knock-out's emptied rows are seen in the pattern only, and what it reaches has changed in any case.
    differs = new != value[index]
    if index is not Ellipsis and isinstance(index[1], int):
        changed[index[1]] = differs.any()
        return changed
    return differs.movedim(axis, 0).flatten(1).any(-1)


def _entering(model: Model, site: Site) -> Site:
    """What leaves one block enters the next: the same tensor, and one layer less to run."""
    if site.kind == "resid_post" and site.layer is not None and site.layer + 1 < model.n_layers:
        return site.at(kind="resid_pre", layer=site.layer + 1)
    return site


class Stack:
    """Cells run together on copies of one batch of prompts.

    Args:
        cells: in the order of their rows.
        now: the pass over one cell's rows.
    """

    def __init__(self, model: Model, cells: Sequence[Cell], now: Pass) -> None:
        self.now, self.rows, self.thread = now, now.tokens_mask.shape[0], get_ident()
        self.actions: dict[Site, list[Action]] = {}
        by_place: dict[Site, list[tuple[int, Edit]]] = {}
        for number, cell in enumerate(cells):
            for edit, site in zip(cell.edits, cell.sites, strict=True):
                by_place.setdefault(site.place, []).append((number, edit))
        for place, edits in by_place.items():
            # What leaves a block is edited before what enters the next, in whichever order a cell names them.
            edits.sort(key=lambda numbered: numbered[1].site.kind == place.kind)
            self.actions.setdefault(place, []).append(self._editing(edits))
            if any(edit.intervention.operation == "knockout" for _, edit in edits):
                self.actions.setdefault(place.at(kind="pattern"), []).append(self._emptying(edits))

    def this_pass(self) -> Pass | None:
        """The pass over one cell's rows, which each cell's interventions are told of; None in another thread."""
        return self.now if get_ident() == self.thread else None

    def _editing(self, edits: list[tuple[int, Edit]]) -> Action:
        def act(tensor: Tensor, now: Pass) -> Tensor:
            stacked = tensor.clone()
            for number, edit in edits:
                own = stacked[number * self.rows : (number + 1) * self.rows]
                if (piece := edit.piece(own, now)) is not None:
                    index, values = piece
                    own[index] = values
            return stacked

        return act

    def _emptying(self, edits: list[tuple[int, Edit]]) -> Action:
        def act(pattern: Tensor, now: Pass) -> Tensor:
            stacked = pattern.clone()
            for number, edit in edits:
                own = stacked[number * self.rows : (number + 1) * self.rows]
                if (new := edit.after_softmax(own, now)) is not None:
                    own.copy_(new)
            return stacked

        return act


def places(model: Model, cells: Sequence[Cell]) -> list[Site]:
    """The whole sites that cells touch, whose values in the base run tell what they change."""
    return list(dict.fromkeys(edit.site.place for cell in cells for edit in cell.edits))


def stacked(tensor: Tensor, n_cells: int) -> Tensor:
    """One batch's tensor, once for every cell."""
    return tensor.expand(n_cells, *tensor.shape).flatten(0, 1) if n_cells > 1 else tensor
