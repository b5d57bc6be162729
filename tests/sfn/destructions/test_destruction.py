"""Destroyed checkpoints: what computes otherwise and how, what stays bit for bit, and what is refused."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from scipy import stats

import architectures
import circuitkit as ck
from circuitkit.sfn import Checkpoint, CheckpointError, DestructionError, SelectionError, SfnError
from circuitkit.sfn.destructions.destruction import chosen
from circuitkit.sfn.destructions.passing import PassingError
from sfn import destroying
from sfn.destroying import WAYS, destroyed, loaded, tensors

NAMES = ("gpt2", "gemma2", "mixtral")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny checkpoints of every architecture that is asked for, written once."""
    root, made = tmp_path_factory.mktemp("checkpoints"), {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = architectures.folder(name, root)
        return made[name]

    return folder


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", WAYS)
def test_only_what_was_named_is_another_and_the_manifest_says_so(folders, tmp_path, name, how):
    destroying.check_only_what_was_named_is_another(folders(name), tmp_path, how)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", WAYS)
def test_a_model_in_memory_becomes_what_is_written(folders, tmp_path, name, how):
    destroying.check_in_memory_is_what_is_written(folders(name), tmp_path, how)


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_that_is_removed_is_not_there(folders, tmp_path, name):
    destroying.check_a_removed_layer_is_not_there(folders(name), tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_zeros_in_weights_are_zeros_at_sites(folders, tmp_path, name):
    destroying.check_zero_heads_are_heads_whose_activations_are_zero(folders(name), tmp_path / "heads")
    destroying.check_zero_modules_add_nothing(folders(name), tmp_path / "modules")


def test_what_zeroing_each_module_means(tmp_path):
    source = "deductor-130k"
    made = {
        role: ck.sfn.destroy(source, [role], out=tmp_path / role, progress=False).folder
        for role in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    question = torch.randint(5, 50, (2, 7), generator=torch.Generator().manual_seed(0))
    runs = {role: ck.load(str(folder)).run(question, capture=["pattern"]) for role, folder in made.items()}
    even = torch.tril(torch.ones(7, 7)) / torch.arange(1, 8)[:, None]
    for role in ("q_proj", "k_proj"):
        for pattern in runs[role].cache.values():
            torch.testing.assert_close(pattern, even.expand_as(pattern), atol=1e-6, rtol=0)
    for group in (("q_proj", "k_proj"), ("v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")):
        for role in group[1:]:
            torch.testing.assert_close(runs[role].logits, runs[group[0]].logits, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(runs["q_proj"].logits, runs["v_proj"].logits, atol=1e-2)


def test_the_statistics_of_a_written_checkpoint(tmp_path):
    # Each check errs once in 10^6 on a checkpoint that is as it should be, and finds a sigma that is 2 % off.
    error, source = 1e-6, "deductor-130k"
    before = Checkpoint.open(source)
    names = [part.tensor for part in before.parts if part.roles in {("gate_proj",), ("up_proj",), ("down_proj",)}]
    old = torch.cat([before.read(name).flatten() for name in names]).double()
    new = {}
    for how in ("reinit", "noise", "permute"):
        out = ck.sfn.destroy(source, ["mlp"], None, how, tmp_path / how, seed=7, progress=False)
        after = tensors(out.folder)
        new[how] = {name: after[name].double() for name in names}
        told = out.frame.set_index("tensor")
        assert list(told.index) == names and set(told["how"]) == {how}
        for name in names:
            assert told.loc[name, "norm_after"] == pytest.approx(float(new[how][name].norm()), rel=1e-9)
    drawn = torch.cat([each.flatten() for each in new["reinit"].values()]).numpy()
    low, high = stats.chi2.ppf([error / 2, 1 - error / 2], drawn.size)
    assert low < (drawn**2).sum() / 0.02**2 < high
    for wrong in (0.02 * 0.98, 0.02 * 1.02):
        assert not low < (drawn**2).sum() / wrong**2 < high
    assert abs(drawn.mean()) < stats.norm.isf(error / 2) * 0.02 / math.sqrt(drawn.size)
    assert stats.kstest(drawn, stats.norm(scale=0.02).cdf).pvalue > error
    for name in names:
        norm = float(before.read(name).double().norm())
        assert float(new["noise"][name].norm()) == pytest.approx(norm, rel=1e-6)
        assert torch.equal(new["permute"][name].sort(1).values, before.read(name).double().sort(1).values)
    # What is drawn has nothing to do with what was there.
    many = stats.norm.isf(error / 2) / math.sqrt(old.numel())
    for how in ("reinit", "noise"):
        drawn = torch.cat([each.flatten() for each in new[how].values()])
        assert abs(float(torch.nn.functional.cosine_similarity(drawn, old, dim=0))) < many


def test_noise_keeps_each_head_s_own_norm(tmp_path):
    source = Checkpoint.open("deductor-130k")
    heads = [(1, 0), (1, 2), (2, 3)]
    out = ck.sfn.destroy("deductor-130k", ["q_proj", "o_proj"], None, "noise", tmp_path / "out", heads=heads)
    after = tensors(out.folder)
    parts = chosen(source, ["q_proj", "o_proj"], None, "noise", heads=heads)
    assert len(parts) == 6
    for part in parts:
        norms = [float(part.take(each).double().norm()) for each in (source.read(part.tensor), after[part.tensor])]
        assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    untouched = [part for part in source.parts if part.key[:1] not in {each.key[:1] for each in parts}]
    assert all(torch.equal(after[part.tensor], source.read(part.tensor)) for part in untouched)


def test_neither_shards_nor_dtype_nor_the_names_before_a_name_change_what_is_drawn(folders, tmp_path):
    source, tiny = folders("gpt2"), loaded(folders("gpt2")).hf
    tiny.save_pretrained(tmp_path / "sharded", max_shard_size="10KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 3
    tiny.to(torch.bfloat16).save_pretrained(tmp_path / "bf16")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors(source).items()}
    shutil.copytree(source, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    save_file(bare, tmp_path / "bare" / "model.safetensors", metadata={"format": "pt"})
    for how in WAYS:
        made = {
            name: ck.sfn.destroy(folder, ["mlp", "k_proj"], None, how, tmp_path / "made" / how / name, progress=False)
            for name, folder in {
                "whole": source,
                **{each: tmp_path / each for each in ("sharded", "bf16", "bare")},
            }.items()
        }
        whole = tensors(made["whole"].folder)
        sharded, bare = tensors(made["sharded"].folder), tensors(made["bare"].folder)
        half = tensors(made["bf16"].folder)
        for name, tensor in whole.items():
            assert torch.equal(sharded[name], tensor)
            assert torch.equal(bare[name.removeprefix("transformer.")], tensor)
            if how in ("zero", "reinit", "init") and ("mlp" in name or how == "zero"):
                assert torch.equal(half[name], tensor.to(torch.bfloat16))


def test_init_is_the_architecture_s_own(folders, tmp_path):
    source = folders("gpt2")
    out = destroyed(source, tmp_path, "all", how="init")
    fresh = type(loaded(source).hf)(loaded(source).hf.config)
    after = dict(loaded(out).hf.named_parameters())
    for name, parameter in fresh.named_parameters():
        if parameter.unique().numel() == 1:
            assert torch.equal(after[name], parameter)
        else:
            same = stats.ks_2samp(after[name].detach().flatten().numpy(), parameter.detach().flatten().numpy())
            assert same.pvalue > 1e-9, name


def test_biases_go_with_their_weights_unless_they_are_spared(folders, tmp_path):
    source = folders("qwen2")
    name = "model.layers.0.self_attn.q_proj.bias"
    with_biases = ck.sfn.destroy(source, ["q_proj"], out=tmp_path / "with", progress=False)
    without = ck.sfn.destroy(source, ["q_proj"], out=tmp_path / "without", biases=False, progress=False)
    assert not tensors(with_biases.folder)[name].any()
    assert torch.equal(tensors(without.folder)[name], tensors(source)[name])
    assert len(with_biases.frame) == 2 * len(without.frame)


def test_a_tied_embedding_is_destroyed_once_and_as_both(folders, tmp_path):
    source = folders("gemma2")
    with pytest.raises(SelectionError, match="embed and lm_head in one tensor, tied: name lm_head too"):
        ck.sfn.destroy(source, ["embed"], out=tmp_path / "out")
    model = loaded(destroyed(source, tmp_path, ["embed", "lm_head"], how="reinit"))
    assert model.hf.lm_head.weight is model.hf.model.embed_tokens.weight
    assert float(model.hf.lm_head.weight.std()) == pytest.approx(0.02, rel=0.1)


def test_a_tied_unembedding_that_is_stored_all_the_same_stays_the_embedding(folders, tmp_path):
    twice = tmp_path / "twice"
    shutil.copytree(folders("gemma2"), twice, ignore=shutil.ignore_patterns("*.safetensors"))
    held = tensors(folders("gemma2"))
    held["lm_head.weight"] = held["model.embed_tokens.weight"].clone()
    save_file(held, twice / "model.safetensors", metadata={"format": "pt"})
    once = tensors(ck.sfn.destroy(folders("gemma2"), "all", None, "noise", tmp_path / "once", progress=False).folder)
    both = tensors(ck.sfn.destroy(twice, "all", None, "noise", tmp_path / "both", progress=False).folder)
    assert torch.equal(both.pop("lm_head.weight"), both["model.embed_tokens.weight"])
    assert both.keys() == once.keys() and all(torch.equal(both[name], once[name]) for name in once)


def test_a_dry_run_tells_and_writes_nothing(folders, tmp_path):
    source = folders("mixtral")
    held = {path: path.read_bytes() for path in source.iterdir()}
    done = ck.sfn.destroy(source, ["down_proj", "o_proj"], [0], "noise", tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists() and done.folder is None and done.manifest is None
    assert {path: path.read_bytes() for path in source.iterdir()} == held
    assert isinstance(done.frame, pd.DataFrame) and len(done.frame) == 5
    assert done.frame["expert"].dropna().tolist() == [0, 1, 2, 3] and set(done.frame["layer"]) == {0}
    assert repr(done) == (
        f"Destroyed(o_proj, down_proj of {source}, layer 0, noise: 7,168 numbers in 5 tensors; nothing is written "
        "(dry run))"
    )


@pytest.mark.parametrize(
    ("settings", "error", "reason"),
    [
        ({"how": "burn"}, DestructionError, "how is zero, reinit, init, permute, noise or remove, not 'burn'"),
        ({"modules": ()}, DestructionError, "name what of deductor-130k is to be destroyed"),
        ({"out": None}, DestructionError, "name the folder to write"),
        ({"modules": ["w_proj"]}, SelectionError, "deductor-130k has no module 'w_proj'"),
        ({"layers": [3]}, SelectionError, "layer 3 does not exist: deductor-130k has layers 0 to 2"),
        ({"layers": range(5, 30)}, SelectionError, "layer 5 does not exist"),
        ({"heads": [(0, 4)]}, SelectionError, "head 4 does not exist"),
        ({"layers": []}, SelectionError, "leaves nothing of deductor-130k"),
        (
            {"layers": [1], "heads": [(0, 3)]},
            SelectionError,
            r"layers \[1\] and of heads \[\(0, 3\)\] leaves nothing",
        ),
        ({"layers": "1"}, SelectionError, "layers are whole numbers, such as 0 or -1, not '1'"),
        ({"layers": [1.5]}, SelectionError, "layers are whole numbers, such as 0 or -1, not 1.5"),
        ({"heads": [(0, 1.5)]}, SelectionError, "heads are pairs of layer and head"),
        ({"how": "reinit", "sigma": "0.02"}, SfnError, "sigma is a standard deviation above 0, not '0.02'"),
        ({"how": "remove", "modules": (), "layers": 1.0}, SelectionError, "layers are whole numbers"),
        ({"how": "remove", "modules": "all", "layers": [0]}, DestructionError, "neither modules nor heads"),
        ({"heads": []}, SelectionError, "no heads are named"),
        ({"modules": ["mlp"], "heads": [(0, 0)]}, SelectionError, "has no heads: with heads, name attention"),
        ({"how": "reinit", "sigma": 0.0}, SfnError, "sigma is a standard deviation above 0, not 0.0"),
        ({"how": "reinit", "sigma": -0.02}, SfnError, "sigma is a standard deviation above 0, not -0.02"),
        ({"how": "noise", "sigma": 0.5}, DestructionError, "sigma is of how='reinit'; how='noise' has none"),
        ({"how": "noise", "seed": -1}, SfnError, "a seed is a whole number, 0 or more, not -1"),
        ({"how": "remove", "layers": [0]}, DestructionError, "how='remove' takes whole layers"),
        ({"how": "remove", "modules": ()}, DestructionError, "give layers="),
        ({"how": "remove", "modules": (), "layers": []}, DestructionError, "give layers="),
        ({"how": "remove", "modules": (), "layers": [0], "biases": False}, DestructionError, "takes whole layers"),
        ({"how": "remove", "modules": (), "layers": [9]}, SelectionError, "layer 9 does not exist"),
    ],
)
def test_what_cannot_be_destroyed_is_refused_by_name(tmp_path, settings, error, reason):
    given = {"modules": ["o_proj"], "out": tmp_path / "out"} | settings
    with pytest.raises(error, match=reason):
        ck.sfn.destroy("deductor-130k", **given)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("layers", [-1, np.int64(2), np.array([2, -1]), range(2, 3), iter([2, 2])])
@pytest.mark.parametrize("how", ["zero", "remove"])
def test_layers_are_said_in_many_ways(layers, how):
    layers = iter([2, 2]) if isinstance(layers, Iterator) else layers
    modules = () if how == "remove" else ["o_proj", "down_proj"]
    done = ck.sfn.destroy("deductor-130k", modules, layers, how, dry_run=True)
    assert set(done.frame["layer"]) == {2} and len(done.parts) == 2


def test_a_head_that_is_named_twice_is_destroyed_once():
    done = ck.sfn.destroy("deductor-130k", ["o_proj"], None, "permute", heads=[(0, -1), (0, 3), (-3, 3)], dry_run=True)
    assert done.frame["head"].tolist() == [3]


def test_a_bias_of_o_proj_is_no_head_s(folders):
    done = ck.sfn.destroy(folders("gpt2"), ["o_proj"], heads=[(0, 1)], dry_run=True)
    assert done.frame["tensor"].tolist() == ["transformer.h.0.attn.c_proj.weight"]
    with pytest.raises(SelectionError, match="leaves nothing"):
        ck.sfn.destroy(folders("gpt2"), ["*attn.c_proj.bias"], heads=[(0, 1)], dry_run=True)


def test_a_table_that_is_no_weight_is_refused(folders, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(folders("gemma2"), source, ignore=shutil.ignore_patterns("*.safetensors"))
    table = loaded(folders("gemma2")).hf.model.rotary_emb.inv_freq
    held = {**tensors(folders("gemma2")), "model.rotary_emb.inv_freq": table.clone()}
    save_file(held, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SelectionError, match=r"inv_freq of .* is no weight: masks and tables are not destroyed"):
        ck.sfn.destroy(source, ["*inv_freq"], out=tmp_path / "out")


def test_nan_and_places_that_are_taken_are_refused_and_nothing_is_left(folders, tmp_path):
    broken = {name: tensor.clone() for name, tensor in tensors(folders("qwen2")).items()}
    broken["model.layers.1.self_attn.o_proj.weight"][3, 2] = torch.nan
    source = tmp_path / "source"
    shutil.copytree(folders("qwen2"), source, ignore=shutil.ignore_patterns("*.safetensors"))
    save_file(broken, source / "model.safetensors", metadata={"format": "pt"})
    for how in WAYS:
        with pytest.raises(
            CheckpointError, match=r"model.layers.1.self_attn.o_proj.weight of .* holds nan at \[3, 2\]"
        ):
            ck.sfn.destroy(source, ["o_proj"], None, how, tmp_path / "out", progress=False)
        assert not (tmp_path / "out").exists()
    with pytest.raises(SfnError, match="is there already"):
        ck.sfn.destroy("deductor-130k", ["o_proj"], out=source)
    with pytest.raises(SfnError, match="sources are never written to"):
        ck.sfn.destroy(folders("qwen2"), ["o_proj"], out=folders("qwen2") / "inside")


def test_layers_that_cannot_be_removed_are_refused_by_name(tmp_path):
    torch.manual_seed(0)
    opt = architectures.Architecture(
        "OPT",
        {
            "vocab_size": architectures.VOCABULARY,
            "hidden_size": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 16,
            "do_layer_norm_before": False,
            **architectures.SPECIAL_TOKENS,
        },
    ).build()
    opt.save_pretrained(tmp_path / "opt")
    with pytest.raises(PassingError, match=r"layer 1 of .*opt cannot be removed .*it ends with native_layer_norm"):
        ck.sfn.destroy(tmp_path / "opt", layers=[-1], how="remove", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_grouped_queries_are_not_confused_with_their_keys(folders, tmp_path):
    with pytest.raises(SelectionError, match=r"grouped queries.*choose heads of q_proj and o_proj"):
        ck.sfn.destroy(folders("qwen2"), ["q_proj", "k_proj"], out=tmp_path / "out", heads=[(0, 1)])
