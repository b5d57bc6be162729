"""Hooks that do not fire, do not take, or take too much."""

import pytest
import torch
import torch.utils.checkpoint
from torch import nn

import architectures
import circuitkit as ck
from circuitkit import Model, Site
from circuitkit.model import taps
from circuitkit.run import InterventionError
from circuitkit.run import session as session_module
from circuitkit.run.captures import Capture
from circuitkit.run.edits import Edit
from circuitkit.run.session import Session
from parity.agreement import reference

ATTENTION = ("scores", "pattern")


def test_a_hook_that_never_fires_is_an_error(monkeypatch):
    hf, tokenizer = architectures.build("llama")
    hf.model.unused = nn.Linear(32, 32)
    model, prompts = Model(hf, tokenizer), architectures.prompts()
    dead = Site(module="model.unused")
    with pytest.raises(InterventionError, match=r"the intervention at model.unused.output\[\] never took place"):
        model.run(prompts.input_ids, [ck.zero(dead)])
    with pytest.raises(InterventionError, match=r"the capture at model\.unused"):
        model.run(prompts.input_ids, capture=[dead])
    # Without the check, a study of that module would report that it does nothing.
    monkeypatch.setattr(Session, "_check_fired", lambda self: None)
    assert torch.equal(model.run(prompts.input_ids, [ck.zero(dead)]).logits, model.run(prompts.input_ids).logits)


@pytest.mark.parametrize(
    "kind", ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "q", "k", "v", "z", *ATTENTION]
)
@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom", "openelm_style"])
def test_a_patch_takes(name, kind):
    model, prompts = Model(*architectures.build(name)), architectures.prompts()
    site = Site(kind, layer=1)
    plain = model.run(prompts.input_ids, capture=[site])
    if kind in ATTENTION:
        intervention, expected = ck.scale(site, 2.0), 2 * plain.cache[site]
    else:
        # Different from token to token, because the softmax does not see what all keys have in common.
        vector = torch.randn(plain.cache[site].shape, generator=torch.Generator().manual_seed(0))
        intervention, expected = ck.add(site, vector), plain.cache[site] + vector
    patched = model.run(prompts.input_ids, [intervention], capture=[site])
    found = patched.cache[site]
    if kind == "scores":
        visible = torch.ones(9, 9, dtype=torch.bool).tril().expand_as(found)
        found, expected = found[visible], expected[visible]
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(patched.logits, plain.logits, atol=1e-2)


@pytest.mark.parametrize("name", ["llama", "openelm_style"])
def test_a_patch_that_does_not_take_would_be_seen(name, monkeypatch):
    """Blocks return tensors or tuples; one that is not rebuilt would swallow the patch."""
    model, prompts = Model(*architectures.build(name)), architectures.prompts()
    returned = []
    handle = model.anatomy.blocks[0].block.register_forward_hook(lambda module, args, output: returned.append(output))
    model.hf(prompts.input_ids)
    handle.remove()
    assert isinstance(returned[0], tuple) == (name == "openelm_style")
    patch = [ck.zero("resid_post[layer=1]")]
    plain, patched = model.run(prompts.input_ids).logits, model.run(prompts.input_ids, patch).logits
    assert not torch.allclose(plain, patched, atol=1e-2)
    monkeypatch.setattr(taps, "with_first_tensor", lambda values, new: values)
    assert torch.equal(model.run(prompts.input_ids, patch).logits, plain)


def test_a_capture_is_safe_from_the_models_in_place_additions(monkeypatch):
    """Falcon adds attention's output to the MLP's in place."""
    model, prompts = Model(*architectures.build("falcon")), architectures.prompts()
    expected = reference("falcon", "equal")["mlp_out", 1]
    captured = model.run(prompts.input_ids, capture=["mlp_out[layer=1]"]).cache["mlp_out[layer=1]"]
    torch.testing.assert_close(captured, expected, atol=1e-5, rtol=1e-5)
    # The guard: a copy is kept.
    monkeypatch.setattr(Capture, "__call__", lambda self, tensor, now: self._chunks.append(tensor.detach()))
    corrupted = model.run(prompts.input_ids, capture=["mlp_out[layer=1]"]).cache["mlp_out[layer=1]"]
    assert not torch.allclose(corrupted, expected, atol=1e-2)


def test_a_gradient_is_safe_from_the_models_in_place_additions():
    model, prompts = Model(*architectures.build("falcon")), architectures.prompts()
    run = model.run(prompts.input_ids, capture=["mlp_out[layer=1]"], gradients=True)
    plain = model.run(prompts.input_ids, capture=["mlp_out[layer=1]"])
    assert torch.equal(run.cache["mlp_out[layer=1]"].detach(), plain.cache["mlp_out[layer=1]"])
    assert torch.isfinite(run.gradients(run.logits.sum())["mlp_out[layer=1]"]).all()


@pytest.mark.parametrize("name", ["falcon", "gpt2", "bloom"])
def test_a_users_value_is_safe_from_the_models_in_place_additions(name, monkeypatch):
    model, prompts = Model(*architectures.build(name)), architectures.prompts()
    value = torch.randn(3, 9, model.d_model, generator=torch.Generator().manual_seed(0))
    before = value.clone()
    for kind in ("mlp_out", "attn_out", "resid_pre", "resid_post"):
        first = model.run(prompts.input_ids, [ck.replace(f"{kind}[layer=1]", value)]).logits
        assert torch.equal(model.run(prompts.input_ids, [ck.replace(f"{kind}[layer=1]", value)]).logits, first)
        assert torch.equal(value, before), kind
    if name == "falcon":
        # Handed over as it is, the caller's tensor would change under his hands, and the second run with it.
        def raw(self, tensor, now):
            self.fired = True
            return self.intervention.value

        monkeypatch.setattr(Edit, "__call__", raw)
        model.run(prompts.input_ids, [ck.replace("mlp_out[layer=1]", value)])
        assert not torch.equal(value, before)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_dropout_is_refused(name, monkeypatch):
    hf, tokenizer = architectures.build(name)
    # Llama has no dropout module: its attention calls the function.
    if name == "llama":
        hf.model.layers[1].self_attn.attention_dropout = hf.config.attention_dropout = 0.2
    model, prompts = Model(hf, tokenizer), architectures.prompts()
    model.n_heads(0)
    hf.train()
    with pytest.raises(InterventionError, match=r"training mode with dropout on.*call model.hf.eval\(\)"):
        model.run(prompts.input_ids)
    monkeypatch.setattr(session_module, "check_dropout", lambda model: None)
    assert not torch.equal(model.run(prompts.input_ids).logits, model.run(prompts.input_ids).logits)


def test_nan_is_an_error_and_not_a_number():
    hf, tokenizer = architectures.build("llama")
    hf.model.layers[1].mlp.down_proj.weight[3, 4] = torch.nan
    model, prompts = Model(hf, tokenizer), architectures.prompts()
    with pytest.raises(InterventionError, match="the logits of row 0 hold NaN"):
        model.run(prompts.input_ids)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom", "gpt_oss", "openelm_style"])
def test_hooks_are_counted_before_and_after(name):
    model, prompts = Model(*architectures.build(name)), architectures.prompts()

    def count() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules())

    model.n_heads(0)
    before, generate = count(), model.hf.__dict__.get("generate")
    with model.intervene([ck.zero("resid_mid[layer=1]"), ck.zero("z[layer=0]")], capture=["pattern", "resid_post"]):
        model.hf(prompts.input_ids, attention_mask=prompts.attention_mask)
        assert count() > before
    assert count() == before
    assert model.hf.__dict__.get("generate") is generate


def test_a_checkpointed_layer_is_captured_once_and_has_no_gradients(monkeypatch):
    hf, tokenizer = architectures.build("llama")
    model, prompts = Model(hf, tokenizer), architectures.prompts()
    plain = model.run(prompts.input_ids, [ck.scale("z", 0.5)], capture=["z", "resid_mid"])
    hf.requires_grad_(True)
    hf.gradient_checkpointing_enable()
    hf.train()
    checkpointed = model.run(prompts.input_ids, [ck.scale("z", 0.5)], capture=["z", "resid_mid"])
    for site in plain.cache:
        assert torch.equal(checkpointed.cache[site], plain.cache[site])
    settings = {"interventions": [ck.scale("z", 0.5)], "capture": ["resid_pre"], "gradients": True}
    with pytest.raises(
        InterventionError, match=r"gradient checkpointing computes layers anew .*gradient_checkpointing_disable"
    ):
        model.run(prompts.input_ids, **settings)
    # Without the check the recomputation lacks the interventions, and torch stops at the backward pass at best.
    monkeypatch.setattr(session_module, "_check_checkpointing", lambda root: None)
    run = model.run(prompts.input_ids, **settings)
    with pytest.raises(torch.utils.checkpoint.CheckpointError):
        run.gradients(run.logits[:, -1, 5])
