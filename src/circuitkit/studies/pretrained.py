"""A model by name, as a cell's parameter: loaded where the cell runs, and kept there for the next."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from circuitkit.model import Model, load
from circuitkit.model.fingerprint import fingerprint, tensors_of
from circuitkit.model.held import held
from circuitkit.studies.errors import SweepError

_COMMIT = re.compile("[0-9a-f]{40}")
"""A commit's full name, which no branch or tag can come to mean otherwise."""

_IGNORED = {".git", ".cache", "__pycache__", ".ipynb_checkpoints", ".DS_Store"}
"""What tools leave in a model's folder, and no model reads."""


@dataclass(frozen=True)
class Pretrained:
    """A model by name; a cell's function gets it loaded.

    Each process keeps the last one that it loaded, so cells of one model are best next to each other.

    Attributes:
        name: an embedded model, a planted one, a folder, or a hub id.
        revision, dtype, device_map: as in `circuitkit.load`.
        settings: further settings of `circuitkit.load`.
        content: the hash of a folder's files; found out by `pinned`.

    >>> Pretrained("deductor-5k").load().n_layers
    2
    """

    name: str
    revision: str | None = None
    dtype: str | None = None
    device_map: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    content: str | None = None

    def load(self) -> Model:
        """The model, loaded at the first call in a process and given again until another is asked for.

        Raises:
            LoadError: see `circuitkit.load`.
        """
        return _KEPT.model(self)

    def pinned(self) -> Pretrained:
        """The same model, of the very weights that its name means now: a hub id's commit, the hash of a folder's files.

        Raises:
            SweepError: the commit cannot be found out, neither from the hub nor from what is on this machine.
        """
        if self.name.startswith(("deductor-", "planted-")):
            return self
        if Path(self.name).is_dir():
            return replace(self, content=_content(Path(self.name)))
        if self.revision is not None and _COMMIT.fullmatch(self.revision):
            return self
        return replace(self, revision=_commit(self.name, self.revision))

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision[:12]}"


class _Kept:
    def __init__(self) -> None:
        self.of: Pretrained | None = None
        self.loaded: Model | None = None

    def forget(self) -> None:
        self.of = self.loaded = None

    def model(self, wanted: Pretrained) -> Model:
        if self.loaded is None or self.of != wanted:
            # The one before makes room first.
            self.forget()
            self.loaded = load(
                wanted.name,
                revision=wanted.revision,
                dtype=wanted.dtype,
                device_map=wanted.device_map,
                **wanted.settings,
            )
            self.of = wanted
        return self.loaded


_KEPT = _Kept()


@contextmanager
def loaded(parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Parameters as a cell's function gets them: with models loaded, and copies of what can be changed.

    A loaded model that is another one afterwards, by its weights or what is held on it, is not kept.

    >>> with loaded({"model": Pretrained("deductor-5k"), "seed": 0}) as own:
    ...     own["model"].name
    'deductor-5k'
    """
    own = {name: value.load() if isinstance(value, Pretrained) else copied(value) for name, value in parameters.items()}
    kept = _KEPT.loaded if any(isinstance(value, Pretrained) for value in parameters.values()) else None
    before = None if kept is None else state(kept)
    try:
        yield own
    finally:
        if kept is not None and state(kept) != before and _KEPT.loaded is kept:
            _KEPT.forget()


def state(model: Model) -> tuple[str | None, str | None]:
    """What a cell may have changed of a model: what is held on it, and its content.

    Weights that are offloaded to a disk have no content to look at.
    """
    told = held(model)
    away = any(tensor.is_meta for _, tensor in tensors_of(model.hf))
    return told, None if away else fingerprint(model)


def copied(value: Any) -> Any:
    """A value that a cell may change while other cells keep theirs; models and functions are the same.

    >>> given = [[1]]
    >>> copied(given)[0].append(2); given
    [[1]]
    """
    if type(value) in (list, tuple, set):
        return type(value)(copied(each) for each in value)
    if type(value) is dict:
        return {key: copied(each) for key, each in value.items()}
    if isinstance(value, Tensor):
        return value.clone() if value.grad_fn is not None else copy.deepcopy(value)
    if isinstance(value, Model) or callable(value):
        return value
    return copy.deepcopy(value)


def _content(folder: Path) -> str:
    digest = hashlib.sha256()
    # Tokenizers, templates and code decide outputs too, and lie where a model's author put them.
    kept = (path for path in folder.rglob("*") if path.is_file())
    for path in sorted(path for path in kept if not _IGNORED & set(path.relative_to(folder).parts)):
        with path.open("rb") as file:
            digest.update(
                f"{path.relative_to(folder).as_posix()!a} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode()
            )
    return digest.hexdigest()


def _commit(name: str, revision: str | None) -> str:
    # The hub's client takes a while to import, and only hub ids need it.
    from huggingface_hub import HfApi, try_to_load_from_cache

    told = name if revision is None else f"{name}@{revision}"
    try:
        commit = HfApi().model_info(name, revision=revision, timeout=10).sha
    except Exception as error:  # offline, refused, or not there: what was downloaded before may do
        found = try_to_load_from_cache(name, "config.json", revision=revision)
        if not isinstance(found, str):
            raise SweepError(
                f"the commit of {told!r} could not be asked of the hub ({type(error).__name__}), and nothing of it is "
                "on this machine: give the whole commit as revision, download it first, or give a folder"
            ) from error
        commit = Path(found).parent.name
    if commit is None:
        raise SweepError(f"the hub tells no commit of {told!r}: give the whole commit as revision")
    return commit
