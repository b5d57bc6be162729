"""What a study leaves behind in a folder: its results, table, figure and provenance, each whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from circuitkit import plots
from circuitkit.model.tokens import Tokens
from circuitkit.pairs import Pairs
from circuitkit.records import whole_file
from circuitkit.results import Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Asked = Pairs | Tokens | Tensor | Sequence[str] | str | None
"""What a study's model read: only texts are written."""

PROMPTS = "prompts.json"
"""The file of a folder that holds what the model was asked."""


def write_result(result: Result, out: Path, name: str, asked: Asked = None) -> None:
    """Write a result, its table, its figure, its provenance, and the prompts that it is of, into a folder."""
    write_study(out, name, {name: result}, result.frame, result.plot(), asked)


def write_study(
    out: Path, name: str, results: Mapping[str, Result], table: pd.DataFrame, figure: Axes, asked: Asked = None
) -> None:
    """Write a study that has more to tell than one result: its results by name, a table, a figure, provenance.

    Of prompts that are text, `prompts.json` tells which results are of them, so that a report shows each example's.
    """
    out.mkdir(parents=True, exist_ok=True)
    for called, result in results.items():
        result.save(out / f"{called}.safetensors")
    write_table(out / f"{name}.csv", table)
    plots.save(figure, out / f"{name}.png")
    write_json(out / "provenance.json", next(iter(results.values())).provenance)
    hashes = [result.provenance.get("data_sha256") for result in results.values()]
    write_prompts(out, [each for each in hashes if each], asked)


def write_prompts(out: Path, data_sha256: Sequence[str], asked: Asked) -> None:
    """Write prompts beside results of them, which have these hashes of data; prompts that are no text are not written.

    Results that are in the folder already, and are of the same prompts, keep them.
    """
    clean, corrupt = (asked.clean, asked.corrupt) if isinstance(asked, Pairs) else (asked, None)
    clean = [clean] if isinstance(clean, str) else clean
    told = {"clean": _texts(clean), "corrupt": _texts(corrupt)}
    if told["clean"] is None:
        return
    known = _prompts_in(out)
    same = {side: known.get(side) for side in told} == told
    hashes = dict.fromkeys([*(known["data_sha256"] if same else ()), *data_sha256])
    write_json(out / PROMPTS, {"data_sha256": list(hashes), **told})


def read_prompts(folder: Path, data_sha256: str) -> dict[str, list[str] | None] | None:
    """What `write_prompts` wrote in a folder of the data with a hash, clean and corrupt; None where it has no such.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_prompts(Path(folder), ["af3"], Pairs(["2 + 2 ="], ["2 + 3 ="], [" 4"]))
    ...     read_prompts(Path(folder), "af3"), read_prompts(Path(folder), "other")
    ({'clean': ['2 + 2 ='], 'corrupt': ['2 + 3 =']}, None)
    """
    told = _prompts_in(folder)
    if data_sha256 not in told.get("data_sha256", ()):
        return None
    return {"clean": told["clean"], "corrupt": told["corrupt"]}


def _prompts_in(folder: Path) -> dict[str, Any]:
    """What a folder tells of prompts: nothing where its file is another's, or cut short."""
    path = folder / PROMPTS
    try:
        told = json.loads(path.read_bytes()) if path.is_file() else {}
    except ValueError:
        return {}
    return told if isinstance(told, dict) and told.keys() == {"data_sha256", "clean", "corrupt"} else {}


def _texts(prompts: Any) -> list[str] | None:
    if prompts is None or isinstance(prompts, Tensor | Tokens) or not all(isinstance(each, str) for each in prompts):
        return None
    return list(prompts)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, whole or not at all."""
    with whole_file(path) as beside:
        table.to_csv(beside, index=False)


def write_json(path: Path, told: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(told, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text, whole or not at all."""
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")
