"""Training data read, and what is wrong with them by line."""

import json

import pytest

from circuitkit.tasks import prontoqa
from circuitkit.training import PRESETS, Example, LoRA, Recipe, TrainingError, examples_of, nested_subsets
from circuitkit.training.examples import check_apart, digest, divided

GOOD = {"question": "1 + 1?", "chain": "2"}


def written(path, *lines):
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_files_with_fields_of_other_names(tmp_path):
    row = {"prompt": "1 + 1?", "trace": "one, two", "said": "2", "more": 5}
    path = written(tmp_path / "data.jsonl", row, "", row)
    fields = {"question": "prompt", "chain": "trace", "answer": "said"}
    one, two = examples_of(path, fields)
    assert (one.question, one.chain, one.answer) == ("1 + 1?", "one, two", "2") == (two.question, two.chain, two.answer)
    assert examples_of([row], fields)[0].answer == "2"
    with pytest.raises(TrainingError, match="no part 'prompt'"):
        examples_of([row], {"prompt": "question"})


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"question": "2 + 2?"}, r"data\.jsonl, line 3.*'chain' is missing"),
        ({**GOOD, "chain": "  "}, r"line 3.*'chain' is"),
        ({**GOOD, "question": 5}, r"line 3.*'question' is no text"),
        ("{", r"line 3: no JSON"),
        ([1], r"line 3: a list"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path, line, told):
    path = written(tmp_path / "data.jsonl", GOOD, "", line)
    with pytest.raises(TrainingError, match=told):
        examples_of(path)


def test_data_that_hold_nothing(tmp_path):
    with pytest.raises(TrainingError, match="no example"):
        examples_of(written(tmp_path / "data.jsonl", ""))
    with pytest.raises(TrainingError, match="no example"):
        examples_of([])
    with pytest.raises(TrainingError, match="no such file"):
        examples_of(tmp_path / "none.jsonl")
    with pytest.raises(TrainingError, match="the question is empty"):
        examples_of([Example(" ", "2")])


def test_an_answer_may_be_left_out_or_empty():
    assert examples_of([GOOD, {**GOOD, "answer": ""}, {**GOOD, "answer": None}])[1].answer == ""


def test_a_task_is_its_prompts_and_gold():
    task = prontoqa.task("implication_elimination", shots=0, n=3)
    found = examples_of(task)
    assert [each.question for each in found] == [task.prompt(item) for item in task.items]
    assert [(each.chain, each.key) for each in found] == [(item.gold, item.key) for item in task.items]


def test_a_share_is_a_seeded_part_and_the_hash_is_of_contents():
    examples = [Example(str(n), "yes") for n in range(20)]
    training, held_out = divided(examples, 0.15, seed=1)
    assert len(held_out) == 3 and sorted([*training, *held_out], key=str) == sorted(examples, key=str)
    assert divided(examples, 0.15, seed=1) == (training, held_out) != divided(examples, 0.15, seed=2)
    subsets = nested_subsets(examples, sizes=(8,), held_out=4)
    assert digest(subsets.subsets[8]) == subsets.hashes[8]
    assert digest(subsets.subsets[8][::-1]) == subsets.hashes[8] != digest(subsets.subsets[8][1:])
    for share in (0, 1, -0.5, 1.5):
        with pytest.raises(TrainingError, match=f"share of {share}"):
            divided(examples, share, seed=0)
    with pytest.raises(TrainingError, match="leaves none"):
        divided(examples[:1], 0.5, seed=0)


def test_an_overlap_is_counted_white_space_aside():
    trained = [Example("Is it  so?", "yes"), Example("b", "no")]
    with pytest.raises(TrainingError, match=r"2 of 3 .*'Is it so\?'"):
        check_apart(trained, [Example("Is it\nso? ", "?"), Example("c", "?"), Example("b", "?")])
    check_apart(trained, [Example("B", "?")])


def test_recipes_go_through_json_and_back():
    for name, recipe in PRESETS.items():
        assert Recipe(**json.loads(json.dumps(recipe.as_json()))) == recipe, name
    assert Recipe(lora={"rank": 2, "roles": ["q_proj"]}) == Recipe(lora=LoRA(2, roles="q_proj"))


def test_presets_are_the_papers():
    thresholds, elicitation = PRESETS["thresholds"], PRESETS["elicitation"]
    assert (thresholds.learning_rate, thresholds.epochs, thresholds.batch_size) == (2e-5, 100, 8)
    assert (thresholds.layout, thresholds.context, thresholds.loss_on, thresholds.end) == (
        "pack",
        1024,
        "everything",
        False,
    )
    assert (thresholds.schedule, thresholds.weight_decay, thresholds.warmup, thresholds.rule) == (
        "linear",
        0.01,
        0,
        "best",
    )
    assert PRESETS["thresholds-revision"].layers == (-2, -1) and PRESETS["thresholds-revision"].layout == "pad"
    assert (elicitation.learning_rate, elicitation.max_steps, elicitation.batch_size) == (1e-5, 300, 16)
    assert (elicitation.schedule, elicitation.weight_decay) == ("cosine", 1e-4)
    assert (elicitation.rule, elicitation.margin) == ("last within", 0.1)
    lora = PRESETS["elicitation-lora"]
    assert (lora.learning_rate, lora.lora.rank, len(lora.lora.roles)) == (1e-3, 1, 7)
    assert PRESETS["freeze"].always == ("embed", "lm_head", "norm") and PRESETS["freeze"].epochs == 5
    sft, grpo = PRESETS["thinking-sparks-sft"], PRESETS["thinking-sparks-grpo"]
    assert (sft.learning_rate, sft.epochs, sft.warmup, sft.checkpoint_every, sft.dtype) == (
        4e-5,
        5,
        0.03,
        100,
        "bfloat16",
    )
    assert (grpo.method, grpo.learning_rate, grpo.epochs, grpo.warmup, grpo.group) == ("grpo", 1e-6, 3, 0.1, 16)


def test_epochs_over_a_preset_of_steps_count():
    assert PRESETS["elicitation"].but(epochs=5).max_steps is None
    assert PRESETS["elicitation"].but(epochs=5, max_steps=7).max_steps == 7


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"loss_on": "proof"}, "loss_on is one of 'everything', 'question', 'chain', 'answer', not 'proof'"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"epochs": -1}, "epochs is -1"),
        ({"warmup": 1.5}, "warmup is 1.5"),
        ({"rule": "first"}, "no checkpoint rule 'first'"),
        ({"margin": -0.1}, "margin"),
        ({"lora": 0}, "rank of 1 or more"),
        ({"lora": 1, "train": "norm"}, "leave out train"),
        ({"evaluate_every": "day"}, 'evaluate_every is a number of steps or "epoch"'),
        ({"pack_examples": 0}, "pack_examples is 0"),
        ({"log_every": 0}, "log_every is 0"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"betas": (0.9, 1.0)}, "betas are"),
        ({"betas": (0.9,)}, "betas are"),
        ({"batch_size": "4"}, "batch_size is '4': give a whole number"),
        ({"max_steps": 2.5}, "max_steps is 2.5: give a whole number"),
        ({"learning_rate": "1e-3"}, "learning_rate is '1e-3': give a number"),
        ({"lora": {"rnk": 1}}, "a LoRA has no setting 'rnk'"),
        ({"judge": "strict"}, "judge is of method='grpo', and the method is 'supervised'"),
        ({"method": "grpo", "hard": 0.5}, "hard is of method='distil'"),
    ],
)
def test_settings_out_of_range(settings, told):
    with pytest.raises(TrainingError, match=told):
        Recipe(**settings)
