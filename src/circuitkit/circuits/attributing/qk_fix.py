"""The QK fix of AtP*: what another query or key does through the softmax itself, and to first order only behind it.

A gradient through a softmax that is nearly one-hot is nearly nil, whatever a large change of a query would do. So a
layer's attention is computed anew, by the model's own code, from the changed queries or keys, and only what comes of it
is held against a gradient. Kramár et al. hold the change of the pattern against the gradient at the pattern; since `z`
is the pattern times values that stay as they are, the change of `z` against the gradient at `z` is the same number, and
needs no pattern.

Kramár et al. 2024, "AtP*: An efficient and scalable method for localizing LLM behaviour to components" (arXiv
2403.00745), section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from circuitkit.circuits.attributing.linear_maps import wide
from circuitkit.circuits.errors import CircuitError
from circuitkit.model.points import Point, first_tensor
from circuitkit.model.site import Site
from circuitkit.model.tokens import Tokens
from circuitkit.run.cache import Cache
from circuitkit.run.interventions import replace
from circuitkit.run.one_layer import computed

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Part = Literal["q", "k"]

_apart: WeakKeyDictionary[Model, dict[tuple[int, Part], bool]] = WeakKeyDictionary()
"""Of each layer, whether a head's pattern hangs on no other head's queries or keys."""


Change = tuple[int | None, Float[Tensor, "copy batch position head d_head"]]
"""Of one query or key head, or of all of them at once (None): what changes in `z`, 0 on padding."""


class SoftmaxAnew:
    """A layer of a clean run, its attention computed anew from other queries or keys.

    Args:
        model: the model.
        tokens: the clean prompts.
        layer: the layer.
        clean: its `resid_pre`, `q`, `k` and `z` in the clean run.
    """

    def __init__(self, model: Model, tokens: Tokens, layer: int, clean: Cache) -> None:
        self.model, self.tokens, self.layer, self.clean = model, tokens, layer, clean

    def changes(self, part: Part, new: Float[Tensor, "copy batch position part_head d_head"]) -> Iterator[Change]:
        """What each copy's queries (or keys) change in `z`, each head's alone: at once where heads are apart."""
        old = self.clean[Site("z", layer=self.layer)]
        padding = ~self.tokens.mask.to(old.device)[..., None, None]
        apart = _heads_apart(self.model, self.tokens, self.layer, part, self.clean)
        for head in [None] if apart else range(new.shape[3]):
            heads = None if head is None else [head]
            made = _z_under(self.model, self.tokens, self.layer, part, self.clean, new, heads)
            yield head, (made - old).masked_fill_(padding, 0.0)

    def effects(
        self,
        part: Part,
        new: Float[Tensor, "copy batch position part_head d_head"],
        gradient: Float[Tensor, "batch position head d_head"],
    ) -> Float[Tensor, "copy batch position part_head"]:
        """What each copy's queries (or keys) would take from the metric, a head's alone at a time, by query position.

        Args:
            part: queries or keys.
            new: theirs.
            gradient: of minus the metric at the layer's `z` in the clean run.
        """
        return taken(self.changes(part, new), gradient, new.shape[3])


def taken(
    changes: Iterable[Change], gradient: Float[Tensor, "batch position head d_head"], n: int
) -> Float[Tensor, "copy batch position part_head"]:
    """What changes of `z` would take from the metric, of `n` queries or keys; a key that heads share acts on all."""
    alone = []
    for head, change in changes:
        dtype = wide(change.dtype)
        by_head = torch.einsum("cbphd,bphd->cbph", change.to(dtype), gradient.to(change.device, dtype))
        if head is None:
            return by_head.reshape(*by_head.shape[:-1], n, -1).sum(-1)
        # Through a norm over all heads, one head's query moves the others' patterns too.
        alone.append(by_head.sum(-1))
    return torch.stack(alone, dim=-1)


def _z_under(
    model: Model,
    tokens: Tokens,
    layer: int,
    part: Part,
    clean: Cache,
    new: Float[Tensor, "copy batch position part_head d_head"],
    heads: Sequence[int] | None = None,
) -> Float[Tensor, "copy batch position head d_head"]:
    """`z` of a layer of which only the queries (or keys) of some heads, or of all, are others."""
    site, z = Site(part, layer=layer), Site("z", layer=layer)
    if heads is not None:
        only = clean[site].expand_as(new).clone()
        only[..., heads, :] = new[..., heads, :]
        new = only
    entering = clean[Site("resid_pre", layer=layer)]
    stream = entering.expand(len(new), *entering.shape).flatten(0, 1)
    pins = [replace(site, new.flatten(0, 1).to(clean[site].dtype))]
    made = computed(model, tokens, layer, stream, [z], pins)[z]
    return made.view(len(new), *clean[z].shape)


def _heads_apart(model: Model, tokens: Tokens, layer: int, part: Part, clean: Cache) -> bool:
    """Whether heads' patterns hang on their own queries and keys alone, so that all can be changed at once.

    They do unless a norm goes over all heads' queries together (OLMo 2). Tried with drawn queries, once for a layer, on
    prompts that tell: of one token each, nothing moves a pattern.
    """
    known = _apart.setdefault(model, {})
    if (layer, part) not in known:
        old = clean[Site(part, layer=layer)]
        drawn = torch.randn(old.shape, generator=torch.Generator().manual_seed(layer)).to(old)
        new = (old + old.std().clamp(min=1e-6) * drawn)[None]
        together = _z_under(model, tokens, layer, part, clean, new)
        alone = _z_under(model, tokens, layer, part, clean, new, [0])
        group = alone.shape[3] // new.shape[3]
        before = clean[Site("z", layer=layer)][None]
        real = tokens.mask.to(old.device)[None, ..., None, None]
        tolerance = 1e-4 if old.dtype in (torch.float32, torch.float64) else 5e-2
        least = tolerance * before.abs().max().clamp(min=1e-30)
        if not bool(((together - before) * real).abs().max() > least):
            return True
        same = ((alone - together)[..., :group, :] * real).abs().max()
        spared = ((alone - before)[..., group:, :] * real).abs().amax() if group < alone.shape[3] else same
        known[layer, part] = bool(torch.maximum(same, spared) <= least)
    return known[layer, part]


@contextmanager
def gradients_at_z(model: Model) -> Iterator[dict[int, Float[Tensor, "batch position head d_head"]]]:
    """Gather the gradient at every layer's `z` of the backward pass within.

    Raises:
        CircuitError: at the end, a layer got none.
    """
    found: dict[int, Tensor] = {}
    with ExitStack() as stack:
        for layer in range(model.n_layers):
            point = model.point(Site("z", layer=layer))

            def meet(module: nn.Module, args: tuple[Any, ...], layer: int = layer, point: Point = point) -> None:
                tensor = first_tensor(args)
                # Under checkpointing the module comes by again, with a tensor that nothing goes back through.
                if tensor.requires_grad:
                    tensor.register_hook(lambda gradient: found.update({layer: point.view.read(gradient).clone()}))  # type: ignore[no-untyped-call]  # torch's own has no types

            stack.callback(point.module.register_forward_pre_hook(meet).remove)
        yield found
    if missing := [layer for layer in range(model.n_layers) if layer not in found]:
        raise CircuitError(
            f"z of layer {missing[0]} of {model.name} gets no gradient, so what its pattern does is not known"
        )
