"""The controlled English of PrOntoQA-OOD: its words, and how a logical form is said in it.

Source: Saparov et al., "Testing the General Deductive Reasoning Capacity of Large Language Models Using OOD
Examples" (2023): a fictional ontology of concepts and properties, and the sentences that speak of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

ENTITIES = ("Fae", "Rex", "Sally", "Max", "Alex", "Sam", "Polly", "Stella", "Wren")

CONCEPTS = tuple(
    f"{stem}pus"
    for line in ("wum yum zum dum rom num tum vum im jom", "gor shum lem ster grim lor brim")
    for stem in line.split()
)

PROPERTY_FAMILIES = tuple(
    tuple(family.split())
    for family in (
        "blue red brown orange",
        "small large",
        "metallic wooden luminous liquid",
        "transparent opaque",
        "nervous happy feisty shy",
        "bright dull",
        "sweet sour spicy bitter",
        "floral fruity earthy",
        "hot cold temperate",
        "kind mean angry amenable aggressive",
        "melodic muffled discordant loud",
        "slow moderate fast",
        "windy sunny overcast rainy snowy",
    )
)

PROPERTIES = tuple(prop for family in PROPERTY_FAMILIES for prop in family)

FUNCTION_WORDS = tuple(
    word
    for line in (
        "a an and are contradicts contradiction each every everything",
        "false is it no not or so that therefore true with",
    )
    for word in line.split()
)

OPENING_WORDS = tuple(
    word
    for line in (
        "A All Assume Contradiction Each Every Everything False Hence However If It No Proof Prove Q",
        "Since So Suppose That Then Therefore This Thus True",
    )
    for word in line.split()
)

Quantifier = Literal["plural", "each", "every"]


def article(word: str) -> str:
    """Return the indefinite article that goes before `word`.

    >>> article("impus"), article("wumpus")
    ('an', 'a')
    """
    return "an" if word[0] in "aeiou" else "a"


def phrase(predicates: Sequence[str]) -> str:
    """Say one predicate, or a property followed by a concept, as it stands after "is".

    >>> phrase(["loud", "impus"]), phrase(["impus"]), phrase(["loud"])
    ('a loud impus', 'an impus', 'loud')
    """
    words = " ".join(predicates)
    return words if predicates[-1] in PROPERTIES else f"{article(words)} {words}"


def joined_by(word: str, clauses: Sequence[str], commas: bool = False) -> str:
    """Join clauses by "and" or "or", said each time or, with commas, before the last alone.

    >>> joined_by("or", ["loud", "shy", "an impus"], commas=True)
    'loud, shy, or an impus'
    """
    if commas:
        return f"{', '.join(clauses[:-1])}, {word} {clauses[-1]}"
    return f" {word} ".join(clauses)


def alternatives(predicates: Sequence[str], commas: bool = False) -> str:
    """Say a disjunction of predicates as it stands after "is".

    >>> alternatives(["loud", "impus"])
    'loud or an impus'
    """
    return joined_by("or", [phrase([predicate]) for predicate in predicates], commas)


def fact(name: str, said: str, negated: bool = False) -> str:
    """Say that `name` is, or is not, what `said` says.

    >>> fact("Fae", "a wumpus", negated=True)
    'Fae is not a wumpus.'
    """
    return f"{name} is {'not ' if negated else ''}{said}."


def rule(antecedent: Sequence[str], consequent: Sequence[str], quantifier: Quantifier, negated: bool = False) -> str:
    """Say that everything that is `antecedent` (a concept, or a property and a concept) is `consequent`.

    >>> rule(["wumpus"], ["loud", "impus"], "plural")
    'Wumpuses are loud impuses.'
    >>> rule(["wumpus"], ["loud"], "each", negated=True)
    'Each wumpus is not loud.'
    """
    negation = "not " if negated else ""
    if quantifier == "plural":
        subject = f"{' '.join(antecedent)}es"
        end = "" if consequent[-1] in PROPERTIES else "es"
        return f"{subject[0].upper()}{subject[1:]} are {negation}{' '.join(consequent)}{end}."
    return f"{quantifier.capitalize()} {' '.join(antecedent)} is {negation}{phrase(consequent)}."


def either_rule(
    antecedents: Sequence[str], consequent: Sequence[str], negated: bool = False, commas: bool = False
) -> str:
    """Say that everything that is one or other of `antecedents` is `consequent`.

    >>> either_rule(["loud", "impus"], ["wumpus"])
    'Everything that is loud or an impus is a wumpus.'
    """
    negation = "not " if negated else ""
    return f"Everything that is {alternatives(antecedents, commas)} is {negation}{phrase(consequent)}."


def words() -> list[str]:
    """Return every token of the language's text, each with the space that comes before it.

    Words that can open a text or a line are there without the space too, so that a text made of the
    language's sentences is split and joined again exactly.

    >>> " wumpus" in words(), "Wumpuses" in words(), "wumpus" in words()
    (True, True, False)
    """
    plurals = [f"{concept}es" for concept in CONCEPTS]
    inside = [*FUNCTION_WORDS, *CONCEPTS, *plurals, *PROPERTIES]
    opening = [*OPENING_WORDS, *ENTITIES, *(word.capitalize() for word in (*plurals, *PROPERTIES))]
    marks = [".", ",", ":", ";", "?", "!", "(", ")", "\n", " "]
    return [*marks, *(f" {word}" for word in (*inside, *opening)), *opening]
