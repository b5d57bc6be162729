"""`ck.sweep`: what is missing is run, what ended is kept, and all of it is one table."""

import functools
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import circuitkit as ck
from circuitkit.studies import Backend, Cell, InProcess, Pretrained, Sweep, SweepError, grid
from studies import functions
from studies.functions import drawn, odd_ones_fail, square


def swept(cells: Any, out: Path, **settings: Any) -> Sweep:
    return ck.sweep(cells, out, progress=False, **settings)


def ran(log: Path) -> list[float]:
    return [float(line) for line in log.read_text().split()] if log.exists() else []


def test_a_row_a_cell_in_the_order_asked_for(tmp_path: Path) -> None:
    cells = [(square, {"x": 3}), (odd_ones_fail, {"x": 2}), (square, {"x": 1})]
    frame = swept(cells, tmp_path / "out").frame
    assert frame["function"].str.rpartition(".")[2].tolist() == ["square", "odd_ones_fail", "square"]
    assert frame["x"].tolist() == [3, 2, 1]
    assert frame["value"].tolist()[::2] == [9, 1]
    assert frame["half"].tolist()[1] == 1.0


def test_only_what_is_missing_is_run(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    swept(grid(square, x=[1, 2, 3], log=str(log)), out)
    again = swept(grid(square, x=[2, 3, 4], log=str(log)), out)
    assert ran(log) == [1, 2, 3, 4]
    assert again.frame["value"].tolist() == [4, 9, 16]
    assert Sweep.load(out).frame["x"].tolist() == [2, 3, 4]
    swept(grid(square, x=[2, 3, 4], log=str(log)), out, version="2")
    assert ran(log) == [1, 2, 3, 4, 2, 3, 4]
    assert Sweep.load(out).frame["x"].tolist() == [2, 3, 4]
    everything = Sweep.load(out, older=True).frame
    assert everything["x"].tolist() == [2, 3, 4, 2, 3, 4, 1]
    assert everything["older"].tolist() == [False] * 3 + [True] * 4


def test_the_table_has_all_that_was_returned(tmp_path: Path) -> None:
    sweep = swept([(functools.partial(pow, k), {"exp": 2}) for k in (2, 3)], tmp_path)
    assert sweep.frame["value"].tolist() == [4, 9]
    pd.testing.assert_frame_equal(Sweep.load(tmp_path).frame, sweep.frame)


def test_old_code_does_not_stand_in_for_new(tmp_path: Path) -> None:
    def version(k: int) -> Any:
        def f(x: int) -> int:
            if k == 2 and x == 2:
                raise KeyboardInterrupt
            return 100 * k + x

        return f

    swept(grid(version(1), x=[1, 2, 3]), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        swept(grid(version(2), x=[1, 2, 3]), tmp_path)
    assert Sweep.load(tmp_path).frame["value"].tolist() == [201]
    assert repr(Sweep.load(tmp_path)).endswith("1 of 3 cells done, 0 failed)")
    assert Sweep.load(tmp_path, older=True).frame["value"].tolist() == [201, 101, 102, 103]


def test_one_file_a_cell_in_json(tmp_path: Path) -> None:
    swept(grid(square, x=[1, 2]), tmp_path)
    told = [json.loads(path.read_text()) for path in (tmp_path / "done").iterdir()]
    assert sorted(each["columns"]["value"] for each in told) == [1, 4]
    assert all((tmp_path / "done" / f"{each['key']}.json").exists() for each in told)
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_cell_that_is_named_twice_runs_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    sweep = swept(grid(square, x=[1, 1, 2], log=str(log)), tmp_path / "out")
    assert ran(log) == [1, 2]
    assert sweep.frame["x"].tolist() == [1, 2]


def test_failures_are_kept_and_retried_on_request(tmp_path: Path) -> None:
    out, mended = tmp_path / "out", tmp_path / "mended"
    cells = grid(odd_ones_fail, x=range(4), broken=str(mended))
    sweep = swept(cells, out)
    assert sweep.frame["half"].dropna().tolist() == [0, 1]
    assert sweep.frame["error"].isna().tolist() == [True, False, True, False]
    assert repr(sweep) == f"Sweep('{out}': 2 of 4 cells done, 2 failed)"
    assert sweep.failures["x"].tolist() == [1, 3]
    assert sweep.failures["error"].tolist() == ["ZeroDivisionError: 1 is odd", "ZeroDivisionError: 3 is odd"]
    assert 'raise ZeroDivisionError(f"{x} is odd")' in sweep.failures["traceback"][0]
    assert "run_cell" not in sweep.failures["traceback"][0]
    mended.touch()
    # The file of that name is part of what the cells depend on by its path only, as text.
    assert swept(cells, out).failures["attempt"].tolist() == [1, 1]
    mended.unlink()
    assert swept(cells, out, retry_failed=True).failures["attempt"].tolist() == [2, 2]
    mended.touch()
    whole = swept(cells, out, retry_failed=True)
    assert whole.frame["half"].tolist() == [0, 0.5, 1, 1.5]
    assert "error" not in whole.frame
    assert len(whole.failures) == 0 and list((out / "failed").iterdir()) == []
    pd.testing.assert_frame_equal(Sweep.load(out).frame, whole.frame)


def test_random_numbers_hang_on_the_cell_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    first = swept(grid(drawn, x=[1, 2]), tmp_path / "a").frame
    second = swept(grid(drawn, x=[2]), tmp_path / "b").frame
    assert first["value"][1] == second["value"][0] != first["value"][0]
    assert torch.equal(torch.rand(2), expected)


def test_shards_are_parts_of_one_sweep(tmp_path: Path) -> None:
    log = tmp_path / "log"
    cells = grid(square, x=range(7), log=str(log))
    parts = []
    for number in (1, 2, 3):
        before = len(ran(log))
        sweep = swept(cells, tmp_path / "out", shard=(number, 3))
        parts.append(ran(log)[before:])
        assert len(sweep.frame) == sum(map(len, parts)) and sweep.cells == 7
    assert parts == [[0, 3, 6], [1, 4], [2, 5]]
    assert swept(cells, tmp_path / "out").frame["x"].tolist() == list(range(7))
    assert len(ran(log)) == 7


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (-1, 3)])
def test_a_shard_that_is_none(tmp_path: Path, shard: tuple[int, int]) -> None:
    with pytest.raises(SweepError, match="counted from 1"):
        swept(grid(square, x=[1]), tmp_path, shard=shard)


def test_models_come_by_name_and_stay_loaded(tmp_path: Path) -> None:
    cells = grid(functions.model_size, model=[Pretrained("deductor-5k"), Pretrained("deductor-130k")], x=[0, 1])
    frame = swept(cells, tmp_path).frame
    assert frame["model"].tolist() == ["deductor-5k"] * 2 + ["deductor-130k"] * 2
    assert frame["layers"].tolist() == [2, 2, 3, 3]
    assert frame["loaded"][0] == frame["loaded"][1] and frame["loaded"][2] == frame["loaded"][3]


def test_a_study_is_a_cell_and_its_result_is_kept(tmp_path: Path) -> None:
    cells = grid(
        ck.ablation.sweep,
        model=Pretrained("deductor-5k"),
        prompts=[["Every wumpus is a dumpus."]],
        how=["zero", "mean"],
        progress=False,
    )
    sweep = swept(cells, tmp_path)
    again = Sweep.load(tmp_path)
    direct = ck.ablation.sweep(ck.load("deductor-5k"), ["Every wumpus is a dumpus."], how="mean", progress=False)
    result = again.value(1)
    assert isinstance(result, ck.Result)
    torch.testing.assert_close(result.values, direct.values)
    effects = direct.effects_per_example.mean(-1)
    layer, head = divmod(int(effects.abs().argmax()), effects.shape[1])
    row = again.frame.loc[1]
    assert (row["largest_layer"], row["largest_head"]) == (layer, head)
    assert row["largest_effect"] == pytest.approx(float(effects[layer, head]))
    assert row["metric"] == direct.metric and row["how"] == "mean"
    pd.testing.assert_frame_equal(again.frame, sweep.frame)


def test_tensors_and_names_that_clash(tmp_path: Path) -> None:
    def returns(x: int) -> dict[str, Any]:
        return {"x": "mine", "grid": torch.arange(x), "n": torch.tensor(2), "none": None}

    sweep = swept([(returns, {"x": 3})], tmp_path)
    assert sweep.frame.columns.tolist() == ["x", "returned.x", "n", "none"]
    assert sweep.frame["returned.x"].tolist() == ["mine"] and sweep.frame["n"].tolist() == [2]
    value = Sweep.load(tmp_path).value(0, "grid")
    assert isinstance(value, torch.Tensor) and value.tolist() == [0, 1, 2]
    with pytest.raises(SweepError, match=r"stored no 'other': it has \['grid'\]"):
        sweep.value(0, "other")
    path = tmp_path / "done" / sweep.records[0].stored["grid"].file
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(SweepError, match="missing or altered"):
        sweep.value(0, "grid")


@pytest.mark.parametrize("returned", [object(), None, [1, 2], {"a": [1]}, {1: 2}])
def test_what_cannot_be_kept_fails_that_cell(tmp_path: Path, returned: Any) -> None:
    def returns(x: int) -> Any:
        return x if x else functions.RETURNS.pop()

    functions.RETURNS.append(returned)
    sweep = swept(grid(returns, x=[0, 1]), tmp_path)
    assert sweep.frame["value"].tolist()[1] == 1
    assert sweep.failures["error"][0].startswith("TypeError: the cell returned")


def test_an_interrupt_leaves_no_claims_and_what_was_done(tmp_path: Path) -> None:
    def interrupted(x: int) -> int:
        if x == 2:
            raise KeyboardInterrupt
        return x

    with pytest.raises(KeyboardInterrupt):
        swept(grid(interrupted, x=[0, 1, 2, 3]), tmp_path)
    assert Sweep.load(tmp_path).frame["x"].tolist() == [0, 1]
    assert list((tmp_path / "claims").iterdir()) == []


def test_the_bar_tells_of_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ck.sweep(grid(odd_ones_fail, x=range(4)), tmp_path)
    shown = capsys.readouterr().err
    assert "4/4" in shown and "2 failed" in shown


def test_ones_own_backend(tmp_path: Path) -> None:
    class Backwards(InProcess):
        def run(self, claimed: Any) -> Any:
            yield from super().run(reversed(list(claimed)))

    backend: Backend = Backwards()
    log = tmp_path / "log"
    sweep = swept([Cell(square, {"x": x, "log": str(log)}) for x in range(3)], tmp_path / "out", on=backend)
    assert ran(log) == [2, 1, 0]
    assert sweep.frame["x"].tolist() == [0, 1, 2]


def test_a_csv_of_it_all(tmp_path: Path) -> None:
    sweep = swept(grid(square, x=[1, 2]), tmp_path / "out")
    assert pd.read_csv(sweep.to_csv(tmp_path / "table.csv"))["value"].tolist() == [1, 4]


def test_backends_are_there_without_their_libraries() -> None:
    code = """import sys
from circuitkit import studies
from circuitkit.studies import Needs, OnRay
print("ray" in sys.modules, hasattr(studies, "OnSlurm"), {"Needs", "OnRay"} <= set(studies.__all__))"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False False True\n"


def test_grids() -> None:
    cells = grid(square, x=range(2), log=["a", "b"]) + grid(square, x=5)
    assert [tuple(cell.parameters.values()) for cell in cells] == [(0, "a"), (0, "b"), (1, "a"), (1, "b"), (5,)]
    with pytest.raises(SweepError, match="'x' has no values"):
        grid(square, x=[])


def test_no_warning_where_nothing_is_wrong(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        swept(grid(square, x=[1]), tmp_path)
        Sweep.load(tmp_path)
