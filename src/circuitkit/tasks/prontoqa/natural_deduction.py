"""Natural deduction over what a proof says: the check behind the word "sound".

Every statement keeps the sets of hypotheses under which it has been proved, and only a case analysis or a
contradiction uses a hypothesis up. The order in which operands are said makes no difference. Source: the rules are
Gentzen's, kept line by line in Lemmon's style.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from circuitkit.tasks.prontoqa.logic import And, Formula, Or, Rule, about, negation, subjects, unordered

Hypotheses = frozenset[Formula]


class NaturalDeduction:
    """The statements proved so far from `axioms`, read sentence by sentence.

    >>> from circuitkit.tasks.prontoqa.logic import Atom
    >>> wumpus, loud = Atom("wumpus", "Fae"), Atom("loud", "Fae")
    >>> proof = NaturalDeduction([Rule(Atom("wumpus", None), Atom("loud", None))])
    >>> for sentence in (wumpus, proof.axioms[0]):
    ...     proof.assume(sentence) if sentence == wumpus else proof.say(sentence)
    >>> proof.say(loud)
    >>> proof.proves(loud), proof.under(loud) == {frozenset({wumpus})}
    (False, True)
    """

    def __init__(self, axioms: Sequence[Formula]) -> None:
        self.axioms = tuple(unordered(axiom) for axiom in axioms)
        self._proved: dict[Formula, set[Hypotheses]] = {}
        self._absurd: set[Hypotheses] = set()

    def under(self, form: Formula) -> set[Hypotheses]:
        """Return the smallest sets of hypotheses under which `form` was said and proved."""
        return self._proved.get(unordered(form), set())

    def proves(self, form: Formula) -> bool:
        """Say whether `form` was said and proved from the axioms alone."""
        return frozenset() in self.under(form)

    def assume(self, form: Formula) -> None:
        """Take `form` as a hypothesis."""
        self._absurd, form = set(), unordered(form)
        self._hold(form, {frozenset({form})})

    def contradicts(self, form: Formula | None) -> None:
        """Note what `form`, which may be an axiom, and its negation rest on; None takes every pair that was said."""
        said = [unordered(form)] if form is not None else list(self._proved)
        self._absurd = _smallest(
            held | denied
            for each in said
            for held in self._had(each)
            for denied in self._had(unordered(negation(each)))
        )

    def say(self, form: Formula) -> None:
        """Take `form` as the next statement; it is held under what one application of a rule lets it rest on."""
        absurd, self._absurd, form = self._absurd, set(), unordered(form)
        found = {frozenset[Formula]()} if form in self.axioms else self._follows(form)
        denied = unordered(negation(form))
        self._hold(form, found | {held - {denied} for held in absurd if denied in held})

    def _had(self, form: Formula) -> set[Hypotheses]:
        return {frozenset()} if form in self.axioms else self.under(form)

    def _hold(self, form: Formula, found: set[Hypotheses]) -> None:
        if found:
            self._proved[form] = _smallest(found | self.under(form))

    def _follows(self, form: Formula) -> set[Hypotheses]:
        found: set[Hypotheses] = set()
        if isinstance(form, And):
            found |= _together([self.under(operand) for operand in form.operands])
        if isinstance(form, Or):
            found = found.union(*(self.under(operand) for operand in form.operands))
        for said, held in self._proved.items():
            match said:
                case And(operands) if form in operands:
                    found |= held
                case Or(operands):
                    cases = [{each - {case} for each in self.under(form)} for case in operands]
                    found |= _together([held, *cases])
                case Rule(antecedent, consequent) if len(names := subjects(form)) == 1:
                    (name,) = names
                    if unordered(about(consequent, name)) == form:
                        found |= _together([held, self.under(about(antecedent, name))])
        return found


def _together(each: Sequence[set[Hypotheses]]) -> set[Hypotheses]:
    """Return what premises rest on together, for every choice of what each rests on."""
    found: set[Hypotheses] = {frozenset()}
    for sets in each:
        found = _smallest(one | other for one in found for other in sets)
    return found


def _smallest(sets: Iterable[Hypotheses]) -> set[Hypotheses]:
    found = set(sets)
    return {each for each in found if not any(other < each for other in found)}
