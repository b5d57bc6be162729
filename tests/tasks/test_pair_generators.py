"""Pairs of indirect objects, of greater-than and of induction; pairs from a data frame."""

import itertools
import re

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import circuitkit as ck
from circuitkit.model import planted
from circuitkit.pairs import PairError
from circuitkit.tasks import greater_than, indirect_objects, induction

PIECE = r" ?\d\d| ?[A-Za-z]+|[^A-Za-z0-9]"


def english(leave_out: str = "", digits: str = PIECE) -> PreTrainedTokenizerFast:
    """A token for each word, with its space, and for two digits; years are split as GPT-2 splits them."""
    texts = [*indirect_objects.TEMPLATES, greater_than.TEMPLATE]
    texts += [f" {word}" for word in (*indirect_objects.NAMES, *indirect_objects.PLACES, *indirect_objects.OBJECTS)]
    texts += [f" {word}" for word in greater_than.NOUNS]
    texts += [f" {century}{year:02d}" for century in greater_than.CENTURIES for year in range(100)]
    pieces = dict.fromkeys(piece for text in texts for piece in re.findall(digits, text))
    pieces.pop(leave_out, None)
    words = Tokenizer(models.WordLevel({piece: at for at, piece in enumerate(["<unk>", *pieces])}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(digits), behavior="isolated")
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<unk>", padding_side="left")


@pytest.fixture(scope="module")
def model() -> ck.Model:
    tokenizer = english()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    return ck.Model(LlamaForCausalLM(config).eval(), tokenizer)


@pytest.mark.parametrize("order", ["ABBA", "BABA"])
@pytest.mark.parametrize("corruption", ["swap", "abc"])
def test_indirect_objects(model, order, corruption):
    pairs = indirect_objects.pairs(model.tokenizer, n=40, seed=1, order=order, corruption=corruption)
    places = indirect_objects.positions(model, pairs)
    aligned = pairs.on(model)
    for row in range(40):
        own = aligned.clean.ids[row][aligned.clean.mask[row]]
        other = aligned.corrupt.ids[row][aligned.corrupt.mask[row]]
        io, subject = aligned.targets.answer[row, 0], aligned.targets.distractor[row, 0]
        at = {name: int(place[row]) for name, place in places.items()}
        assert own[at["IO"]] == io and own[at["S1"]] == own[at["S2"]] == subject and at["end"] == len(own) - 1
        assert (at["IO"] < at["S1"] < at["S2"]) if order == "ABBA" else (at["S1"] < at["IO"] < at["S2"])
        changed = (own != other).nonzero().flatten().tolist()
        if corruption == "swap":
            assert changed == [at["S2"]] and other[at["S2"]] == io
        else:
            assert changed == sorted([at["IO"], at["S1"], at["S2"]]) and not {int(io), int(subject)} & set(
                other.tolist()
            )
    assert {group.split()[1] for group in pairs.groups} == {order} and len(set(pairs.groups)) > 1
    again = indirect_objects.pairs(model.tokenizer, n=40, seed=1, order=order, corruption=corruption)
    assert again.clean == pairs.clean
    one = indirect_objects.pairs(model.tokenizer, n=5, templates=[1]).on(model)
    assert len(set(one.clean.lengths.tolist())) == 1


def test_indirect_objects_refuse_what_a_tokenizer_lacks():
    with pytest.raises(ValueError, match=r"does not know every word of .*: it lacks 'gave'"):
        indirect_objects.pairs(english(leave_out=" gave"))
    lettered = english(digits=r" ?\d\d| ?[A-Za-z]{1,2}|[^A-Za-z0-9]")
    with pytest.raises(ValueError, match="names of one token"):
        indirect_objects.pairs(lettered)
    with pytest.raises(ValueError, match="numbers from 0 to"):
        indirect_objects.pairs(english(), templates=[99])
    with pytest.raises(PairError, match="holds its answer"):
        tokenizer = english()
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
        )
        toy = ck.Model(LlamaForCausalLM(config).eval(), tokenizer)
        indirect_objects.positions(toy, ck.Pairs([" Mary"], [" John"], [" Mary"], [" John"]))


def test_greater_than(model):
    pairs = greater_than.pairs(model.tokenizer, n=30, seed=2)
    aligned = pairs.on(model)
    assert aligned.clean.lengths.tolist() == aligned.corrupt.lengths.tolist()
    metric = greater_than.probability_difference(model.tokenizer)
    logits = torch.randn(30, len(model.tokenizer), generator=torch.Generator().manual_seed(0))
    values = metric(logits, aligned.targets)
    for row in range(30):
        century, year = re.search(r"year (\d\d)(\d\d) to the year (\d\d)$", pairs.clean[row]).groups()[:2]
        assert pairs.clean[row].endswith(f" {century}") and f"{century}01" in pairs.corrupt[row]
        right = model.tokenizer.decode(aligned.targets.answer[row])
        assert int(right) == int(year) + 1 and int(model.tokenizer.decode(aligned.targets.distractor[row])) == int(year)
        probabilities = logits[row].softmax(-1)
        expected = sum(
            (1 if other > int(year) else -1) * probabilities[model.tokenizer.convert_tokens_to_ids(f"{other:02d}")]
            for other in range(100)
        )
        assert float(values[row]) == pytest.approx(float(expected), abs=1e-6)
        assert pairs.groups[row] in pairs.clean[row]
    swept = ck.patching.sweep(model, pairs, metric=metric, progress=False)
    assert swept.metric == "probability_difference" and swept.values.isfinite().any()


def test_greater_than_refuses_a_tokenizer_of_single_digits():
    with pytest.raises(ValueError, match="does not split years"):
        greater_than.pairs(english(digits=r" ?\d| ?[A-Za-z]+|[^A-Za-z0-9]"))
    with pytest.raises(ValueError, match="is no two-digit year"):
        metric = greater_than.probability_difference(english())
        metric(torch.zeros(1, 900), ck.metrics.Targets(torch.tensor([[1]])))


@given(length=st.integers(4, 20), seed=st.integers(0, 1000))
def test_induction_pairs_have_one_right_continuation(length, seed):
    pairs = induction.pairs(None, n=3, seed=seed, length=length, vocabulary=range(5, 40))

    def continuation(row: list[int]) -> set[int]:
        return {after for before, after in itertools.pairwise(row) if before == row[-1]}

    for row in range(3):
        assert continuation(pairs.clean[row].tolist()) == {int(pairs.answer[row])}
        assert continuation(pairs.corrupt[row].tolist()) == {int(pairs.distractor[row])}
        assert pairs.clean[row, -1] == pairs.corrupt[row, -1]


def test_a_planted_model_completes_induction_pairs():
    plant = planted.build("planted-induction-llama")
    pairs = induction.pairs(plant.tokenizer, n=16, length=12, vocabulary=range(3, 64))
    assert (pairs.clean[:, 0] == plant.tokenizer.bos_token_id).all()
    model = ck.load(plant.name)
    for prompts, right in ((pairs.clean, pairs.answer), (pairs.corrupt, pairs.distractor)):
        assert (model.run(prompts, logits_at=-1).logits.argmax(-1) == right).float().mean() > 0.9


def test_induction_names_what_it_lacks():
    with pytest.raises(ValueError, match="name the token ids"):
        induction.pairs(None)
    with pytest.raises(ValueError, match="give 4 to 10"):
        induction.repeated(None, length=11, vocabulary=range(10))


def test_pairs_from_a_frame_are_those_of_json_lines(tmp_path):
    rows = [
        {"clean": "a b", "corrupt": "a c", "answer": " x", "distractor": " y", "group": 1},
        {"clean": "b a", "corrupt": "c a", "answer": " x", "distractor": " z", "group": 2},
    ]
    frame = pd.DataFrame(rows, index=["p", "q"])
    path = tmp_path / "pairs.jsonl"
    frame.to_json(path, orient="records", lines=True)
    read, taken = ck.Pairs.from_jsonl(path), ck.Pairs.from_frame(frame)
    for name in ("clean", "corrupt", "answer", "distractor", "groups"):
        assert list(getattr(taken, name)) == list(getattr(read, name))
    assert ck.Pairs.from_frame(frame[["clean", "corrupt", "answer"]]).distractor is None
    with pytest.raises(PairError, match=r"lacks the columns \['answer'\]"):
        ck.Pairs.from_frame(frame.drop(columns="answer"))
    frame.loc["q", "answer"] = None
    with pytest.raises(PairError, match=r"row q of the frame has no \['answer'\]"):
        ck.Pairs.from_frame(frame)
    with pytest.raises(PairError, match="no pairs"):
        ck.Pairs.from_frame(frame[:0])
