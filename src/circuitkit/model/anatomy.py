"""Which modules of a Hugging Face decoder play which part, by TransformerLens's architecture adapters.

The adapters' names are read without building a bridge, touching the model or asking the hub. A decoder that
TransformerLens does not know can be described by hand: see `Names`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

from torch import nn


class AnatomyError(ValueError):
    """A decoder whose parts cannot be found."""


@dataclass(frozen=True)
class Names:
    """Where a decoder keeps its parts: module paths, those within a block relative to it.

    Every path of a block may be absent, in all layers or in some; a site then lists the layers that have it.

    Attributes:
        embed: token embedding.
        blocks: list of layers.
        block: part name to path, for the parts `attn o q k v qkv mlp mlp_down ln2 ln1_post ln2_post`.

    >>> Names("model.embed_tokens", "model.layers", {"attn": "self_attn", "o": "self_attn.o_proj"}).blocks
    'model.layers'
    """

    embed: str
    blocks: str
    block: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """The modules of one layer; None where the layer has no such part."""

    block: nn.Module
    attn: nn.Module | None = None
    o: nn.Module | None = None
    q: nn.Module | None = None
    k: nn.Module | None = None
    v: nn.Module | None = None
    qkv: nn.Module | None = None
    mlp: nn.Module | None = None
    mlp_down: nn.Module | None = None
    ln2: nn.Module | None = None
    ln1_post: nn.Module | None = None
    ln2_post: nn.Module | None = None


@dataclass(frozen=True)
class Anatomy:
    """A decoder's modules by their part in it.

    Attributes:
        root: the causal LM.
        embed: its token embedding.
        blocks: its layers, first to last.
        backbones: the modules around the blocks that are handed the tokens, outermost first. A causal LM calls one
            of them, and not always the outermost (OPT calls its `model.decoder`).
    """

    root: nn.Module
    embed: nn.Module
    blocks: tuple[Block, ...]
    backbones: tuple[nn.Module, ...]


def decoder_of(hf: nn.Module) -> nn.Module:
    """The Hugging Face causal LM itself, out of a PEFT wrapper if there is one."""
    return hf.get_base_model() if hasattr(hf, "get_base_model") else hf  # type: ignore[operator]  # PEFT is untyped


def adapter_names(root: Any) -> Names:
    """A decoder's part names by TransformerLens's adapter for its class.

    Raises:
        AnatomyError: TransformerLens has no adapter for the architecture.
    """
    from transformer_lens.factories.architecture_adapter_factory import (
        SUPPORTED_ARCHITECTURES,
        ArchitectureAdapterFactory,
    )
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_config_from_hf

    # A subclass of one's own has the parts of the class that it was made from.
    known = (cls.__name__ for cls in type(root).__mro__ if cls.__name__ in SUPPORTED_ARCHITECTURES)
    architecture = next(known, type(root).__name__)
    try:
        config = build_bridge_config_from_hf(root.config, architecture, architecture, root.dtype)
        # Adapters type it as one that may be absent or nameless; none that makes blocks is.
        mapping: Any = ArchitectureAdapterFactory.select_architecture_adapter(config).component_mapping
    except Exception as error:
        raise AnatomyError(
            f"{architecture} has no TransformerLens adapter ({type(error).__name__}: {error}). Name its parts: "
            "ck.Model(hf_model, tokenizer, names=circuitkit.model.Names(embed=…, blocks=…, block={'attn': …, 'o': …, "
            "'mlp': …}))"
        ) from error
    parts: dict[str, str] = {}
    blocks = mapping["blocks"]
    for part, paths in _ADAPTER_PARTS.items():
        for path in paths:
            if (name := _path(blocks, path)) is not None:
                parts[part] = name
                break
    return Names(mapping["embed"].name, blocks.name, parts)


_ADAPTER_PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "attn": (("attn",),),
    "o": (("attn", "o"),),
    "qkv": (("attn", "qkv"),),
    "q": (("attn", "q"),),
    "k": (("attn", "k"),),
    "v": (("attn", "v"),),
    "mlp": (("mlp",),),
    "mlp_down": (("mlp", "out"),),
    "ln2": (("ln2",),),
    "ln1_post": (("ln1_post",),),
    "ln2_post": (("ln2_post",),),
}


def _path(component: Any, path: tuple[str, ...]) -> str | None:
    names: list[str | None] = []
    for part in path:
        component = getattr(component, "submodules", {}).get(part)
        if component is None:
            return None
        names.append(component.name)
    # A container without a name has its parts in the block itself (OPT's fc2).
    return ".".join(filter(None, names)) if names[-1] is not None else None


def dissect(hf: nn.Module, names: Names | None) -> Anatomy:
    """Find a decoder's modules by their part in it.

    Raises:
        AnatomyError: the architecture is unknown and no names were given, or a named list of blocks is absent.
    """
    root = decoder_of(hf)
    names = names or adapter_names(root)
    embed, blocks = _find(root, names.embed), _find(root, names.blocks)
    if embed is None or not isinstance(blocks, nn.ModuleList):
        raise AnatomyError(
            f"{type(root).__name__} has no token embedding at {names.embed!r} or no list of layers at {names.blocks!r}"
        )
    found = tuple(Block(block, **{part: _find(block, path) for part, path in names.block.items()}) for block in blocks)
    return Anatomy(root, embed, found, _backbones(root, names.blocks))


def _backbones(root: nn.Module, blocks: str) -> tuple[nn.Module, ...]:
    """The modules between the causal LM and its blocks whose forward takes tokens; itself if there is none between."""
    parts = blocks.split(".")[:-1]
    around = [root.get_submodule(".".join(parts[:depth])) for depth in range(1, len(parts) + 1)]
    taking = [each for each in around if {"input_ids", "inputs_embeds"} & set(signature(each.forward).parameters)]
    return tuple(taking or around[:1] or [root])


def _find(module: nn.Module, path: str) -> nn.Module | None:
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None
