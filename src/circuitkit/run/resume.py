"""Resuming: a run that begins at a layer, from the stream that an earlier run of the same tokens had there.

A change at a layer leaves everything below as it was, so layers below need not run again. They stay in the model's own
forward, which still computes masks, rotary tables, the final norm and soft-caps, and merely hand on what they get.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from circuitkit.model.forwards import forward_replaced
from circuitkit.model.hooks import before_forward
from circuitkit.model.points import first_tensor, with_first_tensor
from circuitkit.model.site import Site
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.run.interventions import InterventionError
from circuitkit.run.run import forward

if TYPE_CHECKING:
    from circuitkit.model.model import Model

_Rebuild = Callable[[Tensor], Any]
_returned: WeakKeyDictionary[Model, tuple[_Rebuild, ...]] = WeakKeyDictionary()


def streams(model: Model, prompts: Prompts | Tokens) -> list[Float[Tensor, "batch position d_model"]]:
    """The stream entering each layer, of one whole run.

    >>> len(streams(ck.load("deductor-130k"), "Every wumpus is a dumpus."))
    3
    """
    cache = model.run(prompts, capture=["resid_pre"]).cache
    return [cache[Site("resid_pre", layer=layer)] for layer in range(model.n_layers)]


def whole_runs_only(model: Model) -> str | None:
    """Why a model's runs cannot be resumed, or None where they can.

    >>> whole_runs_only(ck.load("deductor-130k")) is None
    True
    """
    if shared := getattr(model.config, "num_kv_shared_layers", 0):
        return f"the last {shared} layers reuse keys and values of earlier ones, so every run has to be whole"
    return None


@contextmanager
def resumed(model: Model, layer: int, stream: Float[Tensor, "batch position d_model"]) -> Iterator[None]:
    """Let the model's forward begin at a layer: those below hand on what they get, and `stream` enters this one.

    Hold interventions and captures inside this context, at this layer and above only: what was held or hooked before is
    taken to be in the stream already. Without a KV cache: the layers below fill none.

    Args:
        model: the model.
        layer: the first layer to run; negative counts from the last.
        stream: `resid_pre` of that layer, from a run on the same tokens (see `streams`).

    Raises:
        SiteError: there is no such layer.
        InterventionError: the model reuses keys of layers below, the stream does not fit the tokens, or the model was
            not run in the context.

    >>> model = ck.load("deductor-130k")
    >>> entering = streams(model, "Every wumpus is a dumpus.")
    >>> with resumed(model, 2, entering[2]):
    ...     logits = model.run("Every wumpus is a dumpus.").logits
    >>> torch.equal(logits, model.run("Every wumpus is a dumpus.").logits)
    True
    """
    if (reason := whole_runs_only(model)) is not None:
        raise InterventionError(f"{model.name} cannot be resumed: {reason}")
    [site] = model.sites(Site("resid_pre", layer=layer))
    assert site.layer is not None
    rebuild = _structures(model)
    entered, thread = False, get_ident()

    def inject(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        nonlocal entered
        if get_ident() != thread:
            return None
        entered = True
        if any(isinstance(value, Tensor) for value in args):
            return with_first_tensor(args, _fitting(stream, first_tensor(args), site)), kwargs
        name = next(name for name, value in kwargs.items() if isinstance(value, Tensor))
        return args, {**kwargs, name: _fitting(stream, kwargs[name], site)}

    with ExitStack() as stack:
        for below in range(site.layer):
            stack.enter_context(forward_replaced(model.anatomy.blocks[below].block, _handing_on(rebuild[below])))
        # Behind the hooks that were there, whose work the stream has in it, and before those that are held from now on.
        block = model.anatomy.blocks[site.layer].block
        stack.callback(before_forward(block, inject).remove)
        yield
    if not entered:
        raise InterventionError(f"nothing was resumed at layer {site.layer}: the model did not run in this context")


def _fitting(stream: Tensor, replaced: Tensor, site: Site) -> Tensor:
    if stream.shape != replaced.shape:
        raise InterventionError(
            f"a stream of shape {list(stream.shape)} cannot enter at {site}, where the tokens make "
            f"{list(replaced.shape)}: resume on the tokens that the stream comes from"
        )
    return stream.to(replaced)


def _handing_on(rebuild: _Rebuild) -> Callable[..., Any]:
    """A block's forward that hands on its input."""

    def hand_on(*args: Any, **kwargs: Any) -> Any:
        return rebuild(next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)))

    return hand_on


def _structures(model: Model) -> tuple[_Rebuild, ...]:
    """How each block returns its stream, seen in one short run at first use."""
    if model not in _returned:
        seen: dict[int, _Rebuild] = {}
        with ExitStack() as stack:
            for index, block in enumerate(model.anatomy.blocks):

                def note(module: nn.Module, args: Any, output: Any, index: int = index) -> None:
                    seen[index] = _structure(output)

                stack.callback(block.block.register_forward_hook(note).remove)
            with torch.no_grad():
                forward(model, model.tokens(torch.ones(1, 2, dtype=torch.long), torch.ones(1, 2)))
        _returned[model] = tuple(seen[index] for index in range(model.n_layers))
    return _returned[model]


def _structure(output: Any) -> _Rebuild:
    if isinstance(output, Tensor):
        return lambda stream: stream
    place = next(index for index, value in enumerate(output) if isinstance(value, Tensor))
    values: list[Any] = [None] * len(output)
    named, kind = hasattr(output, "_fields"), type(output)

    def rebuild(stream: Tensor) -> Any:
        filled = [stream if index == place else value for index, value in enumerate(values)]
        return kind(*filled) if named else kind(filled)

    return rebuild
