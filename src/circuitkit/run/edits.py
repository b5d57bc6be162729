"""An intervention at work: which numbers of a site's tensor it reaches in a forward pass, and what it makes of them."""

from __future__ import annotations

from types import EllipsisType

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from circuitkit.model.attention import lowest_score
from circuitkit.model.site import ATTENTION_KINDS, Site
from circuitkit.model.tokens import Pass
from circuitkit.run.interventions import Intervention, InterventionError, Rows, axis_names

Index = tuple[slice | int, ...] | EllipsisType
"""A block of a site's tensor, by batch, position and head; or the whole."""


def require_all_keys(site: Site, tensor: Tensor, now: Pass) -> None:
    """Refuse attention over fewer keys than there are tokens, where keys would no longer be absolute positions."""
    n_tokens = now.key_positions.shape[-1]
    if tensor.shape[-1] != n_tokens:
        raise InterventionError(
            f"{site} holds {tensor.shape[-1]} keys of {n_tokens} tokens, since this cache forgets: pass "
            "past_key_values=transformers.DynamicCache()"
        )


class Edit:
    """One intervention held at one layer's site.

    Attributes:
        site: the site, with its layer.
        fired: whether it has reached anything yet.
    """

    def __init__(self, intervention: Intervention, site: Site) -> None:
        self.intervention, self.site, self.fired = intervention, site, False
        self._silenced: Tensor | None = None

    def __call__(self, tensor: Tensor, now: Pass) -> Tensor | None:
        """The site's tensor with the intervention in it, or None where this pass holds nothing to change."""
        piece = self.piece(tensor, now)
        if piece is None:
            return None
        index, values = piece
        if index is Ellipsis:
            return values
        tensor = tensor.clone()
        tensor[index] = values
        return tensor

    def piece(self, tensor: Tensor, now: Pass) -> tuple[Index, Tensor] | None:
        """What to write where: a block of the site's tensor, or the whole; None where there is nothing to change."""
        block = self._block(tensor, now)
        value = self._aligned(tensor, now)
        if block is None:
            changed = self._changed(tensor, value, now)
            return None if changed is None else (..., changed)
        self.fired = True
        return block, self._new(tensor[block], None if value is None else value.expand_as(tensor)[block])

    def _block(self, tensor: Tensor, now: Pass) -> tuple[slice | int, ...] | None:
        """What is reached, where it is one block, the same in every row.

        So it is in most cells of a sweep, and a slice costs a fraction of a mask over the whole tensor.
        """
        held, site = self.intervention, self.site
        if site.kind in ATTENTION_KINDS or held.during == "generated" or held.names_positions or not now.is_whole:
            return None
        if tensor.shape[:2] != (len(now.tokens_mask), now.n_queries):
            return None
        head = () if site.head is None else (site.head,)
        if site.position is None:
            return (slice(None), slice(None), *head)
        column = site.position + (now.prompt_columns if site.position < 0 else 0)
        within = now.first_column <= column < now.prompt_columns
        return (slice(None), column - now.first_column, *head) if within else None

    def _changed(self, tensor: Tensor, value: Tensor | None, now: Pass) -> Tensor | None:
        """The whole tensor with the intervention in it, by a mask; None where it reaches nothing."""
        if (reach := self._reached(tensor, value, now)) is None:
            return None
        if self.intervention.operation == "knockout":
            return self._knocked_out(tensor, reach)
        if self.intervention.operation == "force":
            return self._forced(tensor, reach, now)
        return torch.where(reach, self._new(tensor, value), tensor)

    def plan(self, like: Tensor, now: Pass) -> tuple[Tensor, Tensor | None] | None:
        """What the intervention does in a pass, before the site's values are there; None where it reaches nothing.

        Args:
            like: anything of the site's shape, precision and device.
            now: the pass.

        Returns:
            The numbers that are reached, broadcastable to the site's tensor, and the value with the tensor's axes;
            None for the value where it is one number.

        Raises:
            InterventionError: the value does not fit, or a named position does not exist.
        """
        value = self._aligned(like, now)
        reach = self._reached(like, value, now)
        return None if reach is None else (reach, value)

    def _reached(self, tensor: Tensor, value: Tensor | None, now: Pass) -> Tensor | None:
        """The numbers that the intervention reaches in this pass; None where there are none."""
        chosen = self._chosen(now)
        if value is not None and (value.shape[self._query_axis] > 1 or self.intervention.value_positions is not None):
            chosen = chosen & self._covered(now)
        if not chosen.any():
            return None
        reach = self._reach(tensor, now, chosen)
        # A query and a key after it are both there, and yet no number is reached.
        if self.site.kind in ATTENTION_KINDS and not reach.any():
            return None
        self.fired = True
        return reach

    def after_softmax(self, pattern: Tensor, now: Pass) -> Tensor | None:
        """Empty the rows of the pattern that a knock-out left without a key."""
        silenced, self._silenced = self._silenced, None
        return None if silenced is None else pattern.masked_fill(silenced, 0.0)

    @property
    def _query_axis(self) -> int:
        return 2 if self.site.kind in ATTENTION_KINDS else 1

    def _chosen(self, now: Pass) -> Bool[Tensor, "batch query"]:
        """The real tokens of this pass that the schedule and the positions name."""
        positions = now.query_positions
        chosen = positions >= 0
        generated = positions >= now.prompt_lengths[:, None]
        if self.intervention.during != "both":
            chosen = chosen & (generated if self.intervention.during == "generated" else ~generated)
        held = self.intervention
        named = self._at(self.site.position, held.queries, held.queries_by_row, positions, now)
        return chosen if named is None else chosen & named

    def _at(
        self, position: int | None, shared: tuple[int, ...] | None, by_row: Rows | None, here: Tensor, now: Pass
    ) -> Tensor | None:
        """Which of these positions are named, by the site or beside it; None where none is, and so all are."""
        n_rows = len(here) // now.repeats
        if position is not None or shared is not None:
            by_row = ((position,) if position is not None else shared or (),) * n_rows
        if by_row is None:
            return None
        if len(by_row) != n_rows:
            raise InterventionError(
                f"{self.site}: positions are named for {len(by_row)} rows, but the batch has {n_rows}"
            )
        width = max(map(len, by_row))
        named = torch.tensor([[*row, *[0] * (width - len(row))] for row in by_row], dtype=torch.long)
        real = torch.arange(width) < torch.tensor([[len(row)] for row in by_row])
        named, real = (each.to(here.device).repeat_interleave(now.repeats, dim=0) for each in (named, real))
        wanted = torch.where(named < 0, named + now.prompt_lengths[:, None], named)
        absent = wanted < 0 if now.generating else (wanted < 0) | (wanted >= now.prompt_lengths[:, None])
        if now.first_column == 0 and (absent & real).any():
            row, number = (absent & real).nonzero()[0].tolist()
            raise InterventionError(
                f"{self.site}: position {int(named[row, number])} does not exist in row {now.first_row + row}, which "
                f"has {int(now.prompt_lengths[row])} real tokens"
            )
        # Padding's own position is -1, so that what fills the rows of fewer names has to be another.
        wanted = wanted.masked_fill(~real, -2)
        return (here[:, :, None] == wanted[:, None, :]).any(-1)

    def _covered(self, now: Pass) -> Bool[Tensor, "#batch query"]:
        """The columns that a value with a position axis speaks of: the prompt's, or those it has positions for."""
        if self.intervention.value_positions is not None:
            return now.query_positions < self._value_lengths(now)[:, None]
        columns = torch.arange(now.first_column, now.first_column + now.n_queries, device=now.tokens_mask.device)
        return (columns < now.prompt_columns)[None]

    def _reach(self, tensor: Tensor, now: Pass, chosen: Tensor) -> Bool[Tensor, "..."]:
        """The numbers that the intervention reaches, broadcastable to the site's tensor."""
        if self.site.kind not in ATTENTION_KINDS:
            if tensor.shape[:2] != chosen.shape:
                raise InterventionError(
                    f"{self.site} has the shape {list(tensor.shape)}, not [batch, position, …], so it cannot be edited"
                )
            reach = chosen.view(*chosen.shape, *(1 for _ in tensor.shape[2:]))
            return reach if self.site.head is None else reach & self._head_mask(tensor, axis=2)
        keys = now.key_positions
        require_all_keys(self.site, tensor, now)
        # An edit never reaches a key that the query cannot see: attention to the future is no attention.
        reach = (chosen & (now.query_positions >= 0))[:, None, :, None] & (keys >= 0)[:, None, None, :]
        reach = reach & (keys[:, None, None, :] <= now.query_positions[:, None, :, None])
        named = self._at(self.site.key, self.intervention.keys, self.intervention.keys_by_row, keys, now)
        if named is not None:
            reach = reach & named[:, None, None, :]
        return reach if self.site.head is None else reach & self._head_mask(tensor, axis=1)

    def _head_mask(self, tensor: Tensor, axis: int) -> Tensor:
        mask = torch.arange(tensor.shape[axis], device=tensor.device).eq(self.site.head or 0)
        return mask.view([-1 if a == axis else 1 for a in range(tensor.ndim)])

    def _new(self, tensor: Tensor, value: Tensor | None) -> Tensor:
        operand = value if value is not None else torch.as_tensor(self.intervention.value).to(tensor)
        if self.intervention.operation == "scale":
            return tensor * operand
        return tensor + operand if self.intervention.operation == "add" else operand

    def _knocked_out(self, scores: Tensor, reach: Tensor) -> Tensor:
        lowest = lowest_score(scores.dtype)
        open_before = (scores > lowest / 2).any(-1, keepdim=True)
        scores = scores.masked_fill(reach, lowest)
        silenced = open_before & ~(scores > lowest / 2).any(-1, keepdim=True)
        self._silenced = silenced if silenced.any() else None
        return scores

    def _forced(self, pattern: Tensor, reach: Tensor, now: Pass) -> Tensor:
        """Rows that put a part of their sum on the keys reached; see `circuitkit.attention.force`."""
        weight = self.intervention.value
        part = weight.to(pattern) if isinstance(weight, Tensor) else torch.as_tensor(weight).to(pattern)
        if part.ndim:
            part = part.repeat_interleave(now.repeats, dim=0) if len(part) > 1 else part
            if len(part) not in (1, len(pattern)):
                raise InterventionError(f"{self.site}: {len(part)} weights, but the batch has {len(pattern)} rows")
            part = part.view(-1, 1, 1, 1)
        reach = reach.expand_as(pattern)
        queries, keys = now.query_positions[:, None, :, None], now.key_positions[:, None, None, :]
        others = (keys >= 0) & (keys <= queries) & ~reach
        total = pattern.sum(-1, keepdim=True)
        part = torch.where(others.any(-1, keepdim=True), part, torch.ones_like(part))
        left = (pattern * others).sum(-1, keepdim=True)
        # A saturated softmax leaves the others nothing that could be scaled: they then share alike.
        shares = torch.where(
            left > 0, pattern / left.where(left > 0, 1.0), 1.0 / others.sum(-1, keepdim=True).clamp(min=1)
        )
        forced = part * total / reach.sum(-1, keepdim=True).clamp(min=1)
        new = torch.where(reach, forced, torch.where(others, (1 - part) * total * shares, pattern))
        return torch.where(reach.any(-1, keepdim=True), new, pattern)

    def _aligned(self, tensor: Tensor, now: Pass) -> Tensor | None:
        """The value with the axes of the site's tensor; None for a number."""
        value = self.intervention.value
        if not isinstance(value, Tensor) or value.ndim == 0 or self.intervention.operation == "force":
            return None
        axes = self.intervention.axes(tensor.ndim)[-value.ndim :]
        if value.ndim > len(axes):
            raise self._misfit(tensor, value)
        shape = [1] * tensor.ndim
        for axis, size in zip(axes, value.shape, strict=True):
            shape[axis] = size
        aligned = value.to(tensor).reshape(shape)
        if aligned.shape[0] > 1 and now.repeats > 1:
            aligned = aligned.repeat_interleave(now.repeats, dim=0)
        if self.intervention.value_positions is not None:
            aligned = self._by_position(aligned, tensor, now)
        else:
            aligned = self._by_column(aligned, tensor, now)
        if any(have not in (1, want) for have, want in zip(aligned.shape, tensor.shape, strict=True)):
            raise self._misfit(tensor, value)
        return aligned

    def _by_column(self, aligned: Tensor, tensor: Tensor, now: Pass) -> Tensor:
        aligned = self._in_this_pass(aligned, self._query_axis, now.first_column, now.n_queries, now)
        if self.site.kind in ATTENTION_KINDS:
            aligned = self._in_this_pass(aligned, 3, 0, tensor.shape[-1], now)
        return aligned

    def _by_position(self, value: Tensor, tensor: Tensor, now: Pass) -> Tensor:
        """A value's columns at the positions of this pass; what it has none for is not covered."""
        positions, lengths = self._value_positions(now), self._value_lengths(now)
        if len(positions) not in (1, len(tensor)) or len(value) not in (1, len(tensor)):
            raise InterventionError(f"the value for {self.site} has {len(positions)} rows, the batch has {len(tensor)}")
        if now.first_column == 0 and bool((lengths < now.prompt_lengths).any()):
            row = int((lengths < now.prompt_lengths).nonzero()[0])
            raise InterventionError(
                f"the value for {self.site} has {int(lengths[row])} positions in row {now.first_row + row}, whose "
                f"prompt has {int(now.prompt_lengths[row])}: give a source that is as long"
            )
        first = (positions >= 0).long().argmax(-1)[:, None]
        value = value.expand(len(tensor), *value.shape[1:])
        axes = {self._query_axis: now.query_positions}
        if self.site.kind in ATTENTION_KINDS:
            axes[3] = now.key_positions
        for axis, wanted in axes.items():
            columns = (wanted + first).clamp(0, value.shape[axis] - 1)
            shape = [size if at != axis else columns.shape[1] for at, size in enumerate(value.shape)]
            index = columns.view([size if at in (0, axis) else 1 for at, size in enumerate(shape)])
            value = value.gather(axis, index.expand(shape))
        return value

    def _value_positions(self, now: Pass) -> Tensor:
        positions = self.intervention.value_positions
        assert positions is not None
        positions = positions.to(now.tokens_mask.device)
        return positions.repeat_interleave(now.repeats, dim=0) if len(positions) > 1 else positions

    def _value_lengths(self, now: Pass) -> Tensor:
        return (self._value_positions(now) >= 0).sum(-1)

    def _in_this_pass(self, value: Tensor, axis: int, first: int, count: int, now: Pass) -> Tensor:
        """A value's columns, which are the prompt's, cut or filled up to those of this pass."""
        if value.shape[axis] == 1 or axis >= value.ndim:
            return value
        if value.shape[axis] != now.prompt_columns:
            raise InterventionError(
                f"the value for {self.site} has {value.shape[axis]} positions, the prompt has {now.prompt_columns}"
            )
        last = first + count
        if last > value.shape[axis]:
            padding = [0, 0] * (value.ndim - 1 - axis) + [0, last - value.shape[axis]]
            value = F.pad(value, padding)
        return value.narrow(axis, first, count)

    def _misfit(self, tensor: Tensor, value: Tensor) -> InterventionError:
        names = axis_names(self.site.kind)
        whole = ", ".join(f"{name}={size}" for name, size in zip(names, tensor.shape, strict=False))
        return InterventionError(
            f"a value of shape {list(value.shape)} does not fit {self.site}, whose whole tensor is [{whole}]"
        )
