"""Questions of PrOntoQA-OOD, with exemplars, in the prompt format of the published evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from circuitkit.tasks.prontoqa import language
from circuitkit.tasks.prontoqa.decisions import DECISIONS, Decision
from circuitkit.tasks.prontoqa.deductions import DEDUCTIONS, Deduction, Draw
from circuitkit.tasks.prontoqa.shapes import USUAL_WIDTH, Distractors, Exemplars, Mode, Shape, canonical_rule

MOST_SHOTS = 8


@dataclass(frozen=True)
class Example:
    """A question and its answer.

    `prompt` ends in "A:" and is continued by `answer`, which starts with a space; it begins with the `exemplars`. In
    the mode "proof", `answer` is the chain of thought, whose sentences are `steps`; in the mode "direct" it is " True"
    or " False" and there are no steps. `label` says whether the statement follows (True) or its negation does (False).
    `width` is how many conjuncts, disjuncts or cases the rule joins, and `exemplar_rules` holds each exemplar's rule.
    """

    question: str
    query: str
    prompt: str
    answer: str
    steps: tuple[str, ...]
    rule: str
    hops: int
    mode: Mode
    label: bool
    width: int = USUAL_WIDTH
    exemplars: tuple[str, ...] = ()
    exemplar_rules: tuple[str, ...] = ()

    @property
    def gold(self) -> str:
        """The answer without its leading space: the proof as one text, or "True" or "False"."""
        return self.answer[1:]

    @property
    def statement(self) -> str:
        """What the query asks to prove or to decide."""
        return self.query.split(": ", 1)[1]

    @property
    def judged(self) -> str:
        """The question as the judge takes it: the theory, then "Prove:" and the statement."""
        return f"{self.question} Prove: {self.statement}"

    @property
    def gap(self) -> str:
        """What stands between the query and the answer, in this question and in the exemplars before it."""
        return "\n\n" if "\n\n" in self.answer else "\n"


def generate(
    rule: str,
    hops: int = 1,
    shots: int = 8,
    n: int = 100,
    seed: int = 0,
    *,
    distractors: Distractors = "none",
    mode: Mode = "proof",
    width: int = USUAL_WIDTH,
    exemplar_rules: str | Sequence[str] = "same",
    exemplar_hops: int | None = None,
    exemplar_width: int | None = None,
) -> list[Example]:
    """Draw `n` questions of one deduction rule, each after `shots` fresh exemplars.

    `rule` is one of `RULES`, or the source's name for it ("ModusPonens", …). Hops run from 1 to 5, except for
    disjunction elimination and proof by contradiction, which have one. Distractors are further rules: about
    concepts that the proof passes through ("relevant") or about others ("irrelevant"). In the mode "direct" the
    query is "True or false: …", half of the statements being false; distractors then bring evidence for the contrary
    about something else, without which, as in the source, the negations alone tell the answer. Equal arguments give
    equal examples.

    `width` is how many conjuncts, disjuncts or cases the rule joins; implication elimination joins nothing.
    `exemplar_rules` says what the exemplars show: the "same" rule (in distribution), all "others", the rules that the
    source takes out of distribution ("ood": without proofs by contradiction, and for implication elimination without
    proofs by cases, where these would show the tested rule), or rules by name. Exemplars have the question's hops and
    width unless told otherwise, as far as their rule has any; with "ood" those of the source: one hop and width 4
    before implication elimination, three hops before the two rules of one hop.

    Raises `ValueError` for an unknown rule, distractor or mode, for hops, shots or n out of range, and for a width that
    the rule does not have or the language has no words for.

    Source: Saparov et al. 2023; prompt format of Hsiao & Dutta 2025, arXiv 2502.15120.

    >>> example = generate("ModusPonens", hops=2, shots=0, n=1, seed=3)[0]
    >>> len(example.steps), example.prompt.endswith("A:")
    (5, True)
    """
    if n < 0:
        raise ValueError(f"n is the number of questions and cannot be {n}")
    random = Random(seed)
    return [
        sample(
            random,
            rule,
            hops=hops,
            shots=shots,
            distractors=distractors,
            mode=mode,
            width=width,
            exemplar_rules=exemplar_rules,
            exemplar_hops=exemplar_hops,
            exemplar_width=exemplar_width,
        )
        for _ in range(n)
    ]


def sample(
    random: Random,
    rule: str,
    *,
    hops: int = 1,
    shots: int = 0,
    distractors: Distractors = "none",
    mode: Mode = "proof",
    width: int = USUAL_WIDTH,
    exemplar_rules: str | Sequence[str] = "same",
    exemplar_hops: int | None = None,
    exemplar_width: int | None = None,
) -> Example:
    """Draw one question from `random`; the arguments and errors are those of `generate`.

    >>> sample(Random(0), "AndElim").rule
    'conjunction_elimination'
    """
    shape = Shape(canonical_rule(rule), hops, width, distractors, mode)
    if not 0 <= shots <= MOST_SHOTS:
        raise ValueError(f"shots must be from 0 to {MOST_SHOTS}, not {shots}")
    shown = Exemplars.before(shape, exemplar_rules, exemplar_hops, exemplar_width)
    drawn: list[Example] = []
    while len(drawn) <= shots:
        candidate = _question(random, shown.draw(random, shape) if len(drawn) < shots else shape)
        if all(candidate.question != other.question for other in drawn):
            drawn.append(candidate)
    *before, last = drawn
    # The question's own gap is that of all exemplars, whatever theirs would be.
    exemplars = tuple(f"{_asked(other, last.gap)}{other.answer}{last.gap}\n" for other in before)
    rules = tuple(other.rule for other in before)
    return replace(last, prompt="".join(exemplars) + last.prompt, exemplars=exemplars, exemplar_rules=rules)


def _asked(example: Example, gap: str) -> str:
    return f"Q: {example.question} {example.query}{gap}A:"


def _question(random: Random, shape: Shape) -> Example:
    draw, hops, distractors = Draw(random), shape.hops, shape.distractors
    made: Deduction | Decision
    if shape.mode == "proof":
        made = DEDUCTIONS[shape.rule](draw, hops, shape.width)
    else:
        made = DECISIONS[shape.rule](draw, hops, distractors != "none")
    rules = [*made.rules, *_distracting_rules(draw, made.chain, hops, distractors)]
    if hops > 1 or distractors != "none" or shape.mode == "direct":
        random.shuffle(rules)
    # The published prompts leave a space where a question has no rules.
    question = f"{' '.join(rules)} {' '.join(made.facts)}"
    steps: tuple[str, ...] = ()
    if isinstance(made, Decision):
        query, answer, label = f"True or false: {made.statement}", f" {made.label}", made.label
    else:
        query, label = f"Prove: {made.statement}", True
        answer = " " + "\n\n ".join(" ".join(paragraph) for paragraph in made.proof)
        steps = tuple(sentence for paragraph in made.proof for sentence in paragraph)
    example = Example(question, query, "", answer, steps, shape.rule, hops, shape.mode, label, shape.width)
    return replace(example, prompt=_asked(example, example.gap))


def _distracting_rules(draw: Draw, chain: list[str], hops: int, distractors: str) -> list[str]:
    if distractors == "none":
        return []
    if distractors == "relevant":
        ends = [draw.concept() if draw.coin() else draw.property() for _ in range(hops)]
        starts = chain[:hops]
    else:
        starts, ends = [draw.concept() for _ in range(hops)], [draw.property() for _ in range(hops)]
    return [language.rule([start], [end], draw.quantifier()) for start, end in zip(starts, ends, strict=True)]
