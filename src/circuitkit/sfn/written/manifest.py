"""What a written checkpoint says of itself: where it comes from, and what changed, tensor by tensor."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuitkit.sfn.errors import SfnError
from circuitkit.sfn.written.changes import Change
from circuitkit.showing import Shown

if TYPE_CHECKING:
    import pandas as pd

    from circuitkit.sfn.streams.checkpoint import Checkpoint

NAME = "manifest.json"
"""Its file, beside the weights."""

_FORMAT = 1


class ManifestError(SfnError):
    """A manifest that cannot be read, or a checkpoint that is not what its manifest says."""


@dataclass(frozen=True, repr=False)
class Manifest(Shown):
    """The changes of a written checkpoint, and its provenance.

    Attributes:
        told: the kind ("merge", "destroy"), the sources with their revisions, what was asked for, settings in which
            the sources differ, library versions, command and time.
        changes: of the tensors that were asked for; all others are the base's, byte for byte.
        copied: how many tensors those others are.
        copied_bytes: and how many bytes.
    """

    told: Mapping[str, Any]
    changes: tuple[Change, ...]
    copied: int
    copied_bytes: int

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each tensor that was asked for, with hashes, norms, and what its edit says."""
        import pandas as pd

        told = ("tensor", *(field.name for field in fields(Change) if field.name not in ("tensor", "told")))
        rows = [{name: getattr(change, name) for name in told} | dict(change.told) for change in self.changes]
        return pd.DataFrame(rows, columns=None if rows else list(told))

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        plain = {
            "format": _FORMAT,
            **self.told,
            "copied": {"tensors": self.copied, "bytes": self.copied_bytes},
            "changes": [_plain(change) for change in self.changes],
        }
        (folder / NAME).write_text(json.dumps(plain, indent=1, allow_nan=False, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> Manifest:
        """Read the manifest of a checkpoint's folder.

        Raises:
            ManifestError: there is none, or it is spoiled.
        """
        path = Path(folder) / NAME
        try:
            plain = json.loads(path.read_bytes())
            if plain.pop("format") != _FORMAT:
                raise ManifestError(f"{path} is of another format than this circuitkit reads ({_FORMAT})")
            copied, changes = plain.pop("copied"), plain.pop("changes")
            return cls(plain, tuple(_change(each) for each in changes), copied["tensors"], copied["bytes"])
        except FileNotFoundError:
            raise ManifestError(f"{folder} has no {NAME}: it was not written by merge or destroy") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, ManifestError):
                raise
            raise ManifestError(f"{path} is spoiled ({type(error).__name__}: {error})") from error

    def verify(self, folder: str | Path | Checkpoint, base: str | Path | Checkpoint | None = None) -> None:
        """Hash a checkpoint's weights again, and compare.

        Args:
            folder: of the checkpoint that this is the manifest of.
            base: what it was made from; then what was copied is compared too.

        Raises:
            ManifestError: a tensor is not what this manifest says; it is named.
        """
        from circuitkit.sfn.streams.checkpoint import Checkpoint

        there = Checkpoint.open(folder)
        for change in self.changes:
            if change.tensor not in there.tensors:
                raise ManifestError(f"{there.name} has no {change.tensor}, which its manifest says was written")
            if _sha256(there, change.tensor) != change.sha256_after:
                raise ManifestError(
                    f"{change.tensor} of {there.name} is not what its manifest says: it was changed since"
                )
        if base is None:
            return
        origin, changed = Checkpoint.open(base), {change.tensor: change for change in self.changes}
        for name in origin.tensors:
            told = changed[name].sha256_before if name in changed else _sha256(there, name)
            if _sha256(origin, name) != told:
                raise ManifestError(f"{name} of {origin.name} is not what {there.name} was made from")


def _sha256(checkpoint: Checkpoint, name: str) -> str:
    from circuitkit.sfn.written.changes import raw

    digest = hashlib.sha256()
    for _, block in checkpoint.blocks(name):
        digest.update(raw(block))
    return digest.hexdigest()


def _plain(change: Change) -> dict[str, Any]:
    plain = asdict(change)
    # JSON has no NaN.
    return plain | {"cosine": None if math.isnan(change.cosine) else change.cosine}


def _change(plain: Mapping[str, Any]) -> Change:
    told: dict[str, Any] = dict(plain)
    told["roles"], told["shape"] = tuple(told["roles"]), tuple(told["shape"])
    return Change(**told | {"cosine": math.nan if told["cosine"] is None else told["cosine"]})
