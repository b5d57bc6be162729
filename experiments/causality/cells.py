"""The two causal tests of `attention_causality.py`, as the cells of its sweep: what is masked or forced, and measured.

Every cell gives its verdicts item by item, so that conditions are compared on the same items.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from sweeps import as_text

import circuitkit as ck
from circuitkit import attention
from circuitkit.run import Interventions
from circuitkit.tasks import prontoqa
from circuitkit.tasks.task import Item, Task

Rows = Sequence[Sequence[int]]
Cell = dict[str, str | float]
Kind = Literal["chosen", "random", "same part of speech"]

Tokens = Literal["all", "content"]

CONTENT = ("entity", "concept", "property")
CONTROLS: tuple[Kind, ...] = ("random", "same part of speech")
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Questions:
    """Which questions are asked, without exemplars: a model's own training has to do."""

    rule: str
    hops: int
    n: int
    distractors: prontoqa.Distractors
    seed: int
    shots: int
    max_new_tokens: int

    def task(self) -> Task:
        """The questions as a task."""
        drawn = prontoqa.task(self.rule, self.hops, self.shots, self.n, self.seed, distractors=self.distractors)
        return replace(drawn, max_new_tokens=self.max_new_tokens)


def proving(model: ck.Model, questions: Questions) -> Cell:
    """How well a model proves as it is."""
    found = ck.evaluate(model, questions.task(), progress=False)
    return {
        "parameters": sum(weights.numel() for weights in model.hf.parameters()),
        "n_layers": model.n_layers,
        "shots": found.shots,
        "unparseable": found.unparseable.value,
        "truncated": found.truncated.value,
        **{judge: as_text(found.frame[judge]) for judge in found.judges},
    }


def masking(model: ck.Model, questions: Questions, tokens: Tokens, k: int, draws: int) -> Cell:
    """Proofs with the k prompt tokens masked that the model's own proof attended to most, and with random ones.

    Of all tokens, or of the content words alone: names, concepts and properties.

    Masked is what no token may attend to, in any layer and head, while reading and while writing. The first token, onto
    which attention goes that has nowhere else to go, is never masked, nor the last, from which the answer is begun.
    """
    task = questions.task()
    clean = ck.evaluate(model, task, progress=False)
    # What wrote nothing attended to nothing.
    task = task.only([each.key for each in clean.responses if each.text.strip()])
    written = {each.key: each for each in clean.responses}
    prompts = [written[item.key].prompt for item in task.items]
    answers = [written[item.key].text for item in task.items]
    shares = attention.received(model, prompts, answers, progress=False)
    kinds = attention.parts_of_speech(model, prompts)
    among = [
        tuple(at for at in range(1, len(row) - 1) if tokens == "all" or kinds[number][at] in CONTENT)
        for number, row in enumerate(shares)
    ]
    chosen = attention.most_attended(shares, k, among)

    def proofs(rows: Rows) -> dict[str, str]:
        hidden = masked(model, task.items, rows)
        found = ck.evaluate(model, task, hidden, shots=clean.shots, progress=False)
        return {judge: as_text(found.frame[judge]) for judge in found.judges}

    conditions: list[dict[str, object]] = [{"kind": "chosen", "overlap": 1.0, **proofs(chosen)}]
    for kind in CONTROLS:
        for draw in range(draws):
            of = kinds if kind == "same part of speech" else None
            rows = attention.random_tokens(chosen, among, seed=questions.seed + draw, kinds=of)
            conditions.append({"kind": kind, "overlap": attention.overlap(chosen, rows), **proofs(rows)})
    received = [row[list(at)].sum() for row, at in zip(shares, chosen, strict=True)]
    whole = clean.frame[clean.frame["key"].isin([item.key for item in task.items])]
    spoken = [kinds[row][at] for row, places in enumerate(chosen) for at in places]
    return {
        "n": len(task.items),
        "conditions": json.dumps(conditions),
        "chosen_kinds": json.dumps({kind: spoken.count(kind) / len(spoken) for kind in sorted(set(spoken))}),
        "share_received": float(torch.stack(received).mean()),
        **{judge: as_text(whole[judge]) for judge in clean.judges},
    }


def masked(
    model: ck.Model, items: Sequence[Item], rows: Rows
) -> Callable[[Sequence[Item], ck.model.Tokens], Interventions]:
    """Interventions for each batch: no token may attend to its prompt's positions."""
    of = {item.key: places for item, places in zip(items, rows, strict=True)}

    def hidden(batch: Sequence[Item], tokens: ck.model.Tokens) -> Interventions:
        keys = [of[item.key] for item in batch]
        return [ck.knockout(layer, keys=keys) for layer in model.layers_with("pattern")]

    return hidden


@dataclass(frozen=True)
class Step:
    """A gold token that has been said before: the tokens up to it, itself, and where it stands there."""

    proof: int
    ids: tuple[int, ...]
    gold: int
    right: tuple[int, ...]
    kinds: tuple[str, ...]

    @property
    def others(self) -> tuple[int, ...]:
        """Positions that are not right ones, the first token left out."""
        return tuple(at for at in range(1, len(self.ids)) if at not in self.right)

    @property
    def matched(self) -> bool:
        """Whether as many other tokens have the parts of speech of the right ones."""
        kind = self.kinds[self.right[0]]
        return sum(self.kinds[at] == kind for at in self.others) >= len(self.right)


def steps_of(model: ck.Model, task: Task, shots: int) -> Iterator[Step]:
    """Each token of each gold proof that occurs before it, with what stands before it."""
    prompts = [task.prompt(item, shots) for item in task.items]
    whole = [f"{prompt} {item.gold}" for prompt, item in zip(prompts, task.items, strict=True)]
    kinds = attention.parts_of_speech(model, whole)
    for proof, (prompt, text) in enumerate(zip(prompts, whole, strict=True)):
        ids = tuple(model.tokens(text).ids[0].tolist())
        for at in range(int(model.tokens(prompt).lengths[0]), len(ids)):
            right = tuple(place for place in range(at) if ids[place] == ids[at])
            if right:
                yield Step(proof, ids[:at], ids[at], right, kinds[proof][:at])


def forcing(model: ck.Model, questions: Questions, shots: int, layer: int | str, draws: int, weight: float) -> Cell:
    """Gold proofs token by token, with attention forced onto the earlier occurrences of the next token, or elsewhere.

    All heads of the layer (or of all layers) attend with this weight, from the last token alone; a row a gold token.
    """
    layers = model.layers_with("pattern") if layer == "all" else [int(layer)]
    steps = list(steps_of(model, questions.task(), shots))
    among = [(*step.others, *step.right) for step in steps]
    right = [step.right for step in steps]

    def told(kind: str, rows: Rows | None) -> dict[str, object]:
        hit, log_p = predicted(model, steps, layers, rows, weight)
        return {"kind": kind, "correct": as_text(hit), "log_p": [round(float(value), 5) for value in log_p]}

    conditions = [told("not forced", None), told("chosen", right)]
    for kind in CONTROLS:
        of = [step.kinds for step in steps] if kind == "same part of speech" else None
        conditions += [
            told(kind, attention.random_tokens(right, among, seed=questions.seed + draw, kinds=of))
            for draw in range(draws)
        ]
    return {
        "conditions": json.dumps(conditions),
        "proofs": json.dumps([step.proof for step in steps]),
        "matched": as_text([step.matched for step in steps]),
    }


def predicted(
    model: ck.Model, steps: Sequence[Step], layers: Sequence[int], rows: Rows | None, weight: float
) -> tuple[list[bool], list[float]]:
    """Whether each next token is the most likely one, and its log-probability in nats."""
    # Rows of like length beside each other, so that little is padded.
    order = sorted(range(len(steps)), key=lambda number: len(steps[number].ids))
    hit, log_p = [False] * len(steps), [0.0] * len(steps)
    for start in range(0, len(order), ROWS_AT_ONCE):
        part = order[start : start + ROWS_AT_ONCE]
        forced: Interventions = []
        if rows is not None:
            keys = [rows[number] for number in part]
            forced = [attention.force(layer, queries=-1, keys=keys, weight=weight) for layer in layers]
        logits = model.run([list(steps[number].ids) for number in part], forced, logits_at=-1).logits.float()
        gold = torch.tensor([steps[number].gold for number in part], device=logits.device)
        said = logits.log_softmax(-1).gather(-1, gold[:, None])[:, 0].tolist()
        for number, right, value in zip(part, (logits.argmax(-1) == gold).tolist(), said, strict=True):
            hit[number], log_p[number] = right, value
    return hit, log_p
