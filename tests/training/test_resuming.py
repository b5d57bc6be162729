"""A training that is killed and called again equals one that was not, bit for bit."""

import shutil

import pytest

from circuitkit.training import TrainingError, checkpoints, resuming
from training import killing

# Forking with the threads that a test runner's libraries have is what these tests are careful about.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_kills_in_a_step_in_a_checkpoint_and_after_all_steps_change_nothing(tmp_path):
    whole = killing.state(killing.train(tmp_path / "whole"))
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= whole.keys()
    out = tmp_path / "killed"
    moments = killing.MOMENTS
    killing.killed(out, killing.at_call(*moments["within a checkpoint"]))
    assert list(checkpoints.listed(out / "checkpoints")) == [2]
    assert any(path.name.startswith(".step-00004") for path in (out / "checkpoints").iterdir())
    killing.killed(out, killing.at_call(*moments["within an epoch"]))
    killing.killed(out, killing.at_call(*moments["all steps done"]))
    assert not (out / "trained.json").exists()
    again = killing.train(out)
    assert killing.state(again) == whole
    assert again.curve["step"].tolist() == list(range(11))
    assert not [path for path in (out / "checkpoints").iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize("name", killing.RECIPES)
def test_kills_at_every_kind_of_moment_change_nothing(tmp_path, name):
    recipe = killing.RECIPES[name]
    whole = killing.state(killing.train(tmp_path / "whole", **recipe))
    for number, (moment, trap) in enumerate(killing.MOMENTS.items()):
        out = tmp_path / str(number)
        killing.killed(out, killing.at_call(*trap), **recipe)
        assert killing.state(killing.train(out, **recipe)) == whole, moment
        shutil.rmtree(out)


@pytest.mark.slow
def test_a_pruned_training_that_is_killed_over_and_over_keeps_what_its_rules_choose(tmp_path):
    recipe = {"keep": "choosable", "rule": "last within", "margin": 0.01}
    whole = killing.state(killing.train(tmp_path / "whole", **recipe))
    out = tmp_path / "killed"
    for moment in ("first step", "before pruning", "within a checkpoint", "first step", "all steps done"):
        killing.killed(out, killing.at_call(*killing.MOMENTS[moment]), **recipe)
    assert killing.state(killing.train(out, **recipe)) == whole


def test_a_checkpoint_of_more_processes_is_refused(tmp_path):
    out = tmp_path / "killed"
    killing.killed(out, killing.at_call(*killing.MOMENTS["within an epoch"]))
    last = checkpoints.last(out / "checkpoints")
    with checkpoints.written(out / "checkpoints", 4) as beside:
        shutil.copytree(last, beside, dirs_exist_ok=True, ignore=shutil.ignore_patterns("whole.json"))
        (beside / "rng_state.pth").rename(beside / "rng_state_0.pth")
        (beside / "rng_state_1.pth").write_bytes(b"another's")
    with pytest.raises(TrainingError, match="was written by 2 processes, and 1 are to go on with it: start as many"):
        killing.train(out)


def test_two_runs_do_not_train_in_one_folder(tmp_path):
    with resuming.alone(tmp_path / "out"), pytest.raises(TrainingError, match="another process is training in"):
        killing.train(tmp_path / "out")


def test_a_disk_without_room_stops_the_training_and_the_last_good_checkpoint_is_named(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    calls = []

    def filling(path):
        calls.append(path)
        return usage._replace(free=usage.free if len(calls) == 1 else 1000)

    monkeypatch.setattr(checkpoints.shutil, "disk_usage", filling)
    folder = tmp_path / "out" / "checkpoints"
    with pytest.raises(
        TrainingError, match=r"no space is left for the checkpoint of step 4, which needs at least 0\.0"
    ) as raised:
        killing.train(tmp_path / "out")
    assert f"The last good one, {folder / 'step-00002'}, is kept" in str(raised.value)
    monkeypatch.undo()
    whole = killing.state(killing.train(tmp_path / "whole"))
    assert killing.state(killing.train(tmp_path / "out")) == whole
