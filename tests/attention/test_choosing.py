"""Tokens chosen by the attention that they receive, and random ones beside them."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit import attention
from circuitkit.spans import SpanError

PROMPTS = [
    "Q: Every wumpus is a dumpus. Fae is a wumpus. Prove: Fae is a dumpus.\nA:",
    "Q: Loud impuses are numpuses. Rex is an impus. Rex is loud. Every numpus is shy. Prove: Rex is shy.\nA:",
    "Q:  Rex is an angry vumpus. Prove: Rex is a vumpus.\nA:",
]
ANSWERS = ["Fae is a wumpus.", "Rex is an impus. Rex is loud. Rex is a loud impus.", "Rex is an angry vumpus."]


def by_hand(model, prompt, answer, layers, heads):
    """The mean rows of the captured pattern from which the answer's tokens are predicted, one prompt alone."""
    n = len(model.tokens(prompt).ids[0])
    captured = attention.capture(model, f"{prompt} {answer}")
    rows = [captured.pattern(layer, head)[n - 1 : -1, :n].mean(0) for layer in layers for head in heads]
    return torch.stack(rows).mean(0)


@pytest.mark.parametrize("name", ["deductor-130k", "deductor-400k"])
@pytest.mark.parametrize(("layers", "heads"), [(None, None), (1, [0, 2]), ([0, 2], 3)])
def test_what_a_proof_attends_to_is_what_its_rows_of_the_pattern_say(name, layers, heads):
    model = ck.load(name)
    found = attention.received(model, PROMPTS, ANSWERS, layers, heads, progress=False)
    at = range(model.n_layers) if layers is None else [layers] if isinstance(layers, int) else layers
    which = range(model.n_heads(0)) if heads is None else [heads] if isinstance(heads, int) else heads
    for prompt, answer, shares in zip(PROMPTS, ANSWERS, found, strict=True):
        torch.testing.assert_close(shares, by_hand(model, prompt, answer, at, which), atol=1e-5, rtol=0)
        assert 0 < float(shares.sum()) <= 1


@pytest.mark.parametrize("size", [1, 2])
def test_batches_make_no_difference(size):
    model = ck.load("deductor-20k")
    together = attention.received(model, PROMPTS, ANSWERS, progress=False)
    apart = attention.received(model, PROMPTS, ANSWERS, batch_size=size, progress=False)
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_a_head_made_to_attend_to_one_token_gives_it_all():
    model = ck.load("deductor-20k")
    with model.intervene([attention.force(layer, keys=[3]) for layer in range(model.n_layers)]):
        (shares,) = attention.received(model, PROMPTS[:1], ANSWERS[:1], progress=False)
    assert float(shares[3]) == pytest.approx(1.0, abs=1e-6)
    assert attention.most_attended([shares], 1, [tuple(range(1, len(shares) - 1))]) == ((3,),)


def test_an_empty_answer_attends_to_nothing_and_is_refused():
    with pytest.raises(ValueError, match="gold of prompt 1 is empty"):
        attention.received(ck.load("deductor-5k"), PROMPTS[:2], [ANSWERS[0], ""], progress=False)


chosen_among = st.lists(st.integers(0, 40), min_size=1, max_size=30, unique=True).flatmap(
    lambda among: st.tuples(st.just(tuple(among)), st.lists(st.sampled_from(among), min_size=1, unique=True))
)


@given(st.lists(chosen_among, min_size=1, max_size=4), st.integers(0, 2**32))
@settings(max_examples=100)
def test_random_tokens_are_as_many_and_others_as_far_as_there_are_any(rows, seed):
    among, chosen = ([row[i] for row in rows] for i in (0, 1))
    drawn = attention.random_tokens(chosen, among, seed=seed)
    assert drawn == attention.random_tokens(chosen, among, seed=seed)
    for places, named, row in zip(among, chosen, drawn, strict=True):
        assert len(set(row)) == len(row) == len(named)
        assert set(row) <= set(places)
        shared = len(set(row) & set(named))
        assert shared == max(0, 2 * len(named) - len(places))


@given(chosen_among, st.integers(0, 2**32))
@settings(max_examples=100)
def test_random_tokens_of_the_same_kind(row, seed):
    among, chosen = row
    kinds = [("noun", "verb", "mark")[at % 3] for at in range(41)]
    (drawn,) = attention.random_tokens([chosen], [among], seed=seed, kinds=[kinds])
    assert Counter(kinds[at] for at in drawn) == Counter(kinds[at] for at in chosen)
    for kind in set(kinds):
        there, named = (sum(kinds[at] == kind for at in each) for each in (among, chosen))
        shared = sum(kinds[at] == kind for at in set(drawn) & set(chosen))
        assert shared == max(0, 2 * named - there)
    assert attention.overlap([chosen], [drawn]) == len(set(drawn) & set(chosen)) / len(chosen)


def test_draws_differ_from_seed_to_seed_and_reach_all():
    drawn = {attention.random_tokens([(0,)], [range(10)], seed=seed)[0][0] for seed in range(200)}
    assert drawn == set(range(1, 10))


@given(st.lists(st.floats(0, 1), min_size=4, max_size=20), st.integers(1, 4))
@settings(max_examples=60)
def test_the_most_attended_receive_no_less_than_the_others(shares, k):
    row = torch.tensor(shares, dtype=torch.float64)
    among = tuple(range(len(shares)))
    (chosen,) = attention.most_attended([row], k, [among])
    assert len(chosen) == k
    assert list(chosen) == sorted(chosen)
    left = [shares[at] for at in among if at not in chosen]
    assert not left or min(shares[at] for at in chosen) >= max(left)


def test_bad_choices_are_told_of():
    shares = [torch.ones(3), torch.ones(3)]
    with pytest.raises(ValueError, match="prompt 1 has 1 tokens to choose 2 from: ask for fewer"):
        attention.most_attended(shares, 2, [(0, 1), (2,)])
    with pytest.raises(ValueError, match="prompt 0 has 3 tokens, so there is no position 7"):
        attention.most_attended(shares, 1, [(7,), (2,)])
    with pytest.raises(ValueError, match="1 or more, not 0"):
        attention.most_attended(shares, 0, [(0,), (2,)])
    with pytest.raises(ValueError, match="position 5 of prompt 0 is chosen, and none of those that may be drawn"):
        attention.random_tokens([(5,)], [(1, 2)], seed=0)


def test_each_token_has_its_words_part_of_speech():
    model = ck.load("deductor-130k")
    (tags,) = attention.parts_of_speech(model, [PROMPTS[2]])
    words = attention.capture(model, PROMPTS[2]).words[0]
    told = dict(zip(words, tags, strict=True))
    assert told[" Rex"] == "entity"
    assert told[" vumpus"] == "concept"
    assert told[" angry"] == "property"
    assert told[" is"] == "copula"
    assert told["Q"] == told["A"] == "marker"
    assert told["\n"] == "space"
    # A tagger of one's own, of which words without a tag are the others.
    (own,) = attention.parts_of_speech(model, ["Fae is loud."], tagger=lambda text: [(0, 3, "name")])
    assert own == ("name", "other", "other", "other")
    with pytest.raises(SpanError, match="no tokenizer"):
        attention.parts_of_speech(ck.Model(model.hf, None), ["Fae is loud."])
