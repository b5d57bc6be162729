"""Models that others have wrapped before: adapters, and forwards of their own on the instance."""

from functools import wraps

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from peft import LoraConfig, get_peft_model

import architectures
import circuitkit as ck
from circuitkit import Model
from circuitkit.model import attention


def with_lora(name: str, targets: list[str]):
    hf, tokenizer = architectures.build(name)
    torch.manual_seed(0)
    wrapped = get_peft_model(hf, LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM"))
    for parameter_name, parameter in wrapped.named_parameters():
        if "lora_" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.3)
    return wrapped.eval(), tokenizer


@pytest.mark.parametrize(("name", "targets"), [("llama", ["q_proj", "v_proj", "o_proj"]), ("gpt2", ["c_attn"])])
def test_adapters_stay_in_force_and_sites_fire(name, targets):
    wrapped, tokenizer = with_lora(name, targets)
    model, prompts = Model(wrapped, tokenizer), architectures.prompts("left_padded")
    kinds = ["q", "k", "v", "z", "pattern", "scores", "resid_mid", "attn_out", "mlp_out", "resid_post"]
    edits = [ck.scale("z[layer=1, head=1]", 0.5), ck.scale("pattern[layer=2]", 0.5)]
    adapted = model.run(prompts.input_ids, edits, kinds, attention_mask=prompts.attention_mask)
    tokens = []
    with model.intervene(edits):
        tokens.append(model.generate(prompts.input_ids, prompts.attention_mask, max_new_tokens=4, do_sample=False))
    with wrapped.disable_adapter():
        without = model.run(prompts.input_ids, edits, attention_mask=prompts.attention_mask)
    assert not torch.allclose(adapted.logits[prompts.real], without.logits[prompts.real], atol=1e-2)
    merged = Model(wrapped.merge_and_unload(), tokenizer)
    plain = merged.run(prompts.input_ids, edits, kinds, attention_mask=prompts.attention_mask)
    torch.testing.assert_close(adapted.logits[prompts.real], plain.logits[prompts.real], atol=1e-4, rtol=1e-4)
    for site in plain.cache:
        if site.kind in ("scores", "pattern"):
            continue
        found, expected = adapted.cache[site][prompts.real], plain.cache[site][prompts.real]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    with merged.intervene(edits):
        tokens.append(merged.generate(prompts.input_ids, prompts.attention_mask, max_new_tokens=4, do_sample=False))
    assert torch.equal(*tokens)


class Counting(ModelHook):
    def __init__(self):
        self.calls = 0

    def pre_forward(self, module, *args, **kwargs):
        self.calls += 1
        return args, kwargs


@pytest.mark.parametrize("name", ["bloom", "llama", "openelm_style"])
def test_accelerates_forward_is_kept(name):
    """accelerate moves weights and activations in a forward of its own, kept on the instance."""
    hf, tokenizer = architectures.build(name)
    model, prompts = Model(hf, tokenizer), architectures.prompts()
    expected = model.run(prompts.input_ids, [ck.scale("pattern", 0.5)], capture=["pattern"])
    counters = []
    for module in (model.anatomy.blocks[1].attn, model.anatomy.blocks[1].block, model.anatomy.blocks[1].o, hf):
        counters.append(Counting())
        add_hook_to_module(module, counters[-1])
    forwards = {path: module.__dict__.get("forward") for path, module in hf.named_modules()}
    run = Model(hf, tokenizer).run(prompts.input_ids, [ck.scale("pattern", 0.5)], capture=["pattern"])
    assert torch.equal(run.logits, expected.logits)
    assert all(torch.equal(run.cache[site], expected.cache[site]) for site in expected.cache)
    assert {path: module.__dict__.get("forward") for path, module in hf.named_modules()} == forwards
    calls = [counter.calls for counter in counters]
    hf(prompts.input_ids)
    assert [counter.calls for counter in counters] == [count + 1 for count in calls]


def test_a_forward_that_was_deleted_would_be_lost(monkeypatch):
    """The guard: what was on the instance is put back. Deleting it alone takes accelerate's away for good."""
    hf, tokenizer = architectures.build("bloom")
    model, prompts, counter = Model(hf, tokenizer), architectures.prompts(), Counting()
    module = model.anatomy.blocks[1].attn
    add_hook_to_module(module, counter)
    wrap = attention._TappedModules.wrap_forward

    @wraps(wrap)
    def careless(self, module):
        wrap(self, module)
        return lambda: delattr(module, "forward")

    monkeypatch.setattr(attention._TappedModules, "wrap_forward", careless)
    model.run(prompts.input_ids, capture=["pattern[layer=1]"])
    counter.calls = 0
    hf(prompts.input_ids)
    assert counter.calls == 0


def test_hooks_that_a_user_put_there_stay_and_see_the_model():
    hf, tokenizer = architectures.build("llama")
    model, prompts = Model(hf, tokenizer), architectures.prompts()
    seen = []
    handle = hf.model.layers[1].register_forward_hook(lambda module, args, output: seen.append(output))
    model.run(prompts.input_ids, [ck.zero("resid_post[layer=1]")])
    assert len(seen) >= 1
    seen.clear()
    hf(prompts.input_ids)
    assert len(seen) == 1
    handle.remove()
