"""What a projection does, as a matrix: its own where it is plain, else what it makes of unit vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from circuitkit.circuits.errors import CircuitError
from circuitkit.model.devices import execution_device, weight_of
from circuitkit.model.points import Columns, Heads, Point

if TYPE_CHECKING:
    from circuitkit.model.model import Model

_LINEAR = {torch.float64: 1e-9, torch.float32: 1e-4}
_LINEAR_IN_HALF = 5e-2


def wide(dtype: torch.dtype) -> torch.dtype:
    """What sums are made in: at least float32, whatever the model computes in.

    >>> wide(torch.bfloat16)
    torch.float32
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


def is_plain(module: nn.Module) -> bool:
    """Whether a module is a matrix of floats and a bias, and nothing has been put in front of it.

    >>> is_plain(nn.Linear(2, 3)), is_plain(nn.LayerNorm(2))
    (True, False)
    """
    if isinstance(module, Conv1D):
        own = type(module).forward is Conv1D.forward
    else:
        own = isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward
    # accelerate's hook brings offloaded weights, and computes with them what the module does.
    return own and ("forward" not in vars(module) or hasattr(module, "_hf_hook"))


def matrix_of(module: nn.Module, d_in: int, dtype: torch.dtype) -> Float[Tensor, "d_out d_in"]:
    """A linear module's matrix, in whatever dtype it is kept.

    Of one that is not plain (LoRA, quantised weights) it is what the module makes of each unit vector.

    Args:
        module: the module.
        d_in: its width.
        dtype: what it is handed in a run.

    Raises:
        CircuitError: the module is not linear.

    >>> matrix_of(nn.Linear(2, 3), 2, torch.float32).shape
    torch.Size([3, 2])
    """
    if is_plain(module):
        weight = weight_of(module)
        assert weight is not None
        return weight.T if isinstance(module, Conv1D) else weight
    device = execution_device(module)
    with torch.no_grad():
        made = made_of(module, torch.eye(d_in, dtype=dtype, device=device))
        offset = made_of(module, torch.zeros(1, d_in, dtype=dtype, device=device))
        matrix = (made - offset).T
        trial = torch.randn(4, d_in, dtype=dtype, device=device, generator=torch.Generator(device).manual_seed(0))
        does, should = made_of(module, trial) - offset, trial @ matrix.T
    if not bool((does - should).norm() <= _LINEAR.get(dtype, _LINEAR_IN_HALF) * should.norm()):
        raise CircuitError(
            f"{type(module).__name__} is not linear in what it is handed, so no head has a part of its own in it: load "
            "the model without quantised activations"
        )
    return matrix


def made_of(module: nn.Module, rows: Float[Tensor, "row d_in"]) -> Float[Tensor, "row d_out"]:
    """What a module makes of some vectors, past the hooks that are held on it."""
    kept = next(module.parameters(), None)
    there = rows if kept is None else rows.to(execution_device(module))
    made: Any = module.forward(there[None])
    out: Tensor = made[0]
    return out.to(rows.device)


def head_rows(point: Point, n_out: int) -> Int[Tensor, "head d_head"]:
    """Which outputs of a projection are which head's."""
    view = point.view
    if isinstance(view, Columns):
        return view.index.view(view.n_heads, -1)
    assert isinstance(view, Heads)  # the only other view of a projection
    return torch.arange(n_out).view(view.n_heads, -1)


def by_heads(point: Point, matrix: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "head d_head d_in"]:
    """A projection's matrix, each head's part of it; no copy where heads stand one after another."""
    rows = head_rows(point, len(matrix))
    flat = rows.flatten()
    first = int(flat[0])
    together = bool((flat.diff() == 1).all())
    part = matrix.narrow(0, first, len(flat)) if together else matrix.index_select(0, flat.to(matrix.device))
    return part.reshape(*rows.shape, -1)


def check_whole(model: Model) -> None:
    """Refuse a model of which each process holds a part.

    Raises:
        CircuitError: it is divided.
    """
    if model.group is not None:
        raise CircuitError(
            f"{model.name} is divided among processes, and a head's part of a divided projection is not in one place: "
            'load it in one process, with device_map="auto" where it needs several GPUs'
        )
