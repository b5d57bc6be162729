"""Models whose rows cannot come and go, memory that runs out, half precision, and how time is shared out."""

from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

import architectures
import circuitkit as ck
from circuitkit.evaluation import Decoding, rows, rows_cache
from circuitkit.tasks import TaskError
from evaluation import toys


def check_against_alone(model, found):
    for response in found.responses:
        ids = toys.alone(model, response.prompt)
        assert response.n_tokens == len(ids) and response.text.split() == toys.text_of(model, ids).split()


def recurrent():
    torch.manual_seed(0)
    sizes = {"vocab_size": architectures.VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
    hf = MambaForCausalLM(MambaConfig(**sizes, **architectures.SPECIAL_TOKENS)).eval()
    hf.backbone.embeddings.weight.data.normal_()
    return hf, "takes no past_key_values"


def stateful():
    hf, _ = architectures.build("llama")
    hf._is_stateful = True
    return hf, "carries a state along"


def rotary_by_length():
    hf, _ = architectures.build("llama")
    half = (hf.config.head_dim or hf.config.hidden_size // hf.config.num_attention_heads) // 2
    factors = {"short_factor": [1.0] * half, "long_factor": [4.0] * half, "original_max_position_embeddings": 8}
    hf.config.rope_parameters = {"rope_type": "longrope", "rope_theta": 10_000.0, "factor": 4.0, **factors}
    scaled = type(hf)(hf.config).eval()
    scaled.load_state_dict(hf.state_dict())
    return scaled, "(longrope) depend on the longest row"


@pytest.mark.parametrize("build", [recurrent, stateful, rotary_by_length])
def test_a_model_whose_rows_stay_writes_what_it_writes_alone(build):
    hf, why = build()
    hf.generation_config.eos_token_id = [5, 11, 17, 23, 31, 47]
    model = ck.Model(hf, architectures.build("llama")[1])
    found = ck.evaluate(model, toys.task(4, longest=2), batch_size=2, progress=False)
    said = found.provenance["written"]
    assert said.startswith("batches of equal lengths") and why in said
    check_against_alone(model, found)


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("none left"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_where_memory_runs_out_fewer_are_written_at_a_time(stays, error):
    model, task = toys.model_of("llama"), toys.task(6)
    interventions = (lambda items, tokens: []) if stays else ()
    whole = ck.evaluate(model, task, interventions, progress=False)
    calls = count()

    def runs_out(module, args):
        if next(calls) == 3:
            raise error

    hook = model.hf.register_forward_pre_hook(runs_out)
    try:
        with pytest.warns(UserWarning, match=r"memory ran out .* going on with \d responses at a time"):
            found = ck.evaluate(model, task, interventions, progress=False)
    finally:
        hook.remove()
    assert [response.text for response in found.responses] == [response.text for response in whole.responses]


@pytest.mark.parametrize(
    ("owner", "name", "when"),
    [
        (rows_cache.RowsCache, "put", 1),
        (rows_cache.RowsCache, "put", 4),
        (rows_cache.RowsCache, "select", 1),
        (rows_cache.RowsCache, "__init__", 1),
        (rows, "_append", 2),
        (rows, "_append", 4),
        (rows, "_append", 11),
    ],
)
def test_memory_that_runs_out_within_a_step_leaves_no_token_twice(monkeypatch, owner, name, when):
    model, task = toys.model_of("llama"), toys.task(9)
    settings = {"decoding": Decoding(temperature=1.0), "samples": 3, "batch_size": 6, "progress": False}
    whole = ck.evaluate(model, task, **settings)
    works, calls = getattr(owner, name), count(1)

    def runs_out(*args, **named):
        if next(calls) == when:
            raise torch.OutOfMemoryError("none left")
        return works(*args, **named)

    monkeypatch.setattr(owner, name, runs_out)
    with pytest.warns(UserWarning, match="memory ran out"):
        found = ck.evaluate(model, task, **settings)
    assert [(each.name, each.text, each.n_tokens) for each in found.responses] == [
        (each.name, each.text, each.n_tokens) for each in whole.responses
    ]


def test_within_an_open_context_a_model_is_tried_too():
    hf, tokenizer = architectures.build("gpt2")
    hf.generation_config.eos_token_id = [5, 11, 17, 23, 31, 47]
    whole = hf.transformer.forward

    def by_column(input_ids, position_ids=None, past_key_values=None, **settings):
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        positions = torch.arange(past, past + input_ids.shape[1])[None]
        return whole(input_ids, position_ids=positions, past_key_values=past_key_values, **settings)

    hf.transformer.forward = by_column
    model, task = ck.Model(hf, tokenizer), toys.task(6)
    # No prompt of a try has this position.
    with model.intervene([ck.add("resid_post[layer=1, position=9]", torch.ones(model.d_model))]):
        found = ck.evaluate(model, task, batch_size=3, progress=False)
        assert "does not compute what it does without" in found.provenance["written"]
    with model.intervene([ck.add("resid_post[layer=1, position=9]", torch.ones(model.d_model))]):
        alone = [toys.alone(model, response.prompt) for response in found.responses]
    assert [each.text.split() for each in found.responses] == [toys.text_of(model, ids).split() for ids in alone]


def test_memory_that_one_response_does_not_find_is_an_error():
    model = toys.model_of("llama")
    ck.evaluate(model, toys.task(1), progress=False)

    def runs_out(module, args):
        raise torch.OutOfMemoryError("none left")

    hook = model.hf.register_forward_pre_hook(runs_out)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            ck.evaluate(model, toys.task(2), batch_size=1, progress=False)
    finally:
        hook.remove()


def test_half_precision_runs():
    hf, tokenizer = architectures.build("llama")
    model = ck.Model(hf.to(torch.bfloat16), tokenizer)
    found = ck.evaluate(model, toys.task(5), decoding="paper", batch_size=3, progress=False)
    assert found.provenance["dtype"] == "torch.bfloat16"
    assert found.provenance["written"].startswith("rows that come and go")
    assert all(response.text for response in found.responses)


def test_seconds_add_up_to_those_of_all_forwards(monkeypatch):
    model, task = toys.model_of("llama"), toys.task(7)
    ck.evaluate(model, task, progress=False)
    ticks, forwards = count(), []
    # A clock that ticks whenever it is looked at: before each forward, and after.
    monkeypatch.setattr("circuitkit.evaluation.rows.time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    hook = model.hf.register_forward_pre_hook(lambda module, args: forwards.append(module))
    try:
        found = ck.evaluate(model, task, batch_size=3, progress=False)
    finally:
        hook.remove()
    assert sum(response.seconds for response in found.responses) == pytest.approx(len(forwards))


def test_a_question_without_an_answer_key_is_named():
    task = toys.task(3)
    with pytest.raises(TaskError, match="'item 1' has no answer key"):
        replace(task, items=(task.items[0], replace(task.items[1], gold="")))
