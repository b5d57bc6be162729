"""Which weights of a decoder play which part, by one set of names for every architecture.

`q_proj k_proj v_proj o_proj gate_proj up_proj down_proj embed lm_head norm`, and the groups `attention` and `mlp`. A
tensor may have several roles: GPT-2's `c_attn` is q, k and v in one, Phi-3's `gate_up_proj` gate and up, and a tied
embedding is the unembedding too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from circuitkit.model.anatomy import Block
    from circuitkit.model.model import Model

ROLES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "embed", "lm_head", "norm")
GROUPS: Mapping[str, tuple[str, ...]] = {"attention": ROLES[:4], "mlp": ROLES[4:7]}

_QKV, _GATE_UP = ROLES[:3], ROLES[4:6]
# What architectures call the parts of an MLP, the projections of experts among them.
_OF_MLP: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gate_up_proj", "gate_and_up_proj", "proj_1", "wi"), _GATE_UP),
    **dict.fromkeys(("gate_proj", "w1"), ("gate_proj",)),
    **dict.fromkeys(("up_proj", "w3", "c_fc", "fc1", "fc_in", "dense_h_to_4h", "linear_in"), ("up_proj",)),
    **dict.fromkeys(
        ("down_proj", "w2", "c_proj", "fc2", "fc_out", "dense_4h_to_h", "proj_2", "wo", "linear_out"), ("down_proj",)
    ),
}
# And the parts of an attention whose q, k and v do not come of a projection each (DeepSeek's latent one: k and v share
# both factors), or that the map of sites does not reach (RecurrentGemma's).
_OF_ATTENTION: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("q_proj", "q_a_proj", "q_b_proj"), ("q_proj",)),
    **dict.fromkeys(("kv_a_proj_with_mqa", "kv_b_proj"), ("k_proj", "v_proj")),
    **{role: (role,) for role in ("k_proj", "v_proj", "o_proj")},
}
# What stands in an attention's place, and has projections of names that others' MLPs have.
_RECURRENT = frozenset(("temporal_block", "linear_attn", "mamba"))
_OF_BLOCK: dict[str, tuple[str, ...]] = {
    "q": ("q_proj",),
    "k": ("k_proj",),
    "v": ("v_proj",),
    "qkv": _QKV,
    "o": ("o_proj",),
    "mlp_down": ("down_proj",),
}

# Where peft's modules keep the module that they are put around.
_INSIDE = ("base_layer", "original_module")


class RoleError(ValueError):
    """A module role that a model does not have, or that it has only together with another."""


def parameters(model: Model) -> dict[str, tuple[str, ...]]:
    """The roles of each parameter, by the name that the causal LM gives it; none for a router or an attention sink.

    A tensor that is tied is there once, under its first name, with all of its roles. An adapter's parameters have the
    roles of the module that it adapts.

    >>> parameters(ck.load("deductor-130k"))["model.embed_tokens.weight"]
    ('embed', 'lm_head')
    """
    of_tensor: dict[int, list[str]] = {}
    names: dict[int, str] = {}
    modules, owners = dict(_of_modules(model)), adapted(model.anatomy.root)
    for name, tensor in model.anatomy.root.named_parameters(remove_duplicate=False):
        names.setdefault(id(tensor), name)
        found = of_tensor.setdefault(id(tensor), [])
        having = _of_parameter(name, modules) or modules.get(owners.get(name, ""), ())
        found += [role for role in having if role not in found]
    return {name: tuple(sorted(of_tensor[which], key=ROLES.index)) for which, name in names.items()}


def modules(model: Model, roles: Iterable[str] = ROLES) -> dict[str, tuple[str, ...]]:
    """The modules that have any of some roles, by name, with all of their roles.

    A group stands for its roles. The projections of experts that are no modules go by the name of their tensor.

    Raises:
        RoleError: the model has no module of a role, or it is no role.

    >>> list(modules(ck.load("deductor-130k"), ["o_proj"]))[:2]
    ['model.layers.0.self_attn.o_proj', 'model.layers.1.self_attn.o_proj']
    """
    wanted = expanded(roles)
    everyones = parameters(model)
    _check_there(model, wanted, everyones.values())
    found: dict[str, tuple[str, ...]] = {}
    for name, having in everyones.items():
        if set(having) & set(wanted):
            found.setdefault(_module_name(name), having)
    return found


def chosen(model: Model, roles: Iterable[str], layers: Iterable[int] | None = None) -> list[str]:
    """The parameters that roles or names stand for, each once, by the names that the causal LM gives them.

    A name is a module's or a parameter's, and stands for all that is in it; `*` is for any text. With layers, only what
    lies in one of them, or in none.

    Raises:
        RoleError: a name stands for nothing, or a tensor has another role too, which has to be named with it.

    >>> chosen(ck.load("deductor-130k"), ["o_proj"], layers=[-1])
    ['model.layers.2.self_attn.o_proj.weight']
    """
    wanted = tuple(roles)
    known = [name for name in wanted if name in ROLES or name in GROUPS]
    everyones = parameters(model)
    by_role = set(expanded(known))
    _check_there(model, by_role, everyones.values())
    found = set()
    for name, having in everyones.items():
        if by_role & set(having):
            _check_whole(model, name, having, by_role)
            found.add(name)
    for pattern in (name for name in wanted if name not in known):
        named = {name for name in everyones if _within(name, pattern)}
        if not named:
            raise RoleError(
                f"{model.name} has no module {pattern!r}: give a role ({', '.join(ROLES)}), a group "
                f"({', '.join(GROUPS)}), or the name of a module or parameter"
            )
        found |= named
    inside = in_layers(model, layers) if layers is not None else None
    return [name for name in everyones if name in found and (inside is None or inside.get(name, True))]


def in_layers(model: Model, layers: Iterable[int]) -> dict[str, bool]:
    """For each parameter of a layer, whether that is one of some layers, which count from the end if below zero.

    Raises:
        SiteError: there is no such layer.
    """
    wanted = {model._layer(layer) for layer in layers}
    of_layer = {
        id(tensor): index in wanted
        for index, block in enumerate(model.anatomy.blocks)
        for tensor in block.block.parameters()
    }
    return {
        name: of_layer[id(tensor)] for name, tensor in model.anatomy.root.named_parameters() if id(tensor) in of_layer
    }


def expanded(roles: Iterable[str]) -> tuple[str, ...]:
    """Roles, with each group's in its place.

    Raises:
        RoleError: one is neither role nor group.

    >>> expanded(["mlp", "norm"])
    ('gate_proj', 'up_proj', 'down_proj', 'norm')
    """
    found: dict[str, None] = {}
    for role in roles:
        if role not in ROLES and role not in GROUPS:
            raise RoleError(f"there is no module role {role!r}: give {', '.join(ROLES)}, or {' or '.join(GROUPS)}")
        found |= dict.fromkeys(GROUPS.get(role, (role,)))
    return tuple(found)


def adapted(root: nn.Module) -> dict[str, str]:
    """The parameters that lie in a module which peft has put an adapter around, and that module's name.

    >>> adapted(ck.load("deductor-130k").hf)
    {}
    """
    around = _adapters(root)
    found = {name: _outermost(name, around) for name, _ in root.named_parameters()}
    return {name: owner for name, owner in found.items() if owner is not None}


def without_adapters(root: nn.Module) -> dict[str, str]:
    """The tensors of a causal LM that are saved, but for adapters' own, and what each is called without adapters.

    >>> names = without_adapters(ck.load("deductor-130k").hf)
    >>> names["model.norm.weight"]
    'model.norm.weight'
    """
    around = _adapters(root)
    found = {}
    for name in root.state_dict():
        if (owner := _outermost(name, around)) is None:
            found[name] = name
            continue
        rest = name.removeprefix(f"{owner}.").split(".")
        # An adapter around an adapter has the module further in.
        inner = next((at for at, part in enumerate(rest) if part not in _INSIDE), len(rest))
        if inner > 0 and not {*rest[inner:]} & {*_INSIDE}:
            found[name] = ".".join([owner, *rest[inner:]])
    return found


def _adapters(root: nn.Module) -> set[str]:
    return {name for name, module in root.named_modules() if type(module).__module__.startswith("peft.")}


def _outermost(name: str, around: set[str]) -> str | None:
    """The first of some modules that a tensor lies in."""
    parts = name.split(".")
    prefixes = (".".join(parts[:depth]) for depth in range(1, len(parts)))
    return next((each for each in prefixes if each in around), None)


def _of_modules(model: Model) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The modules that have a role, by name."""
    root = model.anatomy.root
    by_module: dict[nn.Module, tuple[str, ...]] = {}
    inside: set[nn.Module] = set()
    for block in model.anatomy.blocks:
        inside |= set(block.block.modules())
        by_module |= _of_block(block)
    if (head := root.get_output_embeddings()) is not None:  # type: ignore[operator]  # a method
        by_module[head] = ("lm_head",)
    for name, module in root.named_modules():
        if module in by_module:
            yield name, by_module[module]
        elif "norm" in type(module).__name__.lower():
            yield name, ("norm",)
        elif module is model.anatomy.embed or (isinstance(module, nn.Embedding) and module not in inside):
            yield name, ("embed",)


def _of_block(block: Block) -> dict[nn.Module, tuple[str, ...]]:
    found: dict[nn.Module, tuple[str, ...]] = {}
    mixing = {name for name, module in block.block.named_children() if module is block.attn} | _RECURRENT
    for name, module in block.block.named_modules():
        last = name.rsplit(".", 1)[-1]
        roles = _OF_ATTENTION.get(last) or (_OF_MLP.get(last) if name.split(".")[0] not in mixing else None)
        if roles is not None:
            found[module] = roles
    named = {part: module for part in _OF_BLOCK if (module := getattr(block, part)) is not None}
    # Adapters name the fused projection beside parts that it is split into.
    for part, module in named.items():
        if isinstance(module, nn.Module):
            found[module] = _QKV if module in (block.qkv, *_shared(block)) else _OF_BLOCK[part]
    return found


def _shared(block: Block) -> tuple[nn.Module, ...]:
    """A projection that is given as q, k and v alike."""
    return (block.q,) if block.q is not None and block.q is block.k else ()


def _of_parameter(name: str, modules: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if (found := modules.get(name.rpartition(".")[0])) is not None:
        return found
    parts = name.split(".")
    # Experts' projections are tensors of three axes rather than modules.
    return _OF_MLP.get(parts[-1].removesuffix("_bias"), ()) if "experts" in parts else ()


def _module_name(parameter: str) -> str:
    module, _, last = parameter.rpartition(".")
    return module if last in ("weight", "bias") else parameter.removesuffix("_bias")


def _within(name: str, pattern: str) -> bool:
    return any(fnmatchcase(name, each) for each in (pattern, f"{pattern}.*"))


def _check_there(model: Model, wanted: Iterable[str], having: Iterable[tuple[str, ...]]) -> None:
    there = {role for roles in having for role in roles}
    if missing := [role for role in wanted if role not in there]:
        raise RoleError(
            f"{model.name} has no {missing[0]}; it has {', '.join(role for role in ROLES if role in there)}"
        )


def _check_whole(model: Model, name: str, having: tuple[str, ...], wanted: set[str]) -> None:
    if left := [role for role in having if role not in wanted]:
        raise RoleError(
            f"{name} of {model.name} is {' and '.join(having)} in one tensor: name {' and '.join(left)} too, or none"
        )
