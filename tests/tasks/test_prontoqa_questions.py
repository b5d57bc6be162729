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
from circuitkit.tasks.prontoqa.parsing import sentences

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

NAMED = "|".join((*CONCEPTS, *PROPERTIES))

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


WIDE_SENTENCES = {
    "conjunction_introduction": lambda h, w: (w + 2) * h - 1,
    "conjunction_elimination": lambda h, w: 3 * h - 1,
    "disjunction_introduction": lambda h, w: 3 * h - 1,
    "disjunction_elimination": lambda h, w: 3 * w + 1,
    "proof_by_contradiction": lambda h, w: 6 * w + 1,
}


@given(st.sampled_from(sorted(WIDE_SENTENCES)), st.integers(1, 3), st.integers(2, 4), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_width_is_how_many_a_proof_joins(rule, hops, width, seed):
    hops = 1 if rule in prontoqa.ONE_HOP_RULES else hops
    (example,) = prontoqa.generate(rule, hops, shots=0, n=1, seed=seed, width=width)
    assert len(example.steps) == WIDE_SENTENCES[rule](hops, width)
    if rule in ("conjunction_elimination", "disjunction_introduction"):
        joined = max(example.steps, key=lambda step: len(re.findall(r"\w+", step)))
        assert sum(word in (*CONCEPTS, *PROPERTIES) for word in re.findall(r"\w+", joined)) >= width
    if rule in prontoqa.ONE_HOP_RULES:
        assert sum(step.startswith("Assume ") for step in example.steps) == width
    drawn = [word for word in re.findall(r"\w+", example.statement) if word in (*CONCEPTS, *PROPERTIES)]
    assert len(drawn) == len(set(drawn))


def test_disjunctions_of_more_than_two_are_said_in_both_ways():
    said = [example.statement for example in prontoqa.generate("OrIntro", shots=0, n=50, seed=0, width=3)]
    assert {statement.count(",") for statement in said} == {0, 2}
    assert all(statement.count(" or ") == (1 if "," in statement else 2) for statement in said)


@pytest.mark.parametrize("rule", prontoqa.RULES)
@pytest.mark.parametrize("shown", ["same", "others", "ood"])
def test_exemplars_in_and_out_of_distribution(rule, shown):
    examples = prontoqa.generate(rule, shots=8, n=40, seed=3, exemplar_rules=shown)
    rules = {each for example in examples for each in example.exemplar_rules}
    others = set(prontoqa.RULES) - {rule}
    left_out = {
        "implication_elimination": {"disjunction_elimination", "proof_by_contradiction"},
        "conjunction_introduction": {"proof_by_contradiction"},
        "disjunction_introduction": {"proof_by_contradiction"},
    }
    assert rules == {"same": {rule}, "others": others, "ood": others - left_out.get(rule, set())}[shown]
    for example in examples:
        assert len(example.exemplars) == 8
        assert example.prompt == "".join(example.exemplars) + f"Q: {example.question} {example.query}{example.gap}A:"


@given(st.sampled_from(prontoqa.RULES), st.sampled_from(["others", "ood"]), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_the_questions_newlines_hold_in_exemplars_of_other_rules(rule, shown, seed):
    (example,) = prontoqa.generate(rule, shots=5, n=1, seed=seed, exemplar_rules=shown)
    gap = "\n\n" if rule in prontoqa.ONE_HOP_RULES else "\n"
    for exemplar in example.exemplars:
        assert re.fullmatch(rf"Q: [^\n]*Prove: [^\n]*{gap}A: (.|\n)*[^\n]{gap}\n", exemplar)
        question, proof = exemplar.split(f"{gap}A: ")
        assert prontoqa.judge(question, proof).sound
    assert example.prompt.endswith(f"{gap}A:")


def test_hops_and_width_of_exemplars():
    def of(rule, **more):
        return prontoqa.generate(rule, shots=4, n=10, seed=1, **more)

    for example in of("ModusPonens", hops=3, exemplar_hops=1):
        assert [len(sentences(text)) for text in example.exemplars] == [6] * 4  # two given, one asked, three proving
    for example in of("ModusPonens", exemplar_rules="ood"):
        # One hop of width four: a conjunction or disjunction names four.
        assert all(len({*re.findall(rf"\b({NAMED})", text)}) == 4 for text in example.exemplars)
    for example in of("OrElim", exemplar_rules=["AndIntro"], exemplar_hops=2, exemplar_width=3):
        assert all(len(sentences(text.split("A: ")[1])) == 9 for text in example.exemplars)
    for example in of("OrElim", exemplar_rules="ood"):
        for rule, text in zip(example.exemplar_rules, example.exemplars, strict=True):
            hops = 1 if rule in prontoqa.ONE_HOP_RULES else 3
            assert len(sentences(text.split("A: ")[1])) == SENTENCES[rule](hops)


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
        ({"rule": "ModusPonens", "width": 3}, "implication_elimination joins nothing, so it has no width"),
        ({"rule": "AndIntro", "width": 1}, "width is how many are joined, 2 or more, not 1"),
        ({"rule": "AndIntro", "hops": 5, "width": 4}, "takes 15 properties that agree, and the language has 13"),
        ({"rule": "OrElim", "width": 17}, "takes 18 concepts, and the language has 17"),
        ({"rule": "AndIntro", "width": 3, "mode": "direct"}, "is for proofs: mode='direct' has none"),
        ({"rule": "AndIntro", "exemplar_rules": "Induction"}, "unknown deduction rule 'Induction'"),
        ({"rule": "AndIntro", "exemplar_rules": []}, "exemplar_rules names no rule"),
        ({"rule": "AndIntro", "exemplar_hops": 6}, "hops must be from 1 to 5, not 6"),
        ({"rule": "OrElim", "exemplar_hops": 2}, "exemplars of disjunction_elimination have one hop only"),
        ({"rule": "AndIntro", "exemplar_rules": "ModusPonens", "exemplar_width": 3}, "have no width"),
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
