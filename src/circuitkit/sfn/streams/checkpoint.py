"""A checkpoint: named tensors that are read in blocks, and the part that each plays in the model.

A folder, a model of the hub, an embedded one, or a model in memory. Opening reads headers only; the model itself is
built without memory for its weights, when its parts are asked for. What a process holds does not grow with the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from circuitkit.sfn.errors import CheckpointError
from circuitkit.sfn.streams.blocks import BLOCK, blocks_of, mapped, slices
from circuitkit.sfn.streams.folders import tensors_in
from circuitkit.sfn.streams.headers import Stored
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from circuitkit.model import Model
    from circuitkit.sfn.streams.parts import Part

__all__ = ["Checkpoint", "Stored"]


class Checkpoint(Shown):
    """A model's tensors, on disk or in memory.

    Attributes:
        name: as it was said.
        folder: None for a model in memory.
        revision: the commit of a model of the hub.
        tensors: by stored name, in the order in which they are stored.

    >>> checkpoint = Checkpoint.open("deductor-130k-base")
    >>> checkpoint.tensors["model.norm.weight"].shape
    (64,)
    """

    def __init__(
        self,
        name: str,
        tensors: Mapping[str, Stored],
        *,
        folder: Path | None = None,
        revision: str | None = None,
        model: Model | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self.name = name
        self.folder = folder
        self.revision = revision
        self.tensors = tensors
        self.trust_remote_code = trust_remote_code
        self._model = model

    @classmethod
    def open(
        cls,
        source: str | Path | Checkpoint | Model,
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> Checkpoint:
        """Open a checkpoint, reading nothing but headers.

        Args:
            source: a folder, a hub id, the name of an embedded model, or a `ck.Model`.
            revision: of a hub id.
            trust_remote_code: whether the checkpoint's own code may be run, as transformers has it.

        Raises:
            CheckpointError: there is no such checkpoint, or it is not whole: no config, no weights, a truncated shard,
                an index that does not fit the shards, a quantised model.
        """
        from circuitkit.model import Model

        if isinstance(source, Checkpoint):
            return source
        if isinstance(source, Model):
            return cls._of_model(source)
        from circuitkit.sfn.streams.finding import found

        folder, commit = found(source, revision)
        checkpoint = cls(
            str(source), tensors_in(folder), folder=folder, revision=commit, trust_remote_code=trust_remote_code
        )
        _check_quantised(checkpoint.name, _settings(folder))
        return checkpoint

    @classmethod
    def _of_model(cls, model: Model) -> Checkpoint:
        from circuitkit.sfn.streams.memory import tensors_of

        tensors = tensors_of(model)
        # One that was unpacked on load may still say in its config how it was packed.
        if any(stored.dtype.itemsize == 1 or not stored.dtype.is_floating_point for stored in tensors.values()):
            root: Any = model.anatomy.root
            _check_quantised(model.name, root.config.to_dict())
        return cls(model.name, tensors, revision=model.revision, model=model)

    @cached_property
    def config(self) -> Any:
        """The model's settings, as transformers has them.

        Raises:
            CheckpointError: they cannot be read.
        """
        if self._model is not None:
            return self._model.anatomy.root.config
        from circuitkit.sfn.streams.skeleton import config_of

        assert self.folder is not None
        return config_of(self.folder, self.name, trust_remote_code=self.trust_remote_code)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Every part of every tensor, by the roles of the model's architecture, in the order of the tensors.

        Raises:
            CheckpointError: a parameter is not stored, has another shape, or is stored in a way that is not read here;
                the architecture is not known.
        """
        if self._model is not None:
            from circuitkit.sfn.streams.parts import live_parts

            return live_parts(self._model)
        from circuitkit.sfn.streams.stored_parts import stored_parts

        return stored_parts(self)

    @cached_property
    def skeleton(self) -> Model:
        """The model without memory for its weights (on PyTorch's meta device), or one in memory itself; no adapters.

        Raises:
            CheckpointError: the architecture is not known.
        """
        if self._model is not None:
            from circuitkit.sfn.streams.model_parts import bare

            return bare(self._model)
        from circuitkit.sfn.streams.skeleton import skeleton

        return skeleton(self.config, self.name, trust_remote_code=self.trust_remote_code)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(stored.nbytes for stored in self.tensors.values())

    def read(self, name: str) -> Tensor:
        """A tensor in its own dtype and shape, over the file's pages or the model's own memory; not to be written to.

        Raises:
            CheckpointError: there is none of that name, or its file was written to or replaced in the meantime.
        """
        stored = self._stored(name)
        return self._in_memory(name) if stored.file is None else mapped(stored)

    def rows(self, name: str, at: slice) -> Tensor:
        """Some of a tensor's rows, all its axes but the last taken as one: as a block of those that `blocks` gives.

        Raises:
            CheckpointError: there is no tensor of that name, or its file was written to or replaced in the meantime.
        """
        stored = self._stored(name)
        return self._table(stored)[at].cpu() if stored.file is None else mapped(stored, at)

    def blocks(self, name: str, nbytes: int = BLOCK) -> Iterator[tuple[slice, Tensor]]:
        """A tensor in blocks of rows, all its axes but the last taken as one, in order.

        Args:
            name: the stored one.
            nbytes: of a block; one row, where that is larger.

        Yields:
            Which rows, and the block, `[row, column]`, or `[element]` of a vector (a single number: `[1]`). A block's
            memory is given back when nothing refers to it any more. It is not to be written to.

        Raises:
            CheckpointError: there is none of that name, or its file was written to or replaced in the meantime.
        """
        stored = self._stored(name)
        if stored.file is not None:
            yield from blocks_of(stored, nbytes)
            return
        table = self._table(stored)
        for at in slices(stored.rows, stored.row_nbytes, nbytes):
            yield at, table[at].cpu()

    def _table(self, stored: Stored) -> Tensor:
        whole = self._in_memory(stored.name)
        return whole.reshape(-1) if stored.columns is None else whole.reshape(stored.rows, stored.columns)

    def _in_memory(self, name: str) -> Tensor:
        from circuitkit.sfn.streams.memory import tensor_of

        assert self._model is not None
        return tensor_of(self._model, name)

    def _stored(self, name: str) -> Stored:
        if name not in self.tensors:
            raise CheckpointError(f"{self.name} has no tensor {name!r}")
        return self.tensors[name]

    def __repr__(self) -> str:
        return f"Checkpoint({self.name!r}: {len(self.tensors)} tensors, {self.nbytes:,} bytes)"


def _settings(folder: Path) -> dict[str, Any]:
    try:
        settings = json.loads((folder / "config.json").read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{folder / 'config.json'} is no JSON ({error}); download or copy it again") from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{folder / 'config.json'} holds no settings; download or copy it again")
    return settings


def _check_quantised(name: str, settings: Mapping[str, Any]) -> None:
    if told := settings.get("quantization_config") or settings.get("compression_config"):
        method = told.get("quant_method", "quantised") if isinstance(told, dict) else "quantised"
        raise CheckpointError(
            f"{name} is quantised ({method}): its numbers are codes with scales beside them, which cannot be compared "
            "or mixed; give the checkpoint in float32, float16 or bfloat16 that it was made from"
        )
