"""Cells that do what no cell should: it costs them, and no other."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import circuitkit as ck
from circuitkit.studies import InProcess, Pretrained, Sweep, SweepError, grid
from studies import functions


def swept(cells: Any, out: Path | str, **settings: Any) -> Sweep:
    return ck.sweep(cells, out, progress=False, **settings)


class Panic(BaseException):
    pass


RAISED = {
    "panic": Panic,
    "cancelled": asyncio.CancelledError,
    "generator": GeneratorExit,
    "iteration": StopIteration,
    "leaves": SystemExit,
}


@pytest.mark.parametrize("kind", RAISED)
def test_whatever_a_cell_raises_is_its_own_failure(tmp_path: Path, kind: str) -> None:
    def raises(kind: str, x: int) -> int:
        if x == 0:
            raise RAISED[kind]("why")
        return x

    sweep = swept(grid(raises, kind=kind, x=[0, 1]), tmp_path)
    assert sweep.frame["value"].tolist()[1] == 1
    assert "why" in sweep.failures["error"][0]


@pytest.mark.parametrize("kind", ["surrogate", "large", "name", "message"])
def test_what_cannot_be_written_down_fails_that_cell(tmp_path: Path, kind: str) -> None:
    def returns(kind: str, x: int) -> Any:
        if x == 1:
            return 1
        if kind == "message":
            raise ValueError("a\ud800b")
        return {"surrogate": "a\ud800b", "large": 10**5000, "name": {"a\ud800": 1}}[kind]

    sweep = swept(grid(returns, kind=kind, x=[0, 1]), tmp_path)
    assert sweep.frame["value"].tolist()[1] == 1
    assert sweep.failures["error"][0].startswith("ValueError: ")
    assert Sweep.load(tmp_path).failures["error"].tolist() == sweep.failures["error"].tolist()


def test_hostile_cells_in_this_process(tmp_path: Path) -> None:
    sweep = swept(grid(functions.hostile, kind=["text", "panic", "loader", "error"]), tmp_path)
    rows = sweep.frame.set_index("kind")
    assert rows.loc["text", "value"] == "plain" and rows.loc["loader", "value"] == 6
    assert rows.loc["error", "returned.error"] == 5 and rows["error"].notna().tolist() == [False, True, False, False]
    assert "in hostile" in sweep.failures["traceback"][0]


def test_a_cell_may_change_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def moves(x: int, to: str) -> int:
        os.chdir(to)
        return x

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    sweep = swept(grid(moves, x=[1, 2], to=str(tmp_path / "elsewhere")), "out")
    assert sweep.frame["value"].tolist() == [1, 2] and len(sweep.failures) == 0
    assert len(Sweep.load(tmp_path / "out")) == 2


def test_cells_do_not_share_what_they_change(tmp_path: Path) -> None:
    def appends(xs: list[list[int]], t: torch.Tensor, n: int) -> int:
        xs[0].append(n)
        return len(xs[0]) + int(t.add_(1).sum())

    cells = [
        (appends, {"xs": given, "t": tensor, "n": n}) for given, tensor in [([[1]], torch.zeros(1))] for n in (1, 2)
    ]
    assert swept(cells, tmp_path).frame["value"].tolist() == [3, 3]


def edits(model: ck.Model, how: str, x: int) -> float:
    told = float(model.run([[1, 2, 3]]).logits.double().sum())
    if how == "weights":
        model.hf.lm_head.weight.data.mul_(2)
    if how == "hook":
        model.hf.lm_head.register_forward_hook(lambda module, given, output: output * 0)
    return told


@pytest.mark.parametrize("how", ["weights", "hook"])
def test_a_model_that_a_cell_changed_is_not_kept(tmp_path: Path, how: str) -> None:
    values = swept(grid(edits, model=Pretrained("deductor-5k"), how=how, x=[1, 2]), tmp_path).frame["value"]
    assert values[0] == values[1] != 0


@pytest.mark.parametrize("how", ["weights", "hook"])
def test_a_given_model_that_a_cell_changed_is_refused_to_the_next(tmp_path: Path, how: str) -> None:
    sweep = swept(grid(edits, model=ck.load("deductor-5k"), how=["nothing", how], x=[1, 2]), tmp_path)
    assert sweep.frame["value"].notna().tolist() == [True, True, True, False]
    assert "an earlier cell changed the model 'model'" in sweep.failures["error"][0]


@pytest.mark.parametrize("expires", [0, -1, float("nan")])
def test_claims_that_could_not_be_kept(tmp_path: Path, expires: float) -> None:
    with pytest.raises(SweepError, match=f"expires={expires}"):
        swept(grid(functions.square, x=[1]), tmp_path, expires=expires)


def test_workers_of_a_backend_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="workers=2 is for 'local' and 'ray': tell InProcess"):
        swept(grid(functions.square, x=[1]), tmp_path, on=InProcess(), workers=2)
