"""Interventions while generating with a cache are those of recomputing everything by hand without one."""

from functools import cache

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

import architectures
import circuitkit as ck
from circuitkit import Model, Site
from circuitkit.run import InterventionError
from run import by_hand

NAMES = ("gpt2", "llama", "gemma2", "gemma3", "mistral", "bloom", "gpt_oss", "falcon", "openelm_style")
ATTENTION = ("scores", "pattern")
NEW = 5


@cache
def model_of(name: str) -> Model:
    return Model(*architectures.build(name))


def columns_under(during: str, mask: Tensor, n_prompt: int, position: int | None) -> Tensor:
    """The columns that a schedule and a position name, [batch, column]."""
    chosen = torch.zeros_like(mask, dtype=torch.bool)
    for row in range(len(mask)):
        real = torch.nonzero(mask[row]).flatten().tolist()
        prompt = [column for column in real if column < n_prompt]
        if position is None:
            named = real
        elif position < 0:
            named = [prompt[position]]
        else:
            named = real[position : position + 1]
        allowed = {"prompt": prompt, "generated": [c for c in real if c >= n_prompt], "both": real}[during]
        chosen[row, [column for column in named if column in allowed]] = True
    return chosen


def decoded_by_hand(name: str, prompts, kind: str, layer: int, head: int | None, change, during, position) -> Tensor:
    """Greedy decoding without a cache: the whole sequence anew, edited by hand, for every token."""
    hf, ids, mask = model_of(name).hf, prompts.input_ids, prompts.attention_mask
    n_prompt = ids.shape[1]
    for _ in range(NEW):
        columns = columns_under(during, mask, n_prompt, position)

        def edit(tensor: Tensor, columns=columns, mask=mask) -> Tensor:
            heads = torch.ones(tensor.shape[1 if kind in ATTENTION else 2], dtype=torch.bool)
            if head is not None:
                heads = torch.arange(len(heads)) == head
            if kind in ATTENTION:
                where = columns[:, None, :, None] & heads[None, :, None, None] & mask[:, None, None, :].bool()
                where = where & torch.ones(tensor.shape[-2:], dtype=torch.bool).tril()
            elif tensor.ndim == 4:
                where = columns[:, :, None, None] & heads[None, None, :, None]
            else:
                where = columns[:, :, None]
            return torch.where(where, change(tensor), tensor)

        with torch.no_grad():
            logits = by_hand.logits(hf, ids, mask, {(kind, layer): edit})
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    return ids


@pytest.mark.parametrize("during", ["prompt", "generated", "both"])
@pytest.mark.parametrize("kind", ["resid_pre", "mlp_out", "k", "v", "z", "scores", "pattern"])
@pytest.mark.parametrize("name", NAMES)
def test_a_schedule_holds_as_it_does_without_a_cache(name, kind, during):
    model, prompts = model_of(name), architectures.prompts("left_padded")
    head = 0 if kind in ("z", "pattern") else None
    factor = -1.5 if kind != "scores" else 0.2
    with model.intervene([ck.scale(Site(kind, layer=1, head=head), factor, during=during)]):
        ids = model.generate(prompts.input_ids, prompts.attention_mask, max_new_tokens=NEW, do_sample=False)
    expected = decoded_by_hand(name, prompts, kind, 1, head, lambda t: t * factor, during, None)
    assert torch.equal(ids, expected)


@pytest.mark.parametrize("position", [-1, -2, 0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_a_position_of_the_prompt_is_that_of_every_row(name, position):
    model, prompts = model_of(name), architectures.prompts("left_padded")
    vector = 3 * torch.randn(model.d_model, generator=torch.Generator().manual_seed(1))
    with model.intervene([ck.add(Site("resid_post", layer=1, position=position), vector)]):
        ids = model.generate(prompts.input_ids, prompts.attention_mask, max_new_tokens=NEW, do_sample=False)
    expected = decoded_by_hand(name, prompts, "resid_post", 1, None, lambda t: t + vector, "both", position)
    assert torch.equal(ids, expected)


@pytest.mark.parametrize("name", NAMES)
def test_an_absolute_position_reaches_generated_tokens(name):
    model, prompts = model_of(name), architectures.prompts("left_padded")
    # Row 0 has nine tokens, the last row four: position 9 is generated in both, at different steps.
    vector = 5 * torch.randn(model.d_model, generator=torch.Generator().manual_seed(2))
    site = Site("resid_post", layer=0, position=9)
    settings = {"max_new_tokens": 8, "do_sample": False}
    with model.intervene([ck.add(site, vector)], capture=[site]) as session:
        ids = model.generate(prompts.input_ids, prompts.attention_mask, **settings)
        steered = session.cache[site]
    mask = torch.cat([prompts.attention_mask, torch.ones(3, 7, dtype=torch.long)], dim=1)
    plain = model.run(ids[:, :-1], capture=["resid_post[layer=0]"], attention_mask=mask)
    torch.testing.assert_close(steered, plain.cache[site] + vector, atol=1e-4, rtol=1e-4)


def test_negative_positions_stay_in_the_prompt_while_generating():
    model, prompts = model_of("llama"), architectures.prompts("left_padded")
    with model.intervene([ck.zero("resid_mid[layer=1, position=-1]")], capture=["resid_mid[layer=1]"]) as session:
        model.generate(prompts.input_ids, prompts.attention_mask, max_new_tokens=4, do_sample=False)
    stream = session.cache["resid_mid[layer=1]"]
    assert (stream[:, 8] == 0).all()
    assert (stream[:, 9:].abs().amax(-1) > 0.1).all()


def test_a_knockout_while_generating_names_absolute_keys():
    model, prompts = model_of("mistral"), architectures.prompts("left_padded")
    with model.intervene([ck.knockout(1, keys=[1, 5])], capture=["pattern[layer=1]"]) as session:
        model.generate(prompts.input_ids, prompts.attention_mask, max_new_tokens=6, do_sample=False)
    pattern, positions = session.cache["pattern[layer=1]"], session.cache.positions
    for row in range(3):
        for key in (1, 5):
            assert (pattern[row, :, positions[row] >= 0][..., positions[row] == key] == 0).all()
        last = pattern[row, :, -1]
        torch.testing.assert_close(last.sum(-1), torch.ones(4))


@pytest.mark.parametrize("name", ["gpt2", "llama", "bloom"])
def test_sampled_returns_repeat_the_values_of_their_row(name):
    model, prompts = model_of(name), architectures.prompts("left_padded")
    value = torch.randn(3, model.d_model, generator=torch.Generator().manual_seed(4))
    site = Site("resid_post", layer=1, position=-1)
    torch.manual_seed(0)
    with model.intervene([ck.replace(site, value)], capture=[site]) as session:
        ids = model.generate(
            prompts.input_ids, prompts.attention_mask, max_new_tokens=3, do_sample=True, num_return_sequences=2
        )
    assert ids.shape[0] == 6
    assert torch.equal(session.cache[site], value.repeat_interleave(2, dim=0))


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"num_beams": 2}, "beam search reorders rows"), ({"prompt_lookup_num_tokens": 2}, "assisted generation")],
)
def test_generation_that_moves_rows_is_refused_under_values_that_name_rows(settings, why):
    model, prompts = model_of("llama"), architectures.prompts(batch=2)
    by_row = ck.replace("resid_post[layer=1, position=-1]", torch.zeros(2, 32))
    with pytest.raises(InterventionError, match=why), model.intervene([by_row]):
        model.generate(prompts.input_ids, max_new_tokens=3, do_sample=False, **settings)
    with pytest.raises(InterventionError, match=why), model.intervene([], capture=["z"]):
        model.generate(prompts.input_ids, max_new_tokens=3, do_sample=False, **settings)
    with pytest.raises(InterventionError, match=why), model.intervene([ck.zero("z[layer=0]"), by_row]):
        model.hf.generate(prompts.input_ids, max_new_tokens=3, do_sample=False, **settings)


def test_beam_search_holds_interventions_that_name_no_row():
    model, prompts = model_of("llama"), architectures.prompts("left_padded")
    settings = {"max_new_tokens": 4, "do_sample": False, "num_beams": 3}
    with model.intervene([ck.zero("mlp_out[layer=1]")]):
        ids = model.generate(prompts.input_ids, prompts.attention_mask, **settings)
    hook = model.hf.model.layers[1].mlp.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
    expected = model.hf.generate(prompts.input_ids, attention_mask=prompts.attention_mask, **settings)
    hook.remove()
    assert torch.equal(ids, expected)


def test_a_schedule_that_never_holds_is_an_error():
    model, prompts = model_of("llama"), architectures.prompts()
    generated_only = ck.zero("z[layer=1]", during="generated")
    with (
        pytest.raises(InterventionError, match="no token was generated that it names"),
        model.intervene([generated_only]),
    ):
        model.generate(prompts.input_ids, max_new_tokens=1, do_sample=False)
    with pytest.raises(InterventionError, match="never took place"):
        model.run(prompts.input_ids, [generated_only])
    with pytest.raises(InterventionError, match="negative positions mean the prompt"):
        ck.zero("z[layer=1, position=-1]", during="generated")
    too_far = ck.zero("z[layer=1, position=30]")
    with pytest.raises(InterventionError, match="no row came to position 30"), model.intervene([too_far]):
        model.generate(prompts.input_ids, max_new_tokens=3, do_sample=False)


def test_a_prompt_continued_by_hand_is_followed():
    """Forward calls with a cache of one's own, as an evaluation harness makes them."""
    model, prompts = model_of("llama"), architectures.prompts("left_padded")
    vector = torch.randn(32, generator=torch.Generator().manual_seed(5))
    mask = prompts.attention_mask
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with (
        torch.no_grad(),
        model.intervene([ck.add("resid_post[layer=1, position=-1]", vector)], capture=["z"]) as session,
    ):
        cache = DynamicCache()
        model(
            prompts.input_ids[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=positions[:, :-1],
            past_key_values=cache,
        )
        model(prompts.input_ids[:, -1:], attention_mask=mask, position_ids=positions[:, -1:], past_key_values=cache)
        assert session.cache["z[layer=2]"].shape == (3, 9, 4, 8)
    run = model.run(prompts.input_ids, [ck.add("resid_post[layer=1, position=-2]", vector)], ["z"], attention_mask=mask)
    for site in run.cache:
        found, expected = session.cache[site][prompts.real], run.cache[site][prompts.real]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_cache_filled_outside_the_context_is_refused():
    model, prompts = model_of("llama"), architectures.prompts()
    cache = DynamicCache()
    model(prompts.input_ids, past_key_values=cache)
    with (
        pytest.raises(InterventionError, match="run the prompt inside it too"),
        model.intervene([ck.zero("z[layer=0]")]),
    ):
        model(prompts.input_ids[:, -1:], past_key_values=cache)
