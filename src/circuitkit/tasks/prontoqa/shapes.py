"""What a question is drawn as: its rule, number of hops and width, and those of the exemplars before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

from circuitkit.tasks.prontoqa.deductions import DEDUCTIONS
from circuitkit.tasks.prontoqa.language import CONCEPTS, PROPERTY_FAMILIES

RULES = tuple(DEDUCTIONS)
ALIASES = {
    "ModusPonens": "implication_elimination",
    "AndIntro": "conjunction_introduction",
    "AndElim": "conjunction_elimination",
    "OrIntro": "disjunction_introduction",
    "OrElim": "disjunction_elimination",
    "ProofByContra": "proof_by_contradiction",
}
ONE_HOP_RULES = ("disjunction_elimination", "proof_by_contradiction")
WITHOUT_WIDTH = ("implication_elimination",)
USUAL_WIDTH = 2

Distractors = Literal["none", "relevant", "irrelevant"]
Mode = Literal["proof", "direct"]

# What the source's --OOD leaves out, beside the tested rule itself.
_NO_EXEMPLARS_FOR = {
    "implication_elimination": ONE_HOP_RULES,
    "conjunction_introduction": ("proof_by_contradiction",),
    "disjunction_introduction": ("proof_by_contradiction",),
}


def canonical_rule(rule: str) -> str:
    """Return the name in `RULES` for `rule`, which may be the source's own name for it.

    Raises `ValueError` for an unknown rule.

    >>> canonical_rule("OrElim")
    'disjunction_elimination'
    """
    name = ALIASES.get(rule, rule)
    if name not in RULES:
        raise ValueError(f"unknown deduction rule {rule!r}; there are: {', '.join((*RULES, *ALIASES))}")
    return name


@dataclass(frozen=True)
class Shape:
    """A rule with its number of hops and its width, checked to be of the language.

    >>> Shape("conjunction_elimination", hops=2, width=3).hops
    2
    """

    rule: str
    hops: int = 1
    width: int = USUAL_WIDTH
    distractors: Distractors = "none"
    mode: Mode = "proof"

    def __post_init__(self) -> None:
        if self.rule in ONE_HOP_RULES and self.hops != 1:
            raise ValueError(f"{self.rule} is defined for one hop only, not {self.hops}; ask for hops=1")
        if not 1 <= self.hops <= 5:
            raise ValueError(f"hops must be from 1 to 5, not {self.hops}")
        if self.distractors not in get_args(Distractors):
            raise ValueError(f"distractors must be one of {get_args(Distractors)}, not {self.distractors!r}")
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {get_args(Mode)}, not {self.mode!r}")
        if self.width != USUAL_WIDTH:
            self._check_width()

    def _check_width(self) -> None:
        if self.rule in WITHOUT_WIDTH:
            raise ValueError(f"{self.rule} joins nothing, so it has no width: leave width at {USUAL_WIDTH}")
        if self.mode == "direct":
            raise ValueError(f"a width other than {USUAL_WIDTH} is for proofs: mode='direct' has none")
        if self.width < USUAL_WIDTH:
            raise ValueError(f"width is how many are joined, {USUAL_WIDTH} or more, not {self.width}")
        more = 0 if self.distractors == "none" else self.hops
        if self.rule in ONE_HOP_RULES:
            wanted, there, kind = self.width + 1 + more, len(CONCEPTS), "concepts"
        else:
            wanted, there, kind = self.hops * (self.width - 1) + more, len(PROPERTY_FAMILIES), "properties that agree"
        if wanted > there:
            raise ValueError(
                f"{self.rule} of {self.hops} hops and width {self.width} takes {wanted} {kind}, and the language has "
                f"{there}: ask for fewer hops or a smaller width"
            )


@dataclass(frozen=True)
class Exemplars:
    """How the exemplars before questions of one shape are drawn.

    Attributes:
        rules: one or several, each exemplar's drawn from them with repetition.
        hops: of rules that may have more than one.
        width: of rules that have one.
    """

    rules: tuple[str, ...]
    hops: int
    width: int

    @classmethod
    def before(
        cls, tested: Shape, rules: str | Sequence[str] = "same", hops: int | None = None, width: int | None = None
    ) -> Exemplars:
        """The exemplars before a question: of its rule ("same"), "others", the source's "ood", or rules by name.

        Raises:
            ValueError: a rule is unknown or none is named, or hops or a width are asked of rules that have none.

        >>> Exemplars.before(Shape("implication_elimination", hops=3), "ood")
        Exemplars(rules=('conjunction_introduction', ...), hops=1, width=4)
        """
        usual_hops, usual_width = tested.hops, tested.width
        if rules == "ood":
            if tested.rule == "implication_elimination":
                usual_hops, usual_width = 1, 4
            elif tested.rule in ONE_HOP_RULES:
                usual_hops = 3
        drawn = cls(
            _named(tested, rules), usual_hops if hops is None else hops, usual_width if width is None else width
        )
        if width is not None and set(drawn.rules) <= set(WITHOUT_WIDTH) and width != USUAL_WIDTH:
            raise ValueError(f"exemplars of {', '.join(drawn.rules)} have no width: leave exemplar_width out")
        if hops not in (None, 1) and set(drawn.rules) <= set(ONE_HOP_RULES):
            raise ValueError(f"exemplars of {', '.join(drawn.rules)} have one hop only: leave exemplar_hops out")
        for rule in drawn.rules:
            drawn._shape(rule, tested)
        return drawn

    def draw(self, random: Random, tested: Shape) -> Shape:
        """One exemplar's shape; nothing is drawn where there is one rule only."""
        rule = self.rules[0] if len(self.rules) == 1 else random.choice(self.rules)
        return self._shape(rule, tested)

    def _shape(self, rule: str, tested: Shape) -> Shape:
        hops = 1 if rule in ONE_HOP_RULES else self.hops
        width = USUAL_WIDTH if rule in WITHOUT_WIDTH else self.width
        return Shape(rule, hops, width, tested.distractors, tested.mode)


def _named(tested: Shape, rules: str | Sequence[str]) -> tuple[str, ...]:
    if rules == "same":
        return (tested.rule,)
    if rules in ("others", "ood"):
        left_out = {tested.rule, *(_NO_EXEMPLARS_FOR.get(tested.rule, ()) if rules == "ood" else ())}
        return tuple(rule for rule in RULES if rule not in left_out)
    if not rules:
        raise ValueError("exemplar_rules names no rule: give 'same', 'others', 'ood', or rules by name")
    return tuple(canonical_rule(rule) for rule in ([rules] if isinstance(rules, str) else rules))
