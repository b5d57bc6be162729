"""Made-up circuits with their curves, stability and comparisons, in folders as the commands write them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from circuitkit.circuits import Convention, Curve, Faithfulness, Graph, Layout, cohorts, emergent_heads, stability

N = 8
SHARED = Layout((4, 4), (2, 2), (False, True))
"""Two query heads share a key and a value; the second layer is parallel."""
PLAIN = Layout((2, 2, 2), (2, 2, 2), (False, False, False))
WIDER = Layout((3, 3, 3), (3, 3, 3), (False, False, False))


def graph(
    layout: Layout = PLAIN, seed: int = 0, *, model: str = "a model", noise: float = 0.3, ties: bool = False
) -> Graph:
    """Random scores, with those of each example; `ties` makes many alike."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(layout.reach.shape, generator=generator) * layout.reach
    if ties:
        scores = (2 * scores).round()
    drawn = noise * torch.randn(N, *scores.shape, generator=generator) * layout.reach
    each = scores + drawn - drawn.mean(0)
    convention = Convention("eap-ig", "logit_difference", "logits", steps=5, rule="left")
    provenance = {"model": model, "data_sha256": "made up"}
    return Graph(layout, scores, layout.reach, convention, per_example=each, provenance=provenance)


def curve(of: Graph, by: str = "absolute") -> Curve:
    """A curve that rises from 0 to 1, with two random circuits under it."""
    fractions = (0.1, 0.2, 0.5, 1.0)
    requested = tuple(int(share * of.layout.n_edges) for share in fractions)
    clean, empty = torch.full((N,), 4.0) + torch.linspace(-0.2, 0.2, N), torch.zeros(N)
    shares = torch.tensor([0.2, 0.6, 0.9, 1.0])[:, None]
    return Curve(
        fractions=fractions,
        requested=requested,
        sizes=tuple(of.whole().top(n, by).prune().size for n in requested),
        per_example=shares * clean + 0.3 * (1 - shares) * torch.linspace(-1, 1, N),
        clean=clean,
        empty=empty,
        random=0.4 * (shares**2 * clean)[None].repeat(2, 1, 1),
        random_sizes=torch.tensor([requested, requested]),
        settings={
            "title": "Circuits of eap-ig, a model",
            "metric": "logit_difference",
            "unit": "logits",
            "by": by,
            "select": "top",
            "prune": True,
            "match": "actual",
            "ablation": "patch",
            "n_edges": of.layout.n_edges,
            "seed": 0,
        },
        provenance={"model": of.provenance["model"], "scores": str(of.convention)},
    )


def found(folder: Path, scored: Graph, n: int = 40) -> Graph:
    """A folder as `circuitkit circuit find` writes it."""
    circuit = scored.top(n).prune()
    circuit.save(folder / "graph.safetensors")
    stability(circuit, n, resamples=10).save(folder)
    curve(scored).save(folder)
    clean = torch.linspace(3.0, 5.0, N)
    Faithfulness(
        circuit=0.7 * clean,
        clean=clean,
        empty=torch.zeros(N),
        size=circuit.size,
        n_edges=circuit.layout.n_edges,
        metric="logit_difference",
        unit="logits",
    ).save(folder)
    told = pd.DataFrame([{"edges": circuit.size, "random_mean": 0.05, "random_p": 0.048}])
    told.to_csv(folder / "summary.csv", index=False)
    return circuit


def compared(
    folder: Path, *, names: tuple[str, str] = ("base", "post"), checkpoints: bool = False
) -> tuple[Graph, Graph]:
    """A folder as `circuitkit circuit compare` writes it."""
    base, post = (graph(WIDER, seed, model=name).top(60).prune() for seed, name in zip((2, 3), names, strict=True))
    changes = emergent_heads(base, post, names=names, resamples=10)
    changes.save(folder)
    for place, one in enumerate((base, post)):
        one.save(folder / f"{place}_graph.safetensors")
    if checkpoints:
        cohorts({100: graph(WIDER, 4).top(60).prune(), 200: post}, base).save(folder)
    return base, post
