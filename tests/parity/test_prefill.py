"""In one forward, every site holds what transformers' eager attention, TransformerLens and nnsight hold there."""

from functools import cache

import pytest
import torch

import architectures
from oracles import PARALLEL, nnsight_trace, transformer_lens, transformers_eager
from parity.agreement import assert_agree, captured, kinds_at_sites, model_of, reference

BATCHES = ("equal", "left_padded")
NAMES = architectures.NAMES
KNOWN_TO_TRANSFORMER_LENS = [name for name in NAMES if name not in transformer_lens.UNAVAILABLE]


@cache
def ours(name: str, batch: str):
    prompts = architectures.prompts(batch)
    run = model_of(name).run(prompts.input_ids, capture=kinds_at_sites(name), attention_mask=prompts.attention_mask)
    return captured(run.cache, run.logits)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    @cache
    def saved(name: str):
        return architectures.folder(name, tmp_path_factory.mktemp("zoo"))

    return saved


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_every_site_holds_what_eager_transformers_holds(name, batch):
    expected, real = reference(name, batch), architectures.prompts(batch).real
    assert set(ours(name, batch)) == set(expected), "a kind or a layer is missing"
    assert_agree(ours(name, batch), expected, real, {kind for kind, _ in expected})


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_a_tapped_run_returns_the_untouched_logits(name, batch):
    model, prompts = model_of(name), architectures.prompts(batch)
    given = transformers_eager.arguments(model.hf, prompts.attention_mask, prompts.input_ids.shape[1])
    with torch.no_grad():
        untouched = model.hf(prompts.input_ids, use_cache=False, **given).logits
    # Without scores or pattern nothing but reading takes place, so not one bit moves.
    plain = [kind for kind in kinds_at_sites(name) if kind not in ("scores", "pattern")]
    run = model.run(prompts.input_ids, capture=plain, attention_mask=prompts.attention_mask)
    assert torch.equal(run.logits, untouched)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_capturing_attention_alone_returns_the_untouched_logits(name, batch):
    model, prompts = model_of(name), architectures.prompts(batch)
    given = transformers_eager.arguments(model.hf, prompts.attention_mask, prompts.input_ids.shape[1])
    with torch.no_grad():
        untouched = model.hf(prompts.input_ids, use_cache=False, **given).logits
    run = model.run(prompts.input_ids, capture=["scores", "pattern"], attention_mask=prompts.attention_mask)
    assert torch.equal(run.logits[prompts.real], untouched[prompts.real])


@pytest.mark.parametrize("name", NAMES)
def test_a_row_does_not_depend_on_the_padding_beside_it(name):
    model, prompts = model_of(name), architectures.prompts("left_padded")
    for row, real in enumerate(prompts.real):
        alone = model.run(prompts.input_ids[row, real][None], capture=["resid_post", "z"])
        for kind in ("resid_post", "z"):
            for layer in range(model.n_layers):
                inside = ours(name, "left_padded")[kind, layer][row, real]
                torch.testing.assert_close(alone.cache[f"{kind}[layer={layer}]"][0], inside, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_text_and_its_tokens_are_the_same_prompt(name):
    model, prompts = model_of(name), architectures.prompts("left_padded")
    by_text = model.run(prompts.texts, logits_at=-1)
    by_tokens = model.run(prompts.input_ids, attention_mask=prompts.attention_mask, logits_at=-1)
    assert torch.equal(by_text.logits, by_tokens.logits)
    assert torch.equal(by_text.tokens.ids, prompts.input_ids)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_every_site_holds_what_nnsight_holds(name, batch):
    model, prompts = model_of(name), architectures.prompts(batch)
    expected = nnsight_trace.capture(name, model.hf, model.tokenizer, prompts.input_ids, prompts.attention_mask)
    assert_agree(ours(name, batch), expected, prompts.real, nnsight_trace.supports(name))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", KNOWN_TO_TRANSFORMER_LENS)
def test_every_site_holds_what_transformer_lens_holds(name, batch, folder_of):
    prompts = architectures.prompts(batch)
    expected = transformer_lens.capture(folder_of(name), prompts.input_ids, prompts.attention_mask)
    shifted = (name, "scores") in transformer_lens.UP_TO_A_CONSTANT_PER_QUERY
    assert_agree(ours(name, batch), expected, prompts.real, transformer_lens.supports(name), shifted)


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_has_a_middle_just_where_attention_comes_before_the_mlp(name):
    model = model_of(name)
    layers = [] if name in PARALLEL else list(range(model.n_layers))
    assert model.layers_with("resid_mid") == layers
