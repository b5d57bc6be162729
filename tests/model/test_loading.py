"""Loading: a folder, an embedded model, a planted one; and what is said where there is nothing to load."""

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.model import LoadError


def test_a_folder_loads_as_the_model_that_was_saved(tmp_path):
    folder = architectures.folder("llama", tmp_path)
    model = ck.load(folder)
    hf, _ = architectures.build("llama")
    prompts = architectures.prompts("left_padded")
    assert model.name == str(folder)
    assert not model.hf.training
    expected = ck.Model(hf, None).run(prompts.input_ids, attention_mask=prompts.attention_mask).logits
    assert torch.equal(model.run(prompts.texts).logits, expected)
    assert model.tokenizer.padding_side == "left"


def test_settings_go_to_transformers(tmp_path):
    folder = architectures.folder("llama", tmp_path)
    model = ck.load(str(folder), dtype=torch.bfloat16, attn_implementation="eager")
    assert model.hf.dtype == torch.bfloat16
    assert model.hf.config._attn_implementation == "eager"


def test_a_folder_without_a_tokenizer_takes_tokens_alone(tmp_path):
    hf, _ = architectures.build("llama")
    hf.save_pretrained(tmp_path)
    model = ck.load(tmp_path)
    assert model.tokenizer is None
    assert model.run(torch.tensor([[5, 6]])).logits.shape == (1, 2, 96)
    with pytest.raises(ValueError, match="this model has no tokenizer"):
        model.run("w5 w6")


def test_a_path_with_no_weights_is_named(tmp_path):
    hf, _ = architectures.build("llama")
    hf.config.save_pretrained(tmp_path)
    with pytest.raises(
        LoadError, match=r"holds a config.json but no weights \(no \*.safetensors or \*.bin\): save them"
    ):
        ck.load(tmp_path)
    with pytest.raises(LoadError, match=r"holds a config\.json but no weights"):
        ck.load(str(tmp_path))


def test_a_path_that_is_no_model_is_named(tmp_path):
    with pytest.raises(LoadError, match=r"is not a model folder: it has no config\.json"):
        ck.load(tmp_path)
    with pytest.raises(LoadError, match="there is no model folder"):
        ck.load(tmp_path / "nowhere")


def test_weights_cut_short_are_named(tmp_path):
    folder = architectures.folder("llama", tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(LoadError, match="no model could be loaded from"):
        ck.load(folder)


def test_a_planted_model_loads_by_name():
    model = ck.load("planted-induction-gpt2")
    assert model.name == "planted-induction-gpt2"
    assert model.n_layers >= 2
