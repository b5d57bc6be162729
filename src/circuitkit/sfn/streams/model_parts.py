"""The parts of a model's own parameters: fused projections cut, experts and heads told apart."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from circuitkit.model import Model, roles
from circuitkit.model.roles import GROUPS
from circuitkit.sfn.streams.fused import Heads, gate_up, heads_of, query_key_value
from circuitkit.sfn.streams.memory import named
from circuitkit.sfn.streams.parts import Part, whole_part
from circuitkit.sfn.streams.runs import Runs, shifted

_QKV, _GATE_UP = GROUPS["attention"][:3], GROUPS["mlp"][:2]
_IN_LIST = re.compile(r"\.experts\.(\d+)\.")


def parts_of(model: Model) -> tuple[Part, ...]:
    """Every part of every parameter and saved buffer, in the model's order; an adapter's own are left out."""
    # Fused and packed tensors are told by the modules that hold them, which adapters stand in front of.
    model = bare(model)
    everyones, layers = roles.parameters(model), _layers(model)
    heads = [heads_of(block, model.config) for block in model.anatomy.blocks]
    found: list[Part] = []
    for name, tensor in named(model).items():
        layer = layers.get(name)
        having = everyones.get(name, ())
        if not having:
            found.append(whole_part(name, name, tuple(tensor.shape), layer))
        else:
            found += _Weight(model, name, tensor, having, layer, heads).parts()
    return tuple(found)


def bare(model: Model) -> Model:
    """The model itself; of one with PEFT's adapters, the same causal LM without, on PyTorch's meta device."""
    root: Any = model.anatomy.root
    if not roles.adapted(root):
        return model
    with torch.device("meta"):
        alike = type(root)._from_config(type(root.config).from_dict(root.config.to_dict()), dtype=root.dtype)
    return Model(alike.eval(), None, name=model.name)


def _layers(model: Model) -> dict[str, int]:
    """The layer of each tensor that lies in one, by name."""
    paths = {module: path for path, module in model.anatomy.root.named_modules()}
    found = {}
    for index, block in enumerate(model.anatomy.blocks):
        for inside in block.block.state_dict():
            found[f"{paths[block.block]}.{inside}"] = index
    return found


@dataclass(frozen=True)
class _Weight:
    """A parameter that has roles."""

    model: Model
    name: str
    tensor: Tensor
    roles: tuple[str, ...]
    layer: int | None
    heads: list[Heads]

    def parts(self) -> Iterator[Part]:
        """Its parts, in the order in which they lie in it."""
        packed = self._packed
        table = math.prod(self.tensor.shape[:-1]) if self.tensor.ndim > 1 else self.tensor.numel()
        experts = self.tensor.shape[0] if packed else 1
        size = table // experts
        for expert in range(experts):
            number = expert if packed else self._listed
            for having, outputs in self._shares():
                yield self._part(having, outputs, number, slice(expert * size, (expert + 1) * size, 1))

    def _part(self, having: tuple[str, ...], outputs: Runs | None, expert: int | None, rows: slice) -> Part:
        """A role's share of the rows of one expert, or of all of them."""
        within: Runs = (rows,)
        columns: Runs | None = None
        if outputs is not None and self._outputs_last:
            columns = outputs
        elif outputs is not None:
            within = shifted(outputs, rows.start)
        return Part(
            tensor=self.name,
            parameter=self.name,
            roles=having,
            layer=self.layer,
            bias=self._bias,
            expert=expert,
            of=tuple(self.tensor.shape),
            rows=within,
            columns=columns,
            vector=self._packed and self._bias,
            out_axis=1 if self._outputs_last and not self._bias else 0,
            heads=self._head_count(having),
        )

    def _shares(self) -> Iterator[tuple[tuple[str, ...], Runs | None]]:
        """The roles that are told apart, each with its outputs; None for all of them."""
        layout = self._layout()
        if layout is None:
            yield self.roles, None
            return
        for role, outputs in zip(self.roles, layout, strict=True):
            yield (role,), outputs

    def _layout(self) -> tuple[Runs, ...] | None:
        if self.layer is None:
            return None
        if self.roles == _QKV:
            return query_key_value(self.model.anatomy.blocks[self.layer], self.heads[self.layer])
        if self.roles == _GATE_UP:
            parent = self.name.rpartition(".")[0].rpartition(".")[0]
            return gate_up(self._module, self.model.anatomy.root.get_submodule(parent), self._outputs)
        return None

    def _head_count(self, having: tuple[str, ...]) -> int | None:
        if self.layer is None or len(having) != 1 or having[0] not in GROUPS["attention"]:
            return None
        if self.name.split(".")[-2].endswith("_a_proj"):
            # The first of two low-rank factors puts out what all heads share.
            return None
        heads = self.heads[self.layer]
        count = heads.queries if having[0] in ("q_proj", "o_proj") else heads.keys
        width = self.tensor.shape[0 if self._outputs_last == (having[0] != "o_proj") else -1]
        if self._bias:
            width = self.tensor.shape[-1]
        if self.roles == _QKV:
            return count
        return count if count is not None and width % count == 0 else None

    @property
    def _module(self) -> nn.Module:
        return self.model.anatomy.root.get_submodule(self.name.rpartition(".")[0])

    @property
    def _bias(self) -> bool:
        last = self.name.rpartition(".")[2]
        return last == "bias" or last.endswith("_bias")

    @property
    def _packed(self) -> bool:
        """Whether it holds all experts of a layer."""
        return (
            "experts" in self.name.split(".") and self._listed is None and self.tensor.ndim == (2 if self._bias else 3)
        )

    @property
    def _listed(self) -> int | None:
        """The number of the expert whose module it lies in."""
        found = _IN_LIST.search(self.name)
        return int(found[1]) if found else None

    @property
    def _outputs_last(self) -> bool:
        """Whether its last axis is that of the outputs."""
        if self._bias:
            return self._packed
        if self._packed:
            return bool(getattr(self._module, "is_transposed", type(self._module).__name__ == "Llama4TextExperts"))
        return type(self._module).__name__ == "Conv1D"

    @property
    def _outputs(self) -> int:
        shape: Any = self.tensor.shape
        return int(shape[-1] if self._outputs_last or len(shape) == 1 else shape[-2])
