"""lm-eval's tasks over several seeds: what is asked, how tokens are drawn, and what is refused."""

import math
import random
from typing import Any

import lm_eval
import pytest
import torch
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

import circuitkit as ck
from circuitkit.interop.lm_eval import HarnessError, HarnessEvaluation, HarnessModel, evaluate
from circuitkit.interop.lm_eval.configurations import configuration_of, in_one_order
from circuitkit.run import InterventionError
from interop.lm_eval.toys import GPQA, WORDS, aime, chatty, gpqa


def test_likeliest_words_that_are_the_answers_are_right():
    model = chatty()
    again = evaluate(
        model, "aime24", seeds=1, temperature=0, max_gen_toks=1, data={"aime24": aime(model)}, progress=False
    )
    assert again.over_seeds("aime24").mean == 1.0
    assert math.isnan(again.over_seeds("aime24").standard_error)
    hidden = evaluate(
        model,
        "aime24",
        [ck.zero("mlp_out[layer=2]")],
        seeds=1,
        temperature=0,
        max_gen_toks=1,
        data={"aime24": aime(model)},
        progress=False,
    )
    assert hidden.over_seeds("aime24").mean < 1.0
    assert hidden.provenance["interventions"] == ["replace mlp_out[layer=2] (both)"]


def test_questions_are_the_same_for_every_seed_and_draws_are_not(found: HarnessEvaluation):
    for task in found.tasks:
        frame = found.frame[found.frame["task"] == task]
        assert (frame.groupby("doc")["prompt"].nunique() == 1).all()
        assert (frame.groupby("doc")["target"].nunique() == 1).all()
        assert (frame.groupby("doc")["response"].nunique() > 1).any()


@pytest.mark.parametrize("task", ["aime24", GPQA])
def test_a_run_is_that_of_lm_evals_simple_evaluate_with_its_seed(found: HarnessEvaluation, task: str):
    model = chatty()
    rows = gpqa() if task == GPQA else aime(model)
    theirs = lm_eval.simple_evaluate(
        HarnessModel(model, batch_size=3),
        tasks=[ConfigurableTask(config=in_one_order(configuration_of(task, rows), 0))],
        task_manager=TaskManager(include_defaults=False),
        gen_kwargs={"do_sample": True, "temperature": 0.6, "max_gen_toks": 3},
        bootstrap_iters=0,
        torch_random_seed=1,
    )
    (mine,) = [run for run in found.runs if (run.task, run.seed) == (task, 1)]
    samples = theirs["samples"][task]
    assert [each["response"] for each in mine.samples] == [each["resps"][0][0] for each in samples]
    assert [each["exact_match"] for each in mine.samples] == [each["exact_match"] for each in samples]


def test_generators_are_left_as_they_were():
    model = chatty()
    before = torch.get_rng_state(), random.getstate()
    evaluate(model, "aime24", data={"aime24": [{"Problem": "w3", "Answer": "1"}]}, max_gen_toks=2, progress=False)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


def test_a_run_depends_on_its_seed_and_not_on_what_ran_before(found: HarnessEvaluation):
    alone = evaluate(chatty(), GPQA, data={GPQA: gpqa()}, seeds=[2], max_gen_toks=3, batch_size=3, progress=False)
    (before,) = [run for run in found.runs if (run.task, run.seed) == (GPQA, 2)]
    assert list(alone.runs[0].samples) == list(before.samples)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"seeds": 0}, "give one or more"),
        ({"seeds": [1, 1]}, "such that differ"),
        ({"temperature": 0}, "all seeds would be alike"),
        ({"temperature": -1}, "has to be 0 or more"),
        ({"max_gen_toks": 64}, "max_gen_toks 64 leaves no room for a prompt"),
        ({"max_gen_toks": 0}, "leaves no room"),
        ({"limit": 0}, "limit 0 leaves no question"),
        ({"chat": True}, "has no chat template"),
        ({"enable_thinking": False}, "give chat=True as well"),
        ({"generation": {"temperature": 1}}, "temperature is no part of generation"),
        ({"data": {"aime26": []}}, "which is none of the tasks"),
        ({"data": {"aime24": []}}, "the data holds no questions"),
        ({"tasks": ["aime24", "aime24"]}, "named twice"),
    ],
)
def test_what_cannot_be_asked_is_refused(how: dict[str, Any], message: str):
    given = {"tasks": "aime24", "data": {"aime24": [{"Problem": "w3", "Answer": "1"}]}, "max_gen_toks": 3, **how}
    with pytest.raises(HarnessError, match=message):
        evaluate(chatty(), progress=False, **given)


def test_a_chat_is_asked_in_the_template():
    model = chatty()
    model.tokenizer.chat_template = "{% for each in messages %}w3 {{ each['content'] }} w6 {% endfor %}"
    rows = [{"Problem": "w9", "Answer": "1"}]
    found = evaluate(
        model, "aime24", data={"aime24": rows}, chat=True, system="w12", seeds=1, max_gen_toks=2, progress=False
    )
    assert found.frame["prompt"].tolist() == ["w3 w12 w6 w3 Question: w9\nAnswer: w6 "]


def test_drawing_cuts_to_the_fifty_likeliest_unless_it_is_told_otherwise():
    model = chatty()
    rows = [{"Problem": WORDS[at], "Answer": "1"} for at in range(40)]
    how: dict[str, Any] = {"data": {"aime24": rows}, "seeds": 1, "temperature": 1000.0, "max_gen_toks": 1}
    lowest = []
    for generation in ({}, {"top_k": 0}):
        found = evaluate(model, "aime24", batch_size=40, generation=generation, progress=False, **how)
        prompts, said = (model.tokenizer(found.frame[each].tolist())["input_ids"] for each in ("prompt", "response"))
        logits = model.run(prompts, logits_at=-1).logits
        drawn = logits.gather(1, torch.tensor(said))
        lowest.append(int((logits > drawn).sum(-1).max()))
    assert lowest[0] < 50 <= lowest[1]


def test_likelihoods_are_asked_once():
    told = {
        "task": "letters",
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "question",
        "doc_to_choice": ["w5", "w6"],
        "doc_to_target": "answer",
        "dataset_path": "none",
    }
    rows = [{"question": "w3 w4", "answer": 0}, {"question": "w7", "answer": 1}]
    how: dict[str, Any] = {"data": {"letters": rows}, "progress": False}
    with pytest.raises(HarnessError, match="asks for likelihoods, by which all seeds are alike"):
        evaluate(chatty(), [told], seeds=2, **how)
    once = evaluate(chatty(), [told], seeds=1, **how)
    assert once.over_seeds("letters", "acc").n == 1
    assert math.isnan(once.table["truncated"].iloc[0])


def test_a_metric_that_is_no_mean_over_responses_is_not_told_as_one():
    perplexity = {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}
    told = {
        "task": "last_word", "output_type": "loglikelihood", "test_split": "test", "dataset_path": "none",
        "doc_to_text": "question", "doc_to_target": "answer", "metric_list": [perplexity, {"metric": "acc"}],
    }  # fmt: skip
    how: dict[str, Any] = {
        "data": {"last_word": [{"question": "w3", "answer": " w6"}]}, "seeds": 1, "progress": False
    }  # fmt: skip
    with pytest.warns(UserWarning, match="last_word: perplexity left out"):
        found = evaluate(chatty(), told, **how)
    assert found.table["metric"].tolist() == ["acc"]
    with pytest.raises(HarnessError, match=r"has no metric that is a mean of a number .* it has perplexity"):
        evaluate(chatty(), {**told, "metric_list": [perplexity]}, **how)


def test_an_intervention_that_never_took_place_is_an_error():
    with pytest.raises(InterventionError, match="never took place"):
        evaluate(
            chatty(),
            "aime24",
            [ck.zero("z[layer=0, position=60]")],
            data={"aime24": [{"Problem": "w3", "Answer": "1"}]},
            max_gen_toks=2,
            progress=False,
        )
