"""Gradients at sites: those of autograd through plain hooks, and of finite differences."""

from functools import cache

import pytest
import torch
from torch import Tensor

import architectures
import circuitkit as ck
from circuitkit import Model
from circuitkit.run import InterventionError
from oracles import kinds_of
from run import by_hand

NAMES = ("gpt2", "llama", "gemma2", "bloom", "gpt_oss", "falcon", "openelm_style", "olmo2")


@cache
def model_of(name: str) -> Model:
    return Model(*architectures.build(name))


def metric(logits: Tensor) -> Tensor:
    """A smooth number an example, from the last position."""
    return logits[:, -1].log_softmax(-1)[:, 7] - logits[:, -1, 11]


@pytest.mark.parametrize("batch", ["equal", "left_padded"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_autograds_through_plain_hooks(name, batch):
    model, prompts = model_of(name), architectures.prompts(batch)
    kinds = sorted(kinds_of(name) - {"logits"})
    run = model.run(prompts.input_ids, capture=kinds, attention_mask=prompts.attention_mask, gradients=True)
    found = run.gradients(metric(run.logits))
    assert set(found) == set(run.cache)
    for site in found:
        leaves: list[Tensor] = []

        def as_leaf(tensor: Tensor, leaves=leaves) -> Tensor:
            leaves.append(tensor.detach().requires_grad_())
            # A copy goes on, because Falcon adds to it in place.
            return leaves[-1].clone()

        logits = by_hand.logits(model.hf, prompts.input_ids, prompts.attention_mask, {(site.kind, site.layer): as_leaf})
        (expected,) = torch.autograd.grad(metric(logits).sum(), leaves)
        gradient = found[site]
        assert gradient.shape == run.cache[site].shape
        if site.kind in ("scores", "pattern"):
            visible = torch.ones(gradient.shape[-2:], dtype=torch.bool).tril()
            real = prompts.real[:, None, :, None] & prompts.real[:, None, None, :] & visible
            gradient, expected = gradient * real, expected * real
        else:
            gradient, expected = gradient[prompts.real], expected[prompts.real]
        scale = max(1.0, expected.abs().max().item())
        assert (gradient - expected).abs().max() <= 2e-5 * scale, str(site)
        assert expected.abs().max() > 0, str(site)


@pytest.mark.parametrize("name", ["gpt2", "llama", "falcon"])
def test_a_gradient_is_a_finite_difference(name):
    hf, tokenizer = architectures.build(name)
    model, prompts = Model(hf.double(), tokenizer), architectures.prompts(batch=2)
    generator = torch.Generator().manual_seed(0)
    for kind in ("resid_pre", "z", "v", "mlp_out", "q"):
        site = f"{kind}[layer=1]"
        run = model.run(prompts.input_ids, capture=[site], gradients=True)
        gradient = run.gradients(metric(run.logits))[site]
        direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
        step = 1e-4
        up, down = (metric(model.run(prompts.input_ids, [ck.add(site, s * direction)]).logits) for s in (step, -step))
        slope = (up - down).sum() / (2 * step)
        # Llama's softmax is computed in single precision whatever the model's.
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_weights_carry_gradients_all_the_same(frozen):
    hf, tokenizer = architectures.build("llama")
    hf.requires_grad_(not frozen)
    model, prompts = Model(hf, tokenizer), architectures.prompts("left_padded")
    run = model.run(prompts.input_ids, capture=["z", "embed"], attention_mask=prompts.attention_mask, gradients=True)
    gradients = run.gradients(metric(run.logits))
    kept = model_of("llama").run(
        prompts.input_ids, capture=["z", "embed"], attention_mask=prompts.attention_mask, gradients=True
    )
    for site, expected in kept.gradients(metric(kept.logits)).items():
        torch.testing.assert_close(gradients[site], expected, atol=1e-5, rtol=1e-5)
    assert all(parameter.grad is None for parameter in hf.parameters())


def test_gradients_flow_past_an_intervention_upstream():
    model, prompts = model_of("llama"), architectures.prompts()
    run = model.run(prompts.input_ids, [ck.scale("z[layer=1]", 0.0)], capture=["resid_pre"], gradients=True)
    gradients = run.gradients(metric(run.logits))
    edits = {("z", 1): lambda z: z * 0.0}
    leaves: list[Tensor] = []
    edits["resid_pre", 0] = lambda stream: leaves.append(stream.detach().requires_grad_()) or leaves[-1]
    logits = by_hand.logits(model.hf, prompts.input_ids, None, edits)
    (expected,) = torch.autograd.grad(metric(logits).sum(), leaves)
    torch.testing.assert_close(gradients["resid_pre[layer=0]"], expected, atol=2e-5, rtol=1e-4)


def test_a_gradient_that_cannot_be_is_refused():
    model, prompts = model_of("llama"), architectures.prompts()
    run = model.run(prompts.input_ids, capture=["z"])
    with pytest.raises(InterventionError, match="run with gradients=True"):
        run.gradients(run.logits.sum())
    run = model.run(prompts.input_ids, capture=["z"], gradients=True)
    with pytest.raises(InterventionError, match=r"does not depend on z\[layer=1\]"):
        run.gradients(run.cache["z[layer=0]"].sum())
