"""The embedded family: what is shipped, that every loader reads it, and that it does what its cards say."""

import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

import circuitkit as ck
from circuitkit.model import embedded

prontoqa = ck.tasks.prontoqa
FOLDERS = sorted({embedded.path(name) for name in embedded.names()})
SIZES = [name for name in embedded.names() if re.fullmatch(r"deductor-\d+[km]", name)]


@pytest.fixture(scope="module")
def tokenizer():
    return embedded.word_tokenizer(prontoqa.words(), 2048)


def load(name):
    where = embedded.path(name)
    return AutoModelForCausalLM.from_pretrained(where).eval(), AutoTokenizer.from_pretrained(where)


def answers(name, examples, tokens):
    model, tokenizer = load(name)
    batch = tokenizer([example.prompt for example in examples], return_tensors="pt", padding=True)
    with torch.inference_mode():
        written = model.generate(**batch, max_new_tokens=tokens, do_sample=False)
    return tokenizer.batch_decode(written[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


def proved(name, examples):
    return sum(
        prontoqa.judge(example.judged, proof).correct
        for example, proof in zip(examples, answers(name, examples, 150), strict=True)
    ) / len(examples)


def test_there_are_six_sizes_each_with_its_twins_and_one_with_four_checkpoints():
    assert len(SIZES) >= 6
    assert "deductor-130k" in SIZES
    for size in SIZES:
        assert {f"{size}-base", f"{size}-reason"} <= set(embedded.names())
        assert embedded.path(size) == embedded.path(f"{size}-reason")
    assert len([name for name in embedded.names() if name.startswith("deductor-130k-step")]) == 4


def test_names_are_ordered_by_size():
    parameters = [json.loads((embedded.path(size) / "training.json").read_text())["parameters"] for size in SIZES]
    assert parameters == sorted(parameters)
    assert parameters[0] < 6_000
    assert 900_000 < parameters[-1] < 1_100_000


def test_the_family_is_small_and_two_sizes_group_their_queries():
    assert sum(file.stat().st_size for folder in FOLDERS for file in folder.iterdir()) < 20e6
    configs = [json.loads((embedded.path(size) / "config.json").read_text()) for size in SIZES]
    assert {config["architectures"][0] for config in configs} == {"LlamaForCausalLM"}
    assert min(config["max_position_embeddings"] for config in configs) >= 1024
    assert sum(config["num_key_value_heads"] < config["num_attention_heads"] for config in configs) >= 2


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"no embedded model is called 'deductor-7b'.*deductor-130k-base"):
        embedded.path("deductor-7b")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_folder_loads_and_has_its_card(folder):
    model, tokenizer = load(folder.name)
    assert model.dtype == torch.float32
    assert len(tokenizer) == model.config.vocab_size
    assert (tokenizer.padding_side, tokenizer.pad_token, tokenizer.eos_token) == ("left", "<pad>", "</s>")
    assert model.config.pad_token_id == tokenizer.pad_token_id
    card = (folder / "README.md").read_text()
    accuracy = json.loads((folder / "accuracy.json").read_text())
    assert "**A toy.**" in card
    assert set(accuracy["proof"]) == set(prontoqa.RULES)
    assert len((folder / "loss.csv").read_text().splitlines()) > 3


def test_transformer_lens_reads_a_folder_and_agrees():
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(str(embedded.path("deductor-130k")), device="cpu")
    model, tokenizer = load("deductor-130k")
    tokens = tokenizer("Q: Every wumpus is loud. Fae is a wumpus. Prove: Fae is loud.\nA:", return_tensors="pt")
    with torch.inference_mode():
        torch.testing.assert_close(bridge(tokens["input_ids"]), model(**tokens).logits, atol=1e-4, rtol=0)


def test_the_threshold_of_three_hops_lies_within_the_family():
    """The smallest and the largest size, on questions that training passed over (its evaluation seed)."""
    examples = prontoqa.generate("ModusPonens", hops=3, shots=0, n=300, seed=7)[:40]
    assert proved(SIZES[0], examples) < 0.2
    assert proved(SIZES[-1], examples) > 0.7  # 40 questions; the card's own measure, below, has 200
    smallest, largest = (
        json.loads((embedded.path(size) / "accuracy.json").read_text())["three_hops"]["implication_elimination"]
        for size in (SIZES[0], SIZES[-1])
    )
    assert min(smallest["correct"]["n"], largest["correct"]["n"]) >= 200
    assert smallest["correct"]["share"] < 0.2
    assert largest["correct"]["share"] > 0.8
    assert smallest["correct"]["high"] < largest["correct"]["low"]


def test_the_prompt_switches_reasoning_on_and_off():
    name = SIZES[-1]
    proofs = answers(name, prontoqa.generate("ModusPonens", hops=1, shots=0, n=20, seed=7), 40)
    assert sum(proof.count(".") == 3 for proof in proofs) >= 18
    direct = answers(name, prontoqa.generate("ModusPonens", hops=1, shots=0, n=20, seed=7, mode="direct"), 40)
    assert set(direct) <= {" True", " False"}


def test_the_base_answers_and_its_twin_also_proves():
    questions = prontoqa.generate("ModusPonens", hops=2, shots=0, n=40, seed=7)
    assert proved("deductor-130k", questions) - proved("deductor-130k-base", questions) > 0.4
    direct = answers("deductor-130k-base", prontoqa.generate("AndIntro", shots=0, n=40, seed=7, mode="direct"), 2)
    assert set(direct) <= {" True", " False"}


@given(st.lists(st.sampled_from([word for word in prontoqa.words() if word.startswith((" ", ".", "\n"))]), max_size=30))
@settings(max_examples=100, deadline=None)
def test_text_of_the_language_is_decoded_exactly(words):
    tokenizer = embedded.word_tokenizer(prontoqa.words(), 2048)
    text = "Fae" + "".join(words)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("rule", prontoqa.RULES)
@pytest.mark.parametrize("mode", ["proof", "direct"])
def test_every_question_is_words_of_the_vocabulary(tokenizer, rule, mode):
    for example in prontoqa.generate(rule, shots=3, n=20, seed=1, mode=mode, distractors="relevant"):
        tokens = tokenizer.encode(example.prompt + example.answer)
        assert tokenizer.unk_token_id not in tokens
        assert tokenizer.decode(tokens) == example.prompt + example.answer
        assert tokens == tokenizer.encode(example.prompt) + tokenizer.encode(example.answer)


def test_unknown_words_are_marked_and_nothing_is_added(tokenizer):
    tokens = tokenizer.convert_ids_to_tokens(tokenizer.encode("Fae is a unicorn."))
    assert tokens == ["Fae", " is", " a", "<unk>", "."]


def test_the_tokenizer_comes_back_from_a_folder(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    batch = again(["Fae is loud.", "Fae"], padding=True)
    assert batch["attention_mask"] == [[1, 1, 1, 1], [0, 0, 0, 1]]


def test_words_must_be_distinct():
    with pytest.raises(ValueError, match="distinct"):
        embedded.word_tokenizer(["Fae", "Fae"], 8)
