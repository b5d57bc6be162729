"""Module roles on every architecture: each weight has the parts that it plays, fused and tied ones all of theirs."""

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.model import SiteError, roles
from circuitkit.model.roles import ROLES, RoleError

ATTENTION, MLP = ROLES[:4], ROLES[4:7]
FUSED = {
    "gpt2": {"transformer.h.0.attn.c_attn": ROLES[:3], "transformer.h.0.mlp.c_fc": ("up_proj",)},
    "phi3": {
        "model.layers.0.self_attn.qkv_proj": ROLES[:3],
        "model.layers.0.mlp.gate_up_proj": ("gate_proj", "up_proj"),
    },
    "gpt_neox": {"gpt_neox.layers.0.attention.query_key_value": ROLES[:3]},
    "bloom": {"transformer.h.0.self_attention.query_key_value": ROLES[:3]},
    "falcon": {"transformer.h.0.self_attention.query_key_value": ROLES[:3]},
    "falcon_multi_query": {"transformer.h.0.self_attention.query_key_value": ROLES[:3]},
    "mixtral": {"model.layers.0.mlp.experts.gate_up_proj": ("gate_proj", "up_proj")},
    "gpt_oss": {"model.layers.0.mlp.experts.down_proj": ("down_proj",)},
    "openelm_style": {"transformer.layers.0.attn.qkv_proj": ROLES[:3]},
}
WITHOUT_GATE = ("gpt2", "gpt_neox", "gpt_neox_sequential", "bloom", "falcon", "falcon_multi_query")
NO_ROLE = ("mlp.gate.weight", "router", "sinks")


def model_of(name: str) -> ck.Model:
    torch.manual_seed(0)
    return ck.Model(architectures.build(name)[0], None, name=name)


@pytest.fixture(scope="module", params=architectures.NAMES)
def model(request) -> ck.Model:
    return model_of(request.param)


def test_every_weight_has_its_roles(model):
    found = roles.parameters(model)
    assert list(found) == [name for name, _ in model.anatomy.root.named_parameters()]
    for name, having in found.items():
        assert having or any(part in name for part in NO_ROLE), name
    there = {role for having in found.values() for role in having}
    wanted = set(ROLES) - ({"gate_proj"} if model.name in WITHOUT_GATE else set())
    assert there == wanted
    for module, having in FUSED.get(model.name, {}).items():
        matching = [roles_ for name, roles_ in found.items() if name.startswith(module)]
        assert matching and all(each == having for each in matching), module


def test_counts_of_each_layer_agree_and_a_tied_tensor_is_one(model):
    root = model.anatomy.root
    head, embedding = root.get_output_embeddings().weight, root.get_input_embeddings().weight
    tied = head is embedding
    named = dict(root.named_parameters())
    having = [set(each) for name, each in roles.parameters(model).items() if named[name] is embedding]
    assert having == [{"embed", "lm_head"} if tied else {"embed"}]
    for role in ("q_proj", "o_proj", "down_proj"):
        each = [
            sum(named[name].numel() for name in roles.chosen(model, partners(model, role), layers=[layer]))
            for layer in range(model.n_layers)
        ]
        assert min(each) > 0 and sum(each) == sum(
            named[name].numel() for name in roles.chosen(model, partners(model, role))
        )
        if model.name != "openelm_style":  # whose layers differ in width
            assert min(each) == max(each), role


def partners(model: ck.Model, role: str) -> set[str]:
    """A role with those that it shares a tensor with."""
    return {other for having in roles.parameters(model).values() if role in having for other in having}


def test_a_fused_tensor_is_had_whole_or_not_at_all(model):
    for role in ("q_proj", "up_proj", "embed"):
        together = partners(model, role)
        having = [name for name, each in roles.parameters(model).items() if role in each]
        assert roles.chosen(model, together) == having
        if len(together) > 1:
            other = next(each for each in ROLES if each in together - {role})
            with pytest.raises(RoleError, match=f"in one tensor: name .*{other}"):
                roles.chosen(model, [role])


def test_a_lora_is_on_the_modules_of_its_roles_and_no_others(model):
    pytest.importorskip("peft")
    from circuitkit.training import lora
    from circuitkit.training.recipe import LoRA

    there = {role for having in roles.parameters(model).values() for role in having}
    before = {name: tensor.clone() for name, tensor in model.hf.state_dict().items()}
    named = tuple(role for role in (*ATTENTION, *MLP) if role in there)
    modules, tensors = lora.targets(model, LoRA(1, roles=named))
    hf = lora.adapted(model, LoRA(1, roles=named))
    adapted = {name.split(".lora_")[0] for name, each in hf.named_parameters() if each.requires_grad}
    # Experts of several tensors are wrapped one in the other.
    assert len([name for name, each in hf.named_parameters() if each.requires_grad]) == 2 * len(modules + tensors)
    assert len(adapted) == len(modules) + len(tensors)
    ids = torch.randint(3, architectures.VOCABULARY, (2, 7))
    with torch.no_grad():
        for name, each in hf.named_parameters():
            if "lora_" in name:
                each.normal_(std=0.2)
        apart = hf(input_ids=ids).logits
        hf.merge_and_unload()
        torch.testing.assert_close(model.hf(input_ids=ids).logits, apart, atol=2e-4, rtol=1e-3)
    names = {f"{name}.weight" for name in modules} | set(tensors)
    after = model.hf.state_dict()
    assert {name for name, tensor in before.items() if not torch.equal(after[name], tensor)} == names


def test_names_and_layers_choose_too():
    model = ck.load("deductor-130k")
    assert roles.chosen(model, ["model.layers.1.mlp"]) == [
        f"model.layers.1.mlp.{name}.weight" for name in ("gate_proj", "up_proj", "down_proj")
    ]
    assert roles.chosen(model, ["*.input_layernorm"], layers=[0]) == ["model.layers.0.input_layernorm.weight"]
    assert roles.chosen(model, ["norm"], layers=[-1]) == [
        "model.layers.2.input_layernorm.weight",
        "model.layers.2.post_attention_layernorm.weight",
        "model.norm.weight",
    ], "what lies in no layer counts as in all"
    assert set(roles.modules(model, ["mlp"]).values()) == {(role,) for role in MLP}
    assert len(roles.modules(model, ["attention"])) == 4 * model.n_layers


def test_roles_that_are_not_there():
    model = model_of("gpt2")
    with pytest.raises(RoleError, match="gpt2 has no gate_proj; it has q_proj"):
        roles.modules(model, ["mlp"])
    with pytest.raises(RoleError, match="no module role 'head'"):
        roles.expanded(["head"])
    with pytest.raises(RoleError, match="has no module 'heads'"):
        roles.chosen(model, ["heads"])
    with pytest.raises(SiteError, match="layer 9 does not exist"):
        roles.chosen(model, ["norm"], layers=[9])
