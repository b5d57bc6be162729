"""How many exemplars fit a context, against counting every prompt with every number of them."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

import circuitkit as ck
from circuitkit.tasks.exemplars import equal_shots, that_fit
from circuitkit.tasks.task import Item, Judgement, Task, TaskError

WORDS = ("Q:", "A:", "\n", "\n\n", " wumpus", "wumpus", " is", " a", "dumpus.", " lempus")


def byte_pairs(divided: bool, opening: bool) -> PreTrainedTokenizerFast:
    """A small byte-pair tokenizer; without division into words, tokens merge over the places where texts meet."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = (
        pre_tokenizers.ByteLevel(add_prefix_space=False)
        if divided
        else pre_tokenizers.Sequence(
            [pre_tokenizers.Split("~", "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    )
    text = "Q: wumpus is a dumpus.\nA: lempus\n\nQ: a lempus.\n\nA: wumpuswumpus is a\n\n"
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text] * 3, trainer)
    if opening:
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")


TOKENIZERS = [byte_pairs(divided, opening) for divided in (True, False) for opening in (True, False)]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map("".join)


def task_of(questions: Sequence[str], exemplars: Sequence[Sequence[str]] | Sequence[str], shots: int) -> Task:
    own = [tuple(each) if not isinstance(each, str) else () for each in exemplars]
    shared = () if any(own) else tuple(str(each) for each in exemplars)
    items = tuple(Item(str(n), question, "yes", own[n] if any(own) else ()) for n, question in enumerate(questions))
    return Task("toy", items, {"any": lambda item, said: Judgement(True, said)}, shared, shots, max_new_tokens=5)


def counted(task: Task, tokenizer: PreTrainedTokenizerFast, shots: int) -> int:
    return max(len(tokenizer(task.prompt(item, shots))["input_ids"]) for item in task.items)


@settings(max_examples=60)
@given(st.data(), st.sampled_from(TOKENIZERS), st.integers(1, 5), st.integers(0, 5), st.booleans())
def test_as_many_fit_as_counting_every_prompt_says(data, tokenizer, n: int, shots: int, own: bool) -> None:
    questions = [data.draw(TEXTS) for _ in range(n)]
    texts = st.lists(TEXTS, min_size=max(shots, 1), max_size=max(shots, 1))
    task = task_of(questions, [data.draw(texts) for _ in range(n)] if own else data.draw(texts), shots)
    longest = [counted(task, tokenizer, k) for k in range(shots + 1)]
    # Around each number of exemplars, a context that just holds it, and one that just does not.
    for context in {tokens + 5 + more for tokens in longest for more in (-1, 0, 1)}:
        fitting = [k for k, tokens in enumerate(longest) if tokens + 5 <= context]
        if fitting:
            found = that_fit(task, tokenizer, context)
            assert found in fitting
            # A text more is a token more, except where it vanishes into its neighbours.
            assert found == fitting[-1] or found + 1 not in fitting
        else:
            with pytest.raises(TaskError, match="without any exemplar"):
                that_fit(task, tokenizer, context)


def test_gpt2s_context_takes_three_of_eight() -> None:
    questions = ["Q: wumpus is a dumpus." * 10 + "\nA:"] * 4
    task = task_of(questions, ["Q: wumpus is a dumpus.\nA: lempus\n\n" * 20] * 8, 8)
    tokenizer = TOKENIZERS[0]
    room = counted(task, tokenizer, 3) + 256
    assert that_fit(task, tokenizer, room, 256) == 3
    assert that_fit(task, tokenizer, room - 1, 256) == 2
    assert that_fit(task, tokenizer, room, 300) == 2
    assert that_fit(task, tokenizer, 100_000, 256) == 8
    assert that_fit(task, tokenizer, None) == 8


def test_no_text_is_tokenized_over_and_over() -> None:
    seen: list[str] = []

    def lengths(texts: Sequence[str]) -> list[int]:
        seen.extend(texts)
        return [len(text) for text in texts]

    questions = [f"Q: {'wumpus ' * (n % 7)}{n}\nA:" for n in range(500)]
    task = task_of(questions, [f"Q: {n} dumpus\nA: lempus\n\n" for n in range(8)], 8)
    longest = max(len(task.prompt(item, 5)) for item in task.items)
    assert that_fit(task, None, longest + 5, lengths=lengths) == 5
    # Each text once, each prompt that is asked once, and a few to see that no more fit.
    assert len(seen) <= 500 + 8 + 500 + 50


def test_a_question_too_long_is_named_with_the_count() -> None:
    task = task_of(["Q: a\nA:", "Q: wumpus is a dumpus.\nA:"], ["Q: a\nA: is\n\n"], 1)
    tokens = counted(task, TOKENIZERS[0], 0)
    with pytest.raises(
        TaskError, match=rf"question '1' has {tokens} tokens.*context of {tokens + 3} leaves {tokens - 2} .*it is 2 too"
    ):
        that_fit(task, TOKENIZERS[0], tokens + 3)


def test_equal_shots_are_those_of_the_least_context() -> None:
    large, small = ck.load("deductor-5k"), ck.load("deductor-130k")
    task = ck.tasks.load("prontoqa/implication_elimination/1", n=2, shots=8)
    three = max(len(small.tokenizer(task.prompt(item, 3))["input_ids"]) for item in task.items)
    small.config.max_position_embeddings = three + task.max_new_tokens
    assert that_fit(task, large.tokenizer, large.context) == 8
    assert equal_shots(task, [large, small]) == equal_shots(task, [small]) == 3
    small.config.max_position_embeddings = task.max_new_tokens
    with pytest.raises(TaskError, match=r"deductor-130k.*without any exemplar"):
        equal_shots(task, [large, small])
    with pytest.raises(TaskError, match="at least one"):
        equal_shots(task, [])
    with pytest.raises(TaskError, match="has no tokenizer"):
        equal_shots(task, [ck.Model(large.hf, None)])
