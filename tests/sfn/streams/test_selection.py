"""Modules, layers and heads that are chosen, and what they are held against in another checkpoint."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkit.model import roles
from circuitkit.sfn import Checkpoint, PairError, SelectionError, live_parts, pair, select
from sfn.toys import built, model, save, written

ROLES = roles.ROLES


@pytest.fixture(scope="module")
def toys():
    return {name: model(name) for name in ("llama", "gpt2", "qwen2", "mixtral", "gpt_neox")}


def names(toy, modules, layers=None, heads=None, *, biases=False):
    return [part.tensor for part in select(live_parts(toy), modules, layers, heads, biases=biases, name="toy")]


@settings(max_examples=40, deadline=None)
@given(
    st.sets(st.sampled_from([*ROLES, *roles.GROUPS]), min_size=1), st.none() | st.sets(st.integers(-3, 2), min_size=1)
)
def test_roles_and_layers_are_those_of_the_whole_package(toys, wanted, layers):
    """Held against `roles.chosen`, which freezing goes by: it takes norms that lie in no layer too."""
    toy = toys["llama"]
    expected = roles.chosen(toy, wanted, layers)
    if layers is not None:
        expected = [name for name in expected if name != "model.norm.weight"]
    if not expected:
        with pytest.raises(SelectionError, match="leaves nothing of toy"):
            names(toy, wanted, layers)
    else:
        assert names(toy, wanted, layers) == expected


def test_biases_go_with_matrices_when_asked(toys):
    toy = toys["qwen2"]
    assert names(toy, ["q_proj"], [1]) == ["model.layers.1.self_attn.q_proj.weight"]
    both = ["model.layers.1.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.bias"]
    assert sorted(names(toy, "q_proj", 1, biases=True)) == sorted(both)
    assert sorted(names(toy, ["model.layers.1.self_attn.q_proj"])) == sorted(both)
    # Those of norms are theirs.
    norms = names(toys["gpt2"], "norm")
    assert "transformer.h.0.ln_1.bias" in norms and "transformer.ln_f.bias" in norms


def test_all_is_everything_and_nothing_is_nothing(toys):
    for toy in toys.values():
        assert sum(part.numel for part in select(live_parts(toy), "all", biases=False, name="toy")) == sum(
            parameter.numel() for parameter in toy.hf.parameters()
        )
        assert select(live_parts(toy), (), biases=True, name="toy") == ()
    within = select(live_parts(toys["llama"]), ["all"], [0, -1], biases=False, name="toy")
    assert {part.layer for part in within} == {0, 2}


def test_embeddings_and_norms_are_taken_only_where_named(toys):
    chosen = select(live_parts(toys["llama"]), ["attention", "mlp"], biases=True, name="toy")
    assert {role for part in chosen for role in part.roles} == set(ROLES[:7])
    assert names(toys["llama"], ["embed", "o_proj"], [0]) == [
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.o_proj.weight",
    ]


def test_experts_and_routers_are_chosen_by_role_and_by_name(toys):
    parts = live_parts(toys["mixtral"])
    chosen = select(parts, ["down_proj"], [1], biases=False, name="toy")
    assert [part.expert for part in chosen] == [0, 1, 2, 3]
    (router,) = select(parts, ["*.1.mlp.gate"], biases=False, name="toy")
    assert router.roles == ()


@pytest.mark.parametrize(
    ("modules", "layers", "told"),
    [
        (["k_proj", "z_proj"], None, "toy has no module 'z_proj': give a role .*, a group .attention, mlp., 'all', or"),
        (["o_proj"], [3], "layer 3 does not exist: toy has layers 0 to 2"),
        (["o_proj"], [-4], "layer -4 does not exist"),
        (["norm", "model.norm"], [], "norm, model.norm in layers .* leaves nothing of toy"),
    ],
)
def test_what_is_not_there_is_refused(toys, modules, layers, told):
    with pytest.raises(SelectionError, match=told):
        names(toys["llama"], modules, layers)


def test_a_role_that_the_architecture_lacks_is_refused(toys):
    with pytest.raises(SelectionError, match=r"toy has no gate_proj; it has q_proj, .*, norm"):
        names(toys["gpt2"], ["gate_proj"])
    # Of a group, it need not have all.
    assert {part.roles for part in select(live_parts(toys["gpt2"]), "mlp", biases=True, name="toy")} == {
        ("up_proj",),
        ("down_proj",),
    }


def test_one_of_two_that_are_tied_is_refused():
    toy = model("llama", tied=True)
    with pytest.raises(SelectionError, match=r"embed and lm_head in one tensor, tied: name lm_head too, or none"):
        names(toy, ["embed"])
    assert names(toy, ["embed", "lm_head"]) == ["model.embed_tokens.weight"]


# Heads


def test_heads_are_chosen_of_each_projection(toys):
    chosen = select(live_parts(toys["llama"]), ["q_proj", "o_proj"], None, [(1, 3), (-1, 0)], biases=False, name="toy")
    assert [(part.layer, part.label, part.which, part.shape) for part in chosen] == [
        (1, "q_proj", 3, (8, 32)),
        (1, "o_proj", 3, (32, 8)),
        (2, "q_proj", 0, (8, 32)),
        (2, "o_proj", 0, (32, 8)),
    ]


def test_heads_take_biases_of_inputs_and_none_of_o(toys):
    chosen = select(live_parts(toys["gpt2"]), "attention", None, [(0, 2)], biases=True, name="toy")
    assert sorted((part.label, part.bias) for part in chosen) == [
        ("k_proj", False),
        ("k_proj", True),
        ("o_proj", False),
        ("q_proj", False),
        ("q_proj", True),
        ("v_proj", False),
        ("v_proj", True),
    ]


HEADS = {
    "grouped": (["q_proj", "k_proj"], [(0, 0)], r"layer 0 of toy has 4 of q_proj and 2 of k_proj \(grouped queries\)"),
    "too many": (["k_proj"], [(0, 2)], "head 2 does not exist: k_proj of layer 0 of toy has heads 0 to 1"),
    "no such layer": (["q_proj"], [(3, 0)], "layer 3 does not exist"),
    "no attention": (
        ["o_proj", "mlp"],
        [(0, 0)],
        r"\(gate_proj\) has no heads: with heads, name attention",
    ),
    "of a layer that is not chosen": (
        ["model.layers.0.self_attn.q_proj"],
        [(0, 1), (1, 1)],
        "heads of layer 1 are named, and no attention projection of that layer of toy is chosen",
    ),
    "no pairs": (["q_proj"], [1], "heads are pairs of layer and head"),
    "none": (["q_proj"], [], "no heads are named"),
}


@pytest.mark.parametrize("wrong", HEADS)
def test_heads_that_are_not_to_be_had_are_refused(toys, wrong):
    modules, heads, told = HEADS[wrong]
    with pytest.raises(SelectionError, match=told):
        names(toys["llama"], modules, None, heads)


# Pairs


def test_parts_are_paired_whatever_dtype_shards_and_packing(tmp_path):
    a = Checkpoint.open(written("mixtral", tmp_path / "a", dtype=torch.bfloat16, shards=3))
    b = Checkpoint.open(model("mixtral", seed=1))
    found = pair(a, b)
    assert [paired.a for paired in found] == list(a.parts)
    assert all(paired.a.key == paired.b.key and paired.a.shape == paired.b.shape for paired in found)
    assert {paired.b.tensor for paired in found} == b.tensors.keys()


def test_heads_are_paired(tmp_path):
    a, b = Checkpoint.open(written("phi3", tmp_path / "a")), Checkpoint.open(model("phi3", seed=1))
    chosen = select(a.parts, ["k_proj"], None, [(1, 1)], biases=False, name="a")
    (paired,) = pair(a, b, chosen)
    home = b.read("model.layers.1.self_attn.qkv_proj.weight")
    assert torch.equal(paired.b.take(home), home[40:48])


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_tied_and_untied_are_paired_by_role(tmp_path, architecture):
    tied = Checkpoint.open(written(architecture, tmp_path / "tied", tied=True))
    untied = Checkpoint.open(written(architecture, tmp_path / "untied", tied=False, seed=1))
    outside = [(each.a.tensor, each.b.tensor, each.roles) for each in pair(tied, untied) if "lm_head" in each.a.roles]
    embedding = next(part.tensor for part in tied.parts if "lm_head" in part.roles)
    assert outside == [(embedding, embedding, ("embed",)), (embedding, "lm_head.weight", ("lm_head",))]
    back = {each.a.tensor: (each.b.tensor, each.roles) for each in pair(untied, tied)}
    assert back["lm_head.weight"] == (embedding, ("lm_head",))
    assert back[embedding] == (embedding, ("embed",))
    assert len(back) == len(untied.tensors) or architecture == "gpt2"


def test_vocabularies_of_other_sizes_are_refused_or_left_out(tmp_path):
    a = Checkpoint.open(written("llama", tmp_path / "a"))
    b = Checkpoint.open(written("llama", tmp_path / "b", vocab_size=100))
    told = r"lm_head.weight is \[96, 32\] in .* and \[100, 32\] in .*: their vocabularies differ in size; .*leave-out"
    with pytest.raises(PairError, match=told):
        pair(a, b)
    left = pair(a, b, vocabulary="leave-out")
    assert {part.tensor for part in a.parts} - {paired.a.tensor for paired in left} == {
        "model.embed_tokens.weight",
        "lm_head.weight",
    }
    with pytest.raises(PairError, match="vocabulary is 'refuse' or 'leave-out', not 'leave_out'"):
        pair(a, b, vocabulary="leave_out")


EIGHT = {"num_attention_heads": 8, "head_dim": 4, "num_key_value_heads": 4}
OTHERS = {
    "another architecture": ("gpt2", {}, "has nothing for model.* of .* is Llama, .* is GPT2.: checkpoints of one"),
    "fewer layers": ("llama", {"num_hidden_layers": 2}, "has nothing for model.layers.2"),
    "another width": ("llama", {"intermediate_size": 40}, r"is \[32, 48\] in .* and \[32, 40\] in"),
    "other heads": (
        "llama",
        {"num_attention_heads": 8, "head_dim": 4, "num_key_value_heads": 4},
        "has 2 heads in .* 4 in",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_checkpoints_that_do_not_fit_are_refused(tmp_path, other):
    architecture, settings, told = OTHERS[other]
    a = Checkpoint.open(written("llama", tmp_path / "a"))
    b = Checkpoint.open(written(architecture, tmp_path / "b", **settings))
    with pytest.raises(PairError, match=told):
        pair(a, b)


def test_a_model_in_memory_is_paired_with_its_folder(tmp_path):
    hf = built("gpt_neox")
    save(hf, tmp_path)
    a, b = Checkpoint.open(tmp_path), Checkpoint.open(model("gpt_neox"))
    assert all(
        torch.equal(paired.a.take(a.read(paired.a.tensor)), paired.b.take(b.read(paired.b.tensor)))
        for paired in pair(a, b)
    )
