"""A capture at work: a site's value gathered over the forward passes of one sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from circuitkit.model.attention import lowest_score
from circuitkit.model.site import ATTENTION_KINDS, Site
from circuitkit.model.tokens import Pass, absolute, columns_of
from circuitkit.run.edits import require_all_keys
from circuitkit.run.interventions import InterventionError


def gather_axis(value: Tensor, columns: Int[Tensor, " batch"], axis: int) -> Tensor:
    """One column a row, along an axis that is then dropped."""
    index = columns.to(value.device).view(-1, *(1 for _ in range(value.ndim - 1)))
    return value.gather(axis, index.expand_as(value.narrow(axis, 0, 1))).squeeze(axis)


class Capture:
    """Keeps one site's value, pass after pass, and only what the site names of it.

    With `gradients` the whole tensor is kept as it goes on through the model, so that it can be differentiated at.
    """

    def __init__(self, site: Site, gradients: bool) -> None:
        self.site, self.gradients = site, gradients
        self.whole: Tensor | None = None
        self._chunks: list[Tensor] = []
        self._reached: Bool[Tensor, " batch"] | None = None
        self._last: Pass | None = None

    @property
    def fired(self) -> bool:
        """Whether anything was kept."""
        return bool(self._chunks) or self.whole is not None

    def __call__(self, tensor: Tensor, now: Pass) -> Tensor | None:
        """Keep this pass's part."""
        # Gradient checkpointing runs a layer twice in one pass; the first time is the forward's own.
        if now is self._last:
            return None
        if now.first_column == 0:
            self._chunks.clear()
            self._reached = None
        self._last = now
        if self._attention:
            require_all_keys(self.site, tensor, now)
        if self.gradients:
            # With frozen weights below, nothing would carry a gradient this far.
            self.whole = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
            # Handed back, so that what is kept lies on the way to the logits and not beside it; as a copy, because
            # some decoders go on to add to this tensor in place.
            return self.whole.clone()
        part = tensor.detach()
        if self.site.head is not None:
            part = part.select(1 if self._attention else 2, self.site.head)
        if self.site.position is None:
            # A copy, because some decoders go on to add to this tensor in place.
            self._chunks.append(part.clone())
        else:
            self._keep_position(part, now, self.site.position)
        return None

    def value(self, positions: Int[Tensor, "batch column"], prompt_lengths: Int[Tensor, " batch"]) -> Tensor:
        """What was kept over all passes, in the site's shape.

        Raises:
            InterventionError: a row never came to the position that the site names.
        """
        if self._reached is not None and not bool(self._reached.all()):
            row = int((~self._reached).nonzero()[0])
            raise InterventionError(f"{self.site} was never reached in row {row}, which ended before that position")
        value = self._joined()
        if self.site.key is not None:
            columns, found = columns_of(positions, absolute(self.site.key, prompt_lengths))
            if not bool(found.all()):
                raise InterventionError(f"{self.site}: a row has no key at position {self.site.key}")
            value = gather_axis(value, columns, value.ndim - 1)
        return value

    @property
    def _attention(self) -> bool:
        return self.site.kind in ATTENTION_KINDS

    @property
    def _query_axis(self) -> int:
        return 2 if self._attention and self.site.head is None else 1

    def _joined(self) -> Tensor:
        if len(self._chunks) == 1 or not self._attention:
            return self._chunks[0] if len(self._chunks) == 1 else torch.cat(self._chunks, dim=1)
        n_keys = self._chunks[-1].shape[-1]
        return torch.cat([self._widened(chunk, n_keys) for chunk in self._chunks], dim=self._query_axis)

    def _widened(self, chunk: Tensor, n_keys: int) -> Tensor:
        """An earlier pass's attention over all keys: it could not see those that came later."""
        fill = 0.0 if self.site.kind == "pattern" else lowest_score(chunk.dtype)
        return F.pad(chunk, (0, n_keys - chunk.shape[-1]), value=fill)

    def _keep_position(self, part: Tensor, now: Pass, position: int) -> None:
        if position < 0 and now.first_column == 0 and bool((now.absolute(position) < 0).any()):
            row = int((now.absolute(position) < 0).nonzero()[0])
            raise InterventionError(
                f"{self.site}: position {position} does not exist in row {row}, which has "
                f"{int(now.prompt_lengths[row])} real tokens"
            )
        columns, reached = columns_of(now.query_positions, now.absolute(position))
        if (part.shape[0], part.shape[self._query_axis]) != tuple(now.query_positions.shape):
            raise InterventionError(
                f"{self.site} has the shape {list(part.shape)}, not [batch, position, …], so it has no position to read"
            )
        kept = gather_axis(part, columns, self._query_axis)
        if self._chunks:
            before = self._widened(self._chunks.pop(), kept.shape[-1]) if self._attention else self._chunks.pop()
            kept = torch.where(reached.view(-1, *(1 for _ in kept.shape[1:])), kept, before)
        self._chunks.append(kept.clone())
        self._reached = reached if self._reached is None else self._reached | reached
