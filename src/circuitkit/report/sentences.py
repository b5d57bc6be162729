"""What was found, in sentences: those that a study wrote down, and those that its results say of themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from circuitkit.report.contents import Contents
from circuitkit.report.embedding import short
from circuitkit.report.kinds import spoiled

if TYPE_CHECKING:
    from circuitkit.attention.gold import GoldScores
    from circuitkit.attention.streamed import TokenScores
    from circuitkit.circuits.comparing.generation_outcome import GenerationEffects
    from circuitkit.circuits.graphs.graph import Graph
    from circuitkit.evaluation.outcome import Evaluation
    from circuitkit.interop.lm_eval.outcome import HarnessEvaluation
    from circuitkit.results import Result
    from circuitkit.sfn.differences.outcome import Delta
    from circuitkit.sfn.response_levels.outcome import Levels
    from circuitkit.sfn.written.manifest import Manifest
    from circuitkit.studies.table import Sweep
    from circuitkit.training.outcome import Trained

_STRONGEST = 5
"""How many cells that survive correction are told one by one."""

_MOST_PROMPTS = 3
"""Prompts whose tokens with the highest scores are told."""


class Line(NamedTuple):
    """A line of a text: what it says, whether it is a heading over those that follow, and whether it is Markdown."""

    text: str
    heading: bool = False
    markdown: bool = False


FINDINGS = frozenset({"findings.txt", "sentences.md", "report.md", "answer.md"})
"""Texts in which commands and experiments write what they found; other texts are somebody's, and shown as such."""


def written(contents: Contents) -> list[Line]:
    """What the study itself wrote down of what it found, in its texts or its provenance; those files are used."""
    lines = []
    for file in contents.of_kind("text"):
        if file.path.name not in FINDINGS:
            continue
        try:
            text = file.path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            contents.cannot_read(file, spoiled(file.path, error))
            continue
        lines += [line._replace(markdown=file.path.suffix == ".md") for line in _lines(text)]
        contents.used(file.path)
    if not lines:
        told = contents.provenance.get("sentences", ())
        lines = [Line(str(each)) for each in ([told] if isinstance(told, str) else told)]
    return lines


def of(value: Any) -> tuple[str, ...]:
    """What a result says of itself, with intervals and what survives correction where it has them.

    >>> import torch
    >>> from circuitkit.results import Baseline, Result
    >>> values, baseline = torch.tensor([[1.0] * 8, [5.0] * 8]), Baseline(torch.full((8,), 5.0))
    >>> of(Result(values, ("layer",), baseline, "ablate", "kl", title="Ablation"))[0]
    'Ablation: the kl is 5 in the clean run (mean of 8 examples).'
    """
    for kind in type(value).__mro__:
        if kind.__name__ in _SAYING:
            return tuple(each for each in _SAYING[kind.__name__](value) if each)
    return ()


def _lines(text: str) -> Iterator[Line]:
    """The sentences of a text or of Markdown: items and paragraphs, without its tables and pictures."""
    paragraph: list[str] = []
    for line in [*text.split("\n"), ""]:
        plain = line.strip()
        item = re.match(r"(?:[-*]|\d+\.)\s+(.*)", plain)
        heading = re.match(r"#+\s+(.*)", plain)
        apart = not plain or plain.startswith(("|", "![", "```"))
        if paragraph and (item or heading or apart):
            yield Line(" ".join(paragraph))
            paragraph = []
        if heading:
            yield Line(heading[1], heading=True)
        elif item:
            paragraph = [item[1]]
        elif not apart:
            # Lines of a text without marks are sentences of their own, and indented ones go on.
            if paragraph and not line[:1].isspace():
                yield Line(" ".join(paragraph))
                paragraph = []
            paragraph.append(plain)


def _of_result(result: Result) -> Iterator[str]:
    baseline = result.baseline
    unit = f" {result.unit}" if result.unit else ""
    metric = result.metric.replace("_", " ")
    n = len(baseline.clean)
    corrupt = (
        "" if baseline.corrupt_mean is None else f" in the clean run and {baseline.corrupt_mean:.3g} in the corrupt"
    )
    yield (
        f"{result.title or 'A study'}: the {metric} is {baseline.clean_mean:.3g}{unit}{corrupt or ' in the clean run'} "
        f"(mean of {n} example{'s' * (n != 1)})."
    )
    if result.undefined:
        yield f"There is no normalised effect: {result.undefined}."
    frame = result.frame
    if reason := frame.attrs.get("statistics"):
        yield f"Nothing is tested: {reason}."
        return
    found = frame[frame["significant"]]
    if found.empty:
        yield f"None of {len(frame)} cells survives correction over all of them."
        return
    order = found["effect"].abs().sort_values(ascending=False, kind="stable").index[:_STRONGEST]
    told = [_cell(result, row) for row in found.loc[order].to_dict("records")]
    more = f", and {len(found) - len(told)} more" if len(found) > len(told) else ""
    yield (
        f"{len(found)} of {len(frame)} cells survive{'s' * (len(found) == 1)} correction over all of them: "
        f"{'; '.join(told)}{more}."
    )


def _cell(result: Result, row: Mapping[Any, Any]) -> str:
    where = " ".join(_entry(axis, row) for axis in result.axes)
    share = "" if pd.isna(row["normalised"]) else f", {row['normalised']:.0%} of the whole"
    beside = ""
    if not pd.isna(row.get("control_mean", float("nan"))):
        what = "random sets" if result.controls is not None else "the other heads of its layer"
        beside = f", {what} {row['control_mean']:.2g}"
    return (
        f"{where} (effect {row['effect']:.3g}{share}, 95 % interval {row['low']:.3g} to {row['high']:.3g}{beside}, "
        f"p = {row['p_corrected']:.2g})"
    )


def _entry(axis: str, row: Mapping[Any, Any]) -> str:
    entry = f"{axis} {row[axis]}"
    label = row.get(f"{axis}_label")
    return entry if label is None or str(label) == str(row[axis]) else f"{entry} ({str(label).strip()})"


def _of_graph(graph: Graph) -> Iterator[str]:
    model = graph.provenance.get("model", "a model")
    heads = f"{len(graph.heads)} head{'s' * (len(graph.heads) != 1)}"
    mlps = f"{len(graph.mlps)} MLP{'s' * (len(graph.mlps) != 1)}"
    yield (
        f"The circuit of {model} has {graph.size:,} of {graph.layout.n_edges:,} edges, {heads} and {mlps} "
        f"({graph.convention})."
    )


def _of_delta(delta: Delta) -> Iterator[str]:
    table = delta.by_module()
    moved = table.dropna(subset=["relative"]).sort_values("relative", ascending=False)
    told = [f"{row['module']} {short(row['relative'])}" for row in moved.head(4).to_dict("records")]
    if told:
        yield (
            f"From {delta.a} to {delta.checkpoints[-1]}, what moved most for its own norm: {', '.join(told)} "
            "(norm of the difference over the norm before; one checkpoint, so without an interval)."
        )


def _of_evaluation(found: Evaluation) -> Iterator[str]:
    chance = "" if found.chance is None else f"; answers drawn at random would be right in {100 * found.chance:.3g} %"
    yield (
        f"{found.model} answers {found.task} right in {found.accuracy} of its responses, judged as {found.judges[0]} "
        f"(95 % interval){chance}."
    )
    others = [f"{found.share(judge)} as {judge}" for judge in found.judges[1:]]
    if others:
        yield f"Other judges find right {'; '.join(others)}."
    yield f"No answer could be read out of {found.unparseable}; {found.truncated} were broken off."


def _of_harness(found: HarnessEvaluation) -> Iterator[str]:
    for row in found.table.to_dict("records"):
        error = "" if pd.isna(row["standard_error"]) else f" (standard error {row['standard_error']:.3g})"
        yield (
            f"{found.model}, {row['task']} ({row['filter']}): {row['metric']} {row['mean']:.3g}{error}, {row['n']} "
            f"questions, {row['seeds']} seed{'s' * (row['seeds'] != 1)}."
        )


def _of_levels(found: Levels) -> Iterator[str]:
    told = [
        f"{row['level']} {100 * row['share']:.3g} % ({100 * row['low']:.3g} to {100 * row['high']:.3g})"
        for row in found.shares.to_dict("records")
        if row["hits"]
    ]
    n = len(found.graded)
    yield f"Of {n} response{'s' * (n != 1)} of {found.model}: {', '.join(told)} (95 % intervals)."


def _of_manifest(found: Manifest) -> Iterator[str]:
    n = len(found.changes)
    yield (
        f"{n} tensor{'s' * (n != 1)} of the checkpoint {'were' if n != 1 else 'was'} changed "
        f"({found.told.get('kind')}); "
        f"{found.copied} are the base's, byte for byte."
    )


def _of_training(found: Trained) -> Iterator[str]:
    last = found.curve.dropna(subset=["validation_loss"]) if "validation_loss" in found.curve else found.curve[:0]
    chosen = last[last["step"] == found.chosen]
    loss = f", with a validation loss of {chosen['validation_loss'].iloc[0]:.3g}" if len(chosen) else ""
    yield (
        f"{found.provenance.get('model', 'The model')} was trained on {found.examples.get('n', 'some')} examples "
        f"({found.trainable:,} of {found.total:,} weights); step {found.chosen} was chosen ({found.rule}){loss}."
    )


def _of_sweep(found: Sweep) -> Iterator[str]:
    failed = sum(record.failure is not None for record in found.records)
    done = len(found) - failed
    left = found.cells - len(found)
    yield (
        f"{done} of {found.cells} cells are done, {failed} failed" + (f" and {left} have not ended." if left else ".")
    )


def _of_generation(found: GenerationEffects) -> Iterator[str]:
    yield from _as_text(found)


def _of_gold_scores(found: GoldScores) -> Iterator[str]:
    """Of the last layer, as the papers do."""
    layer, n = found.layers[-1], len(found.by_token)
    rows = found.table[found.table["layer"] == layer].set_index("head")
    over, heads = rows.loc["mean"], rows.drop("mean")["score"]
    interval: str = "no interval" if pd.isna(over["low"]) else f"95 % interval {over['low']:.2f} to {over['high']:.2f}"
    yield (
        f"{found.provenance.get('model', 'The model')}, layer {layer}: of the places where the next token of a gold "
        f"proof stood before, the best has a score of {over['score']:.2f} ({interval}; mean over {len(heads)} heads "
        f"and {n} proof{'s' if n > 1 else ''}; 0 where it stood nowhere). Single heads have {heads.min():.2f} to "
        f"{heads.max():.2f}, the most head {heads.astype(float).idxmax()}."
    )


def _of_token_scores(found: TokenScores) -> Iterator[str]:
    layer = found.layers[-1]
    of_layer = found.frame[found.frame["layer"] == layer]
    for prompt, rows in list(of_layer.groupby("prompt"))[:_MOST_PROMPTS]:
        means = rows.groupby(["position", "token"])["score"].mean().nlargest(3).reset_index()
        each = zip(means["token"], means["position"], means["score"], strict=True)
        told = ", ".join(f"{str(token).strip()!r} ({at}) {score:.2f}" for token, at, score in each)
        heads = rows.dropna()["head"].nunique()
        yield f"Prompt {prompt}, layer {layer}, mean over {heads} heads: the highest scores have {told}."


def _own(value: Any) -> Iterator[str]:
    yield from value.sentences()


def _as_text(value: Any) -> Iterator[str]:
    for line in str(value).splitlines():
        # A word with a hyphen or a digit is a model's name, which stays as it is.
        first = line.partition(" ")[0].rstrip(":,.")
        whole = line[:1].upper() + line[1:] if first.isalpha() else line
        yield whole if whole.endswith((".", ":", "!", "?")) or not whole else f"{whole}."


_SAYING: Mapping[str, Callable[[Any], Iterator[str]]] = {
    "Result": _of_result,
    "Graph": _of_graph,
    "Delta": _of_delta,
    "Evaluation": _of_evaluation,
    "HarnessEvaluation": _of_harness,
    "Levels": _of_levels,
    "Manifest": _of_manifest,
    "Trained": _of_training,
    "Sweep": _of_sweep,
    "GoldScores": _of_gold_scores,
    "TokenScores": _of_token_scores,
    "GenerationEffects": _of_generation,
    "Threshold": _own,
    **dict.fromkeys(
        ("Faithfulness", "Curve", "Completeness", "Minimality", "Stability", "HeadChanges", "Cohorts"), _as_text
    ),
}
"""By the class's name, so that no result's module is loaded that the folder has none of."""
