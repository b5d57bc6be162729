"""Circuits: layered graphs with a slider for their size, one or two overlaid, and what they keep of the behaviour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from circuitkit.report import sentences, stills
from circuitkit.report.contents import Contents, File
from circuitkit.report.section import Section, Still
from circuitkit.report.sections import heads
from circuitkit.report.sections.circuit_curves import curve_data, point_data
from circuitkit.report.sections.circuit_data import Named, circuit_data, data_of_curves
from circuitkit.report.sections.tables import thinned

if TYPE_CHECKING:
    from circuitkit.circuits import Curve, Faithfulness, GenerationEffects, Graph

MOST_GRAPHS = 6
"""How many graphs of one folder can be touched; of further ones it is said what they are."""

MOST_STILL = 100
"""How many edges of a graph its still picture has, the strongest: each takes a kilobyte."""

_HOW = (
    "Layers are rows, heads stand side by side, a layer's MLP at their right. The slider sets how many of the "
    "strongest edges are taken; those on no way from the input to the logits are dropped. Point at a node for its "
    "edges and numbers, click it to keep them; arrow keys go from node to node."
)


def sections(contents: Contents) -> Iterator[Section]:
    """Two circuits over each other, a section for each graph and its heads, and what is left of curves and tests."""
    yield from _compared(contents)
    yield from _beside(contents)
    yield from _graphs(contents)
    yield from heads.of_cohorts(contents)
    yield from _curves(contents)
    yield from _tests(contents)
    yield from _generation(contents)


# Graphs


def _compared(contents: Contents) -> Iterator[Section]:
    """Circuits before and after training, overlaid; the files of the two graphs are shown with them."""
    for file in contents.of_kind("head_changes"):
        changes = file.value
        pair = [Named(name, graph) for name, graph in zip(changes.names, (changes.base, changes.post), strict=True)]
        for other in contents.of_kind("graph"):
            if any(_same(other.value, each.graph) for each in pair):
                contents.used(other.path)
        data, notes = circuit_data(f"From {changes.names[0]} to {changes.names[1]}", pair)
        yield Section(
            f"circuits of {file.stem}",
            f"Circuits of {changes.names[0]} and {changes.names[1]}, overlaid",
            f"Edges of both circuits, of the first alone, and of the second alone. {_HOW}",
            view="circuit",
            data=data,
            stills=(stills.of_result(changes, "Both circuits over each other", of="circuits"),),
            notes=tuple(notes),
        )
        yield heads.of_changes(changes, file.stem)
        contents.used(file.path, "heads.csv", "heads.png", "circuits.png")


def _beside(contents: Contents) -> Iterator[Section]:
    """This folder's circuit over that of the folder that is shown beside it, where one model can hold both."""
    if contents.beside is None:
        return
    ours, theirs = contents.of_kind("graph"), contents.beside.of_kind("graph")
    if len(ours) != 1 or len(theirs) != 1 or ours[0].value.layout != theirs[0].value.layout:
        return
    pair = [Named(contents.name, ours[0].value), Named(contents.beside.name, theirs[0].value)]
    data, notes = circuit_data(f"{contents.name} and {contents.beside.name}", pair)
    from circuitkit.plots import circuit_overlay

    picture = circuit_overlay(pair[0].graph, pair[1].graph, names=(pair[0].name, pair[1].name))
    yield Section(
        "both circuits",
        f"Circuits of {contents.name} and {contents.beside.name}, overlaid",
        f"Edges of both circuits, of the first alone, and of the second alone. {_HOW}",
        view="circuit",
        data=data,
        stills=(stills.drawn(picture, "Both circuits over each other"),),
        notes=tuple(notes),
    )


def _graphs(contents: Contents) -> Iterator[Section]:
    """A section for each graph, with its curve beside it and its stability."""
    files = contents.of_kind("graph")
    shown: list[Graph] = []
    for place, file in enumerate(files):
        if any(_same(file.value, other) for other in shown):
            contents.used(file.path)
            continue
        if place >= MOST_GRAPHS:
            yield _told(files[place:])
            contents.used(*(each.path for each in files[place:]))
            return
        shown.append(file.value)
        alone = len(files) == 1
        stable = next((each for each in contents.of_kind("stability") if _same(each.value.circuit, file.value)), None)
        yield _graph(contents, file, stable, alone=alone)
        if alone and (told := heads.of_circuit(file.value, None if stable is None else stable.value, _name(file))):
            yield told
            contents.used("heads.csv", "heads.png")


def _name(file: File, *, alone: bool = True) -> str:
    """What a graph is called: by its model, or by its file where several are of one folder or a model is a folder."""
    model = str(file.value.provenance.get("model") or "")
    return model if alone and model and not Path(model).is_absolute() else file.title


def _graph(contents: Contents, file: File, stable: File | None, *, alone: bool) -> Section:
    graph, name = file.value, _name(file, alone=alone)
    curves = [each for each in contents.of_kind("curve") if _curve_fits(each.value, graph, alone)]
    points = [each for each in contents.of_kind("faithfulness") if _point_fits(each.value, graph)]
    data, notes = circuit_data(
        f"Circuit of {name}",
        [Named(name, graph, None if stable is None else stable.value)],
        [curve_data(each.value) for each in curves],
        [point_data(each.value) for each in points],
    )
    if graph.size == graph.layout.n_edges:
        notes.append("This graph was not cut to a circuit: the slider begins at 5 % of its edges.")
    elif stable is None:
        notes.append("How stable this circuit is was not saved here, so do not take it for a finding yet.")
    if not curves:
        notes.append(
            "No curve over sizes is beside it; `circuitkit circuit evaluate MODEL GRAPH --out FOLDER` makes one."
        )
    frame = graph.frame.drop(columns="in_circuit")
    if stable is not None:
        often = stable.value.frame.set_index(["source", "destination"])["frequency"]
        frame.insert(
            4, "frequency", often.reindex(list(zip(frame["source"], frame["destination"], strict=True))).values
        )
    table, cut = thinned(frame, f"{file.path.name} (.frame)")
    beside = [each for each in (*curves, *points, stable) if each is not None]
    section = Section(
        file.stem,
        f"Circuit of {name}",
        f"{graph.convention}. {_HOW}{' Click on the curve, and the slider goes there.' if curves else ''}",
        view="circuit",
        data=data,
        stills=_stills(graph, [each.value for each in curves]),
        table=table,
        notes=(*notes, *cut),
        says=(
            *(each for value in (graph, *(one.value for one in beside)) for each in sentences.of(value)),
            *(_beside_random(contents, graph) if alone else ()),
        ),
    )
    contents.used(file.path, *(each.path for each in beside))
    if alone:
        contents.used("circuit.csv", "circuit.png", "curves.csv", *(("summary.csv",) if points else ()))
    return section


def _beside_random(contents: Contents, graph: Graph) -> Iterator[str]:
    """What random circuits of as many edges keep, which `circuitkit circuit find` writes into its summary alone."""
    for file in contents.of_kind("table"):
        if file.path.name == "summary.csv" and (table := contents.table_of(file)) is not None and len(table):
            row = table.iloc[0]
            if row.get("edges") == graph.size and not pd.isna(row.get("random_mean")):
                yield (
                    f"Random circuits of at least as many edges keep {100 * row['random_mean']:.0f} % on average (as "
                    f"much or more by chance: p {row['random_p']:.3f})."
                )


def _stills(graph: Graph, curves: Sequence[Curve]) -> tuple[Still, ...]:
    drawn = [stills.of_result(graph, "The circuit as a layered graph", most=MOST_STILL)] if graph.size else []
    return (*drawn, *(stills.of_result(curve, "Faithfulness against size") for curve in curves))


def _told(files: Sequence[File]) -> Section:
    said = [sentence for file in files for sentence in sentences.of(file.value)]
    return Section(
        "further graphs",
        f"{len(files)} graphs more",
        "; ".join(f"{file.path.name}: {each}" for file, each in zip(files, said, strict=False)),
        notes=(f"The first {MOST_GRAPHS} graphs of a folder can be touched; put another into a folder of its own.",),
    )


# Curves and tests without their graph


def _curves(contents: Contents) -> Iterator[Section]:
    """Curves and faithfulness whose graph is not in the folder."""
    curves, points = contents.of_kind("curve"), contents.of_kind("faithfulness")
    if not (curves or points):
        return
    told = [*(each.value for each in curves), *(each.value for each in points)]
    yield Section(
        "faithfulness",
        "What circuits keep of the behaviour",
        "Faithfulness is the share of the metric's difference between the whole model (1) and no edge (0) that a "
        "circuit keeps, run alone; the band is a 95 % interval over examples.",
        view="circuit",
        data=data_of_curves([curve_data(each.value) for each in curves], [point_data(each.value) for each in points]),
        stills=tuple(stills.of_result(each.value, f"Faithfulness against size: {each.title}") for each in curves),
        table=curves[0].value.frame if curves else None,
        notes=() if curves else ("No curve over sizes was saved: `circuitkit circuit evaluate` makes one.",),
        says=tuple(sentence for each in told for sentence in sentences.of(each)),
    )
    contents.used("curves.csv", *(each.path for each in (*curves, *points)))


def _tests(contents: Contents) -> Iterator[Section]:
    """Whether the circuit has all that it needs, and nothing that it does not."""
    for file in contents.of_kind("completeness", "minimality"):
        value = file.value
        table, cut = thinned(value.frame, f"{file.path.name} (.frame)")
        about = {
            "completeness": "Circuit and whole model, both without the same nodes: on the diagonal they lose alike.",
            "minimality": "What the circuit loses by each part, beside the reach of random parts.",
        }[file.kind]
        yield Section(
            file.stem,
            file.title,
            about,
            stills=(stills.of_result(value, f"{file.title}. {about}"),),
            table=table,
            notes=cut,
            says=sentences.of(value),
        )
        contents.used(file.path)


def _generation(contents: Contents) -> Iterator[Section]:
    """What changing heads does to what a model writes: accuracy, and how answers fail, by difficulty."""
    for file in contents.of_kind("generation"):
        found: GenerationEffects = file.value
        table, cut = thinned(found.frame, f"{file.path.name} (.frame)")
        yield Section(
            file.stem,
            f"{file.title}: heads changed while {found.model} writes",
            f"Accuracy on {found.task} with heads changed, beside random heads of the same layers; p-values are "
            "corrected over all rows of a table.",
            stills=(stills.of_result(found, "Accuracy under each change, beside random heads"),),
            table=table,
            notes=cut,
            says=sentences.of(found),
        )
        failures, cut = thinned(found.failures(), f"{file.path.name} (.failures)")
        yield Section(
            f"{file.stem} failures",
            f"{file.title}: how answers fail",
            "Of each outcome the share of the answers, before and after.",
            table=failures,
            notes=cut,
        )
        contents.used(file.path)


# What goes with what


def _same(one: Graph, other: Graph) -> bool:
    return one.layout == other.layout and one.members.equal(other.members) and bool((one.scores == other.scores).all())


def _curve_fits(curve: Curve, graph: Graph, alone: bool) -> bool:
    """Whether a curve may be of a graph: as many edges, scores made alike, and the same model or no other graph."""
    if curve.settings["n_edges"] != graph.layout.n_edges:
        return False
    if curve.provenance.get("scores", str(graph.convention)) != str(graph.convention):
        return False
    return alone or curve.provenance.get("model") == graph.provenance.get("model")


def _point_fits(point: Faithfulness, graph: Graph) -> bool:
    return point.n_edges == graph.layout.n_edges and point.size == graph.size
