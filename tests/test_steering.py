"""Difference-in-means vectors against means taken by hand, and what adding one does."""

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.model import SiteError


def stream(hf, ids, layer: int) -> torch.Tensor:
    kept = {}
    hook = hf.model.layers[layer].register_forward_hook(lambda m, a, out: kept.update(out=out.clone()))
    hf(torch.tensor([ids]))
    hook.remove()
    return kept["out"][0]


def test_means_over_tokens_and_at_a_position():
    hf, tokenizer = architectures.build("llama")
    model = ck.Model(hf, tokenizer)
    towards, away = [[5, 6, 7], [8, 9]], [[10, 11, 12, 13], [14], [15, 16]]
    ours = ck.steering.difference_in_means(model, towards, away, "resid_post[layer=1]")
    means = [torch.cat([stream(hf, ids, 1) for ids in rows]).mean(0) for rows in (towards, away)]
    torch.testing.assert_close(ours, means[0] - means[1], atol=1e-5, rtol=1e-4)
    last = ck.steering.difference_in_means(model, towards, away, "resid_post[layer=1, position=-1]")
    means = [torch.stack([stream(hf, ids, 1)[-1] for ids in rows]).mean(0) for rows in (towards, away)]
    torch.testing.assert_close(last, means[0] - means[1], atol=1e-5, rtol=1e-4)


def test_steering_moves_one_prompt_to_another():
    hf, _ = architectures.build("llama")
    model = ck.Model(hf)
    here, there = torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 8]])
    site = ck.Site("resid_post", layer=2, position=-1)
    vector = ck.steering.difference_in_means(model, there, here, site)
    steered = model.run(here, [ck.add(site, vector)], logits_at=-1).logits
    # The last layer's stream at the last token is all that the logits read.
    torch.testing.assert_close(steered, model.run(there, logits_at=-1).logits, atol=1e-5, rtol=1e-4)


def test_heads_have_directions_and_patterns_have_none():
    hf, _ = architectures.build("llama")
    model, tokens = ck.Model(hf), torch.tensor([[5, 6, 7]])
    assert ck.steering.difference_in_means(model, tokens, tokens + 1, "z[layer=0]").shape == (4, 8)
    for site in ("pattern[layer=0]", "resid_post"):
        with pytest.raises(SiteError, match="one layer's activations"):
            ck.steering.difference_in_means(model, tokens, tokens, site)
