"""Which weights have to be zero for a layer to pass its input through, and the proof that it then does.

Zeros in what a block's branches multiply by last leave the stream as it is only where the block adds its branches to
the stream and does nothing else with it. So it is proved: the model runs without memory for its weights, these taken
for zero, and what is zero from there on is followed (`zeros.Followed`) until each layer's output turns out to be its
input itself. A layer that norms the stream again (post-norm decoders), scales it, or has another mixer than attention
does not come out so, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from circuitkit.model import roles
from circuitkit.model.hooks import before_forward
from circuitkit.model.points import first_tensor
from circuitkit.sfn.destructions.zeros import Followed
from circuitkit.sfn.errors import SfnError

if TYPE_CHECKING:
    from circuitkit.model import Model

_TOKENS = 6
_LAST = ("o_proj", "down_proj")


class PassingError(SfnError):
    """A layer that zeros in its weights do not make pass its input through."""


def removal(model: Model, layers: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """For each layer, the parameters that are zero where it passes its input through, exactly.

    They are `o_proj` and `down_proj` with their biases, and the biases of norms where one stands behind these.

    Args:
        model: the decoder; its weights are not read, so that it may be on the meta device.
        layers: from 0.

    Raises:
        PassingError: a layer does not pass its input through whatever of these is zero; it is named, with what else it
            does to the stream.

    >>> removal(ck.load("deductor-130k"), [1])[1]
    ('model.layers.1.self_attn.o_proj.weight', 'model.layers.1.mlp.down_proj.weight')
    """
    wanted = list(dict.fromkeys(layers))
    if model.hf is not model.anatomy.root:
        raise PassingError(
            f"{model.name} has an adapter, which adds to layers what zeros in the base do not take away: merge it "
            "first (model.hf.merge_and_unload())"
        )
    paths = {module: path for path, module in model.anatomy.root.named_modules()}
    blocks = {layer: paths[model.anatomy.blocks[layer].block] for layer in wanted}
    bare = _without_memory(model)
    found: dict[int, tuple[str, ...]] = {}
    reasons: dict[int, str] = {}
    for norms in (False, True):
        if left := [layer for layer in wanted if layer not in found]:
            zeroed = _last(model, left, norms)
            reasons = _not_passing(model.name, bare, zeroed, blocks)
            found |= {layer: names for layer, names in zeroed.items() if layer not in reasons}
    if reasons:
        layer, reason = next(iter(reasons.items()))
        raise PassingError(
            f"layer {layer} of {model.name} cannot be removed by zeros in its weights: {reason}. Ablate its output in "
            "a running model instead"
        )
    return {layer: found[layer] for layer in wanted}


def check_adapters(model: Model, parameters: Iterable[str]) -> None:
    """Make sure that zeros in these parameters are not added to by an adapter around them.

    Args:
        model: in memory, with an adapter or without.
        parameters: by the names that the model without adapters gives them.

    Raises:
        PassingError: an adapter stands around one of them.
    """
    around = {f"{owner}." for owner in roles.adapted(model.anatomy.root).values()}
    for parameter in parameters:
        if any(parameter.startswith(owner) for owner in around):
            raise PassingError(
                f"{parameter} of {model.name} has an adapter around it, which adds to the layer what zeros in the base "
                "do not take away: merge it first (model.hf.merge_and_unload())"
            )


def _last(model: Model, layers: Sequence[int], norms: bool) -> dict[int, tuple[str, ...]]:
    """What each layer's branches multiply by last, and the biases of its norms if these are asked for."""
    everyones = roles.parameters(model)
    found: dict[int, tuple[str, ...]] = {}
    for layer in layers:
        inside = [name for name, within in roles.in_layers(model, [layer]).items() if within]
        found[layer] = tuple(
            name
            for name in inside
            if {*_LAST} & set(everyones[name]) or (norms and everyones[name] == ("norm",) and name.endswith("bias"))
        )
    return found


def _without_memory(model: Model) -> Any:
    """The same causal LM on the meta device, with a way through experts that hangs on no numbers."""
    root: Any = model.anatomy.root
    config = type(root.config).from_dict(root.config.to_dict())
    with torch.device("meta"):
        # Masks of other implementations of attention depend on what the mask holds.
        bare = type(root)._from_config(config, dtype=root.dtype, attn_implementation="eager")
    if getattr(bare, "_can_set_experts_implementation", lambda: False)():
        bare.set_experts_implementation("batched_mm")
    return bare.eval()


def _not_passing(
    name: str, bare: Any, zeroed: Mapping[int, Sequence[str]], blocks: Mapping[int, str]
) -> dict[int, str]:
    """The layers whose output is not known to be their input, and what it is."""
    known, reasons = Followed(), dict[int, str]()
    with ExitStack() as stack:
        for layer, names in zeroed.items():
            for each in names:
                known.zeros(bare.get_parameter(each))
            before, after = _ends(known, layer, names, reasons)
            block = bare.get_submodule(blocks[layer])
            stack.callback(before_forward(block, before).remove)
            stack.callback(block.register_forward_hook(after).remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(known)
        _run(name, bare)
    return reasons


def _run(name: str, bare: Any) -> None:
    tokens = torch.zeros(1, _TOKENS, dtype=torch.long, device="meta")
    # Without a mask some models look whether positions start again within a row; with one, others look into it.
    for mask in (torch.ones_like(tokens), None):
        try:
            bare(input_ids=tokens, attention_mask=mask, use_cache=False)
            return
        except Exception as error:  # whatever a model's own code raises where it wants to see numbers
            failed = error
    raise PassingError(
        f"what the layers of {name} do to the stream cannot be followed: its forward does not run without weights "
        f"({type(failed).__name__}: {failed})"
    ) from failed


def _ends(
    known: Followed, layer: int, zeroed: Sequence[str], reasons: dict[int, str]
) -> tuple[Callable[..., None], Callable[..., None]]:
    def before(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        known.starts(first_tensor((*args, *kwargs.values())))

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        stream = first_tensor(output)
        reasons.pop(layer, None)
        if not known.is_input(stream):
            operation = known.origin(stream).removesuffix("_")
            still = "it still adds something to its input" if operation == "add" else f"it ends with {operation}"
            reasons[layer] = f"{still} where {', '.join(zeroed) or 'nothing'} is zero"

    return before, after
