"""Spans against what the words of a prompt say, however the prompt is padded, tokenised or come by."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import architectures
import circuitkit as ck
from circuitkit import Span
from circuitkit.spans import PRONTOQA, Role, SpanError, word_classes
from circuitkit.tasks import prontoqa
from circuitkit.tasks.prontoqa import language


@cache
def tiny() -> ck.Model:
    return ck.Model(*architectures.build("llama"))


@cache
def of_bytes():
    """A model whose vocabulary has every id of the tokenizer of bytes."""
    hf, _ = architectures.build("llama")
    hf.resize_token_embeddings(len(bytes_tokenizer()), mean_resizing=False)
    return hf


@cache
def deductor() -> ck.Model:
    return ck.load("deductor-130k")


def said(model: ck.Model, prompt: str, positions: tuple[int, ...]) -> str:
    ids = model.tokenizer(prompt)["input_ids"]
    return model.tokenizer.decode([ids[position] for position in positions])


def bytes_tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte, as byte-level tokenizers fall back to: most letters with accents take two, emoji four."""
    vocabulary = {letter: at for at, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words = Tokenizer(models.BPE(vocabulary, []))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.add_special_tokens(["<pad>", "<|user|>", "<|assistant|>"])
    template = "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}<|assistant|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", padding_side="left", chat_template=template
    )


class WithoutOffsets:
    """A tokenizer as one of Python's own: it encodes and decodes, and knows no offsets."""

    is_fast = False

    def __init__(self, fast: PreTrainedTokenizerFast) -> None:
        self.fast, self.pad_token_id = fast, fast.pad_token_id

    def __call__(self, texts: list[str]) -> dict[str, list[list[int]]]:
        return {"input_ids": self.fast(texts)["input_ids"]}

    def decode(self, ids: list[int], **settings: bool) -> str:
        return self.fast.decode(ids, **settings)


@given(st.lists(st.lists(st.integers(3, 9), min_size=1, max_size=8), min_size=1, max_size=4), st.integers(3, 9))
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_a_word_is_found_where_it_stands_as_text_as_ids_and_padded(rows, word):
    texts = [" ".join(f"w{token}" for token in row) for row in rows]
    every = Span.of_text(f"w{word}", occurrence=None)
    if any(word not in row for row in rows):
        lacking = next(at for at, row in enumerate(rows) if word not in row)
        with pytest.raises(SpanError, match=f"row {lacking} has no 'w{word}'"):
            every.positions(tiny(), texts)
        return
    expected = [tuple(at for at, token in enumerate(row) if token == word) for row in rows]
    tokens = tiny().tokens(texts)
    wider = torch.cat([torch.zeros(len(rows), 2, dtype=torch.long), tokens.ids], 1)
    mask = torch.cat([torch.zeros(len(rows), 2, dtype=torch.long), tokens.mask.long()], 1)
    assert every.positions(tiny(), texts) == expected
    assert every.positions(tiny(), rows) == expected
    assert every.positions(tiny(), tokens) == expected
    assert every.positions(tiny(), wider, attention_mask=mask) == expected
    for occurrence in (0, -1):
        one = Span.of_text(f"w{word}", occurrence).positions(tiny(), texts)
        assert one == [(row[occurrence],) for row in expected]


@given(st.text("aé☃🙂 x", min_size=1, max_size=12), st.data())
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_offsets_and_decoding_agree_where_a_letter_takes_several_tokens(text, data):
    fast = bytes_tokenizer()
    hf = of_bytes()
    text = f"a{text}a"
    start = data.draw(st.integers(0, len(text) - 1))
    part = text[start : start + data.draw(st.integers(1, 3))]
    if not part.strip():
        return
    at = text.index(part)
    first = len(text[:at].encode())
    expected = list(range(first, first + len(part.encode())))
    blanks = {number for number, byte in enumerate(text.encode()) if byte == ord(" ")}
    span = Span.of_text(part)
    ids = fast(text)["input_ids"]
    by_offset = span.positions(ck.Model(hf, fast), text)
    assert set(by_offset[0]) | blanks >= set(expected) and set(by_offset[0]) <= set(expected)
    assert span.positions(ck.Model(hf, fast), [ids]) == by_offset
    assert span.positions(ck.Model(hf, WithoutOffsets(fast)), text) == by_offset


def test_a_span_is_found_through_a_chat_template():
    model = ck.Model(of_bytes(), bytes_tokenizer())
    messages = [[{"role": "user", "content": "ask"}], [{"role": "user", "content": "then ask é"}]]
    texts = [model.tokenizer.apply_chat_template(each, tokenize=False) for each in messages]
    ids = [model.tokenizer.apply_chat_template(each, tokenize=True, return_dict=False) for each in messages]
    # One token for <|user|>, then a token a byte.
    assert Span.of_text("ask").positions(model, texts) == [(1, 2, 3), (6, 7, 8)]
    assert Span.of_text("ask").positions(model, ids) == [(1, 2, 3), (6, 7, 8)]
    assert Span.of_text("<|assistant|>").positions(model, texts) == [(4,), (12,)]


@pytest.mark.parametrize("rule", prontoqa.RULES)
@pytest.mark.parametrize("shots", [0, 2])
def test_roles_are_the_parts_that_the_question_was_made_of(rule, shots):
    model, hops = deductor(), 1 if rule in ("disjunction_elimination", "proof_by_contradiction") else 2
    for example in prontoqa.generate(rule, hops=hops, shots=shots, n=4, seed=shots):
        prompt = example.prompt + example.answer
        if len(model.tokenizer(prompt)["input_ids"]) > (model.context or 0):
            continue

        def part(role: str, number: int | None = None, prompt: str = prompt) -> str:
            return said(model, prompt, Span.of_role(role, number).positions(model, prompt)[0]).strip()

        assert part("theory").split() == example.question.split()
        assert part("query") == example.query
        assert part("question").split() == f"{example.question} {example.query}".split()
        sentences = [f"{sentence.strip()}." for sentence in example.question.split(".") if sentence.strip()]
        facts = [sentence for sentence in sentences if sentence.split()[0] in language.ENTITIES]
        rules = [sentence for sentence in sentences if sentence not in facts]
        assert [part("rule", number) for number in range(len(rules))] == rules
        assert [part("fact", number) for number in range(len(facts))] == facts
        assert part("premise", -1) == facts[-1]
        assert part("step", 0) == example.steps[0] and part("step", -1) == example.steps[-1]
        assert [part("step", number) for number in range(len(example.steps))] == list(example.steps)
        with pytest.raises(SpanError, match=r"row 0 has no step \[99\]"):
            part("step", 99)


def test_spans_over_generated_text_are_found_in_the_tokens_produced():
    model = deductor()
    examples = prontoqa.generate("ModusPonens", hops=1, shots=0, n=1, seed=0)
    examples += prontoqa.generate("ModusPonens", hops=2, shots=0, n=1, seed=1)
    prompts = model.tokens([example.prompt for example in examples])
    assert prompts.padded, "the prompts are there for their lengths"
    ids = model.generate(prompts, max_new_tokens=12, do_sample=False)
    mask = torch.cat([prompts.mask, torch.ones(2, ids.shape[1] - prompts.ids.shape[1], dtype=torch.bool)], 1)
    found = Span.of_role("step", 0).positions(model, ids, attention_mask=mask)
    for row, positions in enumerate(found):
        real = ids[row][mask[row]].tolist()
        assert min(positions) == int(prompts.lengths[row])
        first = model.tokenizer.decode(real[int(prompts.lengths[row]) :]).split(".")[0]
        assert model.tokenizer.decode([real[position] for position in positions]).strip() == f"{first.strip()}."
    texts = [model.tokenizer.decode(row[real]) for row, real in zip(ids, mask, strict=True)]
    assert Span.of_role("step", 0).positions(model, texts) == found


def test_a_user_adds_roles():
    roles = {**PRONTOQA, "conclusion": Role(r"[^.\s][^.]*\.\Z", within="proof")}
    prompt = "Q: Every wumpus is loud. Fae is a wumpus. Prove: Fae is loud.\nA: Fae is a wumpus. Fae is loud."
    positions = Span.of_role("conclusion", roles=roles).positions(deductor(), prompt)
    assert said(deductor(), prompt, positions[0]) == " Fae is loud."
    assert positions[0][-1] == len(deductor().tokenizer(prompt)["input_ids"]) - 1
    with pytest.raises(SpanError, match="no role 'conclusion'; the roles are exchange, question"):
        Span.of_role("conclusion")
    with pytest.raises(SpanError, match="lies within itself: a in b in a"):
        Span.of_role("a", roles={"a": Role(".", "b"), "b": Role(".", "a")}).positions(deductor(), prompt)


def test_parts_of_speech_are_the_lexicons_and_a_users_tagger_takes_their_place():
    prompt = "Every wumpus is a happy dumpus. Wren is a wumpus. Dumpuses are loud."
    model = deductor()
    words = {
        "concept": ["wumpus", "dumpus", "wumpus", "Dumpuses"],
        "property": ["happy", "loud"],
        "entity": ["Wren"],
        "function": ["Every", "is", "a", "is", "a", "are"],
    }
    for part, expected in words.items():
        assert said(model, prompt, Span.of_speech(part).positions(model, prompt)[0]).split() == expected
    second = Span.of_speech("concept", 1).positions(model, prompt)[0]
    assert said(model, prompt, second).split() == ["dumpus"]
    inside = Span.of_speech("concept").within(Span.of_text("Wren is a wumpus.")).positions(model, prompt)[0]
    assert said(model, prompt, inside).split() == ["wumpus"]

    def long_words(text: str) -> list[tuple[int, int, str]]:
        return [(start, end, "LONG") for start, end, _ in word_classes(text) if end - start > 5]

    assert said(model, prompt, Span.of_speech("LONG", tagger=long_words).positions(model, prompt)[0]).split() == [
        word for word in prompt.replace(".", "").split() if len(word) > 5
    ]
    with pytest.raises(SpanError, match="row 0 has no LONG"):
        Span.of_speech("LONG").positions(model, prompt)


def test_positions_named_outright_need_no_tokenizer():
    model = ck.Model(tiny().hf)
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    ids = torch.randint(3, 90, (2, 4), generator=torch.Generator().manual_seed(0))
    assert Span.at(1, -1).positions(model, ids, attention_mask=mask) == [(1, 3), (1,)]
    with pytest.raises(SpanError, match="position 2 does not exist in row 1, which has 2 real tokens"):
        Span.at(2).positions(model, ids, attention_mask=mask)
    with pytest.raises(SpanError, match=r"no tokenizer: use Span\.at"):
        Span.of_text("w3").positions(model, ids)
    with pytest.raises(SpanError, match="one at least"):
        Span.at()
    with pytest.raises(SpanError, match="empty"):
        Span.of_text(" ")
    with pytest.raises(SpanError, match="no text to lie within"):
        Span.at(1).within(Span.of_text("w3"))


def test_a_text_that_is_not_there_is_named_as_it_was_given() -> None:
    model = ck.load("deductor-130k")
    with pytest.raises(SpanError, match=r"row 0 has no 'zebra': its text is"):
        ck.Span.of_text("zebra").positions(model, "Every wumpus is a dumpus.")
    with pytest.raises(SpanError, match=r"row 0 has no 'wumpus' \[1\]: its text is"):
        ck.Span.of_text("wumpus", 1).positions(model, "Every wumpus is a dumpus.")
