"""Merges of every architecture: bit for bit, role by role, in every precision, and read by transformers and others."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import circuitkit as ck
from circuitkit.interop.transformer_lens import TransformerLensError
from circuitkit.model import roles
from circuitkit.sfn import Checkpoint, SelectionError, merge
from sfn import toys

pytestmark = pytest.mark.slow

# Code of its own, which transformers loads by a folder with that code in it.
NAMES = [name for name in toys.NAMES if name != "openelm_style"]


def tensors(folder):
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


@pytest.fixture(params=NAMES)
def pair(request, tmp_path):
    a = toys.written(request.param, tmp_path / "a", shards=3, seed=1)
    return a, toys.written(request.param, tmp_path / "b", seed=2)


def test_everything_is_b_nothing_is_a_and_roles_divide_it(pair, tmp_path):
    a, b = pair
    mine, theirs = tensors(a), tensors(b)
    merge(a, b, "all", tmp_path / "all", progress=False)
    merge(a, b, (), tmp_path / "nothing", progress=False)
    assert toys.equal(tensors(tmp_path / "all").items(), theirs.items())
    assert toys.equal(tensors(tmp_path / "nothing").items(), mine.items())
    untouched = {name: mine[name] != theirs[name] for name in mine}
    there = {role for part in Checkpoint.open(a).parts for role in part.roles}
    for role in (role for role in roles.ROLES if role in there):
        try:
            merged = merge(a, b, [role], tmp_path / role, biases=True, progress=False)
        except SelectionError as error:
            # A tied embedding, or a fused tensor of a layout that is not known.
            assert "name " in str(error)
            continue
        for name, found in tensors(tmp_path / role).items():
            changed = found != mine[name]
            assert torch.equal(found[changed], theirs[name][changed])
            assert not (changed & ~untouched[name]).any(), f"{name} changes with {role} and with another role"
            untouched[name] &= ~changed
            assert changed.any() == (name in set(merged.frame["tensor"]))
        merged.manifest.verify(tmp_path / role, a)
    left = {role for part in Checkpoint.open(a).parts if untouched[part.tensor].any() for role in part.roles}
    assert left <= {"embed", "lm_head"} or len(left) > 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_kept_bit_for_bit(tmp_path, dtype):
    for name in NAMES:
        a = toys.written(name, tmp_path / name / "a", dtype=dtype, seed=1)
        b = toys.written(name, tmp_path / name / "b", dtype=dtype, seed=2)
        merge(a, b, "all", tmp_path / name / "all", progress=False)
        assert toys.equal(tensors(tmp_path / name / "all").items(), tensors(b).items())


def test_the_merged_folder_computes_as_weights_put_together_by_hand(pair, tmp_path):
    a, b = pair
    merge(a, b, ["o_proj", "down_proj"], tmp_path / "out", layers=[0, -1], biases=True, progress=False)
    by_hand, theirs = (AutoModelForCausalLM.from_pretrained(folder) for folder in (a, b))
    model, other = ck.Model(by_hand, None), dict(theirs.named_parameters())
    taken = roles.chosen(model, ["o_proj", "down_proj"], layers=[0, -1])
    with torch.no_grad():
        for name in taken:
            by_hand.get_parameter(name).copy_(other[name])
    expected = by_hand(toys.ids()).logits
    found = ck.load(tmp_path / "out")
    assert torch.equal(found.hf(toys.ids()).logits, expected)
    assert not torch.equal(AutoModelForCausalLM.from_pretrained(a)(toys.ids()).logits, expected)
    remote = ck.load(tmp_path / "out", engine="nnsight")
    assert torch.allclose(remote.run(toys.ids()).logits, expected, atol=1e-5)
    try:
        ck.load(a).to_transformer_lens()
    except TransformerLensError as error:
        pytest.skip(f"transformers and nnsight read it; TransformerLens has no faithful bridge, merged or not: {error}")
    assert torch.allclose(found.to_transformer_lens()(toys.ids()), expected, atol=2e-4)
