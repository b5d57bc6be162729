"""The cells of the study: a model answers, its edges are scored, and its heads are changed while it writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import circuitkit as ck
from circuitkit.evaluation import Evaluation
from circuitkit.statistics import Head
from emergence.asking import Asked, Part
from emergence.plans import Recipe
from emergence.prompts import Opened, Written

Cell = dict[str, Any]


def _evaluated(model: ck.Model, asked: Asked, part: Part, think: bool | None, out: str) -> Evaluation:
    settings = asked.settings if think is None else {**asked.settings, "think": think}
    return ck.evaluate(model, asked.task(part), out=out, progress=False, **settings)


def opened(model: ck.Model, asked: Asked, think: bool | None, tokens: int, out: str) -> Cell:
    """How a model begins to answer the circuits' questions: its first tokens, of which an opening is cut."""
    begun = asked.begun(tokens)
    found = _evaluated(model, begun, "circuit", think, out)
    task = begun.task("circuit")
    answers = {response.key: response.text for response in found.responses}
    return {
        "problems": json.dumps([task.prompt(item) for item in found.items]),
        "answers": json.dumps([answers[item.key] for item in found.items]),
    }


def _accuracy(found: Evaluation) -> Cell:
    share = found.accuracy
    return {"accuracy": share.value, "low": share.low, "high": share.high, "questions": share.n}


def judged(model: ck.Model, asked: Asked, think: bool | None, out: str) -> Cell:
    """How often a model is right on the questions that are answered while heads are changed."""
    return _accuracy(_evaluated(model, asked, "answers", think, out))


def attributed(
    model: ck.Model, written: Written | Opened, recipe: Recipe, resamples: int, seed: int, path: str
) -> Cell:
    """Score a model's edges, keep the graph in a file, and tell how stable its circuit is."""
    pairs, align = written.on(model)
    graph = recipe.scored(model, pairs, align, path)
    circuit = recipe.cut(graph)
    told: Cell = {
        "graph": path,
        "pairs": len(written),
        "edges": circuit.size,
        "all_edges": graph.layout.n_edges,
        "heads": len(circuit.heads),
        "mlps": len(circuit.mlps),
        "strongest": float(graph.scores.abs().max()),
    }
    if recipe.threshold is None:
        steady = ck.circuits.stability(
            graph, recipe.edges(graph.layout.n_edges), resamples=resamples, seed=seed, progress=False
        )
        told |= {"stability": steady.value, "same_sign": steady.same_sign, "chance": steady.chance}
        told |= {"stability_p": steady.p, "verdict": steady.verdict}
    return told


def changed(
    model: ck.Model,
    asked: Asked,
    think: bool | None,
    sets: Mapping[str, Sequence[Head]],
    ways: Sequence[str | float],
    controls: int,
    seed: int,
    path: str,
) -> Cell:
    """Change sets of heads while a model answers, beside random sets, and keep what it answered in a file."""
    settings = asked.settings if think is None else {**asked.settings, "think": think}
    found = ck.circuits.generation_effects(
        model,
        asked.task("answers"),
        sets,
        ways=ways,
        controls=controls,
        seed=seed,
        out=Path(path).with_suffix(""),
        progress=False,
        **settings,
    )
    found.save(Path(path))
    return {"effects": path, "intact": float(found.intact.right.mean())}


def patched(
    model: ck.Model,
    other: ck.Model,
    written: Written,
    heads: Sequence[Head],
    controls: int,
    seed: int,
) -> Cell:
    """Put what each head writes in a post-trained model into its base (`other`), and the other way round."""
    pairs, _ = written.on(model)
    found = ck.circuits.cross_patch(other, model, pairs, list(heads), controls=controls, seed=seed, progress=False)
    return {"rows": found.frame.to_json(orient="records")}
