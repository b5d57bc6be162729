"""`circuitkit train`: what it trains is what the API trains, it goes on, and mistakes are told in one line."""

import json
from pathlib import Path

import pytest
import torch
from matplotlib import image

import circuitkit as ck
from circuitkit.commands.train.options import From, Settings
from circuitkit.training import PRESETS, Recipe, Trained
from shell import Run

TOY, TASK = "deductor-5k-base", "prontoqa/implication_elimination/1"
VERB = "train"


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    names = ("wumpus", "dumpus", "zumpus", "numpus", "vumpus", "rompus")
    lines = [json.dumps({"prompt": f"Max is a {name}.", "chain": f"Max is a {name}."}) for name in names]
    path = tmp_path / "examples.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_it_trains_what_the_api_trains_and_tells_it(
    run: Run, examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--learning-rate", 1e-2, "--max-steps", 4, "--batch-size", 2, "--evaluate-every", 2]
    how = ["--rule", "last within", "--validation", 0.34, "--field", "question=prompt"]
    out = tmp_path / "out"
    assert run(TOY, "--data", examples, *settings, *how, "--out", out) == 0
    said = capsys.readouterr().out
    loaded = Trained.load(out)
    assert loaded.recipe == Recipe(
        learning_rate=1e-2, max_steps=4, batch_size=2, evaluate_every=2, rule="last within"
    ).but(template=loaded.recipe.template, context=loaded.recipe.context)
    same = ck.train(
        TOY, examples, out=tmp_path / "same", validation=0.34, fields={"question": "prompt"}, learning_rate=1e-2,
        max_steps=4, batch_size=2, evaluate_every=2, rule="last within", progress=False,
    )  # fmt: skip
    weights = ck.load(str(out / "model")).hf.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in same.model.hf.state_dict().items())
    assert (
        f"{TOY} on 3 examples: 4 steps" in said and f"trained {same.trainable:,} of {same.total:,} parameters" in said
    )
    assert f"step {same.chosen} is taken, by the rule 'last within'" in said and "taken" in said
    assert f"{same.curve['validation_loss'].iloc[-1]:.4g}" in said
    assert image.imread(out / "loss.png").shape[0] > 100
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert run(TOY, "--data", examples, *settings, *how, "--out", out) == 0
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert all(
        before[path] == time for path, time in kept.items() if path.name in ("trained.json", "model.safetensors")
    )
    assert run(TOY, "--data", examples, *settings, *how, "--seed", 1, "--out", out) == 2
    assert "seed" in capsys.readouterr().err


def test_an_adapter_on_the_last_layer_trains_few_parameters(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--task", TASK, "--limit", 4, "--lora", 1, "--lora-roles", "o_proj", "--layers", "-1", "--max-steps", 1]
    assert run(TOY, *words, "--out", tmp_path) == 0
    config = json.loads((Path(tmp_path) / "model" / "config.json").read_text())
    heads = config["num_attention_heads"] * config["head_dim"]
    assert f"trained {heads + config['hidden_size']:,} of" in capsys.readouterr().out
    assert (tmp_path / "adapter").is_dir() and Trained.load(tmp_path).recipe.layers == (-1,)


@pytest.mark.parametrize(("words", "n_exemplars"), [((), 8), (("--shots", 0), 0), (("--shots", 2), 2)])
def test_questions_of_a_task_stand_behind_as_many_exemplars_as_are_asked_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...], n_exemplars: int
) -> None:
    learnt = {}

    def caught(*given: object, **settings: object) -> None:
        learnt.update(settings, data=given[1])
        raise ValueError("caught")

    monkeypatch.setattr(ck, "train", caught)
    with pytest.raises(ValueError, match="caught"):
        run(TOY, "--task", TASK, "--validation", TASK, *words, "--out", tmp_path)
    for task in (learnt["data"], learnt["validation"]):
        assert task.prompt(task.items[0]).count("Q:") == n_exemplars + 1
    assert "shots" not in learnt


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "one of the two"),
        (["--data", "a.jsonl", "--task", TASK], "one of the two"),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--data", "nowhere.jsonl", "--limit", 3], "--limit is of --task"),
        (["--data", "nowhere.jsonl", "--shots", 0], "--shots is of --task"),
        (["--task", TASK, "--shots", 99], "99 exemplars are wanted"),
        (["--task", TASK, "--field", "chain=a", "chain=b"], "each PART once; not 'chain=b'"),
        (["--task", "riddles"], "there is no task 'riddles'"),
        (["--task", TASK, "--limit", 4, "--validation", 1.5], "between 0 and 1"),
        (["--task", TASK, "--limit", 4, "--validation", TASK], "are trained on as well"),
        (["--task", TASK, "--preset", "best"], "there is no preset 'best'"),
        (["--task", TASK, "--lora-alpha", 2], "add --lora RANK"),
        (["--task", TASK, "--field", "prompt"], "such as chain=trace"),
        (["--task", TASK, "--partial", "gold=much"], "JUDGE=WEIGHT"),
        (["--task", TASK, "--limit", 4, "--train", "router"], "router"),
        (["--task", TASK, "--learning-rate", 0], "learning_rate is 0"),
    ],
)
def test_mistakes_are_told_in_one_line(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[object], why: str
) -> None:
    assert run(TOY, *words, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("circuitkit: ") and why in said
    assert not (tmp_path / "out" / "trained.json").exists()


def test_every_setting_of_a_recipe_can_be_given() -> None:
    options = set(Settings.__dataclass_fields__) | {"dtype"}
    # `log_every`, `end` and the rest here are for scripts: they change no training that a shell would ask for.
    left_out = {"pack_examples", "end", "log_every", "clip_ratio", "scale_rewards", "patience"}
    assert set(Recipe.__dataclass_fields__) - left_out <= options


def test_a_presets_adapter_keeps_what_is_not_given() -> None:
    given = Settings(lora_alpha=8.0).given("elicitation-lora")
    adapter = PRESETS["elicitation-lora"].lora
    assert adapter is not None and given["lora"].alpha == 8 and given["lora"].roles == adapter.roles
    assert Settings(lora=4).given("elicitation")["lora"].rank == 4
    assert From(validation="0.25").held_out() == 0.25 and From().held_out() is None


def test_weights_that_are_trained_are_float32_and_those_beside_an_adapter_as_they_are_stored(
    run: Run, examples: Path, tmp_path: Path
) -> None:
    narrow = ck.load(TOY)
    narrow.hf.to(torch.bfloat16).save_pretrained(tmp_path / "narrow")
    narrow.tokenizer.save_pretrained(tmp_path / "narrow")
    asked = [tmp_path / "narrow", "--data", examples, "--field", "question=prompt", "--max-steps", 1]
    for name, more, precision in (("full", [], torch.float32), ("lora", ["--lora", 1], torch.bfloat16)):
        assert run(*asked, *more, "--out", tmp_path / name) == 0
        stored = ck.load(tmp_path / name / "model", dtype="auto").hf
        assert {weight.dtype for weight in stored.parameters()} == {precision}
