"""What a name promises and an architecture does not keep: checked on the model's own numbers.

Each test takes the check away and shows the wrong tensor that would pass for the right one.
"""

import pytest
import torch
from torch import Tensor

import architectures
import circuitkit as ck
from circuitkit import Model
from circuitkit.model import SiteError, attention, probe
from circuitkit.model import model as model_module
from circuitkit.model.probe import Layer
from circuitkit.run import InterventionError
from oracles.transformers_eager import capture
from parity.agreement import reference


def fresh(name: str) -> Model:
    return Model(*architectures.build(name))


def read(name: str, *kinds: str) -> dict[str, Tensor]:
    cache = fresh(name).run(architectures.prompts().input_ids, capture=[f"{kind}[layer=1]" for kind in kinds]).cache
    return {kind: cache[f"{kind}[layer=1]"] for kind in kinds}


def test_blooms_branches_leave_the_stream_out(monkeypatch):
    """BLOOM's attention and MLP modules return the stream with their own addition in it."""
    found, expected = read("bloom", "attn_out", "mlp_out"), reference("bloom", "equal")
    for kind in found:
        torch.testing.assert_close(found[kind], expected[kind, 1], atol=1e-5, rtol=1e-5)
    monkeypatch.setattr(probe, "_close", lambda a, b: a.shape == b.shape)
    believed = read("bloom", "attn_out", "mlp_out")
    for kind in believed:
        assert not torch.allclose(believed[kind], expected[kind, 1], atol=1e-2)


@pytest.mark.parametrize("name", ["gpt_neox", "falcon", "bloom"])
def test_a_fused_projection_is_read_in_the_layout_that_gives_z(name, monkeypatch):
    """Queries, keys and values lie one after another in one model, and head by head in the next."""
    found, expected = read(name, "q", "k", "v"), reference(name, "equal")
    for kind in found:
        torch.testing.assert_close(found[kind], expected[kind, 1], atol=1e-5, rtol=1e-5)
    monkeypatch.setattr(probe, "_gives_z", lambda *claim: True)
    believed = read(name, "q", "k", "v")
    assert not torch.allclose(believed["v"], expected["v", 1], atol=1e-2)


@pytest.mark.parametrize("name", ["gpt_neox", "falcon_multi_query"])
def test_parallel_blocks_have_no_middle(name, monkeypatch):
    with pytest.raises(SiteError, match="attention and MLP read the same stream"):
        fresh(name).run(architectures.prompts().input_ids, capture=["resid_mid"])
    # The check taken away: what enters the MLP's norm would pass for the stream after attention.
    monkeypatch.setattr(probe, "_PARALLEL_FLAGS", ())
    monkeypatch.setattr(probe, "_close", lambda a, b: a.shape == b.shape)
    found = read(name, "resid_mid", "resid_pre")
    added = reference(name, "equal")["attn_out", 1]
    assert not torch.allclose(found["resid_mid"], found["resid_pre"] + added, atol=1e-2)


def test_post_norms_are_part_of_what_is_added():
    """Gemma 2 norms a branch's output before it is added: the module's own output is not the addition."""
    model, prompts = fresh("gemma2"), architectures.prompts()
    run = model.run(prompts.input_ids, capture=["attn_out", "mlp_out", "resid_pre", "resid_post"])
    module = ck.Site(module="model.layers.1.self_attn")
    own = model.run(prompts.input_ids, capture=[module]).cache[module]
    at = {kind: run.cache[f"{kind}[layer=1]"] for kind in ("attn_out", "mlp_out", "resid_pre", "resid_post")}
    torch.testing.assert_close(at["resid_pre"] + at["attn_out"] + at["mlp_out"], at["resid_post"], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(own, at["attn_out"], atol=1e-2)


def test_key_and_value_heads_are_their_own(monkeypatch):
    """Two key/value heads serve four query heads: head 1 of v feeds heads 2 and 3 of z."""
    model, prompts = fresh("llama"), architectures.prompts()
    plain = model.run(prompts.input_ids, capture=["z[layer=1]"]).cache["z[layer=1]"]
    zeroed = model.run(prompts.input_ids, [ck.zero("v[layer=1, head=1]")], ["z[layer=1]"]).cache["z[layer=1]"]
    assert (zeroed[:, :, 2:] == 0).all()
    torch.testing.assert_close(zeroed[:, :, :2], plain[:, :, :2])
    with pytest.raises(SiteError, match="head 3 does not exist: layer 1 has key/value heads 0 to 1"):
        model.run(prompts.input_ids, [ck.zero("v[layer=1, head=3]")])
    # Counted as query heads, head 3 of v would be accepted.
    monkeypatch.setattr(model_module, "KEY_VALUE_KINDS", frozenset())
    with pytest.raises(IndexError):
        model.run(prompts.input_ids, [ck.zero("v[layer=1, head=3]")])


@pytest.mark.parametrize("name", ["llama", "falcon", "phi3", "openelm_style"])
def test_keys_and_values_of_another_run_can_be_patched_in(name):
    model, prompts, other = fresh(name), architectures.prompts(), architectures.prompts(seed=1)
    there = model.run(other.input_ids, capture=["q[layer=1]", "k[layer=1]", "v[layer=1]", "z[layer=1]"])
    patches = [ck.replace(site, there.cache[site]) for site in there.cache if site.kind != "z"]
    z = model.run(prompts.input_ids, patches, capture=["z[layer=1]"]).cache["z[layer=1]"]
    torch.testing.assert_close(z, there.cache["z[layer=1]"], atol=1e-5, rtol=1e-5)


def test_sinks_are_no_keys(monkeypatch):
    """gpt-oss has a column behind the keys that takes attention to nothing."""
    expected = reference("gpt_oss", "equal")["pattern", 1]
    pattern = read("gpt_oss", "pattern")["pattern"]
    assert pattern.shape[-1] == 9
    assert (pattern.sum(-1) < 0.999).any()
    torch.testing.assert_close(pattern, expected, atol=1e-5, rtol=1e-5)
    run = fresh("gpt_oss").run(
        architectures.prompts().input_ids, [ck.scale("pattern[layer=1]", 2.0)], ["pattern[layer=1]"]
    )
    torch.testing.assert_close(run.cache["pattern[layer=1]"], 2 * expected, atol=1e-5, rtol=1e-5)
    # Not told how many keys there are, the tap would hand out the sink as a tenth.
    monkeypatch.setattr(attention._SoftmaxTap, "n_keys", property(lambda tap: None, lambda tap, n: None), raising=False)
    with pytest.raises(InterventionError, match="holds 10 keys of 9 tokens"):
        read("gpt_oss", "pattern")


def test_head_counts_that_differ_are_counted_in_each_layer():
    model = fresh("openelm_style")
    assert [model.n_heads(layer) for layer in range(3)] == [4, 6, 2]
    run = model.run(architectures.prompts().input_ids, capture=["z", "v"])
    assert [run.cache[f"z[layer={layer}]"].shape[2] for layer in range(3)] == [4, 6, 2]
    assert [run.cache[f"v[layer={layer}]"].shape[2] for layer in range(3)] == [2, 3, 1]


def test_a_destroyed_module_does_not_fool_the_checks():
    """With attention's output projection zeroed, the numbers alone cannot tell parallel from sequential."""
    hf, tokenizer = architectures.build("llama")
    hf.model.layers[1].self_attn.o_proj.weight.zero_()
    model, prompts = Model(hf, tokenizer), architectures.prompts()
    assert isinstance(model.layers[1], Layer)
    expected = capture(hf, prompts.input_ids)
    run = model.run(prompts.input_ids, capture=["attn_out", "mlp_out", "resid_mid", "q", "z", "pattern"])
    for site in run.cache:
        torch.testing.assert_close(run.cache[site], expected[site.kind, site.layer], atol=1e-5, rtol=1e-5)
