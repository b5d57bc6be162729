import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.model import PromptError, SiteError, planted


def by_hand(hf, tokens, layer: int, head: int, value) -> torch.Tensor:
    """Last logits with one head's input to the output projection replaced, by a plain hook."""
    projection = hf.model.layers[layer].self_attn.o_proj

    def ablate(module, args):
        z = args[0].clone().unflatten(-1, (4, -1))
        z[:, :, head] = value
        return (z.flatten(-2),)

    hook = projection.register_forward_pre_hook(ablate)
    logits = hf(tokens).logits[:, -1]
    hook.remove()
    return logits


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(5, architectures.VOCABULARY, (4, 6), generator=torch.Generator().manual_seed(2))


def z_of(hf, tokens, layer: int) -> torch.Tensor:
    kept = {}
    projection = hf.model.layers[layer].self_attn.o_proj
    hook = projection.register_forward_pre_hook(lambda m, args: kept.update(z=args[0].clone()))
    hf(tokens)
    hook.remove()
    return kept["z"].unflatten(-1, (4, -1))


@pytest.mark.parametrize("how", ["zero", "mean"])
def test_ablation_equals_plain_hooks(how, tokens):
    hf, _ = architectures.build("llama")
    result = ck.ablation.sweep(ck.Model(hf), tokens, how=how, progress=False)
    clean = hf(tokens).logits[:, -1].log_softmax(-1)
    for layer in range(3):
        means = z_of(hf, tokens, layer).mean((0, 1))
        for head in range(4):
            logits = by_hand(hf, tokens, layer, head, 0.0 if how == "zero" else means[head]).log_softmax(-1)
            kl = (clean.exp() * (clean - logits)).sum(-1)
            torch.testing.assert_close(result.per_example[layer, head], kl, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(result.baseline.clean, torch.zeros(4), atol=1e-6, rtol=0)


def test_resampling_gives_each_prompt_another_ones_output(tokens):
    hf, _ = architectures.build("llama")
    model = ck.Model(hf)
    ablations = ck.ablation.ablate(model, tokens, [(1, 2)], "resample", seed=7)
    value, z = ablations[0].value, z_of(hf, tokens, 1)[:, :, 2]
    sources = [next(i for i in range(4) if torch.allclose(z[i], row)) for row in value]
    assert sorted(sources) == [0, 1, 2, 3] and all(source != row for row, source in enumerate(sources))
    again = ck.ablation.ablate(model, tokens, [(1, 2)], "resample", seed=7)[0].value
    torch.testing.assert_close(again, value)


def test_padding_takes_no_part_in_the_mean():
    hf, tokenizer = architectures.build("llama")
    model = ck.Model(hf, tokenizer)
    rows = [[7, 8, 9, 10], [11, 12]]
    mean = ck.ablation.ablate(model, rows, [(1, 0)], "mean")[0].value
    real = torch.cat([z_of(hf, torch.tensor([row]), 1)[0] for row in rows])
    torch.testing.assert_close(mean, real.mean(0)[0], atol=1e-5, rtol=1e-5)


def test_only_the_named_heads_are_ablated(tokens):
    hf, _ = architectures.build("llama")
    result = ck.ablation.sweep(ck.Model(hf), tokens, heads=[(0, 1), (2, 3)], progress=False)
    assert result.values.isfinite().sum() == 2 and len(result.frame) == 2


@pytest.mark.parametrize("name", planted.names())
def test_planted_heads_are_lost_and_the_decoy_is_not(name):
    plant = planted.build(name)
    drawn = plant.pairs(16, seed=2)
    pairs = ck.Pairs(drawn.clean, drawn.corrupt, drawn.answer, drawn.distractor)
    result = ck.ablation.sweep(ck.load(name), pairs, how="mean", progress=False)
    strong = result.frame[result.frame["significant"] & (result.frame["normalised"] > 0.1)]
    assert set(zip(strong["layer"], strong["head"], strict=True)) == set(plant.heads)
    # Every head writes something, so that its loss is no false finding where it is real; but it is next to nothing.
    rest = result.normalised.clone()
    for layer, head in plant.heads:
        rest[layer, head] = 0
    assert rest.abs().max() < 0.05


def test_bad_input_is_named(tokens):
    hf, _ = architectures.build("llama")
    model = ck.Model(hf)
    with pytest.raises(SiteError, match="head 9 does not exist: layer 1 has heads 0 to 3"):
        ck.ablation.sweep(model, tokens, heads=[(1, 9)])
    with pytest.raises(ValueError, match="'zero', 'mean' or 'resample'"):
        ck.ablation.sweep(model, tokens, how="none")
    with pytest.raises(PromptError, match="two prompts or more"):
        ck.ablation.sweep(model, tokens[:1], how="resample")
    with pytest.raises(PromptError, match="2 to 4 tokens"):
        ck.ablation.sweep(model, [[5, 6, 7, 8], [9, 10]], how="resample")


@pytest.mark.parametrize("heads", [[(0, 1), (0, 1), (2, 3)], [(-3, 1), (0, 1), (2, 3)], torch.tensor([[0, 1], [2, 3]])])
def test_a_head_named_twice_is_ablated_once(heads, tokens):
    hf, _ = architectures.build("llama")
    model = ck.Model(hf)
    result = ck.ablation.sweep(model, tokens, heads, progress=False)
    once = ck.ablation.sweep(model, tokens, [(0, 1), (2, 3)], progress=False)
    assert (~result.values.isnan()).nonzero().tolist() == [[0, 1], [2, 3]]
    torch.testing.assert_close(result.values, once.values, equal_nan=True)
    assert len(ck.ablation.ablate(model, tokens, heads, "mean")) == 2


@pytest.mark.parametrize("heads", ["2.1", (2, 1), [(1, 2, 3)], [2], [(0.5, 1)], ["21"], 3, [("a", 1)]])
def test_heads_that_are_no_pairs_are_named(heads, tokens):
    hf, _ = architectures.build("llama")
    with pytest.raises(
        SiteError, match=r"heads are \(layer, head\) pairs, such as \[\(2, 1\), \(3, 0\)\], or \"all\", not"
    ):
        ck.ablation.sweep(ck.Model(hf), tokens, heads, progress=False)
