"""Responses of one or more models to the same items: who is right where, what was said, and each step of a proof."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os.path import commonpath
from typing import TypedDict

import pandas as pd

from circuitkit.evaluation.comparison import compare
from circuitkit.evaluation.errors import EvaluationError
from circuitkit.evaluation.outcome import Evaluation, Share
from circuitkit.report import sentences, stills
from circuitkit.report.contents import Contents, File
from circuitkit.report.section import Section, Still
from circuitkit.report.sections import choices
from circuitkit.report.sections.kept_items import ItemData, kept
from circuitkit.report.sections.tables import thinned

MOST_BYTES = 1_600_000
"""Of all responses in a page, together."""

MOST_OF_A_TASK = 700_000
"""Of the responses to one task."""

MOST_MODELS = 24
"""How many evaluations stand side by side: a table of more could not be read."""

MOST_CARDS = 2
"""How many cards of one task stand apart: of more, one is chosen."""

MOST_SIGNS = 100_000
"""How many signs, one an item and model, tell who is right where."""

_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9}


class Asked(TypedDict):
    """One evaluation: whose, and its accuracies by judge, each with its interval."""

    name: str
    shares: Mapping[str, Mapping[str, float]]
    unparseable: float
    truncated: float
    n: int


class ResponsesData(TypedDict):
    """What the front end's view of responses shows (`frontend/src/views/responses.ts`).

    `right` has, by judge, a text for each evaluation, with a sign for each of all items: "1" if all of its responses
    are right, "0" if none is, "~" if some are, "-" if it was not asked.
    """

    task: str
    judges: Sequence[str]
    groups: Sequence[str]
    chance: float | None
    asked: list[Asked]
    right: Mapping[str, list[str]]
    of_group: Sequence[Sequence[int | str | None]]
    items: list[ItemData]


@dataclass(frozen=True)
class Evaluated:
    """An evaluation of a folder, and what it is called beside others."""

    part: Contents
    file: File
    name: str

    @property
    def found(self) -> Evaluation:
        """The evaluation."""
        found: Evaluation = self.file.value
        return found

    @cached_property
    def by_item(self) -> Mapping[str, Mapping[str, str]]:
        """By judge and item: "1" where all responses are right, "0" where none is, "~" where some are."""
        frame = self.found.frame
        return {
            judge: {
                str(key): "1" if share == 1 else "0" if share == 0 else "~"
                for key, share in frame.groupby("key", sort=False)[judge].mean().items()
            }
            for judge in self.found.judges
        }


def sections(contents: Contents) -> Iterator[Section]:
    """A section for each task, with all evaluations of it that a folder and those in it hold, side by side."""
    groups = _of_one_task(contents)
    tasks = Counter(each[0].found.task for each in groups)
    made: dict[str, dict[str, Section]] = defaultdict(dict)
    for each in groups:
        section = _section(each, min(MOST_OF_A_TASK, MOST_BYTES // len(groups)))
        task = each[0].found.task
        where = _free(_where(each, contents), each, made[task])
        if tasks[task] > 1:
            section = replace(section, title=f"{section.title}, {where}")
        # Of many models, a card each would hide what they are asked together.
        scores = [(one.part, file) for one in each for file in one.part.of_kind("gold_scores") if len(each) > 1]
        if scores:
            told = (
                f"Attention scores of gold tokens lie beside {len(scores)} of these evaluations: make a report of one."
            )
            section = replace(section, notes=(*section.notes, told))
        made[task][where] = section
        for part, file in [*((one.part, one.file) for one in each), *scores]:
            part.used(file.path)
    for task, own in made.items():
        if len(own) > MOST_CARDS:
            yield choices.of_several(own, "Folder", name=f"responses {task}", title=f"Responses: {task}")
        else:
            yield from own.values()


def _of_one_task(contents: Contents) -> list[list[Evaluated]]:
    """Evaluations by task: those that lie beside each other, and all that lie alone in their folders."""
    every = [contents] if contents.beside is None else [contents, contents.beside]
    parts = [(whole, part) for whole in every for part in whole.walk()]
    found = [(whole, part, file) for whole, part in parts for file in part.of_kind("evaluation")]
    beside: dict[tuple[str, str], list[Evaluated]] = defaultdict(list)
    for whole, part, file in found:
        # Two folders that are shown side by side were asked the same.
        where = part.name.removeprefix(whole.name).rpartition("/")[0]
        beside[file.value.task, where].append(Evaluated(part, file, part.name))
    alone: dict[str, list[Evaluated]] = defaultdict(list)
    for (task, _), group in beside.items():
        if len(group) == 1:
            alone[task] += group
    groups = [group for group in beside.values() if len(group) > 1] + list(alone.values())
    found_groups = [part for group in groups for part in _of_shared_items(group)]
    return [sorted(_with_names(group), key=lambda each: _by_size(each.name)) for group in found_groups]


def _where(group: Sequence[Evaluated], contents: Contents) -> str:
    """The folder that some evaluations lie in, from that of the page on."""
    shared = commonpath([each.part.name for each in group])
    if shared:
        return shared.removeprefix(contents.name).strip("/") or shared
    # Of two folders beside each other: what they have in common is below their names.
    assert contents.beside is not None
    roots = (contents.name, contents.beside.name)
    names = [each.part.name for each in group]
    below = [name.removeprefix(root) for name in names for root in roots if f"{name}/".startswith(f"{root}/")]
    plain = dict.fromkeys(name.strip("/") for name in below)
    return commonpath(plain) or ", ".join(filter(None, plain)) or " and ".join(roots)


def _free(where: str, group: Sequence[Evaluated], taken: Collection[str]) -> str:
    """What some evaluations are called by their folder, with their names and a number where others are called so."""
    if where not in taken:
        return where
    named = found = f"{where} ({', '.join(each.name for each in group)})"
    number = 2
    while found in taken:
        found, number = f"{named} ({number})", number + 1
    return found


def _by_size(name: str) -> list[tuple[float, str]]:
    """A name so that 20k comes before 130k, and that before 1m.

    >>> sorted(["a-1m", "a-130k", "a-20k"], key=_by_size)
    ['a-20k', 'a-130k', 'a-1m']
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([kKmMbB]?)(?![a-zA-Z])|(\D+|\d+)", name)
    return [(float(number) * _UNITS[unit.lower()], "") if number else (-1.0, text) for number, unit, text in parts]


def _of_shared_items(group: Sequence[Evaluated]) -> Iterator[list[Evaluated]]:
    """Those whose items are the same questions, as far as they share any."""
    left = list(group)
    while left:
        items = {item.key: (item.question, item.gold) for item in left[0].found.items}
        like = []
        for each in left:
            own = {item.key: (item.question, item.gold) for item in each.found.items}
            shared = items.keys() & own.keys()
            if shared and all(items[key] == own[key] for key in shared):
                like.append(each)
                items |= own
        yield like
        left = [each for each in left if each not in like]


def _with_names(group: Sequence[Evaluated]) -> list[Evaluated]:
    """The same with names that tell them apart: the model's, with the decoding, and the folder's where it has to be."""
    parts = [(each.found.model, each.found.decoding, f"{each.found.shots} exemplars", each.part.name) for each in group]
    telling = [len({part[i] for part in parts}) > 1 for i in range(4)]
    # A model out of a folder is called by its path, which tells less than where its answers are; of those that lie
    # beside each other all are called alike.
    folders = [part[3].rpartition("/") for part in parts]
    by_path = [part[0].count("/") > 1 for part in parts]
    beside = any(by_path) and len({where for where, _, _ in folders}) == 1
    names = [
        own if path or beside else part[0] for part, path, (_, _, own) in zip(parts, by_path, folders, strict=True)
    ]
    for i in (1, 2, 3):
        if len(set(names)) == len(names):
            break
        if telling[i]:
            shown = [part[i] if i < 3 else part[i].rpartition("/")[2] for part in parts]
            names = [f"{name}, {more}" for name, more in zip(names, shown, strict=True)]
    if len(set(names)) < len(names):
        names = [part[3] for part in parts]
    return [Evaluated(each.part, each.file, name) for each, name in zip(group, names, strict=True)]


def _section(group: Sequence[Evaluated], most: int) -> Section:
    first = group[0].found
    shown = group[:MOST_MODELS]
    notes = []
    if len(group) > len(shown):
        notes.append(
            f"The first {len(shown)} of {len(group)} evaluations are here: make a report of a folder of fewer."
        )
    data, thinning = data_of(shown, most)
    table, cut = thinned(_by_groups(group), "each evaluation's table.csv")
    several = len(group) > 1
    return Section(
        f"responses-{first.task}",
        f"Responses: {first.task}" + ("" if several else f", {first.model}"),
        ("A row is an item, a column a model. " if several else "A row is an item. ")
        + "Choose what is shown above them; click a verdict, or press Enter on it, for the question, the right answer, "
        "what was answered and why it counts as right or wrong.",
        view="responses",
        data=dict(data),
        stills=() if several else _still(first),
        table=table,
        notes=(*notes, *thinning, *cut),
        says=_says(group),
    )


def data_of(group: Sequence[Evaluated], most: int) -> tuple[ResponsesData, list[str]]:
    """What the view shows of some evaluations of the same items, and notes of what was thinned."""
    items = {item.key: item for each in group for item in each.found.items}
    judges = [judge for judge in group[0].found.judges if all(judge in each.found.judges for each in group)]
    if not judges:
        judges = [group[0].found.judges[0]]
    if len(items) * len(group) * len(judges) > MOST_SIGNS:
        judges = judges[:1]
    groups = tuple({name: None for item in items.values() for name in item.groups})
    right = {
        judge: ["".join(each.by_item.get(judge, {}).get(key, "-") for key in items) for each in group]
        for judge in judges
    }
    signs = [tuple(text[at] for text in right[judges[0]]) for at in range(len(items))]
    chosen, notes = kept([each.found for each in group], list(items.values()), signs, groups, judges, most)
    return {
        "task": group[0].found.task,
        "judges": judges,
        "groups": groups,
        "chance": group[0].found.chance,
        "asked": [_asked(each, judges) for each in group],
        "right": right,
        "of_group": [[item.groups.get(name) for item in items.values()] for name in groups],
        "items": chosen,
    }, notes


def _asked(each: Evaluated, judges: Sequence[str]) -> Asked:
    found = each.found
    return {
        "name": each.name,
        "shares": {judge: _told(found.share(judge)) for judge in judges if judge in found.judges},
        "unparseable": found.unparseable.value,
        "truncated": found.truncated.value,
        "n": len(found.responses),
    }


def _told(share: Share) -> Mapping[str, float]:
    return {"value": share.value, "low": share.low, "high": share.high, "hits": share.hits, "n": share.n}


def _by_groups(group: Sequence[Evaluated]) -> pd.DataFrame:
    """A row for each evaluation and group of items."""
    tables = []
    for each in group:
        table = each.found.by(*each.found.groups)
        table.insert(0, "evaluation", each.name)
        tables.append(table.drop(columns=["seconds"]))
    return pd.concat(tables, ignore_index=True)


def _still(found: Evaluation) -> tuple[Still, ...]:
    return (stills.of_result(found, f"Accuracy of {found.model} on {found.task}"),)


def _says(group: Sequence[Evaluated]) -> tuple[str, ...]:
    if len(group) == 1:
        return sentences.of(group[0].found)
    first = group[0].found
    told = [f"{each.name} in {each.found.accuracy}" for each in group[:MOST_MODELS]]
    return (f"{first.task} ({first.judges[0]}) is answered right by {'; by '.join(told)}.", *_disagreeing(group))


def _disagreeing(group: Sequence[Evaluated]) -> Iterator[str]:
    """On how many items some are right and some wrong; of two, how far they are apart, with a test."""
    judge = group[0].found.judges[0]
    signs: dict[str, set[str]] = defaultdict(set)
    times: dict[str, int] = defaultdict(int)
    for each in group:
        for key, sign in each.by_item.get(judge, {}).items():
            signs[key].add(sign)
            times[key] += 1
    shared = [key for key, n in times.items() if n == len(group)]
    if shared:
        differ = sum(len(signs[key]) > 1 for key in shared)
        all_of = "both" if len(group) == 2 else f"all {len(group)}"
        yield f"{differ} of the {len(shared)} items that {all_of} were asked are not judged alike."
    if len(group) == 2:
        try:
            yield f"{group[0].name} and {group[1].name}: {compare(group[0].found, group[1].found)}."
        except EvaluationError:
            # They share too few items, and the page shows which.
            return
