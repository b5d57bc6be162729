"""Checkpoints opened from wherever they are, and read."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import circuitkit as ck
from circuitkit.model import embedded
from circuitkit.sfn import Checkpoint, CheckpointError
from sfn.toys import built, configured, copied, model, written

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(["llama", "gpt2"]), st.sampled_from(DTYPES), st.integers(1, 4), st.integers(1, 4000))
def test_what_is_read_is_what_was_saved(tmp_path_factory, architecture, dtype, shards, nbytes):
    folder = written(architecture, tmp_path_factory.mktemp("folder"), dtype=dtype, shards=shards)
    checkpoint = Checkpoint.open(folder)
    saved = {name: each for file in folder.glob("*.safetensors") for name, each in load_file(file).items()}
    assert checkpoint.tensors.keys() == saved.keys()
    assert checkpoint.nbytes == sum(each.numel() * each.element_size() for each in saved.values())
    for name, expected in saved.items():
        assert torch.equal(checkpoint.read(name), expected)
        blocks = list(checkpoint.blocks(name, nbytes))
        assert torch.equal(torch.cat([block for _, block in blocks]).view(expected.shape), expected)
        at, block = blocks[-1]
        assert torch.equal(checkpoint.rows(name, at), block)


def test_an_embedded_model_is_a_checkpoint():
    checkpoint = Checkpoint.open("deductor-130k-base")
    assert (checkpoint.name, checkpoint.folder) == ("deductor-130k-base", embedded.path("deductor-130k-base"))
    assert checkpoint.config.num_hidden_layers == 3
    assert Checkpoint.open(checkpoint) is checkpoint
    assert Checkpoint.open(str(checkpoint.folder)).tensors.keys() == checkpoint.tensors.keys()


def test_a_model_in_memory_is_a_checkpoint():
    toy = model("llama")
    checkpoint = Checkpoint.open(toy)
    assert (checkpoint.folder, checkpoint.config, checkpoint.skeleton) == (None, toy.hf.config, toy)
    expected = dict(toy.hf.named_parameters())
    assert checkpoint.tensors.keys() == expected.keys()
    for name, parameter in expected.items():
        assert checkpoint.read(name).data_ptr() == parameter.data_ptr()
        assert torch.equal(torch.cat([block for _, block in checkpoint.blocks(name, 100)]), parameter)
    # It is read as it is now.
    toy.hf.model.norm.weight.data.fill_(3)
    assert checkpoint.read("model.norm.weight").unique().tolist() == [3]


def test_packed_experts_come_as_rows_of_a_matrix(tmp_path):
    checkpoint = Checkpoint.open(written("gpt_oss", tmp_path))
    name = "model.layers.0.mlp.experts.gate_up_proj"
    stored = checkpoint.tensors[name]
    assert (stored.shape, stored.rows, stored.columns) == ((4, 32, 96), 128, 96)
    blocks = list(checkpoint.blocks(name, 10 * stored.row_nbytes))
    assert {tuple(block.shape[1:]) for _, block in blocks} == {(96,)}
    assert torch.equal(torch.cat([block for _, block in blocks]), checkpoint.read(name).view(128, 96))


def test_a_tensor_that_is_not_there_is_refused():
    checkpoint = Checkpoint.open("deductor-130k-base")
    with pytest.raises(CheckpointError, match=r"deductor-130k-base has no tensor 'lm_head.weight'"):
        checkpoint.read("lm_head.weight")
    with pytest.raises(CheckpointError, match="has no tensor 'x'"):
        list(checkpoint.blocks("x"))


REFUSED = {
    "deductor-7b": "no embedded model is called 'deductor-7b'",
    "planted-induction-llama": r"is built, not stored: give the model itself, ck.load\('planted-induction-llama'\)",
    "./not/there": "there is no model folder ./not/there",
    "a b": "is neither a folder nor a model's id on the hub",
    "org/not-there": "'org/not-there' is no folder, and could not be had from the hub",
}


@pytest.mark.parametrize("source", REFUSED)
def test_sources_that_are_not_there_are_refused(monkeypatch, source):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=REFUSED[source]):
        Checkpoint.open(source)


def test_a_model_that_the_hub_left_on_this_machine_is_read(monkeypatch, tmp_path):
    commit = "0123456789012345678901234567890123456789"
    cache = tmp_path / "models--org--toy"
    written("llama", cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    checkpoint = Checkpoint.open("org/toy")
    assert (checkpoint.name, checkpoint.revision) == ("org/toy", commit)
    assert checkpoint.folder == cache / "snapshots" / commit
    with pytest.raises(CheckpointError, match="'org/toy' at revision 'other' is no folder, and could not be had"):
        Checkpoint.open("org/toy", revision="other")


def test_what_is_no_source_is_refused(tmp_path):
    folder = written("llama", tmp_path)
    with pytest.raises(CheckpointError, match=r"model.safetensors is a file: give the model's folder, "):
        Checkpoint.open(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"a LlamaForCausalLM was given: put .* into ck.Model"):
        Checkpoint.open(built("llama"))


def test_a_revision_of_what_is_not_on_the_hub_is_refused(tmp_path):
    for source in ("deductor-130k-base", written("llama", tmp_path)):
        with pytest.raises(CheckpointError, match="is not on the hub and has no revision 'main': leave it out"):
            Checkpoint.open(source, revision="main")


def test_a_quantised_checkpoint_is_refused(tmp_path):
    folder = configured(written("llama", tmp_path), quantization_config={"quant_method": "gptq"})
    with pytest.raises(CheckpointError, match=r"is quantised \(gptq\).*float32, float16 or bfloat16"):
        Checkpoint.open(folder)


def test_a_quantised_model_in_memory_is_refused():
    toy = model("llama")
    toy.hf.config.quantization_config = {"quant_method": "bitsandbytes"}
    # Unpacked, it is a model like others.
    assert Checkpoint.open(toy).tensors
    projection = toy.hf.model.layers[0].mlp.up_proj
    projection.weight = torch.nn.Parameter(projection.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(CheckpointError, match=r"llama is quantised \(bitsandbytes\)"):
        Checkpoint.open(toy)


def test_an_architecture_that_is_not_known_is_refused(tmp_path):
    folder = written("llama", tmp_path / "a")
    unknown = configured(copied(folder, tmp_path / "b"), model_type="unheard_of")
    with pytest.raises(CheckpointError, match=r"the config of .* cannot be read.*unheard_of"):
        _ = Checkpoint.open(unknown).parts
    encoder = configured(copied(folder, tmp_path / "c"), model_type="vit")
    with pytest.raises(CheckpointError, match="its architecture is not known"):
        _ = Checkpoint.open(encoder).parts


def test_weights_on_no_device_are_refused():
    with torch.device("meta"):
        hf = type(built("llama"))(built("llama").config)
    with pytest.raises(CheckpointError, match=r"is not in memory .*give the folder"):
        Checkpoint.open(ck.Model(hf)).read("model.norm.weight")
