"""Merge: what is written equals state dicts that are put together by hand, and nothing else changes."""

import hashlib
import json
import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

import circuitkit as ck
from circuitkit.sfn import CheckpointError, MergeError, PairError, SelectionError, WritingError, merge
from circuitkit.sfn.written.manifest import Manifest
from sfn import toys

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
HEAD = 8


def weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder, by the library of their format."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def loaded(folder: Path) -> dict[str, Tensor]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    return dict(model.state_dict())


def logits(folder: Path) -> Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model(toys.ids()).logits


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def bits(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return toys.equal(left.items(), right.items())


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs of folders by architecture and dtype, written once; A in three shards, B in one."""
    made: dict[tuple[str, torch.dtype], tuple[Path, Path]] = {}

    def give(architecture: str = "llama", dtype: torch.dtype = torch.float32) -> tuple[Path, Path]:
        key = architecture, dtype
        if key not in made:
            place = tmp_path_factory.mktemp(architecture)
            a = toys.written(architecture, place / "a", dtype=dtype, shards=3, seed=1)
            made[key] = a, toys.written(architecture, place / "b", dtype=dtype, seed=2)
        return made[key]

    return give


ARCHITECTURES = ["llama", "gpt2", "phi3", "mixtral", "qwen2"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_everything_is_b_and_nothing_is_a_bit_for_bit(pairs, tmp_path, architecture, dtype):
    a, b = pairs(architecture, dtype)
    before = contents(a), contents(b)
    merge(a, b, "all", tmp_path / "all", progress=False)
    assert bits(weights(tmp_path / "all"), weights(b)) and bits(loaded(tmp_path / "all"), loaded(b))
    merge(a, b, (), tmp_path / "nothing", progress=False)
    assert contents(tmp_path / "nothing").items() >= before[0].items()
    assert (contents(a), contents(b)) == before


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_output_projection_alone_changes_and_the_manifest_proves_it(pairs, tmp_path, architecture):
    a, b = pairs(architecture)
    merged = merge(a, b, ["o_proj"], tmp_path / "out", progress=False)
    mine, theirs, found = weights(a), weights(b), weights(tmp_path / "out")
    name = {"gpt2": "attn.c_proj.weight"}.get(architecture, "o_proj.weight")
    expected = {each for each in mine if each.endswith(name)}
    assert len(expected) == 3
    assert bits(found, {each: (theirs if each in expected else mine)[each] for each in mine})
    told = {change.tensor: change for change in Manifest.load(tmp_path / "out").changes}
    assert set(told) == expected == set(merged.frame["tensor"])
    for each, change in told.items():
        assert (change.sha256_before, change.sha256_after) == (sha256(mine[each]), sha256(theirs[each]))
        assert change.roles == ("o_proj",) and change.layer == int(each.split("layers.")[-1].split("h.")[-1][0])
        moved = theirs[each].double() - mine[each].double()
        assert change.norm_change == pytest.approx(moved.norm().item(), rel=1e-12)
        cosine = torch.cosine_similarity(mine[each].double().flatten(), theirs[each].double().flatten(), dim=0)
        assert change.cosine == pytest.approx(cosine.item(), rel=1e-10)
        assert change.told["rounded"] == 0 and change.told["chosen"] == mine[each].numel()
    Manifest.load(tmp_path / "out").verify(tmp_path / "out", a)


def test_a_folder_that_was_tampered_with_is_not_verified(pairs, tmp_path):
    a, b = pairs()
    merge(a, b, ["o_proj"], tmp_path / "out", layers=[0], progress=False)
    manifest = Manifest.load(tmp_path / "out")
    for name, told in (
        ("model.layers.0.self_attn.o_proj.weight", "is not what its manifest says: it was changed since"),
        ("model.layers.1.mlp.up_proj.weight", "is not what .* was made from"),
    ):
        spoiled = toys.copied(tmp_path / "out", tmp_path / name)
        file = next(file for file in spoiled.glob("*.safetensors") if name in load_file(file))
        tensors = load_file(file)
        tensors[name][0, 0] += 1
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(ck.sfn.ManifestError, match=f"^{name} of .* {told}"):
            manifest.verify(spoiled, a)


@pytest.mark.parametrize(("of_a", "of_b"), [(1, 4), (4, 1), (2, 3)])
def test_shards_are_those_of_a(tmp_path, of_a, of_b):
    a = toys.written("llama", tmp_path / "a", shards=of_a, seed=1)
    b = toys.written("llama", tmp_path / "b", shards=of_b, seed=2)
    merge(a, b, "all", tmp_path / "out", progress=False)
    assert bits(weights(tmp_path / "out"), weights(b))
    files = {path.name: set(load_file(path)) for path in a.glob("*.safetensors")}
    assert {path.name: set(load_file(path)) for path in (tmp_path / "out").glob("*.safetensors")} == files
    index = "model.safetensors.index.json"
    assert (a / index).exists() == (of_a > 1) == (tmp_path / "out" / index).exists()


@pytest.mark.parametrize(("of_a", "of_b"), [(x, y) for x in DTYPES for y in DTYPES if x != y])
def test_another_dtype_is_rounded_to_that_of_a_and_counted(tmp_path, of_a, of_b):
    a = toys.written("llama", tmp_path / "a", dtype=of_a, seed=1)
    b = toys.written("llama", tmp_path / "b", dtype=of_b, seed=2)
    merged = merge(a, b, "all", tmp_path / "out", progress=False)
    theirs, found = weights(b), weights(tmp_path / "out")
    assert bits(found, {name: tensor.to(of_a) for name, tensor in theirs.items()})
    rounded = {name: int((found[name].double() != theirs[name].double()).sum()) for name in found}
    assert dict(zip(merged.frame["tensor"], merged.frame["rounded"], strict=True)) == rounded
    if of_a == torch.float32:
        assert not any(rounded.values())
    elif torch.finfo(of_b).eps < torch.finfo(of_a).eps:
        assert all(rounded[name] for name in rounded if name.endswith("_proj.weight"))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype == of_a


def test_numbers_too_large_for_a_are_refused(tmp_path):
    a = toys.written("llama", tmp_path / "a", dtype=torch.float16)
    b = toys.written("llama", tmp_path / "b", dtype=torch.float32, seed=1)

    def spoiled(tensors):
        tensors["model.layers.1.self_attn.o_proj.weight"][3, 4] = -70000.0
        return tensors

    toys.restored(b, spoiled)
    told = r"layers\.1\.self_attn\.o_proj\.weight of .*a is float16, which holds no 7e\+04, .* get from .* of .*b: save"
    with pytest.raises(MergeError, match=told):
        merge(a, b, ["o_proj"], tmp_path / "out", progress=False)
    with pytest.raises(MergeError, match="is float16"):
        merge(a, b, ["o_proj"], tmp_path / "out", alpha=1e7, layers=[0], progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    merge(a, b, ["o_proj"], tmp_path / "out", layers=[0, 2], progress=False)


# Tied and untied embeddings


EMBED, HEAD_NAME = "model.embed_tokens.weight", "lm_head.weight"


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_of_an_untied_model_in_a_tied_one_unties_it(tmp_path, shards, dtype):
    a = toys.written("llama", tmp_path / "a", tied=True, shards=shards, dtype=dtype, seed=1)
    b = toys.written("llama", tmp_path / "b", tied=False, dtype=dtype, seed=2)
    merged = merge(a, b, "all", tmp_path / "out", progress=False)
    assert bits(weights(tmp_path / "out"), weights(b)) and bits(loaded(tmp_path / "out"), loaded(b))
    assert torch.equal(logits(tmp_path / "out"), logits(b))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    own = next(change for change in merged.manifest.changes if change.tensor == HEAD_NAME)
    assert own.sha256_before is None and own.sha256_after == sha256(weights(b)[HEAD_NAME])
    assert own.roles == ("lm_head",) and own.layer is None
    # The base's embedding was its unembedding.
    assert own.norm_before == pytest.approx(weights(a)[EMBED].double().norm().item())
    if shards > 1:
        index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
        assert index["weight_map"][HEAD_NAME] == index["weight_map"][EMBED]
        assert index["metadata"]["total_size"] == sum(each.nbytes for each in weights(b).values())
        assert index["metadata"]["total_parameters"] == sum(each.numel() for each in weights(b).values())
    merged.manifest.verify(tmp_path / "out", a)


def test_all_of_a_tied_model_in_an_untied_one_is_that_model(tmp_path):
    a = toys.written("llama", tmp_path / "a", tied=False, seed=1)
    b = toys.written("llama", tmp_path / "b", tied=True, seed=2)
    merge(a, b, "all", tmp_path / "out", progress=False)
    assert bits(loaded(tmp_path / "out"), loaded(b)) and torch.equal(logits(tmp_path / "out"), logits(b))


def test_one_side_of_an_untied_model_in_the_other(tmp_path):
    a = toys.written("llama", tmp_path / "a", tied=False, seed=1)
    b = toys.written("llama", tmp_path / "b", tied=True, seed=2)
    merge(a, b, ["lm_head"], tmp_path / "out", progress=False)
    assert bits(weights(tmp_path / "out"), weights(a) | {HEAD_NAME: weights(b)[EMBED]})
    with pytest.raises(SelectionError, match="is embed and lm_head in one tensor, tied: name embed too"):
        merge(b, a, ["lm_head"], tmp_path / "other", progress=False)


def test_a_blend_unties_too(tmp_path):
    a = toys.written("llama", tmp_path / "a", tied=True, seed=1)
    b = toys.written("llama", tmp_path / "b", tied=False, seed=2)
    c = toys.written("llama", tmp_path / "c", tied=True, seed=3)
    given = [(b, 0.5), (c, 0.25)]
    merge(a, None, ["embed", "lm_head"], tmp_path / "out", donors=given, progress=False)
    mine, first, second = (weights(each) for each in (a, b, c))

    def mean(name):
        start = mine[EMBED].double()
        return (start + 0.5 * (first[name].double() - start) + 0.25 * (second[EMBED].double() - start)).float()

    found = weights(tmp_path / "out")
    assert bits(found, mine | {EMBED: mean(EMBED), HEAD_NAME: mean(HEAD_NAME)})


def test_a_tied_unembedding_that_is_stored_all_the_same_is_written_too(tmp_path):
    a = toys.written("llama", tmp_path / "a", tied=True, seed=1)
    toys.restored(a, lambda tensors: tensors | {HEAD_NAME: tensors[EMBED].clone()})
    b = toys.written("llama", tmp_path / "b", tied=True, seed=2)
    c = toys.written("llama", tmp_path / "c", tied=False, seed=3)
    merge(a, b, ["embed", "lm_head"], tmp_path / "tied", progress=False)
    found, theirs = weights(tmp_path / "tied"), weights(b)
    assert torch.equal(found[EMBED], theirs[EMBED]) and torch.equal(found[HEAD_NAME], theirs[EMBED])
    merge(a, c, "all", tmp_path / "untied", progress=False)
    assert bits(weights(tmp_path / "untied"), weights(c)) and bits(loaded(tmp_path / "untied"), loaded(c))


def test_other_vocabularies_are_refused_or_left_out(tmp_path):
    a = toys.written("llama", tmp_path / "a", seed=1)
    b = toys.written("llama", tmp_path / "b", seed=2, vocab_size=100)
    with pytest.raises(PairError, match=r"\[96, 32\] .* \[100, 32\] .*their vocabularies differ in size"):
        merge(a, b, "all", tmp_path / "out", progress=False)
    merged = merge(a, b, "all", tmp_path / "out", vocabulary="leave-out", progress=False)
    mine, theirs = weights(a), weights(b)
    outside = {EMBED, HEAD_NAME} & set(mine)
    assert bits(weights(tmp_path / "out"), {name: (mine if name in outside else theirs)[name] for name in mine})
    assert set(merged.manifest.told["left_out"]) == outside
    merge(a, b, ["o_proj"], tmp_path / "o_proj", progress=False)
    assert logits(tmp_path / "o_proj").shape[-1] == 96


# Which parts


def test_layers_from_both_ends(pairs, tmp_path):
    a, b = pairs()
    merge(a, b, ["mlp", "model.layers.1.input_layernorm"], tmp_path / "out", layers=[0, -1], progress=False)
    mine, theirs = weights(a), weights(b)
    assert bits(
        weights(tmp_path / "out"),
        {name: (theirs if ".mlp." in name and ".1." not in name else mine)[name] for name in mine},
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_heads_are_columns_of_o_and_rows_of_q(pairs, tmp_path, dtype):
    a, b = pairs("llama", dtype)
    merged = merge(a, b, ["q_proj", "o_proj"], tmp_path / "out", heads=[(1, 3), (-1, 0)], progress=False)
    expected, theirs = weights(a), weights(b)
    for layer, head in ((1, 3), (2, 0)):
        at = slice(head * HEAD, (head + 1) * HEAD)
        name = f"model.layers.{layer}.self_attn"
        expected[f"{name}.q_proj.weight"][at] = theirs[f"{name}.q_proj.weight"][at]
        expected[f"{name}.o_proj.weight"][:, at] = theirs[f"{name}.o_proj.weight"][:, at]
    assert bits(weights(tmp_path / "out"), expected)
    by_name = merged.frame.set_index("tensor")
    assert by_name.loc["model.layers.1.self_attn.o_proj.weight", "heads"] == [3]
    assert set(by_name["chosen"]) == {32 * HEAD}


def test_heads_of_keys_in_a_grouped_model(pairs, tmp_path):
    a, b = pairs()
    merge(a, b, ["k_proj", "v_proj"], tmp_path / "out", heads=[(0, 1)], progress=False)
    expected, theirs = weights(a), weights(b)
    for kind in "kv":
        name = f"model.layers.0.self_attn.{kind}_proj.weight"
        expected[name][HEAD:] = theirs[name][HEAD:]
    assert bits(weights(tmp_path / "out"), expected)
    with pytest.raises(SelectionError, match="grouped queries"):
        merge(a, b, ["attention"], tmp_path / "other", heads=[(0, 1)], progress=False)


def test_roles_and_heads_in_a_fused_conv(pairs, tmp_path):
    a, b = pairs("gpt2")
    merge(a, b, ["k_proj"], tmp_path / "k", biases=True, layers=[1], progress=False)
    merge(a, b, ["v_proj", "o_proj"], tmp_path / "heads", heads=[(1, 2)], progress=False)
    theirs = weights(b)
    prefix = next(name for name in theirs if name.endswith("h.1.attn.c_attn.weight")).removesuffix("c_attn.weight")
    keys, heads = weights(a), weights(a)
    for name in ("c_attn.weight", "c_attn.bias"):
        keys[prefix + name][..., 32:64] = theirs[prefix + name][..., 32:64]
    at = slice(64 + 2 * HEAD, 64 + 3 * HEAD)
    heads[f"{prefix}c_attn.weight"][:, at] = theirs[f"{prefix}c_attn.weight"][:, at]
    heads[f"{prefix}c_proj.weight"][2 * HEAD : 3 * HEAD] = theirs[f"{prefix}c_proj.weight"][2 * HEAD : 3 * HEAD]
    assert bits(weights(tmp_path / "k"), keys)
    assert bits(weights(tmp_path / "heads"), heads)


def test_gate_and_up_in_one_tensor(pairs, tmp_path):
    a, b = pairs("phi3")
    merge(a, b, ["up_proj", "k_proj"], tmp_path / "out", progress=False)
    expected, theirs = weights(a), weights(b)
    for layer in range(3):
        name = f"model.layers.{layer}.mlp.gate_up_proj.weight"
        expected[name][48:] = theirs[name][48:]
        # Four query heads, then two of keys and two of values.
        name = f"model.layers.{layer}.self_attn.qkv_proj.weight"
        expected[name][32:48] = theirs[name][32:48]
    assert bits(weights(tmp_path / "out"), expected)


def test_biases_norms_and_embeddings_only_when_asked(pairs, tmp_path):
    a, b = pairs("qwen2")
    mine, theirs = weights(a), weights(b)
    for name, biases in (("without", False), ("with", True)):
        merge(a, b, ["attention", "mlp"], tmp_path / name, biases=biases, progress=False)
        taken = {each for each in mine if each.endswith("_proj.weight") or (biases and each.endswith("_proj.bias"))}
        assert len(taken) == 3 * 7 + 3 * 3 * biases
        assert bits(weights(tmp_path / name), {each: (theirs if each in taken else mine)[each] for each in mine})


def test_biases_for_which_a_has_no_place_are_refused(tmp_path):
    a = toys.written("llama", tmp_path / "a", seed=1)
    b = toys.written("llama", tmp_path / "b", seed=2, attention_bias=True)
    told = r"b has model\.layers\.0\.self_attn\.[qkvo]_proj\.bias, for which .*a has no place"
    with pytest.raises(MergeError, match=told):
        merge(a, b, "all", tmp_path / "out", progress=False)
    with pytest.raises(MergeError, match=told):
        merge(a, b, ["q_proj"], tmp_path / "out", biases=True, progress=False)
    with pytest.warns(UserWarning, match=r"attention_bias \(False and True\)"):
        merge(a, b, ["q_proj"], tmp_path / "out", progress=False)


def test_masks_that_are_no_longer_read_do_not_stand_in_the_way(tmp_path):
    a, b = (toys.written("gpt2", tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 2)))
    mask = torch.tril(torch.ones(64, 64, dtype=torch.uint8))[None, None]

    def old(tensors):
        prefix = next(name for name in tensors if name.endswith("h.0.attn.c_attn.weight"))
        return tensors | {prefix.replace("c_attn.weight", "bias"): mask}

    toys.restored(a, old)
    merge(a, b, "all", tmp_path / "out", progress=False)
    found = weights(tmp_path / "out")
    assert torch.equal(found.pop(next(name for name in found if name.endswith("h.0.attn.bias"))), mask)
    assert bits(found, weights(b))
    merge(b, a, "all", tmp_path / "back", progress=False)
    assert bits(loaded(tmp_path / "back"), loaded(a))


# How much


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("alpha", [0.5, -0.25, 1.75])
def test_alpha_lies_between_and_beyond(pairs, tmp_path, dtype, alpha):
    a, b = pairs("phi3", dtype)
    merged = merge(a, b, ["q_proj", "down_proj"], tmp_path / "out", alpha=alpha, progress=False)
    expected, theirs = weights(a), weights(b)
    for name in expected:
        at = slice(0, 32) if "qkv" in name else slice(None)
        if "qkv" in name or "down_proj" in name:
            start = expected[name][at].double()
            blend = start + alpha * (theirs[name][at].double() - start)
            # Rounded once: NumPy goes from float64 to float16 in one step, and bfloat16 is within one of its ulps.
            if dtype == torch.bfloat16:
                found = weights(tmp_path / "out")[name][at]
                assert ((found.double() - blend).abs() <= blend.abs() * 2**-8 + 1e-45).all()
                expected[name][at] = found
            else:
                expected[name][at] = torch.from_numpy(blend.numpy().astype(str(dtype).removeprefix("torch.")))
    assert bits(weights(tmp_path / "out"), expected)
    assert (merged.frame["rounded"] <= merged.frame["chosen"]).all() and merged.frame["rounded"].sum() > 0


def test_alpha_zero_is_a(pairs, tmp_path):
    a, b = pairs()
    merged = merge(a, b, "all", tmp_path / "out", alpha=0, progress=False)
    assert bits(weights(tmp_path / "out"), weights(a))
    assert (merged.frame["sha256_before"] == merged.frame["sha256_after"]).all() and not merged.frame["changed"].any()


def test_alpha_zero_unties_nothing(tmp_path):
    a = toys.written("llama", tmp_path / "a", tied=True, seed=1)
    b = toys.written("llama", tmp_path / "b", tied=False, seed=2)
    merge(a, b, "all", tmp_path / "out", alpha=0, progress=False)
    assert bits(weights(tmp_path / "out"), weights(a))
    assert (tmp_path / "out" / "config.json").read_bytes() == (a / "config.json").read_bytes()


def test_task_arithmetic_over_donors_and_a_base(tmp_path):
    a, b, c, base = (toys.written("llama", tmp_path / name, seed=seed) for seed, name in enumerate("abcd"))
    donors = [ck.sfn.Donor(b, 0.75), (c, -0.5)]
    merged = merge(a, modules=["mlp"], out=tmp_path / "out", donors=donors, base=base, progress=False)
    mine, first, second, origin = (weights(each) for each in (a, b, c, base))
    for name in mine:
        if ".mlp." in name:
            vectors = 0.75 * (first[name].double() - origin[name].double())
            vectors += -0.5 * (second[name].double() - origin[name].double())
            assert torch.allclose(weights(tmp_path / "out")[name].double(), mine[name].double() + vectors, atol=1e-7)
            mine[name] = weights(tmp_path / "out")[name]
    assert bits(weights(tmp_path / "out"), mine)
    assert merged.manifest.told["donors"] == [{"name": str(b), "weight": 0.75}, {"name": str(c), "weight": -0.5}]
    assert merged.manifest.told["base"] == str(base)
    assert [each["name"] for each in merged.manifest.told["sources"]] == [str(b), str(c), str(base)]


def test_a_itself_as_the_base_changes_nothing(pairs, tmp_path):
    a, b = pairs()
    merge(a, b, ["mlp"], tmp_path / "one", base=a, progress=False)
    merge(a, modules=["mlp"], out=tmp_path / "two", donors=[(b, 1)], progress=False)
    merge(a, b, ["mlp"], tmp_path / "three", progress=False)
    assert bits(weights(tmp_path / "one"), weights(tmp_path / "three"))
    assert bits(weights(tmp_path / "two"), weights(tmp_path / "three"))


def test_a_model_in_memory_gives_and_does_not_take(pairs, tmp_path):
    a, b = pairs("mixtral")
    donor = ck.load(b)
    merge(a, donor, ["mlp", "q_proj"], tmp_path / "memory", progress=False)
    merge(a, b, ["mlp", "q_proj"], tmp_path / "folder", progress=False)
    assert bits(weights(tmp_path / "memory"), weights(tmp_path / "folder"))
    with pytest.raises(WritingError, match="is a model in memory, and a checkpoint is made from a folder: save it"):
        merge(donor, a, ["mlp"], tmp_path / "other", progress=False)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "give b, or donors="),
        ({"b": "deductor-5k", "donors": [("deductor-5k", 1)]}, "one of the two"),
        ({"donors": []}, "donors is empty"),
        ({"donors": [("deductor-5k", 1)], "alpha": 0.5}, "donors have weights of their own"),
        ({"b": "deductor-5k", "alpha": float("nan")}, "is a number, not nan"),
        ({"b": "deductor-5k", "out": None}, "say where to write"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, settings, told):
    with pytest.raises(MergeError, match=told):
        merge("deductor-5k-base", **{"modules": ["mlp"], "out": tmp_path / "out", **settings})


# Settings


def test_settings_that_differ_are_named_and_kept(tmp_path):
    a = toys.written("llama", tmp_path / "a", seed=1)
    b = toys.written("llama", tmp_path / "b", seed=2)
    theta = {"rope_theta": 5e5, "rope_type": "default"}
    toys.configured(b, rms_norm_eps=1e-3, rope_parameters=theta, attention_dropout=0.1)
    told = (
        r"a and .*b differ in how they compute: rms_norm_eps \(1e-06 and 0\.001\), rope_parameters\.rope_theta "
        r"\(10000\.0 and 500000\.0\)\. The merged model keeps the settings of .*a"
    )
    with pytest.warns(UserWarning, match=told):
        merged = merge(a, b, ["o_proj"], tmp_path / "out", progress=False)
    found = {each["setting"]: each for each in merged.manifest.told["settings"][str(b)]}
    assert found["attention_dropout"] == {"setting": "attention_dropout", "a": 0.0, "b": 0.1, "computed": False}
    assert found["rms_norm_eps"]["computed"] is True
    assert (tmp_path / "out" / "config.json").read_bytes() == (a / "config.json").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merge(a, b, (), tmp_path / "nothing", progress=False)


def test_embeddings_of_another_tokenizer_are_warned_of(tmp_path):
    a = toys.written("llama", tmp_path / "a", seed=1)
    b = toys.written("llama", tmp_path / "b", seed=2)
    file = b / "tokenizer.json"
    told = json.loads(file.read_text())
    numbers = told["model"]["vocab"]
    numbers["w3"], numbers["w4"] = numbers["w4"], numbers["w3"]
    numbers["new"] = numbers.pop("w5")
    file.write_text(json.dumps(told))
    with pytest.warns(UserWarning, match=r"give other numbers to 4 tokens, such as 'w3' \(3 and 4\)"):
        merge(a, b, ["embed"], tmp_path / "embed", progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merge(a, b, ["o_proj"], tmp_path / "o_proj", progress=False)
        file.write_text("{")
        merge(a, b, ["embed"], tmp_path / "unknown", progress=False)


# Before anything is written


def test_a_dry_run_says_what_would_change_and_reads_no_weights(tmp_path):
    a = toys.written("llama", tmp_path / "a", seed=1)
    b = toys.written("llama", tmp_path / "b", seed=2)
    dry = merge(a, b, ["o_proj", "norm"], layers=[0], dry_run=True)
    for folder in (a, b):
        toys.restored(folder, lambda tensors: {name: tensor * torch.nan for name, tensor in tensors.items()})
    again = merge(a, b, ["o_proj", "norm"], tmp_path / "out", layers=[0], dry_run=True)
    assert dry.frame.equals(again.frame) and dry.folder is None and dry.manifest is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    row = dry.frame.set_index("tensor").loc["model.layers.0.self_attn.o_proj.weight"]
    assert (row["roles"], row["layer"], row["shape"], row["bytes"]) == (("o_proj",), 0, (32, 32), 4096)
    assert len(dry.frame) == 3
    told = r"o_proj, norm of .*b into .*a: 3 of \d+ tensors, 1,088 of [\d,]+ numbers; nothing is written \(dry run\)"
    assert re.search(told, repr(dry))
    (tmp_path / "out").mkdir()
    with pytest.raises(WritingError, match="is there already"):
        merge(a, b, ["o_proj"], tmp_path / "out", dry_run=True)


def test_sources_are_never_written_into(pairs, tmp_path):
    a, b = pairs()
    before = contents(a), contents(b)
    (tmp_path / "link").symlink_to(b)
    for out in (a / "out", b / "deep" / "out", tmp_path / "link" / "out"):
        with pytest.raises(WritingError, match="sources are never written to"):
            merge(a, b, ["o_proj"], out, progress=False)
    for out in (a, b):
        with pytest.raises(WritingError, match="sources are never written to"):
            merge(a, b, ["o_proj"], out, progress=False)
    assert (contents(a), contents(b)) == before and sorted(path.name for path in a.parent.iterdir()) == ["a", "b"]


def test_links_of_a_cache_become_files(pairs, tmp_path):
    a, b = pairs()
    snapshot, blobs = tmp_path / "snapshots" / "0123", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in a.iterdir():
        blob = blobs / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copyfile(path, blob)
        (snapshot / path.name).symlink_to(blob)
    before = contents(tmp_path)
    merge(snapshot, b, ["o_proj"], tmp_path / "out", progress=False)
    assert {path.name for path in a.iterdir()} | {"manifest.json", "README.md"} == {
        path.name for path in (tmp_path / "out").iterdir()
    }
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())
    shutil.rmtree(tmp_path / "out")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("whose", "tensor", "modules"),
    [
        ("a", "model.layers.1.self_attn.o_proj.weight", ["o_proj"]),
        ("b", "model.layers.1.self_attn.o_proj.weight", ["o_proj"]),
        # A tensor that is only copied.
        ("a", "model.layers.2.mlp.up_proj.weight", ["o_proj"]),
        ("a", "model.norm.weight", ()),
    ],
)
@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_weights_that_are_no_numbers_are_named(tmp_path, whose, tensor, modules, value):
    a = toys.written("llama", tmp_path / "a", seed=1)
    b = toys.written("llama", tmp_path / "b", seed=2)

    def spoil(tensors):
        tensors[tensor].view(-1)[-1] = value
        return tensors

    toys.restored(tmp_path / whose, spoil)
    place = {1: r"\[31\]", 2: r"\[\d+, \d+\]"}[1 if "norm" in tensor else 2]
    with pytest.raises(CheckpointError, match=rf"{tensor} of .*{whose} holds (nan|-inf) at {place}"):
        merge(a, b, modules, tmp_path / "out", progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_is_not_whole_is_named(tmp_path):
    a = toys.written("llama", tmp_path / "a", shards=3, seed=1)
    b = toys.written("llama", tmp_path / "b", shards=3, seed=2)
    short, without = toys.copied(b, tmp_path / "short"), toys.copied(b, tmp_path / "without")
    shard = next(short.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-10])
    index = without / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    name = "model.layers.1.self_attn.o_proj.weight"
    del told["weight_map"][name]
    index.write_text(json.dumps(told))
    wide = toys.written("llama", tmp_path / "wide", intermediate_size=64)
    before = sorted(path.name for path in tmp_path.iterdir())
    for donor, error, what in (
        (short, CheckpointError, f"{shard.name} is cut short"),
        (without, CheckpointError, f"no entry for {name}"),
        (wide, PairError, r"gate_proj\.weight is \[48, 32\] in .*a and \[64, 32\] in .*wide"),
        (toys.written("gpt2", tmp_path / "gpt2"), PairError, "Llama, .* is GPT2"),
    ):
        for one, other in ((a, donor), (donor, a)):
            if error is PairError and one is donor:
                continue
            with pytest.raises(error, match=what):
                merge(one, other, ["o_proj", "mlp"], tmp_path / "out", progress=False)
    assert sorted({path.name for path in tmp_path.iterdir()} - {"gpt2"}) == before


def test_it_prints_itself_shortly(pairs, tmp_path):
    a, b = pairs()
    merged = merge(a, b, ["o_proj"], tmp_path / "out", alpha=0.5, progress=False)
    assert repr(merged) == f"Merged({merged.summary}; written to {tmp_path / 'out'})"
    assert merged.summary.startswith(f"o_proj of 0.5 · {b} into {a}: 3 of 30 tensors, 3,072 of ")
    assert merged.frame.to_csv().count("\n") == 4


# Who reads it


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_folder_computes_what_a_state_dict_put_together_by_hand_does(pairs, tmp_path, architecture):
    a, b = pairs(architecture)
    merge(a, b, ["o_proj", "up_proj"], tmp_path / "out", layers=[0, 2], progress=False)
    by_hand = AutoModelForCausalLM.from_pretrained(a, dtype=torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(b, dtype=torch.float32).state_dict()
    ends = ("o_proj.weight", "up_proj.weight", "attn.c_proj.weight", "c_fc.weight")
    taken = [name for name in theirs if name.endswith(ends) and ".1." not in name]
    assert len(taken) == 4
    by_hand.load_state_dict({name: theirs[name] for name in taken}, strict=False)
    expected = by_hand(toys.ids()).logits
    assert torch.equal(logits(tmp_path / "out"), expected)
    model = ck.load(tmp_path / "out")
    bridge = model.to_transformer_lens()
    assert torch.allclose(bridge(toys.ids()), expected, atol=1e-5)
    remote = ck.load(tmp_path / "out", engine="nnsight")
    assert torch.allclose(remote.run(toys.ids()).logits, expected, atol=1e-5)
    assert model.tokenizer is not None and model.tokenizer("w3 w4")["input_ids"] == [3, 4]
