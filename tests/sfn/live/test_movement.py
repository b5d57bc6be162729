"""What a training moved is told from two checkpoints, to the last number."""

from pathlib import Path

import pytest
import torch

import circuitkit as ck
from circuitkit.sfn import MovedError, moved
from sfn.toys import NAMES, restored, written


def nudged(folder: Path, name: str) -> Path:
    """One number of one tensor becomes its neighbour."""

    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        flat = tensors[name].clone().view(-1)
        flat[3] = torch.nextafter(flat[3], torch.tensor(9.0))
        return tensors | {name: flat.view(tensors[name].shape)}

    return restored(folder, change)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return written("llama", tmp_path / "a")


def test_one_number_that_moved_is_found_and_named(base: Path, tmp_path: Path) -> None:
    name = "model.layers.1.self_attn.v_proj.weight"
    after = nudged(written("llama", tmp_path / "b"), name)
    found = moved(base, after, ["v_proj"], progress=False)
    found.check()
    assert found.frame.set_index("parameter")["changed"].to_dict()[name] == 1 == int(found.frame["changed"].sum())
    assert found.frame.loc[found.frame["trained"], "module"].unique().tolist() == ["v_proj"]
    with pytest.raises(MovedError, match=f"1 parameters.*the first is {name} .*, 1 of"):
        moved(base, after, ["o_proj"], progress=False).check()
    with pytest.raises(MovedError, match="v_proj"):
        moved(base, after, ["v_proj"], layers=[0], progress=False).check()


def test_shards_precision_and_models_in_memory_make_no_difference(base: Path, tmp_path: Path) -> None:
    narrow = written("llama", tmp_path / "narrow", dtype=torch.bfloat16)
    wide = ck.load(str(narrow), dtype=torch.float32)
    assert int(moved(narrow, wide, ["o_proj"], progress=False).frame["changed"].sum()) == 0
    sharded = written("llama", tmp_path / "sharded", shards=3)
    assert int(moved(base, sharded, ["o_proj"], progress=False).frame["changed"].sum()) == 0
    rounded = moved(base, narrow, ["o_proj"], progress=False)
    assert rounded.rounded and not moved(narrow, wide, ["o_proj"], progress=False).rounded
    with torch.no_grad():
        wide.hf.model.layers[0].mlp.up_proj.weight[0, 0] *= 1.0001
    assert int(moved(narrow, wide, ["o_proj"], progress=False).frame["changed"].sum()) == 1


def test_what_a_model_does_not_compute_with_may_be_missing(base: Path, tmp_path: Path) -> None:
    after = written("llama", tmp_path / "b")
    table = "model.layers.0.self_attn.rotary_emb.inv_freq"
    restored(base, lambda tensors: tensors | {table: torch.ones(4)})
    frame = moved(base, after, ["o_proj"], progress=False).frame
    assert table not in set(frame["parameter"]) and len(frame) and int(frame["changed"].sum()) == 0
    bare = {"bimodality": False, "stable_rank": False, "progress": False}
    both = ck.sfn.delta(after, after, "all", **bare).frame["name"]
    assert ck.sfn.delta(base, after, "all", **bare).frame["name"].tolist() == both.tolist()
    # Where both store it, it is compared.
    assert table in set(moved(base, base, ["o_proj"], progress=False).frame["parameter"])


def test_shares_of_a_fused_tensor_are_told_apart(tmp_path: Path) -> None:
    before = written("gpt2", tmp_path / "a")
    name = next(name for name in ck.sfn.Checkpoint.open(before).tensors if name.endswith("h.0.attn.c_attn.weight"))
    after = nudged(written("gpt2", tmp_path / "b"), name)
    frame = moved(before, after, ["q_proj"], progress=False).frame
    # The fourth number of the first row of [in, out] is q's.
    assert frame.loc[frame["changed"] > 0, "module"].tolist() == ["q_proj"]


@pytest.mark.parametrize("architecture", NAMES)
def test_nothing_has_moved_between_a_checkpoint_and_itself(architecture: str, tmp_path: Path) -> None:
    folder = written(architecture, tmp_path / "a")
    frame = moved(folder, folder, "all", progress=False).frame
    assert int(frame["changed"].sum()) == 0 and bool(frame["trained"].all())
