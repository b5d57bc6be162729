"""The numbers in the page on thresholds are those that the search gives."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import circuitkit as ck
from circuitkit.thresholds import Threshold, find
from circuitkit.thresholds.sentences import size

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "thresholds.md").read_text(encoding="utf-8")
RULES = ck.tasks.prontoqa.RULES


def published(name: str) -> pd.DataFrame:
    return pd.DataFrame(json.loads((ROOT / "experiments" / "published" / f"{name}.json").read_text())["models"])


def tables() -> dict[str, pd.DataFrame]:
    csqa, proofs, revision = published("csqa"), published("prontoqa"), published("revision")
    told = {"CommonsenseQA": csqa, "CommonsenseQA, base": csqa[~csqa["instruct"]]}
    told["CommonsenseQA, instruct"] = csqa[csqa["instruct"]]
    told["GSM8K"] = revision.assign(correct=(revision["gsm8k"] * 13.19).round(), total=1319)
    return told | {rule.replace("_", " "): proofs.assign(correct=proofs[rule], total=100) for rule in RULES}


def deductors() -> pd.DataFrame:
    """What the model cards say of the embedded models that were trained on chains of thought."""
    rows: list[dict[str, Any]] = []
    for folder in sorted((ROOT / "src" / "circuitkit" / "model" / "deductors").glob("deductor-*-reason")):
        parameters = json.loads((folder / "training.json").read_text())["parameters"]
        for rule, cells in json.loads((folder / "accuracy.json").read_text())["proof"].items():
            rows += [
                {"model": folder.name, "family": "deductor", "parameters": parameters, "rule": rule, "hops": hops}
                | {"correct": cell["correct"]["hits"], "total": cell["correct"]["n"]}
                for hops, cell in cells.items()
            ]
    return pd.DataFrame(rows)


def place(found: Threshold) -> str:
    best = found.best
    if best["curve"] == "step":
        return f"step, {size(best['gap_low'])} to {size(best['gap_high'])}"
    return f"{str(best['curve']).replace('_', ' ')}, {size(best['breakpoint'])}"


def fixed(found: Threshold) -> list[str]:
    """The cells of a row that no draw touches."""
    best = found.best
    return [
        place(found),
        f"{100 * best['before']:.0f} → {100 * (best['before'] + best['rise']):.0f}",
        f"{best['dispersion']:.0f}",
        f"{found.gain[0]:+.2f} ± {found.gain[1]:.2f}".replace("-", "−"),
    ]


def drawn(found: Threshold) -> list[str]:
    low, high = found.interval
    return [f"{size(low)} to {size(high)}", f"{found.p:.2f}", found.verdict]


def row(name: str) -> list[str]:
    (line,) = re.findall(rf"^\| {re.escape(name)} \|(.*)\|$", PAGE, flags=re.MULTILINE)
    return [cell.strip() for cell in line.split("|")]


@pytest.mark.parametrize("name", list(tables()))
def test_what_no_draw_touches_is_so(name: str) -> None:
    found = find(tables()[name], draws=19, leave_out=False, progress=False)
    assert row(name)[:4] == fixed(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(tables()))
def test_intervals_p_and_verdicts_are_so(name: str) -> None:
    found = find(tables()[name], draws=500, seed=7, leave_out=False, progress=False)
    assert row(name)[4:] == drawn(found)


def test_the_within_family_view_is_so() -> None:
    found = find(published("csqa"), chance=0.2, draws=19, leave_out=False, progress=False)
    families = found.families.set_index("family")
    for name in ("OpenELM", "SmolLM2"):
        rise, low, high = (100 * families.loc[name, f"{end}"] for end in ("rise_across", "across_low", "across_high"))
        assert f"{name} by {rise:.0f} points ({low:.0f} to {high:.0f})" in PAGE
    assert families["crosses"].sum() == 2
    assert f"{int(found.frame['above_chance'].sum())} of 23 models are above chance" in PAGE


def test_the_embedded_familys_accuracies_are_those_of_the_cards() -> None:
    table = deductors()
    for (rule, hops), part in table.groupby(["rule", "hops"], sort=False):
        shares = 100 * part.sort_values("parameters")["correct"] / part.sort_values("parameters")["total"]
        if rule == "implication_elimination" or int(str(hops)) == 1:
            assert row(f"{str(rule).replace('_', ' ')}, {hops}") == [f"{share:.0f}" for share in shares]


def test_the_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert found is not None
    exec(found[1], {})
    assert "8 models of 2 families" in capsys.readouterr().out
