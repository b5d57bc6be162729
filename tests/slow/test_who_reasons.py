"""The whole of Who Reasons: a tiny plan from end to end, and pairs whose difference is known."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import who_reasons
from stethoscope import report, tables, verdict
from stethoscope.asking import Deductions, TaughtProofs
from stethoscope.plans import DIRECTIONS, SMALL, Pair, Plan
from stethoscope.plans import trainings as way
from stethoscope.study import Running, Study

import circuitkit as ck

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

REASON, BASE = "deductor-130k-reason", "deductor-130k-base"


def differing(module: str, folder: Path, reason: str = REASON, base: str = BASE) -> str:
    """The reasoning twin with the base's weights in one module, written as a model folder."""
    return str(ck.sfn.merge(reason, base, [module], folder, progress=False).folder)


# Of 180 draws p can be 1/181, which survives the correction over nine sets; finding that there is nothing takes fewer.
@pytest.mark.parametrize(("module", "answer", "draws"), [("o_proj", "yes", 180), ("k_proj", "no", 9)])
def test_the_one_module_that_differs_is_the_one_that_is_found(module, answer, draws, tmp_path):
    pair = Pair("known", differing(module, tmp_path / "a"), (REASON,), controls=draws, others=1, rows=1)
    plan = Plan((pair,), Deductions(n=1, texts=4))
    rows = Study(plan, Running(tmp_path / "out", progress=False)).merges([pair])
    table = tables.merges_table(rows)
    own = table.set_index(["direction", "set"])
    # Grafting the module that differs gives the other model; grafting what does not differ gives the same.
    for direction, host, other in (("into A", "none", REASON), ("back into B", "none", BASE)):
        assert other and own.loc[(direction, module), "accuracy"] == own.loc[(direction, "all projections"), "accuracy"]
        same = "down_proj"
        assert own.loc[(direction, same), "accuracy"] == own.loc[(direction, host), "accuracy"]
        assert own.loc[(direction, same), "fluency_change"] == 0
    assert own.loc[("back into B", "none"), "accuracy"] == 1.0 == own.loc[("into A", module), "accuracy"]
    assert own.loc[("into A", "none"), "accuracy"] < 0.5
    evidence = [verdict.of_merges(table, "known", direction) for direction in DIRECTIONS]
    assert verdict.answer(*evidence) == answer
    if answer == "yes":
        assert own.loc[("into A", module), "p_corrected"] == pytest.approx(9 / 181)


TINY = replace(
    SMALL,
    pairs=(Pair("tiny", "deductor-20k-base", ("deductor-20k-reason",), controls=2, others=1, rows=1, destroyed=1),),
    asked=Deductions(n=1, texts=4, max_new_tokens=24),
    freezing=(
        replace(
            SMALL.freezing[0],
            base="deductor-20k-base",
            reference="deductor-20k-reason",
            taught=TaughtProofs(n=40, held_out=8),
            way=way(3, (1e-2,)),
            whole=way(3, (1e-2,)),
            controls=1,
            near=Pair("tiny, trained here", "deductor-20k-base", (), controls=1, others=1, rows=1),
        ),
    ),
    hows=("noise", "remove"),
    each_layer=False,
)


def test_a_tiny_study_runs_from_end_to_end_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    running = Running(tmp_path, progress=False)
    report.study(TINY, running, 0.0)
    names = {path.name for path in tmp_path.iterdir()}
    tables_ = {f"{name}.csv" for name in ("delta", "destructions", "ends", "merge_controls", "merges", "trainings")}
    drawn = {f"{name}.png" for name in ("destroyed tiny", "labour", "levels", "merges", "trainings")}
    assert tables_ | drawn | {"report.md", "provenance.json"} <= names
    assert {f"delta tiny, {kind}.png" for kind in ("norms", "relative", "histograms")} <= names
    merges, destroyed = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("merges", "destructions"))
    assert set(merges["pair"]) == {"tiny", "tiny, trained here"} and len(merges) == 2 * 2 * 11
    assert merges[["accuracy", "low", "high", "effect_low", "effect_high", "tokens", "fluency"]].notna().all().all()
    shares = merges[[f"level {level}" for level in ("I", "II", "III", "IV")]].sum(axis=1)
    assert shares.tolist() == pytest.approx([1.0] * len(merges))
    assert set(destroyed["how"]) == {"none", "noise", "remove"}
    assert destroyed.loc[destroyed["how"] == "noise", "n"].eq(3 * 4).all()
    said = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert said.count("does o_proj carry the reasoning?") == 2 and "How sure that is" in said
    assert "tiny" in json.loads((tmp_path / "provenance.json").read_text(encoding="utf-8"))["plan"]

    def refused(*_args, **_settings):
        raise AssertionError("a cell was run again")

    for name in ("evaluate", "train"):
        monkeypatch.setattr(ck, name, refused)
    report.study(TINY, running, 0.0)
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == said
    assert "Tables, figures and the page are in" in capsys.readouterr().out


def test_a_pair_of_folders_is_studied_by_the_command_line(tmp_path):
    small = ("deductor-5k-reason", "deductor-5k-base")
    a = differing("o_proj", tmp_path / "a", *small)
    who_reasons.app(
        [
            "--out",
            str(tmp_path / "out"),
            "--a",
            a,
            "--b",
            small[0],
            "--questions",
            "1",
            "--controls",
            "1",
            "--no-progress",
        ],
        result_action="return_value",
    )
    merges = pd.read_csv(tmp_path / "out" / "merges.csv")
    assert set(merges["pair"]) == {f"a and {small[0]}"} and not (tmp_path / "out" / "trainings.csv").exists()
