"""Ablated neurons against plain hooks on the down projection's input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import architectures
import circuitkit as ck
from circuitkit.model import SiteError

DOWN = {
    "llama": lambda hf, at: hf.model.layers[at].mlp.down_proj,
    "gpt2": lambda hf, at: hf.transformer.h[at].mlp.c_proj,
}


def drawn(n: int = 3, length: int = 5, seed: int = 2) -> ck.Pairs:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, architectures.VOCABULARY, (n, length), generator=generator)
    ids = torch.randint(5, architectures.VOCABULARY, (n, 2), generator=generator)
    return ck.Pairs(tokens, tokens.flip(1), ids[:, 0], ids[:, 1])


def by_hand(name, hf, tokens, values: dict[tuple[int, int], float]) -> torch.Tensor:
    hooks = []
    for (layer, neuron), value in values.items():

        def ablate(module, args, neuron=neuron, value=value):
            entering = args[0].clone()
            entering[..., neuron] = value
            return (entering,)

        hooks.append(DOWN[name](hf, layer).register_forward_pre_hook(ablate))
    logits = hf(tokens).logits[:, -1]
    for hook in hooks:
        hook.remove()
    return logits


def means(name, hf, tokens, layer: int) -> torch.Tensor:
    kept = {}
    hook = DOWN[name](hf, layer).register_forward_pre_hook(lambda m, args: kept.update(entering=args[0].clone()))
    hf(tokens)
    hook.remove()
    return kept["entering"].mean((0, 1))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("how", ["zero", "mean"])
def test_single_neurons_equal_plain_hooks(name, how):
    hf, _ = architectures.build(name)
    pairs, reference = drawn(), drawn(4, 7, seed=9).clean
    neurons = [(0, 3), (1, 3), (2, 40)]
    arguments = {"reference": reference} if how == "mean" else {}
    result = ck.ablation.neurons.sweep(ck.Model(hf), pairs, neurons, how, progress=False, **arguments)
    assert result.coordinates == {"layer": (0, 1, 2), "neuron": (3, 40)} and len(result.frame) == 3
    rows = torch.arange(3)
    for layer, neuron in neurons:
        value = float(means(name, hf, reference, layer)[neuron]) if how == "mean" else 0.0
        logits = by_hand(name, hf, pairs.clean, {(layer, neuron): value})
        expected = logits[rows, pairs.answer] - logits[rows, pairs.distractor]
        ours = result.per_example[layer, result.coordinates["neuron"].index(neuron)]
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


@settings(max_examples=8)
@given(neurons=st.sets(st.tuples(st.integers(0, 2), st.integers(0, 47)), min_size=1, max_size=6), n=st.integers(1, 3))
def test_sets_of_neurons_are_ablated_together(neurons, n):
    hf, _ = architectures.build("llama")
    model, tokens = ck.Model(hf), drawn(n).clean
    for how in ("zero", "mean"):
        values = {
            (at, neuron): float(means("llama", hf, tokens, at)[neuron]) * (how == "mean") for at, neuron in neurons
        }
        ours = model.run(tokens, ck.ablation.neurons.ablate(model, tokens, neurons, how), logits_at=-1).logits
        torch.testing.assert_close(ours, by_hand("llama", hf, tokens, values), atol=2e-5, rtol=1e-4)


def test_neurons_that_do_not_exist_are_named():
    hf, _ = architectures.build("llama")
    model, pairs = ck.Model(hf), drawn()
    for neurons, how, message in [
        ([(0, 48)], "zero", "layer 0 has neurons 0 to 47"),
        ([(3, 0)], "zero", "layers 0 to 2"),
        ([(0, 0)], "resample", "'zero' or 'mean'"),
        ([], "zero", "no neuron is named"),
    ]:
        with pytest.raises(ValueError, match=message):
            ck.ablation.neurons.sweep(model, pairs, neurons, how)
    experts, _ = architectures.build("mixtral")
    with pytest.raises(SiteError, match="no down projection of its own"):
        ck.ablation.neurons.sweep(ck.Model(experts), pairs, [(0, 0)])
