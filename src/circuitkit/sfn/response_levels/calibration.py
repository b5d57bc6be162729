"""Where the borders between levels lie: between what an intact model says, and the same in the wrong place or order."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from circuitkit.evaluation import Decoding, evaluate
from circuitkit.sfn.response_levels.answers import Answer
from circuitkit.sfn.response_levels.errors import LevelError
from circuitkit.sfn.response_levels.evidence import Evidence, Reading, measure, readings
from circuitkit.sfn.response_levels.grammar import frames, well_formed
from circuitkit.sfn.response_levels.likelihood import Reference
from circuitkit.sfn.response_levels.wording import common_words, ways_of_arguing
from circuitkit.tasks.task import Item, Judgement, Task

N_PROMPTS, N_TOKENS = 32, 96
NONSENSE_AT = 1 / 3
"""How far from fluent text on another question to the same in random order nonsense begins."""
OFF_TASK_AT = 0.5
"""How far from answers to other questions to answers to the own one a response is on the task."""
MOST_REPEATED = 0.6
BROKEN_AT = 0.5
"""The share in well-formed sentences up to which a response is nonsense."""
FRAMED = 0.9
"""The share of an intact model's own text in known frames from which on frames tell what a sentence is."""
_SHORT = 4


@dataclass(frozen=True)
class Calibration:
    """What an intact model's own answers measure, and so where the borders lie.

    Attributes:
        reference: the model's name.
        n: answers that it gave.
        fluent: the median fluency of its answers, read as answers to other questions.
        scrambled: that of the same tokens in random order.
        own_dependence, other_dependence: the median dependence of its answers on the questions that they answer, and on
            other ones, in nats a token.
        own_overlap, other_overlap: the median shares of telling words in the question; NaN where there are none.
        own_sentences, other_sentences: the median shares of sentences that speak of the question.
        repeated: the share of repetition that 19 of 20 of its answers stay below.
        common: words that tell nothing, as half of all questions or answers have them.
        arguing: words of its answers that no question has.
        frames: the frames of sentences in prompts and its answers.
        framed: the mean share of its answers, in words, in frames that the prompts or other answers have.

    Raises:
        LevelError: fluent text is no likelier than scrambled text, or answers depend on their questions no more than on
            others: the model is no reference for these prompts.
    """

    reference: str
    n: int
    fluent: float
    scrambled: float
    own_dependence: float
    other_dependence: float
    own_overlap: float
    other_overlap: float
    own_sentences: float
    other_sentences: float
    repeated: float
    common: tuple[str, ...] = ()
    arguing: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    framed: float = 0.0

    def __post_init__(self) -> None:
        if not self.fluent > self.scrambled:
            raise LevelError(
                f"{self.reference} finds its own answers (fluency {self.fluent:.2f}) no likelier than the same in "
                f"random order ({self.scrambled:.2f}): give an intact reference that knows the prompts' language"
            )
        if not self.own_dependence > self.other_dependence:
            raise LevelError(
                f"the answers of {self.reference} depend on their own questions ({self.own_dependence:.2f} nats a "
                f"token) no more than on others ({self.other_dependence:.2f}): give a reference that can do the task"
            )

    @property
    def least_fluency(self) -> float:
        """The fluency below which a response is nonsense."""
        return self.fluent - NONSENSE_AT * (self.fluent - self.scrambled)

    @property
    def most_repeated(self) -> float:
        """The share of repetition from which on a response is nonsense, more where intact answers repeat themselves."""
        return max(MOST_REPEATED, self.repeated)

    @property
    def tells_sentences(self) -> bool:
        """Whether frames tell what a sentence is: the reference's own answers, nearly all, are made of known ones."""
        return self.framed >= FRAMED

    @property
    def keeps_to_questions(self) -> bool:
        """Whether the sentences of its own answers speak of what their questions do, and of others' do not."""
        return self.own_sentences > max(0.5, self.other_sentences)

    def on_task(self, evidence: Evidence) -> float:
        """From 0, as an answer to another question, to 1, as one to the own.

        By the share of its sentences that speak of the question, where the reference's own answers keep to theirs (more
        than half of their sentences, and more than of others'); else by dependence and words together.
        """
        if self.keeps_to_questions and not np.isnan(evidence.sentences):
            return _scaled(evidence.sentences, self.own_sentences, self.other_sentences)
        known = [_scaled(evidence.dependence, self.own_dependence, self.other_dependence)]
        if self.own_overlap > self.other_overlap:
            known.append(_scaled(evidence.overlap, self.own_overlap, self.other_overlap))
        known = [each for each in known if not np.isnan(each)]
        return sum(known) / len(known) if known else float("nan")

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {name: None if value != value else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Calibration:
        """Of JSON."""
        plain: dict[str, Any] = {name: float("nan") if value is None else value for name, value in told.items()}
        return cls(**plain | {name: tuple(told.get(name, ())) for name in ("common", "arguing", "frames")})


def calibrate(
    reference: Reference, answers: Sequence[Answer], others: Sequence[str], seed: int, progress: bool
) -> Calibration:
    """Let a reference answer some of the prompts, and measure its answers, in the right place, another, and scrambled.

    Raises:
        LevelError: the model is no reference for these prompts.
    """
    drawn = random.Random(seed)
    prompts = list({each.question: each for each in answers}.values())
    chosen = drawn.sample(prompts, min(N_PROMPTS, len(prompts)))
    own = _answered(reference, chosen, seed, progress)
    common = common_words([*(each.question for each in prompts), *others]) | common_words([each.text for each in own])
    arguing = ways_of_arguing([each.text for each in own], [*(each.question for each in prompts), *others])
    common |= arguing
    known = frames([*(each.prompt for each in answers), *others], [each.text for each in own], arguing)
    shares = [well_formed(each.text, each.ended, known, arguing) for each in own]
    framed = [each for each in shares if each is not None]
    good = readings(own, [*others, *(each.question for each in prompts)], seed)
    swapped = [_swapped(each) for each in good]
    scrambled = [replace(each, answer=_scrambled(reference, each.answer, drawn)) for each in good]
    every = [*good, *swapped, *scrambled]
    n_rows = sum(1 + len(each.others) for each in every)
    with tqdm(total=n_rows, desc="calibration", unit="row", disable=not progress, delay=1.0) as bar:
        found = measure(reference, every, common, bar.update)
    n = len(good)
    own_found, other, random_order = found[:n], found[n : 2 * n], found[2 * n :]
    return Calibration(
        reference.model.name,
        n,
        _median([each.fluency for each in other]),
        _median([each.fluency for each in random_order]),
        _median([each.dependence for each in own_found]),
        _median([each.dependence for each in other]),
        _median([each.overlap for each in own_found]),
        _median([each.overlap for each in other]),
        _median([each.sentences for each in own_found]),
        _median([each.sentences for each in other]),
        float(np.quantile([each.repeated for each in own_found], 0.95)),
        tuple(sorted(common)),
        tuple(sorted(arguing)),
        tuple(sorted(known)),
        float(np.mean(framed)) if framed else 0.0,
    )


def _answered(reference: Reference, asked: Sequence[Answer], seed: int, progress: bool) -> list[Answer]:
    """The reference's own answers, drawn token by token."""
    begins = reference.tokenizer.bos_token or ""
    items = [Item(str(at), each.prompt.removeprefix(begins), "-") for at, each in enumerate(asked)]
    task = Task("calibration", tuple(items), {"none": lambda item, text: Judgement(False, None)})
    found = evaluate(
        reference.model,
        task,
        decoding=Decoding(temperature=1.0),
        seeds=(seed,),
        max_new_tokens=N_TOKENS,
        progress=progress,
    )
    own = [
        replace(each, key=f"calibration/{each.key}", text=response.text, ended=not response.truncated)
        for each, response in zip(asked, found.responses, strict=True)
        if response.text.strip()
    ]
    if not own:
        raise LevelError(f"{reference.model.name} answers nothing to these prompts: give another reference")
    return own


def _swapped(read: Reading) -> Reading:
    """The same text as an answer to another question, and its own question not among the others."""
    new = read.answer.asked(read.others[0])
    answer = replace(read.answer, prompt=new, question=read.others[0])
    return Reading(answer, read.others[1:] or (read.answer.question,))


def _scrambled(reference: Reference, answer: Answer, drawn: random.Random) -> Answer:
    """The same tokens in random order; of few, random tokens of the vocabulary."""
    ids = list(reference.response(answer.text))
    special = set(reference.tokenizer.all_special_ids)
    if len(ids) >= _SHORT:
        drawn.shuffle(ids)
    else:
        known = [token for token in range(len(reference.tokenizer)) if token not in special]
        ids = drawn.sample(known, min(len(known), max(2, len(ids))))
    return replace(answer, text=reference.tokenizer.decode(ids))


def _median(values: Sequence[float]) -> float:
    known = [each for each in values if not np.isnan(each)]
    return float(np.median(known)) if known else float("nan")


def _scaled(value: float, own: float, other: float) -> float:
    return float(np.clip((value - other) / (own - other), -1.0, 2.0)) if not np.isnan(value) else value
