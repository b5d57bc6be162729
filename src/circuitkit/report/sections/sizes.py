"""Accuracy against the number of parameters: models with their intervals, curves, and where a breakpoint may lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from circuitkit.report import sentences, stills
from circuitkit.report.contents import Contents, File
from circuitkit.report.embedding import MOST_OF_A_VIEW, as_json
from circuitkit.report.section import Section
from circuitkit.report.sections.tables import thinned
from circuitkit.thresholds.finding import Threshold

PLACES = 80
"""Of a curve so many are drawn: more could not be told apart on 1,200 pixels."""

_LARGE = 1_000
"""Sizes from here on are counts of parameters; smaller ones may be told in millions or billions."""

_STEP = 0.02
"""Between neighbouring places of a curve: more is a step."""

MOST_STILLS = 6
"""Pictures of fits beside the one that is touched."""

ELICITED = frozenset({"parameters", "benchmark", "training", "accuracy", "items", "low", "high", "examples"})
"""The columns of a table of what models of several sizes were before and after training, with shares in percent."""

_ENDS = ("accuracy_low", "accuracy_high")
_INTERVAL = "95% interval"
_OVER = {
    _INTERVAL: "over questions and, where there are several, over trainings",
    "standard error": "on both sides: over trainings, or over questions where there is one alone",
}

_FACTS = {"shots": "exemplars", "unparseable_share": "no answer read", "failures": "signs of failure"}


class Point(TypedDict):
    """A model: its size in parameters, the share that it gets right, what its line spans, what else is known of it."""

    name: str
    x: float
    y: float
    low: float | None
    high: float | None
    facts: Mapping[str, str]


class Series(TypedDict):
    """Models of one family or training; joined, smallest first, where they are one thing at several sizes."""

    name: str
    joined: bool
    points: list[Point]


class Line(TypedDict):
    """A curve: its name, whether it has a threshold or is smooth, whether it is the best of its kind, its places."""

    name: str
    kind: str
    best: bool
    places: Any


class Plane(TypedDict):
    """One task: its models, what their lines span, the curves, and the breakpoint where one was looked for."""

    name: str
    spread: str
    chance: float | None
    series: list[Series]
    lines: list[Line]
    verdict: str | None
    told: list[str]
    breakpoint: float | None
    interval: tuple[float, float] | None
    level: float


class SizesData(TypedDict):
    """What the front end's view of sizes draws (`frontend/src/views/sizes.ts`)."""

    what: str
    measure: str
    planes: list[Plane]


def thresholds(contents: Contents) -> Iterator[Section]:
    """One section for all fits of a folder and of those in it: they are chosen from, and not scrolled through."""
    found = [(part, file) for part in contents.walk() for file in part.of_kind("threshold")]
    if not found:
        return
    planes, notes = _within(contents, [plane_of(file.value, _named(part, file, contents)) for part, file in found])
    shown = [_still(file) for _, file in found[:MOST_STILLS]]
    if len(found) > len(shown):
        notes.append(f"Still pictures are of the first {len(shown)} of {len(found)} fits.")
    levels = sorted({f"{100 * file.value.level:g}%" for _, file in found})
    table, cut = thinned(
        pd.concat(
            [_row(file.value).assign(fit=_named(part, file, contents)) for part, file in found], ignore_index=True
        ),
        "each threshold's .curves",
    )
    yield Section(
        "thresholds",
        "Accuracy against size",
        f"A mark is a model, its line the {' or '.join(levels)} interval of the share of questions that it gets right; "
        "sizes are on a logarithmic scale. The band is the interval in which the breakpoint may lie; where no "
        "threshold is told, the page says why. Point at a mark for its numbers.",
        view="sizes",
        data={"what": "fit", "measure": "share of questions that are right", "planes": planes},
        stills=tuple(shown),
        table=table[["fit", *(name for name in table if name != "fit")]],
        notes=(*notes, *cut),
        says=_says([file.value for _, file in found]),
    )
    stems = {file.stem for _, file in found}
    for part in contents.walk():
        part.used(*(file.path for mine, file in found if mine is part))
        # A study draws each fit under its name, in a folder of figures.
        part.used(*(file.path for file in part.of_kind("figure") if file.stem.removeprefix("fit_") in stems))


def elicited(contents: Contents) -> Iterator[Section]:
    """The section of each table of what training elicits at several sizes."""
    for file in contents.of_kind("table"):
        if (frame := contents.table_of(file)) is None or not frozenset(frame.columns) >= ELICITED:
            continue
        spread = _INTERVAL if frame.columns.isin(_ENDS).sum() == len(_ENDS) else "standard error"
        planes, notes = _within(
            contents, [_elicited(str(name), spread, part) for name, part in frame.groupby("benchmark")]
        )
        table, cut = thinned(frame, file.path.name)
        yield Section(
            file.stem,
            "What training elicits at each size",
            "A mark is a model of one size: the base, what it becomes by training on so many examples, and the "
            f"reasoning model of its size. Its line is the {spread}, {_OVER[spread]}. Sizes are on a logarithmic "
            "scale. Point at a mark for its numbers.",
            view="sizes",
            data={"what": "benchmark", "measure": "share of questions that are right", "planes": planes},
            table=table,
            notes=(*notes, *cut),
        )
        contents.used(file.path)


def plane_of(found: Threshold, name: str) -> Plane:
    """What is drawn of a search for a threshold."""
    best = {str(found.best["curve"]), str(found.best_smooth["curve"])}
    told = found.verdict in ("threshold", "possible")
    return {
        "name": name,
        "spread": f"{100 * found.level:g}% interval",
        "chance": found.chance,
        "series": [
            {"name": str(family), "joined": False, "points": [_point(row) for row in part.to_dict("records")]}
            for family, part in found.frame.groupby("family", sort=False)
        ],
        "lines": [
            {
                "name": str(row["curve"]).replace("_", " "),
                "kind": "threshold" if row["kind"] == "threshold" else "no threshold",
                "best": row["curve"] in best,
                "places": _thinned(found.lines[found.lines["curve"] == row["curve"]]),
            }
            for row in found.curves.to_dict("records")
        ],
        "verdict": found.verdict,
        "told": found.sentences(),
        "breakpoint": found.breakpoint if told else None,
        "interval": found.interval if told else None,
        "level": found.level,
    }


def _point(row: Mapping[Any, Any]) -> Point:
    facts = {}
    if not pd.isna(row.get("total", np.nan)):
        facts["right"] = f"{row['correct']:.0f} of {row['total']:.0f}"
    for column, name in _FACTS.items():
        value = row.get(column)
        if value is not None and not pd.isna(value) and value != "":
            facts[name] = f"{100 * value:.0f} %" if column.endswith("_share") else str(value)
    return {
        "name": str(row["model"]),
        "x": _size(row["parameters"]),
        "y": float(row["accuracy"]),
        "low": _number(row.get("low")),
        "high": _number(row.get("high")),
        "facts": facts,
    }


def _size(parameters: Any) -> float:
    """A size, a whole number where it is large, which the page then has with all of its digits."""
    return round(parameters) if parameters >= _LARGE else float(parameters)


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _thinned(line: pd.DataFrame) -> np.ndarray[Any, Any]:
    places: np.ndarray[Any, Any] = line[["parameters", "accuracy"]].to_numpy(dtype=np.float64)
    even = np.linspace(0, len(places) - 1, min(PLACES, len(places))).round().astype(int)
    # Both sides of a step, which would slant between places that are further apart.
    steps = np.flatnonzero(np.abs(np.diff(places[:, 1])) > _STEP)
    return np.asarray(places[np.unique(np.concatenate([even, steps, steps + 1]))])


def _elicited(benchmark: str, spread: str, frame: pd.DataFrame) -> Plane:
    series: list[Series] = []
    frame = frame.assign(n=frame["examples"].fillna(-1).astype(float), training=frame["training"].astype(str))
    for training in frame["training"].unique():
        own = frame[frame["training"] == training]
        series += [_of_training(str(training), float(n), own[own["n"] == n]) for n in own["n"].unique()]
    return {
        "name": benchmark,
        "spread": spread,
        "chance": None,
        "series": series,
        "lines": [],
        "verdict": None,
        "told": [],
        "breakpoint": None,
        "interval": None,
        "level": 0.95,
    }


def _of_training(training: str, n: float, rows: pd.DataFrame) -> Series:
    called = {"none": "base", "distilled": "reasoning model of its size"}.get(training, training)
    return {
        "name": called if n < 0 else f"{called}, {n:.0f} examples",
        "joined": True,
        "points": [_trained(row) for row in rows.sort_values("parameters").to_dict("records")],
    }


def _trained(row: Mapping[Any, Any]) -> Point:
    share, error = row["accuracy"] / 100, row.get("accuracy_se", np.nan) / 100
    low, high = (row.get(end, np.nan) / 100 for end in _ENDS)
    if pd.isna(low) and not pd.isna(error):
        low, high = max(0.0, share - error), min(1.0, share + error)
    facts = {"questions": f"{row['items']:.0f}"}
    for column, name in (("gain", "gain, points"), ("p_gain_corrected", "its p, corrected"), ("runs", "trainings")):
        if not pd.isna(row.get(column, np.nan)):
            facts[name] = f"{row[column]:.3g}"
    if not pd.isna(row.get("recovered", np.nan)):
        facts["way to the reasoning model"] = f"{row['recovered']:.3g} % ({row['low']:.3g} to {row['high']:.3g})"
    return {
        "name": str(row.get("size", row["parameters"])),
        "x": _size(row["parameters"]),
        "y": share,
        "low": _number(low),
        "high": _number(high),
        "facts": facts,
    }


def _named(part: Contents, file: File, whole: Contents) -> str:
    """What a fit is called: its task, or where it is, if that has none."""
    found: Threshold = file.value
    where = f"{part.name.removeprefix(whole.name).strip('/')} {file.title}".strip()
    # A family by itself has the task's name, too, and more in its file's.
    return found.task or where


def _within(contents: Contents, planes: Sequence[Plane]) -> tuple[list[Plane], list[str]]:
    """As many as a view's data may hold, and what is said of the others."""
    kept: list[Plane] = []
    left = MOST_OF_A_VIEW
    for plane in planes:
        left -= len(as_json(plane))
        if left < 0:
            break
        kept.append(plane)
    if len(kept) == len(planes):
        return kept, []
    return kept, [f"The first {len(kept)} of {len(planes)} are here: make a report of a folder in {contents.name}/."]


def _still(file: File) -> Any:
    return stills.of_result(file.value, f"Accuracy against size: {file.value.task or file.title}")


def _row(found: Threshold) -> pd.DataFrame:
    """What was found, in one row: verdict, breakpoint with its interval, how surely it is told from smooth curves."""
    low, high = found.interval
    return pd.DataFrame(
        [
            {
                "verdict": found.verdict,
                "curve": found.best["curve"],
                "breakpoint": found.breakpoint,
                "low": low,
                "high": high,
                "p": found.p,
                "p_trend": found.p_trend,
                "gain": found.gain[0],
                "gain_se": found.gain[1],
                "models": len(found.frame),
            }
        ]
    )


def _says(found: Sequence[Threshold]) -> tuple[str, ...]:
    if len(found) == 1:
        return sentences.of(found[0])
    counts = pd.Series([each.verdict for each in found]).value_counts()
    told = {
        "threshold": "a threshold is told",
        "possible": "a threshold is possible",
        "growth": "accuracy grows with size, and no threshold is told",
        "flat": "accuracy cannot be shown to go with size",
    }
    listed = "; ".join(f"in {counts[verdict]} {said}" for verdict, said in told.items() if verdict in counts)
    return (f"Of {len(found)} searches for a threshold: {listed}.",)
