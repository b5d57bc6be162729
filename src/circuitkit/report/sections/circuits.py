"""Circuits: layered graphs with a slider for their size, one or two overlaid, and what they keep of the behaviour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from circuitkit.report import sentences, stills
from circuitkit.report.contents import Contents, File
from circuitkit.report.section import Section, Still
from circuitkit.report.sections import choices, heads
from circuitkit.report.sections.circuit_curves import CurveData, curve_data, point_data
from circuitkit.report.sections.circuit_data import Named, circuit_data, data_of_curves
from circuitkit.report.sections.tables import thinned

if TYPE_CHECKING:
    from circuitkit.circuits import Curve, Faithfulness, Graph

MOST_GRAPHS = 6
"""How many graphs of one folder can be touched; of further ones it is said what they are."""

CURVE = "_curve"
"""What follows a graph's file name in that of its curve, where a folder holds several."""

MOST_STILL = 100
"""How many edges of a graph its still picture has, the strongest: each takes a kilobyte."""

_HOW = (
    "Layers are rows, heads stand side by side, a layer's MLP at their right. The slider sets how many of the "
    "strongest edges are taken; those on no way from the input to the logits are dropped. Point at a node for its "
    "edges and numbers, click it to keep them; arrow keys go from node to node."
)

_CLICK = " Click on the curve, and the slider goes there."


def sections(contents: Contents) -> Iterator[Section]:
    """Two circuits over each other, a section for each graph and its heads, and what is left of curves and tests."""
    yield from _compared(contents)
    yield from _beside(contents)
    yield from heads.of_cohorts(contents)
    yield from _generation(contents)
    yield from _graphs(contents)
    yield from _curves(contents)
    yield from _tests(contents)


# Graphs


def _compared(contents: Contents) -> Iterator[Section]:
    """Circuits before and after training, overlaid; the files of the two graphs are shown with them.

    All comparisons of a folder and of those in it are two cards together.
    """
    found = [(part, file) for part in contents.walk() for file in part.of_kind("head_changes")]
    graphs = [(part, file) for part in contents.walk() for file in part.of_kind("graph")] if found else []
    names = choices.names_of(found, contents)
    overlaid, told = {}, {}
    for (part, file), name in zip(found, names, strict=True):
        overlaid[name] = _overlaid(part, file)
        told[name] = heads.of_changes(file.value, file.stem)
        for place, other in graphs:
            if any(_scored_alike(other.value, each) for each in (file.value.base, file.value.post)):
                place.used(other.path)
        part.used(file.path)
        if file.stem == "head_changes":
            part.used("heads.csv", "heads.png", "circuits.png")
        # A study draws each under its name.
        contents.used(*(f"{what}, {file.stem}.png" for what in ("heads", "circuits")))
    if found:
        title = "Circuits before and after training, overlaid"
        yield choices.of_several(overlaid, "Comparison", name="circuits compared", title=title)
        title = "Heads that emerged, stayed and were lost"
        yield choices.of_several(told, "Comparison", name="heads compared", title=title)


def _overlaid(part: Contents, file: File) -> Section:
    changes = file.value
    pair = [Named(name, graph) for name, graph in zip(changes.names, (changes.base, changes.post), strict=True)]
    curves = [curve for place, each in enumerate(pair) for curve in _curves_of(part, each.graph, place, pair)]
    data, notes = circuit_data(f"From {changes.names[0]} to {changes.names[1]}", pair, curves)
    if not curves:
        notes.append(
            "What these circuits keep is not beside them, since no curves lie here: 'circuitkit circuit compare' takes "
            "along those that 'circuitkit circuit find' wrote beside its graphs."
        )
    return Section(
        f"circuits of {file.stem}",
        f"Circuits of {changes.names[0]} and {changes.names[1]}, overlaid",
        f"Edges of both circuits, of the first alone, and of the second alone. {_HOW}{_CLICK if curves else ''}",
        view="circuit",
        data=data,
        stills=(stills.of_result(changes, "Both circuits over each other", of="circuits"),),
        notes=tuple(notes),
    )


def _curves_of(part: Contents, graph: Graph, place: int, pair: Sequence[Named]) -> Iterator[CurveData]:
    """A circuit's curves among a folder's: named as its graph's file, or of its model where only one is of it."""
    models = [one.graph.provenance.get("model") for one in pair]
    for each in _curves_beside(part, graph, alone=False, guess=models.count(models[place]) == 1):
        yield curve_data(each.value, each.title, place)
        part.used(each.path)


def _beside(contents: Contents) -> Iterator[Section]:
    """This folder's circuit over that of the folder that is shown beside it, where one model can hold both."""
    if contents.beside is None:
        return
    ours, theirs = contents.of_kind("graph"), contents.beside.of_kind("graph")
    if len(ours) != 1 or len(theirs) != 1 or ours[0].value.layout != theirs[0].value.layout:
        return
    pair = [Named(contents.name, ours[0].value), Named(contents.beside.name, theirs[0].value)]
    curves, points = [], []
    for place, (whole, one) in enumerate(zip((contents, contents.beside), pair, strict=True)):
        of_it = [each for each in whole.of_kind("curve") if _curve_fits(each.value, one.graph, True)]
        curves += [curve_data(each.value, each.title, place) for each in of_it]
        points += [point_data(e.value, place) for e in whole.of_kind("faithfulness") if _point_fits(e.value, one.graph)]
    data, notes = circuit_data(f"{contents.name} and {contents.beside.name}", pair, curves, points)
    from circuitkit.plots import circuit_overlay

    picture = circuit_overlay(pair[0].graph, pair[1].graph, names=(pair[0].name, pair[1].name))
    yield Section(
        "both circuits",
        f"Circuits of {contents.name} and {contents.beside.name}, overlaid",
        f"Edges of both circuits, of the first alone, and of the second alone. {_HOW}{_CLICK if curves else ''}",
        view="circuit",
        data=data,
        stills=(stills.drawn(picture, "Both circuits over each other"),),
        notes=tuple(notes),
    )


def _graphs(contents: Contents) -> Iterator[Section]:
    """A graph with its curve beside it, its stability and its heads; several of a folder as one card."""
    files = contents.of_kind("graph")
    shown: list[File] = []
    for file in files:
        if any(_same(file.value, other.value) for other in shown):
            contents.used(file.path)
        else:
            shown.append(file)
    if not shown:
        return
    alone = len(files) == 1
    titles = Counter(file.title for file in shown)
    sections = {}
    for file in shown[:MOST_GRAPHS]:
        called = file.title if titles[file.title] == 1 else file.path.name
        stable = next((each for each in contents.of_kind("stability") if _same(each.value.circuit, file.value)), None)
        sections[called] = _graph(contents, file, stable, alone=alone)
        if alone:
            yield sections[called]
            if told := heads.of_circuit(file.value, None if stable is None else stable.value, _name(file)):
                yield told
                contents.used("heads.csv", "heads.png")
    if not alone:
        yield choices.of_several(sections, "Circuit", name="circuits", title=f"{len(sections)} circuits")
    if further := shown[MOST_GRAPHS:]:
        yield _told(further)
        contents.used(*(each.path for each in further))


def _name(file: File, *, alone: bool = True) -> str:
    """What a graph is called: by its model, or by its file where several are of one folder or a model is a folder."""
    model = str(file.value.provenance.get("model") or "")
    return model if alone and model and not Path(model).is_absolute() else file.title


def _graph(contents: Contents, file: File, stable: File | None, *, alone: bool) -> Section:
    graph, name = file.value, _name(file, alone=alone)
    curves = _curves_beside(contents, graph, alone)
    points = [each for each in contents.of_kind("faithfulness") if _point_fits(each.value, graph)]
    data, notes = circuit_data(
        f"Circuit of {name}",
        [Named(name, graph, None if stable is None else stable.value)],
        [curve_data(each.value, each.title) for each in curves],
        [point_data(each.value) for each in points],
    )
    if graph.size == graph.layout.n_edges:
        notes.append("This graph was not cut to a circuit: the slider begins at 5 % of its edges.")
    elif stable is None:
        notes.append("How stable this circuit is was not saved here, so do not take it for a finding yet.")
    if not curves:
        notes.append(
            "No curve over sizes is beside it; 'circuitkit circuit evaluate MODEL GRAPH --out FOLDER' makes one."
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
        f"{graph.convention}. {_HOW}{_CLICK if curves else ''}",
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


def _curves_beside(part: Contents, graph: Graph, alone: bool, *, guess: bool = True) -> list[File]:
    """A graph's curves in its folder: those named as its file, or, of those that name no graph, the ones that fit."""
    files = part.of_kind("curve")
    stems = {f"{each.stem}{CURVE}" for each in part.files if each.kind == "graph" and _same(each.value, graph)}
    named = [each for each in files if each.stem in stems]
    if named or not guess:
        return named
    return [each for each in files if not each.stem.endswith(CURVE) and _curve_fits(each.value, graph, alone)]


def _beside_random(contents: Contents, graph: Graph) -> Iterator[str]:
    """What random circuits of as many edges keep, which 'circuitkit circuit find' writes into its summary alone."""
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
    said = [" ".join(sentences.of(file.value)) for file in files]
    return Section(
        "further graphs",
        f"{len(files)} graphs more",
        f"The first {MOST_GRAPHS} graphs of a folder can be touched; put another into a folder of its own.",
        table=pd.DataFrame({"file": [file.path.name for file in files], "says": said}),
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
        data=data_of_curves(
            [curve_data(each.value, each.title) for each in curves], [point_data(each.value) for each in points]
        ),
        stills=tuple(stills.of_result(each.value, f"Faithfulness against size: {each.title}") for each in curves),
        table=curves[0].value.frame if curves else None,
        notes=() if curves else ("No curve over sizes was saved: 'circuitkit circuit evaluate' makes one.",),
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
    """What changing heads does to what a model writes: accuracy, and how answers fail.

    Files of a study that hold a set of heads each, of one model and the same questions, are one result: p-values are
    corrected over all of its sets.
    """
    files = [(part, file) for part in contents.walk() for file in part.of_kind("generation")]
    for own in _of_one_intact(files):
        (_, first), *_ = own
        found = replace(first.value, runs=tuple(run for _, file in own for run in file.value.runs))
        where = f"{first.path.name} (.frame)" if len(own) == 1 else f"{len(own)} files of {first.path.parent.name}"
        of = f"{first.title}: heads" if len(own) == 1 else "Heads"
        name = first.stem if len(own) == 1 else f"heads changed in {found.model}"
        table, cut = thinned(found.frame, where)
        yield Section(
            name,
            f"{of} changed while {found.model} writes",
            f"Accuracy on {found.task} with heads changed, beside random heads of the same layers; p-values are "
            "corrected over all rows of the table.",
            stills=(stills.of_result(found, "Accuracy under each change, beside random heads"),),
            table=table,
            notes=cut,
            says=sentences.of(found),
        )
        failures, cut = thinned(found.failures(), where.replace("(.frame)", "(.failures)"))
        yield Section(
            f"{name} failures",
            f"{f'{first.title}: how' if len(own) == 1 else 'How'} answers of {found.model} fail",
            "Of each outcome the share of the answers, before and after.",
            stills=(stills.of_result(found, "Shares of outcomes under each change", of="failures"),),
            table=failures,
            notes=cut,
        )
        for part, file in own:
            part.used(file.path)
        if len(own) > 1:
            # A study tables and draws them together, under whose answers they are.
            role = first.stem.partition(",")[0]
            contents.used(*(f"{what}, {role}.csv" for what in ("effects", "failures")))


def _of_one_intact(files: Sequence[tuple[Contents, File]]) -> list[list[tuple[Contents, File]]]:
    """Effects on the same answers of the same model, those of a folder together."""
    groups: list[list[tuple[Contents, File]]] = []
    for part, file in files:
        for group in groups:
            there, other = group[0][0], group[0][1].value
            if (
                there is part
                and all(
                    getattr(other, name) == getattr(file.value, name)
                    for name in ("model", "task", "judge", "items", "groups", "answers")
                )
                and other.intact.outcomes == file.value.intact.outcomes
            ):
                group.append((part, file))
                break
        else:
            groups.append([(part, file)])
    return groups


# What goes with what


def _scored_alike(one: Graph, other: Graph) -> bool:
    """Whether graphs differ in where they were cut at the most, which is what a slider changes."""
    return one.layout == other.layout and bool((one.scores == other.scores).all())


def _same(one: Graph, other: Graph) -> bool:
    return _scored_alike(one, other) and one.members.equal(other.members)


def _curve_fits(curve: Curve, graph: Graph, alone: bool) -> bool:
    """Whether a curve may be of a graph: as many edges, scores made alike, and the same model or no other graph."""
    if curve.settings["n_edges"] != graph.layout.n_edges:
        return False
    if curve.provenance.get("scores", str(graph.convention)) != str(graph.convention):
        return False
    return alone or curve.provenance.get("model") == graph.provenance.get("model")


def _point_fits(point: Faithfulness, graph: Graph) -> bool:
    return point.n_edges == graph.layout.n_edges and point.size == graph.size
