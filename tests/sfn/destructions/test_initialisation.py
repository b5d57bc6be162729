"""An architecture's own initialisation, held against models that transformers builds."""

import math

import pytest
import torch
from scipy import stats
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import architectures
import circuitkit as ck
from circuitkit.sfn.destructions.draws import Draws
from circuitkit.sfn.destructions.initialisation import InitialisationError, Law, laws

ERROR = 1e-9  # of each comparison of two samples; there are some thousand of them


def drawn(law: Law, parameter: torch.Tensor, seed: int = 0) -> torch.Tensor:
    numbers = law.rows(Draws(seed, ("a",)), slice(0, len(parameter)), parameter[0].numel())
    return torch.from_numpy(numbers).reshape(parameter.shape)


@pytest.mark.parametrize("name", architectures.NAMES)
def test_each_parameter_is_drawn_as_transformers_draws_it(name):
    example, _ = architectures.build(name)
    torch.manual_seed(1)
    fresh = type(example)(example.config)
    found = laws(type(example), example.config)
    named = dict(fresh.named_parameters())
    assert named.keys() <= found.keys()
    of_law: dict[tuple, list[torch.Tensor]] = {}
    for parameter, tensor in named.items():
        mine, theirs = drawn(found[parameter], tensor), tensor.detach()
        fixed = theirs == theirs.flatten()[0] if theirs.unique().numel() == 1 else theirs == 0
        assert torch.equal(mine[fixed], theirs[fixed]), f"{parameter}: {found[parameter]}"
        if bool((~fixed).any()):
            test = stats.ks_2samp(mine[~fixed].numpy(), theirs[~fixed].numpy())
            assert test.pvalue > ERROR, f"{parameter}: {found[parameter]}"
            of_law.setdefault(found[parameter].steps, []).append(theirs[~fixed])
    # Of few numbers the shape shows, and hardly the scale; all that one law draws together show that, to 2 % mostly.
    for steps, drawn_by in of_law.items():
        if len(steps) == 1 and steps[0][0] == "normal":
            mean, std = steps[0][1]
            numbers = torch.cat(drawn_by).double().numpy()
            squares, (low, high) = ((numbers - mean) ** 2).sum() / std**2, stats.chi2.interval(1 - ERROR, numbers.size)
            assert low < squares < high, f"{steps} of {numbers.size} numbers"


def test_gpt2_draws_what_writes_to_the_stream_smaller():
    example, _ = architectures.build("gpt2")
    found = laws(type(example), example.config)
    config = example.config
    narrow = config.initializer_range / math.sqrt(2 * config.n_layer)
    assert found["transformer.h.0.attn.c_proj.weight"].steps == (("normal", (0.0, narrow)),)
    assert found["transformer.h.0.mlp.c_proj.weight"].steps == (("normal", (0.0, narrow)),)
    assert found["transformer.h.0.attn.c_attn.weight"].steps == (("normal", (0.0, config.initializer_range)),)


def test_norms_that_count_from_one_start_at_zero():
    example, _ = architectures.build("gemma2")
    assert str(laws(type(example), example.config)["model.norm.weight"]) == "fill(0)"


def test_a_trained_model_s_weights_are_not_touched():
    model = ck.load("deductor-130k")
    before = {name: tensor.clone() for name, tensor in model.hf.state_dict().items()}
    laws(type(model.hf), model.hf.config)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.hf.state_dict().items())


class Odd(LlamaForCausalLM):
    """A decoder whose unembedding is initialised in ways of its own."""

    def _init_weights(self, module):
        super()._init_weights(module)
        if module is getattr(self, "lm_head", None):
            self.kind(module.weight)


def odd(kind) -> Law:
    cls = type("Odd", (Odd,), {"kind": staticmethod(kind)})
    config = LlamaConfig(vocab_size=200, hidden_size=64, intermediate_size=8, num_hidden_layers=1, pad_token_id=3)
    return laws(cls, config)["lm_head.weight"]


def test_truncated_and_uniform_laws_are_followed():
    torch.manual_seed(0)
    like = torch.empty(200, 64)
    kinds = {
        "truncated": lambda weight: nn.init.trunc_normal_(weight, std=0.5, a=-0.4, b=0.7),
        "kaiming": lambda weight: nn.init.kaiming_uniform_(weight, a=math.sqrt(5)),
        "by hand": lambda weight: weight.data.uniform_(0.2, 0.9).log_().mul_(0.5).neg_(),
    }
    for name, kind in kinds.items():
        law = odd(kind)
        theirs = torch.empty_like(like)
        kind(theirs)
        mine = drawn(law, like)
        assert stats.ks_2samp(mine.flatten().numpy(), theirs.flatten().numpy()).pvalue > ERROR, f"{name}: {law}"
        if name == "truncated":
            assert float(mine.min()) >= -0.4 and float(mine.max()) <= 0.7 + 1e-6


@pytest.mark.parametrize(
    "kind",
    [
        lambda weight: weight.data.copy_(torch.linalg.qr(torch.randn_like(weight.data))[0]),
        lambda weight: nn.init.orthogonal_(weight, gain=2.0),
        lambda weight: nn.init.sparse_(weight, 0.5),
        lambda weight: weight.data[:, :3].fill_(1.0),
        lambda weight: weight.data.mul_(torch.arange(64.0)),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(kind):
    law = odd(kind)
    with pytest.raises(InitialisationError, match=r"lm_head.weight: .*cannot be told .*take how='reinit'"):
        law.check("lm_head.weight", (200, 64))


def test_a_padding_row_is_had_with_the_rest_or_not_at_all():
    config = LlamaConfig(vocab_size=200, hidden_size=64, intermediate_size=8, num_hidden_layers=1, pad_token_id=3)
    law = laws(LlamaForCausalLM, config)["model.embed_tokens.weight"]
    rows = drawn(law, torch.empty(200, 64))
    assert not rows[3].any() and bool(rows[2].all()) and bool(rows[4].all())
    cut = [law.rows(Draws(0, ("a",)), slice(first, first + 2), 64) for first in range(0, 200, 2)]
    assert torch.equal(torch.cat([torch.from_numpy(each) for each in cut]).reshape(200, 64), rows)
    with pytest.raises(InitialisationError, match="initialised differently in parts"):
        law.check("model.embed_tokens.weight", (100, 64))
