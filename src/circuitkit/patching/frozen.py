"""A base run in which everything is frozen but what senders write, and what receivers then compute.

The stream is a sum, so with all else frozen it is the base run's stream plus what the senders write in the source run
less what they write in the base run. A receiver is then one layer's computation on that stream: no other layer runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuitkit.model.site import Site
from circuitkit.model.tokens import Tokens
from circuitkit.pairs import Reading
from circuitkit.run.cache import Cache
from circuitkit.run.cells import stacked
from circuitkit.run.interventions import Intervention, add, replace
from circuitkit.run.one_layer import computed

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Sites = tuple[Site, ...]
Changes = dict[int, Tensor]
"""What a set of senders changes in the stream, `[batch, position, d_model]` by the step at which it writes there."""

_BEFORE_LAYERS = -1
_MIXES_POSITIONS = frozenset({"z", "attn_out"})


def step(model: Model, site: Site) -> int:
    """When a component reads the stream, and writes to it: two steps a layer, attention's and the MLP's.

    A sender reaches a receiver of a later step. In a parallel layer attention and MLP have one step.
    """
    if site.kind == "embed":
        return _BEFORE_LAYERS
    if site.kind == "resid_post":
        return 2 * model.n_layers
    assert site.layer is not None
    sequential = "resid_mid" in model.layers[site.layer].points
    return 2 * site.layer + int(site.kind == "mlp_out" and sequential)


def reaches(model: Model, senders: Sites, receivers: Sites) -> bool:
    """Whether any of the senders writes before any of the receivers reads."""
    return min(step(model, each) for each in senders) < max(step(model, each) for each in receivers)


class FrozenRun:
    """What receivers compute in a base run where only senders write something else: what they do in the source run.

    Args:
        model: the model, whose every layer's `attn_out` and `mlp_out` add up to the stream.
        base: the prompts of the base run as a metric reads them.
        source: those of the source run, of the same lengths.
        prompts: the base prompts alone, whose end negative positions count from.
        senders, receivers: all that will be asked for.

    Raises:
        PromptError: a row has no such position as a sender or receiver names.
    """

    def __init__(
        self,
        model: Model,
        base: Reading,
        source: Reading,
        prompts: Tokens,
        senders: Sequence[Site],
        receivers: Sequence[Site],
    ) -> None:
        self.model, self.reading, self.prompts = model, base, prompts
        for site in (*senders, *receivers):
            if site.position is not None:
                prompts.columns(site.position)
        sent = list(dict.fromkeys(_written(site) for site in senders))
        kept = [*sent, *(site.place for site in receivers if site.kind != "resid_post")]
        layers = {place.layer for place in kept}
        kept += [Site(kind, layer=layer) for layer in layers for kind in ("resid_pre", "attn_out")]
        self.base = model.run(base.tokens, capture=dict.fromkeys(kept), logits_at=-1).cache
        self.source = model.run(source.tokens, capture=sent, logits_at=-1).cache

    def changes(self, sets: Sequence[Sites]) -> list[Changes]:
        """What each set of senders changes in the stream."""
        made: list[Changes] = [{} for _ in sets]
        by_layer: dict[int, list[int]] = defaultdict(list)
        for number, senders in enumerate(sets):
            for place in dict.fromkeys(_written(site) for site in senders):
                if place.kind == "z":
                    assert place.layer is not None
                    by_layer[place.layer].append(number)
                    continue
                named = self._named([site for site in senders if _written(site) == place])
                difference = (self.source[place] - self.base[place]).masked_fill(~named[..., None], 0.0)
                _write(
                    made[number], _BEFORE_LAYERS if place.kind == "resid_pre" else step(self.model, place), difference
                )
        for layer, numbers in by_layer.items():
            for number, difference in zip(numbers, self._by_heads(layer, [sets[at] for at in numbers]), strict=True):
                _write(made[number], 2 * layer, difference)
        return made

    def _by_heads(self, layer: int, sets: Sequence[Sites]) -> Iterator[Tensor]:
        """What a layer's attention adds to the stream once some heads' `z` is the source run's, less what it added."""
        place, out = Site("z", layer=layer), Site("attn_out", layer=layer)
        base, source, n = self.base[place], self.source[place], len(sets)
        mixed = torch.stack([base] * n)
        for row, senders in zip(mixed, sets, strict=True):
            for head in {site.head for site in senders if site.place == place}:
                assert head is not None
                named = self._named([site for site in senders if site.place == place and site.head == head])
                row[:, :, head] = torch.where(named[..., None].to(row.device), source[:, :, head], row[:, :, head])
        written = self._layer(layer, stacked(self._entering(layer), n), [replace(place, mixed.flatten(0, 1))], [out])
        # Tokens whose z is the base run's write what they did: rounding is no change.
        touched = (mixed != base).flatten(3).any(-1, keepdim=True)
        difference = written[out].view(n, *self.base[out].shape) - self.base[out]
        yield from difference * touched

    def received(self, changes: Sequence[Changes], receivers: Sequence[Site]) -> list[dict[Site, Intervention]]:
        """The interventions that put into each receiver what it computes under each set of changes."""
        made: list[dict[Site, Intervention]] = [{} for _ in changes]
        by_layer: dict[int, list[Site]] = defaultdict(list)
        for site in dict.fromkeys(receivers):
            if site.kind == "resid_post":
                for found, change in zip(made, changes, strict=True):
                    # Only where logits are read does the last stream reach them.
                    named = self._named([site]) & self._read
                    written = _total(change, step(self.model, site), torch.zeros_like(next(iter(change.values()))))
                    found[site] = add(site.place, written * named[..., None])
            else:
                assert site.layer is not None
                by_layer[site.layer].append(site)
        for layer, sites in by_layer.items():
            last = max(step(self.model, site) for site in sites)
            numbers = [number for number, change in enumerate(changes) if min(change) < last]
            if numbers:
                of_layer = self._at_layer(layer, [changes[number] for number in numbers], sites)
                for number, found in zip(numbers, of_layer, strict=True):
                    made[number] |= found
        return made

    def _at_layer(self, layer: int, changes: Sequence[Changes], sites: list[Site]) -> list[dict[Site, Intervention]]:
        entering = self._entering(layer)
        zero = torch.zeros_like(entering)
        before = torch.stack([_total(change, 2 * layer, zero) for change in changes])
        middle = torch.stack([_total(change, 2 * layer + 1, zero) for change in changes])
        sequential = "resid_mid" in self.model.layers[layer].points
        pins: list[Intervention] = []
        if sequential and any(site.kind == "mlp_out" for site in sites):
            # The MLP must see what attention wrote in the base run, but for what senders change of it.
            out = Site("attn_out", layer=layer)
            pins = [replace(out, (self.base[out] + (middle - before)).flatten(0, 1))]
        places = list(dict.fromkeys(site.place for site in sites))
        alone = self._layer(layer, (entering + before).flatten(0, 1), pins, places)
        made: list[dict[Site, Intervention]] = [{} for _ in changes]
        for site in sites:
            old = self.base[site.place]
            new = alone[site.place].view(len(changes), *old.shape)
            if site.head is not None:
                new, old = new[:, :, :, site.head], old[:, :, site.head]
            touched = ((middle if site.kind == "mlp_out" and sequential else before) != 0).any(-1)
            if site.kind in _MIXES_POSITIONS:
                touched = touched.cumsum(-1) > 0
            # Tokens whose stream is the base run's compute what they did: rounding is no change.
            named = touched.to(new.device) & self._named([site]).to(new.device)
            values = torch.where(named[..., None], new, old)
            for found, value in zip(made, values, strict=True):
                found[site] = replace(site.at(position=None), value)
        return made

    @property
    def bytes_run(self) -> int:
        """What a layer's run takes for one set of senders, at its widest."""
        width, config = self.model.d_model, self.model.config
        wide = 12 * width + 2 * int(getattr(config, "intermediate_size", None) or 4 * width)
        heads = int(getattr(config, "num_attention_heads", 16))
        return self._bytes(wide + 2 * self.reading.tokens.ids.shape[1] * heads)

    def bytes_held(self, receivers: Sequence[Site]) -> int:
        """What the receivers' values take under one set of senders."""
        sites = dict.fromkeys(receivers)
        return self._bytes(sum(self._width(site) for site in sites))

    def _width(self, site: Site) -> int:
        return self.model.d_model if site.head is None else int(self.base[site.place].shape[-1])

    def _bytes(self, numbers_a_token: int) -> int:
        entering = next(iter(self.base.values()))
        return int(numbers_a_token * self.reading.tokens.ids.numel() * entering.element_size())

    # One layer, alone

    def _entering(self, layer: int) -> Float[Tensor, "batch position d_model"]:
        return self.base[Site("resid_pre", layer=layer)]

    def _layer(
        self, layer: int, stream: Float[Tensor, "row position d_model"], pins: Sequence[Intervention], kept: list[Site]
    ) -> Cache:
        """What a layer computes on a stream, before what is pinned."""
        return computed(self.model, self.reading.tokens, layer, stream, kept, pins)

    # Positions

    def _named(self, sites: Sequence[Site]) -> Bool[Tensor, "batch position"]:
        """The real tokens that any of the sites names."""
        positions = self.reading.tokens.positions
        named = torch.zeros_like(positions, dtype=torch.bool)
        for site in sites:
            if site.position is None:
                return positions >= 0
            wanted = self.prompts.lengths + site.position if site.position < 0 else site.position
            named |= positions == torch.as_tensor(wanted, device=positions.device).view(-1, 1)
        return named

    @property
    def _read(self) -> Bool[Tensor, "batch position"]:
        read = torch.zeros_like(self.reading.tokens.mask)
        return read.scatter(1, self.reading.columns, torch.ones_like(self.reading.columns, dtype=torch.bool))


def _written(site: Site) -> Site:
    """The whole tensor in which a sender's contribution is told."""
    # What enters the first layer is the embedding with all that is done to it on the way (positions, norms, scales).
    return Site("resid_pre", layer=0) if site.kind == "embed" else site.place


def _write(change: Changes, at: int, difference: Tensor) -> None:
    change[at] = change[at] + difference if at in change else difference


def _total(change: Changes, before: int, zero: Tensor) -> Tensor:
    """All that has been written to the stream before a step."""
    total = zero
    for at, difference in change.items():
        if at < before:
            total = total + difference.to(zero.device)
    return total
