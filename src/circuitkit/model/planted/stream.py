"""How a planted model divides its residual stream: one subspace for each thing that heads tell each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

D_MODEL = 256
CODE_WIDTH = 31
POSITION_WIDTH = 32
# The constant outweighs everything else in the stream, so that the norm of the stream, by which LayerNorm
# and RMSNorm divide, is nearly the same number whatever the prompt and whichever head is ablated.
CONSTANT = 40.0

_WIDTHS = {
    "mean": 1,  # LayerNorm takes this direction away, so nothing is written here on purpose
    "constant": 1,  # the same at every position: what queries read that do not depend on the token
    "bos": 1,  # marks the first token, where heads rest that have nothing to do
    "separator": 1,  # marks the token between facts
    "done": 1,  # the primary head says here that it has run; the backup head listens
    "token": CODE_WIDTH,  # which token stands here
    "position": POSITION_WIDTH,  # where it stands (learned absolute positions only)
    "previous": CODE_WIDTH,  # which token stands one place before
    "bridge": CODE_WIDTH,  # the result of the first hop
    "output": CODE_WIDTH,  # the prediction: the only planted subspace that the unembedding reads
    "unread": CODE_WIDTH,  # the decoy's: nothing reads it
    "noise": 64,  # where the random heads and MLPs write
}


@dataclass(frozen=True, eq=False)
class Stream:
    """The residual stream as named, mutually orthogonal subspaces in random directions.

    `basis` is orthogonal, `[d_model, d_model]`. Random directions, because circuits aligned with neurons
    would be found by methods that only look at single neurons.

    >>> import torch
    >>> Stream.draw(torch.Generator().manual_seed(0)).space("token").shape
    torch.Size([256, 31])
    """

    basis: Float[Tensor, "d_model d_model"]

    @staticmethod
    def draw(generator: torch.Generator) -> Stream:
        """Draw the directions; the first is the all-ones direction, which LayerNorm's centring removes."""
        directions = torch.randn(D_MODEL, D_MODEL, generator=generator, dtype=torch.float64)
        directions[:, 0] = 1.0
        basis, _ = torch.linalg.qr(directions)
        return Stream(basis.float())

    def space(self, *names: str) -> Float[Tensor, "d_model width"]:
        """Return orthonormal directions that span the named subspaces, side by side."""
        starts = dict(zip(_WIDTHS, torch.tensor([0, *_WIDTHS.values()]).cumsum(0).tolist(), strict=False))
        return torch.cat([self.basis[:, starts[name] : starts[name] + _WIDTHS[name]] for name in names], dim=1)

    def direction(self, name: str) -> Float[Tensor, " d_model"]:
        """Return the unit vector of a subspace that is one direction wide."""
        return self.space(name)[:, 0]

    def readable(self) -> Float[Tensor, "d_model d_model"]:
        """Return the projection onto what random heads, random MLPs and the unembedding's noise may read.

        Without the constant, which would drown the content, and without the decoy's subspace, which is
        inert only if nobody reads it.
        """
        spaces = self.space(*(name for name in _WIDTHS if name not in ("mean", "constant", "unread")))
        return spaces @ spaces.T


def word_codes() -> Float[Tensor, "codes width"]:
    """Return 63 unit vectors in 31 dimensions, none closer to another than a cosine of 0.18.

    A head of width 32 has room for 31 orthogonal tokens and one flag. Twice as many fit when a second set
    lies evenly between the axes: the rows of a Hadamard matrix without its constant column, which stand to
    each other as the corners of a simplex (cosine -1/31) and to the axes at 1/sqrt(31).

    >>> word_codes().shape
    torch.Size([63, 31])
    """
    hadamard = torch.ones(1, 1)
    while len(hadamard) <= CODE_WIDTH:
        hadamard = torch.cat([torch.cat([hadamard, hadamard], 1), torch.cat([hadamard, -hadamard], 1)], 0)
    return torch.cat([torch.eye(CODE_WIDTH), hadamard[:, 1:] / math.sqrt(CODE_WIDTH)])


def position_codes(n_positions: int) -> Float[Tensor, "positions width"]:
    """Return a unit code for each position such that moving one place on is a rotation of the code.

    Cosines and sines of 16 frequencies pi (2k + 1) / 32: codes of positions m apart have cosine 0, but for
    -1 where m is an odd multiple of 32, so 64 positions stay apart in 32 dimensions.

    >>> codes = position_codes(64)
    >>> bool((codes @ codes.T - torch.eye(64)).max() < 1e-5)
    True
    """
    half = POSITION_WIDTH // 2
    frequencies = torch.pi * (2 * torch.arange(half, dtype=torch.float64) + 1) / POSITION_WIDTH
    angles = torch.arange(n_positions, dtype=torch.float64)[:, None] * frequencies
    return (torch.cat([angles.cos(), angles.sin()], dim=1) / math.sqrt(half)).float()


def step_back() -> Float[Tensor, "width width"]:
    """Return the rotation R with `code(p) @ R == code(p - 1)` for every position.

    >>> bool(torch.allclose(position_codes(9)[1:] @ step_back(), position_codes(9)[:-1], atol=1e-5))
    True
    """
    half = POSITION_WIDTH // 2
    frequencies = torch.pi * (2 * torch.arange(half, dtype=torch.float64) + 1) / POSITION_WIDTH
    cosines, sines = torch.diag(frequencies.cos()), torch.diag(frequencies.sin())
    return torch.cat([torch.cat([cosines, -sines], 1), torch.cat([sines, cosines], 1)], 0).float()
