"""Settings in which configs differ: which are told, and which can change what is computed."""

import pytest
from transformers import GPTNeoXConfig, LlamaConfig, Qwen2Config

from circuitkit.sfn.merges.settings import differences

DECODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def names(first, second, computed=None):
    found = differences(first, second)
    return [each.setting for each in found if computed is None or each.computed == computed]


def test_a_config_does_not_differ_from_itself():
    assert differences(LlamaConfig(**DECODER), LlamaConfig(**DECODER)) == ()


@pytest.mark.parametrize(
    ("config", "changed", "setting"),
    [
        (LlamaConfig, {"rms_norm_eps": 1e-5}, "rms_norm_eps"),
        (LlamaConfig, {"hidden_act": "gelu"}, "hidden_act"),
        (LlamaConfig, {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, "rope_parameters.rope_theta"),
        (LlamaConfig, {"max_position_embeddings": 4096}, "max_position_embeddings"),
        (Qwen2Config, {"use_sliding_window": True}, "use_sliding_window"),
        (GPTNeoXConfig, {"use_parallel_residual": False}, "use_parallel_residual"),
    ],
)
def test_what_changes_the_computation_is_told_as_such(config, changed, setting):
    a, b = config(**DECODER), config(**DECODER, **changed)
    assert setting in names(a, b, computed=True)
    told = next(each for each in differences(a, b) if each.setting == setting)
    assert str(told) == f"{setting} ({told.a!r} and {told.b!r})" and told.a != told.b


def test_an_unknown_setting_counts_as_computed_with():
    a, b = LlamaConfig(**DECODER), LlamaConfig(**DECODER, a_scale_of_its_own=0.5)
    assert names(a, b, computed=True) == ["a_scale_of_its_own"]


def test_what_trains_or_decodes_is_told_and_does_not_count():
    changed = {"attention_dropout": 0.1, "eos_token_id": 7, "use_cache": False, "tie_word_embeddings": True}
    a, b = LlamaConfig(**DECODER), LlamaConfig(**DECODER, **changed, architectures=["Other"], dtype="bfloat16")
    assert names(a, b, computed=True) == []
    assert names(a, b) == sorted(changed)
