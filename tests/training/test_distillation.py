"""The loss of distillation against sums over the vocabulary written out, and whom a model can learn from."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit.model.embedded import word_tokenizer
from circuitkit.training.distillation import Teacher, check_same_vocabulary, divergences
from circuitkit.training.errors import TrainingError


def by_hand(student, teacher, temperature):
    """KL(teacher ‖ student) · T², token by token and word by word, in double precision."""
    found = []
    for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        p = [math.exp(x / temperature - max(theirs) / temperature) for x in theirs]
        q = [math.exp(x / temperature - max(ours) / temperature) for x in ours]
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        found.append(temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    return torch.tensor(found)


@settings(deadline=None)
@given(
    st.integers(1, 5), st.integers(2, 9), st.sampled_from([0.5, 1.0, 2.0, 7.5]), st.integers(0, 1000), st.floats(0, 6)
)
def test_a_token_s_divergence_is_the_sum_over_the_vocabulary(tokens, vocabulary, temperature, seed, spread):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (spread * torch.randn(tokens, vocabulary, generator=generator) for _ in range(2))
    torch.testing.assert_close(
        divergences(student, teacher, temperature), by_hand(student, teacher, temperature), atol=1e-5, rtol=1e-5
    )


def test_its_gradient_is_the_difference_of_the_two_distributions():
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(4, 6, generator=generator) for _ in range(2))
    student.requires_grad_()
    divergences(student, teacher, 3.0).sum().backward()
    # d/ds of −T² Σ p log softmax(s/T) is T (softmax(s/T) − p).
    expected = 3.0 * ((student / 3).softmax(-1) - (teacher / 3).softmax(-1))
    torch.testing.assert_close(student.grad, expected.detach(), atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def student():
    return ck.load("deductor-20k-base")


@pytest.fixture(scope="module")
def teacher():
    return ck.load("deductor-130k")


@pytest.fixture(scope="module")
def batch(student):
    texts = ["Q: Every wumpus is loud. Fae is a wumpus. Prove: Fae is loud.\nA: Fae is a wumpus.", "Q: Rex is shy."]
    tokens = student.tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    labels = ids.masked_fill(mask == 0, -100)
    labels[0, :7] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize(("temperature", "hard"), [(1.0, 0.0), (2.0, 0.0), (2.0, 0.25), (0.7, 0.9)])
def test_a_batch_s_loss_is_the_mean_over_the_tokens_that_carry_one(student, teacher, batch, temperature, hard):
    logits = student.hf(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    with torch.no_grad():
        taught = teacher.hf(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    found = Teacher(teacher, temperature, hard).loss(logits, batch)
    each = []
    for row, labels in enumerate(batch["labels"].tolist()):
        for position, label in enumerate(labels):
            if position == 0 or label == -100:
                continue
            ours, theirs = logits[row, position - 1][None], taught[row, position - 1][None]
            soft = by_hand(ours, theirs, temperature)[0]
            each.append((1 - hard) * soft + hard * -ours.log_softmax(-1)[0, label])
    assert len(each) == int((batch["labels"][:, 1:] != -100).sum())
    torch.testing.assert_close(found, torch.stack(each).mean(), atol=1e-5, rtol=1e-5)
    summed = Teacher(teacher, temperature, hard).loss(logits, batch, n_tokens=7)
    torch.testing.assert_close(summed, torch.stack(each).sum() / 7, atol=1e-5, rtol=1e-5)


def test_the_hard_part_is_transformers_own_loss(student, teacher, batch):
    found = student.hf(**batch)
    soft = Teacher(teacher, 1.0, 0.0).loss(found.logits, batch)
    mixed = Teacher(teacher, 1.0, 0.4).loss(found.logits, batch)
    torch.testing.assert_close(mixed, 0.6 * soft + 0.4 * found.loss, atol=1e-5, rtol=1e-5)


def test_no_gradient_reaches_the_teacher_and_it_is_in_eval_mode(student, batch):
    taught = ck.load("deductor-60k")
    taught.hf.train()
    teacher = Teacher(taught)
    teacher.ready(student)
    student.hf.zero_grad()
    teacher.loss(student.hf(input_ids=batch["input_ids"]).logits, batch).backward()
    assert not any(module.training for module in taught.hf.modules())
    assert all(not weight.requires_grad and weight.grad is None for weight in taught.hf.parameters())
    assert any(weight.grad is not None and weight.grad.any() for weight in student.hf.parameters())
    student.hf.zero_grad()


def test_a_loss_of_no_token_is_refused(student, teacher, batch):
    nothing = {**batch, "labels": torch.full_like(batch["labels"], -100)}
    with pytest.raises(TrainingError, match="no token of a batch carries a loss"):
        Teacher(teacher).loss(student.hf(input_ids=batch["input_ids"]).logits, nothing)


def test_a_teacher_of_another_vocabulary_is_refused_by_a_token_that_differs(student):
    words = [token for token in student.tokenizer.get_vocab() if not token.startswith("<")]
    shuffled = ck.Model(ck.load("deductor-60k").hf, word_tokenizer(words[::-1], 2048), name="shuffled")
    with pytest.raises(TrainingError, match=r"shuffled has another vocabulary .* \(number \d+ there, number 4 h"):
        check_same_vocabulary(student, shuffled)
    more = ck.Model(ck.load("deductor-60k").hf, word_tokenizer([*words, " cat"], 2048), name="more")
    with pytest.raises(TrainingError, match="tokens differ"):
        check_same_vocabulary(student, more)
    without = ck.Model(ck.load("planted-induction-llama").hf, None, name="without")
    with pytest.raises(TrainingError, match=r"without has a vocabulary of \d+ tokens, and .* one of 305"):
        check_same_vocabulary(student, without)


def test_logits_that_only_one_model_has_are_left_out(student, batch):
    """As where embeddings are padded: a teacher with rows that no token has teaches what one without them does."""
    padded = ck.load("deductor-60k")
    plain = ck.load("deductor-60k")
    padded.hf.resize_token_embeddings(320, mean_resizing=False)
    logits = student.hf(input_ids=batch["input_ids"]).logits
    torch.testing.assert_close(Teacher(padded).loss(logits, batch), Teacher(plain).loss(logits, batch))


@pytest.mark.parametrize(
    ("temperature", "hard", "said"), [(0, 0, "give more than 0"), (1, -0.1, "from 0 to 1"), (1, 1, "by supervised")]
)
def test_settings_out_of_range_are_refused(teacher, temperature, hard, said):
    with pytest.raises(TrainingError, match=said):
        Teacher(teacher, temperature, hard)


def test_a_model_does_not_learn_from_itself(student):
    with pytest.raises(TrainingError, match="learn from itself"):
        Teacher(student).ready(student)
