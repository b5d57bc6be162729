"""Responses written together are those of each prompt alone: the model's own generate, unpadded, token for token."""

import copy
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import architectures
import circuitkit as ck
from circuitkit.evaluation import Decoding
from circuitkit.evaluation.choosing import Chooser
from circuitkit.evaluation.decoding import decoding_of
from evaluation import toys

NAMES = architectures.NAMES


def check_against_alone(model, task, found, **how):
    for item, response in zip(task.items, found.responses, strict=True):
        ids = toys.alone(model, item.question, **how)
        assert response.n_tokens == len(ids), item
        assert response.text.split() == toys.text_of(model, ids).split(), item
        assert response.truncated == (ids[-1] not in model.hf.generation_config.eos_token_id)


@pytest.mark.parametrize(
    ("name", "decoding"),
    [*((name, "clean") for name in NAMES), *((name, "paper") for name in ("gpt2", "llama", "gemma3"))],
)
def test_every_architecture_writes_what_it_writes_alone(name, decoding):
    model, task = toys.model_of(name), toys.task(6, longest=9)
    found = ck.evaluate(model, task, decoding=decoding, batch_size=4, progress=False)
    assert found.provenance["written"] == "rows that come and go"
    check_against_alone(model, task, found, repetition_penalty=decoding_of(decoding).repetition_penalty)


@pytest.mark.parametrize("size", [1, 3, None])
def test_batch_size_changes_nothing(size):
    model, task = toys.model_of("llama"), toys.task()
    found = ck.evaluate(model, task, batch_size=size, progress=False)
    check_against_alone(model, task, found)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 9), longest=st.integers(1, 20), size=st.integers(1, 6))
@settings(max_examples=5)
def test_any_lengths_in_any_batches(seed, n, longest, size):
    model, task = toys.model_of("gpt2"), toys.task(n, longest, seed)
    check_against_alone(model, task, ck.evaluate(model, task, batch_size=size, progress=False))


def test_padding_is_no_word_that_was_said():
    chooser = Chooser(Decoding(repetition_penalty=0.0001))
    logits = torch.tensor([[3.0, 1.0, 2.0]]).repeat(2, 1)
    ids, mask = torch.tensor([[0, 0, 1], [0, 2, 1]]), torch.tensor([[False, False, True], [False, True, True]])
    assert chooser.choose(logits, ids, mask, [Random(0)] * 2).tolist() == [1, 2]


def test_any_pad_token_gives_the_same_under_the_penalty():
    model, task = toys.model_of("llama"), toys.task(6)
    texts = []
    for pad in ("w5", "w40"):
        hf, tokenizer = model.hf, copy.deepcopy(model.tokenizer)
        tokenizer.pad_token = pad
        found = ck.evaluate(ck.Model(hf, tokenizer), task, decoding="paper", progress=False)
        texts.append([response.text for response in found.responses])
    assert texts[0] == texts[1]
