"""How much a LoRA trains: peft's count on the meta device, the formula, and both by hand."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig

from circuitkit.training.errors import TrainingError
from circuitkit.training.shares import LINEAR, QWEN2_5, lora_share, lora_share_by_formula, qwen2_5

PUBLISHED = {
    "Qwen2.5-1.5B": (1_154_048, 1_543_714_304, "0.075"),
    "Qwen2.5-7B": (2_523_136, 7_615_616_512, "0.033"),
    "Qwen2.5-14B": (4_300_800, 14_770_033_664, "0.029"),
    "Qwen2.5-32B": (8_388_608, 32_763_876_352, "0.026"),
}


def by_hand(config: LlamaConfig, rank: int, roles: tuple[str, ...]) -> int:
    """r (in + out), layer by layer, from the configuration alone."""
    width, wide = config.hidden_size, config.intermediate_size
    heads = config.num_attention_heads * config.head_dim
    shared = config.num_key_value_heads * config.head_dim
    sides = {
        "q_proj": (width, heads),
        "k_proj": (width, shared),
        "v_proj": (width, shared),
        "o_proj": (heads, width),
        "gate_proj": (width, wide),
        "up_proj": (width, wide),
        "down_proj": (wide, width),
    }
    return config.num_hidden_layers * rank * sum(sum(sides[role]) for role in roles)


@pytest.mark.parametrize("name", QWEN2_5)
def test_rank_one_on_qwens_shapes_is_what_peft_counts(name: str) -> None:
    found, formula = lora_share(qwen2_5(name)), lora_share_by_formula(qwen2_5(name))
    trainable, total, share = PUBLISHED[name]
    assert found == formula and (found.trainable, found.total) == (trainable, total)
    assert f"{found.per_cent:.3f}" == share and f"({share} %)" in str(found)


@given(
    st.sampled_from([(2, 1), (4, 2), (4, 4)]),
    st.integers(1, 3),
    st.integers(1, 9),
    st.lists(st.sampled_from(LINEAR), min_size=1, unique=True),
)
@settings(max_examples=12)
def test_peft_and_the_formula_agree_on_any_rank_and_roles(
    heads: tuple[int, int], layers: int, rank: int, roles: list[str]
) -> None:
    config = LlamaConfig(
        hidden_size=24,
        head_dim=6,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        intermediate_size=40,
        num_hidden_layers=layers,
        vocab_size=11,
    )
    expected = by_hand(config, rank, tuple(roles))
    assert lora_share(config, rank, roles).trainable == expected
    assert lora_share_by_formula(config, rank, roles).trainable == expected


def test_what_cannot_be_counted_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match=r"no shape named 'Qwen3-8B'.*Qwen2.5-1.5B"):
        qwen2_5("Qwen3-8B")
    small = LlamaConfig(hidden_size=8, num_attention_heads=1, intermediate_size=8, num_hidden_layers=1, vocab_size=5)
    for count in (lora_share, lora_share_by_formula):
        with pytest.raises(TrainingError, match="no module of the role router"):
            count(small, 1, ["q_proj", "router"])
        with pytest.raises(TrainingError, match="1 or more; got 0"):
            count(small, 0)
        with pytest.raises(TrainingError, match="none given"):
            count(small, 1, [])
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(TrainingError, match=r"pip install 'circuitkit\[train\]'"):
        lora_share(small)
