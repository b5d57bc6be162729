"""Loading a model by name: an embedded one, a planted one, a folder, or a hub id."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from circuitkit.model.model import Model


class LoadError(OSError):
    """A model that cannot be loaded from where it was said to be."""


def load(
    name: str | Path,
    *,
    device_map: Any = None,
    dtype: Any = None,
    revision: str | None = None,
    **settings: Any,
) -> Model:
    """Load a model and its tokenizer.

    Args:
        name: an embedded model ("deductor-130k", "deductor-130k-base"), a planted one ("planted-induction-gpt2"), a
            folder, or a hub id.
        device_map, dtype, revision, settings: as in `transformers.AutoModelForCausalLM.from_pretrained`.

    Raises:
        LoadError: there is no model of that name, or the folder holds no weights.

    >>> load("deductor-130k").d_model
    64
    """
    from circuitkit.model import embedded, planted

    text = str(name)
    if text.startswith("planted-"):
        plant = planted.build(text)
        return Model(plant.model, plant.tokenizer, name=text)
    where: str | Path = embedded.path(text) if text.startswith("deductor-") else name
    if isinstance(where, Path) or Path(where).is_dir():
        _check_folder(Path(where))
    # transformers takes seconds to import and most of circuitkit does not need it.
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        hf: Any = AutoModelForCausalLM.from_pretrained(
            where, device_map=device_map, revision=revision or "main", **({"dtype": dtype} if dtype else {}), **settings
        )
    except (OSError, SafetensorError) as error:
        raise LoadError(f"no model could be loaded from {text!r}: {error}") from error
    hf.eval()
    code = {"trust_remote_code": settings["trust_remote_code"]} if "trust_remote_code" in settings else {}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(where, revision=revision or "main", **code)
    except (OSError, ValueError, ImportError) as error:
        tokenizer = None
        warnings.warn(f"{text!r} came without a tokenizer ({error}): give it token ids", stacklevel=2)
    else:
        tokenizer.padding_side = "left"
    return Model(hf, tokenizer, name=text, revision=revision)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise LoadError(f"there is no model folder {folder}")
    if not (folder / "config.json").is_file():
        raise LoadError(f"{folder} is not a model folder: it has no config.json")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise LoadError(
            f"{folder} holds a config.json but no weights (no *.safetensors or *.bin): save them there with "
            "model.save_pretrained, or give the folder that has them"
        )
