"""Loading a model by name: an embedded one, a planted one, a folder, or a hub id."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuitkit.model.model import Model

if TYPE_CHECKING:
    from circuitkit.run.clean_runs import CleanRuns


class LoadError(OSError):
    """A model that cannot be loaded from where it was said to be."""


def load(
    name: str | Path,
    *,
    device_map: Any = None,
    tp_plan: Any = None,
    dtype: Any = None,
    revision: str | None = None,
    clean_runs: CleanRuns | str | Path | None = None,
    engine: str | None = None,
    remote: bool | str = False,
    plugin: str | Path | None = None,
    any_base: bool = False,
    **settings: Any,
) -> Model:
    """Load a model and its tokenizer.

    Args:
        name: an embedded model ("deductor-130k", "deductor-130k-base"), a planted one ("planted-induction-gpt2"), a
            folder, or a hub id.
        device_map: "auto" spreads a model over the GPUs of one process and, where they are too small, the CPU's memory
            and the disk (`offload_folder`).
        tp_plan: "auto" divides it among the processes that `torchrun` started, by transformers' plan for its
            architecture; a dictionary changes the plan.
        dtype, revision, settings: as in `transformers.AutoModelForCausalLM.from_pretrained`. A planted
            model takes `dtype`, `attn_implementation` and one device ("auto" is the first GPU, if there is one). Only
            a hub id has revisions; where none is given, the model keeps the commit that was loaded.
        clean_runs: a folder in which runs without interventions are kept, and read again; see
            `circuitkit.run.CleanRuns`.
        engine: "nnsight" lets nnsight run it; see `circuitkit.interop.nnsight`.
        remote: of that engine: True runs the model on NDIF, a host's address there, "local" simulates the way.
        plugin: a file that `ck.sfn.save_plugin` wrote, which is put into the model; its name says so then.
        any_base: put it also into other weights than it was made for.

    Raises:
        LoadError: there is no model of that name, the folder holds no weights, `remote` came without an engine, or a
            setting is not one that such a model has.
        PluginError: the plug-in is damaged, or was made for another model; what differs is named.

    >>> load("deductor-130k").d_model
    64
    """
    text = str(name)
    elsewhere = engine is not None or bool(remote)
    if any_base and plugin is None:
        raise LoadError("any_base is about the base of a plug-in: give plugin=… with it")
    if plugin is not None:
        if elsewhere or tp_plan is not None:
            raise LoadError(
                "a plug-in is put into weights that are whole and here: leave engine, remote and tp_plan out"
            )
        given = {"device_map": device_map, "dtype": dtype, "revision": revision, "clean_runs": clean_runs}
        model = load(name, **given, **settings)
        # Plug-ins know models, and models know no more of them than this.
        from circuitkit.sfn.live.plugins import attach

        attach(model, plugin, any_base=any_base)
        return model
    if text.startswith("planted-"):
        if elsewhere:
            raise LoadError(f"{text!r} is built here, and runs here: leave engine and remote out")
        plant = _planted(text, device_map=device_map, tp_plan=tp_plan, dtype=dtype, revision=revision, **settings)
        return _keeping(plant, clean_runs)
    if remote and engine is None:
        raise LoadError(f"remote={remote!r} says where nnsight runs a model: give engine='nnsight' with it")
    where: str | Path = _embedded(text) if text.startswith("deductor-") else name
    if isinstance(where, Path) or Path(where).is_dir():
        _check_folder(Path(where))
        if revision is not None:
            raise LoadError(f"{text!r} is not on the hub and has no revision {revision!r}: leave it out")
    if elsewhere:
        if clean_runs is not None or tp_plan is not None:
            raise LoadError("clean_runs and tp_plan are for models that run here: leave them out")
        from circuitkit.interop.nnsight import loading as by_nnsight

        how = {"engine": engine, "remote": remote, "dtype": dtype, "revision": revision}
        return by_nnsight.load(text, where, **how, **({"device_map": device_map} if device_map else {}), **settings)
    # transformers takes seconds to import and most of circuitkit does not need it.
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    given = {
        **settings,
        **({"dtype": dtype} if dtype else {}),
        "device_map": device_map,
        "revision": revision or "main",
    }
    if tp_plan is not None:
        given["distributed_config"] = _division(text, tp_plan, given.pop("tp_size", None))
    try:
        hf: Any = AutoModelForCausalLM.from_pretrained(where, **given)
    except (OSError, SafetensorError) as error:
        raise LoadError(f"no model could be loaded from {text!r}: {error}") from error
    except (ValueError, RuntimeError) as error:
        if tp_plan is None:
            raise
        raise LoadError(
            f"{text!r} cannot be divided among processes: {error} A plan of your own is a dictionary, such as "
            "tp_plan={'model.layers.*.self_attn.q_proj': 'colwise', …, 'model.layers.*.self_attn.o_proj': 'rowwise'}; "
            "without one, device_map='auto' spreads the model over the GPUs of one process"
        ) from error
    _check_heads(text, hf)
    hf.eval()
    code = {"trust_remote_code": settings["trust_remote_code"]} if "trust_remote_code" in settings else {}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(where, revision=revision or "main", **code)
    except (OSError, ValueError, ImportError) as error:
        tokenizer = None
        warnings.warn(f"{text!r} came without a tokenizer ({error}): give it token ids", stacklevel=2)
    else:
        tokenizer.padding_side = "left"
    model = Model(hf, tokenizer, name=text, revision=revision or getattr(hf.config, "_commit_hash", None))
    return _keeping(model, clean_runs)


def _division(name: str, tp_plan: Any, tp_size: int | None) -> Any:
    """Transformers' settings for tensor parallelism over the processes there are."""
    import os

    import torch.distributed as dist
    from transformers.distributed.configuration_utils import DistributedConfig

    if tp_plan != "auto" and not isinstance(tp_plan, dict):
        raise LoadError(f"tp_plan is 'auto' or a dictionary of module names and styles, not {tp_plan!r}")
    started = dist.get_world_size() if dist.is_available() and dist.is_initialized() else os.environ.get("WORLD_SIZE")
    if started is None:
        raise LoadError(
            f"tp_plan divides {name!r} among processes, and this one is alone: start the script with "
            "torchrun --nproc_per_node N, or leave tp_plan out"
        )
    return DistributedConfig(tp_plan=tp_plan, tp_size=tp_size or int(started))


def _check_heads(name: str, hf: Any) -> None:
    """Refuse heads that do not come out even, which a model would only trip over while running."""
    if (processes := getattr(hf, "_tp_size", None) or 1) == 1:
        return
    projections = ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value")
    if not any(style == "colwise" and at.rsplit(".", 1)[-1] in projections for at, style in (hf.tp_plan or {}).items()):
        return
    config = hf.config.get_text_config()
    for setting in ("num_attention_heads", "num_key_value_heads"):
        count = getattr(config, setting, None)
        if isinstance(count, int) and count % processes:
            raise LoadError(
                f"{name!r} has {setting}={count}, which {processes} processes cannot share evenly: start a number of "
                "processes that divides it, or use device_map='auto'"
            )


def _keeping(model: Model, clean_runs: CleanRuns | str | Path | None) -> Model:
    if clean_runs is not None:
        from circuitkit.run.clean_runs import CleanRuns

        model.clean_runs = CleanRuns.at(clean_runs)
    return model


def _embedded(name: str) -> Path:
    from circuitkit.model import embedded

    try:
        return embedded.path(name)
    except ValueError as error:
        raise LoadError(str(error)) from error


def _planted(name: str, *, device_map: Any, dtype: Any, attn_implementation: Any = None, **refused: Any) -> Model:
    """A planted model, which is built and not loaded, with what can be set afterwards."""
    import torch

    from circuitkit.model import planted

    if unknown := {setting: value for setting, value in refused.items() if value is not None}:
        raise LoadError(f"{name!r} is built, not loaded, and does not take {', '.join(sorted(unknown))}: leave it out")
    try:
        plant = planted.build(name)
    except ValueError as error:
        raise LoadError(str(error)) from error
    hf: Any = plant.model
    if dtype is not None and dtype != "auto":
        precision = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        if not isinstance(precision, torch.dtype) or not precision.is_floating_point:
            raise LoadError(f"{name!r} has no precision {dtype!r}: give one such as torch.bfloat16, or 'auto'")
        hf = hf.to(precision)
    if device_map is not None:
        hf = hf.to(_one_device(name, device_map))
    if attn_implementation is not None:
        try:
            hf.set_attn_implementation(attn_implementation)
        except (ValueError, ImportError) as error:
            raise LoadError(f"{name!r} cannot run the attention {attn_implementation!r}: {error}") from error
    return Model(hf.eval(), plant.tokenizer, name=name)


def _one_device(name: str, device_map: Any) -> Any:
    """The device that a map names for a whole model."""
    import torch

    if isinstance(device_map, dict) and list(device_map) == [""]:
        device_map = device_map[""]
    if device_map == "auto":
        device_map = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device_map)
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise LoadError(f"{name!r} goes on one device, 'auto' or one such as 'cuda', not {device_map!r}") from error
    return device


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
