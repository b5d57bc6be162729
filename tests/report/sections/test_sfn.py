"""Differences of weights on a page: a map of every measure, histograms with their nulls, and what is thinned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import circuitkit as ck
from circuitkit.report import read
from circuitkit.report.sections import sfn
from circuitkit.sfn import Delta
from circuitkit.sfn.differences.joining import pivoted


@pytest.fixture(scope="module")
def twins() -> Delta:
    return ck.sfn.delta("deductor-5k-base", "deductor-5k", ["q_proj", "o_proj"], progress=False)


def test_the_map_has_every_measure_of_every_module(twins):
    data, notes = sfn.data_of(twins)
    modules, *heads = data["checkpoints"][0]["boards"]
    assert notes == [] and {"q_proj", "o_proj"} <= set(modules["columns"])
    for measure, values in modules["values"].items():
        expected = pivoted(twins.frame, measure, list(modules["columns"]))
        np.testing.assert_allclose(values, expected.to_numpy(dtype=float))
        assert [row for row in modules["rows"] if row != "outside"] == [
            str(each) for each in expected.index if each >= 0
        ]
    assert {board["name"] for board in heads} == {"heads of q_proj", "heads of o_proj"}
    board = next(each for each in heads if each["name"] == "heads of q_proj")
    row = twins.heads[(twins.heads["module"] == "q_proj") & (twins.heads["layer"] == 1) & (twins.heads["head"] == 0)]
    assert board["values"]["relative"][board["rows"].index("1")][0] == row["relative"].item()


def test_histograms_stand_beside_their_nulls(twins):
    data, _ = sfn.data_of(twins)
    shape = next(each for each in data["shapes"] if (each["module"], each["layer"]) == ("o_proj", "0"))
    whole = twins.histogram("o_proj", 0)
    n = whole.counts.sum() + whole.zeros + whole.beyond
    np.testing.assert_allclose(shape["wide"], whole.counts / n)
    assert shape["beyond"] == whole.beyond / n and n == shape["elements"]
    at = twins.frame.query("module == 'o_proj' and layer == 0").index[0]
    np.testing.assert_array_equal(shape["null"]["changes shuffled"], twins.shapes[at].shuffled)
    np.testing.assert_array_equal(shape["near_null"]["rounded noise"], twins.shapes[at].near_rounding)
    assert shape["because"] == twins.frame.loc[at, "because"]


def test_histograms_are_thinned_by_layers_and_it_is_told(twins, monkeypatch):
    monkeypatch.setattr(sfn, "MOST_BINS", 3 * (200 * 3 + 120))
    data, notes = sfn.data_of(twins)
    assert len(data["shapes"]) == 2 and len({each["layer"] for each in data["shapes"]}) == 1
    assert "Histograms are in the page for 1 of" in notes[0]


def test_humps_are_marked_in_the_map_whether_their_histogram_is_in_the_page_or_not(twins, monkeypatch):
    """Weights share a cell, and layers are thinned; what is marked and counted is of all weights."""
    frame = twins.frame.assign(verdict="unimodal")
    last = frame.index[(frame["module"] == "o_proj") & (frame["layer"] == 1)]
    frame.loc[last, ["module", "verdict"]] = ["q_proj", "bimodal"]
    frame.loc[frame.index[(frame["module"] == "o_proj") & (frame["layer"] == 0)], "verdict"] = "bimodal"
    monkeypatch.setattr(sfn, "MOST_BINS", 1)
    data, _ = sfn.data_of(replace(twins, frame=frame))
    (checkpoint,) = data["checkpoints"]
    modules = checkpoint["boards"][0]
    marked = {(modules["rows"][row], modules["columns"][column]) for row, column in modules["humps"]}
    assert marked == {("1", "q_proj"), ("0", "o_proj")} and len(data["shapes"]) == 1
    assert (checkpoint["judged"], checkpoint["bimodal"]) == (len(frame), 2)


def test_without_histograms_the_page_says_so(tmp_path):
    plain = ck.sfn.delta(
        "deductor-5k-base", "deductor-5k", ["o_proj"], histogram=None, bimodality=False, progress=False
    )
    plain.save(tmp_path)
    (one,) = read(tmp_path, progress=False).sections
    assert one.data["shapes"] == [] and "No histogram was asked for, so there is none to show." in one.notes
    assert one.view == "histogram" and "histogram of its weights" not in one.caption


def test_what_is_found_is_said_with_what_explains_it(tmp_path, twins):
    twins.save(tmp_path)
    (one,) = read(tmp_path, progress=False).sections
    counts = twins.frame["verdict"].value_counts()
    assert f"{counts.index[0]} in {counts.iloc[0]}" in one.says[1]


def test_comparisons_of_a_study_stand_with_it_and_its_pictures_of_them_are_not_shown_again(tmp_path, twins):
    twins.save(tmp_path / "deltas" / "a pair.safetensors")
    twins.plot().figure.savefig(tmp_path / "delta a pair, norms.png")
    (one,) = read(tmp_path, progress=False).sections
    assert one.title == "How far each module moved: a pair"
