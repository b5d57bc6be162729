"""Weights from several models in one tensor, computed in float64 and rounded once.

Written checkpoints and models in memory are blended here alike, and so agree bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def combined(a: Tensor, donors: Sequence[tuple[float, Tensor, Tensor | None]]) -> Tensor:
    """`a + Σ weight · (b − base)`, of a's dtype, as task arithmetic has it (Ilharco et al. 2023, arXiv 2212.04089).

    One donor of weight 1 and without a base of its own is copied, not computed: where its dtype is a's, bit for bit.

    Args:
        a: any shape.
        donors: a weight, b, and what b is compared with (None for a itself), all of a's shape.

    >>> combined(torch.tensor([1.0, 2.0]), [(0.5, torch.tensor([3.0, 2.0]), None)])
    tensor([2., 2.])
    """
    return rounded(blend(a, donors), a.dtype)


def blend(a: Tensor, donors: Sequence[tuple[float, Tensor, Tensor | None]]) -> Tensor:
    """What `combined` rounds: in float64, or where there is nothing to compute, a or b as they are.

    >>> blend(torch.tensor([1.0]), [(0.5, torch.tensor([3.0]), None)])
    tensor([2.], dtype=torch.float64)
    """
    # A weight of zero adds nothing, where adding 0 · x would turn −0 into 0.
    weighing = [donor for donor in donors if donor[0] != 0]
    if not weighing:
        return a
    if len(weighing) == 1 and weighing[0][0] == 1 and weighing[0][2] is None:
        return weighing[0][1]
    start = a.double()
    total = start.clone()
    for weight, b, base in weighing:
        # Two steps: a fused one rounds otherwise in a vector's last elements, and so by the size of a block.
        total += (b.double() - (start if base is None else base.double())).mul_(weight)
    return total


def rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Values to the nearest of another dtype (ties to even), with one rounding.

    PyTorch goes from float64 to 16 bits through float32, and so rounds twice.

    >>> halfway = torch.tensor([1 + 2**-8 + 2**-40], dtype=torch.float64)
    >>> halfway.bfloat16().item(), rounded(halfway, torch.bfloat16).item()
    (1.0, 1.0078125)
    """
    if values.dtype != torch.float64 or dtype.itemsize > 2:
        return values.to(dtype)
    single = values.float()
    back = single.double()
    # To the neighbour towards zero, its last bit set wherever something was cut off: rounding that again is exact
    # (Boldo and Melquiond 2008, "Emulation of FMA and correctly rounded sums").
    bits = single.view(torch.int32) - (back.abs() > values.abs()).int()
    return (bits | (back != values).int()).view(torch.float32).to(dtype)
