"""Merge: modules, layers or heads of other models put into a checkpoint, wholly, in part, or as task arithmetic."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from circuitkit.sfn.merges.grafting import MergeError
from circuitkit.sfn.merges.merge_plan import Plan, check_all_there, planned
from circuitkit.sfn.merges.settings import Difference, differences
from circuitkit.sfn.merges.vocabularies import other_tokens
from circuitkit.sfn.streams.checkpoint import Checkpoint
from circuitkit.sfn.streams.selection import Vocabulary, select
from circuitkit.sfn.written.manifest import Manifest
from circuitkit.sfn.written.writing import check_place, write
from circuitkit.showing import Shown

if TYPE_CHECKING:
    import pandas as pd

    from circuitkit.model import Model

Source: TypeAlias = "str | Path | Checkpoint | Model"


@dataclass(frozen=True)
class Donor:
    """A model that gives to a merge, and how much of it.

    Attributes:
        source: whatever `Checkpoint.open` takes.
        weight: 1 for all of it; below 0 takes away.
    """

    source: Source
    weight: float = 1.0


@dataclass(frozen=True)
class Merged(Shown):
    """A merge, as written or, of a dry run, as it would be.

    Attributes:
        frame: a row for each stored tensor that is asked for; where it is written, with hashes and norms.
        manifest: what is written beside the weights; None of a dry run.
        folder: where it is; None of a dry run.
        summary: what is put into what, in a line.
        bytes_changed: of weights, that are put in.
        bytes_written: of all weights of the folder.
    """

    frame: pd.DataFrame
    manifest: Manifest | None
    folder: Path | None
    summary: str
    bytes_changed: int
    bytes_written: int

    def _title(self) -> str:
        return "Merged" if self.folder is None else f"Merged: {self.folder.name}"

    def _says(self) -> list[str]:
        return [f"{self.summary}.", f"{self.bytes_changed:,} of {self.bytes_written:,} bytes of weights are put in."]

    def __repr__(self) -> str:
        where = "nothing is written (dry run)" if self.folder is None else f"written to {self.folder}"
        return f"Merged({self.summary}; {where})"


def merge(
    a: Source,
    b: Source | None = None,
    modules: str | Iterable[str] = (),
    out: str | Path | None = None,
    *,
    layers: int | Iterable[int] | None = None,
    heads: Iterable[tuple[int, int]] | None = None,
    alpha: float = 1.0,
    biases: bool = False,
    donors: Sequence[Donor | tuple[Source, float]] | None = None,
    base: Source | None = None,
    vocabulary: Vocabulary = "refuse",
    dry_run: bool = False,
    progress: bool = True,
) -> Merged:
    """Write a model folder that is A but for some modules, which are B's, or lie between the two.

    A's shards, dtype, config, tokenizer and generation config are kept. With weight 1 B's numbers are copied, bit for
    bit where the dtypes are the same; otherwise `A + alpha · (B − A)` is computed in float64 and rounded once. The
    paper's Merge is alpha 1 (Shao & Wu 2025, arXiv 2505.20993); several donors are task arithmetic (Ilharco et al.
    2023, arXiv 2212.04089).

    Args:
        a: a folder, a hub id, or an embedded model.
        b: one of these, or a `ck.Model` in memory.
        modules: roles, groups ("attention", "mlp"), names with `*`, or "all"; none gives A.
        out: the new folder, which must not be there.
        layers: all, if not given; negative ones count from the end.
        heads: (layer, head) pairs: rows of q, k and v, columns of o_proj.
        alpha: B's weight, from 0 (A) to 1 (B), or beyond.
        biases: also the biases of the modules that are named by role; "all" and names take them anyway.
        donors: instead of b, models with weights: `A + Σ weight · (donor − base)`.
        base: what b or the donors were trained from; A itself if not given.
        vocabulary: where sizes differ, "refuse", or "leave-out" to keep A's embedding and unembedding.
        dry_run: say what would change, and write nothing; reads headers only.
        progress: show a bar, in bytes.

    Raises:
        MergeError: donors or weights that make no sense, or numbers too large for A's dtype.
        CheckpointError: a folder is not whole, or weights that are read are not finite.
        SelectionError: there are no such modules, layers or heads, or not alone.
        PairError: architectures, shapes or vocabularies differ.
        WritingError: `out` is there, lies in a source, or has no room. Nothing is left of it.

    >>> ck.sfn.merge("deductor-130k-base", "deductor-130k", ["o_proj"], dry_run=True)
    Merged(o_proj of deductor-130k into deductor-130k-base: 3 of 29 tensors, 12,288 of 133,632 numbers; nothing is ...)
    """
    if out is None and not dry_run:
        raise MergeError("say where to write: give out=…, or dry_run=True to see what would change")
    layers = layers if layers is None or isinstance(layers, int) else tuple(layers)
    asking = asked_for(
        a, b, modules, layers=layers, heads=heads, alpha=alpha, biases=biases, donors=donors, base=base,
        vocabulary=vocabulary,
    )  # fmt: skip
    into, given, origin, plan, differing = asking.into, asking.given, asking.base, asking.plan, asking.differing
    sources = [checkpoint for checkpoint, _ in given] + ([origin] if origin else [])
    if out is not None:
        check_place(out, (into, *sources))
    asked, heads = asking.modules, asking.heads
    summary, sizes = _summary(into, asked, given, plan), (plan.bytes_changed, plan.bytes_written)
    if dry_run or out is None:
        return Merged(plan.frame, None, None, summary, *sizes)
    told = {
        "kind": "merge",
        "modules": list(asked),
        "layers": None if layers is None else sorted({layers} if isinstance(layers, int) else set(layers)),
        "heads": None if heads is None else [list(head) for head in heads],
        "biases": biases,
        "donors": [{"name": checkpoint.name, "weight": weight} for checkpoint, weight in given],
        "base": None if origin is None else origin.name,
        "left_out": list(plan.left_out),
        "config_changes": dict(plan.config_changes),
        "settings": {name: [asdict(each) for each in found] for name, found in differing.items()},
    }
    manifest = write(
        into, plan.edits, out, told=told, extra=plan.extra, config_changes=plan.config_changes, sources=sources,
        progress=progress,
    )  # fmt: skip
    return Merged(manifest.frame, manifest, Path(out), summary, *sizes)


@dataclass(frozen=True)
class Asking:
    """What is asked for, opened, chosen and paired; nothing is read of it yet but headers.

    Attributes:
        into: A.
        given: donors and their weights.
        base: what they are compared with, where that is not A.
        modules, heads: as they were named.
        plan: what becomes of which tensor.
        differing: the settings in which donors' configs differ from A's, by donor.
    """

    into: Checkpoint
    given: tuple[tuple[Checkpoint, float], ...]
    base: Checkpoint | None
    modules: tuple[str, ...]
    heads: tuple[tuple[int, int], ...] | None
    plan: Plan
    differing: Mapping[str, tuple[Difference, ...]]


def asked_for(
    a: Source,
    b: Source | None,
    modules: str | Iterable[str],
    *,
    layers: int | Iterable[int] | None,
    heads: Iterable[tuple[int, int]] | None,
    alpha: float,
    biases: bool,
    donors: Sequence[Donor | tuple[Source, float]] | None,
    base: Source | None,
    vocabulary: Vocabulary,
) -> Asking:
    """Plan a merge, in files or in memory; arguments, errors and the warning of settings that differ are `merge`'s."""
    giving = _donors(b, donors, alpha)
    into = Checkpoint.open(a)
    given = tuple((Checkpoint.open(donor.source), donor.weight) for donor in giving)
    origin = _base(base, into)
    asked = (modules,) if isinstance(modules, str) else tuple(modules)
    pairs = None if heads is None else tuple(heads)
    chosen = select(into.parts, asked, layers, pairs, biases=biases, name=into.name)
    if biases or "all" in asked:
        for donor, _ in given:
            check_all_there(into, chosen, donor)
    plan = planned(into, chosen, given, origin, vocabulary=vocabulary)
    differing = _settings(into, given)
    if plan.edits:
        _warn(into, differing)
        _warn_of_tokens(into, given, plan)
    return Asking(into, given, origin, asked, pairs, plan, differing)


def _donors(b: Source | None, donors: Sequence[Donor | tuple[Source, float]] | None, alpha: float) -> list[Donor]:
    if (b is None) == (donors is None):
        raise MergeError("give b, or donors=[(model, weight), …] for task arithmetic, one of the two")
    if donors is not None and alpha != 1:
        raise MergeError(f"alpha={alpha} is b's weight: donors have weights of their own")
    found = [each if isinstance(each, Donor) else Donor(*each) for each in donors or ()]
    if b is not None:
        found = [Donor(b, alpha)]
    if not found:
        raise MergeError("donors is empty: give models with weights, [(model, weight), …]")
    for donor in found:
        if not math.isfinite(donor.weight):
            raise MergeError(f"the weight of a donor is a number, not {donor.weight}")
    return found


def _base(base: Source | None, into: Checkpoint) -> Checkpoint | None:
    """What donors are compared with, where that is not what is merged into."""
    if base is None:
        return None
    found = Checkpoint.open(base)
    same = found.folder is not None and into.folder is not None and found.folder.resolve() == into.folder.resolve()
    return None if same else found


def _settings(into: Checkpoint, given: Sequence[tuple[Checkpoint, float]]) -> dict[str, tuple[Difference, ...]]:
    return {donor.name: differences(into.config, donor.config) for donor, _ in given}


def _warn(into: Checkpoint, differing: Mapping[str, Sequence[Difference]]) -> None:
    for name, found in differing.items():
        if computed := [str(each) for each in found if each.computed]:
            warnings.warn(
                f"{into.name} and {name} differ in how they compute: {', '.join(computed)}. The merged model keeps the "
                f"settings of {into.name}, with which weights of {name} were not trained",
                stacklevel=4,
            )


def _warn_of_tokens(into: Checkpoint, given: Sequence[tuple[Checkpoint, float]], plan: Plan) -> None:
    roles = {role for graft in plan.edits.values() for part, _ in graft.pieces for role in part.roles}
    if into.folder is None or not roles & {"embed", "lm_head"}:
        return
    for donor, _ in given:
        if donor.folder is not None and (others := other_tokens(into.folder, donor.folder)):
            token, (mine, theirs) = next(iter(others.items()))
            warnings.warn(
                f"the tokenizers of {into.name} and {donor.name} give other numbers to {len(others):,} tokens, such as "
                f"{token!r} ({mine} and {theirs}): rows of {donor.name}'s embedding stand for its own tokens, and the "
                f"merged model reads with the tokenizer of {into.name}; copy {donor.name}'s if that is meant",
                stacklevel=4,
            )


def _summary(into: Checkpoint, asked: Sequence[str], given: Sequence[tuple[Checkpoint, float]], plan: Plan) -> str:
    donors = " + ".join(each.name if weight == 1 else f"{weight:g} · {each.name}" for each, weight in given)
    numbers = sum(math.prod(stored.shape) for stored in into.tensors.values())
    chosen = int(plan.frame["chosen"].sum())
    return (
        f"{', '.join(asked) or 'nothing'} of {donors} into {into.name}: {len(plan.frame)} of {len(into.tensors)} "
        f"tensors, {chosen:,} of {numbers:,} numbers"
    )
