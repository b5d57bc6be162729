"""One "True or false" question for each of the six rules, whose statement follows or whose negation does.

As in the source, a plain question's answer can be told from its negations alone. With contrary evidence (the same
evidence with the opposite sign about something else: a rule for a concept that the entity does not have, a fact
about another property) it cannot: it takes the deduction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from circuitkit.tasks.prontoqa.deductions import Draw
from circuitkit.tasks.prontoqa.language import alternatives, either_rule, fact, phrase, rule


@dataclass(frozen=True)
class Decision:
    """Rules and facts as sentences, a statement, and whether it is true; `chain` holds the concepts passed."""

    rules: list[str]
    facts: list[str]
    statement: str
    label: bool
    chain: list[str]


def _links(draw: Draw, chain: list[str], prop: str, positive: bool) -> list[str]:
    links = [rule([a], [b], draw.quantifier()) for a, b in pairwise(chain)]
    return [*links, rule([chain[-1]], [prop], draw.quantifier(), negated=not positive)]


def _implication(draw: Draw, hops: int, contrary: bool) -> Decision:
    name, prop, positive, asked = draw.entity, draw.property(), draw.coin(), draw.coin()
    chain = [draw.concept() for _ in range(hops)]
    rules = _links(draw, chain, prop, positive)
    if contrary:
        rules += _links(draw, [draw.concept() for _ in range(hops)], prop, not positive)
    statement = fact(name, prop, negated=not asked)
    return Decision(rules, [fact(name, phrase([chain[0]]))], statement, asked == positive, chain)


def _conjunction_introduction(draw: Draw, hops: int, contrary: bool) -> Decision:
    name, label = draw.entity, draw.coin()
    chain, properties = [draw.concept() for _ in range(hops)], [draw.property() for _ in range(hops)]
    rules = [rule([prop, a], [b], draw.quantifier()) for prop, a, b in zip(properties, chain, chain[1:], strict=False)]
    facts = [fact(name, phrase([chain[0]])), *(fact(name, prop) for prop in properties[:-1])]
    facts.append(fact(name, properties[-1], negated=not label))
    if contrary:
        facts.append(fact(name, draw.property(), negated=label))
    draw.random.shuffle(facts)
    return Decision(rules, facts, fact(name, phrase([properties[-1], chain[-1]])), label, chain)


def _conjunction_elimination(draw: Draw, hops: int, contrary: bool) -> Decision:
    name, asked, denied = draw.entity, draw.coin(), draw.concept()
    held = not contrary or draw.coin()
    chain, properties = [draw.concept() for _ in range(hops)], [draw.property() for _ in range(hops)]
    rules = [
        rule([a], [prop, b], draw.quantifier()) for a, prop, b in zip(chain, properties[1:], chain[1:], strict=False)
    ]
    facts = [fact(name, phrase([properties[0], chain[0]]))]
    if contrary:
        facts.append(fact(name, phrase([denied]), negated=True))
    draw.random.shuffle(facts)
    statement = fact(name, phrase([chain[-1] if held else denied]), negated=not asked)
    return Decision(rules, facts, statement, held == asked, chain)


def _disjunction_introduction(draw: Draw, hops: int, contrary: bool) -> Decision:
    name, label = draw.entity, draw.coin()
    chain, properties = [draw.concept() for _ in range(hops)], [draw.property() for _ in range(hops)]
    rules = [either_rule([prop, a], [b]) for prop, a, b in zip(properties, chain[:-1], chain[1:-1], strict=False)]
    facts = [fact(name, properties[-1], negated=True)]
    if hops == 1:
        facts.append(fact(name, phrase([chain[0]]), negated=not label))
        facts += [fact(name, draw.property(), negated=label)] if contrary else []
    else:
        facts.append(fact(name, phrase([chain[0]])))
        rules.append(either_rule([properties[-2], chain[-2]], [chain[-1]], negated=not label))
        if contrary:
            rules.append(either_rule([draw.property(), draw.concept()], [chain[-1]], negated=label))
    draw.random.shuffle(facts)
    return Decision(rules, facts, fact(name, alternatives([properties[-1], chain[-1]])), label, chain)


def _disjunction_elimination(draw: Draw, hops: int, contrary: bool) -> Decision:
    name, positive, asked, end = draw.entity, draw.coin(), draw.coin(), draw.concept()
    cases, others = [draw.concept(), draw.concept()], [draw.concept(), draw.concept()] if contrary else []
    rules = [rule([case], [end], draw.quantifier(), negated=not positive) for case in cases]
    rules += [rule([other], [end], draw.quantifier(), negated=positive) for other in others]
    statement = fact(name, phrase([end]), negated=not asked)
    return Decision(rules, [fact(name, alternatives(cases))], statement, asked == positive, [*cases, end])


def _contradiction(draw: Draw, hops: int, contrary: bool) -> Decision:
    name, cases, end = draw.entity, [draw.concept(), draw.concept()], draw.concept()
    held, asked = draw.concept(), draw.coin()
    about_held = contrary and draw.coin()
    facts = [fact(name, phrase([end]), negated=True)]
    if contrary:
        facts.append(fact(name, phrase([held])))
    draw.random.shuffle(facts)
    statement = fact(name, phrase([held if about_held else draw.random.choice(cases)]), negated=not asked)
    return Decision([either_rule(cases, [end])], facts, statement, about_held == asked, [*cases, end])


DECISIONS: dict[str, Callable[[Draw, int, bool], Decision]] = {
    "implication_elimination": _implication,
    "conjunction_introduction": _conjunction_introduction,
    "conjunction_elimination": _conjunction_elimination,
    "disjunction_introduction": _disjunction_introduction,
    "disjunction_elimination": _disjunction_elimination,
    "proof_by_contradiction": _contradiction,
}
"""The decision of each rule from a draw, a number of hops, and whether to add contrary evidence."""
