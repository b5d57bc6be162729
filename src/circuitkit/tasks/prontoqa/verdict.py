"""The judge of proofs: every sentence read, each step derived, the conclusion looked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal

from circuitkit.showing import Shown
from circuitkit.tasks.prontoqa.derivation import Derivation, Grade, Line, composes, contradict, derive
from circuitkit.tasks.prontoqa.logic import Formula, Rule, unordered
from circuitkit.tasks.prontoqa.natural_deduction import NaturalDeduction
from circuitkit.tasks.prontoqa.parsing import ParseError, Sentence, parse, sentences

if TYPE_CHECKING:
    import pandas as pd

Word = Literal["correct", "skip", "non-atomic", "invalid", "useless", "unparseable"]

_WORDS: dict[Grade | None, Word] = {
    Grade.STRICT: "correct",
    Grade.NON_ATOMIC: "non-atomic",
    Grade.SKIP: "skip",
    None: "invalid",
}


@dataclass(frozen=True)
class Step:
    """A sentence of a proof (or one of the two claims of "Since A, B.") and what the judge found it to be.

    `verdict` is one of six words. "correct": an assumption, a sentence of the question, or one application of a
    rule to correct steps. "non-atomic": it takes more than one application, a premise that was not said or not
    strictly established, or modus tollens. "skip": a rule that two rules of the question compose. "useless": valid
    in one of these three ways, but the conclusion, which the proof reaches, does not rest on it. "invalid": it
    does not follow. "unparseable": it is not of the controlled English.

    `kind` says how: "axiom", "assumption", the name of the deduction rule, "contradiction", "repetition", "skip",
    "invalid" or "unparsed". `grade` is None where the step is not established. `open_hypotheses` counts the
    assumptions that it rests on. `concludes` says that it is what was to be proved, resting on no assumption.
    """

    text: str
    kind: str
    grade: Grade | None
    open_hypotheses: int
    concludes: bool
    verdict: Word


@dataclass(frozen=True, repr=False)
class Verdict(Shown):
    """Whether a proof reaches its conclusion.

    `correct` is the published headline measure, which lets non-atomic and skip steps count; `strict` does not.
    Both follow the published scorer, also where it departs from logic (see `derivation`); `sound` says that the
    proof is strict and that natural deduction accepts it too, every hypothesis being properly used up.
    """

    correct: bool
    strict: bool
    sound: bool
    steps: tuple[Step, ...]

    def _says(self) -> list[str]:
        told = {"correct": self.correct, "strict": self.strict, "sound": self.sound}
        found = ", ".join(f"{name if right else f'not {name}'}" for name, right in told.items())
        return [f"A proof of {len(self.steps)} step{'s' if len(self.steps) != 1 else ''}: {found}."]

    def _strongest(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame([{"step": each.text, "kind": each.kind, "verdict": each.verdict} for each in self.steps])


def judge(question: str, proof: str) -> Verdict:
    """Judge `proof`, a text of sentences, as an answer to `question`, which is "… Prove: …".

    Steps count from left to right. A proof is correct when one of its steps is the statement to be proved,
    follows from the question and earlier steps, and rests on no open assumption; wrong steps and steps after
    the conclusion do not matter. What comes after a new "Q:" in the proof is not read, and neither is an
    unfinished sentence.

    Raises `ValueError` where the question has no "Prove:" or is not of the controlled English.

    Source: Saparov et al. 2023, as used by Hsiao & Dutta 2025 (arXiv 2502.15120).

    >>> verdict = judge("Every wumpus is loud. Fae is a wumpus. Prove: Fae is loud.",
    ...                 "Fae is a wumpus. Every wumpus is loud. Fae is loud.")
    >>> verdict.strict, verdict.sound, verdict.steps[-1].verdict
    (True, True, 'correct')
    """
    axioms, goal = _question(question)
    walk = _Walk(axioms, goal)
    walk.read(proof.split("Q:")[0])
    reached = [step.grade for step in walk.steps if step.concludes]
    strict = Grade.STRICT in reached
    return Verdict(bool(reached), strict, strict and walk.checked.proves(goal), walk.judged())


def _question(question: str) -> tuple[tuple[Formula, ...], Formula]:
    """Return the axioms and the goal of the last question in the text."""
    last = question.split("Q:")[-1].split("\nA:")[0]
    if last.count("Prove:") != 1:
        raise ValueError(f"a question to judge is '… Prove: …' with one 'Prove:', not {last!r}")
    theory, statement = last.split("Prove:")
    try:
        axioms = [_stated(claim) for text in sentences(theory) for claim in parse(text)]
        goals = [_stated(claim) for text in sentences(f"{statement.strip().rstrip('.')}.") for claim in parse(text)]
    except ParseError as error:
        raise ValueError(f"the question cannot be read: {error}") from error
    if len(goals) != 1:
        raise ValueError(f"the question asks for {len(goals)} statements, not one: {statement.strip()!r}")
    return tuple(dict.fromkeys(axioms)), goals[0]


def _stated(claim: Sentence) -> Formula:
    if claim.form is None:
        raise ParseError(f"{claim.text!r} states nothing")
    return claim.form


class _Walk:
    """The state of judging: the lines so far, each with the step told of it and the lines that it was derived from."""

    def __init__(self, axioms: tuple[Formula, ...], goal: Formula) -> None:
        self.axioms = axioms
        self.goal = unordered(goal)
        self.checked = NaturalDeduction(axioms)
        self.lines: list[Line] = []
        self.used: list[frozenset[int]] = []
        self.steps: list[Step] = []

    def read(self, proof: str) -> None:
        """Judge each sentence of `proof`."""
        claims: list[Sentence | str] = []
        for text in sentences(proof):
            try:
                claims += parse(text)
            except ParseError:
                claims.append(text)
        concluding: Derivation | None = None
        for claim, after in zip_longest(claims, claims[1:]):
            if isinstance(claim, str):
                self._add(claim, Line(None, None, frozenset()), "unparsed", frozenset())
            else:
                concluding = self._step(claim, after if isinstance(after, Sentence) else None, concluding)

    def _step(self, claim: Sentence, after: Sentence | None, concluding: Derivation | None) -> Derivation | None:
        """Judge one claim, and return the proof by contradiction that it gives for the claim after it."""
        if claim.kind == "contradiction" or claim.form is None:
            self.checked.contradicts(claim.form)
            found = None
            if after is not None and after.kind == "claim" and after.form is not None:
                found = self._valid(contradict(claim.form, after.form, self.lines, self.axioms))
            if found is None:
                self._add(claim.text, Line(None, None, frozenset()), "invalid", frozenset())
                return None
            self._add(claim.text, Line(None, found.grade, frozenset()), "contradiction", found.used)
            return replace(found, used=found.used | {len(self.lines) - 1})
        if claim.kind == "assumption":
            self.checked.assume(claim.form)
            self._add(claim.text, Line(claim.form, Grade.STRICT, frozenset({claim.form})), "assumption", frozenset())
            return None
        self.checked.say(claim.form)
        found = concluding or self._valid(derive(claim.form, self.lines, self.axioms))
        if found is None and isinstance(claim.form, Rule) and composes(claim.form, self.axioms):
            found = Derivation("skip", 1, frozenset(), Grade.SKIP)
        if found is None:
            self._add(claim.text, Line(claim.form, None, frozenset()), "invalid", frozenset())
        else:
            rests_on = frozenset[Formula]().union(*(self.lines[index].hypotheses for index in found.used))
            line = Line(claim.form, found.grade, rests_on - found.discharged)
            self._add(claim.text, line, found.rule, found.used)
        return None

    def _valid(self, found: Derivation | None) -> Derivation | None:
        """Return `found` unless it rests on an invalid line."""
        if found is None or found.grade is None or any(self.lines[index].grade is None for index in found.used):
            return None
        return found

    def _add(self, text: str, line: Line, kind: str, used: frozenset[int]) -> None:
        concludes = self._is_goal(line.form) and kind not in ("assumption", "invalid") and not line.hypotheses
        word = "unparseable" if kind == "unparsed" else _WORDS[line.grade]
        self.steps.append(Step(text, kind, line.grade, len(line.hypotheses), concludes, word))
        self.lines.append(line)
        self.used.append(used)

    def _is_goal(self, form: Formula | None) -> bool:
        return form is not None and unordered(form) == self.goal

    def judged(self) -> tuple[Step, ...]:
        """Return the steps, those that the conclusion does not rest on called useless."""
        reached = [index for index, step in enumerate(self.steps) if step.concludes]
        if not reached:
            return tuple(self.steps)
        needed = [min(reached, key=lambda index: (self.lines[index].grade is not Grade.STRICT, index))]
        for index in needed:
            needed += sorted(self.used[index].difference(needed))
        return tuple(
            step if index in needed or step.grade is None else replace(step, verdict="useless")
            for index, step in enumerate(self.steps)
        )
