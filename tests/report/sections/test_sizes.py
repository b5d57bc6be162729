"""Accuracy against size on a page: models, curves and breakpoints as the search found them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from circuitkit.report import read
from circuitkit.report.embedding import as_json
from circuitkit.report.section import Section
from circuitkit.thresholds import Threshold, find
from circuitkit.writing import write_table
from planted_accuracy import chance, planted, step


@pytest.fixture(scope="module")
def found() -> Threshold:
    return find(
        planted(step, 0, models=12, families=3, sure=200),
        task="steps",
        chance=0.2,
        draws=29,
        leave_out=False,
        progress=False,
    )


@pytest.fixture(scope="module")
def flat() -> Threshold:
    return find(planted(chance, 1, models=12), task="flat", chance=0.2, draws=29, leave_out=False, progress=False)


def sections(folder: Path) -> list[Section]:
    return list(read(folder, progress=False).sections)


def test_models_curves_and_breakpoint_are_those_of_the_search(tmp_path, found):
    found.save(tmp_path)
    (one,) = sections(tmp_path)
    (plane,) = one.data["planes"]
    points = {point["name"]: point for series in plane["series"] for point in series["points"]}
    for row in found.frame.to_dict("records"):
        point = points[row["model"]]
        assert (point["x"], point["y"], point["low"], point["high"]) == (
            round(row["parameters"]),
            row["accuracy"],
            row["low"],
            row["high"],
        )
    # With all of their digits, as they are told.
    large = max(round(row["parameters"]) for row in found.frame.to_dict("records"))
    assert large > 1e9 and f'"x":{large},' in as_json(one.data)
    assert plane["breakpoint"] == found.breakpoint and plane["interval"] == found.interval and plane["chance"] == 0.2
    best = {line["name"] for line in plane["lines"] if line["best"]}
    assert best == {str(row["curve"]).replace("_", " ") for row in (found.best, found.best_smooth)}
    assert one.says == tuple(found.sentences())


def test_a_step_keeps_both_of_its_sides(tmp_path, found):
    found.save(tmp_path)
    (plane,) = sections(tmp_path)[0].data["planes"]
    drawn = next(np.asarray(line["places"]) for line in plane["lines"] if line["name"] == "step")
    whole = found.lines[found.lines["curve"] == "step"].to_numpy()[:, 1:].astype(float)
    at = int(np.abs(np.diff(whole[:, 1])).argmax())
    for place in whole[at : at + 2]:
        assert (np.isclose(drawn, place).all(axis=1)).any()


def test_no_breakpoint_is_drawn_where_none_is_told(tmp_path, flat):
    flat.save(tmp_path)
    (plane,) = sections(tmp_path)[0].data["planes"]
    assert (plane["verdict"], plane["breakpoint"], plane["interval"]) == (flat.verdict, None, None)


def test_fits_of_a_study_are_chosen_from_in_one_card(tmp_path, found, flat):
    found.save(tmp_path / "fits" / "steps.json")
    flat.save(tmp_path / "fits" / "flat.json")
    (tmp_path / "figures").mkdir()
    (one,) = sections(tmp_path)
    assert {plane["name"] for plane in one.data["planes"]} == {"steps", "flat"}
    assert one.says[0].startswith("Of 2 searches for a threshold: in 1 ")


def elicited() -> pd.DataFrame:
    rows = [
        (size, parameters, training, examples, accuracy, 2.0, "proofs", 80, recovered, 10.0, 90.0)
        for size, parameters in (("20k", 2e4), ("130k", 1.3e5))
        for training, examples, accuracy, recovered in (
            ("none", None, 2.5, None),
            ("distilled", None, 99.5, None),
            ("full", 29, 40.0, 50.0),
            ("full", 928, 60.0, 70.0),
        )
    ]
    names = (
        "size",
        "parameters",
        "training",
        "examples",
        "accuracy",
        "accuracy_se",
        "benchmark",
        "items",
        "recovered",
        "low",
        "high",
    )
    return pd.DataFrame(rows, columns=list(names))


def test_what_training_elicits_is_drawn_by_size(tmp_path):
    write_table(tmp_path / "elicited.csv", elicited())
    (one,) = sections(tmp_path)
    (plane,) = one.data["planes"]
    assert [series["name"] for series in plane["series"]] == [
        "base",
        "reasoning model of its size",
        "full, 29 examples",
        "full, 928 examples",
    ]
    (point, _) = plane["series"][1]["points"]
    assert (point["x"], point["y"], point["high"]) == (2e4, 0.995, 1.0)
    assert plane["spread"] == "standard error" and "line is the standard error" in one.caption
    assert plane["series"][2]["points"][0]["facts"]["way to the reasoning model"] == "50 % (10 to 90)"


def test_intervals_of_what_training_elicits_are_the_table_s(tmp_path):
    table = elicited().assign(accuracy_low=1.0, accuracy_high=99.75)
    write_table(tmp_path / "elicited.csv", table)
    (one,) = sections(tmp_path)
    (plane,) = one.data["planes"]
    assert {(point["low"], point["high"]) for series in plane["series"] for point in series["points"]} == {
        (0.01, 0.9975)
    }
    assert plane["spread"] == "95% interval" and "line is the 95% interval, over questions" in one.caption


def test_other_tables_are_left_to_others(tmp_path):
    write_table(tmp_path / "sizes.csv", elicited().drop(columns="benchmark"))
    (one,) = sections(tmp_path)
    assert one.view is None and one.table is not None
