"""Models that accelerate spreads over memory and disk equal themselves whole, captures to the last bit."""

from pathlib import Path

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.lens import direct_logits
from circuitkit.model.devices import execution_device, weight_of
from circuitkit.run.resume import resumed, streams
from parallel import divided

# The list of layers by the model's own name for it.
LAYERS = {"llama": "model.layers", "gpt2": "transformer.h", "gemma2": "model.layers", "gpt_neox": "gpt_neox.layers"}
LAYERS |= {"mixtral": "model.layers", "bloom": "transformer.h", "falcon": "transformer.h"}


def spread(name: str, folder: Path, where: str = "disk") -> ck.Model:
    """The model with its first layer in memory and, beside it, everything else on disk."""
    whole = ck.load(folder)
    layers = whole.hf.get_submodule(LAYERS[name])
    held = {module for layer in layers for module in layer.modules()}
    parts: dict[str, str] = {}
    for path, module in whole.hf.named_modules():
        if module not in held and not list(module.children()):
            parts[path] = where
    parts |= {f"{LAYERS[name]}.{at}": "cpu" if at == 0 else where for at in range(len(layers))}
    return ck.load(folder, device_map=parts, offload_folder=folder / "offloaded")


# One in transformers' interface for attention, one with fused projections, one with attention code of its own.
QUICK = {"llama", "bloom"}


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in LAYERS]
)
def models(request, tmp_path_factory):
    folder = architectures.folder(request.param, tmp_path_factory.mktemp("spread"))
    return ck.load(folder), spread(request.param, folder)


@pytest.fixture(scope="module")
def batches(models):
    drawn = (architectures.prompts("left_padded", seed=seed) for seed in (0, 3))
    return [models[0].tokens(each.input_ids, each.attention_mask) for each in drawn]


def test_most_weights_are_on_disk(models):
    whole, spread_out = models
    away = [parameter.device.type == "meta" for parameter in spread_out.hf.parameters()]
    assert sum(away) > len(away) / 2
    assert spread_out.device == whole.device == torch.device("cpu")


def test_captures_are_the_whole_models(models, batches):
    assert set(divided.captures(*models, batches[0]).values()) == {0.0}


def test_cells_equal_themselves_run_alone_by_the_whole_model(models, batches):
    found = divided.studied(*models, *batches)
    assert found["run under interventions"] == 0.0
    assert found["executor"] <= 1e-5


def test_generation_gradients_modules_and_studies_are_the_whole_models(models, batches):
    found = divided.generated(*models, batches[0]) | divided.modules(*models, batches[0])
    found |= divided.differentiated(*models, batches[0])
    ids = [architectures.prompts(seed=seed).input_ids for seed in (0, 3)]
    found |= divided.surveyed(*models, *ids)
    assert not {what: number for what, number in found.items() if not number <= 1e-5}


def test_resuming_leaves_accelerates_own_forward_in_place(models, batches):
    _, model = models
    before = [block.block.__dict__.get("forward") for block in model.anatomy.blocks]
    assert any(before)
    entering = streams(model, batches[0])
    with resumed(model, 2, entering[2]):
        logits = model.run(batches[0]).logits
    assert torch.equal(logits, model.run(batches[0]).logits)
    assert [block.block.__dict__.get("forward") for block in model.anatomy.blocks] == before


def test_a_weight_on_disk_is_read_as_it_is(models):
    read, kept = (weight_of(model.hf.get_output_embeddings()) for model in models[::-1])
    assert torch.equal(read, kept)
    assert models[1].hf.get_output_embeddings().weight.device.type == "meta"
    assert weight_of(models[1].hf.get_output_embeddings(), "bias") is None
    assert execution_device(models[1].hf.get_output_embeddings()) == torch.device("cpu")


def test_direct_logits_read_weights_on_disk(tmp_path):
    model = spread("llama", architectures.folder("llama", tmp_path))
    ids = [architectures.prompts(batch=2, seed=seed).input_ids for seed in (0, 3)]
    pairs = ck.Pairs(*ids, answer=torch.tensor([7, 8]), distractor=torch.tensor([9, 10]))
    shares = direct_logits(model, pairs)
    assert torch.allclose(shares.total, shares.logit_difference, atol=1e-4)


def test_one_device_for_everything(tmp_path):
    folder = architectures.folder("llama", tmp_path)
    model = ck.load(folder, device_map={"": "cpu"})
    drawn = architectures.prompts()
    assert torch.equal(model.run(drawn.input_ids).logits, ck.load(folder).run(drawn.input_ids).logits)
