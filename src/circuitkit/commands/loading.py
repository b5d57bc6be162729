"""How a command's model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from circuitkit.model import Model

_SMALL = 10_000_000
LOADING = Group("Loading", sort_key=9)


@Parameter(name="*")
@dataclass(frozen=True)
class LoadAs:
    """Loading options, the same for every verb; each as in `transformers`."""

    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"] | None, Parameter(group=LOADING)] = None
    """Precision of the weights; the checkpoint's own if not given."""

    device_map: Annotated[str | None, Parameter(group=LOADING)] = None
    """Where the weights go, such as cuda or auto; the CPU if not given."""

    attn_implementation: Annotated[str | None, Parameter(group=LOADING)] = None
    """Which attention the model runs, such as sdpa, eager or flash_attention_2."""

    revision: Annotated[str | None, Parameter(group=LOADING)] = None
    """Branch, tag or commit of the model on the hub."""

    trust_remote_code: Annotated[bool, Parameter(group=LOADING, negative="")] = False
    """Run model code that comes with the weights."""

    plugin: Annotated[Path | None, Parameter(group=LOADING)] = None
    """A file of circuitkit sfn merge --plugin: modules of another model, which are put into this one."""


def load(model: str, load_as: LoadAs | None = None) -> Model:
    """Load a model by name as `circuitkit.load` does, with a command's options; a small one runs in one thread.

    Raises:
        LoadError: there is no model of that name, or the folder holds no weights.
        PluginError: the plug-in is damaged, or of another model.

    >>> load("planted-induction-llama").name
    'planted-induction-llama'
    """
    # Help is told without torch.
    import torch
    from transformers.utils import logging

    from circuitkit.model import embedded
    from circuitkit.model import load as load_model

    options = load_as or LoadAs()
    settings: dict[str, Any] = {}
    if options.attn_implementation is not None:
        settings["attn_implementation"] = options.attn_implementation
    if options.trust_remote_code:
        settings["trust_remote_code"] = True
    if options.plugin is not None:
        settings["plugin"] = options.plugin
    # What the package carries is there at once; a bar is for weights of gigabytes.
    shown = logging.is_progress_bar_enabled()
    if model in embedded.names():
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    try:
        loaded = load_model(
            model, device_map=options.device_map, dtype=options.dtype, revision=options.revision, **settings
        )
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # as above
    # Threads that share a tensor of some thousand numbers wait for each other for longer than they compute.
    if sum(parameter.numel() for parameter in loaded.hf.parameters()) < _SMALL:
        torch.set_num_threads(1)
    return loaded
