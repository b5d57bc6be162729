"""How a sentence of a proof follows from the sentences before it, by the rule of the published scorer.

The rule is lenient, and is kept as it is so that figures can be compared: `natural_deduction` tells which proofs
are sound as well. Every sentence that can be read is a line, whether it is valid or not, and the newest line that
says a thing speaks for it. Source: the evaluation of Saparov et al. 2023, as used by Hsiao & Dutta 2025.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from circuitkit.tasks.prontoqa.logic import And, Formula, Or, Rule, about, negation, parts, subjects, unordered


class Grade(IntEnum):
    """How closely a step keeps to one application of a rule to what was said; lower is closer."""

    STRICT = 0
    NON_ATOMIC = 1
    SKIP = 2


@dataclass(frozen=True)
class Line:
    """What a sentence says, how it was established (None: it was not) and the hypotheses that it rests on.

    `form` is None for a sentence that only names a contradiction.
    """

    form: Formula | None
    grade: Grade | None
    hypotheses: frozenset[Formula]


@dataclass(frozen=True)
class Derivation:
    """How a form follows: the rule's name, the lines used (by index), and the hypotheses that are used up.

    `cost` counts the applications that it takes, and one more for every premise that was not strictly
    established. `grade` is None where it rests on a line that is invalid.
    """

    rule: str
    cost: int
    used: frozenset[int]
    grade: Grade | None
    discharged: frozenset[Formula] = frozenset()


def derive(goal: Formula, lines: Sequence[Line], axioms: Sequence[Formula]) -> Derivation | None:
    """Return how `goal`, said after `lines`, follows from them and from the axioms, or None.

    The cheapest derivation counts; of equal ones an introduction, then that from the newest lines. Of more than
    one application, or with an axiom that was not said, or by modus tollens, it is non-atomic. A rule may only be
    applied where the rule or its premise is the line just before the goal, or before an earlier line that says
    the goal.

    Where this departs from logic: a conjunction or disjunction is introduced strictly from premises that were
    themselves not strict; a case analysis uses up every case of its disjunction, whichever of them a case's line
    rests on, and one line can serve for several cases. And where it is stricter than logic: "A or B" and "B or A" are
    two statements, save for the consequent of a rule.

    >>> from circuitkit.tasks.prontoqa.logic import Atom
    >>> rule = Rule(Atom("wumpus", None), Atom("loud", None))
    >>> derive(Atom("loud", "Fae"), [Line(rule, Grade.STRICT, frozenset())], (rule, Atom("wumpus", "Fae"))).grade.name
    'NON_ATOMIC'
    """
    if goal in axioms:
        return Derivation("axiom", 1, frozenset(), Grade.STRICT)
    search = _Search(lines, axioms, goal)
    direct = search.cheapest(search.directly(goal, len(lines), frozenset()))
    if direct is None or direct.cost > 1:
        cases = search.by_cases(goal)
        if cases is not None:
            return cases
    applied = search.cheapest(search.applied(goal, len(lines), frozenset()))
    found = search.cheapest(each for each in (direct, applied) if each is not None)
    said = search.newest(goal, len(lines))
    if found is None and said is not None:
        return Derivation("repetition", 0, frozenset({said}), None if lines[said].grade is None else Grade.STRICT)
    return found


def contradict(
    form: Formula | None, concluded: Formula, lines: Sequence[Line], axioms: Sequence[Formula]
) -> Derivation | None:
    """Return how `concluded`, said after "This contradicts with `form`", follows by contradiction, or None.

    The negation of `form` has to follow, and the negation of `concluded` has to be a hypothesis of some line that
    says one of the premises. Where this departs from logic: `form` itself need not hold; and where no form is
    named (None, "This is a contradiction"), it is enough that the line before rests on the hypothesis.

    >>> from circuitkit.tasks.prontoqa.logic import Atom, Not
    >>> loud, shy = Atom("loud", "Fae"), Atom("shy", "Fae")
    >>> lines = [Line(loud, Grade.STRICT, frozenset({shy}))]
    >>> contradict(Not(loud), Not(shy), lines, ()).discharged == {shy}
    True
    """
    search = _Search(lines, axioms, None)
    hypothesis = negation(concluded)
    found: Derivation | None
    if form is not None:
        found = search.premise(negation(form), len(lines), frozenset())
    else:
        last = len(lines) - 1
        found = Derivation("stated", 0, frozenset({last}), lines[last].grade) if lines else None
    if found is None or found.grade is None:
        return None
    premises = {lines[index].form for index in found.used}
    held = frozenset[Formula]().union(*(line.hypotheses for line in lines if line.form in premises))
    if hypothesis not in held:
        return None
    assumed = search.newest(hypothesis, len(lines))
    used = found.used
    if assumed is not None and lines[assumed].grade is not None:
        used |= {assumed}
    grade = found.grade if found.cost == 0 else Grade.NON_ATOMIC
    return Derivation("proof_by_contradiction", found.cost + 1, used, grade, frozenset({hypothesis}))


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
            for start in parts(axiom.antecedent, Or):
                reach.setdefault(start, set()).update(parts(axiom.consequent, And))
    return all(
        end in reach.get(start, ()) or any(end in reach.get(via, ()) for via in reach.get(start, ()))
        for start in parts(rule.antecedent, Or)
        for end in parts(rule.consequent, And)
    )


class _Search:
    """The lines and axioms that one derivation may use; `goal` is the form of the line after them."""

    def __init__(self, lines: Sequence[Line], axioms: Sequence[Formula], goal: Formula | None) -> None:
        self.lines = lines
        self.axioms = axioms
        self.said = [*(line.form for line in lines), goal]
        self._longer: dict[tuple[Formula, int, frozenset[Formula]], Derivation | None] = {}

    @staticmethod
    def cheapest(found: Iterable[Derivation]) -> Derivation | None:
        return min(found, key=lambda derivation: derivation.cost, default=None)

    def newest(self, form: Formula, place: int) -> int | None:
        """Return the index of the last line before `place` that says `form`."""
        return next((index for index in range(place - 1, -1, -1) if self.said[index] == form), None)

    def sources(self, place: int) -> Iterator[tuple[int | None, Formula]]:
        """Yield the lines before `place`, the newest first, then the axioms as said by no line."""
        for index in range(place - 1, -1, -1):
            form = self.said[index]
            if form is not None:
                yield index, form
        for axiom in self.axioms:
            yield None, axiom

    def premise(self, form: Formula, place: int, pending: frozenset[Formula]) -> Derivation | None:
        """Return how `form` is had: said by a line, an axiom that was not said, or by a longer derivation."""
        index = self.newest(form, place)
        if index is not None:
            return Derivation("stated", 0, frozenset({index}), self.lines[index].grade)
        if form in self.axioms:
            return Derivation("unstated_axiom", 1, frozenset(), Grade.NON_ATOMIC)
        asked = (form, place, pending)
        if asked not in self._longer:
            found = [*self.directly(form, place, pending), *self.applied(form, place, pending)]
            self._longer[asked] = self.cheapest(found)
        return self._longer[asked]

    def directly(self, goal: Formula, place: int, pending: frozenset[Formula]) -> Iterator[Derivation]:
        """Yield the derivations of `goal` that end in an introduction or in leaving out conjuncts."""
        if isinstance(goal, And | Or):
            had = [self.premise(operand, place, pending | {goal}) for operand in goal.operands]
            good = [part for part in had if part is not None and part.grade is not None]
            if isinstance(goal, And) and len(good) == len(had):
                yield _introduced("conjunction_introduction", good)
            elif isinstance(goal, Or):
                yield from (_introduced("disjunction_introduction", [part]) for part in good)
        for index, form in self.sources(place):
            if isinstance(form, And) and goal in form.operands:
                if index is None:
                    yield Derivation("conjunction_elimination", 2, frozenset(), Grade.NON_ATOMIC)
                else:
                    yield Derivation("conjunction_elimination", 1, frozenset({index}), self.lines[index].grade)
                    break
            elif isinstance(form, Rule) and isinstance(form.consequent, And):
                for conjunct in form.consequent.operands:
                    yield from self.modus_ponens(index, Rule(form.antecedent, conjunct), goal, place, pending, 1)

    def by_cases(self, goal: Formula) -> Derivation | None:
        """Return the derivation of `goal` from a strict disjunction and a line that says it in each case."""
        saying = [i for i, line in enumerate(self.lines) if line.form == goal and line.grade is not None]
        for index in range(len(self.lines) - 1, -1, -1):
            form = self.said[index]
            if not isinstance(form, Or) or self.lines[index].grade is not Grade.STRICT:
                continue
            cases = {
                case: next((i for i in saying if case in self.lines[i].hypotheses), None) for case in form.operands
            }
            used = {i for i in cases.values() if i is not None}
            if None not in cases.values():
                strict = all(self.lines[i].grade is Grade.STRICT for i in used)
                grade = Grade.STRICT if strict else Grade.NON_ATOMIC
                discharged = frozenset(form.operands)
                return Derivation("disjunction_elimination", 1, frozenset(used | {index}), grade, discharged)
        return None

    def applied(self, goal: Formula, place: int, pending: frozenset[Formula]) -> Iterator[Derivation]:
        """Yield the derivations of `goal` that end in applying a rule or its contrapositive."""
        for index, form in self.sources(place):
            if isinstance(form, Rule):
                yield from self.modus_ponens(index, form, goal, place, pending, 0)
                contrary = Rule(negation(form.consequent), negation(form.antecedent))
                for found in self.modus_ponens(index, contrary, goal, place, pending, 0):
                    grade = None if found.grade is None else Grade.NON_ATOMIC
                    yield Derivation("modus_tollens", found.cost, found.used, grade)

    def modus_ponens(
        self, index: int | None, rule: Rule, goal: Formula, place: int, pending: frozenset[Formula], further: int
    ) -> Iterator[Derivation]:
        """Yield the derivation of `goal` that applies `rule`, said by line `index`, if there is one."""
        names = subjects(goal)
        if len(names) != 1 or isinstance(goal, Rule):
            return
        consequent = about(rule.consequent, next(iter(names)))
        joined = isinstance(goal, And | Or) and type(consequent) is type(goal)
        if consequent != goal and not (joined and unordered(consequent) == unordered(goal)):
            return
        antecedent = about(rule.antecedent, next(iter(names)))
        pending = pending | {goal}
        if antecedent in pending:
            return
        # Where the rule is the line just before, its premise is looked for before the rule.
        had = self.premise(antecedent, place - 1 if index == place - 1 else place, pending)
        used = frozenset[int]() if had is None else had.used
        if index is not None:
            used |= {index}
        if had is None or not used & self.just_before(goal, place):
            return
        stated = Grade.NON_ATOMIC if index is None else self.lines[index].grade
        grades = [stated, had.grade]
        strict = had.cost == 0 and grades == [Grade.STRICT, Grade.STRICT]
        cost = 1 + had.cost + (0 if strict else 1) + further
        grade = None if None in grades else Grade.STRICT if strict and cost == 1 else Grade.NON_ATOMIC
        yield Derivation("implication_elimination", cost, used, grade)

    def just_before(self, goal: Formula, place: int) -> set[int]:
        """Return the lines just before those up to `place` that say `goal`, alone or in a conjunction."""
        before = {
            index - 1
            for index, form in enumerate(self.said[: place + 1])
            if form == goal or (isinstance(form, And) and goal in form.operands)
        }
        return before or {place - 1}


def _introduced(rule: str, premises: Sequence[Derivation]) -> Derivation:
    cost = 1 + sum(premise.cost for premise in premises)
    used = frozenset[int]().union(*(premise.used for premise in premises))
    return Derivation(rule, cost, used, Grade.STRICT if cost == 1 else Grade.NON_ATOMIC)
