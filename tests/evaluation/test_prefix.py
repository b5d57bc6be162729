"""What all prompts begin with is read once where that changes nothing, and otherwise prompts are read whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import architectures
import circuitkit as ck
from circuitkit import Site
from circuitkit.evaluation import Decoding
from circuitkit.evaluation.reading import shared_tokens
from evaluation import toys
from evaluation.test_interventions import held, vector

EXEMPLARS = tuple(" ".join(f"w{3 + (7 * at + 5 * word) % 90}" for word in range(10)) + " " for at in range(2))
SHARED = 20
SLIDING = {"gemma2", "gemma3", "mistral", "gpt_oss"}
WITHOUT_POSITIONS = {"bloom"}


def few_shot(n=6, longest=9, seed=0):
    return toys.task(n, longest, seed, exemplars=EXEMPLARS, shots=2)


def spared(found):
    said = found.provenance["written"]
    return int(said.rpartition(" ")[2]) if "read once" in said else 0


def check_against_alone(model, found, interventions=()):
    for response in found.responses:
        with model.intervene(interventions):
            ids = toys.alone(model, response.prompt)
        assert response.n_tokens == len(ids) and response.text.split() == toys.text_of(model, ids).split()


@pytest.mark.parametrize("name", architectures.NAMES)
def test_every_architecture_writes_what_it_writes_to_whole_prompts(name):
    model, task = toys.model_of(name), few_shot()
    found = ck.evaluate(model, task, batch_size=4, progress=False)
    reads_once = name not in SLIDING | WITHOUT_POSITIONS
    # The exemplars are read once instead of six times; a seventh question's first word would be shared by chance.
    assert spared(found) == (5 * SHARED if reads_once else 0)
    check_against_alone(model, found)


@given(seed=st.integers(0, 10_000), n=st.integers(2, 9), longest=st.integers(1, 20), size=st.integers(1, 6))
@settings(max_examples=4)
def test_any_lengths_in_any_batches(seed, n, longest, size):
    model, task = toys.model_of("qwen3"), few_shot(n, longest, seed)
    found = ck.evaluate(model, task, batch_size=size, progress=False)
    prompts = {tuple(response.prompt.split()) for response in found.responses}
    assert spared(found) == ((len(prompts) - 1) * len(shared_tokens(prompts)) if len(prompts) > 1 else 0)
    check_against_alone(model, found)


@pytest.mark.parametrize("size", [2, 30])
def test_samples_and_stops_and_penalties_are_those_of_whole_prompts(monkeypatch, size):
    model, task = toys.model_of("llama"), few_shot()
    drawn = Decoding(temperature=0.8, top_p=0.9, repetition_penalty=0.7)
    settings = {"decoding": drawn, "samples": 3, "batch_size": size, "progress": False}
    once = ck.evaluate(model, task, **settings)
    monkeypatch.setattr("circuitkit.evaluation.reading._WORTH_READING", 21)
    whole = ck.evaluate(model, task, **settings)
    # A prompt whose samples do not fit one batch is read on anew.
    assert spared(once) >= 5 * SHARED and spared(whole) == 0
    assert [response.text for response in once.responses] == [response.text for response in whole.responses]


@pytest.mark.parametrize("what", held(toys.model_of("llama")))
def test_interventions_hold_as_in_whole_prompts(what):
    model, task = toys.model_of("llama"), few_shot()
    interventions = held(model)[what]
    found = ck.evaluate(model, task, interventions, batch_size=3, progress=False)
    assert spared(found) == (0 if what in ("last", "from the last") else 5 * SHARED)
    check_against_alone(model, found, interventions)
    assert found.responses[0].prompt.startswith("".join(EXEMPLARS))


@pytest.mark.parametrize(("position", "open_outside"), [(4, False), (SHARED - 1, True), (SHARED, False)])
def test_a_position_of_either_part_is_reached_once(position, open_outside):
    model, task = toys.model_of("llama"), few_shot()
    plain = ck.evaluate(model, task, progress=False)
    add = ck.add(Site("resid_post", layer=0, position=position), 30 * vector(model))
    there = [add, ck.knockout(2, queries=20, keys=[1, 19])]
    outside, own = (there, ()) if open_outside else ((), there)
    with model.intervene(outside):
        found = ck.evaluate(model, task, own, progress=False)
    assert spared(found) == 5 * SHARED
    check_against_alone(model, found, there)
    assert [each.text for each in found.responses] != [each.text for each in plain.responses]


def test_a_prompt_alone_and_a_short_beginning_are_read_whole():
    model = toys.model_of("llama")
    assert spared(ck.evaluate(model, few_shot(1), progress=False)) == 0
    assert spared(ck.evaluate(model, few_shot(), shots=1, progress=False)) == 0


def test_a_model_that_goes_by_columns_is_read_whole():
    hf, tokenizer = architectures.build("llama")
    hf.generation_config.eos_token_id = [5, 11, 17, 23]
    whole = hf.model.forward

    def by_column(*args, position_ids=None, **settings):
        # Positions by column less the padding on the left, as some code of its own has it.
        if (mask := settings["attention_mask"]) is None:
            return whole(*args, **settings)
        n, columns = settings["input_ids"].shape[1], (mask.cumsum(-1) > 0).long().cumsum(-1) - 1
        return whole(*args, position_ids=columns.clamp(min=0)[:, -n:], **settings)

    hf.model.forward = by_column
    model = ck.Model(hf, tokenizer)
    found = ck.evaluate(model, few_shot(), batch_size=4, progress=False)
    assert spared(found) == 0 and found.provenance["written"] == "rows that come and go"
    check_against_alone(model, found)
