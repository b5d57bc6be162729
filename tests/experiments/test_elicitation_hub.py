"""The elicitation study on models of the hub: how traces are read and put, and the whole of it on a tiny Qwen2."""

import json

import elicitation
import pandas as pd
import pytest
import torch
from eliciting.plans import hub_study
from eliciting.traces import Traces
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from circuitkit.tasks import TaskError
from circuitkit.training import TrainingError

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def row(number, **changed):
    return {
        "question": f"What is {number} + {number}?",
        "deepseek_thinking_trajectory": f"Twice {number} is {2 * number}.",
        "deepseek_attempt": f"It is {2 * number}.",
        "gemini_attempt": "not read",
        **changed,
    }


def written(path, rows):
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return str(path)


def test_a_trace_becomes_the_assistant_s_turn_with_its_two_sections(tmp_path):
    rows = [row(3), row(4, deepseek_attempt="Answer: eight")]
    first, second = Traces(written(tmp_path / "s1k.jsonl", rows)).examples()
    assert first.question == "What is 3 + 3?"
    assert first.chain == "<|im_start|>think\nTwice 3 is 6.\n<|im_start|>answer\nAnswer: It is 6."
    assert second.chain.endswith("answer\nAnswer: eight")
    assert first.key != second.key


@pytest.mark.parametrize("changed", [{"deepseek_attempt": " "}, {"deepseek_attempt": None}])
def test_an_empty_or_missing_field_is_named_with_its_line(tmp_path, changed):
    with pytest.raises(TrainingError, match=r"s1k\.jsonl, line 2: the field 'deepseek_attempt'.*missing or empty"):
        Traces(written(tmp_path / "s1k.jsonl", [row(1), row(2, **changed)])).examples()


def test_the_hub_s_data_set_is_asked_for_by_its_name_and_split(monkeypatch):
    import datasets

    asked = []

    def load_dataset(name, config=None, *, split):
        asked.append((name, config, split))
        return [row(number) for number in range(5)]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    examples = Traces("simplescaling/s1K-1.1", n=3).examples()
    assert asked == [("simplescaling/s1K-1.1", None, "train")]
    assert [each.question for each in examples] == [f"What is {n} + {n}?" for n in range(3)]


def test_a_hub_that_cannot_be_reached_says_so(monkeypatch):
    import datasets

    def load_dataset(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(TaskError, match=r"s1K-1\.1 \(train\) on the hub cannot be loaded: no route"):
        Traces("simplescaling/s1K-1.1").examples()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--models", "a:b"], "name traces, such as simplescaling/s1K-1.1"),
        (["--data", "x.jsonl"], "name them, or leave it out"),
        (["--models", "a", "--data", "x.jsonl", "--task", "aime"], "pairs BASE:SKYLINE, and 'a' is none"),
        (["--models", "one/a:b", "two/a:c", "--data", "x.jsonl"], "two bases of --models have one name"),
    ],
)
def test_models_without_traces_and_pairs_that_are_none_are_refused(tmp_path, given, said):
    with pytest.raises(SystemExit, match=said):
        elicitation.app(["--out", str(tmp_path), *given], result_action="return_value")


def tiny_qwen(folder, seed):
    """A random Qwen2 with a byte-sized vocabulary and a chat template of the Qwen kind."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>"]
    words = [*special, *(chr(code) for code in range(32, 127)), "\n"]
    backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<unk>",
        additional_special_tokens=["<|im_start|>"], chat_template=TEMPLATE, model_max_length=512,
    )  # fmt: skip
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, eos_token_id=2, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


TASK = """
name = "doubling"
data = "doubling.jsonl"
prompt = "{question}"
gold = "{answer}"
answer = "number"
max_new_tokens = 4
"""


@pytest.mark.slow
def test_the_study_runs_whole_on_models_and_traces_that_are_given(tmp_path):
    base, skyline = tiny_qwen(tmp_path / "base", 0), tiny_qwen(tmp_path / "skyline", 1)
    traces = written(tmp_path / "s1k.jsonl", [row(number) for number in range(101)])
    questions = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(200, 203)]
    written(tmp_path / "doubling.jsonl", questions)
    (tmp_path / "doubling.toml").write_text(TASK)
    study = hub_study(
        tmp_path / "out", [f"{base}:{skyline}"], traces, str(tmp_path / "doubling.toml"),
        {"examples": (29,), "steps": 2, "every": 1}, None,
        rates={"full": (1e-4,), "lora": (1e-3,)}, max_new_tokens=4, limit=3, device_batch_size=4,
    )  # fmt: skip
    study.run(seed=0)
    found = pd.read_csv(tmp_path / "out" / "elicited.csv")
    assert found["training"].tolist() == ["none", "distilled", "full", "lora"]
    assert found.loc[2:, "examples"].tolist() == [29, 101]
    # Four draws of each question by each model; a random skyline beats nothing, and it is said.
    assert found.loc[2:, "runs"].tolist() == [4, 4]
    assert found.loc[2:, "undefined"].str.startswith("undefined").all()
    assert found.loc[2, "loss_before"] > 0 and pd.isna(found.loc[3, "loss_before"])
    assert found.loc[3, "trainable"] < found.loc[2, "trainable"]
    assert (tmp_path / "out" / "figure_1.png").stat().st_size > 10_000
    alike = pd.read_csv(tmp_path / "out" / "alike_by_layer.csv")
    assert alike["layer"].tolist() == [0, 1] and alike["cka_base"].between(0.9, 1.0001).all()
    assert "no skyline beats its base" in (tmp_path / "out" / "sentences.md").read_text()
