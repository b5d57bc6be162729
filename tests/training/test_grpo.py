"""GRPO by `ck.train`: it raises what the judge rewards, keeps to its seed, and goes on as if it had never stopped."""

import math
import shutil
from dataclasses import replace

import pytest
import torch

import circuitkit as ck
from circuitkit.tasks import Item, Judgement, Task, prontoqa
from circuitkit.training import TrainingError, checkpoints

NAME = "deductor-130k-step600"
SETTINGS = {
    "method": "grpo",
    "group": 8,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "max_new_tokens": 40,
    "progress": False,
}
SMALL = {**SETTINGS, "batch_size": 16, "group": 4, "max_steps": 4, "evaluate_every": 2, "schedule": "constant"}


@pytest.fixture(scope="module")
def task():
    return prontoqa.task("implication_elimination", shots=0, n=200, seed=1)


@pytest.fixture(scope="module")
def held_out():
    return prontoqa.task("implication_elimination", shots=0, n=100, seed=2)


def weights_of(trained):
    return {name: weight.detach().clone() for name, weight in trained.model.hf.state_dict().items()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def small(task, held_out, tmp_path_factory):
    """A short training, and the weights at its end."""
    out = tmp_path_factory.mktemp("grpo") / "small"
    trained = ck.train(NAME, task.first(40), validation=held_out.first(20), out=out, keep="all", **SMALL)
    return trained, weights_of(trained)


def test_it_raises_what_the_judge_rewards(task, held_out, tmp_path):
    before = ck.evaluate(ck.load(NAME), held_out, max_new_tokens=40, progress=False)
    trained = ck.train(NAME, task, validation=held_out, out=tmp_path, max_steps=12, evaluate_every=6, **SETTINGS)
    after = ck.evaluate(trained.model, held_out, max_new_tokens=40, progress=False)
    # Both intervals are Wilson's at 95 %, and they do not touch: 58 of 100 before, 97 after.
    assert after.accuracy.low > before.accuracy.high
    curve = trained.curve.set_index("step")
    assert curve["reward"].iloc[-4:].mean() > curve["reward"].iloc[1:5].mean()
    # Validation is what an evaluation finds, before and after.
    assert curve.loc[0, "validation_reward"] == before.accuracy.value
    assert curve.loc[trained.chosen, "validation_reward"] == after.accuracy.value
    assert trained.rule == "best" and trained.chosen == curve["validation_reward"].iloc[1:].idxmax()
    assert (trained.trainable, trained.total) == (133_632, 133_632)


def test_the_curve_has_a_reward_a_step_and_the_folder_loads_again(small):
    trained, weights = small
    assert trained.curve["reward"].notna().tolist() == [False, True, True, True, True]
    assert trained.curve["validation_reward"].notna().tolist() == [True, False, True, False, True]
    loaded = ck.training.Trained.load(trained.folder)
    assert loaded.recipe.method == "grpo" and loaded.chosen == trained.chosen
    assert same(weights_of(loaded), weights)
    assert loaded.examples["n"] == 40 and loaded.examples["validation"]["n"] == 20
    assert sorted(trained.checkpoints) == [2, 4]


def test_a_seed_gives_the_same_weights_again_and_another_seed_others(task, held_out, small, tmp_path):
    again = ck.train(NAME, task.first(40), validation=held_out.first(20), out=tmp_path / "a", keep="all", **SMALL)
    assert same(weights_of(again), small[1])
    other = ck.train(NAME, task.first(40), out=tmp_path / "b", seed=1, **SMALL)
    assert not same(weights_of(other), small[1])


@pytest.mark.slow
def test_accumulation_takes_the_same_steps(task, held_out, small, tmp_path):
    parts = ck.train(
        NAME, task.first(40), validation=held_out.first(20), out=tmp_path, keep="all", device_batch_size=8, **SMALL
    )
    assert parts.curve["reward"].equals(small[0].curve["reward"])
    last = [torch.load(each.checkpoints[4] / "optimizer.pt") for each in (parts, small[0])]
    for one, two in zip(*(optimizer["state"].values() for optimizer in last), strict=True):
        torch.testing.assert_close(one["exp_avg"], two["exp_avg"], atol=1e-5, rtol=1e-3)


def test_a_run_that_was_cut_short_goes_on_to_the_same_weights(task, held_out, small, tmp_path):
    shutil.copytree(small[0].folder, tmp_path / "cut")
    for name in ("trained.json", "model", "curve.csv"):
        path = tmp_path / "cut" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(checkpoints.listed(tmp_path / "cut" / "checkpoints")[4])
    gone_on = ck.train(NAME, task.first(40), validation=held_out.first(20), out=tmp_path / "cut", keep="all", **SMALL)
    assert same(weights_of(gone_on), small[1])
    assert gone_on.curve["reward"].equals(small[0].curve["reward"])


def test_the_model_is_left_without_a_trace_of_the_trainer(task, tmp_path):
    model = ck.load(NAME)
    before = (vars(model.hf).keys(), model.config.to_dict(), model.hf.generation_config.to_dict())
    ck.train(model, task.first(8), out=tmp_path, **{**SMALL, "max_steps": 1, "evaluate_every": 1})
    assert "forward" not in vars(model.hf) and not model.hf.training
    assert vars(model.hf).keys() == before[0]
    assert (model.config.to_dict(), model.hf.generation_config.to_dict()) == before[1:]
    assert all(weight.requires_grad for weight in model.hf.parameters())


def steep(task, tmp_path, **settings):
    return ck.train(NAME, task.first(40), out=tmp_path, **{**SMALL, "max_steps": 6, "evaluate_every": 6, **settings})


def test_beta_holds_the_model_to_what_it_was_given_as_and_not_to_its_name(task, tmp_path):
    model = ck.load(NAME)
    with torch.no_grad():
        # No longer what its name stands for.
        for weight in model.hf.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    given = {name: weight.clone() for name, weight in model.hf.state_dict().items()}
    trained = ck.train(model, task.first(40), out=tmp_path, beta=0.1, **{**SMALL, "max_steps": 3, "evaluate_every": 3})
    assert trained.curve["kl"].iloc[0] == pytest.approx(0, abs=1e-6)
    assert trained.curve["kl"].iloc[-1] > 0
    assert not same(weights_of(trained), given)


@pytest.mark.slow
def test_more_beta_more_likeness(task, tmp_path):
    kl = [steep(task, tmp_path / str(beta), beta=beta).curve["kl"].iloc[-1] for beta in (0.001, 3.0)]
    assert 0 < kl[1] < kl[0]


def test_an_adapter_learns_alone_is_held_to_the_model_without_it_and_merged(task, tmp_path):
    before = ck.load(NAME).hf.state_dict()
    trained = ck.train(
        NAME,
        task.first(40),
        out=tmp_path,
        lora=ck.training.LoRA(4, roles=("q_proj", "down_proj")),
        beta=0.1,
        **{**SMALL, "max_steps": 3, "evaluate_every": 3},
    )
    after = weights_of(trained)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "q_proj" in name or "down_proj" in name}
    # Rank 4 times the sides of q_proj (64 by 64) and down_proj (112 by 64), in 3 layers.
    assert trained.trainable == 3 * 4 * (64 + 64 + 112 + 64)
    assert trained.curve["kl"].iloc[0] == pytest.approx(0, abs=1e-6) and trained.curve["kl"].iloc[-1] > 0
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir() if path.suffix == ".safetensors") == [
        "adapter_model.safetensors"
    ]


def test_frozen_modules_stay_as_they_are(task, tmp_path):
    before = ck.load(NAME).hf.state_dict()
    after = weights_of(steep(task, tmp_path, train=["o_proj"], max_steps=2, evaluate_every=2))
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        name for name in before if "o_proj" in name
    }


def test_several_updates_on_the_same_responses(task, tmp_path):
    trained = steep(task, tmp_path, updates=2, max_steps=4, evaluate_every=4)
    assert trained.curve["reward"].notna().tolist() == [True, False, True, False]
    with pytest.raises(TrainingError, match="fall between the 2 updates"):
        steep(task, tmp_path / "odd", updates=2, checkpoint_every=3)


def always(word, right):
    """A task whose judge says the same of every response."""
    items = tuple(Item(str(at), f"Q: Fae is a {word}. Prove: Fae is a {word}.\nA:", "x") for at in range(4))
    return Task("always", items, {"judge": lambda item, said: Judgement(right, said)}, max_new_tokens=5)


@pytest.mark.parametrize(("right", "said"), [(False, "no response is right"), (True, "every response is right")])
def test_rewards_that_never_differ_stop_the_training_and_say_what_to_do(right, said, tmp_path):
    with pytest.raises(TrainingError, match=f"equal for 3 steps.*{said}"):
        steep(always("wumpus", right), tmp_path, patience=3)


def test_rewards_that_no_longer_differ_are_warned_of(tmp_path):
    asked = []

    def judge(item, said):
        asked.append(item.key)
        return Judgement(len(asked) <= 16 and len(asked) % 2 == 0, said)

    task = Task("once", always("wumpus", True).items, {"judge": judge}, max_new_tokens=5)
    with pytest.warns(UserWarning, match="equal for 2 steps"):
        trained = steep(task, tmp_path, patience=2, max_steps=4)
    assert trained.curve["reward"].tolist() == [0.5, 0, 0, 0]


def test_a_loss_that_turns_nan_stops_it_and_the_model_is_left_at_the_last_good_checkpoint(task, tmp_path):
    model, calls = ck.load(NAME), []

    def judge(item, said):
        calls.append(item.key)
        if len(calls) == 40:
            # Within the third step's responses: that step's loss is NaN.
            model.hf.model.norm.weight.data.fill_(torch.nan)
        return Judgement(len(calls) % 2 == 0, said)

    spoiled = replace(task.first(40), judges={"judge": judge})
    with pytest.raises(TrainingError, match=r"at step 3 the loss is nan.*step-00002, is kept"):
        ck.train(model, spoiled, out=tmp_path, **{**SMALL, "evaluate_every": 1})
    assert all(torch.isfinite(weight).all() for weight in model.hf.parameters())
    assert not same(dict(model.hf.state_dict()), ck.load(NAME).hf.state_dict())
    assert not (tmp_path / "trained.json").exists()


def test_partial_credit_is_rewarded_and_validated(task, held_out, tmp_path):
    trained = ck.train(
        NAME,
        task.first(40),
        validation=held_out.first(20),
        out=tmp_path,
        judge="strict",
        partial={"gold": 0.5},
        **{**SMALL, "max_steps": 1, "evaluate_every": 1},
    )
    first = trained.curve.iloc[0]
    assert first["validation_accuracy"] < first["validation_reward"] < 1
    assert not math.isclose(trained.curve["reward"].iloc[1] * 16 % 1, 0)


def test_a_share_is_held_out_by_the_seed(task, tmp_path):
    trained = ck.train(NAME, task.first(40), validation=0.25, out=tmp_path, **{**SMALL, "max_steps": 1})
    assert (trained.examples["n"], trained.examples["validation"]["n"]) == (30, 10)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"group": 1}, "group of 1"),
        ({"group": 5}, "multiple of 5"),
        ({"batch_size": 256}, "asks 64 prompts"),
        ({"judge": "lenient"}, "no judge 'lenient'"),
        ({"partial": {"read": 2.0}}, "sums to 2"),
        ({"template": "{question}{chain}"}, "template is of texts"),
        ({"lora": {"roles": ("lm_head",)}}, "lm_head"),
        ({"text": "chat"}, "no chat template"),
        ({"context": 20}, "context of 20 leaves"),
        ({"patience": 0}, "give 1 or more"),
    ],
)
def test_what_does_not_fit_is_refused(task, tmp_path, settings, said):
    with pytest.raises(TrainingError, match=said):
        ck.train(NAME, task.first(40), out=tmp_path, **{**SMALL, **settings})


def test_data_that_nothing_judges_and_questions_on_both_sides_are_refused(task, tmp_path):
    with pytest.raises(TrainingError, match="GRPO asks a task"):
        ck.train(NAME, [{"question": "Q", "chain": "A"}], out=tmp_path, **SMALL)
    with pytest.raises(TrainingError, match="2 of 2 validation questions are trained on"):
        ck.train(NAME, task.first(40), validation=task.first(2), out=tmp_path, **SMALL)
    twice = replace(task, items=tuple(replace(task.items[0], key=str(key)) for key in range(8)))
    with pytest.raises(TrainingError, match="2 of 2 validation questions are trained on"):
        ck.train(NAME, twice, validation=0.25, out=tmp_path, **SMALL)
    with pytest.raises(TrainingError, match="a teacher is of method='distil'"):
        ck.train(NAME, task.first(40), teacher="deductor-1m", out=tmp_path, **SMALL)
