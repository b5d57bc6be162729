"""What a map of a study's cells takes into the page: the study's own numbers, thinned where there are very many."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkit.pairs import Pairs
from circuitkit.report.contents import Contents
from circuitkit.report.sections import maps
from circuitkit.results import Baseline, Result
from circuitkit.writing import read_prompts, write_prompts, write_result


def result(shape: tuple[int, ...], n: int, direction: str = "denoise", seed: int = 0, **more: object) -> Result:
    generator = torch.Generator().manual_seed(seed)
    per_example = torch.randn(*shape, n, generator=generator)
    clean, corrupt = (mean + torch.randn(n, generator=generator) for mean in (4.0, 0.0))
    axes = ("layer", "head", "query", "key")[: len(shape)]
    baseline = Baseline(clean, None if direction == "ablate" else corrupt)
    return Result(per_example, axes, baseline, direction, "logit_difference", "logits", **more)


@pytest.mark.parametrize("direction", ["denoise", "noise", "ablate"])
def test_every_number_is_the_results_own(direction):
    study = result((2, 3), 6, direction)
    study.per_example[1, 2] = torch.nan
    data, notes = maps.data_of(study)
    assert notes == []
    frame = study.frame
    there = ~np.isnan(np.asarray(data["effect"]))
    assert there.tolist() == [True] * 5 + [False]
    np.testing.assert_allclose(np.asarray(data["effect"])[there], frame["effect"], rtol=1e-6)
    for name, values in data["sure"].items():
        np.testing.assert_array_equal(values[there], frame[name])
        assert np.isnan(values[5])
    assert data["significant"] == torch.nonzero(study.significant.flatten()).flatten().tolist()
    [normalised] = [measure for measure in data["measures"] if measure["name"] == "normalised"]
    np.testing.assert_allclose(
        np.asarray(data["effect"])[there] * normalised["scale"], frame["normalised"], rtol=1e-5, atol=1e-7
    )
    assert data["examples"]["cells"] == [0, 1, 2, 3, 4]
    torch.testing.assert_close(data["examples"]["effects"], study.effects_per_example.flatten(0, 1)[:5])


def test_what_the_mark_before_a_token_means_is_said_where_there_is_one(tmp_path):
    for name, tokens in (("same", (" a", " b")), ("differs", (" a", "~ b"))):
        values = torch.rand(2, 4, generator=torch.Generator().manual_seed(0))
        labels = {"position": tokens}
        Result(values, ("position",), Baseline(torch.ones(4)), "ablate", "kl", labels=labels).save(
            tmp_path / f"{name}.safetensors"
        )
    captions = {section.name: section.caption for section in maps.sections(Contents.of(tmp_path))}
    assert captions["differs"].endswith("Positions have the first pair's tokens, behind ~ where pairs differ.")
    assert "~" not in captions["same"]


def test_what_cannot_be_known_is_said():
    alone, _ = maps.data_of(result((3,), 1))
    assert alone["significant"] is None
    assert "use more prompts" in alone["untested"]
    assert not alone["sure"].keys() & {"low", "high", "p_corrected"}
    same = Result(torch.rand(3, 4), ("layer",), Baseline(torch.ones(4), torch.ones(4)), "denoise", "kl")
    assert [measure["name"] for measure in maps.data_of(same)[0]["measures"]] == ["effect"]
    others, _ = maps.data_of(result((2, 3), 4))
    assert others["control"][1] == "other heads of its layer"
    drawn, _ = maps.data_of(result((2, 3), 4, controls=torch.rand(2, 3, 5)))
    assert drawn["control"][1].startswith("random sets")
    assert drawn["sure"]["control_n"].tolist() == [5] * 6


@settings(max_examples=25)
@given(cells=st.integers(1, 60), n=st.integers(2, 80), most=st.integers(1, 400))
def test_examples_keep_within_their_budget_and_their_order(cells, n, most):
    study = result((cells,), n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "FEWEST_EXAMPLES", 3)
        examples, notes = maps._examples(study, None, most)
    kept = examples["effects"]
    assert 0 < kept.numel() <= max(most, 3)
    indices, rows = examples["indices"], examples["cells"]
    assert indices == sorted(set(indices)) and rows == sorted(set(rows))
    torch.testing.assert_close(kept, study.effects_per_example[rows][:, indices])
    torch.testing.assert_close(examples["clean"], study.baseline.clean[indices])
    assert (len(indices) < n) == any("Of each cell's" in note for note in notes)
    assert (len(rows) < cells) == any("strongest of" in note for note in notes)
    if rows and len(rows) < cells:
        left_out = set(range(cells)) - set(rows)
        weakest = study.effects[rows].abs().min()
        assert all(study.effects[cell].abs() <= weakest for cell in left_out)


def test_the_maps_of_a_folder_share_its_budget(monkeypatch, tmp_path):
    monkeypatch.setattr(maps, "MOST_OF_ALL", 60)
    for name in ("a", "b"):
        result((2,), 20).save(tmp_path / f"{name}.safetensors")
    for section in maps.sections(Contents.of(tmp_path)):
        assert section.data["examples"]["effects"].shape == (2, 15)
        assert any("Of each cell's 20 examples 15" in note for note in section.notes)


def test_large_maps_keep_effects_alone_and_larger_ones_their_picture(monkeypatch, tmp_path):
    study = result((4, 5), 3)
    monkeypatch.setattr(maps, "MOST_CELLS", 19)
    data, notes = maps.data_of(study)
    assert data["sure"] == {} and data["control"] is None
    assert data["significant"] is not None
    assert any("20 cells" in note for note in notes)
    monkeypatch.setattr(maps, "MOST_EFFECTS", 19)
    study.save(tmp_path / "study.safetensors")
    [section] = maps.sections(Contents.of(tmp_path))
    assert section.view is None and section.data is None and len(section.stills) == 1
    assert any("too large to be pointed at" in note for note in section.notes)


def test_a_study_whose_cells_do_not_exist_says_so(tmp_path):
    study = result((2,), 3)
    study.per_example[:] = torch.nan
    study.save(tmp_path / "study.safetensors")
    [section] = maps.sections(Contents.of(tmp_path))
    assert (section.view, section.stills) == (None, ())
    assert "nothing to draw" in section.notes[0]


def test_the_prompts_beside_results_are_shown_and_those_of_others_are_not(tmp_path):
    pairs = Pairs(["a", "b" * 5000], ["c", "d"], [" e", " f"])
    study = result((2,), 2, provenance={"data_sha256": "of pairs"})
    lost = result((2,), 2, "ablate", provenance={"data_sha256": "of prompts"})
    write_result(study, tmp_path, "patched", pairs)
    write_result(lost, tmp_path, "lost", pairs)
    write_result(result((2,), 2, provenance={"data_sha256": "others"}), tmp_path, "others", torch.zeros(2, 3))
    shown = {each.name: each.data["examples"]["prompts"] for each in maps.sections(Contents.of(tmp_path))}
    assert shown["others"] is None
    assert shown["patched"] == shown["lost"]
    assert shown["patched"]["corrupt"] == ["c", "d"]
    assert shown["patched"]["clean"] == ["a", "…" + "b" * maps.MOST_LETTERS]


def test_a_folder_that_is_asked_other_prompts_forgets_the_earlier_ones(tmp_path):
    write_prompts(tmp_path, ["one"], ["a"])
    write_prompts(tmp_path, ["two"], "b")
    assert read_prompts(tmp_path, "one") is None
    assert read_prompts(tmp_path, "two") == {"clean": ["b"], "corrupt": None}
    (tmp_path / "prompts.json").write_text('["another program\'s"]')
    assert read_prompts(tmp_path, "two") is None
    # Prompts that are fewer than the examples are of something else.
    write_prompts(tmp_path, ["two"], ["a"])
    assert maps.prompts_of(result((2,), 3, provenance={"data_sha256": "two"}), tmp_path) is None
