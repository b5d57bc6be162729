"""Drawn tokens: a response has its own numbers, processors are transformers' own, and frequencies are right."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import circuitkit as ck
from circuitkit.evaluation import Decoding, EvaluationError
from circuitkit.evaluation.choosing import Chooser
from circuitkit.tasks import Judgement
from evaluation import toys

DRAWN = Decoding(temperature=0.8, top_p=0.95)


def texts(found):
    return {response.name: response.text for response in found.responses}


def test_a_response_depends_on_its_own_prompt_seed_and_sample_alone():
    model, task = toys.model_of("llama"), toys.task(7)
    whole = texts(ck.evaluate(model, task, decoding=DRAWN, samples=3, seeds=(0, 5), batch_size=4, progress=False))
    assert len(set(whole.values())) > 20
    for size, items, seeds in ((1, task.items[:2], (5,)), (40, task.items[::-1], (5, 0)), (7, task.items[3:4], (0,))):
        part = ck.evaluate(
            model, replace(task, items=items), decoding=DRAWN, samples=2, seeds=seeds, batch_size=size, progress=False
        )
        assert all(whole[name] == text for name, text in texts(part).items())


def test_batches_that_stay_draw_the_same():
    model, task = toys.model_of("gpt2"), toys.task(5)
    going = ck.evaluate(model, task, decoding=DRAWN, samples=2, progress=False)
    staying = ck.evaluate(model, task, lambda items, tokens: [], decoding=DRAWN, samples=2, progress=False)
    assert staying.provenance["written"] != going.provenance["written"]
    assert texts(going) == texts(staying)


@pytest.mark.parametrize(
    ("settings", "warpers"),
    [
        ({"temperature": 0.5}, [TemperatureLogitsWarper(0.5)]),
        ({"temperature": 2.0, "top_k": 3}, [TemperatureLogitsWarper(2.0), TopKLogitsWarper(3)]),
        ({"temperature": 1.0, "top_p": 0.7}, [TopPLogitsWarper(0.7)]),
        ({"temperature": 1.0, "min_p": 0.2}, [MinPLogitsWarper(0.2)]),
    ],
)
def test_tokens_come_as_often_as_transformers_says(settings, warpers):
    logits = 2 * torch.randn(1, 12)
    ids = torch.zeros(1, 1, dtype=torch.long)
    expected = LogitsProcessorList(warpers)(ids, logits.clone()).softmax(-1)[0]
    n = 4000
    many = ids.repeat(n, 1)
    drawn = Chooser(Decoding(**settings)).choose(
        logits.repeat(n, 1), many, many.bool(), [Random(f"draw {at}") for at in range(n)]
    )
    counts = Counter(drawn.tolist())
    for token, probability in enumerate(expected.tolist()):
        assert abs(counts[token] / n - probability) < 4 * (probability / n) ** 0.5 + 3 / n, token


def test_a_number_at_either_end_draws_a_possible_token():
    logits = torch.tensor([[-torch.inf, 1.0, 2.0, -torch.inf]])
    ids = torch.zeros(1, 1, dtype=torch.long)

    class Fixed(Random):
        def __init__(self, number):
            super().__init__(0)
            self.number = number

        def random(self):
            return self.number

    for number, token in ((0.0, 1), (1 - 2**-53, 2)):
        assert Chooser(Decoding(temperature=1.0)).choose(logits, ids, ids.bool(), [Fixed(number)]).tolist() == [token]


@pytest.mark.parametrize("interventions", [(), lambda items, tokens: []])
def test_infinite_logits_are_not_drawn_from(interventions):
    model, task = toys.model_of("llama"), toys.task(3)
    ck.evaluate(model, task, decoding=DRAWN, progress=False)

    def overflows(module, args, output):
        output.logits[:, :, 9] = torch.inf
        return output

    hook = model.hf.register_forward_hook(overflows)
    try:
        with pytest.raises(EvaluationError, match=r"logits of item 'item \d' hold infinity after 0 tokens"):
            ck.evaluate(model, task, interventions, decoding=DRAWN, progress=False)
    finally:
        hook.remove()


def test_shares_over_samples_and_seeds():
    model, task = toys.model_of("llama"), toys.task(8)
    found = ck.evaluate(model, task, decoding=DRAWN, samples=4, seeds=(0, 1, 2), progress=False)
    frame = found.frame
    assert len(frame) == 96 and found.accuracy.n == 96
    by_seed = frame.groupby("seed")["says"].mean()
    assert found.over_seeds().mean == pytest.approx(frame["says"].mean())
    assert found.over_seeds().standard_error == pytest.approx(by_seed.std(ddof=1) / 3**0.5)
    assert found.pass_at(1).value == pytest.approx(found.accuracy.value)
    assert found.pass_at(12).value == pytest.approx(frame.groupby("key")["says"].any().mean())
    assert found.pass_at(12).value >= found.pass_at(4).value >= found.pass_at(1).value
    # Samples of an item are no items of their own: the interval is that of the items' means.
    low, high = ck.statistics.bootstrap_mean(frame.groupby("key", sort=False)["says"].mean().to_numpy(float), seed=0)
    assert (found.accuracy.low, found.accuracy.high) == (low, high)
    with pytest.raises(EvaluationError, match="pass@13 needs 13 responses"):
        found.pass_at(13)


@pytest.mark.parametrize("right", [True, False])
def test_items_that_are_all_alike_have_an_interval_with_a_width(right):
    judged = {"always": lambda item, said: Judgement(right, said)}
    task = replace(toys.task(6), judges=judged)
    found = ck.evaluate(toys.model_of("llama"), task, decoding=DRAWN, samples=3, progress=False)
    # Of six items, and not of eighteen responses.
    expected = ck.statistics.wilson(6 * right, 6)
    for share in (found.accuracy, found.pass_at(2)):
        assert share.value == right and (share.low, share.high) == expected
    assert expected.high - expected.low > 0.3


def test_no_judge_of_that_name_and_no_k():
    found = ck.evaluate(toys.model_of("llama"), toys.task(2), progress=False)
    for ask in (lambda: found.pass_at(1, "strict"), lambda: found.over_seeds("strict")):
        with pytest.raises(EvaluationError, match="no judge 'strict'"):
            ask()
    with pytest.raises(EvaluationError, match="pass@0"):
        found.pass_at(0)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"samples": 2}, "greedy"),
        ({"seeds": (0, 1)}, "greedy"),
        ({"decoding": "paper", "samples": 2}, "greedy"),
        ({"samples": 0}, "1 sample or more"),
        ({"seeds": ()}, "1 sample or more"),
        ({"decoding": DRAWN, "seeds": (1, 1)}, "seeds that differ"),
        ({"decoding": "beam"}, "there is no decoding 'beam'"),
    ],
)
def test_what_drawing_cannot_be_asked_for(settings, why):
    with pytest.raises(EvaluationError, match=why):
        ck.evaluate(toys.model_of("llama"), toys.task(2), progress=False, **settings)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"temperature": -1}, "0 or more"),
        ({"top_p": 0.0, "temperature": 1}, "over 0"),
        ({"top_k": 0, "temperature": 1}, "1 or more"),
        ({"repetition_penalty": 0}, "over 0"),
        ({"top_p": 0.9}, "give a temperature"),
    ],
)
def test_a_decoding_outside_its_range_is_refused(settings, why):
    with pytest.raises(EvaluationError, match=why):
        Decoding(**settings)
