"""How well does attribution rank edges? Each method against every edge really patched, on the embedded twins.

    python experiments/attribution_agreement.py --out FOLDER

For each model, pairs of deductions that differ in one rule are scored by every method of `ck.circuits.attribute`, and
held against `method="exact"`, which patches each edge by itself: Spearman's rank correlation of the scores and of their
magnitudes, and the share of the strongest edges that a method finds, each with a bootstrap interval over pairs.

It writes `agreement.csv` (a row a model, method and measure) and `provenance.json`. The table of the defaults stands in
`measured/circuits/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts
import pandas as pd
from cyclopts import Parameter

import circuitkit as ck
from circuitkit import tasks
from circuitkit.records import provenance
from circuitkit.writing import write_json, write_table

app = cyclopts.App(help=__doc__, help_format="plaintext", default_parameter=Parameter(consume_multiple=True))

MODELS = tuple(f"deductor-{size}{twin}" for size in ("20k", "60k", "130k") for twin in ("-base", "-reason"))
WAYS = {
    "eap": {"method": "eap"},
    "eap-qk": {"method": "eap-qk"},
    "clean-corrupted": {"method": "clean-corrupted"},
    "eap-ig, 5 steps, left": {"method": "eap-ig", "steps": 5},
    "eap-ig, 5 steps, midpoint": {"method": "eap-ig", "steps": 5, "rule": "midpoint"},
    "eap-ig, 30 steps, left": {"method": "eap-ig", "steps": 30},
    "eap-ig-activations, 5 steps, left": {"method": "eap-ig-activations", "steps": 5},
}


@app.default
def main(
    *,
    out: Path,
    models: tuple[str, ...] = MODELS,
    pairs: int = 48,
    metric: str = "logit_difference",
    seed: int = 0,
    progress: Annotated[bool, Parameter(negative="--no-progress")] = True,
) -> None:
    """Score, compare and write.

    Args:
        out: folder for the tables.
        models: names, hub ids or paths.
        pairs: pairs of deductions a model.
        metric: what is measured, by name.
        seed: of the pairs and of the bootstrap.
        progress: show bars.
    """
    tables = [agreement_of(name, pairs, metric, seed, progress) for name in models]
    write_table(out / "agreement.csv", pd.concat(tables, ignore_index=True))
    told = provenance(
        model_name=", ".join(models), seed=seed, study="attribution_agreement", metric=metric, pairs=pairs
    )
    write_json(out / "provenance.json", told)


def agreement_of(name: str, n: int, metric: str, seed: int, progress: bool) -> pd.DataFrame:
    """Every method of one model against exact patching."""
    model = ck.load(name)
    drawn = tasks.deductions.pairs(model.tokenizer, n=n, seed=seed)
    exact = ck.circuits.attribute(model, drawn, metric, method="exact", progress=progress)
    found = []
    for way, settings in WAYS.items():
        scores = ck.circuits.attribute(model, drawn, metric, progress=progress, **settings)
        found.append(ck.circuits.against_exact(exact, scores, seed=seed).frame.assign(method=way))
    table = pd.concat(found, ignore_index=True)
    table.insert(0, "model", name)
    numbers = table.select_dtypes("float").columns
    table[numbers] = table[numbers].round(4)
    return table


if __name__ == "__main__":
    app()
