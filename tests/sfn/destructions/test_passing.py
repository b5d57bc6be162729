"""Layers that pass their input through: proved without weights, and seen in a forward of every architecture."""

import pytest
import torch

import architectures
import circuitkit as ck
from architectures import DECODER, SPECIAL_TOKENS, VOCABULARY, Architecture
from circuitkit.model.points import first_tensor
from circuitkit.sfn.destructions.passing import PassingError, removal

OPT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": 32,
    **SPECIAL_TOKENS,
}
EXPERTS = {**DECODER, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
BLOOM = {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 3, "n_head": 4, **SPECIAL_TOKENS}
MORE = {
    "opt": Architecture("OPT", OPT),
    "granite, whose branches are scaled": Architecture("Granite", {**DECODER, "residual_multiplier": 0.3}),
    "cohere, parallel": Architecture("Cohere", DECODER),
    "glm4, norms behind": Architecture("Glm4", {**DECODER, "head_dim": 8}),
    "qwen2_moe, a shared expert": Architecture("Qwen2Moe", {**EXPERTS, "shared_expert_intermediate_size": 16}),
}
REFUSED = {
    "opt_350m, norms on the stream": (
        Architecture("OPT", {**OPT, "do_layer_norm_before": False}),
        "it ends with native_layer_norm",
    ),
    "bloom, normed stream added": (
        Architecture("Bloom", {**BLOOM, "apply_residual_connection_post_layernorm": True}),
        "it still adds something to its input",
    ),
    "mamba, no attention": (
        Architecture("Mamba", {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "state_size": 8}),
        "it still adds something to its input where nothing is zero",
    ),
}


def built(architecture: Architecture) -> ck.Model:
    torch.manual_seed(0)
    hf = architecture.build()
    architectures.randomise(hf, 0)
    return ck.Model(hf.eval().requires_grad_(False), None)


def change_of(model: ck.Model, layer: int) -> float:
    """The largest difference between a layer's input and its output."""
    ends = {}
    block = model.anatomy.blocks[layer].block
    before = block.register_forward_pre_hook(
        lambda module, args, kwargs: ends.update(pre=first_tensor((*args, *kwargs.values())).clone()), with_kwargs=True
    )
    after = block.register_forward_hook(lambda module, args, output: ends.update(post=first_tensor(output).clone()))
    model.hf(input_ids=architectures.prompts().input_ids)
    before.remove()
    after.remove()
    return float((ends["post"] - ends["pre"]).abs().max())


@pytest.mark.parametrize("name", [*architectures.NAMES, *MORE])
def test_a_layer_with_these_weights_zero_is_not_there(name):
    model = ck.Model(architectures.build(name)[0], None) if name in architectures.NAMES else built(MORE[name])
    layers = [0, model.n_layers - 1]
    found = removal(model, layers)
    assert list(found) == layers
    assert all(change_of(model, layer) > 0 for layer in layers)
    named = dict(model.anatomy.root.named_parameters())
    with torch.no_grad():
        for names in found.values():
            for each in names:
                named[each].zero_()
    assert [change_of(model, layer) for layer in range(model.n_layers) if layer in layers] == [0.0, 0.0]
    assert all(change_of(model, layer) > 0 for layer in range(1, model.n_layers - 1))


@pytest.mark.parametrize("name", ["llama", "gemma2", "olmo2", "gpt2", "mixtral"])
def test_every_one_of_these_weights_is_needed(name):
    model = ck.Model(architectures.build(name)[0], None)
    named = dict(model.anatomy.root.named_parameters())
    names = removal(model, [1])[1]
    before = {each: named[each].clone() for each in names}
    with torch.no_grad():
        for spared in names:
            for each in names:
                named[each].copy_(before[each] if each == spared else torch.zeros_like(before[each]))
            assert change_of(model, 1) > 0, spared


@pytest.mark.parametrize("name", REFUSED)
def test_layers_that_do_more_than_add_are_refused(name):
    architecture, reason = REFUSED[name]
    with pytest.raises(PassingError, match=f"layer 1 of .* cannot be removed by zeros in its weights: {reason}"):
        removal(built(architecture), [1])


def test_a_decoder_that_scales_its_stream_is_refused():
    model = ck.load("deductor-130k")
    cls = type(model.hf)

    class Scaled(cls):
        """A decoder whose last layer's output is doubled."""

        def __init__(self, config):
            super().__init__(config)
            self.model.layers[-1].register_forward_hook(lambda module, args, output: output * 2)

    hf = Scaled(model.hf.config).eval()
    assert removal(ck.Model(hf, None), [0])
    with pytest.raises(PassingError, match=r"layer 2 of .* it ends with mul"):
        removal(ck.Model(hf, None), [2])


def test_a_model_that_looks_at_its_numbers_is_refused():
    model = ck.load("deductor-130k")

    class Looking(type(model.hf)):
        """A decoder whose forward asks for a number."""

        def forward(self, input_ids=None, **kwargs):
            if float(self.lm_head.weight.sum()) > 1e9:
                return None
            return super().forward(input_ids=input_ids, **kwargs)

    with pytest.raises(PassingError, match="cannot be followed: its forward does not run without weights"):
        removal(ck.Model(Looking(model.hf.config).eval(), None), [0])
