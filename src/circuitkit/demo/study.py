"""The main job on one model: patch the stream and the heads, ablate them, capture attention, say what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from circuitkit import ablation, attention, patching, plots
from circuitkit.demo.findings import Findings, Head
from circuitkit.pairs import Pairs
from circuitkit.records import provenance
from circuitkit.statistics import Control
from circuitkit.writing import write_json, write_result, write_table, write_text

if TYPE_CHECKING:
    from circuitkit.model.model import Model

DRAWS = 3
_MOST_CONTROLS = 20


def demonstrate(
    model: Model, draw: Callable[[int], Pairs], out: str | Path, *, seed: int = 0, progress: bool = True
) -> Findings:
    """Run the main job on a model and write figures, tables, results and provenance into a folder.

    Args:
        model: the model.
        draw: makes pairs from a seed; the study draws three times, to see what replicates.
        out: the folder.
        seed: of the first draw and of the statistics.
        progress: show a bar.

    Returns:
        What was found; `.sentences()` says it.
    """
    out = Path(out)
    with tqdm(total=4 + DRAWS, desc="circuitkit demo", unit="step", disable=not progress) as bar:

        def done(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        pairs = draw(seed)
        residual = patching.sweep(model, pairs, over="resid_pre", seed=seed, progress=False)
        done("residual stream patched")
        swept = []
        for number in range(DRAWS):
            drawn = pairs if number == 0 else draw(seed + number)
            swept.append(patching.sweep(model, drawn, over="z", seed=seed, progress=False))
            done(f"heads patched, draw {number + 1}")
        heads, *again = swept
        lost = ablation.sweep(model, pairs, how="mean", seed=seed, progress=False)
        done("heads ablated")
        found = Findings(model.name, residual, heads, lost, again, None).found
        joint, shared = _joint(model, pairs, found, seed) if found else (None, False)
        done("heads ablated together")
        findings = Findings(model.name, residual, heads, lost, again, joint, shared)
        shown = found or [(row["layer"], row["head"]) for row in heads.top(1).to_dict("records")]
        _write(model, pairs, findings, shown[0], out, seed)
        done("figures written")
    return findings


def _joint(model: Model, pairs: Pairs, heads: Sequence[Head], seed: int) -> tuple[Control | None, bool]:
    """The found heads ablated together beside as many random heads of their layers, and whether those share some."""
    joint = ablation.sets(model, pairs, [heads], "mean", controls=_MOST_CONTROLS, seed=seed, progress=False)
    return joint.controls[0], not joint.disjoint[0]


def _write(model: Model, pairs: Pairs, findings: Findings, head: Head, out: Path, seed: int) -> None:
    for name in ("residual", "heads", "ablation"):
        write_result(getattr(findings, name), out, name, pairs)
    plots.save(_beside_controls(findings), out / "controls.png")
    shown = attention.capture(model, _first(model, pairs), names=["clean", "corrupt"])
    shown.save(out)
    plots.save(shown.plot(*head), out / "attention.png")
    scores = attention.token_scores(shown.pattern(*head))
    table = pd.DataFrame({"position": range(len(scores)), "token": shown.words[0], "score": scores.tolist()})
    write_table(out / "token_scores.csv", table)
    told = provenance(
        model_name=model.name,
        revision=model.revision,
        data=[pairs.clean, pairs.corrupt],
        seed=seed,
        found=[list(each) for each in findings.found],
        agreement=findings.agreement,
        sentences=findings.sentences(),
    )
    write_json(out / "provenance.json", told)
    write_text(out / "findings.txt", "\n".join(findings.sentences()) + "\n")


def _first(model: Model, pairs: Pairs) -> list[list[int]]:
    """The token ids of the first pair's clean and corrupt prompt."""
    read = [model.tokens(prompts[:1]) for prompts in (pairs.clean, pairs.corrupt)]
    return [tokens.ids[0, tokens.mask[0]].tolist() for tokens in read]


def _beside_controls(findings: Findings) -> Any:
    """Each of the strongest heads' ablation effect beside the mean of its layer's other heads."""
    frame = findings.ablation.frame
    effects = findings.ablation.effects.numpy()
    top = findings.ablation.top(8)
    others, low, high = [], [], []
    rows = top.to_dict("records")
    for row in rows:
        rest = np.delete(effects[row["layer"]], row["head"])
        rest = rest[~np.isnan(rest)]
        others.append(rest.mean() if len(rest) else np.nan)
        low.append(rest.min() if len(rest) else np.nan)
        high.append(rest.max() if len(rest) else np.nan)
    sure = None if frame.attrs.get("statistics") else (top["low"].to_numpy(), top["high"].to_numpy())
    return plots.bars(
        top["effect"].to_numpy(),
        labels=[f"L{row['layer']}H{row['head']}" for row in rows],
        title=f"Ablating one head beside its layer's others, {findings.model}",
        unit=f"{findings.ablation.metric.replace('_', ' ')} lost [{findings.ablation.unit}]",
        name="head",
        interval=sure,
        controls=np.array(others),
        control_interval=(np.array(low), np.array(high)),
        control_name="the range of its layer's other heads",
    )
