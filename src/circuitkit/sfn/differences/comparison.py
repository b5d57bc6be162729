"""Compare checkpoints: open them, pair their modules, read all of them once side by side, and lay out what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from circuitkit.model.roles import ROLES
from circuitkit.records import provenance
from circuitkit.sfn.differences.looking import Look, Seen, heads_of, sampled
from circuitkit.sfn.differences.outcome import Delta
from circuitkit.sfn.differences.passing_by import Abreast, Pair, passed_by
from circuitkit.sfn.differences.relative_change import FORMULAS, Formula
from circuitkit.sfn.differences.spectra import changes_rank
from circuitkit.sfn.differences.sums import Sums
from circuitkit.sfn.differences.tables import (
    Dtypes,
    Measured,
    Module,
    head_rows,
    measured,
    module_name,
    module_rows,
    trajectory_rows,
)
from circuitkit.sfn.errors import PairError, SelectionError
from circuitkit.sfn.streams.checkpoint import Checkpoint
from circuitkit.sfn.streams.computed import without_unused
from circuitkit.sfn.streams.selection import Vocabulary, pair, select

if TYPE_CHECKING:
    from circuitkit.model import Model
    from circuitkit.sfn.streams.parts import Part


def delta(
    a: str | Path | Checkpoint | Model,
    b: str | Path | Checkpoint | Model | Sequence[str | Path | Checkpoint | Model],
    modules: str | Iterable[str] | None = None,
    layers: int | Iterable[int] | None = None,
    *,
    per_head: bool = True,
    histogram: Formula | None = "paper",
    bimodality: bool = True,
    stable_rank: bool = True,
    vocabulary: Vocabulary = "refuse",
    revision_a: str | None = None,
    revision_b: str | None = None,
    trust_remote_code: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Delta:
    """Measure how the weights of a checkpoint B differ from those of A, module by module; of several B, step by step.

    Both are read once, side by side, in blocks of rows; what is held does not grow with the model. Sums are in float64.
    Stable ranks read a matrix again, from ten to fifty times where it has more than 16 million numbers.

    Args:
        a, b: folders, hub ids, names of embedded models, `ck.Model`s, or open checkpoints; of one architecture, in any
            dtypes, shards, tied or not. Several `b` are a trajectory, in their order.
        modules: roles (`o_proj`), groups (`attention`, `mlp`), names with `*`, or "all"; whatever has a role, if None.
        layers: these alone, negative ones from the end; of all, and what lies in none, if None.
        per_head: measure each head of attention projections too.
        histogram: of relative change, by the paper's formula or by that of its "code"; None for none. The code's is
            over |A| + 1e-8, clamped to ±1, and leaves out what is 0.99 or more in magnitude.
        bimodality: look for modes of the relative change in a sample of 8,192 weights of each module, beside controls.
        stable_rank: of each matrix's change.
        vocabulary: "leave-out" leaves embedding and unembedding out where the vocabularies differ in size.
        revision_a, revision_b: of hub ids.
        trust_remote_code: whether a checkpoint's own code may be run.
        seed: of the samples and the controls.
        progress: show bars, in bytes.

    Raises:
        CheckpointError: one is not whole, or holds NaN or infinity; the tensor is named.
        PairError: they do not fit each other.
        SelectionError: there is no such module or layer.

    Source: Shao & Wu 2025, arXiv 2505.20993, section 3; what is beyond norms and histograms is not theirs.

    >>> found = ck.sfn.delta("deductor-20k-base", "deductor-20k", ["o_proj"], stable_rank=False, progress=False)
    >>> found.frame[["module", "layer"]].values.tolist()
    [['o_proj', 0], ['o_proj', 1]]
    """
    if histogram is not None and histogram not in FORMULAS:
        raise SelectionError(f"a histogram's formula is 'paper', 'code' or None, not {histogram!r}")
    checkpoints = [Checkpoint.open(a, revision=revision_a, trust_remote_code=trust_remote_code)]
    checkpoints += [
        Checkpoint.open(source, revision=revision_b, trust_remote_code=trust_remote_code) for source in _sources(b)
    ]
    asked = Asked(per_head, histogram, bimodality, stable_rank, seed)
    weights = [asked.of(*each) for each in _abreast(checkpoints, modules, layers, vocabulary)]
    found: list[dict[Pair, Measured]] = [{} for _ in weights]
    for index, seen in passed_by(checkpoints, weights, what="comparing", progress=progress):
        found[index] = {pair: asked.measured(each, checkpoints, weights[index], pair) for pair, each in seen.items()}
    modules_of = _modules(checkpoints, weights, found)
    told: dict[str, Any] = {"a": _told(checkpoints[0]), "b": [_told(each) for each in checkpoints[1:]]}
    told |= {"histogram": histogram, "bimodality": bimodality, "stable_rank": stable_rank, "vocabulary": vocabulary}
    last = checkpoints[-1]
    return _laid_out(
        modules_of,
        [
            [found[index][number, number + 1].sums for index, _ in _bodies(weights)]
            for number in range(1, len(checkpoints) - 1)
        ],
        _distinct([each.name for each in checkpoints[1:]]),
        provenance(model_name=last.name, revision=last.revision, seed=seed, **told),
    )


@dataclass(frozen=True)
class Asked:
    """What is to be measured; see `delta`."""

    per_head: bool
    histogram: Formula | None
    bimodality: bool
    stable_rank: bool
    seed: int

    def of(self, roles: tuple[str, ...], parts: tuple[Part, ...]) -> Abreast:
        """What is looked for in one part: all of it against A, and norms alone from one checkpoint to the next."""
        first = parts[0]
        rows, columns = first.shape if len(first.shape) == 2 else (first.numel, 1)
        heads = heads_of(first) if self.per_head else None
        plain = Look(rows, columns)
        full = plain if first.bias else Look(rows, columns, heads, self.histogram)
        if self.bimodality and not first.bias:
            full = replace(full, positions=sampled(first, self.seed))
        looks: dict[Pair, Look] = {(0, number): full for number in range(1, len(parts))}
        return Abreast(roles, parts, looks | {(number, number + 1): plain for number in range(1, len(parts) - 1)})

    def measured(self, seen: Seen, checkpoints: Sequence[Checkpoint], weight: Abreast, pair: Pair) -> Measured:
        """What was seen of a part in two checkpoints, measured."""
        sides = checkpoints[pair[0]], checkpoints[pair[1]]
        parts = weight.parts[pair[0]], weight.parts[pair[1]]
        look = weight.looks[pair]
        modes = (self.histogram or "paper", self.seed) if len(look.positions) else None
        found = measured(seen, look.formula, modes, _dtypes(sides, parts))
        if not self.stable_rank or pair[0] or weight.parts[0].bias:
            return found
        return replace(found, stable_rank=changes_rank(*sides, parts, found.norm))


def _sources(b: Any) -> list[Any]:
    """The checkpoints that are held against A.

    Raises:
        SelectionError: there are none.
    """
    sources = list(b) if isinstance(b, Sequence) and not isinstance(b, str) else [b]
    if not sources:
        raise SelectionError("there is nothing to compare with: give at least one checkpoint as b")
    return sources


def _abreast(
    checkpoints: Sequence[Checkpoint],
    modules: str | Iterable[str] | None,
    layers: int | Iterable[int] | None,
    vocabulary: Vocabulary,
) -> list[tuple[tuple[str, ...], tuple[Part, ...]]]:
    """The chosen parts of A with those of each other checkpoint, and the roles that all of them have.

    Raises:
        PairError: checkpoints of a trajectory differ in what they tie.
    """
    a, *others = checkpoints
    there = {role for part in a.parts for role in part.roles}
    wanted = [role for role in ROLES if role in there] if modules is None else modules
    chosen = [part for part in select(a.parts, wanted, layers, biases=True, name=a.name) if _of_numbers(a, part)]
    chosen = without_unused(a, chosen, others)
    paired = [pair(a, b, chosen, vocabulary=vocabulary) for b in others]
    told = [[(each.a.key, each.roles) for each in one] for one in paired]
    for b, keys in zip(others, told, strict=True):
        if keys != told[0]:
            raise PairError(f"{b.name} ties its embedding and {others[0].name} does not: compare them one at a time")
    if not paired[0]:
        raise SelectionError(f"nothing of {a.name} is left to compare")
    return [(row[0].roles, (row[0].a, *(each.b for each in row))) for row in zip(*paired, strict=True)]


def _of_numbers(a: Checkpoint, part: Part) -> bool:
    """Whether a part is weights, and no mask or table of whole numbers."""
    return a.tensors[part.tensor].dtype.is_floating_point


def _bodies(weights: Sequence[Abreast]) -> list[tuple[int, int | None]]:
    """The numbers of each module's weight and bias, in the order of the weights; a bias alone is a module too."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for index, weight in enumerate(weights):
        part = weight.parts[0]
        found.setdefault((module_name(part), weight.roles, part.expert), []).append(index)
    bodies: list[tuple[int, int | None]] = []
    for members in found.values():
        biases = [index for index in members if weights[index].parts[0].bias]
        others = [index for index in members if index not in biases]
        bodies += [(index, biases[0] if biases else None) for index in others] or [(index, None) for index in biases]
    return bodies


def _modules(
    checkpoints: Sequence[Checkpoint], weights: Sequence[Abreast], found: Sequence[dict[Pair, Measured]]
) -> list[list[Module]]:
    """The modules of each checkpoint against A."""
    along = []
    for number in range(1, len(checkpoints)):
        modules = []
        for index, bias in _bodies(weights):
            weight = weights[index]
            modules.append(
                Module(
                    weight.parts[0],
                    "+".join(weight.roles) or weight.parts[0].tensor,
                    found[index][0, number],
                    None if bias is None else found[bias][0, number],
                    _dtypes((checkpoints[0], checkpoints[number]), (weight.parts[0], weight.parts[number])),
                )
            )
        along.append(modules)
    return along


def _laid_out(
    along: Sequence[Sequence[Module]], stepped: Sequence[Sequence[Sums]], names: Sequence[str], told: dict[str, Any]
) -> Delta:
    """The tables of all checkpoints, one under the other."""
    every = [module.weight for modules in along for module in modules]
    return Delta(
        pd.DataFrame([row for name, modules in zip(names, along, strict=True) for row in module_rows(modules, name)]),
        pd.DataFrame([row for name, modules in zip(names, along, strict=True) for row in head_rows(modules, name)]),
        pd.DataFrame(trajectory_rows(along, stepped, names)),
        tuple(weight.histogram for weight in every if weight.histogram is not None),
        tuple(weight.shapes for weight in every if weight.shapes is not None),
        told,
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """Names, those that come again with a number."""
    return [
        name if names[:i].count(name) == 0 else f"{name} ({names[:i].count(name) + 1})" for i, name in enumerate(names)
    ]


def _dtypes(checkpoints: tuple[Checkpoint, Checkpoint], parts: tuple[Part, Part]) -> Dtypes:
    first, second = (each.tensors[part.tensor].dtype for each, part in zip(checkpoints, parts, strict=True))
    return first, second


def _told(checkpoint: Checkpoint) -> dict[str, str | None]:
    folder = None if checkpoint.folder is None else str(checkpoint.folder)
    return {"name": checkpoint.name, "revision": checkpoint.revision, "folder": folder}
