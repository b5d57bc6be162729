"""What was seen of weights, laid out as tables: a row a module and layer, a row a head, a row a step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from circuitkit import statistics
from circuitkit.sfn.differences.bimodality import Bimodality, Shapes, bimodality
from circuitkit.sfn.differences.looking import Seen
from circuitkit.sfn.differences.precision import coarser, coarsest
from circuitkit.sfn.differences.relative_change import Formula, Histogram
from circuitkit.sfn.differences.sums import CHANGE, MEASURES, Norms, Sums, norms
from circuitkit.sfn.differences.verdicts import judged
from circuitkit.sfn.streams.parts import Part

OUTSIDE = -1
"""The layer of what lies in none, and the expert of what is none's."""
Dtypes = tuple[torch.dtype, torch.dtype]
KEYS = ("checkpoint", "module", "layer", "name", "expert")


@dataclass(frozen=True, eq=False)
class Measured:
    """What one weight or bias in two checkpoints comes to; of its sample, only what was made of it.

    Attributes:
        sums: squares and products, of each head apart where heads were looked at.
        unchanged: how many entries have one value in both.
        histogram, modes, shapes: where they were asked for.
        stable_rank: of the change; NaN where it was not asked for.
    """

    sums: Sums
    unchanged: int
    histogram: Histogram | None = None
    modes: Bimodality | None = None
    shapes: Shapes | None = None
    stable_rank: float = float("nan")

    @property
    def norm(self) -> float:
        """Of the change."""
        return float(np.sqrt(self.sums[CHANGE].sum()))


@dataclass(frozen=True, eq=False)
class Module:
    """A module in two checkpoints.

    Attributes:
        part: its weight in A.
        label: its roles.
        weight: what its weight comes to.
        bias: what its bias comes to, where it has one.
        dtypes: of the weight, in A and in B.
    """

    part: Part
    label: str
    weight: Measured
    bias: Measured | None
    dtypes: Dtypes

    @property
    def norms(self) -> Norms:
        """Of all of the weight."""
        return norms(self.weight.sums.sum(1, keepdims=True), self.part.numel)


def measured(seen: Seen, formula: Formula | None, modes: tuple[Formula, int] | None, dtypes: Dtypes) -> Measured:
    """What was seen of a weight, measured; `modes` are the formula and the seed of its sample's, where asked for."""
    histogram = None if seen.places is None or formula is None else Histogram.from_places(seen.places, formula)
    found = Measured(seen.sums, seen.unchanged, histogram)
    if modes is None:
        return found
    a, change = (np.concatenate(each) if each else np.empty(0) for each in (seen.a, seen.change))
    precision = coarser(coarsest(a, dtypes[0]), coarsest(a + change, dtypes[1]))
    bimodal, shapes = bimodality(a, change, modes[0], precision, modes[1])
    return replace(found, modes=bimodal, shapes=shapes)


def module_name(part: Part) -> str:
    """The module that a parameter belongs to; of experts that are no modules, their tensor.

    >>> module_name(Part("w", "model.norm.weight", ("norm",), None, False, None, of=(4,), rows=(slice(0, 4),)))
    'model.norm'
    """
    module, _, last = part.parameter.rpartition(".")
    return module if last in ("weight", "bias") else part.parameter.removesuffix("_bias")


def keys_of(module: Module, checkpoint: str) -> dict[str, Any]:
    """What tells a row."""
    part = module.part
    layer, expert = (OUTSIDE if each is None else each for each in (part.layer, part.expert))
    return dict(zip(KEYS, (checkpoint, module.label, layer, module_name(part), expert), strict=True))


def module_rows(modules: Sequence[Module], checkpoint: str) -> list[dict[str, Any]]:
    """A row a module, with a verdict on its modes after correcting for how many modules there are."""
    modes = [module.weight.modes for module in modules]
    corrected = statistics.benjamini_hochberg(np.array([np.nan if each is None else each.p for each in modes]))
    return [
        _module_row(module, checkpoint) | ({} if found is None else _modes_row(found, float(p)))
        for module, found, p in zip(modules, modes, corrected, strict=True)
    ]


def _module_row(module: Module, checkpoint: str) -> dict[str, Any]:
    first, second = (str(dtype).removeprefix("torch.") for dtype in module.dtypes)
    bias = np.nan if module.bias is None else module.bias.norm
    return (
        keys_of(module, checkpoint)
        | {"elements": module.part.numel, "dtype_a": first, "dtype_b": second}
        | _numbers(module.norms)
        | {
            "bias_norm": bias,
            "combined": module.weight.norm + (0.0 if module.bias is None else bias),
            "stable_rank": module.weight.stable_rank,
            "unchanged": module.weight.unchanged / max(1, module.part.numel),
        }
    )


def _modes_row(found: Bimodality, p_corrected: float) -> dict[str, Any]:
    judgement = judged(found, p_corrected)
    told = asdict(found)
    first = {"dip": told.pop("dip"), "p": told.pop("p"), "p_corrected": p_corrected}
    return first | told | {"verdict": judgement.verdict, "because": judgement.because}


def head_rows(modules: Sequence[Module], checkpoint: str) -> list[dict[str, Any]]:
    """A row a head, of the modules that were looked at by heads."""
    rows = []
    for module in modules:
        heads = module.weight.sums.shape[1]
        if module.part.heads != heads:
            continue
        found, keys = norms(module.weight.sums, module.part.numel // heads), keys_of(module, checkpoint)
        rows += [keys | {"head": head} | _numbers(found, head) for head in range(heads)]
    return rows


def _numbers(found: Norms, head: int = 0) -> dict[str, float]:
    return {name: float(getattr(found, name)[head]) for name in MEASURES}


def steps_of(names: Sequence[str]) -> list[int]:
    """The steps of a training that checkpoints are from: the numbers that their names end with, or else 1, 2, 3, …

    >>> steps_of(["run/checkpoint-100", "run/checkpoint-200"]), steps_of(["early", "late-2"])
    ([100, 200], [1, 2])
    """
    ends = [re.search(r"(\d+)/?$", name) for name in names]
    numbers = [int(end[1]) for end in ends if end]
    return numbers if len(numbers) == len(names) == len(set(numbers)) else list(range(1, len(names) + 1))


def trajectory_rows(
    along: Sequence[Sequence[Module]], stepped: Sequence[Sequence[Sums]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """A row a checkpoint and module: how far from A, and how far and which way from the checkpoint before.

    Args:
        along: the modules of each checkpoint against A.
        stepped: of each checkpoint from the second on, the sums of each module against the checkpoint before.
        names: of the checkpoints.
    """
    rows = []
    path, before = np.zeros(len(along[0])), np.zeros(len(along[0]))
    for number, (name, step, modules) in enumerate(zip(names, steps_of(names), along, strict=True)):
        for index, module in enumerate(modules):
            sums = stepped[number - 1][index] if number else module.weight.sums
            last, moved = norms(sums.sum(1, keepdims=True), module.part.numel), module.weight.norm
            length = float(last.norm[0])
            path[index] += length
            rows.append(
                keys_of(module, name)
                | {"step": step, "elements": module.part.numel}
                | _numbers(module.norms)
                | {
                    "step_norm": length,
                    "step_cosine": float(last.cosine[0]),
                    "onward": _onward(before[index], length, moved),
                    "path": float(path[index]),
                    "straightness": moved / path[index] if path[index] > 0 else np.nan,
                }
            )
            before[index] = moved
    return rows


def _onward(before: float, length: float, after: float) -> float:
    """The cosine of a step with the way so far, from the three sides of their triangle."""
    if not before > 0 or not length > 0:
        return float("nan")
    return float(np.clip((after**2 - before**2 - length**2) / (2 * before * length), -1.0, 1.0))
