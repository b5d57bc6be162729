"""Folders that are not whole, or no model's: each is refused by what is wrong with it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from circuitkit.sfn import Checkpoint, CheckpointError
from sfn.toys import copied, written

INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return written("llama", tmp_path_factory.mktemp("llama") / "one")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    return written("llama", tmp_path_factory.mktemp("llama") / "three", shards=3)


def indexed(folder, change):
    """The folder with its index changed."""
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] = change(index["weight_map"])
    (folder / INDEX).write_text(json.dumps(index))


def refused(folder, message):
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(folder)


def test_shards_together_have_what_one_file_has(llama, sharded):
    one, several = Checkpoint.open(llama), Checkpoint.open(sharded)
    assert len({stored.file for stored in several.tensors.values()}) > 2
    assert one.tensors.keys() == several.tensors.keys()
    assert all(torch.equal(one.read(name), several.read(name)) for name in one.tensors)


def test_a_folder_without_config_is_refused(llama, tmp_path):
    folder = copied(llama, tmp_path / "a")
    (folder / "config.json").unlink()
    refused(folder, "is no model's folder: it has no config.json$")
    (folder / "adapter_config.json").write_text("{}")
    refused(folder, "it has no config.json, but an adapter: merge it into its base")


def test_a_config_that_is_spoiled_is_refused(llama, tmp_path):
    folder = copied(llama, tmp_path / "a")
    (folder / "config.json").write_text('{"model_type": "lla')
    refused(folder, "config.json is no JSON")
    (folder / "config.json").write_text("[]")
    refused(folder, "config.json holds no settings")


def test_a_folder_without_weights_is_refused(llama, tmp_path):
    folder = copied(llama, tmp_path / "a")
    (folder / "model.safetensors").unlink()
    refused(folder, r"holds a config.json but no weights \(no \*.safetensors; other formats are not read")
    (folder / "pytorch_model.bin").write_bytes(b"")
    refused(folder, r"pytorch_model.bin only.*convert them once, with .*from_pretrained.*save_pretrained")


def test_shards_without_their_index_are_refused(sharded, tmp_path):
    folder = copied(sharded, tmp_path / "a")
    (folder / INDEX).unlink()
    refused(folder, f"model-00001-of-.*but neither model.safetensors nor {INDEX}")


def test_a_shard_that_is_missing_is_refused(sharded, tmp_path):
    folder = copied(sharded, tmp_path / "a")
    lost = sorted(folder.glob("*.safetensors"))[1]
    lost.unlink()
    refused(folder, f"has no {lost.name}, in which its index places model")


def test_a_truncated_shard_is_refused(sharded, tmp_path):
    folder = copied(sharded, tmp_path / "a")
    cut = sorted(folder.glob("*.safetensors"))[1]
    cut.write_bytes(cut.read_bytes()[:-100])
    refused(folder, f"{cut.name} is cut short")


def test_a_tensor_that_the_index_lacks_is_refused(sharded, tmp_path):
    folder = copied(sharded, tmp_path / "a")
    name = "model.layers.1.self_attn.o_proj.weight"
    indexed(folder, lambda places: {each: file for each, file in places.items() if each != name})
    refused(folder, f"{INDEX} has no entry for {name}, which is stored in model-")


def test_a_tensor_that_no_shard_has_is_refused(sharded, tmp_path):
    folder = copied(sharded, tmp_path / "a")
    shard = sorted(folder.glob("*.safetensors"))[0]
    indexed(folder, lambda places: places | {"model.extra.weight": shard.name})
    refused(folder, f"{shard.name} does not hold model.extra.weight, which {INDEX} places there")


def test_a_tensor_in_another_shard_than_the_index_says_is_refused(sharded, tmp_path):
    folder = copied(sharded, tmp_path / "a")
    first, second, *_ = sorted(folder.glob("*.safetensors"))
    name = next(iter(load_file(first)))
    indexed(folder, lambda places: places | {name: second.name})
    refused(folder, f"places {name} in {second.name}, and it is stored in {first.name}")


def test_a_tensor_in_two_shards_is_refused(sharded, tmp_path):
    folder = copied(sharded, tmp_path / "a")
    first, second, *_ = sorted(folder.glob("*.safetensors"))
    tensors = load_file(first)
    name = next(iter(tensors))
    save_file(load_file(second) | {name: tensors[name]}, second)
    refused(folder, f"{name} is stored twice in .*, in {first.name} and in {second.name}")


@pytest.mark.parametrize("spoiled", ["{", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "../b.safetensors"}}'])
def test_a_spoiled_index_is_refused(sharded, tmp_path, spoiled):
    folder = copied(sharded, tmp_path / "a")
    (folder / INDEX).write_text(spoiled)
    refused(folder, INDEX)


def test_other_formats_beside_the_weights_are_left_alone(llama, tmp_path):
    folder = copied(llama, tmp_path / "a")
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert Checkpoint.open(folder).tensors.keys() == Checkpoint.open(llama).tensors.keys()


def test_shards_that_are_links_are_read(sharded, tmp_path):
    """As the hub's cache has them, and they may lead to nothing."""
    folder, blobs = copied(sharded, tmp_path / "a"), tmp_path / "blobs"
    blobs.mkdir()
    for shard in folder.glob("*.safetensors"):
        shard.rename(blobs / shard.name)
        shard.symlink_to(Path("..") / "blobs" / shard.name)
    one, links = Checkpoint.open(sharded), Checkpoint.open(folder)
    assert all(torch.equal(one.read(name), links.read(name)) for name in one.tensors)
    (blobs / sorted(blobs.iterdir())[0].name).unlink()
    refused(folder, "has no model-00001-of-.*, in which its index places")


def test_a_link_to_nothing_is_refused(llama, tmp_path):
    folder = copied(llama, tmp_path / "a")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("blob")
    refused(folder, r"model.safetensors leads to a file that is not there \(blob\)")


def test_an_adapter_beside_its_base_s_config_is_refused(llama, tmp_path):
    folder = copied(llama, tmp_path / "a")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    refused(folder, "holds no weights of a model, but an adapter: merge it into its base")


def test_what_is_no_folder_is_refused(tmp_path):
    refused(tmp_path / "nothing", "there is no model folder")
