"""PrOntoQA-OOD as tasks that a model is evaluated on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from circuitkit.tasks.prontoqa.judges import DECISION_JUDGES, PROOF_JUDGES
from circuitkit.tasks.prontoqa.questions import Example, generate
from circuitkit.tasks.prontoqa.shapes import USUAL_WIDTH, Distractors, Mode, canonical_rule
from circuitkit.tasks.task import Item, Task

MAX_NEW_TOKENS = 256
NEXT_QUESTION = "Q:"
SOURCE = "PrOntoQA-OOD, drawn by circuitkit after Saparov et al. 2023"


def task(
    rule: str | Sequence[str],
    hops: int | Sequence[int] = 1,
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
) -> Task:
    """Draw `n` questions of a rule as a task, each behind exemplars of its own; arguments as those of `generate`.

    Several rules or numbers of hops make one task of all their questions, told apart by the groups "rule" and "hops".
    A proof is judged as "headline", "strict" and "sound", see `judge`; a response no sentence of which can be read is
    unparseable. In the mode "direct" the judge is "label", and chance is one in two.

    Raises `ValueError` as `generate` does, `TaskError` for n below 1.

    Source: Saparov et al. 2023; protocol of Hsiao & Dutta 2025, arXiv 2502.15120.

    >>> asked = task("ModusPonens", hops=2, shots=3, n=5)
    >>> asked.name, len(asked.items), asked.prompt(asked.items[0], shots=1).count("Q:")
    ('prontoqa/implication_elimination/2', 5, 2)
    """
    rules = [canonical_rule(each) for each in ([rule] if isinstance(rule, str) else rule)]
    numbers = [hops] if isinstance(hops, int) else list(hops)
    shape = _told_apart(distractors, mode, width)
    exemplars = _exemplars_told(exemplar_rules, exemplar_hops, exemplar_width) if shots else ""
    items: list[Item] = []
    for each in rules:
        for number in numbers:
            examples = generate(
                each,
                number,
                shots,
                n,
                seed,
                distractors=distractors,
                mode=mode,
                width=width,
                exemplar_rules=exemplar_rules,
                exemplar_hops=exemplar_hops,
                exemplar_width=exemplar_width,
            )
            # Exemplars are drawn with the questions, so that other exemplars make other questions.
            items += _items(examples, f"{each}/{number}{shape}{exemplars}/{shots}shot/seed {seed}")
    return Task(
        f"prontoqa/{'+'.join(rules)}/{'+'.join(map(str, numbers))}{shape}{exemplars}",
        tuple(items),
        PROOF_JUDGES if mode == "proof" else DECISION_JUDGES,
        shots=shots,
        max_new_tokens=MAX_NEW_TOKENS if mode == "proof" else 1,
        stop=(NEXT_QUESTION,),
        chance=None if mode == "proof" else 0.5,
        source=f"{SOURCE} (seed {seed})",
    )


def _told_apart(distractors: str, mode: str, width: int) -> str:
    """What a name says of a draw that is not the usual one."""
    unusual = {
        f"{distractors} distractors": distractors != "none",
        mode: mode != "proof",
        f"width {width}": width != USUAL_WIDTH,
    }
    return "".join(f"/{said}" for said, holds in unusual.items() if holds)


def _exemplars_told(rules: str | Sequence[str], hops: int | None, width: int | None) -> str:
    """What a name says of exemplars that are not the question's like."""
    shown = rules if isinstance(rules, str) else "+".join(rules)
    told = [shown] if shown != "same" else []
    told += [f"{hops} hops"] if hops is not None else []
    told += [f"width {width}"] if width is not None else []
    return f"/exemplars {', '.join(told)}" if told else ""


def _items(examples: Sequence[Example], named: str) -> Iterator[Item]:
    for number, example in enumerate(examples):
        question = example.prompt.removeprefix("".join(example.exemplars))
        groups: dict[str, str | int] = {"rule": example.rule, "hops": example.hops, "width": example.width}
        yield Item(f"{named}/{number:03d}", question, example.gold, example.exemplars, groups)
