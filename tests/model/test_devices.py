"""A model on two devices equals itself on one: nothing that is on one of them meets what is on the other.

The devices are pretended, and refuse to mix as real ones do.
"""

import warnings

import pytest
import torch

import architectures
import circuitkit as ck
from parallel import divided
from parallel.pretended_devices import FIRST, SECOND, place, pretending

MAPS = {
    "llama": {
        **dict.fromkeys(["model.embed_tokens", "model.rotary_emb", "model.layers.0"], FIRST),
        **dict.fromkeys(["model.layers.1", "model.layers.2", "model.norm", "lm_head"], SECOND),
    },
    "gpt2": {
        **dict.fromkeys(["transformer.wte", "transformer.wpe", "transformer.drop", "transformer.h.0"], FIRST),
        **dict.fromkeys(["transformer.h.1", "transformer.h.2", "transformer.ln_f", "lm_head"], SECOND),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_two_devices_equal_one(name):
    whole = ck.Model(architectures.build(name)[0])
    drawn, other = (architectures.prompts("left_padded", seed=seed) for seed in (0, 3))
    tokens, source = (whole.tokens(each.input_ids, each.attention_mask) for each in (drawn, other))
    with pretending(), warnings.catch_warnings():
        # No shortcut is given up, which would be warned of.
        warnings.simplefilter("error", UserWarning)
        spread = ck.Model(place(architectures.build(name)[0], MAPS[name]))
        found = divided.captures(whole, spread, tokens) | divided.studied(whole, spread, tokens, source)
        found |= divided.generated(whole, spread, tokens) | divided.differentiated(whole, spread, tokens)
        found |= divided.modules(whole, spread, tokens)
        found |= divided.surveyed(whole, spread, drawn.input_ids, other.input_ids)
        kept = spread.run(tokens, capture=["z"]).cache
        assert [kept[ck.Site("z", layer=layer)].device for layer in range(3)] == [FIRST, SECOND, SECOND]
    assert not {what: number for what, number in found.items() if not number <= 1e-5}


def test_the_pretended_devices_refuse_to_mix():
    with pretending():
        one, other = torch.ones(2, device=FIRST), torch.ones(2).to(SECOND)
        with pytest.raises(RuntimeError, match="tensors on lazy:0 and lazy:1"):
            one + other
        with pytest.raises(RuntimeError, match="tensors on cpu and lazy:0"):
            one * torch.ones(2)
        with pytest.raises(RuntimeError, match="tensors on lazy:0 and lazy:1"):
            one[torch.zeros(1, dtype=torch.long, device=SECOND)]
        assert (one + other.to(FIRST)).tolist() == [2.0, 2.0]
        assert one[torch.zeros(1, dtype=torch.long)].device == FIRST
