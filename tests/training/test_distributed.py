"""Several processes take the steps of one, only the first writes, and what goes wrong in one stops all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType
from hypothesis import given
from hypothesis import strategies as st

from circuitkit.training import TrainingError, checkpoints, distributed
from training import killing

TESTS = Path(__file__).parent.parent


@given(count=st.integers(1, 40), rows=st.integers(1, 5), processes=st.integers(1, 4), epoch=st.integers(0, 3))
def test_each_step_has_the_same_examples_for_any_number_of_processes(count, rows, processes, epoch):
    alone, shared = distributed.Order(count, 7), distributed.Order(count, 7, fill=rows * processes)
    for order in (alone, shared):
        order.set_epoch(epoch)
    one, several = list(alone), list(shared)
    assert sorted(one) == list(range(count))
    assert several[:count] == one and all(number >= count for number in several[count:])
    assert len(several) == len(shared) and len(several) % (rows * processes) == 0
    assert len(several) - count < rows * processes


def test_epochs_and_seeds_have_orders_of_their_own():
    order = distributed.Order(50, 0)
    orders = [list(order)]
    order.set_epoch(1)
    orders += [list(order), list(distributed.Order(50, 1))]
    assert len({tuple(each) for each in orders}) == 3
    order.set_epoch(0)
    assert list(order) == orders[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((16, None, 3), "3 processes cannot share it evenly: give a multiple of 3"),
        ((16, 3, 2), "device_batch_size 3 does not divide the 8 rows"),
        ((0, None, 1), "a batch has at least 1 row"),
        ((8, 0, 1), "a batch has at least 1 row"),
    ],
)
def test_a_batch_that_does_not_come_out_even_is_refused(arguments, message):
    with pytest.raises(TrainingError, match=message):
        distributed.share(*arguments)


def test_a_share_smaller_than_the_device_takes_is_one_pass():
    assert distributed.share(8, 16, of=2) == distributed.Share(rows=4, times=1)


def test_a_launcher_that_started_one_process_of_several_is_told(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(TrainingError, match="give --multi_gpu in place of --cpu"):
        distributed.join()


def test_the_sharding_configuration_is_one_that_accelerate_takes():
    config = load_config_from_file(str(distributed.fsdp_config()))
    assert config.distributed_type == DistributedType.FSDP and config.mixed_precision == "bf16"
    settings = config.fsdp_config
    assert settings["fsdp_version"] == 2 and settings["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    assert settings["fsdp_auto_wrap_policy"] == "TRANSFORMER_BASED_WRAP"


def launched(out: Path, trap: str) -> subprocess.CompletedProcess:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    plain = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS), "CUDA_VISIBLE_DEVICES": ""}
    command = [*launch, *plain, str(TESTS / "training" / "together.py"), str(out), trap]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.slow
def test_two_processes_equal_one_also_where_they_are_killed(tmp_path):
    ended = launched(tmp_path, "kill")
    assert ended.returncode != 0 and "SIGKILL" in ended.stderr
    assert list(checkpoints.listed(tmp_path / "together" / "checkpoints")) == [2, 4]
    ended = launched(tmp_path, "none")
    assert ended.returncode == 0, ended.stderr[-6000:]
    first, second = (json.loads((tmp_path / f"none-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second and {"rng_state_0.pth", "rng_state_1.pth"} <= first.keys()
    assert sorted(path.name for path in (tmp_path / "together").iterdir() if path.suffix == ".writing") == []
    one = killing.train(tmp_path / "one")
    together = pd.read_csv(tmp_path / "together" / "curve.csv")
    assert together["step"].tolist() == one.curve["step"].tolist()
    np.testing.assert_allclose(together, one.curve, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_loss_that_is_nan_in_one_process_stops_both(tmp_path):
    ended = launched(tmp_path, "nan")
    assert ended.returncode == 0, ended.stderr[-6000:]
    last = tmp_path / "nan" / "checkpoints" / "step-00004"
    for rank in (0, 1):
        error = json.loads((tmp_path / f"nan-{rank}.json").read_text())["error"]
        assert error.startswith("at step 5 the loss is") and f"The last good checkpoint, {last}, is kept" in error
