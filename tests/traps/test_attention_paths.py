"""Attention that takes another path than the one that is read: implementations, masks, windows, precision."""

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.gemma3 import modeling_gemma3

import architectures
import circuitkit as ck
from circuitkit import Model
from circuitkit.model import attention
from circuitkit.run import InterventionError
from circuitkit.run import session as session_module
from parity.agreement import reference


def fresh(name: str) -> Model:
    return Model(*architectures.build(name))


def pattern_of(model: Model) -> Tensor:
    return model.run(architectures.prompts().input_ids, capture=["pattern[layer=1]"]).cache["pattern[layer=1]"]


def test_a_fused_kernels_implied_mask_is_made_explicit(monkeypatch):
    """Loaded with SDPA, a mask of None means causal; handed to the eager code as it is, it means no mask at all."""
    model = fresh("llama")
    assert model.hf.config._attn_implementation == "sdpa"
    expected = reference("llama", "equal")["pattern", 1]
    torch.testing.assert_close(pattern_of(model), expected, atol=1e-5, rtol=1e-5)
    monkeypatch.setattr(attention, "_explicit_mask", lambda mask, *rest: mask)
    assert not torch.allclose(pattern_of(model), expected, atol=1e-2), "the future would be attended to"


def test_reading_attention_moves_no_bit_in_half_precision(monkeypatch):
    """In bfloat16 the explicit path and the fused one differ by more than many an effect."""
    model, prompts = fresh("llama"), architectures.prompts()
    model.hf.to(torch.bfloat16)
    plain = model.run(prompts.input_ids).logits
    assert torch.equal(model.run(prompts.input_ids, capture=["pattern", "scores"]).logits, plain)
    monkeypatch.setattr(
        attention._SoftmaxTap, "changed", property(lambda tap: True, lambda tap, value: None), raising=False
    )
    assert not torch.equal(model.run(prompts.input_ids, capture=["pattern", "scores"]).logits, plain)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "bloom", "gpt_oss", "falcon", "openelm_style"])
def test_every_site_can_be_edited_in_half_precision(name):
    model, prompts = fresh(name), architectures.prompts("left_padded")
    model.hf.to(torch.bfloat16)
    edits = [ck.scale("pattern[layer=1]", 0.5), ck.knockout(2, queries=-1), ck.zero("z[layer=0, head=1]")]
    run = model.run(prompts.input_ids, edits, ["pattern", "z"], attention_mask=prompts.attention_mask)
    assert run.logits.dtype == torch.bfloat16
    assert torch.isfinite(run.logits[prompts.real]).all()
    assert (run.cache["pattern[layer=2, position=-1]"] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_padding_row_that_sees_nothing_is_no_nan(dtype, monkeypatch):
    model, prompts = fresh("llama"), architectures.prompts("left_padded")
    model.hf.to(dtype)
    settings = {"capture": ["pattern"], "attention_mask": prompts.attention_mask}
    run = model.run(prompts.input_ids, [ck.scale("pattern", 1.0)], **settings)
    assert not any(torch.isnan(run.cache[site]).any() for site in run.cache)
    assert torch.isfinite(run.logits[prompts.real]).all()
    # Minus infinity instead of the lowest number: padding's NaN spreads by way of its values.
    monkeypatch.setattr(attention, "lowest_score", lambda dtype: -torch.inf)
    with pytest.raises(InterventionError, match="hold NaN"):
        model.run(prompts.input_ids, [ck.scale("pattern", 1.0)], **settings)


@pytest.mark.parametrize("name", ["mistral", "gemma3", "gpt_oss", "gemma2"])
def test_a_windows_cache_keeps_every_key_while_attention_is_tapped(name, monkeypatch):
    model, prompts = fresh(name), architectures.prompts()
    settings = {"max_new_tokens": 4, "do_sample": False}

    def decoded() -> Tensor:
        with model.intervene([], capture=["pattern[layer=0]"]) as session:
            model.generate(prompts.input_ids, **settings)
            return session.cache["pattern[layer=0]"]

    ids = model.generate(prompts.input_ids, **settings)
    whole = model.run(ids[:, :-1], capture=["pattern[layer=0]"]).cache["pattern[layer=0]"]
    torch.testing.assert_close(decoded(), whole, atol=1e-5, rtol=1e-5)
    # With the model's own cache, key 0 of a later step would be another token: refused, not given.
    monkeypatch.setattr(session_module, "_remember_all_keys", lambda config, settings: None)
    with pytest.raises(InterventionError, match=r"holds 4 keys of 10 tokens, since this cache forgets: pass"):
        decoded()


def test_a_callers_own_forgetting_cache_is_refused():
    model, prompts = fresh("mistral"), architectures.prompts()
    for edits, capture in [([ck.scale("pattern[layer=1]", 0.5)], []), ([], ["scores"])]:
        with pytest.raises(InterventionError, match="this cache forgets"), model.intervene(edits, capture):
            cache = DynamicCache(config=model.hf.config)
            model.generate(prompts.input_ids, max_new_tokens=4, do_sample=False, past_key_values=cache)


def test_no_model_file_is_patched():
    """Other tools replace gemma's eager function for the whole process as soon as a model is wrapped."""
    before = {module: module.eager_attention_forward for module in (modeling_gemma2, modeling_gemma3)}
    for name in ("gemma2", "gemma3"):
        model, prompts = fresh(name), architectures.prompts()
        with model.intervene([ck.zero("pattern[layer=1]")], capture=["scores"]):
            model.hf(prompts.input_ids, attention_mask=prompts.attention_mask)
    assert {module: module.eager_attention_forward for module in before} == before


@pytest.mark.parametrize("name", ["sdpa", "eager"])
def test_the_table_of_attention_functions_is_put_back(name, monkeypatch):
    model, prompts = fresh("llama"), architectures.prompts()
    model.hf.config._attn_implementation = name
    before, here = (
        {key: ALL_ATTENTION_FUNCTIONS[key] for key in ALL_ATTENTION_FUNCTIONS},
        name in ALL_ATTENTION_FUNCTIONS,
    )
    model.run(prompts.input_ids, [ck.zero("pattern[layer=1]")])
    assert {key: ALL_ATTENTION_FUNCTIONS[key] for key in ALL_ATTENTION_FUNCTIONS} == before
    # Left in place, the wrapper would be every later model's attention.
    unwrap = attention._TappedModules.unwrap_interface
    monkeypatch.setattr(attention._TappedModules, "unwrap_interface", lambda self, interface, name: None)
    model.run(prompts.input_ids, [ck.zero("pattern[layer=1]")])
    assert ALL_ATTENTION_FUNCTIONS[name] is not before.get(name)
    while (id(ALL_ATTENTION_FUNCTIONS), name) in attention._TAPPED.wrapped:
        unwrap(attention._TAPPED, ALL_ATTENTION_FUNCTIONS, name)
    assert (name in ALL_ATTENTION_FUNCTIONS) == here
