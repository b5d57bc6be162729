"""Total beside direct effects: against plain hooks that hold every later component, and the planted backup."""

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.model import planted


def direct_by_hand(hf, tokens, layer: int, head: int) -> torch.Tensor:
    """Logits when a zeroed head's change goes straight into the final norm: no later module is run on it at all."""
    kept = {}
    hooks = [
        hf.model.layers[layer].self_attn.o_proj.register_forward_hook(lambda m, a, out: kept.update(out=out.clone())),
        hf.model.norm.register_forward_pre_hook(lambda m, args: kept.update(last=args[0].clone())),
    ]
    hf(tokens)
    clean = dict(kept)

    def ablate(module, args):
        z = args[0].clone().unflatten(-1, (4, -1))
        z[:, :, head] = 0
        return (z.flatten(-2),)

    hooks.append(hf.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(ablate))
    hf(tokens)
    for hook in hooks:
        hook.remove()
    return hf.lm_head(hf.model.norm(clean["last"] + kept["out"] - clean["out"]))[:, -1]


def test_direct_effects_reach_the_logits_alone():
    hf, _ = architectures.build("llama")
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(5, architectures.VOCABULARY, (3, 6), generator=generator)
    pairs = ck.Pairs(tokens, tokens, torch.tensor([7, 8, 9]), torch.tensor([10, 11, 12]))
    both = ck.ablation.effects(ck.Model(hf), pairs, progress=False)
    rows = torch.arange(3)
    for layer in range(3):
        for head in range(4):
            logits = direct_by_hand(hf, tokens, layer, head)
            expected = logits[rows, pairs.answer] - logits[rows, pairs.distractor]
            torch.testing.assert_close(both.direct.per_example[layer, head], expected, atol=1e-5, rtol=1e-4)
    total = ck.ablation.sweep(ck.Model(hf), pairs, progress=False)
    torch.testing.assert_close(both.total.per_example, total.per_example)
    # The last layer's MLP is all that can still react there; at lower layers more does.
    assert both.repaired.shape == (3, 4) and len(both.frame) == 12


@pytest.mark.parametrize("name", planted.names())
def test_the_backup_hides_the_primary_from_its_total_effect(name):
    plant = planted.build(name)
    drawn = plant.pairs(8, seed=3, length=14)
    primary = plant.circuit[plant.primary]
    both = ck.ablation.effects(ck.load(name), ck.Pairs(*drawn), [primary, plant.backup], progress=False)
    total, direct = both.total.normalised[primary], both.direct.normalised[primary]
    assert direct > 0.3 and total < 0.6 * direct
    assert both.repaired[primary] > 0
    assert abs(both.direct.normalised[plant.backup]) < 0.05


def test_parallel_layers_have_direct_effects_too():
    hf, _ = architectures.build("gpt_neox")
    tokens = torch.randint(5, architectures.VOCABULARY, (2, 5), generator=torch.Generator().manual_seed(1))
    both = ck.ablation.effects(ck.Model(hf), tokens, [(2, 1)], metric="kl", progress=False)
    # In the last of parallel layers nothing comes after a head, so all of its effect is direct.
    torch.testing.assert_close(both.total.per_example[2, 1], both.direct.per_example[2, 1], atol=1e-6, rtol=1e-4)
