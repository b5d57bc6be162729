import json

import numpy as np
import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.metrics import PADDING
from circuitkit.model import planted
from circuitkit.pairs import PairError, Reading
from circuitkit.tasks import deductions


@pytest.fixture(scope="module")
def model() -> ck.Model:
    hf, tokenizer = architectures.build("llama")
    return ck.Model(hf, tokenizer)


@pytest.fixture(scope="module")
def words(model: ck.Model) -> list[str]:
    return [model.tokenizer.decode([token]).strip() for token in range(10, 40)]


def prompt(words: list[str], *which: int) -> str:
    return " ".join(words[i] for i in which)


def test_texts_align_position_by_position(model, words):
    pairs = ck.Pairs(
        [prompt(words, 0, 1, 2), prompt(words, 3, 4)],
        [prompt(words, 0, 5, 2), prompt(words, 6, 4)],
        [f" {words[7]}", f" {words[8]}"],
        [f" {words[9]}", f" {words[1]}"],
    )
    aligned = pairs.on(model)
    assert aligned.clean.lengths.tolist() == aligned.corrupt.lengths.tolist()
    assert model.tokenizer.decode(aligned.targets.answer[0]).strip() == words[7]
    assert model.tokenizer.decode(aligned.targets.distractor[1]).strip() == words[1]


def test_unequal_lengths_are_refused_with_both_tokenisations(model, words):
    pairs = ck.Pairs([prompt(words, 0, 1, 2)], [prompt(words, 0, 1)], [f" {words[3]}"])
    with pytest.raises(PairError, match=r"pair 0 has a clean prompt of 3 tokens.*2.*\n.*clean:.*\n.*corrupt:") as error:
        pairs.on(model)
    assert words[2] in str(error.value)


def test_parts_of_different_number_are_refused():
    with pytest.raises(PairError, match="'clean': 2, 'corrupt': 1"):
        ck.Pairs(["a", "b"], ["c"], ["d", "e"])


def test_token_pairs_need_no_tokenizer():
    hf, _ = architectures.build("gpt2")
    pairs = ck.Pairs(torch.tensor([[5, 6, 7]]), torch.tensor([[5, 8, 7]]), answer=[9], distractor=[10])
    aligned = pairs.on(ck.Model(hf, None))
    assert aligned.targets.answer.tolist() == [[9]]
    assert aligned.labels(ck.Model(hf, None)) == ("5", "6", "7")


def test_text_answers_without_a_tokenizer_are_refused():
    hf, _ = architectures.build("gpt2")
    with pytest.raises(PairError, match="give token ids"):
        ck.Pairs(torch.tensor([[5, 6]]), torch.tensor([[5, 8]]), [" a"]).on(ck.Model(hf, None))


def test_an_answer_that_merges_with_the_prompt_is_refused():
    model = ck.load("deductor-130k")
    with pytest.raises(PairError, match="merges with its prompt's last token"):
        ck.Pairs(["Alex is a wump"], ["Alex is a lemp"], ["us"]).on(model)


def test_an_answer_of_several_tokens_is_named_by_a_one_token_metric(model, words):
    pairs = ck.Pairs([prompt(words, 0, 1)], [prompt(words, 0, 2)], [f" {words[3]} {words[4]}"], [f" {words[5]}"])
    with pytest.raises(ValueError, match=r"has 2; use circuitkit.metrics.log_probability"):
        ck.patching.sweep(model, pairs, over="z", progress=False)


def test_jsonl_round_trip_and_bad_lines(tmp_path):
    rows = [
        {"clean": "a", "corrupt": "b", "answer": " c", "distractor": " d", "group": "x"},
        {"clean": "e", "corrupt": "f", "answer": " g", "distractor": " h", "group": "y"},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    pairs = ck.Pairs.from_jsonl(path)
    assert (
        list(pairs.clean) == ["a", "e"] and list(pairs.groups) == ["x", "y"] and list(pairs.distractor) == [" d", " h"]
    )
    path.write_text(json.dumps(rows[0]) + "\n" + json.dumps({"clean": "e", "corrupt": "f"}) + "\n")
    with pytest.raises(PairError, match=r"line 2: lacks \['answer'\]"):
        ck.Pairs.from_jsonl(path)
    path.write_text("{not json\n")
    with pytest.raises(PairError, match="line 1: not JSON"):
        ck.Pairs.from_jsonl(path)


GOOD = {"clean": "a", "corrupt": "b", "answer": " c", "distractor": " d", "group": "x"}


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("answer", None, "text, a token id or a list of token ids, and is None"),
        ("answer", [], "text, a token id or a list of token ids"),
        ("answer", 1.5, "text, a token id"),
        ("distractor", [1, "a"], "text, a token id"),
        ("clean", 3, "text or a list of token ids, and is 3"),
        ("corrupt", {"a": 1}, "text or a list of token ids"),
        ("group", [1], "text or a whole number"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named_with_its_line(tmp_path, field, value, kind):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps({**GOOD, field: value}) + "\n")
    with pytest.raises(PairError, match=rf"pairs\.jsonl, line 2: {field} must be {kind}"):
        ck.Pairs.from_jsonl(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(PairError, match=r"nowhere\.jsonl cannot be read: No such file"):
        ck.Pairs.from_jsonl(tmp_path / "nowhere.jsonl")
    with pytest.raises(PairError, match="cannot be read"):
        ck.Pairs.from_jsonl(tmp_path)
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n" + '{"clean": "\xe9"}'.encode("latin-1"))
    with pytest.raises(PairError, match=r"pairs\.jsonl, line 2: not UTF-8"):
        ck.Pairs.from_jsonl(path)
    path.write_text("[1, 2]\n")
    with pytest.raises(PairError, match="line 1: not an object"):
        ck.Pairs.from_jsonl(path)


@pytest.mark.parametrize(
    "answer",
    [
        np.array([9, 10]),
        np.array([[9], [10]]),
        [np.int64(9), np.int32(10)],
        [[np.int64(9)], np.array([10])],
        [torch.tensor(9), torch.tensor([10])],
        torch.tensor([9, 10]),
        torch.tensor([[9, PADDING], [10, PADDING]]),
    ],
    ids=repr,
)
def test_answers_are_whole_numbers_of_any_kind(model, answer):
    prompts = torch.tensor([[5, 6], [7, 8]])
    assert ck.Pairs(prompts, prompts, answer).on(model).targets.answer.tolist() == [[9], [10]]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([9, architectures.VOCABULARY], f"answer of pair 1 holds the token id {architectures.VOCABULARY}, and"),
        ([[9], [4, -1]], "answer of pair 1 holds the token id -1"),
        (torch.tensor([-3, 9]), "answer of pair 0 holds the token id -3"),
        ([[9], [PADDING, 9]], f"answer of pair 1 holds the token id {PADDING}"),
        ([[9], []], "answer of pair 1 has no tokens"),
        (torch.tensor([1.0, 2.0]), "answer of pair 0 must be text, a token id or a row of token ids"),
        ([9, None], "answer of pair 1 must be text, a token id or a row of token ids, and is None"),
    ],
)
def test_answers_that_are_no_token_ids_of_the_model_are_named(model, answer, said):
    prompts = torch.tensor([[5, 6], [7, 8]])
    with pytest.raises(PairError, match=said):
        ck.Pairs(prompts, prompts, answer).on(model)
    with pytest.raises(PairError, match=said.replace("answer", "distractor")):
        ck.Pairs(prompts, prompts, [9, 10], answer).on(model)


def test_pairs_of_different_lengths_have_no_common_positions(model, words):
    pairs = ck.Pairs(
        [prompt(words, 0, 1, 2), prompt(words, 3, 4)],
        [prompt(words, 0, 5, 2), prompt(words, 6, 4)],
        [f" {words[7]}"] * 2,
        [f" {words[8]}"] * 2,
    )
    with pytest.raises(PairError, match=r"positions=\[-3, -2, -1\]"):
        ck.patching.sweep(model, pairs, over="resid_pre", progress=False)
    ends = ck.patching.sweep(model, pairs, over="resid_pre", positions=[-2, -1], progress=False)
    assert ends.values.shape == (model.n_layers, 2)


def test_a_metric_over_several_tokens_reads_where_they_are_predicted(model):
    tokens = model.tokens([[5, 6, 7], [8, 9]])
    answer = torch.tensor([[11, 12, 13], [14, PADDING, PADDING]])
    reading = Reading.of(tokens, ck.metrics.Targets(answer), ck.metrics.log_probability)
    rows = [ids[mask].tolist() for ids, mask in zip(reading.tokens.ids, reading.tokens.mask, strict=True)]
    assert rows == [[5, 6, 7, 11, 12], [8, 9]]
    read = [[int(reading.tokens.ids[r, c]) for c in reading.columns[r]] for r in range(2)]
    assert read[0] == [7, 11, 12] and read[1][0] == 9


def test_deductions_pass_each_concept_on():
    tokenizer = ck.load("deductor-130k").tokenizer
    pairs = deductions.pairs(tokenizer, n=20, seed=3)
    for clean, corrupt, answer, distractor in zip(
        pairs.clean, pairs.corrupt, pairs.answer, pairs.distractor, strict=True
    ):
        a, b = tokenizer(clean)["input_ids"], tokenizer(corrupt)["input_ids"]
        passed_on = {x: y for x, y in zip(a, b, strict=True) if x != y}
        assert len(passed_on) == 3 and set(passed_on) == set(passed_on.values())
        assert [passed_on.get(x, x) for x in a] == b, "nothing but the three concepts, each everywhere"
        [first], [then] = (tokenizer(word)["input_ids"] for word in (answer, distractor))
        assert passed_on[a[-3]] == first and passed_on[first] == then
    assert list(deductions.pairs(tokenizer, n=20, seed=3).clean) == list(pairs.clean)


def test_deductions_refuse_a_tokenizer_without_the_words():
    with pytest.raises(ValueError, match="give pairs of your own"):
        deductions.pairs(planted.build("planted-induction-gpt2").tokenizer)
