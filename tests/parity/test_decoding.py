"""While decoding with a cache, every site holds what it holds without one, whatever the padding."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F

import architectures
from oracles import Captures, nnsight_trace, transformer_lens, transformers_eager
from parity.agreement import assert_agree, captured, kinds_at_sites, model_of

BATCHES = ("equal", "left_padded")
NEW = 4


@cache
def decoded(name: str, batch: str):
    model, prompts = model_of(name), architectures.prompts(batch)
    with model.intervene([], capture=kinds_at_sites(name)) as session:
        ids = model.generate(prompts.input_ids, prompts.attention_mask, max_new_tokens=NEW, do_sample=False)
    return ids, captured(session.cache)


def joined(steps: list[Captures]) -> Captures:
    """The reference's steps as one sequence, attention over all keys, hidden where a window's cache dropped them."""
    n_keys = max(captures["pattern", 0].shape[-1] for captures in steps)
    whole: Captures = {}
    for kind, layer in steps[0]:
        chunks = [captures[kind, layer] for captures in steps]
        if kind in ("scores", "pattern"):
            fill = torch.finfo(torch.float32).min if kind == "scores" else 0.0
            for step, chunk in enumerate(chunks):
                ahead = len(steps) - 1 - step
                chunks[step] = F.pad(chunk, (n_keys - ahead - chunk.shape[-1], ahead), value=fill)
        whole[kind, layer] = torch.cat(chunks, dim=2 if kind in ("scores", "pattern") else 1)
    return whole


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", architectures.NAMES)
def test_every_site_holds_what_eager_transformers_holds_while_decoding(name, batch):
    prompts = architectures.prompts(batch)
    ids, found = decoded(name, batch)
    expected = transformers_eager.decode(model_of(name).hf, prompts.input_ids, prompts.attention_mask, NEW)
    assert torch.equal(ids[:, prompts.input_ids.shape[1] :], expected.tokens)
    real = torch.cat([prompts.real, torch.ones(len(ids), NEW - 1, dtype=torch.bool)], dim=1)
    assert_agree(found, joined(expected.steps), real, kinds_at_sites(name))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", architectures.NAMES)
def test_decoding_holds_what_one_whole_run_over_the_same_tokens_holds(name, batch):
    model, prompts = model_of(name), architectures.prompts(batch)
    ids, found = decoded(name, batch)
    mask = torch.cat([prompts.attention_mask, torch.ones(len(ids), NEW - 1, dtype=torch.long)], dim=1)
    # The last new token is never read.
    run = model.run(ids[:, :-1], capture=kinds_at_sites(name), attention_mask=mask)
    assert_agree(found, captured(run.cache), mask.bool(), kinds_at_sites(name))


@pytest.mark.parametrize("name", architectures.NAMES)
def test_generation_under_a_session_writes_the_same_tokens(name):
    model, prompts = model_of(name), architectures.prompts("left_padded")
    plain = model.hf.generate(
        prompts.input_ids, attention_mask=prompts.attention_mask, max_new_tokens=NEW, do_sample=False
    )
    assert torch.equal(decoded(name, "left_padded")[0], plain)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    @cache
    def saved(name: str):
        return architectures.folder(name, tmp_path_factory.mktemp("zoo"))

    return saved


def read(name: str, batch: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens that decoding has read, prompt and all new ones but the last, and which are real."""
    prompts, (ids, _) = architectures.prompts(batch), decoded(name, batch)
    return ids[:, :-1], torch.cat([prompts.attention_mask, torch.ones(len(ids), NEW - 1, dtype=torch.long)], dim=1)


# The other tools read the produced tokens in one go: whatever they hold there, cached decoding has to have held too.
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", architectures.NAMES)
def test_decoding_holds_what_nnsight_holds(name, batch):
    model, (ids, mask) = model_of(name), read(name, batch)
    expected = nnsight_trace.capture(name, model.hf, model.tokenizer, ids, mask)
    assert_agree(decoded(name, batch)[1], expected, mask.bool(), nnsight_trace.supports(name) - {"logits"})


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", [name for name in architectures.NAMES if name not in transformer_lens.UNAVAILABLE])
def test_decoding_holds_what_transformer_lens_holds(name, batch, folder_of):
    ids, mask = read(name, batch)
    expected = transformer_lens.capture(folder_of(name), ids, mask)
    shifted = (name, "scores") in transformer_lens.UP_TO_A_CONSTANT_PER_QUERY
    assert_agree(decoded(name, batch)[1], expected, mask.bool(), transformer_lens.supports(name) - {"logits"}, shifted)
