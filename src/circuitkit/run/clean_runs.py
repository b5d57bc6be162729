"""Clean runs kept on disk: what a model gave without interventions, read again instead of run again.

An entry is one safetensors file, named by the hash of what decides its content: the model (see
`circuitkit.model.fingerprint`), the tokens and their mask, the sites, and the position of the logits. Files are put in
place whole, under a lock that the processes of a machine share, and those unused for longest make room for new ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from torch import Tensor

from circuitkit import __version__
from circuitkit.model.fingerprint import content_digest, fingerprint
from circuitkit.model.held import held
from circuitkit.model.site import Site
from circuitkit.model.telling import UntoldError
from circuitkit.model.tokens import Tokens
from circuitkit.records import data_hash, whole_file
from circuitkit.run.cache import Cache
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from circuitkit.model.model import Model
    from circuitkit.run.run import Run

_FORMAT = "circuitkit-clean-run-1"
_LOGITS = Site(module="logits")
_ENTRY = re.compile(r"[0-9a-f]{64}\.(safetensors|damaged)")
_BESIDE = re.compile(r"\.[0-9a-f]{64}\.safetensors\..+")
_ABANDONED = 3600.0
"""Seconds after which a file that was being written is taken to be a dead process's."""


class CleanRunsError(ValueError):
    """A folder or a budget that clean runs cannot be kept in."""


class CleanRuns(Shown):
    """A folder of clean runs, turned on by `Model(…, clean_runs=folder)` or `ck.load(…, clean_runs=folder)`.

    `Model.run` looks here when it has no interventions and keeps no gradients: the source runs of sweeps, means over
    reference prompts, captures. What is read is, bit for bit, what was run. While hooks, contexts or adapters are on
    the model, or what it keeps cannot be told by its content, nothing is read or kept.

    Attributes:
        folder: where the files are; several processes may use it at once.
        budget: bytes that files may take after this process has written one.
        hits, misses: runs that were read, and that were run and kept.
        passed_over: runs that were neither, by the reason.

    Raises:
        CleanRunsError: the folder is a file or cannot be made, the budget is not positive, or the system has no file
            locks.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = ck.load("planted-induction-llama", clean_runs=folder)
    ...     a, b = (model.run([[1, 2, 3]], capture=["z"]) for _ in range(2))
    ...     model.clean_runs.hits, torch.equal(a.logits, b.logits)
    (1, True)
    """

    def __init__(self, folder: str | Path, budget: int = 10 * 2**30) -> None:
        if budget <= 0:
            raise CleanRunsError(f"the budget is a number of bytes above 0, not {budget}")
        if not _has_locks():
            raise CleanRunsError("this system has no file locks (fcntl), without which a folder cannot be shared")
        self.folder, self.budget = Path(folder), budget
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CleanRunsError(f"{self.folder} cannot be a folder of clean runs: {error}") from error
        self.hits = self.misses = 0
        self.passed_over: Counter[str] = Counter()

    @classmethod
    def at(cls, where: CleanRuns | str | Path | None) -> CleanRuns | None:
        """Clean runs as a user names them: themselves, a folder, or none."""
        return where if where is None or isinstance(where, CleanRuns) else cls(where)

    @property
    def size(self) -> int:
        """Bytes that the files take now."""
        return sum(size for _, size, _ in self._files())

    def clear(self) -> None:
        """Delete every file that is kept here, and no other."""
        with self._locked():
            for path, _, _ in self._files():
                path.unlink(missing_ok=True)

    def read_or_run(
        self, model: Model, tokens: Tokens, sites: Sequence[Site], logits_at: int | None, compute: Callable[[], Run]
    ) -> Run:
        """A clean run, from its file if there is one, and else computed and kept.

        Args:
            model: the model.
            tokens: the prompts.
            sites: what is captured.
            logits_at: the position whose logits are computed; all of them if None.
            compute: runs the model.
        """
        if (reason := held(model)) is not None:
            self.passed_over[reason] += 1
            return compute()
        try:
            key = self._key(model, tokens, sites, logits_at)
        except UntoldError as error:
            self.passed_over[str(error)] += 1
            return compute()
        path = self.folder / f"{key}.safetensors"
        if (kept := self._read(path, key)) is not None:
            self.hits += 1
            return self._as_run(kept, model, tokens, sites)
        run = compute()
        self._keep(path, key, run)
        return run

    @staticmethod
    def _key(model: Model, tokens: Tokens, sites: Sequence[Site], logits_at: int | None) -> str:
        asked = [_FORMAT, fingerprint(model), data_hash([tokens.ids, tokens.mask.long()]), logits_at]
        return hashlib.sha256(json.dumps([*asked, sorted(map(str, sites))]).encode()).hexdigest()

    # Reading

    def _read(self, path: Path, key: str) -> dict[Site, Tensor] | None:
        """The values of an entry, or None where it is not there; one that is damaged is set aside."""
        if not path.exists():
            return None
        try:
            cache = Cache.load(path)
            values = {site: cache[site] for site in cache}
            whole = cache.metadata["digest"] == _digest(key, cache.metadata["devices"], values)
            devices = json.loads(cache.metadata["devices"])
        except (ValueError, KeyError, SafetensorError, OSError) as error:
            self._set_aside(path, f"{type(error).__name__}: {error}")
            return None
        if not whole:
            self._set_aside(path, "its content is not what was written, or belongs to another name")
            return None
        # Another process may have evicted it meanwhile.
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)
        # Copies, because a mapped file that is deleted on another machine can no longer be read.
        return {site: value.to(devices[str(site)], copy=True) for site, value in values.items()}

    def _set_aside(self, path: Path, why: str) -> None:
        aside = path.with_suffix(".damaged")
        try:
            path.replace(aside)
        except FileNotFoundError:
            # Evicted while it was being read.
            return
        warnings.warn(f"{path} is damaged ({why}); it was set aside as {aside.name}, and is run anew", stacklevel=2)

    @staticmethod
    def _as_run(kept: Mapping[Site, Tensor], model: Model, tokens: Tokens, sites: Sequence[Site]) -> Run:
        from circuitkit.run.run import Run

        values = {site: kept[site] for site in sites}
        # The same weights may have been run under another name.
        told = {"circuitkit": __version__, "model": model.name, "revision": model.revision or "", "interventions": ""}
        return Run(kept[_LOGITS], Cache(values, tokens.positions, tokens.lengths, told, model.n_layers), tokens)

    # Writing

    def _keep(self, path: Path, key: str, run: Run) -> None:
        values = {**{site: run.cache[site] for site in run.cache}, _LOGITS: run.logits}
        devices = json.dumps({str(site): str(value.device) for site, value in values.items()})
        metadata = {**run.cache.metadata, "digest": _digest(key, devices, values), "devices": devices}
        kept = Cache(values, run.cache.positions, run.cache.prompt_lengths, metadata, run.cache.n_layers)
        try:
            if sum(value.nbytes for value in values.values()) > self.budget:
                raise _TooLargeError
            with ExitStack() as lock, whole_file(path) as beside:
                kept.save(beside)
                size = beside.stat().st_size
                if size > self.budget:
                    raise _TooLargeError
                # Held until the file is in its place.
                lock.enter_context(self._locked())
                self._make_room(self.budget - size, path)
        except _TooLargeError:
            self.passed_over["it is larger than the budget"] += 1
            return
        except OSError as error:
            self.passed_over["it could not be written"] += 1
            warnings.warn(f"a clean run could not be kept in {self.folder} ({error}); going on without", stacklevel=2)
            return
        self.misses += 1

    def _make_room(self, room: int, besides: Path) -> None:
        """Delete what was unused for longest until the rest fits."""
        files = sorted(
            ((path, size, used) for path, size, used in self._files() if path != besides), key=lambda f: f[2]
        )
        taken = sum(size for _, size, _ in files)
        for path, size, _ in files:
            if taken <= room:
                break
            path.unlink(missing_ok=True)
            taken -= size
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if _BESIDE.fullmatch(path.name) and time.time() - path.stat().st_mtime > _ABANDONED:
                    shutil.rmtree(path, ignore_errors=True)

    def _files(self) -> Iterator[tuple[Path, int, int]]:
        """Each file, its bytes, and when it was last used; nothing that is not of this folder's making."""
        for path in self.folder.iterdir():
            if _ENTRY.fullmatch(path.name):
                # Others may be deleting meanwhile.
                with contextlib.suppress(FileNotFoundError):
                    told = path.stat()
                    yield path, told.st_size, told.st_mtime_ns

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes and threads from writing here; a process that dies lets go."""
        import fcntl

        with (self.folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def __repr__(self) -> str:
        return f"CleanRuns({str(self.folder)!r}, {self.hits} read, {self.misses} kept)"


class _TooLargeError(Exception):
    """Leaves a file unwritten."""


def _digest(key: str, devices: str, values: Mapping[Site, Tensor]) -> str:
    """What an entry's file must hold, under its name."""
    found = content_digest({str(site): value for site, value in values.items()})
    return hashlib.sha256(f"{key} {devices} {found}".encode()).hexdigest()


def _has_locks() -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    return hasattr(fcntl, "flock")
