"""The logical forms that PrOntoQA-OOD's sentences stand for.

Conjunctions and disjunctions keep the order in which their operands are said, and forms that differ in it are not
equal; `unordered` brings them together. A subject of `None` is the variable that a rule quantifies over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Atom:
    """`predicate(subject)`, for instance wumpus(Fae)."""

    predicate: str
    subject: str | None


@dataclass(frozen=True)
class Not:
    """The negation of a form."""

    operand: Formula


@dataclass(frozen=True)
class And:
    """The conjunction of two or more forms."""

    operands: tuple[Formula, ...]


@dataclass(frozen=True)
class Or:
    """The disjunction of two or more forms."""

    operands: tuple[Formula, ...]


@dataclass(frozen=True)
class Rule:
    """For every x, `antecedent(x)` implies `consequent(x)`."""

    antecedent: Formula
    consequent: Formula


Formula = Atom | Not | And | Or | Rule

# A judge asks the same of the same few forms over and over.
_remembered = lru_cache(maxsize=4096)


def conjunction(operands: Iterable[Formula]) -> Formula:
    """Return the conjunction of `operands`, flattened; of one operand it is the operand itself.

    >>> a, b, c = (Atom(name, "Fae") for name in ("wumpus", "loud", "shy"))
    >>> conjunction([a, conjunction([b, c])]) == And((a, b, c)), conjunction([a]) == a
    (True, True)
    """
    flat = [inner for operand in operands for inner in parts(operand, And)]
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def disjunction(operands: Iterable[Formula]) -> Formula:
    """Return the disjunction of `operands`, flattened; of one operand it is the operand itself.

    >>> wumpus = Atom("wumpus", "Fae")
    >>> disjunction([wumpus]) == wumpus, len(disjunction([wumpus, wumpus]).operands)
    (True, 2)
    """
    flat = [inner for operand in operands for inner in parts(operand, Or)]
    return flat[0] if len(flat) == 1 else Or(tuple(flat))


@_remembered
def negation(form: Formula) -> Formula:
    """Return the negation of `form`, moved inside conjunctions and disjunctions, and without doubling a negation.

    >>> a, b = Atom("wumpus", "Fae"), Atom("loud", "Fae")
    >>> negation(negation(a)) == a, negation(disjunction([a, b])) == conjunction([negation(a), negation(b)])
    (True, True)
    """
    match form:
        case Not(operand):
            return operand
        case And(operands):
            return disjunction(negation(operand) for operand in operands)
        case Or(operands):
            return conjunction(negation(operand) for operand in operands)
        case _:
            return Not(form)


def parts(form: Formula, joined: type[And] | type[Or]) -> tuple[Formula, ...]:
    """Return the operands of `form` where it is a conjunction (or disjunction, as `joined` says), else `form` alone.

    >>> parts(Atom("loud", "Fae"), And)
    (Atom(predicate='loud', subject='Fae'),)
    """
    return form.operands if isinstance(form, And | Or) and isinstance(form, joined) else (form,)


@_remembered
def unordered(form: Formula) -> Formula:
    """Return `form` with the operands of conjunctions and disjunctions in one fixed order, each of them once.

    >>> a, b = Atom("wumpus", "Fae"), Atom("loud", "Fae")
    >>> unordered(Or((a, b))) == unordered(Or((b, a, b))), unordered(And((a, a))) == a
    (True, True)
    """
    match form:
        case Atom():
            return form
        case Not(operand):
            return Not(unordered(operand))
        case And(operands):
            return conjunction(sorted({unordered(operand) for operand in operands}, key=repr))
        case Or(operands):
            return disjunction(sorted({unordered(operand) for operand in operands}, key=repr))
        case Rule(antecedent, consequent):
            return Rule(unordered(antecedent), unordered(consequent))


@_remembered
def about(form: Formula, subject: str | None) -> Formula:
    """Return `form` with every atom's subject replaced by `subject`.

    >>> about(Atom("loud", None), "Fae")
    Atom(predicate='loud', subject='Fae')
    """
    match form:
        case Atom(predicate, _):
            return Atom(predicate, subject)
        case Not(operand):
            return Not(about(operand, subject))
        case And(operands):
            return And(tuple(about(operand, subject) for operand in operands))
        case Or(operands):
            return Or(tuple(about(operand, subject) for operand in operands))
        case Rule():
            raise ValueError("a rule has no subject: it quantifies over everything")


@_remembered
def subjects(form: Formula) -> frozenset[str]:
    """Return the names that `form` speaks of; a rule speaks of none.

    >>> subjects(Not(Atom("loud", "Fae")))
    frozenset({'Fae'})
    """
    match form:
        case Atom(_, subject):
            return frozenset() if subject is None else frozenset({subject})
        case Not(operand):
            return subjects(operand)
        case And(operands) | Or(operands):
            return frozenset[str]().union(*(subjects(operand) for operand in operands))
        case Rule():
            return frozenset()
