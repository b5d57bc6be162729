"""The generator: what it draws, in what form, and what it refuses."""

import hashlib
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit.tasks.prontoqa.language import CONCEPTS, ENTITIES, PROPERTIES

prontoqa = ck.tasks.prontoqa
MULTI_HOP = [rule for rule in prontoqa.RULES if rule not in prontoqa.ONE_HOP_RULES]
SENTENCES = {
    "implication_elimination": lambda h: 2 * h + 1,
    "conjunction_introduction": lambda h: 4 * h - 1,
    "conjunction_elimination": lambda h: 3 * h - 1,
    "disjunction_introduction": lambda h: 3 * h - 1,
    "disjunction_elimination": lambda h: 7,
    "proof_by_contradiction": lambda h: 13,
}

rules_and_hops = st.one_of(
    st.tuples(st.sampled_from(MULTI_HOP), st.integers(1, 5)),
    st.tuples(st.sampled_from(prontoqa.ONE_HOP_RULES), st.just(1)),
)
distractors = st.sampled_from(["none", "relevant", "irrelevant"])
modes = st.sampled_from(["proof", "direct"])


def shape(text: str) -> str:
    """Replace every name, concept and property by its class, keeping case and number."""
    text = re.sub(rf"\b({'|'.join(ENTITIES)})\b", "NAME", text)
    text = re.sub(rf"\b({'|'.join(PROPERTIES)})\b", "PROPERTY", text)
    text = re.sub(rf"\b({'|'.join(CONCEPTS)})(es)?\b", r"CONCEPT\2", text)
    text = re.sub(rf"\b({'|'.join(c.capitalize() for c in CONCEPTS)})es\b", "PLURAL", text)
    return re.sub(r"\ban\b", "a", text)


@given(rules_and_hops, distractors, modes, st.integers(0, 2**32), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_equal_arguments_give_equal_examples(rule_hops, distractor, mode, seed, shots):
    rule, hops = rule_hops
    arguments = {"hops": hops, "shots": shots, "n": 3, "seed": seed, "distractors": distractor, "mode": mode}
    assert prontoqa.generate(rule, **arguments) == prontoqa.generate(rule, **arguments)


@given(rules_and_hops, distractors, st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_proof_has_as_many_sentences_as_its_hops_ask_for(rule_hops, distractor, seed):
    rule, hops = rule_hops
    (example,) = prontoqa.generate(rule, hops, shots=0, n=1, seed=seed, distractors=distractor)
    assert len(example.steps) == SENTENCES[rule](hops)
    assert " ".join(example.steps) == re.sub(r"\s+", " ", example.gold)
    assert example.prompt == f"Q: {example.question} {example.query}{example.prompt[-4:].lstrip('.')}"


@given(rules_and_hops, modes, st.integers(0, 8), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_exemplars_are_complete_and_never_the_question_itself(rule_hops, mode, shots, seed):
    rule, hops = rule_hops
    (example,) = prontoqa.generate(rule, hops, shots=shots, n=1, seed=seed, mode=mode)
    blocks = example.prompt.split("Q: ")[1:]
    assert len(blocks) == shots + 1
    assert all(not block.startswith(f"{example.question} ") for block in blocks[:-1])
    assert all(block.endswith("\n\n") and "\nA: " in block for block in blocks[:-1])
    assert blocks[-1].endswith("\nA:")


@given(rules_and_hops, st.sampled_from(["relevant", "irrelevant"]), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_distractors_add_a_rule_a_hop_that_the_proof_does_not_use(rule_hops, distractor, seed):
    rule, hops = rule_hops
    (example,) = prontoqa.generate(rule, hops, shots=0, n=1, seed=seed, distractors=distractor)
    stated = [f"{sentence.strip()}." for sentence in example.question.split(".") if sentence.strip()]
    universal = [sentence for sentence in stated if sentence.split()[0] not in ENTITIES]
    assert len([sentence for sentence in universal if sentence not in example.gold]) == hops


def test_seeds_differ_and_names_and_concepts_vary():
    examples = prontoqa.generate("ModusPonens", hops=3, shots=0, n=200, seed=1)
    assert len({example.question for example in examples}) == 200
    assert {example.statement.split()[0] for example in examples} == set(ENTITIES)
    assert examples[:3] != prontoqa.generate("ModusPonens", hops=3, shots=0, n=3, seed=2)
    used = {word for example in examples for word in re.findall(r"\w+", example.question.lower())}
    assert set(CONCEPTS) <= used


@pytest.mark.parametrize("rule", prontoqa.RULES)
@pytest.mark.parametrize("distractor", ["none", "irrelevant", "relevant"])
def test_half_of_the_direct_statements_are_false(rule, distractor):
    examples = prontoqa.generate(rule, shots=0, n=600, seed=5, mode="direct", distractors=distractor)
    assert 0.42 < sum(example.label for example in examples) / 600 < 0.58
    assert all(example.answer == f" {example.label}" for example in examples)


@pytest.mark.parametrize("rule", prontoqa.RULES)
def test_contrary_evidence_keeps_negations_from_telling_the_answer(rule):
    def told_by_counting(distractor):
        """The accuracy of the best guess from the numbers of negations in the question and in the statement."""
        examples = prontoqa.generate(rule, shots=0, n=1000, seed=5, mode="direct", distractors=distractor)
        by_count: dict[tuple[int, int], list[bool]] = {}
        for e in examples:
            by_count.setdefault((e.question.count(" not "), e.statement.count(" not ")), []).append(e.label)
        return sum(max(sum(labels), len(labels) - sum(labels)) for labels in by_count.values()) / len(examples)

    assert told_by_counting("none") == 1
    assert told_by_counting("irrelevant") < 0.62


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "Induction"}, "unknown deduction rule 'Induction'.*ModusPonens"),
        ({"rule": "OrElim", "hops": 2}, "disjunction_elimination is defined for one hop only, not 2"),
        ({"rule": "ProofByContra", "hops": 3}, "proof_by_contradiction is defined for one hop only"),
        ({"rule": "ModusPonens", "hops": 6}, "hops must be from 1 to 5, not 6"),
        ({"rule": "ModusPonens", "shots": 9}, "shots must be from 0 to 8, not 9"),
        ({"rule": "ModusPonens", "distractors": "some"}, "distractors must be one of .*'some'"),
        ({"rule": "ModusPonens", "mode": "cot"}, "mode must be one of .*'cot'"),
        ({"rule": "ModusPonens", "n": -1}, "number of questions"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        prontoqa.generate(**arguments)


@pytest.mark.skipif("CIRCUITKIT_DATA" not in os.environ, reason="CIRCUITKIT_DATA names no folder of published data")
@pytest.mark.parametrize("rule", prontoqa.RULES)
@pytest.mark.parametrize("shots", [3, 8])
def test_questions_have_the_published_form(rule, shots):
    published = json.loads((Path(os.environ["CIRCUITKIT_DATA"]) / "prontoqa/prompts.json").read_text())
    theirs = published[f"{rule}/{shots}shot"]
    ours = prontoqa.generate(rule, shots=shots, n=300, seed=0)
    assert {shape(f"Q: {p.split('Q: ')[-1]}") for p in theirs["prompts"]} <= {
        shape(f"Q: {e.prompt.split('Q: ')[-1]}") for e in ours
    }
    assert {shape(gold) for gold in theirs["gold"]} <= {shape(example.gold) for example in ours}
    ends = {re.sub(r"[^\n]", "", prompt) for prompt in theirs["prompts"]}
    assert ends == {re.sub(r"[^\n]", "", example.prompt) for example in ours}


def test_draws_stay_what_they_were():
    """Model cards, pairs and everybody's seeds rest on them: a change here is a change of all their figures."""
    told = hashlib.sha256()
    for rule in prontoqa.RULES:
        for hops in (1,) if rule in prontoqa.ONE_HOP_RULES else (1, 2, 5):
            for distractor in ("none", "relevant", "irrelevant"):
                for mode, shots in (("proof", 0), ("proof", 3), ("direct", 2)):
                    arguments = {"hops": hops, "shots": shots, "n": 4, "distractors": distractor, "mode": mode}
                    for e in prontoqa.generate(rule, seed=7, **arguments):
                        drawn = [e.question, e.query, e.prompt, e.answer, e.steps, e.rule, e.hops, e.mode, e.label]
                        told.update(json.dumps(drawn).encode())
    assert told.hexdigest() == "e11c805047e656b5d5751c92be746c2f9a352f486536a3076cdc1881f327b054"
