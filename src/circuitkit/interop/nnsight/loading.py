"""Loading a model for nnsight to run: its config and tokenizer come here, its weights only where nnsight runs here."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from circuitkit.interop.nnsight.engine import NnsightModel
from circuitkit.model.loading import LoadError


def load(
    name: str,
    where: str | Path,
    *,
    engine: str | None,
    remote: bool | str,
    dtype: Any = None,
    revision: str | None = None,
    **settings: Any,
) -> NnsightModel:
    """See `circuitkit.load`; `where` is the hub id or the folder.

    Raises:
        LoadError: an unknown engine, a folder that NDIF cannot have, or nothing that could be loaded.
    """
    if engine != "nnsight":
        raise LoadError(f"there is no engine {engine!r}: the one beside transformers is engine='nnsight'")
    if not (isinstance(remote, bool) or remote == "local" or remote.startswith(("http://", "https://"))):
        raise LoadError(f"remote is False, True, 'local' or a host's http address, not {remote!r}")
    local = Path(where).is_dir()
    if remote is True and local:
        raise LoadError(
            f"{name!r} is a folder here, and NDIF runs models of the hub: give a hub id, or "
            "remote='local' to try the way"
        )
    from nnsight import TransformersModel
    from transformers import AutoTokenizer

    settings = {"dtype": dtype, **settings} if dtype is not None else dict(settings)
    if not local:
        settings["revision"] = revision or "main"
    code = {"trust_remote_code": settings["trust_remote_code"]} if "trust_remote_code" in settings else {}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(where, revision=revision or "main", **code)
        tokenizer.padding_side = "left"
        with warnings.catch_warnings():
            # A module named like something that nnsight serves is renamed there; sites are found by paths.
            warnings.filterwarnings("ignore", message="Module .* has a submodule named")
            traced = TransformersModel(str(where), task="text-generation", tokenizer=tokenizer, **settings)
    except (OSError, ValueError, ImportError) as error:
        raise LoadError(f"no model could be loaded from {name!r} for nnsight: {error}") from error
    commit = None if local else revision or getattr(traced._module.config, "_commit_hash", None)
    return NnsightModel(traced, tokenizer, remote=remote, name=name, revision=commit)
