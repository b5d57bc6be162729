"""Settings in which two models' configs differ: a graft brings weights along, and not how they are computed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# What only names a model, trains it, decodes with it, or tells of what is compared elsewhere. Whatever is not listed
# counts as computed with, so that an architecture's own settings are never passed over.
_NAMES = ("_name_or_path", "_commit_hash", "name_or_path", "transformers_version", "architectures", "auto_map", "dtype")
_NOT_COMPUTED = (
    *_NAMES,
    *("torch_dtype", "model_type", "vocab_size", "tie_word_embeddings", "quantization_config", "use_cache"),
    *("*_token_id", "*dropout*", "*_pdrop", "*drop_path*", "initializer_range", "*initializer*", "pretraining_tp"),
    *("id2label*", "label2id*", "num_labels", "problem_type", "finetuning_task", "task_specific_params*"),
    *("output_attentions", "output_hidden_states", "return_dict", "torchscript", "_attn_implementation*"),
    *("router_aux_loss_coef", "output_router_logits", "summary_*", "chunk_size_feed_forward"),
)


@dataclass(frozen=True)
class Difference:
    """A setting that two configs have otherwise.

    Attributes:
        setting: its name; a nested one's with dots.
        a, b: as JSON; None also where there is none.
        computed: whether it can change what a model computes from the same weights.
    """

    setting: str
    a: Any
    b: Any
    computed: bool

    def __str__(self) -> str:
        return f"{self.setting} ({self.a!r} and {self.b!r})"


def differences(a: PretrainedConfig, b: PretrainedConfig) -> tuple[Difference, ...]:
    """The settings in which two configs differ, in the order of their names; names of models and libraries left out.

    >>> from transformers import GPT2Config
    >>> [str(each) for each in differences(GPT2Config(), GPT2Config(layer_norm_epsilon=1e-6, bos_token_id=3))]
    ['bos_token_id (50256 and 3)', 'layer_norm_epsilon (1e-05 and 1e-06)']
    """
    first, second = _flat(a.to_dict()), _flat(b.to_dict())
    return tuple(
        Difference(name, first.get(name), second.get(name), not _matches(name, _NOT_COMPUTED))
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name) and not _matches(name, _NAMES)
    )


def _flat(plain: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{before}{name}.")
        else:
            found[f"{before}{name}"] = list(value) if isinstance(value, tuple) else value
    return found


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name.rsplit(".", 1)[-1], each) or fnmatchcase(name, each) for each in patterns)
