"""A comparison's tables, trajectories, file and figures."""

import dataclasses
import io
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import circuitkit as ck
from circuitkit.model.roles import ROLES
from circuitkit.sfn import Checkpoint, Delta, SelectionError
from sfn import toys

TRIO = ("q_proj", "o_proj", "down_proj")


@pytest.fixture(scope="module")
def twins():
    return ck.sfn.delta("deductor-20k-base", "deductor-20k", progress=False)


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """A start and three checkpoints: o_proj goes on in one direction, q_proj back, down_proj sideways."""
    folder = tmp_path_factory.mktemp("steps")
    start = toys.written("llama", folder / "start")
    first = {name: tensor.double() for name, tensor in load_file(start / "model.safetensors").items()}
    noise = torch.Generator().manual_seed(0)
    random = {name: torch.randn(tensor.shape, generator=noise, dtype=torch.float64) for name, tensor in first.items()}
    folders = []
    for step, (on, back) in {100: (1, 1), 200: (2, 0.5), 300: (3, 0)}.items():
        made = toys.copied(start, folder / f"checkpoint-{step}")

        def change(tensors, on=on, back=back, step=step):
            found = {}
            for name, tensor in tensors.items():
                moved = on if "o_proj" in name else back if "q_proj" in name else 0
                drawn = random[name]
                if "down_proj" in name:
                    drawn = torch.randn(tensor.shape, generator=noise, dtype=torch.float64)
                    moved = 1
                found[name] = (first[name] + 0.01 * moved * drawn).to(tensor.dtype)
            return found

        folders.append(toys.restored(made, change))
    return start, folders, ck.sfn.delta(start, folders, TRIO, bimodality=False, stable_rank=False, progress=False)


def render(axes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes.figure.savefig(io.BytesIO(), format="png")


def writing(axes):
    figure = axes.figure
    titles = [each.get_text() for each in ([figure._suptitle] if figure._suptitle else [])]
    return " ".join(
        [*titles, *(each.get_title() for each in figure.axes), *(each.get_ylabel() for each in figure.axes)]
    )


def test_it_is_equal_when_it_is_loaded_again(twins, tmp_path):
    path = twins.save(tmp_path)
    again = Delta.load(path)
    assert path.name == "delta.safetensors" and [each.name for each in tmp_path.iterdir()] == [path.name]
    for table in ("frame", "heads", "trajectory"):
        assert getattr(again, table).equals(getattr(twins, table))
    assert again.provenance == dict(twins.provenance) and repr(again) == repr(twins)
    for one, other in zip(again.histograms, twins.histograms, strict=True):
        assert (one.counts == other.counts).all() and (one.formula, one.zeros, one.beyond) == (
            other.formula,
            other.zeros,
            other.beyond,
        )
    for one, other in zip(again.shapes, twins.shapes, strict=True):
        assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)


def test_without_heads_histograms_or_modes_it_is_equal_too(tmp_path):
    bare = ck.sfn.delta(
        "deductor-20k-base", "deductor-20k", per_head=False, histogram=None, bimodality=False, progress=False
    )
    again = Delta.load(bare.save(tmp_path / "bare.safetensors"))
    assert again.frame.equals(bare.frame) and again.histograms == () == again.shapes and not len(again.heads)


def test_what_is_no_comparison_is_refused(twins, tmp_path):
    with pytest.raises(ValueError, match=r"saved as \.safetensors"):
        twins.save(tmp_path / "delta.csv")
    path = twins.save(tmp_path / "cut.safetensors")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match="cut short"):
        Delta.load(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        Delta.load(tmp_path / "none.safetensors")


def test_it_says_what_moved_most(twins):
    row = twins.frame.sort_values("relative").iloc[-1]
    where = f" of layer {row['layer']}" if row["layer"] >= 0 else ""
    said = (
        f"Delta('deductor-20k-base' to 'deductor-20k': {len(twins.frame)} modules; {row['module']}{where} moved most, "
        f"by {row['relative']:.2g} of its norm)"
    )
    assert repr(twins) == said


def test_what_moved_most_may_lie_outside_of_the_layers(twins):
    frame = twins.frame.copy()
    outside = frame.index[frame["module"].str.contains("embed")][0]
    frame.loc[outside, "relative"] = 99.0
    said = repr(dataclasses.replace(twins, frame=frame))
    assert f"{frame.loc[outside, 'module']} moved most, by 99 of its norm" in said and "-1" not in said


def test_modules_come_in_the_order_of_the_roles(twins):
    assert twins.by_module()["module"].tolist() == [*ROLES[:7], "embed+lm_head", "norm"]


def test_histograms_count_every_weight(twins):
    for index, row in twins.frame.iterrows():
        found = twins.histograms[index]
        assert found.counts.sum() + found.zeros + found.beyond == row["elements"]
    one, other = Checkpoint.open("deductor-20k-base"), Checkpoint.open("deductor-20k")
    name = "model.layers.1.self_attn.o_proj.weight"
    a, b = (each.read(name).double().numpy().ravel() for each in (one, other))
    expected, edges = np.histogram((b - a) / a, 200, (-1, 1))
    found = twins.histogram("o_proj", 1)
    assert np.abs(found.counts - expected).sum() <= 2 and np.allclose(found.edges, edges)
    norms = twins.frame[(twins.frame["module"] == "norm") & (twins.frame["layer"] == 0)]
    assert twins.histogram("norm", 0).counts.sum() + twins.histogram("norm", 0).beyond == norms["elements"].sum()
    with pytest.raises(SelectionError, match="no histogram of o_proj in layer 9"):
        twins.histogram("o_proj", 9)


def test_tables_take_several_weights_as_one(twins):
    table = twins.table("relative")
    assert table.shape == (2, 7) and table.index.tolist() == [0, 1]
    row = twins.frame[(twins.frame["module"] == "o_proj") & (twins.frame["layer"] == 1)].iloc[0]
    assert table.loc[1, "o_proj"] == row["relative"]
    one, other = (Checkpoint.open(name) for name in ("deductor-20k-base", "deductor-20k"))
    names = [f"model.layers.{layer}.mlp.{role}.weight" for layer in (0, 1) for role in ("up_proj",)]
    a, b = (torch.cat([each.read(name).double().ravel() for name in names]) for each in (one, other))
    whole = twins.by_module().set_index("module").loc["up_proj"]
    assert whole["norm"] == pytest.approx(float((b - a).norm()))
    assert whole["relative"] == pytest.approx(float((b - a).norm() / a.norm()))
    assert whole["rms"] == pytest.approx(float((b - a).square().mean().sqrt()))
    assert whole["cosine"] == pytest.approx(float(torch.cosine_similarity(a, b, 0)))
    assert whole["cosine_with_a"] == pytest.approx(float(torch.cosine_similarity(a, b - a, 0)))
    assert whole["unimodal"] == 2 and whole["weights"] == 2


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda found: found.table("size"), "'size' was not measured"),
        (lambda found: found.table("norm", ["o_pro"]), "'o_pro' was not compared"),
        (lambda found: found.table("norm", checkpoint="another"), "'another' was not compared"),
        (lambda found: found.plot("bars"), "not 'bars'"),
        (lambda found: found.plot("histograms", scale="mine"), "not 'mine'"),
        (lambda found: found.plot("histograms", layers=[9]), "layer 9 was not compared"),
    ],
)
def test_what_was_not_measured_is_refused(twins, call, said):
    with pytest.raises(SelectionError, match=said):
        call(twins)


def test_pictures_of_what_was_not_asked_for_are_refused():
    bare = ck.sfn.delta(
        "deductor-20k-base", "deductor-20k", "mlp", histogram=None, bimodality=False, stable_rank=False, progress=False
    )
    for kind, scale, said in (
        ("heads", "paper", "per_head=True"),
        ("histograms", "paper", "histogram='paper'"),
        ("histograms", "own", "bimodality=True"),
    ):
        with pytest.raises(SelectionError, match=said):
            bare.plot(kind, scale=scale)


def test_the_papers_heat_map(twins):
    axes = twins.plot()
    (image,) = axes.images
    assert np.allclose(image.get_array(), twins.table("combined").to_numpy())
    assert [each.get_text() for each in axes.get_xticklabels()][3] == "o_proj" and axes.get_ylabel() == "layer"
    assert "deductor-20k against deductor-20k-base" in axes.get_title()
    render(axes)
    signed = twins.plot(of="cosine_with_a")
    assert signed.images[0].norm.vcenter == 0
    render(signed)


def test_heads_have_a_panel_a_projection(twins):
    axes = twins.plot("heads", of="rms")
    names = [each.get_title() for each in axes.figure.axes if each.get_title()]
    assert names == ["q_proj", "k_proj", "v_proj", "o_proj"] and "by head" in writing(axes)
    row = twins.heads[(twins.heads["module"] == "q_proj") & (twins.heads["layer"] == 1)]
    assert np.allclose(axes.images[0].get_array()[1], row["rms"])
    render(axes)


@pytest.mark.parametrize("scale", ["paper", "own"])
def test_histograms_stand_over_their_controls(twins, scale):
    axes = twins.plot("histograms", modules=TRIO, layers=[1], scale=scale)
    panels = axes.figure.axes
    assert [each.get_title() for each in panels] == list(TRIO) and axes.get_ylabel() == "layer 1"
    assert {line.get_label() for line in axes.lines if not line.get_label().startswith("_")} == {
        "the same changes, shuffled among the weights",
        "Gaussian changes, rounded",
    }
    verdict = twins.frame[(twins.frame["module"] == "q_proj") & (twins.frame["layer"] == 1)]["verdict"].item()
    assert any(text.get_text().startswith(verdict) for text in axes.texts)
    if scale == "paper":
        assert np.allclose(axes.patches[0].get_data().values, twins.histogram("q_proj", 1).heights)
    render(axes)


def test_every_fifth_layer_is_drawn_where_there_are_many(tmp_path):
    a, b = (toys.written("llama", tmp_path / str(seed), seed=seed, num_hidden_layers=12) for seed in (0, 1))
    found = ck.sfn.delta(a, b, ["o_proj"], bimodality=False, stable_rank=False, progress=False)
    axes = found.plot("histograms")
    assert [each.get_ylabel() for each in axes.figure.axes] == ["layer 0", "layer 5", "layer 10"]
    assert not axes.texts[0].get_text()


def test_a_trajectory_tells_on_from_back_and_sideways(steps):
    _, folders, found = steps
    assert found.checkpoints == tuple(map(str, folders))
    rows = found.trajectory.set_index(["module", "layer", "step"]).sort_index()
    assert sorted(set(found.trajectory["step"])) == [100, 200, 300]
    on, back = rows.loc[("o_proj", 0)], rows.loc[("q_proj", 0)]
    assert on["onward"].iloc[1:].to_numpy() == pytest.approx([1, 1], abs=1e-4)
    assert on["straightness"].to_numpy() == pytest.approx([1, 1, 1], abs=1e-5)
    assert back["onward"].iloc[1:].to_numpy() == pytest.approx([-1, -1], abs=1e-4)
    assert back["norm"].iloc[-1] == 0 and back["straightness"].iloc[-1] == 0
    assert np.isnan(on["onward"].iloc[0])
    sideways = rows.loc[("down_proj", 0)]
    # Independent changes: a step leads back along the way so far, at a cosine of −√½.
    assert sideways["onward"].iloc[1] == pytest.approx(-(0.5**0.5), abs=0.1)


def test_a_trajectory_agrees_with_comparisons_two_by_two(steps):
    start, folders, found = steps
    for number, folder in enumerate(folders):
        pairs = {"": start, "step_": folders[number - 1] if number else start}
        for prefix, before in pairs.items():
            alone = ck.sfn.delta(before, folder, TRIO, bimodality=False, stable_rank=False, progress=False)
            rows = found.trajectory[found.trajectory["checkpoint"] == str(folder)].reset_index(drop=True)
            assert rows["name"].tolist() == alone.frame["name"].tolist()
            for measure in ("norm", "cosine"):
                assert np.allclose(rows[prefix + measure], alone.frame[measure], rtol=1e-12)
    assert np.allclose(
        found.trajectory["path"], found.trajectory.groupby("name")["step_norm"].cumsum().to_numpy(), rtol=1e-12
    )
    rows = found.frame[found.frame["checkpoint"] == str(folders[1])]
    assert np.allclose(rows["norm"], found.trajectory[found.trajectory["step"] == 200]["norm"])


def test_a_trajectory_is_drawn_by_step(steps, tmp_path):
    _, folders, found = steps
    axes = found.plot("trajectory")
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["q_proj", "o_proj", "down_proj"] and list(lines["o_proj"].get_xdata()) == [100, 200, 300]
    joint = [found.by_module(str(folder)).set_index("module").loc["o_proj", "relative"] for folder in folders]
    assert lines["o_proj"].get_ydata() == pytest.approx(joint)
    render(axes)
    render(found.plot("trajectory", of="onward", modules=["attention"]))
    again = Delta.load(found.save(tmp_path))
    assert again.trajectory.equals(found.trajectory) and again.checkpoints == found.checkpoints
    assert found.plot(checkpoint=str(folders[0])).get_title().split("\n")[1].startswith(str(folders[0]))


def test_one_checkpoint_is_a_trajectory_of_one_step(twins):
    assert (twins.trajectory["step_norm"] == twins.trajectory["norm"]).all() and set(twins.trajectory["step"]) == {1}
    assert isinstance(twins.trajectory, pd.DataFrame) and len(twins.trajectory) == len(twins.frame)


def test_a_checkpoint_that_is_given_twice_has_two_names():
    found = ck.sfn.delta(
        "deductor-20k-base", ["deductor-20k"] * 2, ["o_proj"], bimodality=False, stable_rank=False, progress=False
    )
    assert found.checkpoints == ("deductor-20k", "deductor-20k (2)")
    last = found.trajectory[found.trajectory["checkpoint"] == "deductor-20k (2)"]
    assert (last["step_norm"] == 0).all() and (last["step_cosine"] == 1).all()
