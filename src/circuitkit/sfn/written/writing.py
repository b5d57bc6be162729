"""A checkpoint written from another: a few tensors edited, the rest copied, all of it or nothing.

What is copied goes from file to file within the system, or not at all where the file system shares blocks; what is
edited passes in blocks of rows. Memory does not grow with the model.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from circuitkit.records import provenance
from circuitkit.sfn.progress import bytes_bar
from circuitkit.sfn.streams.blocks import check_finite
from circuitkit.sfn.streams.checkpoint import Checkpoint
from circuitkit.sfn.written.changes import Change, Tally, raw
from circuitkit.sfn.written.copying import copied, write_at
from circuitkit.sfn.written.manifest import Manifest
from circuitkit.sfn.written.model_card import write_model_card
from circuitkit.sfn.written.model_files import left_behind, write_small_files
from circuitkit.sfn.written.shards import Placed, Shard, shards
from circuitkit.sfn.written.whole_folder import WritingError, refuse_existing, whole_folder

_STRETCH = 1 << 27
"""Bytes that one thread copies at a time, few enough to be looked over while they are still in memory."""

_THREADS = 4
"""Copying waits for the disk and hashing for a core; more than this and they wait for each other."""


class Edit(Protocol):
    """What becomes of one stored tensor.

    One edit is called from one thread only, different edits from different threads at once.
    """

    def rows(self, at: slice, old: Tensor) -> Tensor:
        """New values of some rows, of the old ones' dtype and shape: `[row, column]`, or `[element]` of a vector.

        Called for all rows in order, each once. `old` is a view of the file, and must not be written into.
        """

    def told(self) -> Mapping[str, Any]:
        """What the manifest says of this tensor beside its hashes and norms, as JSON; asked after the last rows."""


@dataclass(frozen=True)
class Extra:
    """A tensor that the base has not, such as an unembedding where the base's is tied: one of the base's, edited."""

    like: str
    edit: Edit
    roles: tuple[str, ...] = ()


def check_place(out: str | Path, checkpoints: Iterable[Checkpoint]) -> Path:
    """Refuse a place for a folder that is taken, or that is a source or lies in one.

    Raises:
        WritingError: it is so.

    >>> check_place("not/there", []).name
    'there'
    """
    place = Path(out).absolute()
    for checkpoint in checkpoints:
        if checkpoint.folder is not None and place.resolve().is_relative_to(checkpoint.folder.resolve()):
            raise WritingError(
                f"{out} is, or lies in, the folder of {checkpoint.name}, and sources are never written to: name a "
                "folder elsewhere"
            )
    refuse_existing(place)
    return place


def computed_with(checkpoint: Checkpoint) -> frozenset[str]:
    """The parameters and buffers that the model has, by name; a file may hold others, such as masks of old.

    >>> sorted(computed_with(Checkpoint.open("deductor-130k")))[:2]
    ['lm_head.weight', 'model.embed_tokens.weight']
    """
    return frozenset(checkpoint.skeleton.anatomy.root.state_dict(keep_vars=True))


def write(
    base: Checkpoint,
    edits: Mapping[str, Edit],
    out: str | Path,
    *,
    told: Mapping[str, Any],
    extra: Mapping[str, Extra] | None = None,
    config_changes: Mapping[str, Any] | None = None,
    sources: Sequence[Checkpoint] = (),
    progress: bool = True,
) -> Manifest:
    """Write a model folder that differs from a base's in the tensors that are edited, its manifest, and a README.md.

    Of the base's other files those are copied that a model is loaded and generates with, and licences.

    Args:
        base: a folder's.
        edits: by stored name.
        out: must not be there.
        told: for the manifest, as JSON; `kind` is what made it.
        extra: tensors that the base has not, by the names under which they are stored.
        config_changes: settings of the config, by name.
        sources: other checkpoints that are read.
        progress: show a bar, in bytes.

    Raises:
        WritingError: the place is taken or a source's, the base is a model in memory, an edit gives another dtype or
            shape or values that are not finite, or the disk is full. Nothing is left then, nor after Ctrl-C.
    """
    if base.folder is None:
        raise WritingError(
            f"{base.name} is a model in memory, and a checkpoint is made from a folder: save it "
            "(model.hf.save_pretrained(…) and model.tokenizer.save_pretrained(…)), and give that folder"
        )
    extra = extra or {}
    place = check_place(out, (base, *sources))
    files = shards(base, {name: each.like for name, each in extra.items()})
    needed = sum(shard.size for shard in files)
    every = dict(edits) | {name: each.edit for name, each in extra.items()}
    roles = _roles(base)
    with whole_folder(place, needed) as beside:
        with bytes_bar(needed, f"writing {place.name}", progress) as bar:
            changes = _Weights(base, every, extra, roles, beside, bar).write(files)
        there = {each.name: (shard.name, each.like) for shard in files for each in shard.placed if each.name in extra}
        write_small_files(base.folder, beside, extra=there, config_changes=config_changes or {})
        manifest = _manifest(base, changes, {**told, "not_copied": left_behind(base.folder)}, sources)
        manifest.save(beside)
        write_model_card(beside, place.name, manifest, base.folder)
    return manifest


class _Weights:
    """Writes shards by several threads, each at one tensor or stretch at a time."""

    def __init__(
        self,
        base: Checkpoint,
        edits: Mapping[str, Edit],
        extra: Mapping[str, Extra],
        roles: Mapping[str, tuple[tuple[str, ...], int | None]],
        beside: Path,
        bar: tqdm[None],
    ) -> None:
        self._base, self._edits, self._extra, self._roles = base, edits, extra, roles
        self._beside, self._bar = beside, bar
        self._lock, self._stopped = threading.Lock(), threading.Event()

    def write(self, files: Sequence[Shard]) -> tuple[Change, ...]:
        """Write the files, and tell of the tensors that are edited, in the order in which they are stored."""
        with ExitStack() as opened:
            edits: list[Callable[[], Change]] = []
            stretches: list[Callable[[], None]] = []
            for shard in files:
                source, target = self._open(shard, opened)
                edited = [each for each in shard.placed if each.name in self._edits]
                edits += [partial(self._edit, each, target) for each in edited]
                kept = shard.stretches(frozenset(self._edits), _STRETCH)
                stretches += [partial(self._copy, run, source, target) for run in kept]
            # Edits first: what is wrong with values is found before the long copying.
            return tuple(change for change in self._run([*edits, *stretches]) if change is not None)

    def _open(self, shard: Shard, opened: ExitStack) -> tuple[int, int]:
        source = os.open(shard.source, os.O_RDONLY)
        opened.callback(os.close, source)
        target = os.open(self._beside / shard.name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        opened.callback(os.close, target)
        os.ftruncate(target, shard.size)
        write_at(target, memoryview(shard.header), 0)
        self._advance(len(shard.header))
        return source, target

    def _run(self, tasks: Sequence[Callable[[], Change | None]]) -> list[Change | None]:
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
            try:
                futures = [pool.submit(task) for task in tasks]
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                failed = [error for each in futures if each in done and (error := each.exception())]
                if failed:
                    raise next((error for error in failed if not isinstance(error, _StoppedError)), failed[0])
                return [each.result() for each in futures]
            finally:
                # After Ctrl-C too, threads end with the block that they are at.
                self._stopped.set()
                pool.shutdown(cancel_futures=True)

    def _edit(self, placed: Placed, target: int) -> Change:
        like, edit, tally = placed.like, self._edits[placed.name], Tally()
        for at, old in self._base.blocks(like.name):
            check_finite(f"{like.name} of {self._base.name}", old, at.start)
            new = edit.rows(at, old)
            self._check(placed.name, old, new)
            tally.add(old, new)
            write_at(target, raw(new), placed.start + at.start * like.row_nbytes)
            self._advance(new.nbytes)
        roles, layer = self._roles.get(like.name, ((), None))
        own = self._extra.get(placed.name)
        return Change(
            tensor=placed.name,
            roles=own.roles if own else roles,
            layer=None if own else layer,
            dtype=str(like.dtype).removeprefix("torch."),
            shape=tuple(like.shape),
            told=edit.told(),
            **tally.numbers(stored_before=own is None),
        )

    def _copy(self, run: Sequence[Placed], source: int, target: int) -> None:
        first, last = run[0], run[-1]
        count = last.start + last.like.nbytes - first.start
        for piece in copied(source, target, first.like.offset, first.start, count):
            self._advance(piece)
        for each in run:
            if each.like.name in self._roles and each.like.dtype.is_floating_point:
                for at, block in self._base.blocks(each.like.name):
                    self._go_on()
                    check_finite(f"{each.like.name} of {self._base.name}", block, at.start)

    def _check(self, name: str, old: Tensor, new: Tensor) -> None:
        if new.dtype != old.dtype or new.shape != old.shape:
            raise WritingError(
                f"{name}: an edit gave {_form(new)} for {_form(old)}; a tensor keeps its dtype and its shape"
            )
        if new.numel() and not torch.isfinite(torch.stack(new.aminmax())).all():
            raise WritingError(f"{name}: an edit gave values that are not finite, which no model can compute with")

    def _advance(self, count: int) -> None:
        self._go_on()
        with self._lock:
            self._bar.update(count)

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise _StoppedError


class _StoppedError(Exception):
    """Ends a thread whose work is no longer wanted."""


def _roles(base: Checkpoint) -> dict[str, tuple[tuple[str, ...], int | None]]:
    """The roles and the layer of each stored tensor that the model computes with."""
    known = computed_with(base)
    found: dict[str, tuple[tuple[str, ...], int | None]] = {}
    for part in base.parts:
        if part.parameter in known:
            for tensor in (part.tensor, *part.copies):
                before, _ = found.get(tensor, ((), None))
                found[tensor] = (tuple(dict.fromkeys((*before, *part.roles))), part.layer)
    return found


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _manifest(
    base: Checkpoint, changes: Sequence[Change], told: Mapping[str, Any], sources: Sequence[Checkpoint]
) -> Manifest:
    taken = {change.tensor for change in changes}
    kept = [stored for stored in base.tensors.values() if stored.name not in taken]
    where = provenance(model_name=base.name, revision=base.revision, sources=[_source(each) for each in sources])
    return Manifest(where | dict(told), tuple(changes), len(kept), sum(stored.nbytes for stored in kept))


def _source(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "name": checkpoint.name,
        "revision": checkpoint.revision,
        "folder": None if checkpoint.folder is None else str(checkpoint.folder),
    }
