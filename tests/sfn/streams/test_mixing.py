"""Attention of other kinds than a projection each of q, k, v and o: latent, recurrent in some layers, of wide heads."""

import pytest
import torch
import transformers

import circuitkit as ck
from architectures import DECODER
from circuitkit.model import roles
from circuitkit.sfn import Checkpoint, Part, SelectionError, live_parts, select

EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_routed_experts": 4, "n_shared_experts": 1}
LATENT = EXPERTS | {
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
    "num_key_value_heads": 4,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
WIDE = {"head_dim": 16}


def toy(kind: str, **settings: object) -> ck.Model:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**DECODER | settings)
    return ck.Model(transformers.AutoModelForCausalLM.from_config(config).eval(), None, name=kind)


def of_layer(parts: tuple[Part, ...], layer: int) -> dict[str, tuple[str, int | None]]:
    """Label and heads of the matrices in a layer's attention, by their module."""
    named = [(part.parameter.split("."), part) for part in parts if part.layer == layer and "norm" not in part.roles]
    return {
        name[-2]: (part.label, part.heads)
        for name, part in named
        if part.roles and name[-3] in ("self_attn", "temporal_block")
    }


FACTORS = {"q_a_proj": ("q_proj", None), "q_b_proj": ("q_proj", 4)}
SHARED = {"kv_a_proj_with_mqa": ("k_proj+v_proj", None), "kv_b_proj": ("k_proj+v_proj", None), "o_proj": ("o_proj", 4)}


@pytest.mark.parametrize(
    ("kind", "rank", "expected"),
    [("DeepseekV3", 16, FACTORS | SHARED), ("DeepseekV2", None, {"q_proj": ("q_proj", 4)} | SHARED)],
)
def test_a_latent_attention_has_its_parts_in_every_tensor(tmp_path, kind, rank, expected):
    model = toy(kind, q_lora_rank=rank, **LATENT)
    model.hf.save_pretrained(tmp_path)
    parts = Checkpoint.open(tmp_path).parts
    assert [of_layer(parts, layer) for layer in range(3)] == [expected] * 3
    # The group is all of them, and k without v is not to be had.
    chosen = select(parts, ["attention"], [1], biases=False, name="toy")
    assert {part.tensor.split(".")[-2] for part in chosen} == expected.keys()
    with pytest.raises(SelectionError, match=r"kv_a_proj_with_mqa.* is k_proj and v_proj in one tensor"):
        select(parts, ["k_proj"], biases=False, name="toy")
    with pytest.raises(SelectionError, match=r"does not divide into known heads"):
        select(parts, ["k_proj", "v_proj"], None, [(0, 0)], biases=False, name="toy")


def test_a_latent_attention_s_heads_are_those_of_its_code():
    model = toy("DeepseekV3", q_lora_rank=16, **LATENT)
    attention, ids = model.anatomy.blocks[1].attn, torch.arange(12).view(2, 6)
    seen: list[torch.Tensor] = []
    handle = attention.q_b_proj.register_forward_hook(lambda _, __, output: seen.append(output.view(2, 6, 4, 12)))
    model.hf(input_ids=ids)
    (part,) = select(live_parts(model), ["*.1.self_attn.q_b_proj"], None, [(1, 2)], biases=False, name="toy")
    part.put(attention.q_b_proj.weight.data, torch.randn(part.shape))
    model.hf(input_ids=ids)
    handle.remove()
    assert [not torch.equal(seen[0][:, :, head], seen[1][:, :, head]) for head in range(4)] == [
        False,
        False,
        True,
        False,
    ]


def test_layers_that_are_recurrent_have_no_attention_s_part_and_no_other_mlp():
    model = toy(
        "RecurrentGemma", lru_width=32, head_dim=8, num_key_value_heads=1, block_types=["recurrent", "attention"]
    )
    parts = live_parts(model)
    assert of_layer(parts, 0) == {}
    assert of_layer(parts, 1) == {role: (role, None) for role in roles.GROUPS["attention"]}
    down = [part.parameter.split(".")[-3] for part in select(parts, ["down_proj"], biases=True, name="toy")]
    assert set(down) == {"mlp_block"}


@pytest.mark.parametrize("kind", ["Gemma", "Gemma3Text", "Qwen3"])
def test_heads_may_be_wider_than_their_share_of_the_stream(kind):
    parts = live_parts(toy(kind, **WIDE))
    chosen = select(parts, ["q_proj", "o_proj"], None, [(1, 3)], biases=False, name="toy")
    assert [(part.label, part.rows, part.columns) for part in chosen if part.label == "q_proj"] == [
        ("q_proj", (slice(48, 64, 1),), None)
    ]
    assert [(part.label, part.columns) for part in chosen if part.label == "o_proj"] == [
        ("o_proj", (slice(48, 64, 1),))
    ]
    (key,) = select(parts, ["k_proj"], None, [(1, 1)], biases=False, name="toy")
    assert key.rows == (slice(16, 32, 1),)


def test_llama_4_s_experts_are_stored_inputs_first_and_have_gate_before_up():
    model = toy("Llama4Text", head_dim=8, num_local_experts=4, intermediate_size_mlp=48)
    experts = model.anatomy.blocks[1].block.feed_forward.experts
    found = {
        (part.label, part.expert): part for part in live_parts(model) if part.layer == 1 and part.expert is not None
    }
    assert {part.out_axis for part in found.values()} == {1}
    torch.nn.init.normal_(experts.gate_up_proj)
    torch.nn.init.normal_(experts.down_proj)
    stream = torch.randn(4, 5, model.d_model)
    before = experts(stream.flatten(0, 1)).view(stream.shape)
    up = found["up_proj", 2]
    up.put(experts.gate_up_proj.data, 2 * up.take(experts.gate_up_proj.data).clone())
    after = experts(stream.flatten(0, 1)).view(stream.shape)
    factors = torch.tensor([1.0, 1.0, 2.0, 1.0]).view(4, 1, 1)
    torch.testing.assert_close(after, factors * before)
