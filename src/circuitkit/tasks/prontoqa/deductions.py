"""One deduction for each of the six rules: what is given, what is to be shown, and the proof.

The chains of several hops alternate the rule with implication elimination, as in the source (Saparov et al.
2023): a proof of h hops has 2h+1 sentences for implication elimination, 4h-1 for conjunction introduction,
3h-1 for conjunction elimination and for disjunction introduction. The width is how many are joined: properties and
one concept in a conjunction or disjunction, concepts in an analysis by cases or a contradiction; a conjunction
introduction of width w has (w+2)h-1 sentences, a case analysis 3w+1, a contradiction 6w+1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from circuitkit.tasks.prontoqa.language import (
    CONCEPTS,
    ENTITIES,
    PROPERTY_FAMILIES,
    Quantifier,
    alternatives,
    either_rule,
    fact,
    joined_by,
    phrase,
    rule,
)


@dataclass(frozen=True)
class Deduction:
    """Rules and facts as sentences, a statement, and the proof's paragraphs; `chain` holds its concepts."""

    rules: list[str]
    facts: list[str]
    statement: str
    proof: list[list[str]]
    chain: list[str]


class Draw:
    """Names, concepts and properties drawn without repetition for one question."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.entity = random.choice(ENTITIES)
        self._concepts = random.sample(CONCEPTS, len(CONCEPTS))
        # One property a family, so that no two drawn properties exclude each other.
        self._properties = [random.choice(family) for family in PROPERTY_FAMILIES]
        random.shuffle(self._properties)

    def concept(self) -> str:
        """Return a concept not drawn before."""
        return self._concepts.pop()

    def property(self) -> str:
        """Return a property of a family not drawn from before."""
        return self._properties.pop()

    def quantifier(self) -> Quantifier:
        """Return plural half of the time, else each or every."""
        return "plural" if self.random.random() < 0.5 else self.random.choice(("each", "every"))

    def coin(self) -> bool:
        """Return True half of the time."""
        return self.random.random() < 0.5

    def hop(self, width: int) -> list[str]:
        """Return what a conjunction or disjunction of one hop joins to its concept: properties, one fewer than wide."""
        return [self.property() for _ in range(width - 1)]

    def commas(self, joined: Sequence[str]) -> bool:
        """Return whether to join by commas, half of the time where there are more than two."""
        return len(joined) > 2 and self.coin()

    def either(self, predicates: Sequence[str]) -> str:
        """Say a disjunction in one of its two ways."""
        return alternatives(predicates, commas=self.commas(predicates))

    def either_rule(self, antecedents: Sequence[str], consequent: Sequence[str]) -> str:
        """Say a rule for each of several in one of its two ways."""
        return either_rule(antecedents, consequent, commas=self.commas(antecedents))


def _implication(draw: Draw, hops: int, width: int) -> Deduction:
    name, chain = draw.entity, [draw.concept() for _ in range(hops)]
    last, negated = draw.property(), draw.coin()
    rules = [rule([a], [b], draw.quantifier()) for a, b in pairwise(chain)]
    rules.append(rule([chain[-1]], [last], draw.quantifier(), negated))
    given = fact(name, phrase([chain[0]]))
    shown = [*(fact(name, phrase([c])) for c in chain[1:]), fact(name, last, negated)]
    proof = [given]
    for applied, step in zip(rules, shown, strict=True):
        proof += [applied, step]
    return Deduction(rules, [given], shown[-1], [proof], chain)


def _conjunction_introduction(draw: Draw, hops: int, width: int) -> Deduction:
    name = draw.entity
    chain, properties = [draw.concept() for _ in range(hops)], [draw.hop(width) for _ in range(hops)]
    given = fact(name, phrase([chain[0]]))
    rules, facts, proof = [], [given], [given]
    for hop, (concept, joined) in enumerate(zip(chain, properties, strict=True)):
        # As in the source, what is joined last is shown first.
        held = [fact(name, prop) for prop in reversed(joined)]
        facts += held
        proof += [*held, fact(name, phrase([*joined, concept]))]
        if hop < hops - 1:
            rules.append(rule([*joined, concept], [chain[hop + 1]], draw.quantifier()))
            proof += [rules[-1], fact(name, phrase([chain[hop + 1]]))]
    draw.random.shuffle(facts)
    return Deduction(rules, facts, proof[-1], [proof], chain)


def _conjunction_elimination(draw: Draw, hops: int, width: int) -> Deduction:
    name = draw.entity
    chain, properties = [draw.concept() for _ in range(hops)], [draw.hop(width) for _ in range(hops)]
    given = fact(name, phrase([*properties[0], chain[0]]))
    rules, proof = [], [given]
    for hop, concept in enumerate(chain):
        proof.append(fact(name, phrase([concept])))
        if hop < hops - 1:
            joined = [*properties[hop + 1], chain[hop + 1]]
            rules.append(rule([concept], joined, draw.quantifier()))
            proof += [rules[-1], fact(name, phrase(joined))]
    return Deduction(rules, [given], proof[-1], [proof], chain)


def _disjunction_introduction(draw: Draw, hops: int, width: int) -> Deduction:
    name = draw.entity
    chain, properties = [draw.concept() for _ in range(hops)], [draw.hop(width) for _ in range(hops)]
    given = fact(name, phrase([chain[0]]))
    rules, proof = [], [given]
    for hop, (concept, joined) in enumerate(zip(chain, properties, strict=True)):
        proof.append(fact(name, draw.either([*joined, concept])))
        if hop < hops - 1:
            rules.append(draw.either_rule([*joined, concept], [chain[hop + 1]]))
            proof += [rules[-1], fact(name, phrase([chain[hop + 1]]))]
    return Deduction(rules, [given], proof[-1], [proof], chain)


def _disjunction_elimination(draw: Draw, hops: int, width: int) -> Deduction:
    name, cases, end = draw.entity, [draw.concept() for _ in range(width)], draw.concept()
    rules = [rule([case], [end], draw.quantifier()) for case in cases]
    given, reached = fact(name, draw.either(cases)), fact(name, phrase([end]))
    proof = [
        [f"Assume {fact(name, phrase([case]))}", applied, reached] for case, applied in zip(cases, rules, strict=True)
    ]
    said_again = fact(name, draw.either(cases)).removesuffix(".")
    proof.append([f"Since {said_again}, {reached}"])
    return Deduction(rules, [given], reached, proof, [*cases, end])


def _contradiction(draw: Draw, hops: int, width: int) -> Deduction:
    name, cases, end = draw.entity, [draw.concept() for _ in range(width)], draw.concept()
    applied = draw.either_rule(cases, [end])
    reached, given = fact(name, phrase([end])), fact(name, phrase([end]), negated=True)
    proof, denied = [], []
    for case in reversed(cases):
        denied.append(fact(name, phrase([case]), negated=True))
        assumed, either = f"Assume {fact(name, phrase([case]))}", fact(name, draw.either(cases))
        proof.append([assumed, either, applied, reached, f"This contradicts with {given}", denied[-1]])
    clauses = [sentence.removesuffix(".") for sentence in denied]
    statement = f"{joined_by('and', clauses, commas=draw.commas(clauses))}."
    proof.append([statement])
    return Deduction([applied], [given], statement, proof, [*cases, end])


DEDUCTIONS: dict[str, Callable[[Draw, int, int], Deduction]] = {
    "implication_elimination": _implication,
    "conjunction_introduction": _conjunction_introduction,
    "conjunction_elimination": _conjunction_elimination,
    "disjunction_introduction": _disjunction_introduction,
    "disjunction_elimination": _disjunction_elimination,
    "proof_by_contradiction": _contradiction,
}
"""The deduction of each rule from a draw, a number of hops and a width."""
