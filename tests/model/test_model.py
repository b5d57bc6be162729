"""What a model says of itself, on architectures known and unknown."""

from functools import cache

import pytest
import torch
from torch import nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

import architectures
import circuitkit as ck
from circuitkit import Model, Site
from circuitkit.model import AnatomyError, Names, SiteError
from oracles import PARALLEL, kinds_of
from oracles.transformers_eager import heads_of, paths_of


@cache
def model_of(name: str) -> Model:
    return Model(*architectures.build(name))


@pytest.mark.parametrize("name", architectures.NAMES)
def test_counts_are_those_of_the_modules(name):
    model = model_of(name)
    paths = paths_of(model.hf)
    layers = model.hf.get_submodule(paths.layers)
    assert model.n_layers == len(layers)
    counts = [heads_of(layer.get_submodule(paths.attention)) for layer in layers]
    assert [(model.n_heads(i), model.n_kv_heads(i)) for i in range(model.n_layers)] == counts
    assert model.n_heads(-1) == counts[-1][0]
    assert model.d_model == model.hf.get_submodule(paths.embed).weight.shape[1]


@pytest.mark.parametrize("name", architectures.NAMES)
def test_every_kind_that_the_architecture_has_is_a_site_in_every_layer(name):
    model = model_of(name)
    for kind in kinds_of(name) - {"embed", "logits"}:
        assert model.layers_with(kind) == list(range(model.n_layers)), kind
    assert ("resid_mid" in model.layers[0].points) == (name not in PARALLEL)


def test_a_kind_without_a_layer_is_a_site_in_every_layer_that_has_it():
    model = model_of("llama")
    assert model.sites("z[head=1]") == [Site("z", layer=layer, head=1) for layer in range(3)]
    assert model.sites("z[layer=-1]") == [Site("z", layer=2)]
    assert model.sites("embed") == [Site("embed")]


def test_wrapping_a_model_changes_nothing_of_it():
    hf, tokenizer = architectures.build("llama")
    weights = {name: value.clone() for name, value in hf.state_dict().items()}
    attributes = {path: sorted(vars(module)) for path, module in hf.named_modules()}
    model = Model(hf, tokenizer)
    model.n_heads(0)
    assert model.hf is hf
    assert all(torch.equal(value, weights[name]) for name, value in hf.state_dict().items())
    assert {path: sorted(vars(module)) for path, module in hf.named_modules()} == attributes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in hf.modules())


def test_training_flags_are_put_back_after_the_probe():
    hf, tokenizer = architectures.build("gpt2")
    hf.train()
    hf.transformer.h[1].eval()
    flags = [module.training for module in hf.modules()]
    Model(hf, tokenizer).n_heads(0)
    assert [module.training for module in hf.modules()] == flags


def test_logits_at_reads_each_rows_own_position():
    model, prompts = model_of("llama"), architectures.prompts("left_padded")
    whole = model.run(prompts.input_ids, attention_mask=prompts.attention_mask).logits
    for position in (-1, -2, 0, 3):
        found = model.run(prompts.input_ids, attention_mask=prompts.attention_mask, logits_at=position).logits
        for row, real in enumerate(prompts.real):
            column = torch.nonzero(real)[position].item()
            torch.testing.assert_close(found[row], whole[row, column], atol=1e-5, rtol=1e-5)


def test_right_padding_counts_real_tokens_too():
    model = model_of("llama")
    ids, mask = torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    run = model.run(ids, capture=["z[layer=1, position=-1]"], attention_mask=mask, logits_at=-1)
    alone = model.run(ids[1:, :2], capture=["z[layer=1, position=-1]"], logits_at=-1)
    torch.testing.assert_close(run.logits[1:], alone.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(run.cache["z[layer=1, position=-1]"][1:], alone.cache["z[layer=1, position=-1]"])


# An architecture of one's own, which TransformerLens does not know.


class TanhConfig(PretrainedConfig):
    model_type = "tanh_mixer"

    def __init__(self, **settings):
        self.vocab_size, self.hidden_size, self.num_attention_heads, self.num_hidden_layers = 96, 16, 2, 2
        super().__init__(**settings)


class TanhAttention(nn.Module):
    """Attention without a softmax: weights by tanh, kept causal."""

    num_heads = 2

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))

    def forward(self, x):
        q, k, v = (part(x).unflatten(-1, (2, 8)).transpose(1, 2) for part in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-1, -2)).tanh().tril()
        return self.out((weights @ v).transpose(1, 2).flatten(-2))


class TanhBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.mix, self.norm2 = nn.LayerNorm(16), TanhAttention(), nn.LayerNorm(16)
        self.ff = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x):
        x = x + self.mix(self.norm1(x))
        return x + self.ff(self.norm2(x))


class TanhForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = TanhConfig

    def __init__(self, config):
        super().__init__(config)
        self.tokens, self.stack = nn.Embedding(96, 16), nn.ModuleList(TanhBlock() for _ in range(2))
        self.head = nn.Linear(16, 96)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, **settings):
        hidden = self.tokens(input_ids)
        for block in self.stack:
            hidden = block(hidden)
        return CausalLMOutputWithPast(logits=self.head(hidden))


TANH = Names(
    "tokens",
    "stack",
    {"attn": "mix", "o": "mix.out", "q": "mix.q", "k": "mix.k", "v": "mix.v", "mlp": "ff", "ln2": "norm2"},
)


def test_an_unknown_architecture_is_refused_and_told_how_to_name_its_parts():
    with pytest.raises(
        AnatomyError, match=r"TanhForCausalLM has no TransformerLens adapter .* Name its parts: .*names="
    ):
        Model(TanhForCausalLM(TanhConfig()).eval(), None)


def test_an_unknown_architecture_works_with_its_parts_named():
    torch.manual_seed(0)
    model = Model(TanhForCausalLM(TanhConfig()).eval(), None, names=TANH)
    ids = torch.randint(3, 96, (2, 5))
    capture = ["embed", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "q", "k", "v", "z"]
    run = model.run(ids, capture=capture)
    for layer in range(2):
        at = {kind: run.cache[f"{kind}[layer={layer}]"] for kind in capture[1:]}
        torch.testing.assert_close(at["resid_pre"] + at["attn_out"], at["resid_mid"])
        torch.testing.assert_close(at["resid_mid"] + at["mlp_out"], at["resid_post"])
    block = model.hf.stack[1]
    hook = block.mix.out.register_forward_pre_hook(lambda module, args: (args[0] * (torch.arange(16) < 8),))
    expected = model.hf(ids).logits
    hook.remove()
    torch.testing.assert_close(model.run(ids, [ck.zero("z[layer=1, head=1]")]).logits, expected)


def test_attention_without_a_softmax_has_no_scores_or_pattern_and_says_why():
    torch.manual_seed(0)
    model = Model(TanhForCausalLM(TanhConfig()).eval(), None, names=TANH)
    ids = torch.randint(3, 96, (2, 5))
    for kind in ("scores", "pattern"):
        with pytest.raises(SiteError, match=f"has no {kind}: its attention computes 0 softmaxes"):
            model.run(ids, capture=[f"{kind}[layer=1]"])
    with pytest.raises(SiteError, match="has no scores"):
        model.run(ids, [ck.knockout(1)])
    assert model.run(ids, capture=["z[layer=1]"]).cache["z[layer=1]"].shape == (2, 5, 2, 8)


def test_a_subclass_of_a_known_architecture_has_its_parts():
    hf, tokenizer = architectures.build("llama")
    mine = type("MyOwnModel", (type(hf),), {})(hf.config).eval()
    mine.load_state_dict(hf.state_dict())
    prompts, edits = architectures.prompts(), [ck.scale("pattern[layer=1]", 0.5), ck.zero("z[layer=0, head=2]")]
    assert torch.equal(
        Model(mine, tokenizer).run(prompts.input_ids, edits).logits, Model(hf).run(prompts.input_ids, edits).logits
    )


def test_names_that_are_wrong_are_refused():
    hf = TanhForCausalLM(TanhConfig()).eval()
    with pytest.raises(AnatomyError, match="no list of layers at 'layers'"):
        Model(hf, None, names=Names("tokens", "layers"))


def test_parts_that_were_not_named_are_refused_by_name():
    model = Model(TanhForCausalLM(TanhConfig()).eval(), None, names=Names("tokens", "stack"))
    ids = torch.randint(3, 96, (2, 5))
    assert set(model.run(ids, capture=["resid_post"]).cache) == {
        Site("resid_post", layer=0),
        Site("resid_post", layer=1),
    }
    with pytest.raises(SiteError, match="no attention output projection"):
        model.run(ids, capture=["z"])
    with pytest.raises(SiteError, match="no layer of TanhForCausalLM has attn_out"):
        model.run(ids, capture=["attn_out"])
    with pytest.raises(SiteError, match="has pattern: its attention computes 0 softmaxes"):
        model.run(ids, capture=["pattern"])
