"""Results: what an effect is, what their table says, and that a saved one comes back equal or not at all."""

import dataclasses
import io
import json
import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy import stats

from circuitkit import saving
from circuitkit.results import Baseline, Result, data_hash, provenance, whole_file

N = 12


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def patched(direction: str = "denoise") -> Result:
    """Layer x head with one head that carries half of the difference, and a layer of only two heads."""
    clean, corrupt = 4 + 0.3 * noise(N, seed=1), -1 + 0.3 * noise(N, seed=2)
    base, half = (corrupt, (clean - corrupt) / 2) if direction == "denoise" else (clean, (corrupt - clean) / 2)
    per_example = base + 0.05 * noise(3, 4, N)
    per_example[1, 2] += half
    per_example[2, 2:] = torch.nan
    return Result(
        per_example,
        ("layer", "head"),
        Baseline(clean, corrupt),
        direction,  # type: ignore[arg-type]
        "logit_difference",
        unit="logits",
        provenance=provenance(model_name="tiny", data=["a", "b"], seed=0),
    )


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_half_a_difference_is_a_half_in_either_direction(direction: str) -> None:
    result = patched(direction)
    assert result.normalised[1, 2].item() == pytest.approx(0.5, abs=0.02)
    assert result.normalised[0].abs().max() < 0.02
    whole = result.baseline.clean_mean - (result.baseline.corrupt_mean or 0.0)
    assert torch.allclose(result.normalised * whole, result.effects, atol=1e-5, equal_nan=True)
    assert torch.equal(result.values.isnan(), result.per_example[..., 0].isnan())


def test_an_ablation_is_measured_by_the_drop_from_clean() -> None:
    clean = torch.tensor([4.0, 2.0])
    result = Result(torch.tensor([[1.0, 2.0], [4.0, 5.0]]), ("layer",), Baseline(clean), "ablate", "probability")
    assert result.values.tolist() == [1.5, 4.5]
    assert result.effects.tolist() == [1.5, -1.5]
    assert result.normalised.tolist() == [0.5, -0.5]
    negative = Result(-result.per_example, ("layer",), Baseline(-clean), "ablate", "log_probability")
    assert negative.normalised.tolist() == [-0.5, 0.5]


@pytest.mark.parametrize(
    ("baseline", "direction", "reason"),
    [
        (Baseline(torch.ones(3), torch.ones(3)), "denoise", "have the same mean kl"),
        (Baseline(torch.zeros(3)), "ablate", "is 0, so nothing can be lost"),
    ],
)
def test_where_there_is_no_difference_the_share_is_nan_with_a_reason(
    baseline: Baseline, direction: str, reason: str
) -> None:
    result = Result(torch.rand(2, 3), ("layer",), baseline, direction, "kl")  # type: ignore[arg-type]
    assert result.normalised.isnan().all()
    assert reason in (result.undefined or "")
    assert reason in result.frame.attrs["normalised"]
    assert result.frame["effect"].notna().all()
    assert result.plot().get_ylabel().startswith("kl, ")
    with pytest.raises(ValueError, match=reason):
        result.plot(of="normalised")


def test_the_table_has_a_row_a_cell_and_marks_what_survives() -> None:
    result = patched()
    frame = result.frame
    assert len(frame) == 10 and (2, 3) not in set(zip(frame["layer"], frame["head"], strict=True))
    assert frame.loc[frame["significant"], ["layer", "head"]].to_numpy().tolist() == [[1, 2]]
    assert result.significant.nonzero().tolist() == [[1, 2]]
    row = frame[frame["significant"]].iloc[0]
    effects = (result.per_example[1, 2] - result.baseline.corrupt).double().numpy()  # type: ignore[operator]
    assert row["effect"] == pytest.approx(effects.mean(), abs=1e-5)
    assert row["low"] < effects.mean() < row["high"]
    oracle = stats.permutation_test((effects,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert row["p"] == pytest.approx(oracle.pvalue)
    assert (frame["p_corrected"] >= frame["p"]).all()


def test_benjamini_hochberg_and_levels_may_be_asked_for() -> None:
    result = patched()
    table = result.tidy(correction="bh", level=0.5)
    assert table["p_corrected"].to_numpy() == pytest.approx(stats.false_discovery_control(table["p"]))
    assert (table["high"] - table["low"] < result.frame["high"] - result.frame["low"]).all()


def test_one_example_has_values_but_no_certainty_and_says_so() -> None:
    result = Result(torch.rand(2, 1), ("layer",), Baseline(torch.ones(1)), "ablate", "probability")
    assert result.frame[["low", "high", "p", "p_corrected", "effect_size"]].isna().all(axis=None)
    assert not result.frame["significant"].any() and result.frame["value"].notna().all()
    assert "one example" in result.frame.attrs["statistics"]


def test_rounding_of_one_sign_is_no_discovery() -> None:
    result = patched("noise")
    per_example = result.per_example.clone()
    per_example[0] = result.baseline.clean - 1e-6
    rounded = dataclasses.replace(result, per_example=per_example)
    first = rounded.frame[rounded.frame["layer"] == 0]
    assert (first["p"] == 1.0).all() and (first["effect"] > 0).all()
    assert dataclasses.replace(rounded, resolution=0.0).significant[0].all()


def test_groups_reach_the_statistics() -> None:
    result = patched()
    grouped = dataclasses.replace(result, groups=torch.arange(N) // 3)
    assert (grouped.frame["p"] >= 2 / 2**4).all() and result.frame["p"].min() < 2 / 2**4
    one = dataclasses.replace(result, groups=torch.zeros(N, dtype=torch.long))
    assert "one group" in one.frame.attrs["statistics"]


def test_coordinates_and_labels_name_the_rows() -> None:
    result = Result(
        torch.rand(2, 3, N),
        ("layer", "position"),
        Baseline(torch.ones(N)),
        "ablate",
        "probability",
        coordinates={"layer": (3, 7)},
        labels={"position": ("A", " cat", " is")},
    )
    assert sorted(set(result.frame["layer"])) == [3, 7]
    assert result.frame["position_label"].tolist() == ["A", " cat", " is"] * 2


def test_top_rows_are_largest_in_magnitude_first() -> None:
    result = patched("noise")
    top = result.top(3, by="normalised")
    assert top.loc[0, ["layer", "head"]].tolist() == [1, 2]
    assert top["normalised"].abs().is_monotonic_decreasing and len(top) == 3


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_any_result_comes_back_equal(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    cells = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    examples = data.draw(st.integers(1, 5))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    per_example = noise(*cells, examples).to(dtype)
    if data.draw(st.booleans()):
        per_example.view(-1, examples)[0] = torch.nan
    axes = ("layer", "head", "position")[: len(cells)]
    result = Result(
        per_example,
        axes,
        Baseline(noise(examples), noise(examples, seed=1) if data.draw(st.booleans()) else None),
        "ablate",
        "kl",
        coordinates={axes[0]: tuple(range(5, 5 + cells[0]))},
        labels={axes[-1]: tuple(data.draw(st.lists(st.text(), min_size=cells[-1], max_size=cells[-1])))},
        groups=torch.arange(examples) if data.draw(st.booleans()) else None,
        controls=noise(*cells, data.draw(st.integers(0, 3)), seed=2) if data.draw(st.booleans()) else None,
        provenance={"seeds": (1, 2), "note": "é"},
    )
    path = result.save(tmp_path_factory.mktemp("result"))
    back = Result.load(path)
    assert back == result and Result.load(path.parent) == result
    assert back.values.dtype == dtype
    assert back.frame.equals(result.frame)


def test_equality_sees_every_field() -> None:
    result = patched()
    assert result == dataclasses.replace(result)
    changed = result.per_example.clone()
    changed[0, 0, 0] += 1e-3
    others: list[dict[str, object]] = [
        {"per_example": changed},
        {"baseline": Baseline(result.baseline.clean, result.baseline.clean)},
        {"metric": "kl"},
        {"seed": 1},
        {"labels": {"head": tuple("abcd")}},
        {"groups": torch.arange(N)},
        {"controls": torch.ones(3, 4, 2)},
        {"provenance": {}},
    ]
    for other in others:
        assert result != dataclasses.replace(result, **other), other  # type: ignore[arg-type]
    assert result != "a result"


def test_a_result_that_loads_again_shows_the_same_picture(tmp_path: Path) -> None:
    result = patched()
    back = Result.load(result.save(tmp_path / "study.safetensors"))
    pictures = []
    for one in (result, back):
        buffer = io.BytesIO()
        one.plot().figure.savefig(buffer, format="png", metadata={"Software": None})
        pictures.append(buffer.getvalue())
    assert pictures[0] == pictures[1]
    pd.testing.assert_frame_equal(back.frame, result.frame)


def test_the_table_is_written_as_csv(tmp_path: Path) -> None:
    result = patched()
    read = pd.read_csv(result.to_csv(tmp_path / "deep" / "table.csv"))
    pd.testing.assert_frame_equal(read, result.frame, check_exact=False)


@pytest.mark.parametrize("kept", [0, 4, 40, 0.5, -1])
def test_a_file_cut_short_is_refused_by_name(tmp_path: Path, kept: float) -> None:
    path = patched().save(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match=r"result\.safetensors: cut short or not a safetensors file"):
        Result.load(path)


def test_foreign_and_absent_files_are_refused_by_name(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors: a safetensors file, but it holds no result"):
        Result.load(tmp_path / "model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"result\.safetensors: no such file"):
        Result.load(tmp_path)
    with pytest.raises(ValueError, match=r"its table is in \.frame"):
        patched().save(tmp_path / "table.csv")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.safetensors"
    old = patched()
    old.save(path)

    def half_written() -> None:
        with whole_file(path) as beside:
            beside.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half_written()
    assert Result.load(path) == old
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_file_is_readable_as_any_that_is_opened_there(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        saving.save(tmp_path / "kept.safetensors", "toy", {"a": torch.ones(2)}, {})
        (tmp_path / "plain").touch()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("kept.safetensors", "plain"), 0o666 & ~umask)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axes": ("layer",)}, "one axis for each of"),
        ({"axes": ()}, "one axis for each of"),
        ({"direction": "restore"}, "must be 'denoise', 'noise' or 'ablate'; got 'restore'"),
        ({"baseline": Baseline(torch.ones(N))}, "needs the corrupt run"),
        ({"baseline": Baseline(torch.ones(3), torch.ones(3))}, "clean must have one value for each of 12"),
        ({"groups": torch.ones(3)}, "groups must have one value for each of 12"),
        ({"controls": torch.ones(3, 4)}, r"controls must have the cells' axes \(3, 4\) and a last one of draws"),
        ({"controls": torch.ones(4, 3, 5)}, r"got shape \(4, 3, 5\)"),
        ({"labels": {"head": ("a", "b")}}, "labels of 'head' name 2 entries"),
        ({"coordinates": {"position": (1,)}}, "coordinates of 'position'"),
        ({"per_example": torch.full((3, 4, N), 1.0).index_fill(2, torch.tensor([0]), torch.nan)}, "NaN for some"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(patched(), **change)  # type: ignore[arg-type]


def test_provenance_tells_where_a_result_comes_from() -> None:
    told = provenance(model_name="gpt2", revision="main", data=torch.tensor([[1]]), seed=3, over="z")
    assert {"model", "revision", "data_sha256", "seed", "versions", "command", "time", "over"} == set(told)
    assert told["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"circuitkit", "transformers", "transformer-lens", "nnsight", "python"} <= set(told["versions"])
    assert json.loads(json.dumps(told)) == told
    with pytest.raises(TypeError, match="already has"):
        provenance(model_name="gpt2", time="now")


def test_data_hashes_tell_data_apart_but_not_how_it_is_stored() -> None:
    tokens = torch.tensor([[1, 2], [3, 4]])
    assert data_hash(tokens) == data_hash(tokens.int()) == data_hash(tokens.t().contiguous().t())
    assert data_hash({"a": 1, "b": 2}) == data_hash({"b": 2, "a": 1})
    different = [tokens, tokens.t(), tokens.flatten(), tokens.float(), "1", 1, ["ab", "c"], ["a", "bc"], [["ab"], "c"]]
    assert len({data_hash(one) for one in different}) == len(different)
    with pytest.raises(TypeError, match="cannot hash a set"):
        data_hash({1, 2})  # type: ignore[arg-type]


def test_a_head_stands_beside_the_other_heads_of_its_layer() -> None:
    values = torch.tensor([[1.0, 5.0, 3.0], [4.0, 4.0, float("nan")]])
    result = Result(
        values[..., None].repeat(1, 1, 4), ("layer", "head"), Baseline(torch.full((4,), 6.0)), "ablate", "kl"
    )
    frame = result.frame.set_index(["layer", "head"])
    assert frame.loc[(0, 0), "control_mean"] == pytest.approx((1.0 + 3.0) / 2)
    assert frame.loc[(0, 0), "control_p"] == pytest.approx(1 / 3)
    assert frame.loc[(1, 1), "control_mean"] == pytest.approx(2.0)
    assert bool((frame["control_p"] >= 1 / (1 + frame["control_n"])).all())
    assert "control_mean" not in Result(torch.ones(2, 4), ("layer",), result.baseline, "ablate", "kl").frame


def test_random_sets_stand_beside_a_cell() -> None:
    nan = torch.nan
    controls = torch.tensor([[1.0, -6.0, 0.5, 0.0], [2.0, nan, nan, nan], [nan, nan, nan, nan]])
    result = Result(
        torch.tensor([1.0, 3.0, 6.0])[:, None].repeat(1, 4),
        ("set",),
        Baseline(torch.full((4,), 6.0)),
        "ablate",
        "kl",
        controls=controls,
    )
    frame = result.frame
    assert frame["control_n"].tolist() == [4, 1, 0]
    # The first one's effect is 5, and one of four random sets does as much.
    assert frame["control_p"].tolist()[:2] == [2 / 5, 1 / 2] and np.isnan(frame["control_p"][2])
    assert frame["control_mean"].tolist()[:2] == [-1.125, 2.0] and np.isnan(frame["control_mean"][2])
    low, high = np.quantile([1.0, -6.0, 0.5, 0.0], [0.05, 0.95])
    assert result.tidy(level=0.9)[["control_low", "control_high"]].to_numpy()[0] == pytest.approx([low, high])
