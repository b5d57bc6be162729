"""lm-eval's model arguments as a model and interventions: `pretrained=deductor-130k,ablate=1.2+2.3`.

Sites are heads, written LAYER.HEAD, or TransformerLens names, with + between them. A single head is written L1H10,
since lm-eval reads 1.10 as the number 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from circuitkit.interop.lm_eval.errors import HarnessError
from circuitkit.model import load
from circuitkit.model.site import Site
from circuitkit.run.interventions import Intervention, knockout, scale, zero

if TYPE_CHECKING:
    from circuitkit.model import Model

OPERATIONS = ("ablate", "scale", "knockout")
_LOADING = ("dtype", "revision", "device_map", "attn_implementation", "trust_remote_code")
ASKING = (
    "batch_size",
    "max_batch_size",
    "max_length",
    "add_bos_token",
    "prefix_token_id",
    "truncation",
    "logits_cache",
    "softmax_dtype",
    "mixed_precision_dtype",
    "think_end_token",
    "enable_thinking",
    "chat_template_args",
)
"""Settings of lm-eval's `hf` model that say how it is asked."""


def loaded(arguments: Mapping[str, Any]) -> tuple[Model, list[Intervention], dict[str, Any]]:
    """Load the model that lm-eval's arguments name.

    Args:
        arguments: `pretrained`, a name that `circuitkit.load` takes; `ablate`, `scale`, `knockout`, see
            `interventions_of`; how it is loaded (`dtype`, `device`, `revision`, …); settings of lm-eval's `hf` model.

    Returns:
        The model, the interventions, and the settings that say how it is asked.

    Raises:
        HarnessError: no model is named, there is no such argument, or a site is not written as it has to be.
        LoadError: there is no such model.

    >>> model, held, settings = loaded({"pretrained": "deductor-130k", "ablate": "1.2+2.3", "batch_size": 4})
    >>> [str(each.site) for each in held], settings
    (['z[layer=1, head=2]', 'z[layer=2, head=3]'], {'batch_size': 4})
    """
    known = ("pretrained", "device", *OPERATIONS, *_LOADING, *ASKING)
    if unknown := [name for name in arguments if name not in known]:
        raise HarnessError(f"the circuitkit model has no argument {unknown[0]!r}; it has {', '.join(known)}")
    if "pretrained" not in arguments:
        raise HarnessError("no model is named: give pretrained=NAME, such as pretrained=deductor-130k")
    how = {name: arguments[name] for name in _LOADING if arguments.get(name) is not None}
    if arguments.get("device") is not None:
        how.setdefault("device_map", arguments["device"])
    model = load(str(arguments["pretrained"]), **how)
    settings = {name: arguments[name] for name in ASKING if name in arguments}
    return model, interventions_of(arguments), settings


def interventions_of(arguments: Mapping[str, Any]) -> list[Intervention]:
    """The interventions that arguments name.

    `ablate=1.2+2.3` puts zero in place of what heads write; `scale=1.2:0.5` multiplies it; `knockout=1.2:0` hides the
    token at position 0 from a head. In place of a head, `ablate` and `scale` take a TransformerLens name, such as
    blocks.2.hook_mlp_out.

    Raises:
        HarnessError: a site, factor or position is not written so.

    >>> [str(each.site) for each in interventions_of({"ablate": "L1H10+blocks.2.hook_mlp_out"})]
    ['z[layer=1, head=10]', 'mlp_out[layer=2]']
    >>> interventions_of({"scale": "1.2:0.5"})[0].value
    0.5
    """
    found = [zero(_site(word)) for word in _words("ablate", arguments)]
    for word in _words("scale", arguments):
        site, factor = _pair("scale", word, "1.2:0.5")
        found.append(scale(_site(site), _number("scale", factor, float)))
    for word in _words("knockout", arguments):
        head, key = _pair("knockout", word, "1.2:0")
        site_of_head = _head(head)
        if site_of_head is None:
            raise HarnessError(f"knockout hides keys from a head, written LAYER.HEAD:KEY, and not {word!r}")
        found.append(knockout(*site_of_head, keys=_number("knockout", key, int)))
    return found


def _words(name: str, arguments: Mapping[str, Any]) -> list[str]:
    given = arguments.get(name)
    if given is None:
        return []
    if not isinstance(given, str):
        raise HarnessError(
            f"lm-eval has read {name}={given} as a number, by which 1.1 and 1.10 are one: write a single head as "
            f"{name}=L1H10"
        )
    words = [word.strip() for word in given.split("+")]
    if not all(words):
        raise HarnessError(f"{name}={given} names nothing at one place: write {name}=1.2+2.3")
    return words


def _head(word: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d+)\.(\d+)|[Ll](\d+)[Hh](\d+)", word)
    if found is None:
        return None
    return int(found[1] or found[3]), int(found[2] or found[4])


def _site(word: str) -> Site:
    if (head := _head(word)) is not None:
        return Site("z", layer=head[0], head=head[1])
    try:
        return Site.parse(word)
    except ValueError as error:
        raise HarnessError(f"{word!r} is neither a head, such as 1.2, nor a site ({error})") from error


def _pair(name: str, word: str, example: str) -> tuple[str, str]:
    before, colon, behind = word.rpartition(":")
    if not colon:
        raise HarnessError(f"{name} wants something behind a colon, as in {name}={example}, and {word!r} has none")
    return before, behind


def _number(name: str, text: str, kind: type[int] | type[float]) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        raise HarnessError(f"{name} wants a number behind the colon, and {text!r} is none") from error
