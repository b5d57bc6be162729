"""Models divided among processes by transformers' tensor parallelism equal themselves whole, in all that is claimed.

Two processes on the CPU (gloo), started by torchrun; each also holds the whole model, which is the oracle.
"""

import json
from pathlib import Path
from typing import Any

import pytest

import architectures
from parallel.starting import compare

pytestmark = pytest.mark.slow

# Of the zoo, those that transformers has a plan for; gpt-oss's divides embeddings and experts alone.
PLANNED = [
    "llama",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "mistral",
    "phi3",
    "gpt_neox",
    "gpt_neox_sequential",
    "olmo2",
    "mixtral",
    "olmoe",
    "gpt_oss",
]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    out: Path = tmp_path_factory.mktemp("divided")
    return compare([architectures.folder(name, out / "models") for name in PLANNED], out, processes=2)


@pytest.mark.parametrize("name", PLANNED)
def test_divided_models_equal_whole_ones(reports, name):
    for report in reports[name]:
        far = {what: number for what, number in report["numbers"].items() if not number <= 1e-5}
        assert not far
        assert {"executor", "capture pattern", "gradient z", "ablation sweep"} <= set(report["numbers"])


@pytest.mark.parametrize("name", PLANNED)
def test_every_process_has_the_same(reports, name):
    first, *others = reports[name]
    assert all(each == first for each in others)


def test_four_processes_share_four_heads(tmp_path):
    folder = architectures.folder("gpt_neox", tmp_path)
    found = compare([folder], tmp_path, processes=4)["gpt_neox"]
    assert len(found) == 4
    assert all(number <= 1e-5 for report in found for number in report["numbers"].values())


def test_a_model_whose_code_counts_on_every_head_is_refused_whatever_the_plan(tmp_path):
    folder = architectures.folder("stablelm", tmp_path)
    plan = {f"model.layers.*.self_attn.{name}_proj": "colwise" for name in "qkv"}
    (folder / "tp_plan.json").write_text(json.dumps(plan | {"model.layers.*.self_attn.o_proj": "rowwise"}))
    for report in compare([folder], tmp_path, processes=2)["stablelm"]:
        assert "StableLmForCausalLM does not run divided among processes by this plan" in report["refusals"]["load"]


def test_a_plan_of_ones_own_changes_transformers(tmp_path):
    folder = architectures.folder("llama", tmp_path)
    mlp = {f"model.layers.*.mlp.{name}_proj": "replicate" for name in ("gate", "up", "down")}
    (folder / "tp_plan.json").write_text(json.dumps(mlp))
    first, second = compare([folder], tmp_path, processes=2)["llama"]
    assert first == second
    assert not {what: number for what, number in first["numbers"].items() if not number <= 1e-5}
    # Neurons are whole in every process, so the activation between them is a site like any other.
    assert first["refusals"]["activation"] == "not refused"


def test_what_cannot_be_divided_is_refused(tmp_path):
    folders = [architectures.folder(name, tmp_path) for name in ("llama", "gpt2", "stablelm")]
    found = compare(folders, tmp_path, processes=4)
    uneven = found["llama"][3]["refusals"]["load"]
    assert "num_key_value_heads=2, which 4 processes cannot share evenly: start a number of" in uneven
    for name in ("gpt2", "stablelm"):
        assert "has no `tp_plan`" in found[name][0]["refusals"]["load"]
        assert "device_map='auto' spreads the model" in found[name][0]["refusals"]["load"]
