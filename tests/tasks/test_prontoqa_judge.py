"""The judge of proofs, against published golds, truth tables and mutations with a known verdict."""

import itertools
import json
import os
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit.tasks.prontoqa.logic import And, Atom, Formula, Not, Or, Rule, about, conjunction
from circuitkit.tasks.prontoqa.parsing import ParseError, parse, sentences

prontoqa = ck.tasks.prontoqa
MULTI_HOP = [rule for rule in prontoqa.RULES if rule not in prontoqa.ONE_HOP_RULES]


def holds(form: Formula, world: dict[str, bool], name: str) -> bool:
    """Evaluate a form in a world that says of each predicate whether `name` has it."""
    match form:
        case Atom(predicate, _):
            return world[predicate]
        case Not(operand):
            return not holds(operand, world, name)
        case And(operands):
            return all(holds(operand, world, name) for operand in operands)
        case Or(operands):
            return any(holds(operand, world, name) for operand in operands)
        case Rule(antecedent, consequent):
            return not holds(about(antecedent, name), world, name) or holds(about(consequent, name), world, name)


def predicates(form: Formula) -> set[str]:
    match form:
        case Atom(predicate, _):
            return {predicate}
        case Not(operand):
            return predicates(operand)
        case And(operands) | Or(operands):
            return set().union(*map(predicates, operands))
        case Rule(antecedent, consequent):
            return predicates(antecedent) | predicates(consequent)


def entails(theory: str, statement: str) -> bool:
    """Decide by truth tables whether the statement holds in every world in which the theory does."""
    axioms = [claim.form for text in sentences(theory) for claim in parse(text)]
    (goal,) = [claim.form for claim in parse(statement)]
    name = statement.split()[0]
    names = sorted(set().union(*map(predicates, [*axioms, goal])))
    worlds = (dict(zip(names, bits, strict=True)) for bits in itertools.product([False, True], repeat=len(names)))
    return all(holds(goal, w, name) for w in worlds if all(holds(axiom, w, name) for axiom in axioms))


def negated(sentence: str) -> str:
    return sentence.replace(" is not ", " is ") if " is not " in sentence else sentence.replace(" is ", " is not ")


rules_and_hops = st.one_of(
    st.tuples(st.sampled_from(MULTI_HOP), st.integers(1, 3)),
    st.tuples(st.sampled_from(prontoqa.ONE_HOP_RULES), st.just(1)),
)


@pytest.mark.skipif("CIRCUITKIT_DATA" not in os.environ, reason="CIRCUITKIT_DATA names no folder of published data")
def test_every_published_gold_is_strictly_correct():
    published = json.loads((Path(os.environ["CIRCUITKIT_DATA"]) / "prontoqa/prompts.json").read_text())
    pairs = [pair for run in published.values() for pair in zip(run["prompts"], run["gold"], strict=True)]
    assert len(pairs) == 1800
    assert [pair for pair in pairs if not prontoqa.judge(*pair).strict] == []


@given(
    st.one_of(
        st.tuples(st.sampled_from(MULTI_HOP), st.integers(1, 5)),
        st.tuples(st.sampled_from(prontoqa.ONE_HOP_RULES), st.just(1)),
    ),
    st.sampled_from(["none", "relevant", "irrelevant"]),
    st.integers(0, 2**32),
)
@settings(max_examples=80, deadline=None)
def test_every_gold_that_we_draw_is_strictly_correct(rule_hops, distractors, seed):
    rule, hops = rule_hops
    (example,) = prontoqa.generate(rule, hops, shots=0, n=1, seed=seed, distractors=distractors)
    verdict = prontoqa.judge(example.judged, example.gold)
    assert verdict.strict
    assert verdict.correct
    assert verdict.steps[-1].concludes
    assert {step.kind for step in verdict.steps} & {"invalid", "unparsed", "non_atomic", "skip"} == set()


@given(rules_and_hops, st.sampled_from(["none", "irrelevant"]), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_direct_label_is_what_truth_tables_say(rule_hops, distractors, seed):
    rule, hops = rule_hops
    (example,) = prontoqa.generate(rule, min(hops, 2), shots=0, n=1, seed=seed, mode="direct", distractors=distractors)
    if example.label:
        assert entails(example.question, example.statement)
    else:
        (goal,) = [claim.form for claim in parse(example.statement)]
        axioms = [claim.form for text in sentences(example.question) for claim in parse(text)]
        name = example.statement.split()[0]
        names = sorted(set().union(*map(predicates, [*axioms, goal])))
        for bits in itertools.product([False, True], repeat=len(names)):
            world = dict(zip(names, bits, strict=True))
            if all(holds(axiom, world, name) for axiom in axioms):
                assert not holds(goal, world, name)


def single(sentences: list[str]) -> list[str]:
    """Keep the sentences that say one thing of a name."""
    return [s for s in sentences if s.split()[1] == "is" and " or " not in s and " and " not in s]


@given(rules_and_hops, st.integers(0, 2**32), st.integers(0, 4))
@settings(max_examples=300, deadline=None)
def test_no_text_proves_what_does_not_follow(rule_hops, seed, edits):
    """Golds edited at random, on theories that lack a sentence or ask for another one, are never unsound."""
    rule, hops = rule_hops
    random = Random(seed)
    (example,) = prontoqa.generate(rule, hops, shots=0, n=1, seed=seed)
    theory, proof = sentences(example.question), list(example.steps)
    said = single([*theory, *proof])
    pool = [*theory, *map(negated, said), *(f"Assume {s}" for s in said), *(f"This contradicts with {s}" for s in said)]
    goal = example.statement
    if random.random() < 0.7:
        theory.remove(random.choice(theory))
    if random.random() < 0.3:
        goal = random.choice([*said, *map(negated, said)])
        proof.append(goal)
    for _ in range(edits):
        place = random.randrange(len(proof))
        match random.choice(["drop", "insert", "replace", "swap"]):
            case "drop" if len(proof) > 1:
                del proof[place]
            case "insert":
                proof.insert(place, random.choice(pool))
            case "replace":
                proof[place] = random.choice(pool)
            case _:
                other = random.randrange(len(proof))
                proof[place], proof[other] = proof[other], proof[place]
    verdict = prontoqa.judge(f"{' '.join(theory)} Prove: {goal}", " ".join(proof))
    assert verdict.correct >= verdict.strict
    assert not verdict.correct or entails(" ".join(theory), goal)


@given(rules_and_hops, st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_without_its_conclusion_or_with_it_denied_a_proof_is_not_one(rule_hops, seed):
    rule, hops = rule_hops
    (example,) = prontoqa.generate(rule, hops, shots=0, n=1, seed=seed)
    cut = " ".join(example.steps[:-1])
    assert not prontoqa.judge(example.judged, cut).correct
    last = example.steps[-1]
    if " or " not in last and " and " not in last and not last.startswith("Since"):
        assert not prontoqa.judge(example.judged, f"{cut} {negated(last)}").correct


@given(st.integers(1, 5), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_a_missing_premise_costs_strictness_only(hops, seed):
    (example,) = prontoqa.generate("ModusPonens", hops, shots=0, n=1, seed=seed)
    verdict = prontoqa.judge(example.judged, " ".join(example.steps[1:]))
    assert verdict.correct
    assert not verdict.strict


THEORY = "Every wumpus is a tumpus. Tumpuses are loud. Every vumpus is shy. Fae is a wumpus."
CASES = "Lempuses are loud. Impuses are loud. Fae is a lempus or an impus."
DENIED = "Everything that is a lempus or an impus is loud. Fae is not loud."


@pytest.mark.parametrize(
    ("question", "proof", "correct", "strict", "kind"),
    [
        # A whole proof, in its plain and its plural wording.
        (
            f"{THEORY} Prove: Fae is loud.",
            "Fae is a wumpus. Every wumpus is a tumpus. Fae is a tumpus. Tumpuses are loud. Fae is loud.",
            True,
            True,
            "implication_elimination",
        ),
        (
            f"{THEORY} Prove: Fae is loud.",
            "Fae is a wumpus. Wumpuses are tumpuses. Fae is a tumpus. Each tumpus is loud. Fae is loud.",
            True,
            True,
            "implication_elimination",
        ),
        # A step left out: the rules are there.
        (
            f"{THEORY} Prove: Fae is loud.",
            "Fae is a wumpus. Every wumpus is a tumpus. Tumpuses are loud. Fae is loud.",
            True,
            False,
            "non_atomic",
        ),
        # A rule composed of two.
        (
            f"{THEORY} Prove: Fae is loud.",
            "Fae is a wumpus. Every wumpus is loud. Fae is loud.",
            True,
            False,
            "implication_elimination",
        ),
        # The premise of another concept.
        (f"{THEORY} Prove: Fae is shy.", "Fae is a wumpus. Every vumpus is shy. Fae is shy.", False, False, "invalid"),
        # A rule the wrong way round.
        (
            "Every wumpus is loud. Fae is loud. Prove: Fae is a wumpus.",
            "Fae is loud. Every wumpus is loud. Fae is a wumpus.",
            False,
            False,
            "invalid",
        ),
        # Modus tollens.
        (
            "Every wumpus is loud. Fae is not loud. Prove: Fae is not a wumpus.",
            "Fae is not loud. Every wumpus is loud. Fae is not a wumpus.",
            True,
            False,
            "non_atomic",
        ),
        # Wrong steps and steps after the conclusion do not matter.
        (
            f"{THEORY} Prove: Fae is a tumpus.",
            "Fae is a zumpus. Fae is a wumpus. Every wumpus is a tumpus. Fae is a tumpus. Fae is cold.",
            True,
            True,
            "invalid",
        ),
        # The conclusion alone, with no reason given.
        (f"{THEORY} Prove: Fae is loud.", "Fae is loud.", False, False, "invalid"),
        # One case of two, and the disjunction never used up.
        (
            f"{CASES} Prove: Fae is loud.",
            "Assume Fae is a lempus. Lempuses are loud. Fae is loud.",
            False,
            False,
            "implication_elimination",
        ),
        (
            f"{CASES} Prove: Fae is loud.",
            "Assume Fae is a lempus. Lempuses are loud. Fae is loud. "
            "Assume Fae is an impus. Impuses are loud. Fae is loud.",
            False,
            False,
            "implication_elimination",
        ),
        (
            f"{CASES} Prove: Fae is loud.",
            "Assume Fae is a lempus. Lempuses are loud. Fae is loud. Since Fae is a lempus or an impus, Fae is loud.",
            False,
            False,
            "implication_elimination",
        ),
        # Assuming what is to be proved.
        (
            f"{CASES} Prove: Fae is loud.",
            "Assume Fae is loud. Since Fae is a lempus or an impus, Fae is loud.",
            False,
            False,
            "repetition",
        ),
        # An assumption that is not the one denied.
        (
            f"{DENIED} Prove: Fae is not an impus.",
            "Assume Fae is a lempus. Fae is a lempus or an impus. Everything that is a lempus or an impus is loud. "
            "Fae is loud. This contradicts with Fae is not loud. Fae is not an impus.",
            False,
            False,
            "invalid",
        ),
        # A contradiction reached without saying how, and one with nothing.
        (
            f"{DENIED} Prove: Fae is not an impus.",
            "Assume Fae is an impus. This contradicts with Fae is not loud. Fae is not an impus.",
            True,
            False,
            "proof_by_contradiction",
        ),
        (
            f"{DENIED} Prove: Fae is not a wumpus.",
            "Assume Fae is a wumpus. This contradicts with Fae is not loud. Fae is not a wumpus.",
            False,
            False,
            "invalid",
        ),
        # Not of the language, and cut short.
        (f"{THEORY} Prove: Fae is a tumpus.", "Colourless green ideas sleep.", False, False, "unparsed"),
        (
            "Fae is loud. Prove: Fae is loud or a wumpus.",
            "Fae is loud. Fae is a wumpus or loud. Fae is",
            True,
            True,
            "disjunction_introduction",
        ),
        # What follows a new question is not read.
        (
            f"{THEORY} Prove: Fae is a tumpus.",
            "Fae is shy.\n\nQ: Fae is a tumpus. Every wumpus is a tumpus. Fae is a tumpus.",
            False,
            False,
            "invalid",
        ),
    ],
)
def test_known_verdicts(question, proof, correct, strict, kind):
    verdict = prontoqa.judge(question, proof)
    assert (verdict.correct, verdict.strict, verdict.steps[-1].kind) == (correct, strict, kind)


@pytest.mark.parametrize(
    ("sentence", "form"),
    [
        ("Fae is a loud wumpus.", conjunction([Atom("loud", "Fae"), Atom("wumpus", "Fae")])),
        (
            "Fae is not an impus and Fae is not a lempus.",
            conjunction([Not(Atom("impus", "Fae")), Not(Atom("lempus", "Fae"))]),
        ),
        ("Fae is loud or a wumpus.", Or(frozenset({Atom("loud", "Fae"), Atom("wumpus", "Fae")}))),
        (
            "Loud wumpuses are not shy.",
            Rule(conjunction([Atom("loud", None), Atom("wumpus", None)]), Not(Atom("shy", None))),
        ),
        ("No wumpus is shy.", Rule(Atom("wumpus", None), Not(Atom("shy", None)))),
        (
            "Everything that is loud or a wumpus is a tumpus.",
            Rule(Or(frozenset({Atom("loud", None), Atom("wumpus", None)})), Atom("tumpus", None)),
        ),
    ],
)
def test_sentences_are_read_into_their_forms(sentence, form):
    assert [claim.form for claim in parse(sentence)] == [form]


@pytest.mark.parametrize(
    "sentence", ["", ".", "Fae.", "Fae is.", "Wumpus is loud.", "Fae is a.", "is loud.", "Since Fae is loud."]
)
def test_what_is_not_a_sentence_is_refused(sentence):
    with pytest.raises(ParseError):
        parse(sentence)


def test_a_question_that_cannot_be_judged_is_refused():
    with pytest.raises(ValueError, match="one 'Prove:'"):
        prontoqa.judge("Fae is loud. True or false: Fae is loud.", "Fae is loud.")
    with pytest.raises(ValueError, match=r"cannot be read.*Hello"):
        prontoqa.judge("Hello there. Prove: Fae is loud.", "Fae is loud.")


@given(st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_text_at_all_is_judged(text):
    question = "Every wumpus is loud. Fae is a wumpus. Prove: Fae is loud."
    assert not prontoqa.judge(question, text).strict or "Fae is loud" in " ".join(text.split())
