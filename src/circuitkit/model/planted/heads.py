"""The heads of a planted circuit, each written as the four matrices of one attention head."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.model.planted.stream import CODE_WIDTH, CONSTANT, D_MODEL, Stream, position_codes, step_back

# How much of a random component's output falls outside the noise subspace, on everything else: real
# components are not perfectly separated either. Small enough that no planted head misreads its input.
LEAK = 0.03


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """One head's matrices, acting from the right on the normalised stream: `q = x @ query`, `out = z @ output`."""

    query: Float[Tensor, "d_model d_head"]
    key: Float[Tensor, "d_model d_head"]
    value: Float[Tensor, "d_model d_head"]
    output: Float[Tensor, "d_head d_model"]


@dataclass(frozen=True)
class HeadAxes:
    """Which of a head's axes carry what: `codes` a token's code, `flag` one bit beside it.

    `turning` lists the axis pairs that rotary embeddings turn quickly, with their angle per position in
    `angles`; empty where positions are learned. Codes sit on pairs that hardly turn, so that matching
    tokens does not depend on how far apart they stand.
    """

    d_head: int
    codes: tuple[int, ...]
    flag: int
    turning: tuple[tuple[int, int], ...] = ()
    angles: tuple[float, ...] = ()

    @staticmethod
    def learned_positions(d_head: int) -> HeadAxes:
        """Return the axes of a head without rotary embeddings: any axis will do."""
        return HeadAxes(d_head, codes=tuple(range(CODE_WIDTH)), flag=CODE_WIDTH)

    @staticmethod
    def rotary(d_head: int, theta: float, n_turning: int = 6) -> HeadAxes:
        """Return the axes of a rotary head, where axis i turns with axis i + d_head / 2 by theta^(-2i / d_head)."""
        half = d_head // 2
        slow = [axis for i in range(half // 2, half) for axis in (i, i + half)]
        return HeadAxes(
            d_head,
            codes=tuple(slow[:CODE_WIDTH]),
            flag=slow[CODE_WIDTH],
            turning=tuple((i, i + half) for i in range(n_turning)),
            angles=tuple(theta ** (-2 * i / d_head) for i in range(n_turning)),
        )

    def embed(self) -> Float[Tensor, "codes d_head"]:
        """Return the map that puts a token's code onto the axes for codes."""
        return torch.eye(self.d_head)[list(self.codes)]

    def flag_axis(self) -> Float[Tensor, " d_head"]:
        """Return the unit vector of the flag."""
        return torch.eye(self.d_head)[self.flag]


@dataclass(frozen=True)
class Lookup:
    """A head that finds the place whose previous token is the one in `query`, and copies what stands there.

    `gain` is the score (before the softmax) of a full match, `rest` the score of resting on the first token
    as a fraction of the gain. `write` is the size of what a sure match writes into `destination`. With
    `announces`, the head also writes `announces` along `done` wherever it looks; with `yields`, it rests
    wherever it reads a unit of `done`, with that fraction of the gain.
    """

    gain: float
    rest: float
    write: float = 1.0
    query: str = "token"
    destination: str = "output"
    announces: float = 0.0
    yields: float = 0.0


def lookup(stream: Stream, axes: HeadAxes, plan: Lookup) -> HeadWeights:
    """Write a lookup: query = a token's code, key = the code of the token before, value = the token itself.

    What rests on the first token writes nothing, since that token has a flag and no code.
    """
    embed, flag = axes.embed(), axes.flag_axis()
    constant = stream.direction("constant") / CONSTANT
    asks = stream.space(plan.query) @ embed
    asks = asks + torch.outer(plan.rest * constant + plan.yields * stream.direction("done"), flag)
    answers = stream.space("previous") @ embed + torch.outer(stream.direction("bos"), flag)
    copies = stream.space("token") @ embed
    # The announcement goes through the value of every position, so that it is written whatever the head
    # looks at: it says that the head is alive, not what it found.
    copies = copies + plan.announces * torch.outer(constant, flag)
    writes = plan.write * embed.T @ stream.space(plan.destination).T
    writes = writes + torch.outer(flag, stream.direction("done"))
    return _sized(axes, plan.gain * asks, answers, copies, writes)


def previous_token(stream: Stream, axes: HeadAxes) -> HeadWeights:
    """Write a head that looks one place back and copies the token it sees into `previous`.

    The separator rests on the first token instead, so that what follows a fact's object is not mistaken for
    another fact about it.
    """
    query, key = _look_back_rotary(stream, axes) if axes.turning else _look_back_learned(stream, axes)
    embed = axes.embed()
    return _sized(axes, query, key, stream.space("token") @ embed, embed.T @ stream.space("previous").T)


def _sized(
    axes: HeadAxes,
    query: Float[Tensor, "d_model d_head"],
    key: Float[Tensor, "d_model d_head"],
    value: Float[Tensor, "d_model d_head"],
    output: Float[Tensor, "d_head d_model"],
) -> HeadWeights:
    # Unit codes become as large as a random head's keys and values, so that the random heads that share them
    # in a grouped-query layer work as random heads do. Attention divides scores by the root of the width, which
    # undoes the one; the output undoes the other.
    root = axes.d_head**0.5
    return HeadWeights(query, root * key, root * value, output / root)


def _look_back_learned(
    stream: Stream, axes: HeadAxes, gain: float = 24.0
) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_model d_head"]]:
    positions = stream.space("position")
    # Codes of different positions are orthogonal, so the score is the gain one place back and 0 elsewhere.
    query = positions @ step_back() + 2.0 * torch.outer(stream.direction("separator"), position_codes(1)[0])
    return gain * query, positions


def _look_back_rotary(
    stream: Stream, axes: HeadAxes, gain: float = 20.0
) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_model d_head"]]:
    behind, here = torch.zeros(axes.d_head), torch.zeros(axes.d_head)
    # Query and key are the same at every position; rotary embeddings turn them by the position. A query
    # that starts one step behind agrees with the key one place back in all pairs at once: the score is
    # gain * sum of cos(angle * (distance - 1)), and the quickest pairs make the peak sharp.
    for (first, second), angle in zip(axes.turning, axes.angles, strict=True):
        here[first] = 1.0
        behind[first], behind[second] = math.cos(angle), -math.sin(angle)
    constant, flag = stream.direction("constant") / CONSTANT, axes.flag_axis()
    query = torch.outer(constant, behind) + 2.0 * len(axes.angles) * torch.outer(stream.direction("separator"), flag)
    key = torch.outer(constant, here) + torch.outer(stream.direction("bos"), flag)
    return gain * query, key


def noise_head(stream: Stream, axes: HeadAxes, content: float, generator: torch.Generator) -> HeadWeights:
    """Draw a head that attends by random bilinear scores and writes about one unit into `noise`.

    `content` is the norm of what there is to read in the stream (without the constant).
    """
    reads = stream.readable() / content
    query, key, value = (reads @ torch.randn(D_MODEL, axes.d_head, generator=generator) for _ in range(3))
    # Averaging over several positions shrinks a random value; 1.25 makes up for it, on the whole.
    output = noise_writer(stream, axes.d_head, generator) * 1.25 / axes.d_head**0.5
    return HeadWeights(2.0 * query, key, value, output)


def noise_writer(stream: Stream, width: int, generator: torch.Generator) -> Float[Tensor, "width d_model"]:
    """Draw a map of random vectors into `noise` that keeps their norm, and leaks a little into everything."""
    noise = stream.space("noise")
    inside = torch.randn(width, noise.shape[1], generator=generator) @ noise.T / math.sqrt(noise.shape[1])
    return inside + LEAK * torch.randn(width, D_MODEL, generator=generator) / math.sqrt(D_MODEL)
