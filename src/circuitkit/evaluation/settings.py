"""What an evaluation was run with: what a run that goes on in its folder has to share with it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuitkit.evaluation.asking import Asking
from circuitkit.evaluation.decoding import Decoding
from circuitkit.evaluation.errors import EvaluationError
from circuitkit.evaluation.writers import ByBatch
from circuitkit.evaluation.writing import end_tokens
from circuitkit.model.fingerprint import content_digest
from circuitkit.model.telling import UntoldError
from circuitkit.run.interventions import Intervention, Interventions
from circuitkit.studies.code import UnhashableError
from circuitkit.studies.identity import Identity
from circuitkit.writing import write_json

if TYPE_CHECKING:
    from circuitkit.model import Model

SETTINGS = "settings.json"


def settings_of(
    model: Model,
    asking: Asking,
    decoding: Decoding,
    interventions: Interventions | ByBatch,
    max_new_tokens: int,
) -> dict[str, Any]:
    """What decides each response, as JSON; prompts count by themselves, since each response is kept with its own.

    Raises:
        EvaluationError: an intervention cannot be told by its content.
    """
    held = [each for session in model.sessions for each in session.interventions]
    return {
        "model": model.name,
        "weights": weights_told(model),
        "task": asking.task.name,
        "stop": list(asking.task.stop),
        "end tokens": sorted(end_tokens(model)),
        "shots": asking.shots,
        "chat": asking.chat,
        "think": asking.think,
        "decoding": decoding.settings,
        "max_new_tokens": max_new_tokens,
        "interventions": interventions_told(interventions, "interventions"),
        "held on the model": interventions_told(held, "an open context"),
    }


def weights_told(model: Model) -> str:
    """The hash of all weights; where they cannot be read, of the settings alone, which is warned of."""
    tensors = {}
    seen: set[int] = set()
    for name, tensor in model.hf.state_dict(keep_vars=True).items():
        if hasattr(tensor, "data_ptr") and id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor.detach()
    try:
        return content_digest(tensors)
    # Weights on the meta device or of a quantiser's own kind: what cannot be told then is said.
    except (UntoldError, NotImplementedError, RuntimeError) as error:
        warnings.warn(
            f"the weights of {model.name} cannot be read ({error}), so a run that goes on in this folder cannot tell "
            "whether they are the same",
            stacklevel=2,
        )
        return "not read"


def interventions_told(interventions: Interventions | ByBatch, what: str) -> Any:
    """What interventions do, as JSON by which a later run is held against an earlier one.

    Raises:
        EvaluationError: one cannot be told by its content.
    """
    identity = Identity()
    try:
        if callable(interventions):
            return {"by batch": getattr(interventions, "__qualname__", ""), "code": identity.digest(interventions)}
        return [_intervention(each, identity) for each in interventions]
    except UnhashableError as error:
        raise EvaluationError(
            f"{what} cannot be told from others by what they hold ({error}), so a run that goes on could not check "
            "them: give a function of a module, or leave out"
        ) from error


def _intervention(each: Intervention, identity: Identity) -> dict[str, str]:
    value = each.value if isinstance(each.value, float | int) else identity.digest(each.value)
    return {"does": f"{each.operation} {each.site} ({each.during})", "with": str(value), "all": identity.digest(each)}


def check_same(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a first run into its folder, and hold those of a later one against them.

    Raises:
        EvaluationError: they differ; what differs is named.
    """
    path = folder / SETTINGS
    if not path.exists():
        if (folder / "responses.jsonl").exists():
            raise EvaluationError(
                f"{folder} holds responses without {SETTINGS}, which says what of: give another folder"
            )
        write_json(path, settings)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EvaluationError(f"{path} cannot be read ({error}): put it back, or give another folder") from error
    now = json.loads(json.dumps(settings))
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if differing:
        said = "; ".join(f"{name} was {_short(before.get(name))} and is {_short(now.get(name))}" for name in differing)
        raise EvaluationError(f"{folder} holds an evaluation of other settings: {said}. Give another folder")


def _short(value: Any, most: int = 80) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else text[: most - 1] + "…"


def check_prompts(folder: Path, prompts: Mapping[str, str], kept: Sequence[tuple[str, str]]) -> None:
    """Refuse a folder whose responses answer other prompts.

    Raises:
        EvaluationError: the prompt of an item was another; the item is named.
    """
    for key, prompt in kept:
        if key in prompts and prompts[key] != prompt:
            raise EvaluationError(
                f"{folder} holds a response to another prompt of item {key!r}, as the task has changed: give another "
                "folder"
            )
