"""Which tokens carry the loss: against what encoding each part, or decoding each token, says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import circuitkit as ck
from circuitkit.training import Example, TrainingError, layout, template
from circuitkit.training.recipe import Recipe

QUESTION, CHAIN, ANSWER = (
    "Every wumpus is loud. Max is a wumpus. Prove: Max is loud.",
    "Max is a wumpus.",
    "Max is loud.",
)
EXAMPLE = Example(QUESTION, CHAIN, ANSWER)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def words():
    return ck.load("deductor-5k-base").tokenizer


def byte_pairs(texts: list[str], merges: int) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that merges over whatever boundary it likes."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=258 + merges,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def carried(row: dict, tokenizer) -> str:
    """The text of the tokens that carry the loss."""
    return tokenizer.decode([label for label in row["labels"] if label != -100])


def rows(examples, tokenizer, context=None, **settings):
    return layout.rows_of(examples, Recipe(**settings), tokenizer, context)


def test_each_part_is_what_its_tokens_say(words):
    row = rows([EXAMPLE], words, loss_on="question")[0]
    assert carried(row, words) == f": {QUESTION}\nA:", "the first token is predicted by nothing"
    assert carried(rows([EXAMPLE], words)[0], words) == f" {CHAIN}</s>"
    everything = carried(rows([EXAMPLE], words, loss_on="everything")[0], words)
    assert everything == f": {QUESTION}\nA: {CHAIN}</s>"
    template_of_three = "Q: {question}\nA: {chain} So {answer}"
    answer = rows([EXAMPLE], words, loss_on="answer", template=template_of_three)[0]
    assert carried(answer, words) == f" {ANSWER}</s>"
    assert carried(rows([EXAMPLE], words, template=template_of_three)[0], words).startswith(f" {CHAIN}")
    assert "</s>" not in carried(rows([EXAMPLE], words, end=False)[0], words)


@settings(max_examples=60, deadline=None)
@given(
    question=st.text("ab c.\né猫", min_size=1, max_size=12).filter(str.strip),
    chain=st.text("ab c.\né猫", min_size=1, max_size=12).filter(str.strip),
    merges=st.integers(0, 40),
)
def test_a_token_is_of_the_part_that_it_ends_in(question, chain, merges):
    """Merges over the boundary as they like: a token is of the question iff all of its bytes are."""
    filling = "{question}:{chain}"
    text = f"{question}:{chain}"
    tokenizer = byte_pairs([text, text * 2], merges)
    row = rows([Example(question, chain)], tokenizer, template=filling)[0]
    of_question = len(f"{question}:".encode())
    read = 0
    table = {symbol: byte for byte, symbol in enumerate_bytes().items()}
    for at, (token, label) in enumerate(zip(row["input_ids"][:-1], row["labels"][:-1], strict=True)):
        pieces = tokenizer.convert_ids_to_tokens(token)
        read += len(bytes(table[symbol] for symbol in pieces))
        # Within a character of several bytes, what counts is the character.
        whole = text.encode()[:read].decode(errors="ignore").encode()
        inside = max(read, len(whole)) > of_question
        assert (label != -100) == (inside and at > 0), (text, at)
    assert row["labels"][-1] == tokenizer.eos_token_id


def enumerate_bytes() -> dict[int, str]:
    """GPT-2's letters for bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{byte: chr(byte) for byte in printable}, **{byte: chr(256 + at) for at, byte in enumerate(others)}}


def test_packed_rows_are_the_concatenation_cut(words):
    examples = [Example(QUESTION, f"{CHAIN} {n * 'Max is loud. '}") for n in range(7)]
    for loss_on in ("everything", "chain", "question"):
        alone = rows(examples, words, loss_on=loss_on, context=None)
        # A row of its own has no loss on its first token; behind another example, it has one.
        first = [[row["input_ids"][0] if loss_on != "chain" else -100, *row["labels"][1:]] for row in alone]
        ids, labels = [i for row in alone for i in row["input_ids"]], [i for row in first for i in row]
        packed = rows(examples, words, loss_on=loss_on, layout="pack", context=16)
        assert len(packed) == len(ids) // 16
        for at, row in enumerate(packed):
            cut = slice(16 * at, 16 * at + 16)
            assert row["input_ids"] == ids[cut]
            assert row["labels"] == [-100, *labels[cut][1:]]
    some = rows(examples, words, layout="pack", context=16, pack_examples=3)
    lengths = [len(row["input_ids"]) for row in rows(examples, words)]
    assert len(some) == sum(sum(lengths[at : at + 3]) // 16 for at in (0, 3, 6))


def test_batches_are_padded_on_the_right_and_padding_carries_no_loss(words):
    made = rows([EXAMPLE, Example(QUESTION, CHAIN + " " + ANSWER)], words)
    batch = layout.Collator(0)([made[0], made[1]])
    n = len(made[0]["input_ids"])
    assert batch["input_ids"].shape == batch["labels"].shape == (2, len(made[1]["input_ids"]))
    assert batch["attention_mask"][0].tolist() == [1] * n + [0] * (len(made[1]["input_ids"]) - n)
    assert batch["labels"][0, n:].eq(-100).all() and batch["input_ids"][0, :n].tolist() == made[0]["input_ids"]


def test_lengths_that_do_not_fit(words):
    long = Example(QUESTION, CHAIN * 9, key="the long one")
    with pytest.raises(TrainingError, match=r"'the long one' has \d+ tokens, and a row holds 40 \(1 of 2"):
        rows([EXAMPLE, long], words, context=40)
    with pytest.warns(UserWarning, match="1 of 2 examples of data have more than 40 tokens"):
        left = rows([EXAMPLE, long], words, context=40, too_long="drop")
    assert len(left) == left.dropped == 1
    with pytest.raises(TrainingError, match="every example of data has more than 5"):
        rows([EXAMPLE, long], words, context=5, too_long="drop")
    with pytest.raises(TrainingError, match=r"have \d+ tokens together, which do not fill a packed row of 500"):
        rows([EXAMPLE, long], words, context=500, layout="pack")
    with pytest.raises(TrainingError, match="context 600 is more than the model's, 512"):
        rows([EXAMPLE], words, 512, context=600) if False else layout.rows_of(
            [EXAMPLE], Recipe(context=600), words, 512
        )
    with pytest.raises(TrainingError, match="does not say how long its context is"):
        rows([EXAMPLE], words, layout="pack")


def chat_tokenizer(chat_template: str) -> PreTrainedTokenizerFast:
    tokenizer = byte_pairs([f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n{CHAIN}"] * 2, 60)
    tokenizer.chat_template = chat_template
    return tokenizer


def test_a_reply_is_found_in_a_chat_without_generation_markers():
    tokenizer = chat_tokenizer(CHATML)
    settings = {"text": "chat", "end": False, "system": "Prove it."}
    row = rows([EXAMPLE], tokenizer, **settings)[0]
    whole = tokenizer.decode(row["input_ids"])
    begin = f"<|im_start|>system\nProve it.<|im_end|>\n<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    assert whole == f"{begin}{CHAIN}<|im_end|>\n"
    assert whole.endswith(carried(row, tokenizer)) and CHAIN in carried(row, tokenizer)
    of_text = template.passages([EXAMPLE], Recipe(**settings), tokenizer)[0]
    assert of_text.text[of_text.chain :] == f"{CHAIN}<|im_end|>\n"
    s1 = {**settings, "template": "<|im_start|>think\n{chain}\n<|im_start|>answer\n{answer}", "loss_on": "answer"}
    of_text = template.passages([EXAMPLE], Recipe(**s1), tokenizer)[0]
    assert of_text.text[of_text.answer :] == f"{ANSWER}<|im_end|>\n"
    assert f"think\n{CHAIN}\n<|im_start|>answer\n{ANSWER}" in of_text.text[of_text.chain :]


def test_a_reply_that_the_chat_ends_itself_is_not_ended_again():
    tokenizer = chat_tokenizer(CHATML.replace("<|im_end|>", "</s>"))
    ids = rows([EXAMPLE], tokenizer, text="chat")[0]["input_ids"]
    assert tokenizer.decode(ids).endswith(f"{CHAIN}</s>\n")
    assert rows([EXAMPLE], chat_tokenizer(CHATML), text="chat")[0]["input_ids"][-1] == tokenizer.eos_token_id


def test_a_reply_that_repeats_the_question_is_found_behind_it():
    echo = Example(CHAIN, CHAIN)
    found = template.passages([echo], Recipe(text="chat"), chat_tokenizer(CHATML))[0]
    assert found.text[: found.chain].endswith("assistant\n") and found.text[found.chain :].startswith(CHAIN)


def test_a_template_that_opens_thoughts_itself_leaves_them_to_the_prompt():
    opening = CHATML.replace("<|im_start|>assistant\n{% endif", "<|im_start|>assistant\n<think>\n{% endif")
    found = template.passages([EXAMPLE], Recipe(text="chat", template="<think>\n{chain}"), chat_tokenizer(opening))[0]
    assert found.text[found.chain :] == f"{CHAIN}<|im_end|>\n"


def test_chats_that_cannot_be(words):
    with pytest.raises(TrainingError, match="has no chat template"):
        rows([EXAMPLE], words, text="chat")
    shouting = chat_tokenizer(CHATML.replace("message.content", "message.content | upper"))
    with pytest.raises(TrainingError, match=r"writes the reply of example 0 otherwise"):
        rows([EXAMPLE], shouting, text="chat")
    stripping = chat_tokenizer(CHATML.replace("message.content", "message.content.split('</think>')[-1]"))
    with pytest.raises(TrainingError, match="otherwise than it is given"):
        rows([EXAMPLE], stripping, text="chat", template="<think>{chain}</think>{answer}")


@pytest.mark.parametrize(
    ("filling", "loss_on", "told"),
    [
        ("Q: {question}", "chain", r"has \{chain\} 0 times"),
        ("{chain} {question}", "chain", r"is to have \{question\} then \{chain\}"),
        ("{question} {chain} {reason}", "chain", "names 'reason'"),
        ("{question} {chain} {chain}", "chain", "2 times"),
        ("{question} {chain}", "answer", r"has \{answer\} 0 times"),
        ("{question {chain}", "chain", "cannot be read|names"),
    ],
)
def test_templates_that_cannot_be(words, filling, loss_on, told):
    with pytest.raises(TrainingError, match=told):
        rows([EXAMPLE], words, template=filling, loss_on=loss_on)


def test_braces_in_a_text_stay(words):
    braces = byte_pairs([r"\boxed{4} {x}"], 0)
    row = rows([Example("{x} + {}?", r"\boxed{4}")], braces, template="{question}={chain}")[0]
    assert braces.decode(row["input_ids"]) == r"{x} + {}?=\boxed{4}</s>"


def test_tokenizers_that_cannot_be(words):
    endless = byte_pairs([QUESTION], 0)
    endless.eos_token = None
    with pytest.raises(TrainingError, match="no end-of-sequence token: give end=False"):
        rows([EXAMPLE], endless)
    with pytest.raises(TrainingError, match="example 0 has no answer"):
        rows([Example(QUESTION, CHAIN)], words, loss_on="answer", template="{question} {chain} {answer}")
