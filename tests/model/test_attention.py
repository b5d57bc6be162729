"""The attention tap: what it puts in place, what it puts back, and the masks that it makes explicit."""

import threading
from contextlib import contextmanager
from functools import cache

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import architectures
import circuitkit as ck
from circuitkit import Model
from circuitkit.model import AttentionTapError
from circuitkit.model.attention import AttentionTap, float_mask, tapped
from oracles import transformers_eager
from parity.agreement import assert_agree, captured

INTERFACE = ("gpt2", "llama", "qwen2", "qwen3", "stablelm", "mistral", "phi3", "gpt_neox", "olmo2", "mixtral", "gemma3")
OWN = ("bloom", "falcon", "openelm_style")


@cache
def model_of(name: str) -> Model:
    return Model(*architectures.build(name))


@contextmanager
def implementation(model: Model, name: str):
    before = model.hf.config._attn_implementation
    model.hf.config._attn_implementation = name
    try:
        yield
    finally:
        model.hf.config._attn_implementation = before


def table() -> dict[str, object]:
    return {name: ALL_ATTENTION_FUNCTIONS[name] for name in ALL_ATTENTION_FUNCTIONS}


@pytest.mark.parametrize("batch", ["equal", "left_padded"])
@pytest.mark.parametrize("name", INTERFACE)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_patterns_do_not_depend_on_the_implementation(name, attention, batch):
    model, prompts = model_of(name), architectures.prompts(batch)
    expected = transformers_eager.capture(model.hf, prompts.input_ids, prompts.attention_mask)
    with implementation(model, attention):
        run = model.run(prompts.input_ids, capture=["scores", "pattern"], attention_mask=prompts.attention_mask)
    assert_agree(captured(run.cache), expected, prompts.real, {"scores", "pattern"})


@pytest.mark.parametrize("name", INTERFACE)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_an_edit_that_changes_nothing_keeps_the_logits(name, attention):
    model, prompts = model_of(name), architectures.prompts("left_padded")
    with implementation(model, attention):
        plain = model.run(prompts.input_ids, attention_mask=prompts.attention_mask)
        run = model.run(prompts.input_ids, [ck.scale("pattern", 1.0)], attention_mask=prompts.attention_mask)
    torch.testing.assert_close(run.logits[prompts.real], plain.logits[prompts.real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [*INTERFACE, *OWN, "gemma2", "gpt_oss"])
def test_everything_is_put_back(name):
    model, prompts = model_of(name), architectures.prompts()
    before, implementation = table(), model.hf.config._attn_implementation
    forwards = {path: module.__dict__.get("forward") for path, module in model.hf.named_modules()}
    with model.intervene([ck.zero("pattern[layer=1]")], capture=["scores"]):
        model.hf(prompts.input_ids, attention_mask=prompts.attention_mask)
        assert model.hf.config._attn_implementation == implementation, "a name of its own is what model files branch on"
    assert table() == before
    assert model.hf.config._attn_implementation == implementation
    assert {path: module.__dict__.get("forward") for path, module in model.hf.named_modules()} == forwards


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_users_own_attention_function_is_put_back(attention):
    model, prompts = model_of("llama"), architectures.prompts()
    mine = ALL_ATTENTION_FUNCTIONS["sdpa"]
    calls = []

    def counted(*args, **kwargs):
        calls.append(1)
        return mine(*args, **kwargs)

    ALL_ATTENTION_FUNCTIONS[attention] = counted
    try:
        with implementation(model, attention):
            model.run(prompts.input_ids, capture=["pattern[layer=1]"])
            assert ALL_ATTENTION_FUNCTIONS[attention] is counted
            assert len(calls) >= 2, "layers that are not tapped fall through to the user's function"
    finally:
        del ALL_ATTENTION_FUNCTIONS[attention]


def test_layers_that_are_not_tapped_keep_their_kernel(monkeypatch):
    model, prompts = model_of("llama"), architectures.prompts()
    model.n_heads(0)
    kernel, calls = torch.nn.functional.scaled_dot_product_attention, []

    def counted(*args, **kwargs):
        calls.append(1)
        return kernel(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    model.run(prompts.input_ids, [ck.zero("pattern[layer=1]")])
    assert len(calls) == model.n_layers - 1


def test_contexts_may_end_in_any_order():
    model, prompts = model_of("llama"), architectures.prompts()
    before = table()
    first, second = model.intervene([ck.zero("pattern[layer=0]")]), model.intervene([ck.zero("pattern[layer=2]")])
    first.__enter__()
    second.__enter__()
    with torch.no_grad():
        both = model.hf(prompts.input_ids, attention_mask=prompts.attention_mask).logits
        first.__exit__(None, None, None)
        left = model.hf(prompts.input_ids, attention_mask=prompts.attention_mask).logits
    second.__exit__(None, None, None)
    assert table() == before
    torch.testing.assert_close(left, model.run(prompts.input_ids, [ck.zero("pattern[layer=2]")]).logits)
    zeros = [ck.zero("pattern[layer=0]"), ck.zero("pattern[layer=2]")]
    torch.testing.assert_close(both, model.run(prompts.input_ids, zeros).logits)


def test_two_models_share_the_table_without_touching_each_other():
    first, second = Model(*architectures.build("llama")), Model(*architectures.build("llama", seed=1))
    prompts = architectures.prompts()
    plain = second.run(prompts.input_ids).logits
    with first.intervene([ck.zero("pattern")]):
        assert torch.equal(second.run(prompts.input_ids).logits, plain)
        inside = second.run(prompts.input_ids, [ck.zero("pattern[layer=1]")], capture=["pattern[layer=0]"])
        first.hf(prompts.input_ids, attention_mask=prompts.attention_mask)
    alone = second.run(prompts.input_ids, [ck.zero("pattern[layer=1]")], capture=["pattern[layer=0]"])
    assert torch.equal(inside.logits, alone.logits)
    assert torch.equal(inside.cache["pattern[layer=0]"], alone.cache["pattern[layer=0]"])


@pytest.mark.parametrize("name", ["llama", "bloom", "openelm_style"])
def test_threads_tap_models_of_their_own(name):
    models = [Model(*architectures.build(name, seed=seed)) for seed in (0, 1)]
    prompts = architectures.prompts()
    expected = [model.run(prompts.input_ids, [ck.scale("pattern", 0.5)], capture=["pattern"]) for model in models]
    before, wrong = table(), []

    def work(index: int) -> None:
        for _ in range(5):
            run = models[index].run(prompts.input_ids, [ck.scale("pattern", 0.5)], capture=["pattern"])
            same = all(torch.equal(run.cache[site], expected[index].cache[site]) for site in run.cache)
            if not (same and torch.equal(run.logits, expected[index].logits)):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert table() == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_row_masked_everywhere_is_uniform_and_no_nan(dtype):
    scores = torch.randn(2, 4, dtype=dtype)
    for mask in (torch.zeros(2, 4, dtype=torch.bool), torch.full((2, 4), -torch.inf, dtype=dtype)):
        pattern = (scores.float() * 0 + float_mask(mask, dtype).float()).softmax(-1)
        assert torch.equal(pattern, torch.full((2, 4), 0.25))


def test_masks_that_cannot_be_made_explicit_are_refused():
    """A flex-attention block mask is an object, not numbers."""
    model, prompts = model_of("llama"), architectures.prompts()
    attention = model.hf.model.layers[1].self_attn
    q = torch.zeros(3, 4, 9, 8)
    with tapped([AttentionTap(attention, lambda scores: None, lambda pattern: None)]):
        attend = ALL_ATTENTION_FUNCTIONS["sdpa"]
        with pytest.raises(AttentionTapError, match="attention masks of type object cannot be made explicit: load"):
            attend(attention, q, q[:, :2], q[:, :2], object(), scaling=1.0)
    assert model.run(prompts.input_ids, capture=["pattern"]).logits.shape == (3, 9, 96)


@pytest.mark.parametrize("window", [None, 3])
def test_a_flash_mask_of_real_tokens_is_made_causal(window):
    """Flash attention is handed [batch, key], or None, and keeps causality and windows to itself."""
    model, generator = model_of("llama"), torch.Generator().manual_seed(0)
    attention = model.hf.model.layers[1].self_attn
    q, k = torch.randn(2, 4, 6, 8, generator=generator), torch.randn(2, 2, 6, 8, generator=generator)
    real = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])
    seen = []
    with tapped([AttentionTap(attention, lambda scores: None, lambda pattern: seen.append(pattern) or pattern)]):
        ALL_ATTENTION_FUNCTIONS["sdpa"](attention, q, k, k, real, scaling=1.0, sliding_window=window)
    query, key = torch.arange(6)[:, None], torch.arange(6)
    allowed = (key <= query) & (key > query - (window or 6)) & real[:, None, None, :].bool()
    scores = q @ k.repeat_interleave(2, dim=1).transpose(-1, -2)
    expected = scores.masked_fill(~allowed, -torch.inf).softmax(-1)
    rows = real.bool()
    torch.testing.assert_close(seen[0].transpose(1, 2)[rows], expected.transpose(1, 2)[rows])


def test_no_mask_is_upper_left_causal():
    """With more keys than queries and no mask, a fused kernel lets query i see keys 0 to i."""
    model, generator = model_of("llama"), torch.Generator().manual_seed(0)
    attention = model.hf.model.layers[1].self_attn
    q, k = torch.randn(1, 4, 3, 8, generator=generator), torch.randn(1, 2, 5, 8, generator=generator)
    seen = []
    with tapped([AttentionTap(attention, lambda scores: None, lambda pattern: seen.append(pattern) or pattern)]):
        out, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](attention, q, k, k, None, scaling=8**-0.5)
    plain, _ = ALL_ATTENTION_FUNCTIONS["sdpa"](attention, q, k, k, None, scaling=8**-0.5)
    assert torch.equal(seen[0] > 0, torch.ones(3, 5, dtype=torch.bool).tril().expand(1, 4, 3, 5))
    torch.testing.assert_close(out, plain)


def test_an_attention_that_computes_two_softmaxes_is_refused(monkeypatch):
    model = model_of("openelm_style")
    attention = model.hf.transformer.layers[1].attn

    def twice(hidden, *args, **kwargs):
        return hidden.softmax(-1).softmax(-1)

    monkeypatch.setattr(attention, "forward", twice)
    with (
        pytest.raises(AttentionTapError, match="was tapped, but computed 2 softmaxes where one was expected"),
        tapped([AttentionTap(attention, lambda scores: None, lambda pattern: None)]),
    ):
        attention(torch.zeros(1, 2, 3, 3))
    assert attention.forward is twice
