"""What holds of a destroyed checkpoint of whatever architecture, held against taps of the whole model."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import architectures
import circuitkit as ck
from circuitkit.sfn import Checkpoint
from circuitkit.sfn.destructions.destruction import chosen, edits
from circuitkit.sfn.written.manifest import Manifest

WAYS = ("zero", "reinit", "init", "permute", "noise")
TOKENS = architectures.prompts().input_ids


def loaded(folder: Path) -> ck.Model:
    return ck.Model(AutoModelForCausalLM.from_pretrained(folder).eval().requires_grad_(False), None)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def destroyed(source, tmp_path, modules=(), layers=None, how="zero", **settings) -> Path:
    done = ck.sfn.destroy(source, modules, layers, how, tmp_path / "out", progress=False, **settings)
    assert done.folder == tmp_path / "out"
    return done.folder


def logits(model: ck.Model, interventions=()) -> torch.Tensor:
    return model.run(TOKENS, list(interventions)).logits


def check_only_what_was_named_is_another(source: Path, tmp_path: Path, how: str) -> None:
    """All outside of the named parts is what it was, bit for bit, and the manifest proves it."""
    out = destroyed(source, tmp_path, ["v_proj", "down_proj"], [1, -1], how)
    before, after = tensors(source), tensors(out)
    assert before.keys() == after.keys()
    checkpoint = Checkpoint.open(source)
    named = [part for part in checkpoint.parts if {"v_proj", "down_proj"} & set(part.roles)]
    inside = [part for part in named if part.layer in (1, max(part.layer for part in named))]
    changed = {tensor: torch.zeros_like(before[tensor], dtype=torch.bool) for tensor in before}
    for part in inside:
        part.put(changed[part.tensor], torch.ones(part.shape, dtype=torch.bool))
    for tensor, mask in changed.items():
        assert torch.equal(after[tensor][~mask], before[tensor][~mask]), tensor
        assert after[tensor].dtype == before[tensor].dtype
    for part in inside:
        new, old = part.take(after[part.tensor]), part.take(before[part.tensor])
        assert not torch.equal(new, old) or (how == "permute" and min(new.shape) == 1)
    manifest = Manifest.load(out)
    manifest.verify(out, source)
    assert {change.tensor for change in manifest.changes} == {part.tensor for part in inside}
    assert manifest.told["kind"] == "destroy" and manifest.told["how"] == how
    assert loaded(out).hf(input_ids=TOKENS).logits.isfinite().all()


def check_in_memory_is_what_is_written(source: Path, tmp_path: Path, how: str) -> None:
    """Edits of a model in memory give the folder's numbers, bit for bit."""
    modules = ["attention", "mlp", "norm", "lm_head", "embed"]
    out = destroyed(source, tmp_path, modules, how=how, seed=5)
    model = loaded(source)
    live = Checkpoint.open(model)
    named = dict(model.anatomy.root.named_parameters())
    for tensor, edit in edits(live, chosen(live, modules, None, how), how, seed=5).items():
        rows = live.tensors[tensor].rows
        named[tensor].copy_(edit.rows(slice(0, rows), named[tensor].clone()))
    written = dict(loaded(out).anatomy.root.named_parameters())
    for parameter, tensor in named.items():
        assert torch.equal(written[parameter], tensor), parameter


def check_a_removed_layer_is_not_there(source: Path, tmp_path: Path) -> None:
    """A removed layer's output is its input, at 0.0, in a forward of the written model."""
    model = loaded(destroyed(source, tmp_path, layers=[1], how="remove"))
    run = model.run(TOKENS, capture=[f"resid_{end}[layer={layer}]" for end in ("pre", "post") for layer in (0, 1)])
    assert torch.equal(run.cache["resid_post[layer=1]"], run.cache["resid_pre[layer=1]"])
    assert not torch.equal(run.cache["resid_post[layer=0]"], run.cache["resid_pre[layer=0]"])


def check_zero_heads_are_heads_whose_activations_are_zero(source: Path, tmp_path: Path) -> None:
    """Zeros in a head's weights are zeros at its site, in the whole model."""
    whole = loaded(source)
    for role, kind in (("o_proj", "z"), ("q_proj", "q"), ("k_proj", "k"), ("v_proj", "v")):
        count = whole.n_kv_heads(0) if kind in ("k", "v") else whole.n_heads(0)
        heads = [(1, 0), (0, min(1, count - 1))]
        out = ck.sfn.destroy(source, [role], out=tmp_path / role, heads=heads, progress=False).folder
        zero = [ck.zero(ck.Site(kind, layer=layer, head=head)) for layer, head in heads]
        torch.testing.assert_close(logits(loaded(out)), logits(whole, zero), atol=1e-5, rtol=1e-5)


def check_zero_modules_add_nothing(source: Path, tmp_path: Path) -> None:
    """Zeros in what a branch multiplies by last are zeros where it is added."""
    whole = loaded(source)
    for role, kind in (("o_proj", "attn_out"), ("down_proj", "mlp_out")):
        out = ck.sfn.destroy(source, [role], [1], out=tmp_path / role, progress=False).folder
        zero = [ck.zero(ck.Site(kind, layer=1))]
        torch.testing.assert_close(logits(loaded(out)), logits(whole, zero), atol=1e-5, rtol=1e-5)
