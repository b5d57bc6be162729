"""Padding that is read as text: each test shows the wrong number that would come without its guard."""

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit import Model
from circuitkit.model import tokens as tokens_module
from circuitkit.model.tokens import PromptError

LEARNED_OR_ROTARY = ("gpt2", "llama", "gpt_neox", "falcon", "openelm_style", "bloom")


def alone_and_padded(model: Model, row: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    prompts = architectures.prompts("left_padded")
    alone = model.run(prompts.input_ids[row, prompts.real[row]][None], logits_at=-1).logits[0]
    padded = model.run(prompts.input_ids, attention_mask=prompts.attention_mask, logits_at=-1).logits[row]
    return alone, padded


@pytest.mark.parametrize("name", LEARNED_OR_ROTARY)
def test_left_padding_shifts_no_position(name):
    alone, padded = alone_and_padded(Model(*architectures.build(name)))
    torch.testing.assert_close(padded, alone, atol=2e-5, rtol=1e-4)


def test_without_position_ids_left_padding_is_silently_wrong(monkeypatch):
    """The guard: `run` hands over position_ids. GPT-2 would count padding as text."""
    model = Model(*architectures.build("gpt2"))
    accepts = Model.accepts
    monkeypatch.setattr(Model, "accepts", lambda self, name: name != "position_ids" and accepts(self, name))
    alone, padded = alone_and_padded(model)
    assert not torch.allclose(alone, padded, atol=1e-2)


@pytest.mark.parametrize("name", LEARNED_OR_ROTARY)
def test_padding_is_not_read_while_generating(name):
    model, prompts = Model(*architectures.build(name)), architectures.prompts("left_padded")
    settings = {"max_new_tokens": 5, "do_sample": False}
    together = model.generate(prompts.input_ids, prompts.attention_mask, **settings)
    for row, real in enumerate(prompts.real):
        alone = model.generate(prompts.input_ids[row, real][None], **settings)
        assert torch.equal(together[row, 9:], alone[0, int(real.sum()) :])


def test_without_a_mask_generation_reads_padding(monkeypatch):
    """The guard: `generate` hands over the mask."""
    model, prompts = Model(*architectures.build("gpt2")), architectures.prompts("left_padded")
    settings = {"max_new_tokens": 5, "do_sample": False}
    masked = model.generate(prompts.input_ids, prompts.attention_mask, **settings)
    generate = model.hf.generate
    monkeypatch.setattr(
        model.hf,
        "generate",
        lambda attention_mask, **given: generate(attention_mask=torch.ones_like(attention_mask), **given),
    )
    assert not torch.equal(model.generate(prompts.input_ids, prompts.attention_mask, **settings), masked)


def test_pad_tokens_without_a_mask_are_refused(monkeypatch):
    hf, tokenizer = architectures.build("gpt2")
    model, prompts = Model(hf, tokenizer), architectures.prompts("left_padded")
    with pytest.raises(
        PromptError, match=r"row 1 begins or ends with the pad token \(0\), and no attention_mask was given"
    ):
        model.run(prompts.input_ids)
    # The guard taken away: padding is text, and the logits are other ones.
    monkeypatch.setattr(tokens_module, "_from_tensor", lambda ids, tokenizer, mask: tokens_module.Tokens(ids, ids >= 0))
    unmasked = model.run(prompts.input_ids, logits_at=-1).logits
    monkeypatch.undo()
    masked = model.run(prompts.input_ids, attention_mask=prompts.attention_mask, logits_at=-1).logits
    assert not torch.allclose(unmasked[1:], masked[1:], atol=1e-2)


def test_positions_count_real_tokens_and_rows_are_no_positions(monkeypatch):
    model, prompts = Model(*architectures.build("llama")), architectures.prompts("left_padded")

    def zeroed() -> torch.Tensor:
        site = "resid_pre[layer=1]"
        patched = [ck.zero("resid_pre[layer=1, position=0]")]
        return model.run(prompts.input_ids, patched, [site], attention_mask=prompts.attention_mask).cache[site] == 0

    expected = torch.zeros(3, 9, dtype=torch.bool)
    expected[0, 0] = expected[1, 3] = expected[2, 5] = True
    assert torch.equal(zeroed().all(-1), expected)
    # Columns instead of positions: padding is patched, and nothing says so.
    monkeypatch.setattr(
        tokens_module.Pass, "query_positions", property(lambda now: torch.arange(9).expand_as(now.tokens_mask))
    )
    assert not torch.equal(zeroed().all(-1), expected)


def test_pad_columns_are_never_attended_to_by_an_edit():
    """A pattern replaced by one number reaches real keys alone."""
    model, prompts = Model(*architectures.build("llama")), architectures.prompts("left_padded")
    run = model.run(
        prompts.input_ids,
        [ck.replace("pattern[layer=1]", 0.25)],
        ["pattern[layer=1]"],
        attention_mask=prompts.attention_mask,
    )
    pattern = run.cache["pattern[layer=1]"]
    visible = prompts.real[:, None, None, :] & prompts.real[:, None, :, None] & torch.ones(9, 9).tril().bool()
    assert (pattern[visible.expand_as(pattern)] == 0.25).all()
    real_queries = prompts.real[:, None, :, None].expand_as(pattern)
    assert (pattern[~visible & real_queries] == 0).all()
