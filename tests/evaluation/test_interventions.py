"""Interventions hold in an evaluation as they hold in each prompt's own generate, whichever rows come and go."""

from dataclasses import replace

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit import Site
from circuitkit.evaluation import EvaluationError
from circuitkit.run import InterventionError
from circuitkit.run.interventions import between
from circuitkit.tasks import Item
from evaluation import toys


def vector(model, seed=1):
    return 2 * torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed))


def held(model):
    """Interventions of every kind that name no rows."""
    return {
        "head": [ck.zero(Site("z", layer=1, head=2))],
        "two": [ck.scale(Site("z", layer=0, head=1), -1.5), ck.add(Site("resid_post", layer=1), vector(model))],
        "prompt": [ck.scale(Site("mlp_out", layer=1), -1.0, during="prompt")],
        "generated": [ck.add(Site("resid_pre", layer=2), vector(model), during="generated")],
        "last": [ck.add(Site("resid_post", layer=1, position=-1), vector(model))],
        "absolute": [ck.add(Site("resid_post", layer=0, position=6), vector(model))],
        "knockout": [ck.knockout(1, head=0, keys=[0])],
        "from the last": [ck.knockout(1, queries=-1, keys=-1)],
        "pattern": [ck.scale(Site("pattern", layer=1, head=3), 0.3)],
    }


def alone_under(model, item, interventions):
    with model.intervene(interventions):
        return toys.alone(model, item.question)


@pytest.mark.parametrize(
    ("name", "what"),
    [("llama", what) for what in held(toys.model_of("llama"))]
    + [(name, what) for name in ("gpt2", "gemma2", "openelm_style") for what in ("two", "pattern")],
)
def test_what_names_no_rows_holds_as_in_each_prompt_alone(name, what):
    model, task = toys.model_of(name), toys.task(7, longest=12)
    # A position that a prompt does not reach by its end is an error there, alone; here one prompt is enough.
    task = task.only([item.key for item in task.items if len(item.question.split()) > 1])
    interventions = held(model)[what]
    found = ck.evaluate(model, task, interventions, batch_size=3, progress=False)
    changed = 0
    for item, response in zip(task.items, found.responses, strict=True):
        try:
            expected = alone_under(model, item, interventions)
        except InterventionError:
            expected = toys.alone(model, item.question)
        assert response.text.split() == toys.text_of(model, expected).split(), item
        changed += expected != toys.alone(model, item.question)
    assert changed


@pytest.mark.parametrize(("name", "size"), [("llama", 1), ("llama", 3), ("gpt2", 20)])
def test_a_function_of_the_batch_names_rows(name, size):
    model, task = toys.model_of(name), toys.task(9)

    steer = ck.add(Site("resid_post", layer=1), vector(model))

    def by_row(items, tokens):
        assert [len(item.question.split()) for item in items] == tokens.lengths.tolist()
        return [between(steer, queries=[(int(length) // 2, int(length) - 1) for length in tokens.lengths])]

    found = ck.evaluate(model, task, by_row, batch_size=size, progress=False)
    assert found.provenance["written"].startswith("batches that stay")
    changed = 0
    for item, response in zip(task.items, found.responses, strict=True):
        length = len(item.question.split())
        expected = alone_under(model, item, [between(steer, queries=[length // 2, length - 1])])
        assert response.text.split() == toys.text_of(model, expected).split(), item
        changed += expected != toys.alone(model, item.question)
    assert changed


def test_batches_that_stay_go_no_further_than_the_context():
    model = toys.model_of("gpt2")
    lengths = (62, 60, 58, 5, 3)
    items = tuple(Item(str(length), " ".join([f"w{50 + length % 7}"] * length), "w1") for length in lengths)
    task = replace(toys.task(5), items=items)
    staying = ck.evaluate(model, task, lambda items, tokens: [], shots=0, progress=False)
    for length, response in zip(lengths, staying.responses, strict=True):
        expected = toys.alone(model, response.prompt, max_new_tokens=min(toys.NEW, 64 - length))
        assert response.n_tokens == len(expected) and response.text.split() == toys.text_of(model, expected).split()


def test_a_models_own_generation_settings_act_in_no_way_of_writing():
    plain = ck.evaluate(toys.model_of("llama"), toys.task(5), progress=False)
    hf, tokenizer = architectures.build("llama")
    own = hf.generation_config
    own.eos_token_id = toys.model_of("llama").hf.generation_config.eos_token_id
    own.suppress_tokens, own.repetition_penalty, own.no_repeat_ngram_size = list(range(3, 60)), 3.0, 1
    model = ck.Model(hf, tokenizer)
    for interventions in ((), lambda items, tokens: []):
        found = ck.evaluate(model, toys.task(5), interventions, progress=False)
        assert [each.text for each in found.responses] == [each.text for each in plain.responses]
    assert hf.generation_config is own


def test_an_open_context_holds_too():
    model, task = toys.model_of("llama"), toys.task(6)
    interventions = held(model)["two"]
    within = ck.evaluate(model, task, interventions, progress=False)
    with model.intervene(interventions[:1]):
        nested = ck.evaluate(model, task, interventions[1:], progress=False)
    assert [each.text for each in within.responses] == [each.text for each in nested.responses]


def test_an_intervention_that_never_took_place_is_an_error():
    model, task = toys.model_of("llama"), toys.task(3, longest=4)
    with pytest.raises(InterventionError, match="never took place"):
        ck.evaluate(model, task, [ck.zero("resid_post[layer=1, position=60]")], progress=False)


def test_a_position_before_a_prompts_beginning_names_the_item():
    model, task = toys.model_of("llama"), toys.task(7, longest=12)
    shortest = min(task.items, key=lambda item: len(item.question.split()))
    length = len(shortest.question.split())
    for far in (
        ck.zero(Site("resid_post", layer=1, position=-length - 1)),
        ck.knockout(1, queries=-1, keys=[0, -length - 1]),
    ):
        with pytest.raises(EvaluationError, match=rf"position {-length - 1}, .* '{shortest.key}' has {length} tokens"):
            ck.evaluate(model, task, [far], progress=False)
    assert ck.evaluate(model, task, [ck.zero(Site("resid_post", layer=1, position=-length))], progress=False).responses


@pytest.mark.parametrize(
    ("interventions", "why"),
    [
        ([ck.replace("resid_post[layer=1, position=-1]", torch.zeros(3, 32))], "names rows"),
        ([ck.replace("resid_post[layer=1]", torch.zeros(4, 32))], "column for each of the prompt's"),
        ([ck.knockout(1, keys=[(0,), (1,), (0,)])], "names rows"),
        (ck.zero("z[layer=0]"), "put the one in a list"),
    ],
)
def test_a_list_that_names_rows_is_refused(interventions, why):
    with pytest.raises(EvaluationError, match=why):
        ck.evaluate(toys.model_of("llama"), toys.task(3), interventions, progress=False)


def test_an_open_context_that_captures_is_refused():
    model = toys.model_of("llama")
    with pytest.raises(EvaluationError, match="close it"), model.intervene([], capture=["z"]):
        ck.evaluate(model, toys.task(3), progress=False)


def test_the_model_is_left_as_it_was():
    model, task = toys.model_of("llama"), toys.task(4)
    before = toys.generated(model, task.items[0].question)
    ck.evaluate(model, task, held(model)["two"], progress=False)
    assert not model.sessions
    assert toys.generated(model, task.items[0].question) == before
