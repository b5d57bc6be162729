"""Which weights have to be zero for a layer to pass its input through, and the proof that it then does.

Zeros in what a block's branches multiply by last leave the stream as it is only where the block adds its branches to
the stream and does nothing else with it. So it is proved: the model runs without memory for its weights, and of every
tensor it is kept whether it is known to be all zeros, or to be the layer's input itself. A layer that norms the stream
again (post-norm decoders), scales it, or has another mixer than attention does not come out so, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from circuitkit.model import roles
from circuitkit.model.points import first_tensor
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
    known, reasons = _Known(), dict[int, str]()
    with ExitStack() as stack:
        for layer, names in zeroed.items():
            for each in names:
                known.zeros(bare.get_parameter(each))
            before, after = _ends(known, layer, names, reasons)
            block = bare.get_submodule(blocks[layer])
            stack.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
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
    known: _Known, layer: int, zeroed: Sequence[str], reasons: dict[int, str]
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


# Operations whose result is zero where their first tensor is.
_KEEPING = frozenset(
    (
        *("abs", "clone", "_to_copy", "cumsum", "detach", "embedding", "erf", "flip", "gather", "gelu", "hardswish"),
        *("index", "index_select", "mean", "neg", "pow", "relu", "repeat", "repeat_interleave", "roll", "silu", "sin"),
        *("sqrt", "square", "sum", "tanh", "_fused_rms_norm"),
    )
)
_PRODUCTS = frozenset(("mm", "bmm", "mul", "_grouped_mm", "dot", "mv"))
_ADDING = frozenset(("add", "sub"))
_MAKING = frozenset(("zeros", "zeros_like", "new_zeros"))
_SCATTERING = frozenset(("index_add", "index_put", "scatter_add", "index_copy", "scatter"))
_COPYING = frozenset(("clone", "_to_copy", "detach", "alias", "lift_fresh", "_unsafe_view"))


class _Known(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch types no constructor of it
    """Follows, through every operation, which tensors are all zeros and which are the layer's input."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        # By the memory of tensors, which is held, so that no later one goes by the same number.
        self._zero: set[int] = set()
        self._input: set[int] = set()
        self._infinite: set[int] = set()
        self._origin: dict[int, str] = {}
        self._kept: list[Tensor] = []
        self._dtype = torch.float32

    def zeros(self, tensor: Tensor) -> None:
        """Take a tensor for all zeros."""
        self._zero.add(_memory(tensor))

    def starts(self, stream: Tensor) -> None:
        """A layer begins, whose input this is."""
        self._kept.append(stream)
        self._input = {_memory(stream)} if _is_whole(stream) else set()
        self._dtype = stream.dtype

    def is_input(self, tensor: Any) -> bool:
        """Whether a tensor is the layer's input, element for element."""
        return isinstance(tensor, Tensor) and _memory(tensor) in self._input and _is_whole(tensor)

    def origin(self, tensor: Tensor) -> str:
        """The operation that made a tensor."""
        return self._origin.get(_memory(tensor), "another module")

    def is_zero(self, value: Any) -> bool:
        """Whether a tensor or number is zero, or absent."""
        if isinstance(value, Tensor):
            return _memory(value) in self._zero
        return value is None or (isinstance(value, int | float) and value == 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        first = func._schema.arguments[0] if func._schema.arguments else None
        if first is not None and first.alias_info is not None and first.alias_info.is_write:
            plain = name.removesuffix("_")
            self._write(plain, args[0], self._zero_after(plain, args, kwargs), self._input_after(plain, args, kwargs))
        else:
            made = out[0] if isinstance(out, tuple | list) and out else out
            if isinstance(made, Tensor) and not _views(made, args):
                self._make(name, made, args, kwargs)
        return out

    def _make(self, name: str, made: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._kept.append(made)
        memory = _memory(made)
        self._origin[memory] = name
        if self._zero_after(name, args, kwargs):
            self._zero.add(memory)
        if name in ("rsqrt", "reciprocal", "log") and self.is_zero(args[0]):
            self._infinite.add(memory)
        if self._holds(self._input_after(name, args, kwargs), made):
            self._input.add(memory)

    def _write(self, name: str, into: Tensor, zero: bool, source: Tensor | None) -> None:
        memory = _memory(into)
        self._origin[memory] = name
        was_zero = memory in self._zero
        self._zero.discard(memory)
        self._input.discard(memory)
        if zero and (was_zero or _is_whole(into)):
            self._zero.add(memory)
        if self._holds(source, into) and _is_whole(into):
            self._input.add(memory)

    def _holds(self, source: Tensor | None, into: Tensor) -> bool:
        """Whether the layer's input is in a tensor as it was, not broadcast and not rounded."""
        wide = torch.promote_types(into.dtype, self._dtype) == into.dtype
        return source is not None and source.shape == into.shape and wide

    def _zero_after(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether an operation gives zeros alone."""
        zero = self.is_zero
        if name in _MAKING or name == "zero":
            return True
        if name in ("full", "full_like", "fill", "new_full"):
            return zero(args[-1] if name == "fill" else args[1 if name != "new_full" else 2])
        if name in _PRODUCTS:
            return any(map(zero, args[:2])) and not any(self._is_infinite(each) for each in args[:2])
        if name in ("addmm", "baddbmm", "addmv"):
            return zero(args[0]) and (zero(args[1]) or zero(args[2]))
        if name == "linear":
            return (zero(args[0]) or zero(args[1])) and zero(args[2] if len(args) > 2 else None)
        if name == "native_layer_norm":
            return zero(args[0]) and zero(args[3])
        if name in (*_ADDING, "maximum", "minimum"):
            return zero(args[0]) and zero(args[1])
        if name == "where":
            return zero(args[1]) and zero(args[2])
        if name == "masked_fill":
            return zero(args[0]) and zero(args[2])
        if name in _SCATTERING:
            return zero(args[0]) and zero(args[3 if name != "index_put" else 2])
        if name in ("cat", "stack"):
            return all(map(zero, args[0]))
        if name == "copy":
            return zero(args[1])
        if name == "div":
            return zero(args[0]) and isinstance(args[1], int | float) and args[1] != 0
        if name == "pow" and not (isinstance(args[1], int | float) and args[1] > 0):
            return False
        return name in _KEEPING and zero(args[0])

    def _input_after(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
        """The layer's input that an operation gives back as it is, if so."""
        if name in _COPYING and self.is_input(args[0]):
            return _tensor(args[0])
        if name == "copy" and self.is_input(args[1]):
            return _tensor(args[1])
        if name in _ADDING and self.is_input(args[0]) and isinstance(args[1], Tensor) and self.is_zero(args[1]):
            return _tensor(args[0])
        if name == "add" and self.is_input(args[1]) and kwargs.get("alpha", 1) == 1 and self.is_zero(args[0]):
            return _tensor(args[1])
        if name in ("mul", "div") and self.is_input(args[0]) and isinstance(args[1], int | float) and args[1] == 1:
            return _tensor(args[0])
        return None

    def _is_infinite(self, value: Any) -> bool:
        return isinstance(value, Tensor) and _memory(value) in self._infinite


def _tensor(value: Any) -> Tensor:
    assert isinstance(value, Tensor)
    return value


def _views(made: Tensor, args: Sequence[Any]) -> bool:
    return any(isinstance(each, Tensor) and _memory(each) == _memory(made) for each in args)


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _is_whole(tensor: Tensor) -> bool:
    """Whether a tensor is its memory, in order."""
    return tensor.is_contiguous() and tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()
