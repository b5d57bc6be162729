"""The judge of proofs, against truth tables and mutations with a known verdict."""

import itertools
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
    for verb in (" is", " are"):
        if f"{verb} not " in sentence:
            return sentence.replace(f"{verb} not ", f"{verb} ")
    return sentence.replace(" is ", " is not ").replace(" are ", " are not ")


rules_and_hops = st.one_of(
    st.tuples(st.sampled_from(MULTI_HOP), st.integers(1, 3)),
    st.tuples(st.sampled_from(prontoqa.ONE_HOP_RULES), st.just(1)),
)


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
    assert (verdict.correct, verdict.strict, verdict.sound) == (True, True, True)
    assert verdict.steps[-1].concludes
    assert {step.verdict for step in verdict.steps} == {"correct"}


WIDE = [rule for rule in prontoqa.RULES if rule != "implication_elimination"]
wide = st.builds(
    lambda rule, hops, width: {"rule": rule, "hops": 1 if rule in prontoqa.ONE_HOP_RULES else hops, "width": width},
    st.sampled_from(WIDE),
    st.integers(1, 3),
    st.integers(3, 4),
)


@given(wide, st.sampled_from(["none", "relevant", "irrelevant"]), st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_every_wide_gold_is_strictly_correct_and_sound(shape, distractors, seed):
    (example,) = prontoqa.generate(**shape, shots=0, n=1, seed=seed, distractors=distractors)
    verdict = prontoqa.judge(example.judged, example.gold)
    assert (verdict.correct, verdict.strict, verdict.sound) == (True, True, True)
    assert {step.verdict for step in verdict.steps} == {"correct"}


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


@given(rules_and_hops, st.integers(2, 3), st.integers(0, 2**32), st.integers(0, 4))
@settings(max_examples=300, deadline=None)
def test_no_text_soundly_proves_what_does_not_follow(rule_hops, width, seed, edits):
    """Golds edited at random, on theories that lack a sentence or ask for another one, are never unsound."""
    rule, hops = rule_hops
    random = Random(seed)
    width = 2 if hops > 2 or rule not in WIDE else width
    (example,) = prontoqa.generate(rule, hops, shots=0, n=1, seed=seed, width=width)
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
    assert verdict.correct >= verdict.strict >= verdict.sound
    assert not verdict.sound or entails(" ".join(theory), goal)


def test_a_proof_without_its_conclusion_or_with_it_denied_is_not_one():
    for rule in prontoqa.RULES:
        for example in prontoqa.generate(rule, shots=0, n=20, seed=5):
            cut = " ".join(example.steps[:-1])
            assert not prontoqa.judge(example.judged, cut).correct
            assert not prontoqa.judge(example.judged, f"{cut} {negated(example.statement)}").correct


narrow = st.builds(
    lambda rule, hops: {"rule": rule, "hops": 1 if rule in prontoqa.ONE_HOP_RULES else hops},
    st.sampled_from(prontoqa.RULES),
    st.integers(1, 5),
)
mutants = st.tuples(
    st.one_of(narrow, wide), st.sampled_from(["none", "irrelevant"]), st.integers(0, 2**32), st.integers(0, 99)
)
# The published scorer takes an introduction for strict whatever its premises are.
BY_INTRODUCTION = ("conjunction_introduction", "disjunction_introduction", "proof_by_contradiction")
ABSENT = ("timpus", "yimpus", "rempus", "fompus", "fimpus", "terpus")


def drawn(mutant) -> tuple[prontoqa.Example, int]:
    """Draw the example that `mutant` names and the place of one of its steps before the last."""
    shape, distractors, seed, place = mutant
    (example,) = prontoqa.generate(**shape, shots=0, n=1, seed=seed, distractors=distractors)
    return example, place % (len(example.steps) - 1)


def judged_without(example: prontoqa.Example, place: int, *instead: str) -> prontoqa.Verdict:
    """Judge the gold with the step at `place` left out or exchanged; what another step says is not missed."""
    steps = [*example.steps[:place], *instead, *example.steps[place + 1 :]]
    verdict = prontoqa.judge(example.judged, " ".join(steps))
    if example.steps[place] not in steps:
        assert not verdict.sound
        assert not verdict.strict or (example.rule in BY_INTRODUCTION and len(example.steps) > 3)
    return verdict


@given(mutants)
@settings(max_examples=150, deadline=None)
def test_a_step_dropped_costs_soundness(mutant):
    judged_without(*drawn(mutant))


@given(mutants, st.sampled_from(ABSENT))
@settings(max_examples=150, deadline=None)
def test_a_premise_of_which_the_question_says_nothing_is_invalid(mutant, other):
    example, place = drawn(mutant)
    step = example.steps[place]
    concepts = [word.strip(".") for word in step.split() if "pus" in word]
    if concepts and " or " not in step and not step.startswith(("Assume", "This", "Since")):
        swapped = step.replace(concepts[0], f"{other}es" if concepts[0].endswith("puses") else other)
        assert judged_without(example, place, swapped).steps[place].verdict == "invalid"


@given(st.one_of(narrow, wide), st.integers(0, 2**32), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_a_premise_swapped_for_another_of_the_question_is_said_but_of_no_use(shape, seed, place):
    (example,) = prontoqa.generate(**shape, shots=0, n=1, seed=seed, distractors="irrelevant")
    premises = [i for i, step in enumerate(example.steps) if step in example.question]
    unused = [sentence for sentence in sentences(example.question) if sentence not in example.steps]
    at = premises[place % len(premises)]
    verdict = judged_without(example, at, unused[place % len(unused)])
    # Where the swap spoils the proof, nothing is left for the premise to be useless beside.
    assert verdict.steps[at].verdict == ("useless" if verdict.correct else "correct")


@given(st.one_of(narrow, wide), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_a_conclusion_said_first_is_not_yet_proved(shape, seed):
    (example,) = prontoqa.generate(**shape, shots=0, n=1, seed=seed)
    late = [example.steps[-1], *example.steps[:-1]]
    verdict = prontoqa.judge(example.judged, " ".join(late))
    assert not verdict.sound
    # "Since A, B." is two claims, of which the first may be a sentence of the question.
    concluded = verdict.steps[len(parse(late[0])) - 1]
    assert concluded.verdict in ("invalid", "non-atomic")


@given(mutants)
@settings(max_examples=150, deadline=None)
def test_a_negation_flipped_is_invalid(mutant):
    example, place = drawn(mutant)
    step = example.steps[place]
    # Under the assumption of a proof by contradiction, what is false may follow.
    if example.rule != "proof_by_contradiction" and not step.startswith(("Assume", "Since")):
        verdict = judged_without(example, place, negated(step))
        assert verdict.steps[place].verdict == "invalid"


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_a_hypothesis_left_open_is_no_proof(seed):
    (cases,) = prontoqa.generate("OrElim", shots=0, n=1, seed=seed)
    for left in (cases.steps[:3], cases.steps[3:6], cases.steps[:6], cases.steps[:3] + cases.steps[6:]):
        verdict = prontoqa.judge(cases.judged, " ".join(left))
        assert (verdict.correct, verdict.steps[-1].open_hypotheses > 0) == (False, True)
    (contra,) = prontoqa.generate("ProofByContra", shots=0, n=1, seed=seed)
    goal = contra.steps[5]
    for left in (contra.steps[:4], [*contra.steps[:4], contra.steps[0].removeprefix("Assume ")]):
        verdict = prontoqa.judge(f"{contra.question} Prove: {contra.steps[3]}", " ".join(left))
        assert (verdict.correct, verdict.steps[-1].open_hypotheses) == (False, 1)
    assert not prontoqa.judge(f"{contra.question} Prove: {goal}", " ".join([*contra.steps[:4], goal])).strict


@given(st.integers(2, 5), st.integers(0, 2**32), st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_a_case_left_out_of_a_wide_proof_is_missed(width, seed, case):
    (cases,) = prontoqa.generate("OrElim", shots=0, n=1, seed=seed, width=width)
    left = case % width
    assert len(cases.steps) == 3 * width + 1
    for upto in range(3, len(cases.steps), 3):
        assert not prontoqa.judge(cases.judged, " ".join(cases.steps[:upto])).correct
    without = [*cases.steps[: 3 * left], *cases.steps[3 * left + 3 :]]
    assert not prontoqa.judge(cases.judged, " ".join(without)).correct
    assumed_only = [*cases.steps[: 3 * left + 1], *cases.steps[3 * left + 3 :]]
    assert not prontoqa.judge(cases.judged, " ".join(assumed_only)).sound
    (contra,) = prontoqa.generate("ProofByContra", shots=0, n=1, seed=seed, width=width)
    assert len(contra.steps) == 6 * width + 1
    without = [*contra.steps[: 6 * left], *contra.steps[6 * left + 6 :]]
    assert not prontoqa.judge(contra.judged, " ".join(without)).sound


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
EITHER = "Fae is a lempus or an impus. Everything that is a lempus or an impus is loud. Fae is loud."
IN_EACH_CASE = (
    "Assume Fae is a lempus. Lempuses are loud. Fae is loud. Assume Fae is an impus. Impuses are loud. Fae is loud."
)


@pytest.mark.parametrize(
    ("question", "proof", "accepted", "words"),
    [
        pytest.param(
            f"{THEORY} Prove: Fae is loud.",
            "Fae is a wumpus. Every wumpus is a tumpus. Fae is a tumpus. Tumpuses are loud. Fae is loud.",
            "correct strict sound",
            "correct correct correct correct correct",
            id="a whole proof",
        ),
        pytest.param(
            f"{THEORY} Prove: Fae is loud.",
            "Fae is a wumpus. Wumpuses are tumpuses. Fae is a tumpus. Each tumpus is loud. Fae is loud.",
            "correct strict sound",
            "correct correct correct correct correct",
            id="singular for plural",
        ),
        pytest.param(
            f"{THEORY} Prove: Fae is loud.",
            "Fae is a wumpus. Every wumpus is a tumpus. Tumpuses are loud. Fae is loud.",
            "correct",
            "correct correct correct non-atomic",
            id="a step left out",
        ),
        pytest.param(
            f"{THEORY} Prove: Fae is loud.",
            "Fae is a wumpus. Every wumpus is loud. Fae is loud.",
            "correct",
            "correct skip non-atomic",
            id="a rule composed of two",
        ),
        pytest.param(
            f"{THEORY} Prove: Fae is shy.",
            "Fae is a wumpus. Every vumpus is shy. Fae is shy.",
            "",
            "correct correct invalid",
            id="the premise of another concept",
        ),
        pytest.param(
            "Every wumpus is loud. Fae is loud. Prove: Fae is a wumpus.",
            "Fae is loud. Every wumpus is loud. Fae is a wumpus.",
            "",
            "correct correct invalid",
            id="a rule the wrong way round",
        ),
        pytest.param(
            "Every wumpus is loud. Fae is not loud. Prove: Fae is not a wumpus.",
            "Fae is not loud. Every wumpus is loud. Fae is not a wumpus.",
            "correct",
            "correct correct non-atomic",
            id="modus tollens",
        ),
        pytest.param(
            f"{THEORY} Prove: Fae is a tumpus.",
            "Fae is a zumpus. Every vumpus is shy. Fae is a wumpus. Every wumpus is a tumpus. Fae is a tumpus. "
            "Fae is cold. Fae is a tumpus.",
            "correct strict sound",
            "invalid useless correct correct correct invalid useless",
            id="wrong steps, useless ones, and steps after the conclusion",
        ),
        pytest.param(f"{THEORY} Prove: Fae is loud.", "Fae is loud.", "", "invalid", id="no reason given"),
        pytest.param(
            f"{CASES} Prove: Fae is loud.",
            f"{IN_EACH_CASE} Since Fae is a lempus or an impus, Fae is loud.",
            "correct strict sound",
            " ".join(["correct"] * 8),
            id="a proof by cases",
        ),
        pytest.param(
            f"{CASES} Prove: Fae is loud.",
            "Assume Fae is a lempus. Lempuses are loud. Fae is loud.",
            "",
            "correct correct correct",
            id="one case only, the hypothesis open",
        ),
        pytest.param(
            f"{CASES} Prove: Fae is loud.", IN_EACH_CASE, "", " ".join(["correct"] * 6), id="a disjunction not used up"
        ),
        pytest.param(
            f"{CASES} Prove: Fae is loud.",
            "Assume Fae is a lempus. Lempuses are loud. Fae is loud. Since Fae is a lempus or an impus, Fae is loud.",
            "",
            "correct correct correct correct correct",
            id="one case of two",
        ),
        pytest.param(
            f"{CASES} Prove: Fae is loud.",
            "Assume Fae is loud. Since Fae is a lempus or an impus, Fae is loud.",
            "",
            "correct correct correct",
            id="what is to be proved assumed",
        ),
        # Where the published scorer departs from logic.
        pytest.param(
            f"{CASES} Prove: Fae is loud.",
            "Assume Fae is loud. Fae is loud. Since Fae is loud or loud, Fae is loud.",
            "correct strict",
            "correct correct correct correct",
            id="a circle by a disjunction of one case",
        ),
        pytest.param(
            f"{CASES} Prove: Fae is loud.",
            "Assume Fae is a lempus. Lempuses are loud. Fae is loud. Since Fae is a lempus or a lempus, Fae is loud.",
            "correct strict",
            "correct correct correct correct correct",
            id="a disjunction that rests on the case itself",
        ),
        pytest.param(
            "Every lempus is loud. Prove: Fae is not a lempus.",
            "Assume Fae is a lempus. Every lempus is loud. Fae is loud. This contradicts with Fae is not loud. "
            "Fae is not a lempus.",
            "correct strict",
            "correct correct correct correct correct",
            id="a contradiction with what does not hold",
        ),
        pytest.param(
            f"{DENIED} Prove: Fae is not an impus.",
            f"Assume Fae is an impus. {EITHER} This contradicts with Fae is not loud. Fae is not an impus.",
            "correct strict sound",
            "correct correct correct correct correct correct",
            id="a proof by contradiction",
        ),
        pytest.param(
            f"{DENIED} Prove: Fae is not an impus.",
            f"Assume Fae is a lempus. {EITHER} This contradicts with Fae is not loud. Fae is not an impus.",
            "",
            "correct correct correct correct invalid invalid",
            id="an assumption that is not the one denied",
        ),
        pytest.param(
            f"{DENIED} Prove: Fae is not an impus.",
            "Assume Fae is an impus. This contradicts with Fae is not loud. Fae is not an impus.",
            "correct",
            "correct non-atomic non-atomic",
            id="a contradiction reached without saying how",
        ),
        pytest.param(
            f"{DENIED} Prove: Fae is not a wumpus.",
            "Assume Fae is a wumpus. This contradicts with Fae is not loud. Fae is not a wumpus.",
            "",
            "correct invalid invalid",
            id="a contradiction with nothing",
        ),
        pytest.param(
            f"{DENIED} Prove: Fae is not an impus.",
            f"Assume Fae is an impus. {EITHER} Fae is not loud. This is a contradiction. Fae is not an impus.",
            "",
            "correct correct correct correct correct invalid invalid",
            id="a contradiction after a line that rests on nothing",
        ),
        pytest.param(
            f"{THEORY} Prove: Fae is a tumpus.",
            "Colourless green ideas sleep. Fae is a wumpus, so Fae is shy.",
            "",
            "unparseable correct invalid",
            id="not of the language",
        ),
        pytest.param(
            "Fae is loud. Prove: Fae is loud or a wumpus.",
            "Fae is loud. Fae is a wumpus or loud. Fae is",
            "correct strict sound",
            "correct correct",
            id="cut short after the conclusion",
        ),
        pytest.param(
            f"{THEORY} Prove: Fae is a tumpus.",
            "Fae is shy.\n\nQ: Fae is a tumpus. Every wumpus is a tumpus. Fae is a tumpus.",
            "",
            "invalid",
            id="a new question",
        ),
    ],
)
def test_known_verdicts(question, proof, accepted, words):
    verdict = prontoqa.judge(question, proof)
    assert [name for name in ("correct", "strict", "sound") if getattr(verdict, name)] == accepted.split()
    assert [step.verdict for step in verdict.steps] == words.split()


@pytest.mark.parametrize(
    ("sentence", "form"),
    [
        ("Fae is a loud wumpus.", conjunction([Atom("loud", "Fae"), Atom("wumpus", "Fae")])),
        (
            "Fae is not an impus and Fae is not a lempus.",
            conjunction([Not(Atom("impus", "Fae")), Not(Atom("lempus", "Fae"))]),
        ),
        ("Fae is loud or a wumpus.", Or((Atom("loud", "Fae"), Atom("wumpus", "Fae")))),
        (
            "Loud wumpuses are not shy.",
            Rule(conjunction([Atom("loud", None), Atom("wumpus", None)]), Not(Atom("shy", None))),
        ),
        ("No wumpus is shy.", Rule(Atom("wumpus", None), Not(Atom("shy", None)))),
        (
            "Everything that is loud or a wumpus is a tumpus.",
            Rule(Or((Atom("loud", None), Atom("wumpus", None))), Atom("tumpus", None)),
        ),
        (
            "Everything that is loud, shy, or a wumpus is a tumpus.",
            Rule(Or((Atom("loud", None), Atom("shy", None), Atom("wumpus", None))), Atom("tumpus", None)),
        ),
        (
            "Fae is not loud, Fae is not shy, and Fae is not an impus.",
            conjunction([Not(Atom("loud", "Fae")), Not(Atom("shy", "Fae")), Not(Atom("impus", "Fae"))]),
        ),
    ],
)
def test_sentences_are_read_into_their_forms(sentence, form):
    assert [claim.form for claim in parse(sentence)] == [form]


@pytest.mark.parametrize(
    ("sentence", "reason", "conclusion"),
    [
        ("Since Fae is loud, Fae is shy.", "Fae is loud.", "Fae is shy."),
        ("Since Fae is loud, shy, or an impus, Fae is hot.", "Fae is loud, shy, or an impus.", "Fae is hot."),
        ("As Fae is loud, everything that is loud is shy.", "Fae is loud.", "Everything that is loud is shy."),
        ("Fae is loud, so Fae is shy.", "Fae is loud.", "Fae is shy."),
        ("Fae is shy because Fae is loud.", "Fae is loud.", "Fae is shy."),
    ],
)
def test_a_reason_is_told_from_its_conclusion(sentence, reason, conclusion):
    assert [claim.form for claim in parse(sentence)] == [parse(reason)[0].form, parse(conclusion)[0].form]


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        ".",
        "Fae.",
        "Fae is.",
        "Wumpus is loud.",
        "Fae is a.",
        "is loud.",
        "Since Fae is loud.",
        "Fae is a loud.",
        "Wumpuses are tumpus.",
        "Fae is wumpuses.",
        "Wumpuses are a tumpus.",
        "Everything that is loud.",
        "Fae is loud, Fae is shy.",
    ],
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
