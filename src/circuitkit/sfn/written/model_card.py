"""The README.md of a written checkpoint: what it is and what it was made from, in a few lines, and no claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from circuitkit.sfn.written.manifest import NAME as MANIFEST
from circuitkit.sfn.written.manifest import Manifest

NAME = "README.md"

_KINDS = {"merge": "A merge: parts of other models put into", "destroy": "Parts destroyed in"}
_LICENCE = ("license", "license_name", "license_link")
_SHORT = ("base", "how", "modules", "layers", "heads", "biases", "sigma", "seed", "left_out")
"""What was asked for, in the manifest's words and in the order in which the card has it."""


def write_model_card(folder: Path, name: str, manifest: Manifest, base: Path) -> None:
    """Write the card of a checkpoint.

    Args:
        folder: where it is written.
        name: of the checkpoint.
        manifest: what it is made from, and what was changed.
        base: the folder that it is made from, whose card's licence is kept.
    """
    from huggingface_hub import metadata_save

    kind = str(manifest.told["kind"])
    card = folder / NAME
    card.write_text("\n".join(_lines(name, kind, manifest)) + "\n", encoding="utf-8")
    metadata_save(card, {**_licence(base / NAME), "library_name": "transformers", "tags": ["circuitkit", kind]})


def _lines(name: str, kind: str, manifest: Manifest) -> Iterator[str]:
    told = manifest.told
    yield f"# {name}\n"
    yield f"{_KINDS.get(kind, 'Made from')} {_source(told['model'], told['revision'])}."
    yield f"Written by circuitkit {told['versions']['circuitkit']}; nothing is known here of how well it does.\n"
    for donor in told.get("donors", ()):
        revision = next((each["revision"] for each in told["sources"] if each["name"] == donor["name"]), None)
        yield f"- from {_source(donor['name'], revision)}, weight {donor['weight']:g}"
    yield from (f"- {label.replace('_', ' ')}: {_plain(told[label])}" for label in _SHORT if told.get(label))
    yield f"- changed tensors: {len(manifest.changes)}; copied as they are: {manifest.copied}"
    yield f"- command: {_code(told['command'])}\n"
    yield f"`{MANIFEST}` has each changed tensor with hashes before and after, norms and cosine, sources and versions."
    if behind := told.get("not_copied"):
        yield f"Files that told of {_code(told['model'])} were not copied: {_plain(behind)}."


def _source(name: str, revision: str | None) -> str:
    return _code(name) + (f" at revision {_code(revision)}" if revision else "")


def _plain(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        # Heads are pairs.
        told = (f"head {each[1]} of layer {each[0]}" if isinstance(each, list) else str(each) for each in value)
        return ", ".join(told)
    return "yes" if value is True else str(value)


def _code(text: str) -> str:
    # A backquote in it would end it.
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _licence(card: Path) -> dict[str, Any]:
    """What a model card says of the licence, which goes with the weights; nothing where it says nothing readable."""
    import yaml  # type: ignore[import-untyped]  # it comes with huggingface_hub, without types
    from huggingface_hub import metadata_load

    try:
        told = metadata_load(card) or {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return {name: told[name] for name in _LICENCE if name in told}
