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
        layout, mlps, last = self.layout, received.mlps(), received.last()
        rows = slice(0, len(layout.sources)) if rows is None else rows
        columns = [*(layout.mlp_input_at(layer) for layer in range(layout.n_layers)), layout.logits_at]
        read = torch.cat([mlps, last[None]])
        for some in self._some_at_a_time(received.model, rows):
            block = self.differences.block(some)
            # One for all layers, of which some do not read all of these sources.
            reached = layout.reach[some, columns].to(block.device)
            self.scores[:, :, some, columns] += self._held(block, read).masked_fill_(~reached, 0.0)
            for layer in range(layout.n_layers):
                before = layout.before_attention(layer).stop
                if before <= some.start:
                    continue
                if (read_by_heads := received.attention(layer)) is not None:
                    until = min(before, some.stop)
                    made = self._held(block[: until - some.start], read_by_heads)
                    self.scores[:, :, some.start : until, layout.attention_at(layer)] += made

    def _some_at_a_time(self, model: Model, rows: slice) -> Iterator[slice]:
        size = max(1, memory(model, None) // self.differences.bytes_a_source)
        for start in range(rows.start, rows.stop, size):
            yield slice(start, min(start + size, rows.stop))

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
