"""Tables of the study: circuits, head changes, cohorts, overlaps and complexity, recipe by recipe."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import pandas as pd

import circuitkit as ck
from emergence.plans import Plan
from emergence.study import Found


def changes_of(found: Found, plan: Plan, progress: bool) -> ck.circuits.HeadChanges:
    """Emergent, retained and lost heads of one recipe, with resamples of the problems."""
    return ck.circuits.emergent_heads(
        base=found.base,
        post=found.post,
        names=(plan.twins.base, plan.twins.post) if not plan.twins.thinking else ("thinking off", "thinking on"),
        resamples=plan.resamples,
        seed=plan.seed,
        progress=progress,
    )


def heads_table(changes: Mapping[str, ck.circuits.HeadChanges]) -> pd.DataFrame:
    """A row a recipe and head: whether it emerged, stayed or was lost, how sure, and its importances."""
    return pd.concat([each.frame.assign(recipe=name) for name, each in changes.items()], ignore_index=True)


def counts_table(changes: Mapping[str, ck.circuits.HeadChanges]) -> pd.DataFrame:
    """A row a recipe: how many heads emerged, stayed and were lost, beside what noise alone makes emerge."""
    rows = []
    for name, each in changes.items():
        support, n = each.support, len(each.emergent)
        row = {
            "recipe": name,
            "base_edges": each.base.size,
            "post_edges": each.post.size,
            "base_heads": len(each.base.heads),
            "post_heads": len(each.post.heads),
            "emergent": n,
            "sure": len(each.sure),
            "retained": len(each.retained),
            "lost": len(each.lost),
        }
        if support is not None:
            noise = support.noise.double().mean(1)
            row |= {"noise_base": float(noise[0]), "noise_post": float(noise[1]), "p": support.p(n)}
        rows.append(row)
    return pd.DataFrame(rows)


def cohorts_of(found: Found) -> ck.circuits.Cohorts | None:
    """Heads over the checkpoints; None where there are none, or where a circuit is uncut or has no edge."""
    graphs = [found.base, *found.checkpoints.values()]
    if not found.checkpoints or any(graph.size in (0, graph.layout.n_edges) for graph in graphs):
        return None
    return ck.circuits.cohorts(found.checkpoints, base=found.base)


def overlaps_table(found: Mapping[str, Found]) -> pd.DataFrame:
    """A row a recipe, pair of models and kind of part: what their circuits share, beside chance."""
    parts = []
    for name, each in found.items():
        graphs = {"base": each.base, **{str(step): graph for step, graph in each.checkpoints.items()}}
        # The last checkpoint is the post-trained model.
        graphs |= {} if each.checkpoints else {"post": each.post}
        for first, second in combinations(graphs, 2):
            table = ck.circuits.overlap(graphs[first], graphs[second]).frame
            parts.append(table.assign(recipe=name, one=first, other=second))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(p_corrected=ck.statistics.holm(table["p"]))


def complexity_table(found: Mapping[str, Found], plan: Plan, progress: bool) -> pd.DataFrame:
    """A row a recipe and measure: heads, degrees and paths before and after, with intervals and p."""
    parts = []
    for name, each in found.items():
        if each.base.heads and each.post.heads:
            change = ck.circuits.compare_complexity(
                each.base, each.post, draws=plan.resamples, seed=plan.seed, progress=progress
            )
            parts.append(change.frame.assign(recipe=name, test=change.test))
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True)
    return table.assign(p_corrected=ck.statistics.holm(table["p"]))
