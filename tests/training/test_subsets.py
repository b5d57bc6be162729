"""Nested subsets: each lies within the larger ones, none touches what is held out, and a duplicate is refused."""

import hashlib
import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuitkit.training.errors import TrainingError
from circuitkit.training.subsets import nested_subsets


def numbered(n):
    return [{"question": f"What follows {i}?", "chain": f"{i + 1}"} for i in range(n)]


@st.composite
def splits(draw):
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True))
    held_out = draw(st.integers(0, 20))
    spare = draw(st.integers(0, 10))
    return sizes, held_out, max(sizes) + held_out + spare, draw(st.integers(0, 2**32))


@given(splits())
def test_subsets_are_nested_disjoint_from_the_held_out_and_of_the_asked_sizes(split):
    sizes, held_out, n, seed = split
    examples = numbered(n)
    drawn = nested_subsets(examples, sizes, held_out, seed)
    questions = {size: {each["question"] for each in subset} for size, subset in drawn.subsets.items()}
    aside = {each["question"] for each in drawn.held_out}
    assert list(drawn.subsets) == sorted(sizes, reverse=True)
    assert len(aside) == held_out
    for size in sizes:
        assert len(questions[size]) == size
        assert not questions[size] & aside
        assert all(questions[size] <= questions[larger] for larger in sizes if larger >= size)
    assert all(each in examples for subset in [*drawn.subsets.values(), drawn.held_out] for each in subset)
    assert nested_subsets(examples, sizes, held_out, seed) == drawn


@given(splits(), st.randoms(use_true_random=False))
def test_a_hash_is_of_the_contents_alone(split, random):
    sizes, held_out, n, seed = split
    drawn = nested_subsets(numbered(n), sizes, held_out, seed)
    assert set(drawn.hashes) == {"held out", *sizes}
    for name, members in [("held out", drawn.held_out), *drawn.subsets.items()]:
        lines = [json.dumps(dict(each), sort_keys=True) for each in members]
        random.shuffle(lines)
        assert drawn.hashes[name] == hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    altered = [{**each, "chain": each["chain"] + "!"} for each in numbered(n)]
    assert all(nested_subsets(altered, sizes, held_out, seed).hashes[size] != drawn.hashes[size] for size in sizes)


def test_the_paper_s_sizes_take_a_thousand_examples_whole():
    drawn = nested_subsets(numbered(1000))
    assert (len(drawn.held_out), *drawn.subsets) == (72, 928, 464, 232, 116, 58, 29)
    other = nested_subsets(numbered(1000), seed=1)
    assert other.held_out != drawn.held_out and other.hashes[29] != drawn.hashes[29]


@given(st.integers(0, 29), st.integers(0, 29), st.sampled_from([" ", "\n", "  \t "]))
def test_a_duplicate_is_refused_wherever_it_would_land(first, second, gap):
    examples = numbered(30)
    if first == second:
        second = (second + 1) % 30
    examples[second] = {"question": gap + examples[first]["question"].replace(" ", gap), "chain": "other"}
    early, late = sorted((first, second))
    with pytest.raises(TrainingError, match=rf"examples {early} and {late} ask the same question.*1 of 30"):
        nested_subsets(examples, (20, 10), held_out=10)


@dataclass(frozen=True)
class Asked:
    question: str
    chain: str


def test_dataclasses_count_as_mappings_do():
    as_objects = [Asked(**each) for each in numbered(12)]
    assert nested_subsets(as_objects, (6,), 2).hashes == nested_subsets(numbered(12), (6,), 2).hashes


@pytest.mark.parametrize(
    ("sizes", "held_out", "said"),
    [
        ((), 2, "no size"),
        ((4, 4), 2, "each once"),
        ((4, 0), 2, "sizes of 1 or more"),
        ((4,), -1, "hold out 0 or more"),
        ((9,), 2, "need 11 examples, and there are 10"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes, held_out, said):
    with pytest.raises(TrainingError, match=said):
        nested_subsets(numbered(10), sizes, held_out)


@pytest.mark.parametrize("bad", [{"chain": "no question"}, {"question": "  "}, {"question": 3}])
def test_an_example_without_a_question_is_named(bad):
    with pytest.raises(TrainingError, match="example 4 has no question"):
        nested_subsets([*numbered(4), bad, *numbered(9)[5:]], (3,), 2)
