"""`ck.train` against loops written by hand, and what it does with what goes wrong."""

import copy
import json
import math
import random
import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional

import architectures
import circuitkit as ck
from circuitkit.tasks import prontoqa
from circuitkit.training import Example, LoRA, Trained, TrainingError, distributed, layout
from circuitkit.training.recipe import Recipe

NAMES = ("Max", "Fae", "Rex", "Sam", "Wren", "Polly")
KINDS = ("wumpus", "dumpus", "zumpus", "vumpus")
PAIRS = [
    Example(f"Every {kind} is loud. {name} is a {kind}. Prove: {name} is loud.", f"{name} is a {kind}." + more)
    for number, name in enumerate(NAMES)
    for kind, more in zip(KINDS, ("", f" Every {KINDS[0]} is loud.", f" {name} is loud.", ""), strict=True)
]
FAST = {"progress": False, "batch_size": 6, "learning_rate": 3e-3, "epochs": 2}


def weights(model: ck.Model) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.hf.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def token_losses(model: ck.Model, row: dict) -> torch.Tensor:
    """Each token's loss that carries one, one row at a time, without padding."""
    ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
    logits = model.hf(input_ids=ids).logits[0]
    each = functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="none")
    return each[labels[1:] != -100]


def by_hand(model: ck.Model, recipe: Recipe, rates: list[float]) -> list[float]:
    """AdamW on the mean over a step's tokens, written out; the model is changed in place."""
    rows = layout.rows_of(PAIRS, recipe, model.tokenizer, model.context)
    order = distributed.Order(len(rows), recipe.seed)
    matrices = [each for each in model.hf.parameters() if each.ndim > 1]
    others = [each for each in model.hf.parameters() if each.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=recipe.betas)
    losses, model_is = [], model.hf.train()
    for epoch in range(math.ceil(len(rates) / math.ceil(len(rows) / recipe.batch_size))):
        order.set_epoch(epoch)
        numbers = list(order)
        for at in range(0, len(numbers), recipe.batch_size):
            if len(losses) == len(rates):
                break
            for group in optimizer.param_groups:
                group["lr"] = rates[len(losses)]
            found = [token_losses(model, rows[number]) for number in numbers[at : at + recipe.batch_size]]
            loss = torch.cat(found).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model_is.parameters(), recipe.clip)
            optimizer.step()
            losses.append(loss.item())
    model.hf.eval()
    return losses


@pytest.mark.parametrize("loss_on", ["everything", "question", "chain"])
def test_the_losses_and_weights_are_those_of_a_loop_by_hand(tmp_path, loss_on):
    recipe = Recipe(learning_rate=3e-3, batch_size=5, loss_on=loss_on, betas=(0.8, 0.99), clip=0.5, weight_decay=5.0)
    model, hand = ck.load("deductor-5k-base"), ck.load("deductor-5k-base")
    losses = by_hand(hand, recipe, rates=[3e-3 * (1 - step / 8) for step in range(8)])
    settings = {"learning_rate": 3e-3, "batch_size": 5, "betas": (0.8, 0.99), "clip": 0.5, "max_steps": 8}
    settings["weight_decay"] = 5.0
    trained = ck.train(model, PAIRS, out=tmp_path, loss_on=loss_on, schedule="linear", progress=False, **settings)
    assert trained.curve["loss"].tolist() == pytest.approx(losses, abs=1e-5)
    for name, tensor in weights(hand).items():
        torch.testing.assert_close(model.hf.state_dict()[name], tensor, atol=1e-5, rtol=1e-4)
    assert not model.hf.training


def test_a_cosine_falls_after_a_warm_up(tmp_path):
    model = ck.load("deductor-5k-base")
    settings = {"warmup": 0.25, "schedule": "cosine", "max_steps": 8, "learning_rate": 1e-3}
    trained = ck.train(model, PAIRS, out=tmp_path, progress=False, **settings)
    wanted = [0, 0.5, *(0.5 * (1 + math.cos(math.pi * step / 6)) for step in range(6))]
    assert trained.curve["learning_rate"].tolist() == pytest.approx([1e-3 * each for each in wanted], abs=1e-9)


def test_a_step_in_parts_is_the_step_in_one(tmp_path):
    whole = ck.train("deductor-5k-base", PAIRS, out=tmp_path / "whole", **FAST)
    parts = ck.train("deductor-5k-base", PAIRS, out=tmp_path / "parts", device_batch_size=2, **FAST)
    assert parts.curve["loss"].tolist() == pytest.approx(whole.curve["loss"].tolist(), abs=1e-5)
    for name, tensor in weights(whole.model).items():
        torch.testing.assert_close(parts.model.hf.state_dict()[name], tensor, atol=1e-5, rtol=1e-4)


def test_the_validation_loss_is_the_mean_over_tokens_before_and_after(tmp_path):
    model, untouched = ck.load("deductor-5k-base"), ck.load("deductor-5k-base")
    trained = ck.train(model, PAIRS[:18], validation=PAIRS[18:], out=tmp_path, rule="last", **FAST)
    rows = layout.rows_of(PAIRS[18:], trained.recipe, model.tokenizer, model.context)
    with torch.no_grad():
        before, after = (torch.cat([token_losses(each, row) for row in rows]).mean() for each in (untouched, model))
    measured = trained.curve.set_index("step")["validation_loss"].dropna()
    assert measured.index.tolist() == [0, 3, 6]
    assert measured[0] == pytest.approx(before.item(), abs=1e-5)
    assert measured[6] == pytest.approx(after.item(), abs=1e-5)


def test_the_best_checkpoint_is_what_the_model_holds_and_what_is_loaded_again(tmp_path):
    settings = {**FAST, "learning_rate": 3e-3, "evaluate_every": 1, "schedule": "constant"}
    model = ck.load("deductor-5k-base")
    # The better the rest is learnt, the less likely is this.
    against = [Example("Every wumpus is loud. Prove: Max is loud.", "loud loud loud loud loud")]
    trained = ck.train(model, PAIRS, validation=against, out=tmp_path, rule="best", **settings)
    measured = trained.curve[trained.curve["step"] > 0].set_index("step")["validation_loss"].dropna()
    assert trained.chosen == measured.idxmin() < 6
    again = Trained.load(tmp_path)
    assert same(weights(again.model), weights(model))
    assert again.chosen == trained.chosen and again.recipe == trained.recipe and again.rule == "best"
    assert again.curve.equals(trained.curve)
    stored = ck.load(trained.checkpoints[trained.chosen])
    assert same(weights(stored), weights(model))
    assert (tmp_path / "loss.png").stat().st_size > 0
    assert again.plot().get_title().startswith("deductor-5k-base, 24 examples")


def test_a_finished_training_is_loaded_and_another_is_refused(tmp_path):
    model = ck.load("deductor-5k-base")
    first = ck.train(model, PAIRS, out=tmp_path, **FAST)
    held = weights(model)
    again = ck.train(model, PAIRS, out=tmp_path, **FAST)
    fresh = ck.train("deductor-5k-base", PAIRS, out=tmp_path, **FAST)
    assert again.provenance == first.provenance == fresh.provenance
    assert same(weights(again.model), held) and same(weights(fresh.model), held)
    with pytest.raises(TrainingError, match=r"another training: recipe: seed was 0 and is 1"):
        ck.train("deductor-5k-base", PAIRS, out=tmp_path, seed=1, **FAST)
    with pytest.raises(TrainingError, match="data was"):
        ck.train("deductor-5k-base", PAIRS[:-1], out=tmp_path, **FAST)
    with pytest.raises(TrainingError, match="weights was"):
        ck.train("deductor-5k-reason", PAIRS, out=tmp_path, **FAST)


def test_a_seed_decides_all_and_leaves_random_numbers_alone(tmp_path):
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002  # what libraries draw from
    lora = LoRA(2, dropout=0.2)
    runs = [
        ck.train("deductor-5k-base", PAIRS, out=tmp_path / str(at), seed=seed, lora=lora, **FAST)
        for at, seed in enumerate((3, 3, 4))
    ]
    assert torch.equal(torch.get_rng_state(), state[0]) and random.getstate() == state[1]
    assert (np.random.get_state()[1] == state[2]).all()  # noqa: NPY002  # as above
    assert same(weights(runs[0].model), weights(runs[1].model))
    assert not same(weights(runs[0].model), weights(runs[2].model))


FROZEN = [
    ({"train": "o_proj"}, ["o_proj"]),
    ({"train": ("mlp", "norm")}, ["gate_proj", "up_proj", "down_proj", "norm"]),
    ({"train": "v_proj", "always": ("embed", "lm_head", "norm")}, ["v_proj", "embed_tokens", "lm_head", "norm"]),
    ({"layers": (-1,)}, ["layers.1."]),
    ({"train": "q_proj", "layers": (0,)}, ["layers.0.self_attn.q_proj"]),
    ({"train": "model.layers.1.mlp"}, ["layers.1.mlp"]),
]


@pytest.mark.parametrize(("settings", "moving"), FROZEN)
def test_what_is_frozen_stays_bit_for_bit_and_the_rest_moves(tmp_path, settings, moving):
    model = ck.load("deductor-5k-base")
    assert model.n_layers == 2
    before = weights(model)
    trained = ck.train(model, PAIRS, out=tmp_path, weight_decay=0.1, **FAST, **settings)
    for name, tensor in weights(model).items():
        assert torch.equal(tensor, before[name]) != any(part in name for part in moving), name
    # A tied tensor is counted once.
    counted = {name: tensor for name, tensor in model.hf.named_parameters() if any(part in name for part in moving)}
    assert trained.trainable == sum(tensor.numel() for tensor in counted.values())
    assert trained.total == sum(tensor.numel() for tensor in model.hf.parameters())
    assert all(parameter.requires_grad for parameter in model.hf.parameters())


def test_a_frozen_weight_that_something_moves_is_an_error(tmp_path):
    model = ck.load("deductor-5k-base")
    embedding = model.hf.get_input_embeddings()

    def meddling(module, inputs):
        with torch.no_grad():
            module.weight.mul_(1.0001)

    handle = embedding.register_forward_pre_hook(meddling)
    try:
        with pytest.raises(TrainingError, match=r"1 tensors were to stay frozen and have moved, model\.embed_tokens"):
            ck.train(model, PAIRS, out=tmp_path, train="o_proj", **FAST)
    finally:
        handle.remove()


def test_a_lora_is_merged_to_what_the_adapter_computed_and_can_be_trained_again(tmp_path):
    from peft import PeftModel

    model, base = ck.load("deductor-5k-base"), ck.load("deductor-5k-base")
    trained = ck.train(model, PAIRS, out=tmp_path / "1", lora=LoRA(2, alpha=3), **FAST)
    adapted = PeftModel.from_pretrained(base.hf, tmp_path / "1" / "adapter").eval()
    tokens = model.tokens(["Every wumpus is loud. Max is a wumpus."])
    with torch.no_grad():
        apart = adapted(input_ids=tokens.ids).logits
        torch.testing.assert_close(model.hf(input_ids=tokens.ids).logits, apart, atol=1e-5, rtol=1e-4)
    assert adapted.peft_config["default"].lora_alpha == 3
    assert trained.trainable == sum(each.numel() for name, each in adapted.named_parameters() if "lora_" in name)
    assert all("lora" not in name for name, _ in model.hf.named_modules())
    assert same(weights(ck.load(tmp_path / "1" / "model")), weights(model))
    ck.train(model, PAIRS, out=tmp_path / "2", lora=1, layers=(0,), **FAST)
    again = {name for name, tensor in weights(model).items() if not torch.equal(tensor, weights(trained.model)[name])}
    assert not again, "the model of the first training is the one that was trained on"


def test_a_lora_of_a_layer_leaves_other_layers(tmp_path):
    model = ck.load("deductor-5k-base")
    before = weights(model)
    ck.train(model, PAIRS, out=tmp_path, lora=LoRA(1, roles="v_proj"), layers=(-1,), **FAST)
    moved = [name for name, tensor in weights(model).items() if not torch.equal(tensor, before[name])]
    assert moved == ["model.layers.1.self_attn.v_proj.weight"]


def poisoned(model: ck.Model, at: int):
    """Make the loss NaN from a forward on."""
    seen = 0

    def spoil(module, inputs, output):
        nonlocal seen
        if module.training:
            seen += 1
            if seen >= at:
                output.logits = output.logits * math.nan
        return output

    return model.hf.register_forward_hook(spoil)


def test_a_loss_that_is_nan_stops_before_the_step_and_the_last_good_checkpoint_is_held(tmp_path):
    model = ck.load("deductor-5k-base")
    handle = poisoned(model, at=6)
    try:
        with pytest.raises(TrainingError, match=r"at step 6 the loss is nan.*step-00004, is kept"):
            ck.train(model, PAIRS, out=tmp_path, **{**FAST, "epochs": 4}, checkpoint_every=2)
    finally:
        handle.remove()
    kept = ck.load(tmp_path / "checkpoints" / "step-00004")
    assert same(weights(kept), weights(model))
    assert not model.hf.training
    # What spoiled it is gone: the same call goes on to what an undisturbed run gives.
    whole = ck.train("deductor-5k-base", PAIRS, out=tmp_path / "whole", **{**FAST, "epochs": 4}, checkpoint_every=2)
    went_on = ck.train("deductor-5k-base", PAIRS, out=tmp_path, **{**FAST, "epochs": 4}, checkpoint_every=2)
    assert same(weights(went_on.model), weights(whole.model))
    assert went_on.curve.equals(whole.curve)


def test_a_lora_whose_loss_is_nan_leaves_the_last_good_one_merged(tmp_path):
    model = ck.load("deductor-5k-base")
    before = weights(model)
    handle = poisoned(model, at=1)
    try:
        with pytest.raises(TrainingError, match="No checkpoint was written before"):
            ck.train(model, PAIRS, out=tmp_path, lora=2, **FAST)
    finally:
        handle.remove()
    assert same(weights(model), before)


def test_an_infinite_rate_of_learning_is_caught_as_well(tmp_path):
    settings = {**FAST, "learning_rate": 1e30, "clip": 0.0, "schedule": "constant"}
    with pytest.raises(TrainingError, match=r"at step \d+ .*diverged"):
        ck.train("deductor-5k-base", PAIRS, out=tmp_path, **settings)


def test_an_overlap_of_validation_and_training_is_refused_by_name(tmp_path):
    twin = Example("  " + PAIRS[3].question.replace(". ", ".  "), "other")
    with pytest.raises(TrainingError, match=r"1 of 2 validation questions .* 'Every vumpus is loud\. Max is a vumpus"):
        ck.train("deductor-5k-base", PAIRS, validation=[Example("a", "b"), twin], out=tmp_path, **FAST)
    assert not list(tmp_path.iterdir())


def test_a_task_is_learnt_as_it_is_asked(tmp_path):
    task = prontoqa.task("implication_elimination", shots=0, n=8)
    trained = ck.train("deductor-5k-base", task, validation=0.25, out=tmp_path, **FAST)
    assert trained.recipe.template == "{question} {chain}"
    assert trained.examples["n"] == 6 and trained.examples["validation"]["n"] == 2
    model = ck.load("deductor-5k-base")
    rows = layout.rows_of([Example(task.items[0].question, task.items[0].gold)], trained.recipe, model.tokenizer, 512)
    prompt = model.tokenizer(task.items[0].question)["input_ids"]
    row = rows[0]
    assert row["input_ids"][: len(prompt)] == prompt
    assert [label == -100 for label in row["labels"]] == [at < len(prompt) for at in range(len(row["labels"]))]


def test_what_cannot_be_trained_is_told(tmp_path):
    model = ck.load("deductor-5k-base")
    with model.intervene([]), pytest.raises(TrainingError, match="a context holds"):
        ck.train(model, PAIRS, out=tmp_path, **FAST)
    bare = ck.Model(copy.deepcopy(model.hf), None)
    with pytest.raises(TrainingError, match="no tokenizer"):
        ck.train(bare, PAIRS, out=tmp_path, **FAST)
    with pytest.raises(TrainingError, match="no preset 'threshold'; there are thresholds"):
        ck.train(model, PAIRS, out=tmp_path, preset="threshold")
    with pytest.raises(TrainingError, match="has no setting 'lr'"):
        ck.train(model, PAIRS, out=tmp_path, lr=1.0)
    with pytest.raises(TrainingError, match="give one"):
        ck.train(model, PAIRS, out=tmp_path, method="distil")
    with pytest.raises(TrainingError, match="has no module 'head'"):
        ck.train(model, PAIRS, out=tmp_path, train="head", **FAST)
    with pytest.raises(TrainingError, match="embed and lm_head in one tensor: name lm_head too"):
        ck.train(model, PAIRS, out=tmp_path, train="embed", **FAST)
    with pytest.raises(TrainingError, match="layer 7 does not exist"):
        ck.train(model, PAIRS, out=tmp_path, layers=(7,), **FAST)
    with pytest.raises(TrainingError, match="compares validation losses, and none"):
        ck.train(model, PAIRS, out=tmp_path / "rule", rule="best", **FAST)


def test_answers_are_not_left_out_unless_that_is_said(tmp_path):
    answered = [Example(each.question, each.chain, "yes") for each in PAIRS]
    with pytest.raises(TrainingError, match=r"24 of 24 examples have an answer .* no place for"):
        ck.train("deductor-5k-base", answered, out=tmp_path / "1", **FAST)
    how = {**FAST, "max_steps": 1}
    assert ck.train("deductor-5k-base", answered, out=tmp_path / "2", template="{question} {chain}", **how).chosen == 1


def test_a_step_without_any_loss_is_no_divergence(tmp_path):
    settings = {"layout": "pack", "context": 8, "batch_size": 1, "max_steps": 12, "learning_rate": 1e-4}
    curve = ck.train("deductor-5k-base", PAIRS, out=tmp_path, progress=False, **settings).curve
    assert (curve["loss"] == 0).any() and (curve["loss"] > 0).any()


def test_an_adapter_on_tied_weights_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="embeds and unembeds"):
        ck.train("deductor-5k-base", PAIRS, out=tmp_path, lora=LoRA(1, roles=("embed", "lm_head")), **FAST)


def test_weights_in_which_steps_round_away_are_warned_of(tmp_path):
    model = ck.load("deductor-5k-base", dtype=torch.bfloat16)
    with pytest.warns(UserWarning, match="trained are bfloat16, in which most small steps round away"):
        ck.train(model, PAIRS, out=tmp_path / "1", **{**FAST, "max_steps": 1})
    model.hf.save_pretrained(tmp_path / "narrow")
    model.tokenizer.save_pretrained(tmp_path / "narrow")
    named = ck.train(tmp_path / "narrow", PAIRS, out=tmp_path / "2", **{**FAST, "max_steps": 1})
    assert {tensor.dtype for tensor in weights(named.model).values()} == {torch.float32}


def test_an_unfinished_folder_is_not_loaded(tmp_path):
    with pytest.raises(TrainingError, match=r"no finished training: it has no trained\.json"):
        Trained.load(tmp_path)
    (tmp_path / "training.json").write_text(json.dumps({"weights": "other"}))
    with pytest.raises(TrainingError, match="another training"):
        ck.train("deductor-5k-base", PAIRS, out=tmp_path, **FAST)


def test_nothing_is_printed_without_progress(tmp_path, capfd):
    ck.train(ck.load("deductor-5k-base"), PAIRS, validation=0.25, out=tmp_path / "1", **FAST)
    capfd.readouterr()
    model = ck.load("deductor-5k-base")
    capfd.readouterr()
    ck.train(model, PAIRS, validation=0.25, out=tmp_path / "2", **FAST)
    assert capfd.readouterr() == ("", "")
    ck.train(model, PAIRS, out=tmp_path / "3", **{**FAST, "progress": True})
    told = capfd.readouterr()
    assert "training deductor-5k-base" in told.err and "loss=" in told.err and not told.out


RANK_ONE = {"lora": LoRA(1, roles=("o_proj", "down_proj"))}
ZOO = [
    *(("gpt2", {}), ("gpt_neox", {}), ("mixtral", {}), ("gpt2", RANK_ONE)),
    *(pytest.param(name, how, marks=pytest.mark.slow) for name in architectures.NAMES for how in ({}, RANK_ONE)),
]


@pytest.mark.parametrize(("name", "settings"), ZOO)
def test_an_earlier_checkpoint_is_held_and_gone_on_from_on_any_architecture(tmp_path, name, settings):
    """Also where weights are saved under other names than their modules have."""
    words = [Example(f"w{at} w{at + 1} w{at + 2}", f"w{at + 3} w{at + 4}") for at in range(10, 20)]
    settings = {**settings, "batch_size": 5, "template": "{question} {chain}", "end": False, "learning_rate": 1e-2}
    settings |= {"max_steps": 4, "checkpoint_every": 2, "progress": False}
    model = ck.Model(*architectures.build(name), name=name)
    whole = ck.train(model, words, out=tmp_path, rule="last", keep="all", **settings)
    assert same(weights(whole.model), weights(Trained.load(tmp_path).model))
    half = ck.Model(*architectures.build(name), name=name)
    ck.train(half, words, out=tmp_path / "half", rule="last", **{**settings, "max_steps": 2, "schedule": "constant"})
    for folder in ("trained.json", "checkpoints/step-00004"):
        path = tmp_path / folder
        path.unlink() if path.is_file() else shutil.rmtree(path)
    again = ck.Model(*architectures.build(name), name=name)
    ck.train(again, words, out=tmp_path, rule="last", keep="all", **settings)
    assert same(weights(again), weights(model))
    # Two trainings of the same two first steps, one of which chooses them out of four.
    best = ck.Model(*architectures.build(name), name=name)
    settings |= {"schedule": "constant", "evaluate_every": 2}
    against = [Example("w30 w31", "w32 w33")]
    chosen = ck.train(best, words, validation=against, out=tmp_path / "best", rule="best", **settings)
    if chosen.chosen == 2:
        assert same(weights(best), weights(half))
    else:
        assert not same(weights(best), weights(half))


def test_a_training_in_bfloat16_keeps_weights_in_fp32_and_leaves_the_next_alone(tmp_path):
    first = ck.train("deductor-5k-base", PAIRS, out=tmp_path / "1", **FAST)
    narrow = ck.train("deductor-5k-base", PAIRS, out=tmp_path / "2", dtype="bfloat16", **FAST)
    after = ck.train("deductor-5k-base", PAIRS, out=tmp_path / "3", gradient_checkpointing=True, **FAST)
    assert {tensor.dtype for tensor in weights(narrow.model).values()} == {torch.float32}
    difference = (narrow.curve["loss"] - first.curve["loss"]).abs()
    assert 0 < difference.max() < 0.05
    assert after.curve["loss"].tolist() == first.curve["loss"].tolist()
