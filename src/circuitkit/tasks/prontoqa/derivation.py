"""Whether a form follows from what a proof has said so far, and how.

A line keeps the hypotheses that it rests on, so that a hypothesis is discharged exactly where a case analysis
or a contradiction uses it up (natural deduction in Lemmon's style). Source: Saparov et al. 2023, whose three
grades of step are kept: strict, non-atomic (more than one application at once, an unstated axiom, or modus
tollens), and skip (a rule composed from a chain of axioms).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from circuitkit.tasks.prontoqa.logic import (
    And,
    Formula,
    Or,
    Rule,
    about,
    conjunction,
    disjunction,
    negation,
    subjects,
)


class Grade(IntEnum):
    """How closely a step keeps to one application of a rule to what was said; lower is closer."""

    STRICT = 0
    NON_ATOMIC = 1
    SKIP = 2


@dataclass(frozen=True)
class Line:
    """A form that a proof has established, at its sentence's index, under hypotheses."""

    index: int
    form: Formula
    hypotheses: frozenset[Formula]
    grade: Grade


@dataclass(frozen=True)
class Derivation:
    """How a form follows: the rule's name, the lines used (by index), and what it then rests on."""

    rule: str
    used: frozenset[int]
    hypotheses: frozenset[Formula]
    grade: Grade


def derive(goal: Formula, lines: Sequence[Line], axioms: Sequence[Formula], index: int) -> Derivation | None:
    """Return how `goal`, said at sentence `index`, follows from earlier lines and axioms, or None.

    A single application to established lines is preferred; failing that, a longer derivation, which may use
    unstated axioms and modus tollens. Applying a rule has to use the sentence just before.

    >>> from circuitkit.tasks.prontoqa.logic import Atom
    >>> wumpus, loud = Atom("wumpus", None), Atom("loud", None)
    >>> axioms = (Rule(wumpus, loud), Atom("wumpus", "Fae"))
    >>> lines = [Line(0, Rule(wumpus, loud), frozenset(), Grade.STRICT)]
    >>> derive(Atom("loud", "Fae"), lines, axioms, index=1).grade.name
    'NON_ATOMIC'
    """
    if goal in axioms:
        return Derivation("axiom", frozenset(), frozenset(), Grade.STRICT)
    search = _Search(lines, axioms)
    found = [*search.atomic(goal, index), *search.by_cases(goal)]
    open_ended = search.longer(goal, index, frozenset())
    found += [open_ended] if open_ended is not None else []
    if found:
        return min(found, key=_preference)
    repeated = [line for line in lines if line.form == goal]
    if repeated:
        best = min(repeated, key=lambda line: (len(line.hypotheses), line.grade))
        return Derivation("repetition", frozenset({best.index}), best.hypotheses, best.grade)
    return None


def composes(rule: Rule, axioms: Iterable[Formula]) -> bool:
    """Say whether each way from the rule's antecedent to its consequent is a chain of at most two axioms.

    >>> from circuitkit.tasks.prontoqa.logic import Atom
    >>> a, b, c = (Atom(name, None) for name in "abc")
    >>> composes(Rule(a, c), [Rule(a, b), Rule(b, c)])
    True
    """
    reach: dict[Formula, set[Formula]] = {}
    for axiom in axioms:
        if isinstance(axiom, Rule):
            for start in _disjuncts(axiom.antecedent):
                reach.setdefault(start, set()).update(_conjuncts(axiom.consequent))
    return all(
        end in reach.get(start, ()) or any(end in reach.get(via, ()) for via in reach.get(start, ()))
        for start in _disjuncts(rule.antecedent)
        for end in _conjuncts(rule.consequent)
    )


def _conjuncts(form: Formula) -> frozenset[Formula]:
    return form.operands if isinstance(form, And) else frozenset({form})


def _disjuncts(form: Formula) -> frozenset[Formula]:
    return form.operands if isinstance(form, Or) else frozenset({form})


def _denied(form: Formula) -> Formula:
    """Negate by De Morgan's laws, as the contrapositive of a rule needs."""
    match form:
        case And(operands):
            return disjunction(negation(operand) for operand in operands)
        case Or(operands):
            return conjunction(negation(operand) for operand in operands)
        case _:
            return negation(form)


def _joined(rule: str, parts: Iterable[Derivation], grade: Grade) -> Derivation:
    parts = list(parts)
    return Derivation(
        rule,
        frozenset[int]().union(*(part.used for part in parts)),
        frozenset[Formula]().union(*(part.hypotheses for part in parts)),
        max([grade, *(part.grade for part in parts)]),
    )


def _preference(derivation: Derivation) -> tuple[int, int, int]:
    """Order derivations: the closest to one application, with the fewest hypotheses, from the newest lines."""
    return derivation.grade, len(derivation.hypotheses), -max(derivation.used, default=-1)


class _Search:
    """The lines and axioms that one derivation may use."""

    def __init__(self, lines: Sequence[Line], axioms: Sequence[Formula]) -> None:
        self.lines = sorted(lines, key=lambda line: -line.index)
        self.axioms = axioms

    def before(self, goal: Formula, index: int) -> frozenset[int]:
        """Return the sentences just before `index` and before each earlier line that says `goal`."""
        said = {line.index for line in self.lines if line.form == goal and line.index < index}
        return frozenset(place - 1 for place in {*said, index})

    def stated(self, form: Formula) -> Derivation | None:
        """Return the best line that says `form`."""
        saying = [line for line in self.lines if line.form == form]
        if not saying:
            return None
        best = min(saying, key=lambda line: (line.grade, len(line.hypotheses)))
        return Derivation("stated", frozenset({best.index}), best.hypotheses, best.grade)

    def atomic(self, goal: Formula, index: int) -> list[Derivation]:
        """Return the derivations of `goal` by one application to established lines."""
        found = []
        before = self.before(goal, index)
        if isinstance(goal, And):
            parts = [self.stated(operand) for operand in goal.operands]
            if all(parts):
                found.append(_joined("conjunction_introduction", filter(None, parts), Grade.STRICT))
        if isinstance(goal, Or):
            parts = [self.stated(operand) for operand in goal.operands]
            found += [_joined("disjunction_introduction", [part], Grade.STRICT) for part in parts if part]
        for line in self.lines:
            itself = Derivation("stated", frozenset({line.index}), line.hypotheses, line.grade)
            if isinstance(line.form, And) and goal in line.form.operands:
                found.append(_joined("conjunction_elimination", [itself], Grade.STRICT))
            for antecedent in _antecedents(line.form, goal):
                premise = self.stated(antecedent)
                if premise is not None and {*premise.used, line.index} & before:
                    found.append(_joined("implication_elimination", [premise, itself], Grade.STRICT))
        return found

    def by_cases(self, goal: Formula) -> list[Derivation]:
        """Return the derivations of `goal` from a stated disjunction and a line for each of its cases."""
        found = []
        for line in self.lines:
            if not isinstance(line.form, Or):
                continue
            cases = []
            for case in line.form.operands:
                under = [other for other in self.lines if other.form == goal and case in other.hypotheses]
                if under:
                    best = min(under, key=lambda other: (other.grade, len(other.hypotheses)))
                    left = best.hypotheses - {case}
                    cases.append(Derivation("case", frozenset({best.index}), left, best.grade))
            if len(cases) == len(line.form.operands):
                itself = Derivation("stated", frozenset({line.index}), line.hypotheses, line.grade)
                found.append(_joined("disjunction_elimination", [itself, *cases], Grade.STRICT))
        return found

    def premise(self, form: Formula, index: int, seen: frozenset[Formula]) -> Derivation | None:
        """Return how `form` is had: stated, an unstated axiom, or by a longer derivation."""
        said = self.stated(form)
        if said is not None:
            return said
        if form in self.axioms:
            return Derivation("unstated axiom", frozenset(), frozenset(), Grade.NON_ATOMIC)
        return None if form in seen else self.longer(form, index, seen)

    def longer(self, goal: Formula, index: int, seen: frozenset[Formula]) -> Derivation | None:
        """Return a derivation of `goal` that takes several applications, unstated axioms or modus tollens."""
        seen = seen | {goal}
        found: list[Derivation] = []
        if isinstance(goal, And | Or):
            parts = [self.premise(operand, index, seen) for operand in goal.operands]
            if isinstance(goal, And) and all(parts):
                found.append(_joined("non_atomic", filter(None, parts), Grade.NON_ATOMIC))
            if isinstance(goal, Or):
                found += [_joined("non_atomic", [part], Grade.NON_ATOMIC) for part in parts if part]
        for source in (*self.lines, *self.axioms):
            form = source.form if isinstance(source, Line) else source
            if isinstance(form, And) and goal in form.operands:
                had = self.premise(form, index, seen)
                found += [_joined("non_atomic", [had], Grade.NON_ATOMIC)] if had else []
            elif isinstance(form, Rule):
                found += self.applied(source, form, goal, index, seen)
        return min(found, key=_preference) if found else None

    def applied(
        self, source: Line | Formula, rule: Rule, goal: Formula, index: int, seen: frozenset[Formula]
    ) -> list[Derivation]:
        """Return the derivations of `goal` that end in applying `rule` or its contrapositive."""
        if isinstance(source, Line):
            itself = Derivation("stated", frozenset({source.index}), source.hypotheses, source.grade)
            # Where the rule is the sentence just before, its premise may rest on the one before that.
            place = index - 1 if source.index == index - 1 else index
        else:
            itself, place = Derivation("unstated axiom", frozenset(), frozenset(), Grade.NON_ATOMIC), index
        before = self.before(goal, index)
        found = []
        for antecedent in (*_antecedents(rule, goal), *_tollens(rule, goal)):
            had = None if antecedent in seen else self.premise(antecedent, place, seen)
            if had is not None and (had.used | itself.used) & before:
                found.append(_joined("non_atomic", [had, itself], Grade.NON_ATOMIC))
        return found


def _antecedents(form: Formula, goal: Formula) -> list[Formula]:
    """Return what has to hold for the rule `form` to give `goal`, or a conjunction that contains `goal`."""
    if not isinstance(form, Rule):
        return []
    names = subjects(goal)
    if len(names) != 1 or isinstance(goal, Rule):
        return []
    (name,) = names
    return [about(form.antecedent, name)] if about(form.consequent, name) == goal else []


def _tollens(form: Formula, goal: Formula) -> list[Formula]:
    """Return what has to hold for the contrapositive of the rule `form` to give `goal`."""
    if not isinstance(form, Rule):
        return []
    return _antecedents(Rule(_denied(form.consequent), _denied(form.antecedent)), goal)
