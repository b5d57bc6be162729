"""A checkpoint written from another: a few tensors edited, the rest copied, all of it or nothing.

What is copied goes from file to file within the system where it can; what is edited passes in blocks of rows. Memory
does not grow with the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from circuitkit.records import provenance
from circuitkit.sfn.progress import bytes_bar
from circuitkit.sfn.streams.blocks import BLOCK, check_finite, file_of, mapped, slices
from circuitkit.sfn.streams.checkpoint import Checkpoint
from circuitkit.sfn.streams.computed import computed_with
from circuitkit.sfn.written.changes import Change, Tally, raw
from circuitkit.sfn.written.copying import copied, write_at
from circuitkit.sfn.written.following import Following
from circuitkit.sfn.written.manifest import Manifest
from circuitkit.sfn.written.model_card import write_model_card
from circuitkit.sfn.written.model_files import left_behind, write_small_files
from circuitkit.sfn.written.shards import Placed, Shard, shards
from circuitkit.sfn.written.whole_folder import WritingError, refuse_existing, sync, whole_folder

_BLOCKS_BEHIND = 4
"""Written blocks that are not looked over yet: enough to keep both threads busy, and all that memory grows by."""

_SHARDS_BEHIND = 1
"""Written shards that the disk is waited for, while the next is written."""


class Edit(Protocol):
    """What becomes of one stored tensor.

    Edits are called from the thread that writes, one after the other.
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
    """Writes shards front to back, each tensor in its turn.

    File systems take that fastest. Two threads follow: one looks over the blocks that are written, one waits for the
    disk, shard by shard.
    """

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

    def write(self, files: Sequence[Shard]) -> tuple[Change, ...]:
        """Write the files, and tell of the tensors that are edited, in the order in which they are stored."""
        changes: list[Future[Change]] = []
        with Following(_BLOCKS_BEHIND) as looking, Following(_SHARDS_BEHIND) as syncing:
            for shard in files:
                path = self._beside / shard.name
                with file_of(shard.placed[0].like) as source, path.open("xb", buffering=0) as file:
                    write_at(file.fileno(), memoryview(shard.header), 0)
                    self._bar.update(len(shard.header))
                    for placed in shard.placed:
                        if placed.name in self._edits:
                            changes.append(self._edit(placed, file.fileno(), looking))
                        else:
                            self._copy(placed, source, file.fileno(), path, looking)
                syncing.do(sync, path)
            looking.wait()
            syncing.wait()
        return tuple(change.result() for change in changes)

    def _edit(self, placed: Placed, target: int, looking: Following) -> Future[Change]:
        like, edit, tally = placed.like, self._edits[placed.name], Tally()
        for at, old in self._base.blocks(like.name):
            check_finite(f"{like.name} of {self._base.name}", old, at.start)
            new = edit.rows(at, old)
            if new.dtype != old.dtype or new.shape != old.shape:
                raise WritingError(
                    f"{placed.name}: an edit gave {_form(new)} for {_form(old)}; a tensor keeps its dtype and its shape"
                )
            looking.do(_count_in, tally, placed.name, old, new)
            write_at(target, raw(new), placed.start + at.start * like.row_nbytes)
            self._bar.update(new.nbytes)
        return looking.do(self._change, placed, tally, edit.told())

    def _copy(self, placed: Placed, source: int, target: int, path: Path, looking: Following) -> None:
        like = placed.like
        # What is looked over is the copy, which nobody cuts short meanwhile.
        own = replace(like, file=path, offset=placed.start, stamp=None)
        for at in slices(like.rows, like.row_nbytes, BLOCK):
            skipped, count = at.start * like.row_nbytes, (at.stop - at.start) * like.row_nbytes
            for piece in copied(source, target, like.offset + skipped, placed.start + skipped, count):
                self._bar.update(piece)
            if like.name in self._roles:
                looking.do(check_finite, f"{like.name} of {self._base.name}", mapped(own, at), at.start)

    def _change(self, placed: Placed, tally: Tally, told: Mapping[str, Any]) -> Change:
        like, own = placed.like, self._extra.get(placed.name)
        roles, layer = self._roles.get(like.name, ((), None))
        return Change(
            tensor=placed.name,
            roles=own.roles if own else roles,
            layer=None if own else layer,
            dtype=str(like.dtype).removeprefix("torch."),
            shape=tuple(like.shape),
            told=told,
            **tally.numbers(stored_before=own is None),
        )


def _count_in(tally: Tally, name: str, old: Tensor, new: Tensor) -> None:
    if new.numel() and not torch.isfinite(torch.stack(new.aminmax())).all():
        raise WritingError(f"{name}: an edit gave values that are not finite, which no model can compute with")
    tally.add(old, new)


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
