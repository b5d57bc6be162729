"""How items become prompts, what ends a response, and what of it is judged."""

import copy
from dataclasses import replace

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit import Model
from circuitkit.evaluation import EvaluationError
from circuitkit.evaluation.writing import Ending
from circuitkit.tasks import Item, Judgement, Task, TaskError, prontoqa
from evaluation import toys

TEMPLATE = (
    "w7 {% for message in messages %}{{ message['content'] }}{% endfor %}{% if add_generation_prompt %} w8{% endif %}"
)
SWITCH = TEMPLATE + "{% if enable_thinking is defined and enable_thinking is false %} w9{% endif %}"


def chatting(template, name="llama"):
    model = toys.model_of(name)
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.chat_template = template
    return Model(model.hf, tokenizer, name=name)


def test_a_chat_template_asks_as_one_message():
    model, task = chatting(TEMPLATE), toys.task(3)
    found = ck.evaluate(model, task, chat=True, progress=False)
    for item, response in zip(task.items, found.responses, strict=True):
        assert response.prompt == f"w7 {item.question} w8"
        assert response.text.split() == toys.text_of(model, toys.alone(model, response.prompt)).split()


def test_thinking_is_turned_off_and_on_by_the_template():
    model, task = chatting(SWITCH), toys.task(3)
    off, on = (ck.evaluate(model, task, chat=True, think=think, progress=False) for think in (False, True))
    assert all(response.prompt.endswith(" w8 w9") for response in off.responses)
    assert all(response.prompt.endswith(" w8") for response in on.responses)
    # Nothing that this model says ends a thought, so with thinking on nothing is an answer.
    assert on.unparseable.value == 1 and all(response.text and not response.judged for response in on.responses)


@pytest.mark.parametrize(
    ("model", "settings", "why"),
    [
        (lambda: toys.model_of("llama"), {"chat": True}, "has no chat template"),
        (lambda: chatting(TEMPLATE), {"chat": True, "think": False}, "does not know enable_thinking"),
        (lambda: chatting(SWITCH), {"think": True}, "give chat=True"),
        (lambda: Model(toys.model_of("llama").hf, None), {}, "has no tokenizer"),
        (lambda: toys.model_of("llama"), {"limit": 0}, "leaves no question"),
        (lambda: toys.model_of("llama"), {"max_new_tokens": 0}, "leaves no answer"),
        (lambda: toys.model_of("llama"), {"batch_size": 0}, "batch_size 0"),
    ],
)
def test_what_cannot_be_asked_is_told(model, settings, why):
    with pytest.raises(EvaluationError, match=why):
        ck.evaluate(model(), toys.task(2), progress=False, **settings)


@pytest.mark.parametrize(
    ("text", "must", "judged"),
    [
        ("<think>1</think> 2", True, " 2"),
        ("1 + 1</think>2</think>3", False, "2</think>3"),
        ("2", False, "2"),
        ("<think>for ever", True, ""),
    ],
)
def test_what_follows_the_thought_is_judged(text, must, judged):
    assert Ending(None, frozenset(), (), thinks=True, must_think=must).answer(text) == judged


@pytest.mark.parametrize("stop", ["w60", "w6", " w1", "2 w"])
def test_a_response_is_read_up_to_the_first_stop_text(stop):
    model = toys.model_of("llama")
    stopped = 0
    for batch_size in (1, 4):
        found = ck.evaluate(model, toys.task(8, stop=(stop, "never")), batch_size=batch_size, progress=False)
        plain = ck.evaluate(model, toys.task(8), batch_size=batch_size, progress=False)
        for response, whole in zip(found.responses, plain.responses, strict=True):
            assert response.text == whole.text.partition(stop)[0]
            assert response.n_tokens <= whole.n_tokens
            if stop in whole.text:
                assert not response.truncated
                stopped += 1
    assert stopped


@pytest.mark.parametrize("stop", ["w60 ", " "])
def test_a_stop_text_that_ends_with_a_space_ends_a_response(stop):
    model = toys.model_of("llama")
    found = ck.evaluate(model, toys.task(8, stop=(stop,)), progress=False)
    plain = ck.evaluate(model, toys.task(8), progress=False)
    stopped = [
        (response, whole)
        for response, whole in zip(found.responses, plain.responses, strict=True)
        if stop in whole.text
    ]
    assert stopped and not any(response.truncated for response, _ in stopped)
    for response, whole in stopped:
        assert response.text == whole.text.partition(stop)[0]
        # Here the space comes with the token behind it.
        assert response.n_tokens == len(f"{response.text}{stop}".split()) + 1


def test_a_prompt_past_the_context_is_named_with_its_count():
    model, task = toys.model_of("llama"), toys.task(3)
    long = Item("long one", " ".join(["w5"] * 80), "w1")
    with pytest.raises(EvaluationError, match=r"item 'long one' has 80 tokens, and the context of llama holds 64"):
        ck.evaluate(model, replace(task, items=(*task.items, long)), shots=0, progress=False)
    with pytest.raises(TaskError, match="'long one' has 80 tokens"):
        ck.evaluate(model, replace(task, items=(*task.items, long)), progress=False)


def test_a_response_ends_where_the_context_does():
    model = toys.model_of("gpt2")
    item = Item("nearly", " ".join(["w50"] * 60), "w1")
    task = replace(toys.task(3), items=(*toys.task(3).items, item))
    found = ck.evaluate(model, task, shots=0, progress=False)
    last, expected = found.responses[-1], toys.alone(model, item.question, max_new_tokens=4)
    assert last.n_tokens == len(expected) and last.text.split() == toys.text_of(model, expected).split()


def test_the_result_says_how_many_exemplars_fit_and_which():
    model = toys.model_of("gpt2")
    shown = tuple(" ".join([f"w{at}"] * 9) + " " for at in range(20, 28))
    task = toys.task(5, longest=6, exemplars=shown, shots=8)
    found = ck.evaluate(model, task, progress=False)
    # 64 tokens hold five exemplars of nine beside a question of six and twelve new tokens.
    assert found.shots == 5 and found.exemplars == shown[:5]
    assert all(response.prompt.startswith("".join(shown[:5])) for response in found.responses)
    assert ck.evaluate(model, task, shots=2, progress=False).exemplars == shown[:2]
    with pytest.raises(TaskError, match="9 exemplars"):
        ck.evaluate(model, task, shots=9, progress=False)


def test_an_empty_response_is_unparseable_and_no_crash():
    model = toys.model_of("llama")
    hf = copy.copy(model.hf)
    hf.generation_config = copy.deepcopy(hf.generation_config)
    hf.generation_config.eos_token_id = list(range(architectures.VOCABULARY))
    found = ck.evaluate(Model(hf, model.tokenizer), toys.task(4), progress=False)
    silent = [response for response in found.responses if not response.text.strip()]
    assert all(response.n_tokens == 1 for response in found.responses)
    judged = Task("silence", toys.task(2).items, {"says": toys.says}, max_new_tokens=1, stop=("w",))
    none = ck.evaluate(model, judged, progress=False)
    assert none.unparseable.value == 1 and none.accuracy.hits == 0, silent
    rule = prontoqa.task("implication_elimination", shots=0, n=2)
    empty = ck.evaluate(ck.load("deductor-5k"), replace(rule, stop=(" ", "F", "E", "A")), progress=False)
    assert empty.unparseable.value == 1 and not any(response.text for response in empty.responses)


def test_logits_that_hold_nan_name_the_item():
    hf, tokenizer = architectures.build("llama")
    task = toys.task(4)
    hf.model.embed_tokens.weight[int(tokenizer(task.items[2].question)["input_ids"][0])] = torch.nan
    with pytest.raises(EvaluationError, match=r"logits of item 'item \d' hold NaN after 0 tokens"):
        ck.evaluate(Model(hf, tokenizer), task, progress=False)


def test_the_table_and_the_figure_tell_groups_apart():
    model, task = toys.model_of("llama"), toys.task(12)
    found = ck.evaluate(model, task, progress=False)
    table = found.by("half")
    assert table["n"].tolist() == [6, 6]
    assert table["accuracy"].mean() == pytest.approx(found.accuracy.value)
    low, high = ck.statistics.wilson(found.accuracy.hits, 12)
    assert (found.accuracy.low, found.accuracy.high) == (low, high)
    axes = found.plot("half")
    assert axes.get_xlabel() == "half" and "llama" in axes.get_title()
    with pytest.raises(EvaluationError, match="no group 'rule'"):
        found.by("rule")
    with pytest.raises(EvaluationError, match="no judge 'strict'"):
        found.share("strict")
    judges = {"truncated": lambda item, said: Judgement(True, said)}
    with pytest.raises(EvaluationError, match="another column's name"):
        ck.evaluate(model, replace(task, judges=judges), progress=False)
