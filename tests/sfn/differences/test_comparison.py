"""Norms, cosines, heads and ranks of any two checkpoints against plain PyTorch on the loaded models."""

import math
import shutil
import warnings

import numpy as np
import pytest
import torch

import circuitkit as ck
from circuitkit.sfn import Checkpoint, CheckpointError, PairError, SelectionError
from circuitkit.sfn.differences import looking, passing_by, spectra
from sfn import toys

MEASURES = ["norm", "norm_a", "norm_b", "relative", "rms", "cosine", "cosine_with_a"]
ARCHITECTURES = ["llama", "gpt2", "phi3", "gpt_neox", "falcon_multi_head", "qwen3_moe", "gpt_bigcode", "qwen2"]


def compared(a, b, *arguments, **settings):
    """A comparison without what takes longest, unless it is asked for."""
    return ck.sfn.delta(a, b, *arguments, **{"progress": False, "bimodality": False, **settings})


def by_hand(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    change = b - a
    norm, norm_a, norm_b = (float(each.norm()) for each in (change, a, b))
    return {
        "norm": norm,
        "norm_a": norm_a,
        "norm_b": norm_b,
        "relative": norm / norm_a if norm_a else math.nan,
        "rms": norm / math.sqrt(len(a)),
        "cosine": float(a @ b) / (norm_a * norm_b) if norm_a and norm_b else math.nan,
        "cosine_with_a": float(change @ a) / (norm * norm_a) if norm and norm_a else math.nan,
    }


def agrees(row, expected, rel=1e-9):
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=rel, abs=1e-12, nan_ok=True), name


def parts_by_row(checkpoint):
    """The weights of a checkpoint by what tells a row of the frame."""
    return {
        (
            "+".join(part.roles),
            -1 if part.layer is None else part.layer,
            part.parameter.removesuffix(".weight"),
            -1 if part.expert is None else part.expert,
        ): part
        for part in checkpoint.parts
        if part.roles and not part.bias
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_module_and_head_against_whole_tensors(architecture, tmp_path):
    a, b = (
        toys.written(architecture, tmp_path / name, seed=seed, shards=shards)
        for name, seed, shards in (("a", 0, 1), ("b", 1, 3))
    )
    found = compared(a, b)
    one, other = Checkpoint.open(a), Checkpoint.open(b)
    parts, theirs = parts_by_row(one), parts_by_row(other)
    assert len(found.frame) == len(parts)
    for row in found.frame.to_dict("records"):
        key = row["module"], row["layer"], row["name"], row["expert"]
        weights = [each[key].take(side.read(each[key].tensor)) for each, side in ((parts, one), (theirs, other))]
        agrees(row, by_hand(*weights))
        change = (weights[1] - weights[0]).double()
        assert row["unchanged"] == float((change == 0).double().mean())
        if change.ndim == 2:
            spectral = float(torch.linalg.matrix_norm(change, 2))
            assert row["stable_rank"] == pytest.approx(float(change.square().sum()) / spectral**2, rel=1e-4)
        else:
            assert math.isnan(row["stable_rank"])
    for row in found.heads.to_dict("records"):
        key = row["module"], row["layer"], row["name"], row["expert"]
        shares = [
            each[key].head(row["head"]).take(side.read(each[key].tensor))
            for each, side in ((parts, one), (theirs, other))
        ]
        agrees({name: row[name] for name in MEASURES}, by_hand(*shares))
    expected = sum(part.heads for part in parts.values() if part.heads is not None)
    assert len(found.heads) == expected > 0


@pytest.mark.parametrize("architecture", ["gpt2", "qwen2"])
def test_biases_are_added_as_the_papers_heat_map_adds_them(architecture, tmp_path):
    a, b = (toys.written(architecture, tmp_path / str(seed), seed=seed) for seed in (0, 1))
    frame = compared(a, b).frame
    one, other = Checkpoint.open(a), Checkpoint.open(b)
    biases = {
        (part.roles, part.layer): (part, theirs)
        for part, theirs in zip(one.parts, other.parts, strict=True)
        if part.bias and "norm" not in part.roles
    }
    assert biases
    for (roles, layer), (part, theirs) in biases.items():
        (row,) = frame[(frame["module"] == "+".join(roles)) & (frame["layer"] == layer)].to_dict("records")
        change = theirs.take(other.read(theirs.tensor)).double() - part.take(one.read(part.tensor)).double()
        assert row["bias_norm"] == pytest.approx(float(change.norm()), rel=1e-9)
        assert row["combined"] == pytest.approx(row["norm"] + row["bias_norm"], rel=1e-12)
    without = frame[frame["bias_norm"].isna()]
    assert (without["combined"] == without["norm"]).all()


@pytest.mark.parametrize(
    ("dtype_a", "dtype_b"),
    [(torch.bfloat16, torch.bfloat16), (torch.float16, torch.bfloat16), (torch.float32, torch.float16)],
)
def test_dtypes_may_differ(dtype_a, dtype_b, tmp_path):
    a = toys.written("llama", tmp_path / "a", dtype=dtype_a, seed=0)
    b = toys.written("llama", tmp_path / "b", dtype=dtype_b, seed=1, shards=2)
    found = compared(a, b).frame
    one, other = Checkpoint.open(a), Checkpoint.open(b)
    for row in found.to_dict("records"):
        name = row["name"] + ".weight"
        agrees(row, by_hand(one.read(name), other.read(name)))
        assert (row["dtype_a"], row["dtype_b"]) == tuple(
            str(each).removeprefix("torch.") for each in (dtype_a, dtype_b)
        )


def test_the_same_checkpoint_has_not_changed_and_says_so_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compared("deductor-20k-base", "deductor-20k-base", histogram="code", bimodality=True)
    frame = found.frame
    assert (frame[["norm", "relative", "rms", "combined"]] == 0).all().all()
    assert (frame["cosine"] == 1).all() and (frame["unchanged"] == 1).all()
    assert frame["cosine_with_a"].isna().all() and frame["stable_rank"].isna().all()
    assert set(frame["verdict"]) == {"unchanged"}
    assert (found.heads["norm"] == 0).all() and (found.heads["cosine"] == 1).all()


def test_a_module_that_was_emptied_has_no_direction(tmp_path):
    a = toys.written("llama", tmp_path / "a")
    b = toys.copied(a, tmp_path / "b")
    emptied = "model.layers.1.self_attn.o_proj.weight"
    toys.restored(b, lambda tensors: tensors | {emptied: torch.zeros_like(tensors[emptied])})
    frame = compared(a, b, ["o_proj"]).frame.set_index("layer")
    assert frame.loc[1, "relative"] == 1 and frame.loc[1, "norm_b"] == 0
    assert math.isnan(frame.loc[1, "cosine"]) and frame.loc[1, "cosine_with_a"] == pytest.approx(-1)
    assert (frame.loc[[0, 2], "norm"] == 0).all()


def test_small_changes_of_large_weights_keep_their_digits(tmp_path):
    a = toys.written("llama", tmp_path / "a", dtype=torch.float64)
    b = toys.copied(a, tmp_path / "b")
    noise = torch.Generator().manual_seed(3)
    toys.restored(
        b,
        lambda tensors: {
            name: each + 1e-9 * torch.randn(each.shape, generator=noise, dtype=each.dtype)
            for name, each in tensors.items()
        },
    )
    one, other = Checkpoint.open(a), Checkpoint.open(b)
    for row in compared(a, b, ["q_proj"]).frame.to_dict("records"):
        name = row["name"] + ".weight"
        expected = by_hand(one.read(name), other.read(name))
        assert row["norm"] == pytest.approx(expected["norm"], rel=1e-9)
        # 1 − cosine is about half the square of the relative change across A.
        assert 0 <= 1 - row["cosine"] < 1e-12


@pytest.mark.parametrize("block", [1, 700])
def test_blocks_and_threads_change_nothing(block, tmp_path, monkeypatch):
    a, b = (toys.written("gpt2", tmp_path / str(seed), seed=seed) for seed in (0, 1))
    expected, again = (compared(a, b, "attention", bimodality=True) for _ in range(2))
    assert again.frame.equals(expected.frame) and again.heads.equals(expected.heads)
    monkeypatch.setattr(passing_by, "BLOCK", block)
    monkeypatch.setattr(spectra, "BLOCK", block)
    monkeypatch.setattr(spectra, "HELD", 0)
    found = compared(a, b, "attention", bimodality=True)
    for table in ("frame", "heads", "trajectory"):
        one, other = getattr(found, table), getattr(expected, table)
        numbers = one.select_dtypes("number").columns
        assert np.allclose(one[numbers], other[numbers], rtol=1e-5, atol=1e-12, equal_nan=True)
    assert found.frame["verdict"].tolist() == expected.frame["verdict"].tolist()
    for one, other in zip(found.histograms, expected.histograms, strict=True):
        assert (one.counts == other.counts).all() and (one.zeros, one.beyond) == (other.zeros, other.beyond)


def test_models_in_memory_are_compared_like_their_folders(tmp_path):
    folders = [toys.written("phi3", tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    models = [toys.model("phi3", seed=seed) for seed in (0, 1)]
    on_disk, in_memory, mixed = compared(*folders), compared(*models), compared(folders[0], models[1])
    order = ["module", "layer", "name"]
    expected = on_disk.frame.sort_values(order)[MEASURES].to_numpy()
    for found in (in_memory, mixed):
        assert np.allclose(found.frame.sort_values(order)[MEASURES].to_numpy(), expected, rtol=1e-12)


def test_experts_in_memory_and_in_files_are_laid_out_otherwise_and_compared_alike(tmp_path):
    folder = toys.written("qwen3_moe", tmp_path / "a", seed=0)
    model = toys.model("qwen3_moe", seed=1)
    other = tmp_path / "b"
    toys.save(model.hf, other)
    order = ["module", "layer", "expert", "norm"]
    expected = compared(folder, other).frame.sort_values(order)[MEASURES].to_numpy()
    assert np.allclose(compared(folder, model).frame.sort_values(order)[MEASURES].to_numpy(), expected, rtol=1e-12)


def test_tied_against_untied(tmp_path):
    tied = toys.written("llama", tmp_path / "tied", tied=True, seed=0)
    untied = toys.written("llama", tmp_path / "untied", tied=False, seed=1)
    one, other = Checkpoint.open(tied), Checkpoint.open(untied)
    embedding = one.read("model.embed_tokens.weight")
    frame = compared(tied, untied).frame.set_index("module")
    agrees(frame.loc["embed"], by_hand(embedding, other.read("model.embed_tokens.weight")))
    agrees(frame.loc["lm_head"], by_hand(embedding, other.read("lm_head.weight")))
    assert "embed+lm_head" in compared(tied, tied).frame["module"].tolist()
    with pytest.raises(PairError, match="ties its embedding"):
        compared(tied, [untied, tied])


def test_vocabularies_of_another_size_are_refused_or_left_out(tmp_path):
    a = toys.written("llama", tmp_path / "a")
    b = toys.written("llama", tmp_path / "b", vocab_size=toys.VOCABULARY + 8)
    with pytest.raises(PairError, match="vocabularies differ in size"):
        compared(a, b)
    assert not {"embed", "lm_head"} & set(compared(a, b, vocabulary="leave-out").frame["module"])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("side", ["a", "b"])
def test_what_is_not_finite_is_refused_by_name_and_place(value, side, tmp_path):
    a = toys.written("llama", tmp_path / "a")
    toys.copied(a, tmp_path / "b")
    spoiled = "model.layers.2.mlp.up_proj.weight"

    def spoil(tensors):
        tensors[spoiled][5, 3] = value
        return tensors

    toys.restored(tmp_path / side, spoil)
    with pytest.raises(CheckpointError, match=rf"{spoiled} of .*{side} holds {value} at \[5, 3\]"):
        compared(a, tmp_path / "b")
    assert len(compared(a, tmp_path / "b", ["o_proj"]).frame) == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"modules": ["o_pro"]}, "no module 'o_pro'"),
        ({"layers": 7}, "layer 7 does not exist"),
        ({"histogram": "papers"}, "'paper', 'code' or None, not 'papers'"),
        ({"b": []}, "nothing to compare with"),
    ],
)
def test_what_is_not_there_is_refused(settings, said):
    with pytest.raises(SelectionError, match=said):
        compared("deductor-20k-base", **{"b": "deductor-20k", **settings})


def test_other_architectures_are_refused(tmp_path):
    with pytest.raises(PairError, match="has nothing for"):
        compared(toys.written("llama", tmp_path / "a"), toys.written("gpt2", tmp_path / "b"))


def test_modules_layers_and_what_is_not_asked_for():
    found = compared(
        "deductor-20k-base",
        "deductor-20k",
        "attention",
        -1,
        per_head=False,
        histogram=None,
        stable_rank=False,
    )
    assert found.frame["module"].tolist() == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert set(found.frame["layer"]) == {1} and found.frame["stable_rank"].isna().all()
    assert "verdict" not in found.frame and not len(found.heads)
    assert found.histograms == () == found.shapes


def test_whole_numbers_stored_among_weights_are_no_weights(tmp_path):
    a = toys.written("llama", tmp_path / "a")
    b = toys.written("llama", tmp_path / "b", seed=1)
    assert set(compared(a, b, "all").frame["name"]) >= set(compared(a, b).frame["name"])


def test_a_sample_is_the_same_for_all_layouts_and_is_no_more_than_asked(monkeypatch):
    monkeypatch.setattr(looking, "SAMPLE", 100)
    part = next(part for part in Checkpoint.open("deductor-20k").parts if part.roles == ("down_proj",))
    first, again, other = (looking.sampled(part, seed) for seed in (0, 0, 1))
    assert (first == again).all() and len(np.unique(first)) == 100 and (first != other).any()
    assert first.max() < part.numel and (np.diff(first) > 0).all()


def test_provenance_tells_both_sources(tmp_path):
    folder = tmp_path / "b"
    shutil.copytree(toys.written("llama", tmp_path / "a"), folder)
    told = compared(tmp_path / "a", folder, ["o_proj"]).provenance
    assert told["a"]["name"] == str(tmp_path / "a") and told["b"][0]["folder"] == str(folder)
    assert told["histogram"] == "paper" and "circuitkit" in told["versions"]
