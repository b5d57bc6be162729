"""Interventions compose in order, nest, and leave nothing behind, whatever happened within."""

from functools import cache

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit import Model
from circuitkit.run import InterventionError
from run import by_hand
from run.test_interventions import assert_same_logits

NAMES = ("gpt2", "llama", "gemma2", "bloom", "falcon", "openelm_style")


@cache
def model_of(name: str) -> Model:
    return Model(*architectures.build(name))


@pytest.mark.parametrize("kind", ["resid_pre", "z", "v", "mlp_out", "pattern"])
@pytest.mark.parametrize("name", NAMES)
def test_interventions_at_one_site_hold_in_the_order_given(name, kind):
    model, prompts = model_of(name), architectures.prompts()
    site = f"{kind}[layer=1]"
    doubled_then_more = model.run(prompts.input_ids, [ck.scale(site, 2.0), ck.add(site, 0.5)], capture=[site])
    more_then_doubled = model.run(prompts.input_ids, [ck.add(site, 0.5), ck.scale(site, 2.0)], capture=[site])
    visible = torch.ones(9, 9).tril() if kind == "pattern" else 1.0
    edits = {(kind, 1): lambda tensor: tensor * (1 + visible) + 0.5 * visible}
    assert_same_logits(
        doubled_then_more.logits, by_hand.logits(model.hf, prompts.input_ids, None, edits), torch.ones(3, 9)
    )
    edits = {(kind, 1): lambda tensor: (tensor + 0.5 * visible) * (1 + visible)}
    assert_same_logits(
        more_then_doubled.logits, by_hand.logits(model.hf, prompts.input_ids, None, edits), torch.ones(3, 9)
    )
    difference = more_then_doubled.cache[site] - doubled_then_more.cache[site]
    torch.testing.assert_close(
        difference,
        (0.5 * visible).expand_as(difference) if kind == "pattern" else torch.full_like(difference, 0.5),
        atol=1e-5,
        rtol=0,
    )


@pytest.mark.parametrize("name", NAMES)
def test_edits_at_many_sites_hold_together(name):
    model, prompts = model_of(name), architectures.prompts("left_padded")
    steered = torch.randn(model.d_model, generator=torch.Generator().manual_seed(3))
    interventions = [
        ck.add("resid_post[layer=0]", steered),
        ck.scale("z[layer=1]", 0.5),
        ck.scale("pattern[layer=2]", 0.9),
    ]
    run = model.run(prompts.input_ids, interventions, attention_mask=prompts.attention_mask)
    edits = {
        ("resid_post", 0): lambda stream: stream + steered,
        ("z", 1): lambda z: z * 0.5,
        ("pattern", 2): lambda pattern: pattern * 0.9,
    }
    expected = by_hand.logits(model.hf, prompts.input_ids, prompts.attention_mask, edits)
    assert_same_logits(run.logits, expected, prompts.attention_mask)


@pytest.mark.parametrize("kind", ["resid_mid", "resid_pre", "pattern", "scores", "v"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom", "openelm_style"])
def test_contexts_nest_the_outer_ones_interventions_first(name, kind):
    model, prompts = model_of(name), architectures.prompts()
    first, second = ck.scale(f"{kind}[layer=1]", 0.5), ck.add(f"{kind}[layer=1]", 0.25)
    with model.intervene([first], capture=["resid_post"]) as outer:
        inner = model.run(prompts.input_ids, [second], capture=["resid_post"])
        seen = outer.cache
    flat = model.run(prompts.input_ids, [first, second], capture=["resid_post"])
    assert_same_logits(inner.logits, flat.logits, torch.ones(3, 9))
    for site in flat.cache:
        torch.testing.assert_close(inner.cache[site], flat.cache[site], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(seen[site], flat.cache[site], atol=1e-5, rtol=1e-5)
    after = model.run(prompts.input_ids)
    assert torch.equal(after.logits, model.hf(prompts.input_ids).logits)


def test_two_edits_of_the_middle_in_two_contexts_reach_the_stream_once_each():
    model, prompts = model_of("llama"), architectures.prompts()
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    with model.intervene([ck.add("resid_mid[layer=1]", vector)]):
        nested = model.run(prompts.input_ids, [ck.add("resid_mid[layer=1]", vector)])
    once = model.run(prompts.input_ids, [ck.add("resid_mid[layer=1]", 2 * vector)])
    assert_same_logits(nested.logits, once.logits, torch.ones(3, 9))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_after_an_exception(name):
    model, prompts = model_of(name), architectures.prompts()
    before = model.hf(prompts.input_ids).logits
    state = hooks(model)
    with (
        pytest.raises(ZeroDivisionError),
        model.intervene(
            [ck.zero("z"), ck.zero("pattern"), ck.zero("resid_pre[layer=1]")], capture=["resid_post", "scores"]
        ),
    ):
        model.hf(prompts.input_ids, attention_mask=prompts.attention_mask)
        raise ZeroDivisionError
    assert hooks(model) == state
    assert torch.equal(model.hf(prompts.input_ids).logits, before)


def test_nothing_is_left_after_a_value_that_does_not_fit():
    model, prompts = model_of("llama"), architectures.prompts()
    before, state = model.hf(prompts.input_ids).logits, hooks(model)
    with pytest.raises(InterventionError, match=r"the value for pattern\[layer=1\]"):
        model.run(prompts.input_ids, [ck.replace("pattern[layer=1]", torch.zeros(5)), ck.zero("z[layer=0]")])
    assert hooks(model) == state
    assert torch.equal(model.hf(prompts.input_ids).logits, before)


def test_a_session_that_never_ran_says_so():
    model = model_of("llama")
    with (
        pytest.raises(
            InterventionError, match=r"the intervention at z\[layer=1\] never took place: the model did not run"
        ),
        model.intervene([ck.zero("z[layer=1]")]),
    ):
        pass
    with (
        pytest.raises(InterventionError, match=r"the capture at z\[layer=1\] never took place"),
        model.intervene([], capture=["z[layer=1]"]),
    ):
        pass


def test_an_exception_is_not_hidden_by_one_about_what_never_fired():
    with pytest.raises(ZeroDivisionError), model_of("llama").intervene([ck.zero("z[layer=1]")]):
        raise ZeroDivisionError


def hooks(model: Model) -> dict[str, tuple]:
    """Everything on a model that an intervention could leave behind."""
    return {
        path: (len(module._forward_hooks), len(module._forward_pre_hooks), sorted(vars(module)))
        for path, module in model.hf.named_modules()
    }


def test_any_module_is_a_site_by_its_path():
    model, prompts = model_of("llama"), architectures.prompts("left_padded")
    site = ck.Site(module="model.layers.1.mlp", end="output")
    run = model.run(prompts.input_ids, capture=[site, "mlp_out[layer=1]"], attention_mask=prompts.attention_mask)
    assert torch.equal(run.cache[site], run.cache["mlp_out[layer=1]"])
    by_path = model.run(prompts.input_ids, [ck.zero(site.at(position=-1))], attention_mask=prompts.attention_mask)
    by_kind = model.run(
        prompts.input_ids, [ck.zero("mlp_out[layer=1, position=-1]")], attention_mask=prompts.attention_mask
    )
    assert torch.equal(by_path.logits, by_kind.logits)
    gate = ck.Site(module="model.layers.1.mlp.down_proj", end="input")
    assert model.run(prompts.input_ids, capture=[gate], attention_mask=prompts.attention_mask).cache[gate].shape == (
        3,
        9,
        48,
    )
