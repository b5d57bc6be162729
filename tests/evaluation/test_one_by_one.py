"""Responses written together are those of each prompt alone: the model's own generate, unpadded, token for token."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import architectures
import circuitkit as ck
from circuitkit.evaluation.decoding import decoding_of
from evaluation import toys

NAMES = architectures.NAMES


def check_against_alone(model, task, found, **how):
    for item, response in zip(task.items, found.responses, strict=True):
        ids = toys.alone(model, item.question, **how)
        assert response.n_tokens == len(ids), item
        assert response.text.split() == toys.text_of(model, ids).split(), item
        assert response.truncated == (ids[-1] not in model.hf.generation_config.eos_token_id)


@pytest.mark.parametrize("decoding", ["clean", "paper"])
@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_writes_what_it_writes_alone(name, decoding):
    model, task = toys.model_of(name), toys.task()
    found = ck.evaluate(model, task, decoding=decoding, batch_size=4, progress=False)
    assert found.provenance["written"] == "rows that come and go"
    check_against_alone(model, task, found, repetition_penalty=decoding_of(decoding).repetition_penalty)


@pytest.mark.parametrize("size", [1, 2, 5, 11, 40, None])
def test_batch_size_changes_nothing(size):
    model, task = toys.model_of("llama"), toys.task()
    found = ck.evaluate(model, task, batch_size=size, progress=False)
    check_against_alone(model, task, found)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 9), longest=st.integers(1, 20), size=st.integers(1, 6))
@settings(max_examples=15)
def test_any_lengths_in_any_batches(seed, n, longest, size):
    model, task = toys.model_of("gpt2"), toys.task(n, longest, seed)
    check_against_alone(model, task, ck.evaluate(model, task, batch_size=size, progress=False))


def test_padding_is_no_word_that_was_said():
    # Plain padded batches decode otherwise than row by row under the penalty: to transformers a pad id was said.
    model, task = toys.model_of("llama"), toys.task()
    singly = [toys.alone(model, item.question, repetition_penalty=0.0001) for item in task.items]
    rows = [model.tokenizer(item.question)["input_ids"] for item in task.items]
    width = max(map(len, rows))
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    differing = 0
    for pad in range(3, 15):
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
        settings = {"do_sample": False, "max_new_tokens": toys.NEW, "repetition_penalty": 0.0001, "pad_token_id": pad}
        plain = model.hf.generate(ids, attention_mask=mask, **settings)[:, width:]
        differing += any(row[: len(alone)].tolist() != alone for row, alone in zip(plain, singly, strict=True))
    assert differing
    found = ck.evaluate(model, task, decoding="paper", batch_size=20, progress=False)
    check_against_alone(model, task, found, repetition_penalty=0.0001)
