"""One layer alone: what it computes on a stream of its own, in the model's own forward, with no other layer run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor, nn

from circuitkit.model.site import Site
from circuitkit.model.tokens import Tokens
from circuitkit.run.cache import Cache
from circuitkit.run.cells import stacked
from circuitkit.run.interventions import Intervention, replace
from circuitkit.run.resume import resumed, whole_runs_only
from circuitkit.run.run import forward

if TYPE_CHECKING:
    from circuitkit.model.model import Model


def computed(
    model: Model,
    tokens: Tokens,
    layer: int,
    stream: Float[Tensor, "row position d_model"],
    kept: Sequence[Site],
    pins: Sequence[Intervention] = (),
) -> Cache:
    """What a layer computes on a stream.

    Args:
        model: the model.
        tokens: the prompts, of which the stream's rows are one copy or several, one after another.
        layer: the layer.
        stream: what enters it.
        kept: whole sites of that layer to read.
        pins: interventions in that layer. What is read of a pinned tensor is what it was before.

    >>> model = ck.load("deductor-130k")
    >>> tokens, site = model.tokens("Every wumpus is a dumpus."), Site("q", layer=1)
    >>> run = model.run(tokens, capture=["resid_pre[layer=1]", site])
    >>> alone = computed(model, tokens, 1, run.cache["resid_pre[layer=1]"], [site])
    >>> bool((alone[site] == run.cache[site]).all())
    True
    """
    n = len(stream) // len(tokens)
    copies = Tokens(stacked(tokens.ids, n), stacked(tokens.mask, n))
    # Outside of what is pinned, and so reads a tensor before it is replaced.
    session = model.intervene((), capture=kept)
    with session, _begun_at(model, layer, stream), model.intervene(pins), _ended_after(model, layer, kept):
        forward(model, copies)
    return session.cache


def _begun_at(model: Model, layer: int, stream: Tensor) -> AbstractContextManager[Any]:
    if whole_runs_only(model) is None:
        return resumed(model, layer, stream)
    return model.intervene([replace(Site("resid_pre", layer=layer), stream)])


@contextmanager
def _ended_after(model: Model, layer: int, kept: Sequence[Site]) -> Iterator[None]:
    """End the model's forward once all that is asked for has been computed."""
    kinds = {site.kind for site in kept}

    def end(module: nn.Module, *values: Any) -> None:
        raise _ComputedError

    with ExitStack() as stack:
        if "mlp_out" in kinds:
            hook = model.anatomy.blocks[layer].block.register_forward_hook(end)
        elif "attn_out" in kinds:
            hook = model.point(Site("attn_out", layer=layer)).module.register_forward_hook(end)
        else:
            # The output projection's input: by then queries, keys and values are all there.
            hook = model.point(Site("z", layer=layer)).module.register_forward_pre_hook(end)
        stack.callback(hook.remove)
        try:
            yield
        except _ComputedError:
            return


class _ComputedError(Exception):
    """Ends a forward pass of which nothing more is needed."""
