"""Tensor parallelism: which tensors each process holds a part of, gathered on reading and cut again on writing.

Transformers' tensor parallelism divides the columns of some linear layers among processes, in rank order: between the
query, key and value projections and the output projection each process computes its own heads alone, between an MLP's
projections its own neurons. Everything else, the residual stream above all, is the same on every process. So a site's
tensor is joined from all processes before anything reads it, by global head index, and of an edited one each process
goes on with its own part; nothing above a point knows of it. Reading is collective: every process runs the same
program on the same prompts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from circuitkit.model.site import SiteError
from circuitkit.model.tokens import PromptError, Tokens


@dataclass(frozen=True)
class Shard:
    """A tensor's division among the processes of a group, along one axis and in rank order.

    Attributes:
        axis: the axis, counted from the last (-1).
        sizes: each process's part of it.
        group: the processes.
    """

    axis: int
    sizes: tuple[int, ...]
    group: Any

    def gathered(self, own: Tensor) -> Tensor:
        """The whole tensor, the same on every process; gradients flow back to each process's own part."""
        whole: Tensor = _Gathered.apply(own, self)  # type: ignore[no-untyped-call]  # torch's own has no types
        return whole

    def own(self, whole: Tensor) -> Tensor:
        """This process's part of a whole tensor that is the same on every process."""
        part: Tensor = _Own.apply(whole, self)  # type: ignore[no-untyped-call]
        return part

    def joined(self, own: Tensor) -> Tensor:
        """The processes' parts, put together."""
        rank = dist.get_rank(self.group)
        if own.shape[self.axis] != self.sizes[rank]:
            raise SiteError(
                f"process {rank} holds {own.shape[self.axis]} of axis {self.axis}, where {self.sizes[rank]} were found "
                "when the model was first run: its tensor parallelism has changed, so load it anew"
            )
        # Collectives take parts of one size only.
        shape = list(own.shape)
        shape[self.axis] = max(self.sizes)
        padded = own.new_zeros(shape)
        padded.narrow(self.axis, 0, own.shape[self.axis]).copy_(own)
        parts = [torch.empty_like(padded) for _ in self.sizes]
        dist.all_gather(parts, padded, group=self.group)
        kept = [part.narrow(self.axis, 0, size) for part, size in zip(parts, self.sizes, strict=True)]
        return torch.cat(kept, dim=self.axis)

    def cut(self, whole: Tensor) -> Tensor:
        """This process's part."""
        rank = dist.get_rank(self.group)
        first = [0, *accumulate(self.sizes)][rank]
        # A copy: models go on to reshape it, and some to write into it.
        return whole.narrow(self.axis, first, self.sizes[rank]).clone(memory_format=torch.contiguous_format)


class _Gathered(torch.autograd.Function):
    """Joins parts; what comes back of the whole, the same on every process, is cut."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, shard: Shard) -> Tensor:
        ctx.shard = shard
        return shard.joined(own)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.shard.cut(gradients[0]), None


class _Own(torch.autograd.Function):
    """Cuts a whole; what comes back of the parts is joined."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, shard: Shard) -> Tensor:
        ctx.shard = shard
        return shard.cut(whole)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.shard.joined(gradients[0]), None


_OTHERS = ("pp_size", "dp_replicate_size", "fsdp_size", "ep_size")


def group_of(root: nn.Module) -> Any:
    """The processes that a model's tensors are divided among; None where it is whole in each.

    Raises:
        SiteError: it is divided in another way than by transformers' tensor parallelism.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return None
    from torch.distributed.tensor import DTensor

    manager: Any = getattr(root, "_mesh_manager", None)
    divided = any(isinstance(parameter, DTensor) for parameter in root.parameters())
    if manager is None:
        if divided:
            raise SiteError(
                f"the parameters of {type(root).__name__} are divided among processes by something else than "
                "transformers' tensor parallelism, so what each holds of a site is not known: load it with "
                'ck.load(name, tp_plan="auto") under torchrun'
            )
        return None
    settings: Any = getattr(root.config, "distributed_config", None)
    if others := {name: size for name in _OTHERS if (size := getattr(settings, name, None) or 1) > 1}:
        found = ", ".join(f"{name}={size}" for name, size in others.items())
        raise SiteError(
            f"{type(root).__name__} was loaded with {found}: of transformers' ways to divide a model, sites are known "
            "under tensor parallelism (tp_plan, tp_size) alone"
        )
    return manager.get_mesh("tp").get_group() if divided else None


@dataclass(frozen=True)
class Held:
    """What one process had of a module's input or output in a run that all of them made.

    Attributes:
        shape: the tensor's shape.
        sums: numbers that are the same where the tensor is.
    """

    shape: tuple[int, ...]
    sums: tuple[float, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> Held:
        """What there is to tell a tensor by."""
        flat = tensor.detach().flatten().double()
        ramp = torch.cos(torch.arange(len(flat), device=flat.device, dtype=torch.float64))
        sums = torch.stack([flat.norm(), flat.sum(), flat @ ramp])
        return cls(tuple(tensor.shape), tuple(sums.tolist()))


def every_process(value: Any, group: Any) -> list[Any]:
    """What each process of a group has to say, in rank order."""
    said: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(said, value, group=group)
    return said


def division(module: nn.Module, end: str, held: Sequence[Held], group: Any) -> Shard | None:
    """How a module's input or output is divided among processes, by what each held; None where each had the whole.

    Raises:
        SiteError: it is neither the same on every process nor a linear layer's columns divided among them.
    """
    declared = getattr(module, "in_features" if end == "input" else "out_features", None)
    widths = tuple(each.shape[-1] if each.shape else 0 for each in held)
    if declared is not None and any(width != declared for width in widths):
        if sum(widths) == declared and len({each.shape[:-1] for each in held}) == 1:
            return Shard(-1, widths, group)
    elif len({each.shape for each in held}) == 1 and _alike(held, declared is not None):
        return None
    raise SiteError(
        f"the processes hold different {end}s of this {type(module).__name__} (of shapes "
        f"{', '.join(str(list(each.shape)) for each in held)}), and not as the columns of one linear layer, so they "
        "cannot be joined: take a site by its kind, or the input or output of a linear layer beside it"
    )


def _alike(held: Sequence[Held], declared: bool) -> bool:
    first = held[0]
    largest = max(abs(number) for number in first.sums)
    # Zeros are alike whether or not they are parts of something.
    known = largest > 0 or declared
    tolerance = 1e-3 * first.sums[0]
    pairs = (zip(first.sums, each.sums, strict=True) for each in held[1:])
    return known and all(abs(a - b) <= tolerance for pair in pairs for a, b in pair)


def heads_divided(n_own: int, z: Shard | None, group: Any) -> Shard | None:
    """How a pattern is divided by heads: as the output projection's input is by columns."""
    return None if z is None else Shard(-3, tuple(every_process(n_own, group)), group)


def check_same_prompts(group: Any, tokens: Tokens) -> None:
    """Refuse to run where processes that share a model would run different prompts, and mix them up.

    Raises:
        PromptError: their prompts are not the same.
    """
    if group is None:
        return
    said = every_process((tokens.ids.cpu().tolist(), tokens.mask.cpu().tolist()), group)
    if any(each != said[0] for each in said):
        raise PromptError(
            "the processes that share the model were given different prompts: run the same program on the same data, "
            "drawn from the same seed, in each of them"
        )


def check_same_draws(group: Any, device: torch.device) -> None:
    """Refuse to generate where processes that share a model would sample different tokens.

    Raises:
        RuntimeError: their generators are not in the same state.
    """
    if group is None:
        return
    state = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    said = every_process(hashlib.sha256(state.numpy().tobytes()).hexdigest(), group)
    if len(set(said)) > 1:
        raise RuntimeError(
            "the processes that share the model would sample different tokens: call torch.manual_seed with the same "
            "seed in each of them before generating"
        )
