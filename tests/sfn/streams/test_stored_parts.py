"""Parts of folders: those of the model that transformers makes of them, however they are stored."""

import pytest
import torch
from transformers import AutoModelForCausalLM

import circuitkit as ck
from circuitkit.sfn import Checkpoint, CheckpointError, live_parts
from sfn.toys import NAMES, configured, copied, model, restored, written

QUICK = ("llama", "gpt2", "phi3", "gpt_neox", "mixtral", "gpt_oss", "olmoe", "glm", "openelm_style", "qwen2_moe")


def live(folder) -> dict:
    """The parts of the model that transformers loads from a folder, each with its numbers."""
    toy = ck.Model(AutoModelForCausalLM.from_pretrained(folder))
    home = toy.anatomy.root.state_dict()
    return {part.key: part.take(home[part.tensor]) for part in live_parts(toy)}


def stored(folder) -> dict:
    checkpoint = Checkpoint.open(folder)
    return {part.key: part.take(checkpoint.read(part.tensor)) for part in checkpoint.parts}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    "architecture", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_parts_are_those_of_the_model_that_is_loaded(tmp_path, architecture):
    folder = written(architecture, tmp_path)
    assert same(stored(folder), live(folder))
    checkpoint = Checkpoint.open(folder)
    # Each number of each tensor belongs to one part.
    assert sum(part.numel for part in checkpoint.parts) == sum(
        each.rows * (each.columns or 1) for each in checkpoint.tensors.values()
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tied", [False, True])
def test_dtype_shards_and_tying_do_not_matter(tmp_path, dtype, tied):
    folder = written("llama", tmp_path, dtype=dtype, shards=3, tied=tied)
    assert same(stored(folder), live(folder))
    roles = {part.roles for part in Checkpoint.open(folder).parts if part.layer is None}
    assert roles == ({("embed", "lm_head"), ("norm",)} if tied else {("embed",), ("lm_head",), ("norm",)})


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "falcon"])
def test_names_without_the_backbone_s_prefix(tmp_path, architecture):
    folder = written(architecture, tmp_path / "a", tied=True)
    prefix = f"{model(architecture).hf.base_model_prefix}."
    bare = restored(
        copied(folder, tmp_path / "b"),
        lambda tensors: {name.removeprefix(prefix): tensor for name, tensor in tensors.items()},
    )
    assert not any(part.tensor.startswith(prefix) for part in Checkpoint.open(bare).parts)
    assert same(stored(bare), stored(folder))
    assert same(stored(bare), live(bare))


def test_a_tied_tensor_that_is_stored_twice_is_one_part(tmp_path):
    folder = written("llama", tmp_path / "a", tied=True)
    twice = restored(
        copied(folder, tmp_path / "b"),
        lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()},
    )
    assert same(stored(twice), stored(folder))
    (part,) = (part for part in Checkpoint.open(twice).parts if "lm_head" in part.roles)
    assert (part.tensor, part.copies) == ("model.embed_tokens.weight", ("lm_head.weight",))


def test_a_tied_tensor_that_is_stored_under_its_other_name(tmp_path):
    folder = written("llama", tmp_path / "a", tied=True)
    other = restored(
        copied(folder, tmp_path / "b"),
        lambda tensors: {name.replace("model.embed_tokens", "lm_head"): each for name, each in tensors.items()},
    )
    (part,) = (part for part in Checkpoint.open(other).parts if "lm_head" in part.roles)
    assert (part.tensor, part.parameter, part.copies) == ("lm_head.weight", "model.embed_tokens.weight", ())


def test_copies_that_differ_are_refused_by_name(tmp_path):
    folder = written("llama", tmp_path, tied=True)
    restored(folder, lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1})
    told = (
        r"model.embed_tokens.weight and lm_head.weight of .* are tied by its config, but stored apart and different "
        r"\(rows 0 to 95\): set tie_word_embeddings to false"
    )
    with pytest.raises(CheckpointError, match=told):
        _ = Checkpoint.open(folder).parts


@pytest.mark.parametrize(
    ("architecture", "lost", "told"),
    [
        ("llama", "model.layers.1.self_attn.o_proj.weight", "does not hold model.layers.1.self_attn.o_proj.weight"),
        ("llama", "lm_head.weight", r"does not hold lm_head.weight \(\[96, 32\]\), which LlamaForCausalLM has"),
        (
            "mixtral",
            "model.layers.1.block_sparse_moe.experts.2.w2.weight",
            "has 96 rows for .*experts.down_proj, .* 128",
        ),
        ("mixtral", "model.layers.1.block_sparse_moe.experts.2.w1.weight", "3 like .*w1.weight and 4 like .*w3.weight"),
    ],
)
def test_a_checkpoint_that_lacks_a_tensor_is_refused_by_name(tmp_path, architecture, lost, told):
    folder = written(architecture, tmp_path)
    restored(folder, lambda tensors: {name: tensor for name, tensor in tensors.items() if name != lost})
    with pytest.raises(CheckpointError, match=told):
        _ = Checkpoint.open(folder).parts


def test_a_config_of_another_size_is_refused_by_name(tmp_path):
    folder = configured(written("llama", tmp_path), intermediate_size=40)
    told = r"layers.0.mlp.down_proj.weight of .* is \[32, 48\], and by its config .* is \[32, 40\]"
    with pytest.raises(CheckpointError, match=told):
        _ = Checkpoint.open(folder).parts


def test_tensors_that_the_model_does_not_know_are_parts_without_roles(tmp_path):
    folder = written("gpt2", tmp_path)
    extra = {"transformer.h.1.attn.bias": torch.ones(1, 1, 8, 8), "mtp.weight": torch.ones(3)}
    restored(folder, lambda tensors: tensors | extra)
    found = {part.tensor: part for part in Checkpoint.open(folder).parts if part.tensor in extra}
    assert {name: (part.roles, part.layer) for name, part in found.items()} == {
        "transformer.h.1.attn.bias": ((), 1),
        "mtp.weight": ((), None),
    }


def test_experts_are_told_apart_stored_one_by_one_or_packed(tmp_path):
    one_by_one = {part.key: part for part in Checkpoint.open(written("mixtral", tmp_path)).parts}
    packed = {part.key: part for part in live_parts(model("mixtral"))}
    assert one_by_one.keys() == packed.keys()
    assert {part.tensor for part in one_by_one.values()} > {
        part.tensor for part in one_by_one.values() if part.layer == 0
    }
    of_experts = [part for part in packed.values() if part.expert is not None]
    assert {part.expert for part in of_experts} == {0, 1, 2, 3}
    assert all(one_by_one[part.key].shape == part.shape for part in of_experts)


def test_what_is_converted_otherwise_on_load_is_refused(tmp_path, monkeypatch):
    from transformers import conversion_mapping
    from transformers.core_model_loading import Transpose, WeightConverter

    folder = written("llama", tmp_path)
    turned = WeightConverter("mlp.up_proj.weight", "mlp.up_proj.weight", operations=[Transpose(0, 1)])
    monkeypatch.setattr(conversion_mapping, "get_model_conversion_mapping", lambda *args, **settings: [turned])
    told = r"up_proj.weight of .* is stored otherwise than .* is in memory \(Transpose\).*load the model, and give it"
    with pytest.raises(CheckpointError, match=told):
        _ = Checkpoint.open(folder).parts


def test_fused_tensors_that_are_split_on_load(tmp_path, monkeypatch):
    from transformers import conversion_mapping
    from transformers.core_model_loading import Chunk, WeightConverter

    plain = written("llama", tmp_path / "a")

    def fuse(tensors):
        fused = dict(tensors)
        for layer in range(3):
            names = [f"model.layers.{layer}.mlp.{each}_proj.weight" for each in ("gate", "up")]
            fused[f"model.layers.{layer}.mlp.both.weight"] = torch.cat([fused.pop(name) for name in names])
        return fused

    fused = restored(copied(plain, tmp_path / "b"), fuse)
    expected = stored(plain)
    split = WeightConverter("mlp.both", ["mlp.gate_proj", "mlp.up_proj"], operations=[Chunk(dim=0)])
    monkeypatch.setattr(conversion_mapping, "get_model_conversion_mapping", lambda *args, **settings: [split])
    assert same(stored(fused), expected)


@pytest.mark.parametrize("architecture", ["llama", "phi3"])
def test_parts_of_a_model_with_an_adapter_are_its_base_s(architecture):
    from peft import LoraConfig, get_peft_model

    plain, toy = model(architecture), model(architecture)
    adapted = ck.Model(get_peft_model(toy.hf, LoraConfig(target_modules=["o_proj"], r=2)))
    assert live_parts(adapted) == live_parts(plain)
    with_adapter, without = Checkpoint.open(adapted), Checkpoint.open(plain)
    assert with_adapter.tensors == without.tensors
    assert all(torch.equal(with_adapter.read(name), without.read(name)) for name in without.tensors)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_weights_that_are_codes_are_refused_by_name(tmp_path, dtype):
    name = "model.layers.1.self_attn.o_proj.weight"
    folder = restored(written("llama", tmp_path), lambda tensors: tensors | {name: tensors[name].to(dtype)})
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=rf"{name} of .* is stored as {kind}: .*float32, float16 or bfloat16"):
        _ = Checkpoint.open(folder).parts
