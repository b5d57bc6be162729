"""Graphs of several models, read or found; what is made, written and said of their comparison."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from circuitkit import circuits, plots
from circuitkit.circuits.comparing.openings import written_openings
from circuitkit.circuits.comparing.thinking import Clean
from circuitkit.circuits.graphs.checking import check_same
from circuitkit.commands.circuit.graph_files import Sign, check_how_many, cut, graph_at, is_graph, is_uncut
from circuitkit.commands.circuit.options import Scoring, Selection, metric_name
from circuitkit.commands.loading import LoadAs, load
from circuitkit.commands.options import MetricName, metric_of
from circuitkit.commands.prompts import PairsFrom, pairs_in, pairs_of, prompts_in
from circuitkit.writing import write_json, write_table

if TYPE_CHECKING:
    from circuitkit.model import Model

Written = Literal["written", "proofs"]
_TABLES = ("frame", "counts", "turnover", "survival")
_SOMETIMES = (
    "complexity.csv",
    "head_cohorts.safetensors",
    *(f"cohorts_{name}.csv" for name in _TABLES),
    *(f"{name}.{suffix}" for name in ("cohorts", "activation", "survival") for suffix in ("png", "svg")),
)
"""Files that not every comparison makes, by their names' patterns."""


class _Opened(NamedTuple):
    """Problems, and how answers to them are opened."""

    problems: list[str]
    thinking: Sequence[Sequence[int]] | Sequence[str]
    direct: Sequence[Sequence[int]] | Sequence[str]


def graphs_of(
    names: Sequence[str],
    scoring: Scoring | None,
    positive: Sign,
    metric: MetricName | None,
    openings: Written | None,
    problems: Path | None,
    opening_tokens: int,
    chosen: PairsFrom,
    load_as: LoadAs | None,
) -> dict[str, circuits.Graph]:
    """Graphs by name, the base's first: read where names are those of files, else found.

    Raises:
        ValueError: files and models are mixed, a name is given twice, or options do not go together.
    """
    kinds = {is_graph(name) for name in names}
    if len(kinds) > 1:
        raise ValueError(f"{', '.join(names)}: some are graphs and some are models; compare the one or the other")
    if problems is not None and openings is None:
        raise ValueError("--problems are opened in two ways: name how with --openings, or give pairs with --pairs")
    if kinds == {True}:
        drawn = chosen != PairsFrom(seed=chosen.seed)
        if drawn or any(each is not None for each in (scoring, metric, openings, load_as)):
            raise ValueError(
                "graphs are compared as they are: options of prompts, scores, metric and loading go with models"
            )
        called = _called([Path(name) / "graph.safetensors" if Path(name).is_dir() else Path(name) for name in names])
        return {short: graph_at(name, positive) for short, name in zip(called, names, strict=True)}
    _check_distinct(names)
    if openings is not None and (chosen.pairs is not None or chosen.task is not None or metric not in (None, "kl")):
        raise ValueError(
            "--openings makes pairs of its own and measures the KL: leave --pairs, --task and --metric out"
        )
    settings, given = (scoring or Scoring()).settings(), pairs_in(chosen.pairs)
    asked = None if problems is None else prompts_in(problems)
    models = {name: load(name, load_as) for name in names}
    for name, model in models.items():
        check_same(circuits.Layout.of(models[names[0]]), circuits.Layout.of(model), name)
    if openings is None:
        base = models[names[0]]
        pairs = pairs_of(base, given, chosen.n, chosen.task, chosen.template)(chosen.seed)
        measured = metric_of(metric_name(metric, pairs), base)
        return {
            name: circuits.attribute(model, pairs, measured, seed=chosen.seed, **settings)
            for name, model in models.items()
        }
    opened = _opened(models, openings, asked, opening_tokens, chosen)
    return {
        name: _on_openings(
            model, opened, "direct" if name == names[0] else "thinking", opening_tokens, chosen, settings
        )
        for name, model in models.items()
    }


def curves_beside(names: Sequence[str], graphs: Mapping[str, circuits.Graph]) -> dict[str, circuits.Curve]:
    """What `circuitkit circuit find` measured of graphs that were read from its folders, by their names.

    Raises:
        ValueError: a curve is cut short.
    """
    if not is_graph(names[0]):
        return {}
    files = [Path(name) / "graph.safetensors" if Path(name).is_dir() else Path(name) for name in names]
    found = {}
    for short, file in zip(graphs, files, strict=True):
        curve = file.with_name("curve.safetensors")
        if file.name == "graph.safetensors" and curve.is_file():
            found[short] = circuits.Curve.load(curve)
    return found


def _opened(
    models: Mapping[str, Model], openings: Written, asked: list[str] | None, n_tokens: int, chosen: PairsFrom
) -> _Opened:
    if asked is None:
        problems, proofs, direct = circuits.deductions_with_openings(chosen.n, seed=chosen.seed)
        if openings == "proofs":
            return _Opened(problems, proofs, direct)
    elif openings == "proofs":
        raise ValueError(
            "--openings proofs draws deductions with their proofs: leave --problems out, or let them be written"
        )
    else:
        problems = asked
    base, *_, last = models.values()
    thinking, written = (written_openings(model, problems, n_tokens, seed=chosen.seed) for model in (last, base))
    return _Opened(problems, thinking, written)


def _on_openings(
    model: Model, opened: _Opened, clean: Clean, n_tokens: int, chosen: PairsFrom, settings: Mapping[str, object]
) -> circuits.Graph:
    found = circuits.thinking_pairs(model, *opened, clean=clean, n_tokens=n_tokens, seed=chosen.seed)
    print(f"{model.name}: {found}")
    return circuits.attribute(
        model,
        found.pairs,
        found.metric,
        align=found.align,
        seed=chosen.seed,
        **settings,  # type: ignore[arg-type]  # what Scoring.settings gives is what attribute takes
    )


@dataclass(frozen=True, eq=False)
class Compared:
    """Circuits by name, and what is made of them.

    Attributes:
        graphs: the circuits, the base's first.
        rules: by which each was cut, in words.
        changes: from the base to the last.
        overlap: of their edges, nodes and heads.
        complexity: of their heads; None where a circuit has none.
        cohorts: over all checkpoints, where there are several.
    """

    graphs: Mapping[str, circuits.Graph]
    rules: Mapping[str, str]
    changes: circuits.HeadChanges
    overlap: circuits.Overlap
    complexity: circuits.ComplexityChange | None
    cohorts: circuits.Cohorts | None

    @classmethod
    def of(cls, graphs: Mapping[str, circuits.Graph], rule: Selection, resamples: int, seed: int) -> Compared:
        """Cut the circuits, and compare them.

        Raises:
            ValueError: a circuit has no edge, steps are out of order, or graphs cannot be compared.
        """
        for graph in graphs.values():
            check_how_many(graph, rule)
        rules = {
            name: f"the {rule.choice(graph.layout.n_edges)}" if rule.named or is_uncut(graph) else "the file's own"
            for name, graph in graphs.items()
        }
        found = {name: cut(graph, rule) for name, graph in graphs.items()}
        if none := [name for name, graph in found.items() if not graph.size]:
            raise ValueError(
                f"{none[0]}: no edge is left of {rules[none[0]]}, since no way leads along them from the input to the "
                "logits: take more with --top or --share, or try --select greedy"
            )
        (first, base), *later = found.items()
        last, post = later[-1]
        by_step = _steps(dict(later))
        changes = circuits.emergent_heads(base, post, names=(first, last), resamples=resamples, seed=seed)
        complexity = None
        if base.heads and post.heads:
            complexity = circuits.compare_complexity(base, post, names=(first, last), draws=resamples, seed=seed)
        followed = circuits.cohorts(by_step, base) if len(later) > 1 else None
        return cls(found, rules, changes, circuits.overlap(base, post), complexity, followed)

    def write(self, out: Path, curves: Mapping[str, circuits.Curve]) -> None:
        """Write graphs, their curves, changes, tables, figures and provenance, in place of an earlier comparison's."""
        for stale in [*_curves_of_earlier(out), *(path for pattern in _SOMETIMES for path in out.glob(pattern))]:
            stale.unlink()
        for place, (name, graph) in enumerate(self.graphs.items()):
            stem = f"{place}_{re.sub(r'[^A-Za-z0-9._-]', '-', name)}"
            graph.save(out / f"{stem}.safetensors")
            if name in curves:
                curves[name].save(out / f"{stem}_curve.safetensors")
        self.changes.save(out / "head_changes.safetensors")
        write_table(out / "heads.csv", self.changes.frame)
        write_table(out / "layers.csv", self.changes.layers)
        write_table(out / "overlap.csv", self.overlap.frame)
        plots.save(self.changes.plot(), out / "heads.png")
        plots.save(self.changes.plot("circuits"), out / "circuits.png")
        if self.complexity is not None:
            write_table(out / "complexity.csv", self.complexity.frame)
        if self.cohorts is not None:
            self.cohorts.save(out / "head_cohorts.safetensors")
            for name in _TABLES:
                write_table(out / f"cohorts_{name}.csv", getattr(self.cohorts, name))
            plots.save(self.cohorts.plot("cohorts"), out / "cohorts.png")
            plots.save(self.cohorts.plot("map"), out / "activation.png")
            plots.save(self.cohorts.plot("survival"), out / "survival.png")
        write_json(out / "summary.json", {**self.changes.counts, "heads_emergent": self.changes.emergent})
        write_json(out / "provenance.json", {**self.changes.provenance, "circuits": dict(self.rules)})

    def tell(self, out: Path) -> None:
        """Print what was found, and where all is."""
        if len(set(self.rules.values())) == 1:
            print(f"Circuits: {next(iter(self.rules.values()))}")
        else:
            print(f"Circuits: {'; '.join(f'{name}: {rule}' for name, rule in self.rules.items())}")
        print(self.changes)
        print(f"Overlap\n{self.overlap}")
        if self.complexity is not None:
            print(f"Complexity of heads, {self.complexity}")
        if self.cohorts is not None:
            print(self.cohorts)
        print(f"Graphs, tables and figures are in {out}/")


def _curves_of_earlier(out: Path) -> list[Path]:
    """The curves that an earlier comparison wrote, each beside its graph."""
    curves = [path for path in out.glob("*_curve.safetensors") if re.match(r"\d+_", path.name)]
    return [
        path for path in curves if path.with_name(path.name.replace("_curve.safetensors", ".safetensors")).is_file()
    ]


def _check_distinct(names: Sequence[object]) -> None:
    if len(set(names)) < len(names):
        told = ", ".join(map(str, names))
        raise ValueError(f"{told}: one of them is named twice, and nothing differs from itself")


def _called(files: Sequence[Path]) -> list[str]:
    """What files are called: by their names, find's graph by its folder; by their whole path where those are alike."""
    _check_distinct([file.resolve() for file in files])
    short = [file.resolve().parent.name if file.name == "graph.safetensors" else file.stem for file in files]
    common = Counter(short)
    return [name if common[name] == 1 else str(file) for name, file in zip(short, files, strict=True)]


def _steps(graphs: Mapping[str, circuits.Graph]) -> dict[int, circuits.Graph]:
    """Checkpoints by the step in their names; counted where not each has one of its own.

    Raises:
        ValueError: a later step stands before an earlier one.
    """
    found = [re.search(r"(?:step|checkpoint)[-_]?(\d+)", name) for name in graphs]
    steps = [int(each[1]) for each in found if each is not None]
    if len(set(steps)) < len(graphs):
        steps = list(range(1, len(graphs) + 1))
    if steps != sorted(steps):
        raise ValueError(f"{', '.join(graphs)}: the last is compared with the base, so give checkpoints in order")
    return dict(zip(steps, graphs.values(), strict=True))
