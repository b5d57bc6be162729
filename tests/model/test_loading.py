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


def test_a_planted_model_takes_what_a_loaded_one_does():
    model = ck.load(
        "planted-induction-llama", dtype="bfloat16", device_map={"": "cpu"}, attn_implementation="eager", revision=None
    )
    assert model.hf.dtype == torch.bfloat16
    assert model.device == torch.device("cpu")
    assert model.hf.config._attn_implementation == "eager"
    for dtype in (None, "auto", torch.float32):
        assert ck.load("planted-induction-llama", dtype=dtype, device_map="cpu").hf.dtype == torch.float32
    assert ck.load("planted-induction-llama", dtype=torch.float16).hf.dtype == torch.float16


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"revision": "main"}, "does not take revision"),
        ({"trust_remote_code": True, "seed": 3}, "does not take seed, trust_remote_code"),
        ({"dtype": "float7"}, "no precision 'float7'"),
        ({"dtype": torch.int8}, "no precision torch.int8"),
        ({"device_map": "nowhere"}, "goes on one device.*not 'nowhere'"),
        ({"device_map": {"model.layers.0": "cpu"}}, "goes on one device"),
        ({"attn_implementation": "nonesuch"}, "cannot run the attention 'nonesuch'"),
    ],
)
def test_what_a_planted_model_cannot_be_given_is_refused(settings, said):
    with pytest.raises(LoadError, match=said):
        ck.load("planted-induction-llama", **settings)


@pytest.mark.parametrize("name", ["deductor-7b", "planted-nonesuch"])
def test_unknown_names_are_load_errors_with_those_there_are(name):
    with pytest.raises(LoadError, match=f"model is called '{name}'; there are"):
        ck.load(name)


def test_only_the_hub_has_revisions(tmp_path):
    with pytest.raises(LoadError, match="'deductor-5k' is not on the hub and has no revision 'zzz'"):
        ck.load("deductor-5k", revision="zzz")
    with pytest.raises(LoadError, match="has no revision 'main'"):
        ck.load(architectures.folder("llama", tmp_path), revision="main")


def test_the_commit_that_was_loaded_is_kept(monkeypatch):
    import transformers

    folder = ck.load("deductor-5k").hf.config._name_or_path
    asked = []

    def from_the_hub(auto):
        plain = auto.from_pretrained

        def load(name, revision, **settings):
            asked.append((name, revision))
            loaded = plain(folder, **settings)
            if hasattr(loaded, "config"):
                loaded.config._commit_hash = "f00d"
            return loaded

        return load

    for auto in (transformers.AutoModelForCausalLM, transformers.AutoTokenizer):
        monkeypatch.setattr(auto, "from_pretrained", from_the_hub(auto))
    assert ck.load("someone/model").revision == "f00d"
    assert ck.load("someone/model", revision="v1").revision == "v1"
    assert asked == [("someone/model", "main")] * 2 + [("someone/model", "v1")] * 2
    assert ck.load("deductor-5k").name == "deductor-5k"
