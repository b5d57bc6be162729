"""A model by name, as a cell's parameter: loaded where the cell runs, and kept there for the next."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from circuitkit.model import Model, load
from circuitkit.studies.errors import SweepError

_WEIGHTS = ("*.safetensors", "*.bin", "*.json", "*.model")


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
        if self.name.startswith(("deductor-", "planted-")) or self.revision is not None:
            return self
        if Path(self.name).is_dir():
            return replace(self, content=_content(Path(self.name)))
        return replace(self, revision=_commit(self.name))

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision[:12]}"


class _Kept:
    def __init__(self) -> None:
        self.of: Pretrained | None = None
        self.loaded: Model | None = None

    def model(self, wanted: Pretrained) -> Model:
        if self.loaded is None or self.of != wanted:
            # The one before makes room first.
            self.of = self.loaded = None
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


def loaded(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as a cell's function gets them: with models loaded.

    >>> loaded({"model": Pretrained("deductor-5k"), "seed": 0})["model"].name
    'deductor-5k'
    """
    return {name: value.load() if isinstance(value, Pretrained) else value for name, value in parameters.items()}


def _content(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _WEIGHTS for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _commit(name: str) -> str:
    # The hub's client takes a while to import, and only hub ids need it.
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        commit = HfApi().model_info(name, timeout=10).sha
    except Exception as error:  # offline, refused, or not there: what was downloaded before may do
        found = try_to_load_from_cache(name, "config.json")
        if not isinstance(found, str):
            raise SweepError(
                f"the commit of {name!r} could not be asked of the hub ({type(error).__name__}), and nothing of it is "
                "on this machine: name a revision, download it first, or give a folder"
            ) from error
        commit = Path(found).parent.name
    if commit is None:
        raise SweepError(f"the hub tells no commit of {name!r}: name a revision")
    return commit
