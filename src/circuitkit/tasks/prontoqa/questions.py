"""Questions of PrOntoQA-OOD, with exemplars, in the prompt format of the published evaluations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Literal, get_args

from circuitkit.tasks.prontoqa import language
from circuitkit.tasks.prontoqa.decisions import DECISIONS, Decision
from circuitkit.tasks.prontoqa.deductions import DEDUCTIONS, Deduction, Draw

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

Distractors = Literal["none", "relevant", "irrelevant"]
Mode = Literal["proof", "direct"]


@dataclass(frozen=True)
class Example:
    """A question and its answer.

    `prompt` ends in "A:" and is continued by `answer`, which starts with a space. In the mode "proof", `answer`
    is the chain of thought, whose sentences are `steps`; in the mode "direct" it is " True" or " False" and
    there are no steps. `label` says whether the statement follows (True) or its negation does (False).
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


def generate(
    rule: str,
    hops: int = 1,
    shots: int = 8,
    n: int = 100,
    seed: int = 0,
    *,
    distractors: Distractors = "none",
    mode: Mode = "proof",
) -> list[Example]:
    """Draw `n` questions of one deduction rule, each after `shots` fresh exemplars of the same rule and hops.

    `rule` is one of `RULES`, or the source's name for it ("ModusPonens", …). Hops run from 1 to 5, except for
    disjunction elimination and proof by contradiction, which have one. Distractors are further rules: about
    concepts that the proof passes through ("relevant") or about others ("irrelevant"). In the mode "direct" the
    query is "True or false: …", half of the statements being false; distractors then bring evidence for the contrary
    about something else, without which, as in the source, the negations alone tell the answer. Equal arguments give
    equal examples.

    Raises `ValueError` for an unknown rule, distractor or mode, and for hops, shots or n out of range.

    Source: Saparov et al. 2023; prompt format of Hsiao & Dutta 2025, arXiv 2502.15120.

    >>> example = generate("ModusPonens", hops=2, shots=0, n=1, seed=3)[0]
    >>> len(example.steps), example.prompt.endswith("A:")
    (5, True)
    """
    if n < 0:
        raise ValueError(f"n is the number of questions and cannot be {n}")
    random = Random(seed)
    return [sample(random, rule, hops=hops, shots=shots, distractors=distractors, mode=mode) for _ in range(n)]


def sample(
    random: Random,
    rule: str,
    *,
    hops: int = 1,
    shots: int = 0,
    distractors: Distractors = "none",
    mode: Mode = "proof",
) -> Example:
    """Draw one question from `random`; the arguments and errors are those of `generate`.

    >>> sample(Random(0), "AndElim").rule
    'conjunction_elimination'
    """
    rule = canonical_rule(rule)
    _check(rule, hops, shots, distractors, mode)
    drawn: list[Example] = []
    while len(drawn) <= shots:
        candidate = _question(random, rule, hops, distractors, mode)
        if all(candidate.question != other.question for other in drawn):
            drawn.append(candidate)
    *exemplars, last = drawn
    gap = "\n\n" if "\n\n" in last.answer else "\n"
    shown = "".join(f"{other.prompt}{other.answer}{gap}\n" for other in exemplars)
    return replace(last, prompt=shown + last.prompt)


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


def _check(rule: str, hops: int, shots: int, distractors: str, mode: str) -> None:
    if rule in ONE_HOP_RULES and hops != 1:
        raise ValueError(f"{rule} is defined for one hop only, not {hops}; ask for hops=1")
    if not 1 <= hops <= 5:
        raise ValueError(f"hops must be from 1 to 5, not {hops}")
    if not 0 <= shots <= 8:
        raise ValueError(f"shots must be from 0 to 8, not {shots}")
    if distractors not in get_args(Distractors):
        raise ValueError(f"distractors must be one of {get_args(Distractors)}, not {distractors!r}")
    if mode not in get_args(Mode):
        raise ValueError(f"mode must be one of {get_args(Mode)}, not {mode!r}")


def _question(random: Random, rule: str, hops: int, distractors: str, mode: Mode) -> Example:
    draw = Draw(random)
    made: Deduction | Decision
    made = DEDUCTIONS[rule](draw, hops) if mode == "proof" else DECISIONS[rule](draw, hops, distractors != "none")
    rules = [*made.rules, *_distracting_rules(draw, made.chain, hops, distractors)]
    if hops > 1 or distractors != "none" or mode == "direct":
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
    gap = "\n\n" if "\n\n" in answer else "\n"
    prompt = f"Q: {question} {query}{gap}A:"
    return Example(question, query, prompt, answer, steps, rule, hops, mode, label)


def _distracting_rules(draw: Draw, chain: list[str], hops: int, distractors: str) -> list[str]:
    if distractors == "none":
        return []
    if distractors == "relevant":
        ends = [draw.concept() if draw.coin() else draw.property() for _ in range(hops)]
        starts = chain[:hops]
    else:
        starts, ends = [draw.concept() for _ in range(hops)], [draw.property() for _ in range(hops)]
    return [language.rule([start], [end], draw.quantifier()) for start, end in zip(starts, ends, strict=True)]
