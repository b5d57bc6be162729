"""The logical forms that PrOntoQA-OOD's sentences stand for.

Conjunctions and disjunctions hold sets, so two forms that differ only in the order of their operands are
equal. A subject of `None` is the variable that a rule quantifies over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


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

    operands: frozenset[Formula]


@dataclass(frozen=True)
class Or:
    """The disjunction of two or more forms."""

    operands: frozenset[Formula]


@dataclass(frozen=True)
class Rule:
    """For every x, `antecedent(x)` implies `consequent(x)`."""

    antecedent: Formula
    consequent: Formula


Formula = Atom | Not | And | Or | Rule


def conjunction(operands: Iterable[Formula]) -> Formula:
    """Return the conjunction of `operands`, flattened; a single operand is returned itself.

    >>> a, b = Atom("wumpus", "Fae"), Atom("loud", "Fae")
    >>> conjunction([a, b]) == conjunction([b, a])
    True
    """
    flat = frozenset(
        inner for operand in operands for inner in (operand.operands if isinstance(operand, And) else (operand,))
    )
    return next(iter(flat)) if len(flat) == 1 else And(flat)


def disjunction(operands: Iterable[Formula]) -> Formula:
    """Return the disjunction of `operands`, flattened; a single operand is returned itself.

    >>> disjunction([Atom("wumpus", "Fae"), Atom("wumpus", "Fae")])
    Atom(predicate='wumpus', subject='Fae')
    """
    flat = frozenset(
        inner for operand in operands for inner in (operand.operands if isinstance(operand, Or) else (operand,))
    )
    return next(iter(flat)) if len(flat) == 1 else Or(flat)


def negation(form: Formula) -> Formula:
    """Return the negation of `form`, without doubling a negation.

    >>> negation(negation(Atom("loud", "Fae")))
    Atom(predicate='loud', subject='Fae')
    """
    return form.operand if isinstance(form, Not) else Not(form)


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
            return And(frozenset(about(operand, subject) for operand in operands))
        case Or(operands):
            return Or(frozenset(about(operand, subject) for operand in operands))
        case Rule():
            raise ValueError("a rule has no subject: it quantifies over everything")


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
