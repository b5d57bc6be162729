"""Edge scores of a batch: what each source changes, held against the gradient at what each destination reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuitkit.circuits.attributing.reading import Received
from circuitkit.circuits.attributing.written import Differences
from circuitkit.circuits.graphs.convention import OverPositions
from circuitkit.run.memory import memory

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Scores = Float[Tensor, "kept example sources destinations"]
"""Of each example: joined over all its positions, then over those of each span."""

Blocks = list[tuple[slice, Float[Tensor, "source batch position d_model"]]]
"""Rows of the layout, and what those sources change."""


class Contraction:
    """Scores of a batch, some sources at a time.

    Args:
        differences: what sources change.
        positions: how positions are joined.
        spans: the columns of each span to keep scores of.
    """

    def __init__(
        self, differences: Differences, positions: OverPositions, spans: Bool[Tensor, "span batch position"]
    ) -> None:
        self.differences, self.layout = differences, differences.layout
        self.absolute = positions == "sum-absolute"
        batch, position = differences.embedding.shape[:2]
        everywhere = torch.ones(1, batch, position, dtype=torch.bool, device=spans.device)
        self.kept = torch.cat([everywhere, spans]).to(differences.embedding.device)
        self.scores: Scores = differences.embedding.new_zeros(
            len(self.kept), batch, len(self.layout.sources), len(self.layout.destinations)
        )

    def add(self, received: Received, rows: slice | None = None) -> None:
        """Add the scores of some sources, or of all, under the gradients that came back."""
        rows = slice(0, len(self.layout.sources)) if rows is None else rows
        for blocks in self._some_at_a_time(received.model, rows):
            self._add_singles(received, blocks)
            for layer in range(self.layout.n_layers):
                before = self.layout.before_attention(layer).stop
                reached = [(some, block) for some, block in blocks if some.stop <= before]
                for at, read in received.attention(layer) if reached else ():
                    for some, block in reached:
                        self.scores[:, :, some, at] += self._held(block, read)

    def _add_singles(self, received: Received, blocks: Blocks) -> None:
        """Add the scores into MLPs and into the logits, all layers' together."""
        layout = self.layout
        columns = [*(layout.mlp_input_at(layer) for layer in range(layout.n_layers)), layout.logits_at]
        read = torch.cat([received.mlps(), received.last()[None]])
        for some, block in blocks:
            unreached = ~layout.reach[some, columns].to(block.device)
            self.scores[:, :, some, columns] += self._held(block, read).masked_fill_(unreached, 0.0)

    def _some_at_a_time(self, model: Model, rows: slice) -> Iterator[Blocks]:
        """What sources change, a tensor a layer, as many layers at a time as there is memory for."""
        # Apart, so that a layer's finds room where a pass has left it, and all that attention reads ends with one.
        budget, size = memory(model, None), self.differences.bytes_a_source
        blocks: Blocks = []
        held = 0
        for some in self._by_layers(rows):
            if blocks and held + size * (some.stop - some.start) > budget:
                yield blocks
                blocks, held = [], 0
            blocks.append((some, self.differences.block(some)))
            held += size * (some.stop - some.start)
        if blocks:
            yield blocks

    def _by_layers(self, rows: slice) -> Iterator[slice]:
        ends = [1, *(self.layout.mlp_at(layer) + 1 for layer in range(self.layout.n_layers))]
        for start, stop in zip([0, *ends[:-1]], ends, strict=True):
            some = slice(max(start, rows.start), min(stop, rows.stop))
            if some.start < some.stop:
                yield some

    def _held(
        self,
        written: Float[Tensor, "source batch position d_model"],
        read: Float[Tensor, "destination batch position d_model"],
    ) -> Float[Tensor, "kept example source destination"]:
        """Sources held against destinations."""
        if len(self.kept) == 1 and not self.absolute:
            by_example = torch.bmm(written.transpose(0, 1).flatten(2), read.permute(1, 2, 3, 0).flatten(1, 2))
            return by_example[None]
        batch, position = written.shape[1:3]
        by_token = torch.bmm(written.permute(1, 2, 0, 3).flatten(0, 1), read.permute(1, 2, 3, 0).flatten(0, 1))
        by_token = by_token.abs() if self.absolute else by_token
        by_token = by_token.view(batch, position, -1)
        joined = torch.einsum("kbp,bpn->kbn", self.kept.to(by_token), by_token)
        return joined.view(len(self.kept), batch, len(written), len(read))
