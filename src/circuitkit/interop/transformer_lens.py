"""TransformerLens both ways: a bridge over a model's weights, a model out of a bridge, a cache under hook names.

A bridge puts its own components in the place of the modules that it is built around, and so does not share modules
with a `Model`. What the two share are the weights: each has its own tree of modules, over the same storage.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from circuitkit.model.site import Kind, Site

if TYPE_CHECKING:
    from circuitkit.model.model import Model
    from circuitkit.run.cache import Cache


class TransformerLensError(ValueError):
    """A model, bridge or cache that has no faithful form on the other side."""


_HOOKS: dict[Kind, str] = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "z": "attn.hook_z",
    "scores": "attn.hook_attn_scores",
    "pattern": "attn.hook_pattern",
}

_ROUNDING = {torch.float64: 1e-9, torch.float32: 5e-4, torch.float16: 3e-2, torch.bfloat16: 2e-1}
"""How far rounding alone moves logits, in their standard deviations, between eager attention and fused kernels."""


def is_bridge(model: Any) -> bool:
    """Whether something is TransformerLens's own kind of model, of any version; imports nothing."""
    names = {(cls.__module__.split(".")[0], cls.__name__) for cls in type(model).__mro__}
    return bool(names & {("transformer_lens", name) for name in ("BridgeCore", "HookedRootModule")})


def to_bridge(model: Model) -> Any:
    """A `TransformerBridge` over a model's weights; see `circuitkit.Model.to_transformer_lens`.

    Raises:
        TransformerLensError: TransformerLens has no adapter for it, or its bridge gives other logits.
    """
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
    from transformer_lens.utilities.attn_implementation import force_eager_attention

    root: Any = model.anatomy.root
    if model.hf is not root:
        raise TransformerLensError(
            "a bridge computes with the base weights and would leave the adapter out: merge it "
            "(model.hf.merge_and_unload()) and wrap what that gives"
        )
    if model.sessions:
        raise TransformerLensError("an intervention is held on the model: leave its context before making a bridge")
    name = next((cls.__name__ for cls in type(root).__mro__ if cls.__name__ in SUPPORTED_ARCHITECTURES), None)
    if name is None:
        raise TransformerLensError(f"TransformerLens has no adapter for {type(root).__name__}")
    hf = _sharing(root)
    # A fused kernel keeps its pattern to itself, and the bridge's pattern hooks would never fire.
    force_eager_attention(hf)
    try:
        bridge: Any = build_bridge_from_module(hf, name, hf_config=copy.deepcopy(hf.config), model_name=model.name)
    except Exception as error:
        raise TransformerLensError(
            f"TransformerLens cannot build its bridge of {model.name} ({type(error).__name__}: {error})"
        ) from error
    _hand_over_tokenizer(bridge, model.tokenizer)
    _check_logits(model, bridge)
    return bridge


def hf_model_of(bridge: Any) -> Any:
    """The Hugging Face model that a bridge was built around, as it was before, over the same weights.

    Raises:
        TransformerLensError: the bridge has no Hugging Face model here, or has processed its weights.
    """
    original = getattr(bridge, "original_model", None)
    if not isinstance(original, nn.Module):
        raise TransformerLensError(
            f"{type(bridge).__name__} has no Hugging Face model in this process to wrap: give ck.Model the model "
            "itself, or a TransformerBridge.boot_transformers(…) of it"
        )
    if getattr(bridge, "_weights_processed", False):
        raise TransformerLensError(
            "the bridge has folded and centred its weights, which are no longer the model's: wrap it before "
            "enable_compatibility_mode(), or give ck.Model the Hugging Face model"
        )
    return _sharing(original)


def to_activation_cache(cache: Cache, bridge: Any = None) -> Any:
    """A cache under hook names; see `circuitkit.Cache.to_transformer_lens`.

    Raises:
        TransformerLensError: the cache holds a part of an activation, or a module that the bridge has no hook at; or
            the bridge has processed its weights.
    """
    from transformer_lens import ActivationCache

    if getattr(bridge, "_weights_processed", False):
        raise TransformerLensError(
            "the bridge has folded and centred its weights, to which the model's own activations do not belong: give "
            "one without enable_compatibility_mode(), or run the bridge itself"
        )
    hooks: dict[str, Any] = {} if bridge is None else bridge.hook_dict
    values: dict[str, Tensor] = {}
    without: list[str] = []
    for site in cache:
        names = _hook_names(site, bridge, hooks)
        values |= dict.fromkeys(names, cache[site])
        if bridge is not None and not any(name in hooks for name in names):
            without.append(names[0])
    if without:
        warnings.warn(
            f"TransformerLens has no hook of these names on this architecture, and its own run_with_cache would not "
            f"give them: {', '.join(without)}",
            stacklevel=3,
        )
    if bridge is None:
        return ActivationCache(values, _NoBridge(cache.n_layers))
    last = f"blocks.{bridge.cfg.n_layers - 1}.hook_resid_post"
    if last in values and hasattr(bridge, "ln_final"):
        values |= _final_norm(bridge, values[last])
    # Rotary tables have that alias too, but are added to nothing.
    positions = hooks.get("pos_embed.hook_out")
    if "hook_embed" in values and positions is not None and "hook_pos_embed" not in values:
        warnings.warn(
            "decompose_resid would leave the position embedding out, which this cache lacks: capture "
            f"ck.Site(module={_path_of(bridge, positions)!r}) too",
            stacklevel=3,
        )
    return ActivationCache(values, bridge)


# Trees of modules over the same weights


def _sharing(hf: nn.Module) -> Any:
    """A copy of a model's modules over the same storage, with a bridge's components taken out if there are any."""
    if any(parameter.is_meta for parameter in hf.parameters()):
        raise TransformerLensError("weights are offloaded to CPU or disk: load the model where all of it fits")
    memo: dict[int, Any] = {}
    for module in hf.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                memo[id(parameter)] = _same_storage(parameter)
        for name, buffer in module._buffers.items():
            # What a checkpoint holds is weights; the rest are masks and tables, small and the tree's own.
            if buffer is not None and name not in module._non_persistent_buffers_set:
                memo[id(buffer)] = buffer
    for component in _inside_out(hf):
        if _is_component(component):
            memo[id(component)] = copy.deepcopy(component.original_component, memo)
    copied = memo[id(hf)] if id(hf) in memo else copy.deepcopy(hf, memo)
    for module in copied.modules():
        _take_off(module)
    return copied


def _same_storage(parameter: nn.Parameter) -> nn.Parameter:
    """Another parameter over the same storage, so that one tree can be moved or frozen without the other."""
    if type(parameter) is not nn.Parameter:
        # Quantised weights keep their scales on the parameter itself.
        return parameter
    return nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)


def _inside_out(module: nn.Module, seen: set[int] | None = None) -> list[Any]:
    """All modules within one, those inside before those around them."""
    seen = set() if seen is None else seen
    if id(module) in seen:
        return []
    seen.add(id(module))
    return [*(each for child in module.children() for each in _inside_out(child, seen)), module]


def _is_component(module: nn.Module) -> bool:
    return type(module).__module__.startswith("transformer_lens.") and hasattr(module, "original_component")


def _take_off(module: nn.Module) -> None:
    """Take off what TransformerLens put on a module: forwards and hooks that lead to its own tree, and zero biases."""
    if _by_transformer_lens(module.__dict__.get("forward")):
        del module.forward
    for hooks in (module._forward_hooks, module._forward_pre_hooks):
        for key in [key for key, hook in hooks.items() if _by_transformer_lens(hook)]:
            del hooks[key]
    if isinstance(module, nn.Linear) and "bias" in module._buffers:
        # No Linear has its bias as a buffer, but for the unembedding that TransformerLens gave one.
        del module.bias
        module.register_parameter("bias", None)


def _by_transformer_lens(function: Any) -> bool:
    return (getattr(function, "__module__", None) or "").startswith("transformer_lens.")


# A bridge as its model


def _hand_over_tokenizer(bridge: Any, tokenizer: Any) -> None:
    """Let the bridge read text as the model does: TransformerLens would load the tokenizer anew, and prepend BOS."""
    if tokenizer is None:
        return
    own = copy.deepcopy(tokenizer)
    if own.pad_token is None:
        own.pad_token = own.eos_token
    bridge.tokenizer = own
    word = next((id_ for id_ in range(len(own)) if id_ not in own.all_special_ids), 0)
    read = own.encode(own.decode([word]))
    bridge.cfg.tokenizer_prepends_bos = len(read) > 1 and read[0] in (own.bos_token_id, own.cls_token_id)
    bridge.cfg.tokenizer_appends_eos = len(read) > 1 and read[-1] == own.eos_token_id
    bridge.cfg.default_prepend_bos = bridge.cfg.tokenizer_prepends_bos


def _check_logits(model: Model, bridge: Any) -> None:
    size = model.vocabulary or 2
    ids = torch.arange(1, 9, device=model.device)[None] * 7 % size
    with torch.no_grad():
        own: Tensor = model.run(ids).logits
        other: Tensor = bridge(ids)
    worst = float((own.double() - other.double().to(own.device)).abs().max() / own.double().std().clamp(min=1e-30))
    if not worst <= _ROUNDING[own.dtype]:
        raise TransformerLensError(
            f"TransformerLens's bridge of {model.name} gives other logits than the model itself, by {worst:.1e} "
            "standard deviations: its adapter does not hold for this model"
        )


# Names


class _NoBridge:
    """Stands in a cache for the bridge that it was made without, and says so where one is needed."""

    class _Config:
        def __init__(self, n_layers: int | None) -> None:
            if n_layers is not None:
                self.n_layers = n_layers

        def __getattr__(self, name: str) -> Any:
            raise TransformerLensError(_NEEDS_BRIDGE)

    def __init__(self, n_layers: int | None) -> None:
        self.cfg = self._Config(n_layers)

    def __getattr__(self, name: str) -> Any:
        raise TransformerLensError(_NEEDS_BRIDGE)


_NEEDS_BRIDGE = (
    "this ActivationCache was made without a bridge, whose weights this method needs: "
    "cache.to_transformer_lens(model.to_transformer_lens())"
)


def _hook_names(site: Site, bridge: Any, hooks: dict[str, Any]) -> list[str]:
    """All names that TransformerLens has for a site's activation, the best known first."""
    if (site.head, site.position, site.key) != (None, None, None):
        raise TransformerLensError(f"{site} is part of an activation, and hooks hold whole ones: capture {site.place}")
    if site.module is not None:
        return _module_names(site, bridge, hooks)
    if site.kind == "embed":
        # Where a norm follows the embedding, the bridge's hook_embed is the norm's output.
        plain = bridge is None or hooks.get("hook_embed") is hooks.get("embed.hook_out")
        return ["hook_embed", "embed.hook_out"] if plain else ["embed.hook_out"]
    assert site.kind is not None
    name = f"blocks.{site.layer}.{_HOOKS[site.kind]}"
    return [name, *(other for other, hook in hooks.items() if hook is hooks.get(name) and other != name)]


def _module_names(site: Site, bridge: Any, hooks: dict[str, Any]) -> list[str]:
    assert site.module is not None
    if bridge is None:
        raise TransformerLensError(
            f"what TransformerLens calls {site} is known with a bridge alone: "
            "cache.to_transformer_lens(model.to_transformer_lens())"
        )
    try:
        component = bridge.original_model.get_submodule(site.module)
    except AttributeError:
        component = None
    point = getattr(component, "hook_out" if site.end == "output" else "hook_in", None)
    names = [name for name, hook in hooks.items() if hook is point]
    # Such a point reads its tensor in another shape than the module gives it.
    if not names or getattr(point, "hook_conversion", None) is not None:
        raise TransformerLensError(f"TransformerLens has no hook at {site}: capture without it")
    return names


def _path_of(bridge: Any, point: Any) -> str | None:
    """The path in the Hugging Face model of the module whose output a hook point is."""
    modules = bridge.original_model.named_modules()
    return next((path for path, module in modules if getattr(module, "hook_out", None) is point), None)


def _final_norm(bridge: Any, stream: Tensor) -> dict[str, Tensor]:
    """The final norm's hooks on the last stream, by the bridge's own norm: direct logit attribution divides by them."""
    points = {name: hook for name, hook in bridge.hook_dict.items() if name.startswith("ln_final.hook_")}
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda tensor, hook: kept.__setitem__(name, tensor.detach())

    with torch.no_grad(), bridge.hooks(fwd_hooks=[(name, keep(name)) for name in points]):
        bridge.ln_final(stream)
    return kept
