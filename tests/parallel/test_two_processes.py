"""A model divided among two processes equals itself undivided, and what would go wrong silently is refused.

Every architecture that transformers has a plan for is in the slow suite.
"""

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.model import LoadError
from parallel.starting import compare


@pytest.mark.slow
def test_a_divided_llama_equals_a_whole_one(tmp_path):
    first, second = compare([architectures.folder("llama", tmp_path)], tmp_path, processes=2)["llama"]
    assert first == second
    assert {"executor", "capture pattern", "capture k", "gradient z", "module edited"} <= set(first["numbers"])
    assert not {what: number for what, number in first["numbers"].items() if not number <= 1e-5}
    refused = first["refusals"]
    assert "act_fn" in refused["activation"] and "so they cannot be joined" in refused["activation"]
    assert "head 4 does not exist: layer 0 has heads 0 to 3" in refused["head"]
    assert "were given different prompts" in refused["prompts"]
    assert "would sample different tokens: call torch.manual_seed" in refused["sampling"]


def test_a_plan_without_processes_is_refused(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(LoadError, match="this one is alone: start the script with torchrun --nproc_per_node N"):
        ck.load("deductor-130k", tp_plan="auto")


def test_a_plan_that_is_none_is_refused():
    with pytest.raises(LoadError, match="tp_plan is 'auto' or a dictionary of module names and styles, not 'colwise'"):
        ck.load("deductor-130k", tp_plan="colwise")


def test_a_planted_model_is_not_divided():
    with pytest.raises(LoadError, match="is built, not loaded, and does not take tp_plan"):
        ck.load("planted-induction-llama", tp_plan="auto")


def test_parameters_divided_by_something_else_are_refused(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        mesh = torch.distributed.init_device_mesh("cpu", (1,))
        hf, _ = architectures.build("llama")
        torch.distributed.tensor.parallel.parallelize_module(
            hf, mesh, {"model.layers.*.self_attn.q_proj": torch.distributed.tensor.parallel.ColwiseParallel()}
        )
        with pytest.raises(ck.model.SiteError, match="divided among processes by something else"):
            ck.Model(hf).n_heads(0)
    finally:
        torch.distributed.destroy_process_group()
