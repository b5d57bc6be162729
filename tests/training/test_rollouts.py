"""Responses that are rewarded: those of an evaluation, drawn the same whoever writes them, and cut as it cuts them."""

from dataclasses import replace

import pytest
import torch

import circuitkit as ck
from circuitkit.evaluation import Decoding
from circuitkit.tasks import Item, Judgement, Task, prontoqa
from circuitkit.training.errors import TrainingError
from circuitkit.training.rewards import Reward
from circuitkit.training.rollouts import Rollouts


@pytest.fixture(scope="module")
def model():
    return ck.load("deductor-130k-step600")


@pytest.fixture(scope="module")
def task():
    return prontoqa.task(["implication_elimination", "disjunction_elimination"], shots=0, n=6, seed=4)


def rollouts(model, task, **settings):
    return Rollouts(model, Reward(task), **{"max_new_tokens": 40, **settings})


def test_greedy_responses_and_rewards_are_those_of_an_evaluation(model, task):
    found = rollouts(model, task).likeliest([item.key for item in task.items])
    evaluated = ck.evaluate(model, task, max_new_tokens=40, progress=False)
    assert [each.text for each in found] == [response.judged for response in evaluated.responses]
    assert [each.truncated for each in found] == [response.truncated for response in evaluated.responses]
    assert [len(each.ids) for each in found] == [response.n_tokens for response in evaluated.responses]
    assert [each.reward for each in found] == evaluated.frame["headline"].astype(float).tolist()
    assert 0 < sum(each.right for each in found) < len(found)


def test_a_response_depends_on_step_place_and_seed_and_on_neither_batch_nor_process(model, task):
    keys = [key for key in (item.key for item in task.items) for _ in range(2)]
    whole = rollouts(model, task).drawn(keys, step=3)
    # As two processes write their halves, and a few at a time.
    halves = [rollouts(model, task, at_once=3).drawn(keys[at : at + 12], step=3, first=at) for at in (0, 12)]
    assert [each for half in halves for each in half] == whole
    for other in (
        rollouts(model, task).drawn(keys, step=4),
        rollouts(model, task, seed=1).drawn(keys, step=3),
        rollouts(model, task).drawn(keys, step=3, first=24),
    ):
        assert [each.ids for each in other] != [each.ids for each in whole]
    assert any(one.ids != two.ids for one, two in zip(whole[::2], whole[1::2], strict=True))


def test_tokens_are_drawn_from_the_whole_distribution(model, task):
    keys = [task.items[0].key] * 400
    found = rollouts(model, task, max_new_tokens=1, temperature=1.7).drawn(keys, step=0)
    logits = model.run([task.prompt(task.items[0])], logits_at=-1).logits[0]
    expected = (logits / 1.7).softmax(-1)
    drawn = torch.bincount(torch.tensor([each.ids[0] for each in found]), minlength=len(expected)) / len(keys)
    # Half the sum of the differences; its mean over draws is under the half sum of their standard deviations.
    spread = (expected * (1 - expected) / len(keys)).sqrt().sum() / 2
    assert (drawn - expected).abs().sum() / 2 < 1.5 * spread
    assert set(drawn.nonzero().flatten().tolist()) - set(expected.topk(50).indices.tolist())


def test_a_response_ends_within_the_stop_text_and_is_judged_up_to_it(model):
    said: list[str] = []

    def judged(item, response):
        said.append(response)
        return Judgement(False, None)

    whole = prontoqa.task("implication_elimination", shots=0, n=3, seed=4)
    task = replace(whole, stop=(" is",), judges={"none": judged})
    for each in rollouts(model, task).likeliest([item.key for item in task.items]):
        assert " is" not in each.text and not each.truncated
        assert model.tokenizer.decode(each.ids) == each.text + " is"
    assert all(" is" not in response for response in said)


def test_the_model_is_left_as_it_was(model, task):
    model.hf.train()
    model.hf.model.layers[0].eval()
    before = {name: module.training for name, module in model.hf.named_modules()}
    rollouts(model, task).likeliest([task.items[0].key])
    assert {name: module.training for name, module in model.hf.named_modules()} == before
    model.hf.eval()


def test_what_cannot_be_written_is_refused(model, task):
    with pytest.raises(TrainingError, match="no tokenizer"):
        rollouts(ck.Model(model.hf), task)
    with pytest.raises(TrainingError, match="temperature 0"):
        rollouts(model, task, temperature=0)
    with pytest.raises(TrainingError, match="0 tokens at most"):
        rollouts(model, task, max_new_tokens=0)
    with pytest.raises(TrainingError, match="no chat template"):
        rollouts(model, task, chat=True)
    long = Task("long", (Item("too long", "Q: Fae is loud." * 600, "x"),), task.judges)
    with pytest.raises(TrainingError, match="too long"):
        rollouts(model, long)


def test_weights_that_have_become_nan_are_named_as_such():
    broken = ck.load("deductor-20k")
    broken.hf.lm_head.weight.data.fill_(torch.nan)
    task = prontoqa.task("implication_elimination", shots=0, n=2)
    with pytest.raises(TrainingError, match="NaN"):
        rollouts(broken, task).drawn([task.items[0].key], step=0)


def test_decodings_agree_with_an_evaluation_that_draws(model, task):
    # The same distribution, though not the same numbers: means over many draws of one short answer.
    one = task.only([task.items[0].key])
    mine = rollouts(model, one).drawn([one.items[0].key] * 150, step=0)
    theirs = ck.evaluate(model, one, decoding=Decoding(temperature=1.0), samples=150, max_new_tokens=40, progress=False)
    lengths = theirs.frame["n_tokens"]
    error = 4 * lengths.std() / 150**0.5
    assert abs(sum(len(each.ids) for each in mine) / 150 - lengths.mean()) < error
