"""Profiles by part of speech against sums over captured patterns, and the taggers."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.attention import Lexicon, Spacy, profile
from circuitkit.attention.tagging import token_tags

TEXTS = [
    "Every wumpus is a dumpus. Fae is a wumpus. Prove: Fae is a dumpus.\nA: Fae is a wumpus. Every wumpus is a dumpus.",
    "Rex is not bright.",
]


def loop(model: ck.Model, text: str, tags: list[str], layer: int, head: int) -> tuple[float, dict[str, float]]:
    """Entropy and shares, query by query, of the captured pattern."""
    pattern = ck.attention.capture(model, text, layers=[layer]).pattern(layer, head).double()
    entropy, shares = 0.0, dict.fromkeys(tags, 0.0)
    for row in pattern:
        row = row / row.sum()
        entropy += -sum(float(p) * float(p.log()) for p in row if p > 0)
        for tag, weight in zip(tags, row, strict=True):
            shares[tag] += float(weight)
    return entropy / len(pattern), {tag: share / len(pattern) for tag, share in shares.items()}


def test_profiles_equal_loops_over_patterns():
    model = ck.load("deductor-130k")
    found = profile(model, TEXTS, Lexicon(), range(3), progress=False)
    scored = ck.attention.scores(model, TEXTS, range(3), progress=False)
    for row, text in enumerate(TEXTS):
        tags = ["first token", *token_tags(scored.words[row], Lexicon())[1:]]
        for layer, head in ((0, 1), (2, 3)):
            entropy, shares = loop(model, text, tags, layer, head)
            assert float(found.entropy[row, layer, head]) == pytest.approx(entropy, abs=1e-5)
            for number, tag in enumerate(found.tags):
                assert float(found.shares[row, layer, head, number]) == pytest.approx(shares.get(tag, 0.0), abs=1e-5)
                of_tag = scored.of(row, layer, head)[torch.tensor([each == tag for each in tags])]
                mean = float(found.scores[row, layer, head, number])
                assert np.isnan(mean) if not len(of_tag) else mean == pytest.approx(float(of_tag.mean()), abs=1e-5)
        uniform = dict.fromkeys(found.tags, 0.0)
        for query in range(len(tags)):
            for tag in tags[: query + 1]:
                uniform[tag] += 1 / (query + 1) / len(tags)
        assert found.uniform[row].tolist() == pytest.approx(list(uniform.values()), abs=1e-6)
    torch.testing.assert_close(found.shares.sum(-1), torch.ones(2, 3, 4), atol=1e-5, rtol=0)


def test_sinks_take_no_part():
    hf, tokenizer = architectures.build("gpt_oss")
    model = ck.Model(hf, tokenizer)
    text = "w5 w6 w7 w8 w9 w5 w10"
    found = profile(model, text, Lexicon(), range(3), progress=False)
    entropy, _ = loop(model, text, [""] * 7, 0, 2)
    assert float(found.entropy[0, 0, 2]) == pytest.approx(entropy, abs=1e-5)
    torch.testing.assert_close(found.shares.sum(-1), torch.ones(1, 3, 4), atol=1e-5, rtol=0)


def test_tables_and_picture_tell_shares_beside_those_of_uniform_attention():
    model = ck.load("deductor-5k")
    found = profile(model, TEXTS, Lexicon(), progress=False)
    table = found.by_tag
    assert set(table["part_of_speech"]) == set(found.tags)
    function = table.query("function_word and head == 0")["share"].sum()
    row = found.frame.query("head == 0").iloc[0]
    assert row["function_words"] == pytest.approx(function, abs=1e-6)
    assert row["function_words_uniform"] == pytest.approx(table.query("function_word and head == 0")["uniform"].sum())
    assert found.plot().get_xlabel() == "part of speech of the key"
    kept = profile(model, TEXTS, Lexicon(), first_column="kept", progress=False)
    assert "first token" in found.tags and "first token" not in kept.tags


def test_words_split_over_tokens_carry_their_words_tag():
    split = ["Every", " w", "ump", "us", " is", " n", "ot", " bright", ".", "\n", "A", ":"]
    assert token_tags(split, Lexicon()) == [
        *("determiner", "concept", "concept", "concept", "copula", "negation", "negation", "property"),
        *("punctuation", "space", "marker", "punctuation"),
    ]


def test_spacy_tags_where_the_user_has_it(monkeypatch):
    def pipeline(text):
        words = text.split(" ")
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])
        tags = {"is": "AUX", "not": "PART"}
        return [
            SimpleNamespace(text=word, idx=int(start), pos_=tags.get(word, "NOUN"))
            for word, start in zip(words, starts, strict=False)
        ]

    fake = ModuleType("spacy")
    fake.load = lambda name: pipeline if name == "en" else (_ for _ in ()).throw(OSError(name))
    monkeypatch.setitem(sys.modules, "spacy", fake)
    assert token_tags(["Rex", " is", " not", " br", "ight"], Spacy("en")) == ["NOUN", "AUX", "PART", "NOUN", "NOUN"]
    with pytest.raises(ValueError, match="python -m spacy download xx"):
        Spacy("xx")
    with pytest.raises(ValueError, match="no parts of speech"):
        token_tags(["Rex"], Spacy(lambda text: [SimpleNamespace(text="Rex", idx=0, pos_="")]))
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ValueError, match="pip install spacy"):
        Spacy("en")


def test_what_cannot_be_tagged_is_named():
    with pytest.raises(ValueError, match="has no tokenizer"):
        profile(ck.Model(architectures.build("llama")[0]), [[5, 6]], Lexicon(), progress=False)
    with pytest.raises(ValueError, match="'zeroed' or 'kept', not 'dropped'"):
        profile(ck.load("deductor-5k"), TEXTS, Lexicon(), first_column="dropped", progress=False)
    with pytest.raises(ValueError, match="overlaps another"):
        token_tags(["ab"], Spacy(lambda text: [SimpleNamespace(text="ab", idx=i, pos_="X") for i in (0, 1)]))
