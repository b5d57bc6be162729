"""A causal LM that calls a module inside its backbone: OPT hands its tokens to `model.decoder` at once."""

import pytest
import torch
from torch import Tensor, nn
from transformers import OPTConfig, OPTForCausalLM

import architectures
import circuitkit as ck
from circuitkit import Model, Site
from circuitkit.run import InterventionError


@pytest.fixture
def model() -> Model:
    config = OPTConfig(
        vocab_size=architectures.VOCABULARY,
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=64,
        **architectures.SPECIAL_TOKENS,
    )
    torch.manual_seed(0)
    hf = OPTForCausalLM(config)
    architectures.randomise(hf, 0)
    hf.generation_config.eos_token_id = None
    return Model(hf.eval().requires_grad_(False), architectures.tokenizer())


def by_hooks(model: Model, prompts: architectures.Prompts, module: nn.Module, change) -> tuple[Tensor, Tensor]:
    """What a module is handed, and the logits once it is changed, by a plain hook."""
    seen = []

    def hook(module, args):
        seen.append(args[0].clone())
        return (change(args[0].clone()), *args[1:])

    handle = module.register_forward_pre_hook(hook)
    real = prompts.attention_mask
    positions = (real.cumsum(-1) - 1).clamp(min=0)
    logits = model.hf(prompts.input_ids, attention_mask=real, position_ids=positions).logits
    handle.remove()
    return seen[0], logits


@pytest.mark.parametrize("batch", ["equal", "left_padded"])
def test_opt_is_captured_and_edited_as_by_plain_hooks(model, batch):
    prompts = architectures.prompts(batch)
    settings = {"attention_mask": prompts.attention_mask}
    output = model.hf.model.decoder.layers[1].self_attn.out_proj

    def without_head_two(joined: Tensor) -> Tensor:
        joined[..., 16:24] = 0
        return joined

    joined, logits = by_hooks(model, prompts, output, without_head_two)
    run = model.run(prompts.input_ids, capture=["z", "pattern"], **settings)
    assert torch.equal(run.cache["z[layer=1]"].flatten(-2)[prompts.real], joined[prompts.real])
    assert {site.layer for site in run.cache if site.kind == "pattern"} == {0, 1, 2}
    edited = model.run(prompts.input_ids, [ck.zero("z[layer=1, head=2]")], **settings)
    torch.testing.assert_close(edited.logits[prompts.real], logits[prompts.real])
    assert not torch.allclose(edited.logits[prompts.real], run.logits[prompts.real], atol=1e-2)


def test_opt_generates_under_an_edit_as_it_does_token_by_token(model):
    ids = torch.tensor([[4, 5, 6]])
    edit = [ck.scale("z[layer=0]", 0.0)]
    with model.intervene(edit):
        found = model.generate(ids, max_new_tokens=3, do_sample=False)
    for _ in range(3):
        ids = torch.cat([ids, model.run(ids, edit, logits_at=-1).logits.argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(found, ids)


def test_a_call_of_the_outer_backbone_is_one_pass(model):
    """Both `model` and `model.decoder` are then called, one within the other."""
    ids = torch.tensor([[4, 5, 6]])
    expected = model.run(ids, capture=["z"]).cache
    with model.intervene(capture=["z"]) as session:
        model.hf.model(ids, attention_mask=torch.ones_like(ids))
    assert all(torch.equal(session.cache[site], expected[site]) for site in expected)


def test_a_forward_that_fails_leaves_the_next_its_own_pass(model):
    with model.intervene(capture=[Site("z", layer=0)]) as session:
        with pytest.raises(IndexError):
            model.hf(torch.tensor([[4, 5, 6, 500]]))
        model.hf(torch.tensor([[4, 5]]))
    assert session.cache["z[layer=0]"].shape == (1, 2, 4, 8)
    with pytest.raises(InterventionError, match="never took place"), model.intervene(capture=["z"]):
        pass
