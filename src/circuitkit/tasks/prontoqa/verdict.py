"""The judge of proofs: every sentence read, each step derived, the conclusion looked for."""

from __future__ import annotations

from dataclasses import dataclass

from circuitkit.tasks.prontoqa.derivation import Derivation, Grade, Line, composes, derive
from circuitkit.tasks.prontoqa.logic import Formula, Rule, negation
from circuitkit.tasks.prontoqa.parsing import ParseError, Sentence, parse, sentences


@dataclass(frozen=True)
class Step:
    """A sentence of a proof and what the judge found it to be.

    `kind` is "axiom", "assumption", the name of the deduction rule that gives it in one application,
    "contradiction", "repetition", "non_atomic", "skip", "invalid" or "unparsed". `grade` is None where the step
    is not established. `open_hypotheses` counts the assumptions that it rests on.
    """

    text: str
    kind: str
    grade: Grade | None
    open_hypotheses: int
    concludes: bool


@dataclass(frozen=True)
class Verdict:
    """Whether a proof reaches its conclusion.

    `correct` is the headline measure, which lets non-atomic and skip steps count; `strict` does not.
    """

    correct: bool
    strict: bool
    steps: tuple[Step, ...]


def judge(question: str, proof: str) -> Verdict:
    """Judge `proof`, a text of sentences, as an answer to `question`, which is "… Prove: …".

    Steps count from left to right. A proof is correct when one of its steps is the statement to be proved,
    follows from the question and earlier steps, and rests on no open assumption; wrong steps and steps after
    the conclusion do not matter. What comes after a new "Q:" in the proof is not read, and neither is an
    unfinished sentence.

    Raises `ValueError` where the question has no "Prove:" or is not of the controlled English.

    Source: Saparov et al. 2023, as used by Hsiao & Dutta 2025 (arXiv 2502.15120).

    >>> judge("Every wumpus is loud. Fae is a wumpus. Prove: Fae is loud.",
    ...       "Fae is a wumpus. Every wumpus is loud. Fae is loud.").strict
    True
    """
    axioms, goal = _question(question)
    walk = _Walk(axioms, goal)
    for text in sentences(proof.split("Q:")[0]):
        walk.read(text)
    reached = [step.grade for step in walk.steps if step.concludes and step.grade is not None]
    return Verdict(bool(reached), Grade.STRICT in reached, tuple(walk.steps))


def _question(question: str) -> tuple[tuple[Formula, ...], Formula]:
    """Return the axioms and the goal of the last question in the text."""
    last = question.split("Q:")[-1].split("\nA:")[0]
    if last.count("Prove:") != 1:
        raise ValueError(f"a question to judge is '… Prove: …' with one 'Prove:', not {last!r}")
    theory, statement = last.split("Prove:")
    try:
        axioms = [claim.form for text in sentences(theory) for claim in parse(text)]
        goals = [claim.form for text in sentences(f"{statement.strip().rstrip('.')}.") for claim in parse(text)]
    except ParseError as error:
        raise ValueError(f"the question cannot be read: {error}") from error
    if len(goals) != 1:
        raise ValueError(f"the question asks for {len(goals)} statements, not one: {statement.strip()!r}")
    return tuple(dict.fromkeys(axioms)), goals[0]


class _Walk:
    """The state of judging: the lines established so far and the steps told."""

    def __init__(self, axioms: tuple[Formula, ...], goal: Formula) -> None:
        self.axioms = axioms
        self.goal = goal
        self.lines: list[Line] = []
        self.steps: list[Step] = []
        self.index = 0
        self.contradiction: Derivation | None = None

    def read(self, text: str) -> None:
        """Judge one sentence."""
        try:
            claims = parse(text)
        except ParseError:
            self.contradiction = None
            self.steps.append(Step(text, "unparsed", None, 0, False))
            self.index += 1
            return
        for claim in claims:
            self._step(claim)
            self.index += 1

    def _step(self, claim: Sentence) -> None:
        against, self.contradiction = self.contradiction, None
        if claim.kind == "assumption":
            self._establish(claim, Derivation("assumption", frozenset(), frozenset({claim.form}), Grade.STRICT))
        elif claim.kind == "contradiction":
            self.contradiction = self._contradicted(claim.form)
            grade = None if self.contradiction is None else self.contradiction.grade
            kind = "invalid" if self.contradiction is None else "contradiction"
            self.steps.append(Step(claim.text, kind, grade, 0, False))
        else:
            self._establish(claim, self._discharged(claim.form, against) or self._derived(claim.form))

    def _derived(self, form: Formula) -> Derivation | None:
        found = derive(form, self.lines, self.axioms, self.index)
        if found is None and isinstance(form, Rule) and composes(form, self.axioms):
            return Derivation("skip", frozenset(), frozenset(), Grade.SKIP)
        return found

    def _contradicted(self, form: Formula) -> Derivation | None:
        """Return what both `form` and its negation rest on, where both are had."""
        both = [derive(side, self.lines, self.axioms, self.index) for side in (form, negation(form))]
        if both[0] is None or both[1] is None:
            return None
        held = both[0].hypotheses | both[1].hypotheses
        return Derivation("contradiction", both[0].used | both[1].used, held, max(both[0].grade, both[1].grade))

    def _discharged(self, form: Formula, against: Derivation | None) -> Derivation | None:
        """Return the denial of a hypothesis that the contradiction just named rests on."""
        if against is None or negation(form) not in against.hypotheses:
            return None
        left = against.hypotheses - {negation(form)}
        return Derivation("proof_by_contradiction", against.used, left, against.grade)

    def _establish(self, claim: Sentence, found: Derivation | None) -> None:
        if found is None:
            self.steps.append(Step(claim.text, "invalid", None, 0, False))
            return
        self.lines.append(Line(self.index, claim.form, found.hypotheses, found.grade))
        concludes = claim.form == self.goal and not found.hypotheses
        self.steps.append(Step(claim.text, found.rule, found.grade, len(found.hypotheses), concludes))
