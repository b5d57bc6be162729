"""Distillation by `ck.train`: a student comes closer to its teacher, by its distributions or by its right answers."""

import pytest
import torch

import circuitkit as ck
from circuitkit.evaluation import Decoding
from circuitkit.tasks import prontoqa
from circuitkit.training import Example, TrainingError, taught
from circuitkit.training.distillation import divergences


@pytest.fixture(scope="module")
def teacher():
    return ck.load("deductor-130k")


@pytest.fixture(scope="module")
def task():
    return prontoqa.task("implication_elimination", shots=0, n=64, seed=8)


def apart(student, teacher, task):
    """The mean KL(teacher ‖ student) over the tokens of the gold answers, in nats."""
    found = []
    for item in task.items:
        question, whole = (
            student.tokenizer(text)["input_ids"] for text in (item.question, f"{item.question} {item.gold}")
        )
        ids = torch.tensor([whole])
        with torch.no_grad():
            ours, theirs = (model.hf(input_ids=ids).logits[0, len(question) - 1 : -1] for model in (student, teacher))
        found.append(divergences(ours, theirs))
    return float(torch.cat(found).mean())


def test_a_student_comes_closer_to_its_teacher_and_the_teacher_stays(teacher, task, tmp_path):
    student = ck.load("deductor-60k-base")
    before, weights = apart(student, teacher, task), {k: v.clone() for k, v in teacher.hf.state_dict().items()}
    trained = ck.train(
        student,
        task,
        validation=prontoqa.task("implication_elimination", shots=0, n=16, seed=9),
        teacher=teacher,
        out=tmp_path,
        method="distil",
        end=False,
        learning_rate=5e-3,
        max_steps=30,
        evaluate_every=15,
        batch_size=16,
        progress=False,
    )
    assert apart(student, teacher, task) < before / 2
    assert all(torch.equal(weights[name], weight) for name, weight in teacher.hf.state_dict().items())
    # A training that learns the teacher alone has its divergence as the loss.
    assert trained.curve["loss"].iloc[1] == pytest.approx(before, rel=0.2)


def test_a_teacher_of_other_tokens_or_of_another_method_is_refused(teacher, task, tmp_path):
    plant = ck.load("planted-induction-llama")
    other = ck.Model(plant.hf, None, name="plant")
    with pytest.raises(TrainingError, match="plant has a vocabulary of"):
        ck.train("deductor-60k-base", task, teacher=other, out=tmp_path, method="distil", progress=False)
    with pytest.raises(TrainingError, match="learns from a teacher: give one"):
        ck.train("deductor-60k-base", task, out=tmp_path, method="distil", progress=False)
    with pytest.raises(TrainingError, match="a teacher is of method='distil'"):
        ck.train("deductor-60k-base", task, teacher=teacher, out=tmp_path, progress=False)


def test_right_answers_alone_are_kept_with_what_the_teacher_read_and_wrote(task):
    halfway = ck.load("deductor-130k-step600")
    found = ck.evaluate(halfway, task, max_new_tokens=40, progress=False)
    examples = taught(halfway, task, max_new_tokens=40, progress=False)
    right = [response for response in found.responses if response.judgements["headline"].correct]
    assert 0 < len(right) < len(task.items)
    # The draw asks one question twice, and an example is there once.
    once = {(each.prompt, each.text) for each in right}
    assert len(once) < len(right) and len(examples) == len(once)
    assert set(examples) <= {Example(each.prompt, each.text, key=each.key) for each in right}


def test_equal_samples_are_kept_once_and_another_judge_may_choose(teacher, task):
    examples = taught(
        teacher, task.first(8), judge="sound", samples=3, decoding=Decoding(temperature=0.8), progress=False
    )
    assert len({(example.question, example.chain) for example in examples}) == len(examples) < 24


def test_few_right_answers_are_warned_of_and_none_is_an_error(task):
    with pytest.warns(UserWarning, match="are easier than the task"):
        hard = prontoqa.task("implication_elimination", hops=3, shots=0, n=40, seed=8)
        assert taught(ck.load("deductor-130k-step600"), hard, max_new_tokens=80, progress=False)
    with pytest.raises(TrainingError, match="answers none of 8 questions"):
        taught(ck.load("deductor-130k-base"), task.first(8), progress=False)
    with pytest.raises(TrainingError, match="no judge 'lenient'"):
        taught(ck.load("deductor-130k-base"), task.first(8), judge="lenient", progress=False)


@pytest.mark.slow
def test_a_student_learns_from_a_teacher_s_answers(teacher, task, tmp_path):
    held_out = prontoqa.task("implication_elimination", shots=0, n=16, seed=9)
    examples, kept = (taught(teacher, each, progress=False) for each in (task, held_out))
    trained = ck.train(
        "deductor-60k-base",
        examples,
        validation=kept,
        out=tmp_path,
        template="{question}{chain}",
        learning_rate=5e-3,
        max_steps=30,
        evaluate_every=15,
        progress=False,
    )
    losses = trained.curve["validation_loss"].dropna()
    assert losses.iloc[-1] < 0.8 * losses.iloc[0]
