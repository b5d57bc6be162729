"""Models handed to TransformerLens and taken from it, and caches under its names, against its own runs."""

import copy
import logging
import warnings
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

import architectures
import circuitkit as ck
from circuitkit.interop.transformer_lens import TransformerLensError
from circuitkit.model import KINDS
from oracles.transformer_lens import MISSING, UNAVAILABLE, UP_TO_A_CONSTANT_PER_QUERY
from parity.agreement import assert_close

NAMES = [name for name in architectures.NAMES if name not in UNAVAILABLE]

#: The adapter splits these fused projections into matrices of its own.
SPLIT = {"gpt_neox", "gpt_neox_sequential", "bloom", "falcon_multi_query"}


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@cache
def model_of(name: str) -> ck.Model:
    return ck.Model(*architectures.build(name))


@cache
def bridge_of(name: str) -> Any:
    return model_of(name).to_transformer_lens()


def kinds_of(model: ck.Model) -> list[str]:
    return [kind for kind in KINDS if kind == "embed" or model.layers_with(kind)]


def appearance(hf: nn.Module) -> Any:
    modules = [(name, id(module), sorted(vars(module))) for name, module in hf.named_modules()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in hf.modules()]
    tensors = [(name, id(value), value.clone()) for name, value in (*hf.named_parameters(), *hf.named_buffers())]
    return modules, hooks, tensors, hf.config.to_json_string(use_diff=False), hf.config._attn_implementation


def assert_same_appearance(found: Any, before: Any) -> None:
    assert found[:2] == before[:2] and found[3:] == before[3:]
    assert [(name, number) for name, number, _ in found[2]] == [(name, number) for name, number, _ in before[2]]
    assert all(torch.equal(now, then) for (*_, now), (*_, then) in zip(found[2], before[2], strict=True))


# To a bridge


@pytest.mark.parametrize("batch", ["equal", "left_padded"])
@pytest.mark.parametrize("name", NAMES)
def test_a_bridge_gives_the_models_logits_and_activations(name, batch):
    model, bridge, prompts = model_of(name), bridge_of(name), architectures.prompts(batch)
    ids, mask = prompts.input_ids, prompts.attention_mask
    run = model.run(ids, capture=kinds_of(model), attention_mask=mask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = run.cache.to_transformer_lens(bridge)
    with torch.no_grad():
        logits, theirs = bridge.run_with_cache(ids, attention_mask=mask)
    assert_close(logits[prompts.real], run.logits[prompts.real], "logits")
    missing = set(MISSING.get(name, {}))
    names = {name_of(site) for site in run.cache if site.kind not in missing}
    assert names <= set(ours.keys()) and set(ours.keys()) - {name_of(site) for site in run.cache} <= set(theirs.keys())
    for hook in sorted(set(ours.keys()) & set(theirs.keys())):
        found, expected = ours[hook], theirs[hook]
        assert found.shape == expected.shape, hook
        if hook.endswith(("pattern", "scores")):
            found, expected = found.transpose(1, 2), expected.transpose(1, 2)
        found, expected = found[prompts.real], expected[prompts.real]
        if hook.endswith("scores") and (name, "scores") in UP_TO_A_CONSTANT_PER_QUERY:
            continue
        assert_close(found, expected, hook)


def name_of(site: ck.Site) -> str:
    if site.kind == "embed":
        return "embed.hook_out"
    short = {"scores": "attn_scores"}.get(site.kind, site.kind)
    return (
        f"blocks.{site.layer}.{'attn.' if site.kind in ('q', 'k', 'v', 'z', 'scores', 'pattern') else ''}hook_{short}"
    )


@pytest.mark.parametrize("name", NAMES)
def test_making_a_bridge_changes_nothing_in_the_model_and_copies_no_weights(name):
    model = ck.Model(*architectures.build(name))
    before = appearance(model.hf)
    ids = architectures.prompts().input_ids
    logits = model.run(ids).logits
    bridge = model.to_transformer_lens()
    assert_same_appearance(appearance(model.hf), before)
    assert torch.equal(model.run(ids).logits, logits)
    own = {parameter.data_ptr() for parameter in model.hf.parameters()}
    assert own <= {parameter.data_ptr() for parameter in bridge.original_model.parameters()}
    storages = {parameter.untyped_storage().data_ptr() for parameter in model.hf.parameters()}
    beside = [p for p in bridge.parameters() if p.untyped_storage().data_ptr() not in storages]
    assert bool(beside) == (name in SPLIT)


def test_a_weight_written_in_place_changes_both_but_a_moved_bridge_leaves_the_model_where_it_was():
    model = ck.Model(*architectures.build("llama"))
    bridge, ids = model.to_transformer_lens(), architectures.prompts().input_ids
    before = model.run(ids).logits
    with torch.no_grad():
        model.hf.model.layers[1].self_attn.o_proj.weight[:, 3:9] = 0.0
        after = model.run(ids).logits
        assert not torch.allclose(after, before)
        assert_close(bridge(ids), after, "logits")
        bridge.to(torch.float64)
    assert model.hf.dtype == torch.float32 and torch.equal(model.run(ids).logits, after)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_folding_a_bridges_weights_leaves_the_models_alone(name):
    model = ck.Model(*architectures.build(name))
    before, ids = appearance(model.hf), architectures.prompts().input_ids
    bridge = model.to_transformer_lens()
    bridge.enable_compatibility_mode(disable_warnings=True)
    assert_same_appearance(appearance(model.hf), before)
    with torch.no_grad():
        folded = bridge(ids).log_softmax(-1)
    assert (folded - model.run(ids).logits.log_softmax(-1)).abs().max() < 1e-3


def test_a_bridge_reads_text_as_the_model_does():
    model = ck.load("deductor-130k")
    text = "Every wumpus is a dumpus."
    assert torch.equal(model.to_transformer_lens().to_tokens(text), model.tokens(text).ids)


def test_what_has_no_faithful_bridge_is_refused():
    with pytest.raises(TransformerLensError, match="cannot build its bridge of Falcon"):
        model_of("falcon").to_transformer_lens()
    model = model_of("llama")
    with model.intervene([ck.zero("z[layer=1]")]):
        model.run([[5, 6]])
        with pytest.raises(TransformerLensError, match="leave its context"):
            model.to_transformer_lens()


def test_a_bridge_that_gives_other_logits_is_refused(monkeypatch):
    forward = TransformerBridge.forward
    monkeypatch.setattr(TransformerBridge, "forward", lambda self, *a, **k: 1.01 * forward(self, *a, **k))
    with pytest.raises(TransformerLensError, match="other logits"):
        ck.Model(*architectures.build("llama")).to_transformer_lens()


def test_an_adapter_is_merged_before_a_bridge_is_made():
    from peft import LoraConfig, get_peft_model

    hf, words = architectures.build("llama")
    model = ck.Model(get_peft_model(hf, LoraConfig(target_modules=["q_proj"], r=2)), words)
    with pytest.raises(TransformerLensError, match="merge_and_unload"):
        model.to_transformer_lens()


# From a bridge


def booted(name: str) -> tuple[Any, Any]:
    """A bridge in place around a model, as TransformerLens makes it, and the model's tokenizer."""
    hf, words = architectures.build(name)
    hf.set_attn_implementation("eager") if name != "openelm_style" else None
    return build_bridge_from_module(hf, type(hf).__name__, hf_config=copy.deepcopy(hf.config), model_name=name), words


@pytest.mark.parametrize("name", NAMES)
def test_a_wrapped_bridge_is_the_model_that_it_was_built_around(name):
    prompts = architectures.prompts("left_padded")
    ids, mask = prompts.input_ids, prompts.attention_mask
    plain = ck.Model(*architectures.build(name))
    bridge, words = booted(name)
    with torch.no_grad():
        before = bridge(ids, attention_mask=mask)
    model = ck.Model(bridge, words)
    assert set(model.hf.state_dict()) == set(plain.hf.state_dict())
    assert not any(type(module).__module__.startswith("transformer_lens") for module in model.hf.modules())
    assert {p.data_ptr() for p in model.hf.parameters()} <= {p.data_ptr() for p in bridge.original_model.parameters()}
    edits = [ck.scale("resid_pre[layer=1]", 1.5), ck.zero("z[layer=2, head=1]")]
    found = model.run(ids, edits, kinds_of(plain), attention_mask=mask)
    expected = plain.run(ids, edits, kinds_of(plain), attention_mask=mask)
    assert_close(found.logits[prompts.real], expected.logits[prompts.real], "logits")
    for site in expected.cache:
        if site.kind not in ("scores", "pattern"):
            assert_close(found.cache[site][prompts.real], expected.cache[site][prompts.real], str(site))
    with torch.no_grad():
        assert torch.equal(bridge(ids, attention_mask=mask), before)


def test_a_study_of_a_wrapped_bridge_is_that_of_the_model():
    plain = ck.load("planted-induction-llama")
    bridge = plain.to_transformer_lens()
    model = ck.Model(bridge)
    ids = torch.randint(1, 20, (2, 8), generator=torch.Generator().manual_seed(0))
    pairs = [ck.Pairs(ids, ids.flip(0), answer=ids[:, 3], distractor=ids[:, 5]) for _ in range(2)]
    found, expected = (
        ck.patching.sweep(m, p, over="z", metric=ck.metrics.logit_difference)
        for m, p in zip((model, plain), pairs, strict=True)
    )
    # Differences of logits, which rounding moves by the logits' own scale.
    assert_close(found.values, expected.values, "values", tolerance=1e-4)
    assert model.name == plain.name and model.tokenizer is bridge.tokenizer


def test_hooks_on_a_wrapped_bridge_are_its_own():
    bridge, words = booted("llama")
    model, ids = ck.Model(bridge, words), architectures.prompts().input_ids
    logits = model.run(ids).logits
    with torch.no_grad(), bridge.hooks(fwd_hooks=[("blocks.1.hook_resid_pre", lambda value, hook: 0 * value)]):
        assert not torch.allclose(bridge(ids), logits)
        assert torch.equal(model.run(ids).logits, logits)


def test_a_bridge_whose_weights_are_not_the_models_is_refused():
    bridge, words = booted("gpt2")
    bridge.enable_compatibility_mode(disable_warnings=True)
    with pytest.raises(TransformerLensError, match="before enable_compatibility_mode"):
        ck.Model(bridge, words)
    kept = model_of("gpt2").run([[5, 6, 7]], capture=["z"]).cache
    with pytest.raises(TransformerLensError, match="do not belong"):
        kept.to_transformer_lens(bridge)


def test_a_hooked_transformer_is_refused():
    # TransformerLens 4 has none any more; this one stands in for an older version's.
    hooked = type("HookedRootModule", (nn.Module,), {"__module__": "transformer_lens.hook_points"})
    with pytest.raises(TransformerLensError, match="boot_transformers"):
        ck.Model(type("HookedTransformer", (hooked,), {})())


# Caches


def test_what_transformer_lens_makes_of_a_cache_is_what_it_makes_of_its_own():
    model, bridge = model_of("gpt2"), bridge_of("gpt2")
    ids = architectures.prompts().input_ids
    wpe = ck.Site(module="transformer.wpe")
    run = model.run(ids, capture=[*kinds_of(model), wpe])
    ours = run.cache.to_transformer_lens(bridge)
    theirs = bridge.run_with_cache(ids)[1]
    parts, labels = ours.decompose_resid(mode="all", return_labels=True)
    expected, their_labels = theirs.decompose_resid(mode="all", return_labels=True)
    assert labels == their_labels and labels[:2] == ["embed", "pos_embed"]
    assert_close(parts, expected, "components")
    assert_close(parts.sum(0), run.cache["resid_post[layer=2]"], "their sum")
    assert_close(ours.logit_attrs(parts, tokens=7), theirs.logit_attrs(parts, tokens=7), "attributions")
    assert_close(ours.stack_head_results(), theirs.stack_head_results(), "heads")
    assert_close(ours.accumulated_resid(), theirs.accumulated_resid(), "logit lens")


def test_a_decomposition_without_the_position_embedding_is_warned_of():
    kept = model_of("gpt2").run([[5, 6, 7]], capture=["embed"]).cache
    with pytest.warns(UserWarning, match=r"module='transformer\.wpe'"):
        kept.to_transformer_lens(bridge_of("gpt2"))


def test_hooks_that_the_architecture_lacks_are_named():
    kept = model_of("openelm_style").run([[5, 6, 7]], capture=["q", "z"]).cache
    with pytest.warns(UserWarning, match=r"no hook .* blocks\.0\.attn\.hook_q, blocks\.1"):
        names = kept.to_transformer_lens(bridge_of("openelm_style")).keys()
    assert "blocks.0.attn.hook_z" in names


def test_a_norm_behind_the_embedding_keeps_its_name():
    model, bridge = model_of("bloom"), bridge_of("bloom")
    names = model.run([[5, 6]], capture=["embed"]).cache.to_transformer_lens(bridge).keys()
    assert "embed.hook_out" in names and "hook_embed" not in names


def test_without_a_bridge_a_cache_holds_names_and_values():
    kept = model_of("llama").run([[5, 6, 7]], capture=["z", "pattern", "resid_pre"]).cache
    ours = kept.to_transformer_lens()
    assert torch.equal(ours["pattern", -1], kept["pattern[layer=2]"])
    assert torch.equal(ours["blocks.0.hook_resid_pre"], kept["resid_pre[layer=0]"])
    with pytest.raises(TransformerLensError, match="without a bridge"):
        ours.stack_head_results()


def test_parts_of_activations_and_modules_without_hooks_are_refused():
    model = model_of("llama")
    kept = model.run([[5, 6, 7]], capture=["z[layer=1, head=2]"]).cache
    with pytest.raises(TransformerLensError, match=r"hooks hold whole ones: capture z\[layer=1\]"):
        kept.to_transformer_lens()
    module = model.run([[5, 6, 7]], capture=[ck.Site(module="model.layers.0.self_attn.q_proj")]).cache
    with pytest.raises(TransformerLensError, match="known with a bridge"):
        module.to_transformer_lens()
    with pytest.raises(TransformerLensError, match="no hook at"):
        module.to_transformer_lens(bridge_of("llama"))
