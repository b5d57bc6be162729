"""Pairs of deductions that differ in one rule: what a proof's next step needs, found or not."""

from __future__ import annotations

from random import Random
from typing import Any

from circuitkit.pairs import Pairs
from circuitkit.tasks.prontoqa.language import CONCEPTS, ENTITIES, PROPERTIES, article
from circuitkit.tasks.vocabulary import single_tokens

_NOUNS = tuple(
    word
    for line in (
        "cat dog bird fish horse lion tiger wolf bear tree river car boat train house king queen doctor teacher farmer",
        "soldier student writer poet judge pilot nurse driver cook guard child woman man girl boy",
    )
    for word in line.split()
)
_CONCEPTS_A_PAIR = 3


def pairs(tokenizer: Any, n: int = 48, seed: int = 0) -> Pairs:
    """Draw clean and corrupt deductions of three hops, each broken off where the first rule used is to be concluded.

    The clean chain goes from a concept A by B and C to a property. The corrupt prompt is the same with each concept
    passed on: B for A, C for B, A for C. So the next step is B in the clean prompt, the answer, and C in the corrupt
    one, the distractor; both words stand in both prompts, and the statement to prove follows in both.

    Args:
        tokenizer: the model's; concepts are words that are one token for it, PrOntoQA's own where it has them.
        n: number of pairs.
        seed: of the draw.

    Raises:
        ValueError: the tokenizer has too few such words.

    >>> drawn = pairs(ck.load("deductor-130k").tokenizer, n=1)
    >>> sorted(drawn.clean[0].split()) == sorted(drawn.corrupt[0].split())
    False
    >>> len(drawn.clean[0].split()) == len(drawn.corrupt[0].split())
    True
    """
    random = Random(seed)
    concepts, entities = single_tokens(tokenizer, CONCEPTS), single_tokens(tokenizer, ENTITIES)
    if len(concepts) < _CONCEPTS_A_PAIR:
        concepts = single_tokens(tokenizer, _NOUNS)
    # One article for all, or it would give the answer's first letter away.
    concepts = [concept for concept in concepts if article(concept) == "a"]
    properties = single_tokens(tokenizer, PROPERTIES)
    if len(concepts) < _CONCEPTS_A_PAIR or not entities or not properties:
        raise ValueError(
            f"the tokenizer has {len(concepts)} concepts, {len(properties)} properties and {len(entities)} names of "
            f"one token, where deductions need {_CONCEPTS_A_PAIR}, 1 and 1: give pairs of your own"
        )
    rows = [_pair(random, concepts, properties, entities) for _ in range(n)]
    clean, corrupt, answer, distractor = (list(column) for column in zip(*rows, strict=True))
    return Pairs(clean, corrupt, answer, distractor)


def _pair(random: Random, concepts: list[str], properties: list[str], entities: list[str]) -> tuple[str, str, str, str]:
    a, b, c = random.sample(concepts, _CONCEPTS_A_PAIR)
    goal, entity = random.choice(properties), random.choice(entities)
    order = random.sample(range(3), 3)
    quantifiers = random.choices(("Each", "Every"), k=3)

    def prompt(start: str, first: str, second: str) -> str:
        links = ((start, f"a {first}"), (first, f"a {second}"), (second, goal))
        rules = [f"{quantifiers[i]} {links[i][0]} is {links[i][1]}." for i in order]
        question = f"{' '.join(rules)} {entity} is a {start}. Prove: {entity} is {goal}."
        return f"Q: {question}\nA: {entity} is a {start}. {quantifiers[0]} {start} is a"

    return prompt(a, b, c), prompt(b, c, a), f" {b}", f" {c}"
