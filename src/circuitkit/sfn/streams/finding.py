"""Where a checkpoint lies: a folder, an embedded model's, or what the hub keeps or kept on this machine."""

from __future__ import annotations

from pathlib import Path

from circuitkit.sfn.errors import CheckpointError

_OTHER_FORMATS = (
    *("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.ot", "*.gguf", "*.onnx", "*.onnx_data", "*.tflite"),
    *("original/*", "metal/*", "onnx/*", "consolidated*.safetensors"),
)
"""What hubs keep beside the weights that are read, and which would be downloaded for nothing."""


def found(source: str | Path, revision: str | None) -> tuple[Path, str | None]:
    """A checkpoint's folder, and the commit that it is of where it comes from the hub.

    Raises:
        CheckpointError: there is none, or it cannot be downloaded.
    """
    if not isinstance(source, str | Path):
        raise CheckpointError(
            "a checkpoint is a folder, a hub id, an embedded model's name or a ck.Model, and a "
            f"{type(source).__name__} was given: put a transformers model into ck.Model(hf_model, tokenizer)"
        )
    text = str(source)
    if Path(source).is_file():
        raise CheckpointError(f"{text} is a file: give the model's folder, {Path(source).parent}")
    if Path(source).is_dir():
        return _without_revision(Path(source), text, revision), None
    if text.startswith("deductor-"):
        from circuitkit.model import embedded

        try:
            return _without_revision(embedded.path(text), text, revision), None
        except ValueError as error:
            raise CheckpointError(str(error)) from error
    if text.startswith("planted-"):
        raise CheckpointError(f"{text!r} is built, not stored: give the model itself, ck.load({text!r})")
    if isinstance(source, Path) or text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise CheckpointError(f"there is no model folder {text}")
    return _downloaded(text, revision)


def _downloaded(name: str, revision: str | None) -> tuple[Path, str | None]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(snapshot_download(name, revision=revision, ignore_patterns=list(_OTHER_FORMATS)))
    except HFValidationError as error:
        raise CheckpointError(f"{name!r} is neither a folder nor a model's id on the hub ({error})") from error
    except (OSError, ValueError) as error:
        at = "" if revision is None else f" at revision {revision!r}"
        raise CheckpointError(
            f"{name!r}{at} is no folder, and could not be had from the hub ({_first_line(error)}): give a folder, "
            "download it where there is a connection, or log in where it is gated"
        ) from error
    return folder, folder.name


def _without_revision(folder: Path, name: str, revision: str | None) -> Path:
    if revision is not None:
        raise CheckpointError(f"{name!r} is not on the hub and has no revision {revision!r}: leave it out")
    return folder


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
