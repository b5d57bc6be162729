"""What goes with weights into a new folder: what loading and generating need, and nothing that tells of the base."""

import json

import pytest
import torch
from huggingface_hub import metadata_load
from transformers import AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

import circuitkit as ck
from circuitkit.model import embedded
from circuitkit.sfn import Checkpoint, merge
from circuitkit.sfn.written.manifest import Manifest
from circuitkit.sfn.written.model_files import left_behind, small_files
from circuitkit.sfn.written.writing import write
from sfn import toys

A, B = "deductor-5k-base", "deductor-5k"


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    out = tmp_path_factory.mktemp("merged") / "grafted"
    merge(A, B, ["q_proj", "o_proj"], out, heads=[(0, 1)], alpha=0.5, progress=False)
    return out


def test_what_tells_of_the_old_model_is_left_and_named(merged):
    untrue = {"accuracy.json", "training.json", "loss.csv"}
    assert untrue <= names(embedded.path(A)) and not untrue & names(merged)
    assert names(merged) == (names(embedded.path(A)) - untrue) | {"manifest.json"}
    assert Manifest.load(merged).told["not_copied"] == ["README.md", "accuracy.json", "loss.csv", "training.json"]
    assert left_behind(embedded.path(A)) == Manifest.load(merged).told["not_copied"]
    model = ck.load(merged)
    assert model.tokenizer("Every wumpus")["input_ids"] == ck.load(A).tokenizer("Every wumpus")["input_ids"]


def test_the_card_says_what_it_is_and_nothing_of_what_the_old_one_did(merged, monkeypatch):
    card = (merged / "README.md").read_text()
    for told in (
        "# grafted",
        "parts of other models put into `deductor-5k-base`.",
        "- from `deductor-5k`, weight 0.5",
        "- modules: q_proj, o_proj",
        "- heads: head 1 of layer 0",
        "changed tensors: 2;",
        f"- command: `{Manifest.load(merged).told['command']}`",
        "`manifest.json` has each changed tensor",
        "were not copied: README.md, accuracy.json, loss.csv, training.json.",
    ):
        assert told in card
    assert "wumpus" not in card and "accuracy of" not in card
    assert metadata_load(merged / "README.md") == {
        "license": "mit",
        "library_name": "transformers",
        "tags": ["circuitkit", "merge"],
    }


def test_a_destruction_has_its_card_too(tmp_path):
    ck.sfn.destroy(A, ["o_proj"], layers=[0], how="noise", out=tmp_path / "out", seed=3, progress=False)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Parts destroyed in `deductor-5k-base`." in card and "- how: noise" in card and "- seed: 3" in card
    assert metadata_load(tmp_path / "out" / "README.md")["tags"] == ["circuitkit", "destroy"]


@pytest.mark.parametrize("card", ["---\nlicense: [\n---\n", "---\n- 1\n---\n", "no header", b"\xff\xfe\x00", None])
def test_a_card_that_cannot_be_read_gives_no_licence(tmp_path, card):
    a = toys.written("llama", tmp_path / "a")
    if card is not None:
        (a / "README.md").write_bytes(card if isinstance(card, bytes) else card.encode())
    write(Checkpoint.open(a), {}, tmp_path / "out", told={"kind": "test"}, progress=False)
    assert metadata_load(tmp_path / "out" / "README.md") == {
        "library_name": "transformers",
        "tags": ["circuitkit", "test"],
    }


# Those that tokenizers of transformers read, and that models of the hub have beside these.
NEEDED = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "tokenizer.model.v3",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "bpe.codes",
    "dict.txt",
    "source.spm",
    "vocab-src.json",
    "entity_vocab.json",
    "target_vocab.json",
    "word_shape.json",
    "normalizer.json",
    "byte_maps.json",
    "prophetnet.tokenizer",
    "qwen.tiktoken",
    "vocab.bpe",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "modeling_own.py",
    "LICENSE",
    "LICENSE.txt",
    "License.md",
    "NOTICE",
    "USE_POLICY.md",
    "Qwen_LICENSE.txt",
    "MODEL_LICENSE",
    "of_own_code.bin.gz",
]
LEFT = [
    "README.md",
    "accuracy.json",
    "training.json",
    "loss.csv",
    "trainer_state.json",
    "training_args.bin",
    "all_results.json",
    "train_results.json",
    "eval_results.json",
    "events.out.tfevents.1",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "log.txt",
    "wandb.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.gguf",
    "tf_model.h5",
    "flax_model.msgpack",
    "model.onnx",
    "figure.png",
    "consolidated.safetensors",
    "consolidated.safetensors.index.json",
    "params.json",
    "manifest.json",
    ".gitattributes",
]


def test_files_are_told_apart_by_name(tmp_path):
    for name in [*NEEDED, *LEFT]:
        (tmp_path / name).write_text("")
    (tmp_path / "modeling_own.py").write_text("open('of_own_code.bin.gz'); see('README.md')")
    assert {path.name for path in small_files(tmp_path)} == set(NEEDED)
    assert set(left_behind(tmp_path)) == {name for name in LEFT if not name.endswith(".safetensors")}


def test_a_model_within_a_model_is_untied_too(tmp_path):
    inner = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    seeing = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    seeing |= {"image_size": 28, "patch_size": 14}
    for tied, name in ((True, "a"), (False, "b")):
        config = Gemma3Config(
            text_config=inner | {"tie_word_embeddings": tied},
            vision_config=seeing,
            mm_tokens_per_image=4,
            tie_word_embeddings=tied,
        )
        torch.manual_seed(tied)
        model = Gemma3ForConditionalGeneration(config)
        torch.nn.init.normal_(model.lm_head.weight)
        model.save_pretrained(tmp_path / name)
    merge(tmp_path / "a", tmp_path / "b", "all", tmp_path / "out", progress=False)
    told = json.loads((tmp_path / "out" / "config.json").read_text())
    assert told["tie_word_embeddings"] is False and told["text_config"]["tie_word_embeddings"] is False
    assert "tie_word_embeddings" not in told["vision_config"]
    found, theirs = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("out", "b"))
    assert toys.equal(found.state_dict().items(), theirs.state_dict().items())
    assert torch.equal(found(toys.ids()).logits, theirs(toys.ids()).logits)
