"""The decoders that are compared have one size, see one stream of data, and can be looked into."""

import itertools
from pathlib import Path

import pytest
import torch
from decoders import openelm_style
from decoders.answers import JUDGES, answered, as_table, exam
from decoders.shapes import (
    ARCHITECTURES,
    CONTEXT,
    LAYERS,
    OPENELM_HEADS,
    PARAMETERS,
    feed_forward,
    new_decoder,
    parameters,
)
from decoders.study import TUNING_SEED, Plan
from decoders.training import (
    HELD_OUT,
    KINDS,
    held_out,
    pool,
    said,
    save_decoder,
    trained,
    training_batches,
    validation_loss,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from train_deductors import fit, tokenizer

import circuitkit as ck
from circuitkit.tasks import prontoqa


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sizes_are_equal_to_within_one_per_cent(architecture: str) -> None:
    assert abs(parameters(new_decoder(architecture, 0)) / PARAMETERS - 1) < 0.003


@settings(max_examples=4)
@given(wanted=st.integers(90_000, 400_000))
def test_any_size_is_met_by_all(wanted: int) -> None:
    for architecture in ARCHITECTURES:
        assert abs(parameters(new_decoder(architecture, 0, wanted)) / wanted - 1) <= 0.01


def test_a_size_out_of_reach_is_refused() -> None:
    with pytest.raises(ValueError, match="GPT-2 of this width and depth has"):
        feed_forward("GPT-2", 40_000)
    with pytest.raises(ValueError, match="no architecture 'RNN'"):
        feed_forward("RNN")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_tapped_and_patched(architecture: str) -> None:
    model = ck.Model(new_decoder(architecture, 0).eval(), tokenizer())
    heads = OPENELM_HEADS if architecture == "OpenELM" else [4] * LAYERS
    assert [model.n_heads(layer) for layer in range(LAYERS)] == heads
    prompts = [example.prompt for example in held_out("test")[:3]]
    run = model.run(prompts, capture=["z", "pattern", "resid_post"], logits_at=-1)
    assert all(run.cache[ck.Site("pattern", layer=layer)].shape[1] == heads[layer] for layer in range(LAYERS))
    changed = model.run(prompts, [ck.zero(ck.Site("z", layer=LAYERS - 1))], logits_at=-1)
    assert not torch.equal(changed.logits, run.logits)


def test_openelm_grows_from_layer_to_layer() -> None:
    layers = new_decoder("OpenELM", 0).transformer.layers
    widths = [layer.ffn.proj_2.in_features for layer in layers]
    assert widths == sorted(widths) and widths[-1] == pytest.approx(8 * widths[0], rel=0.05)
    assert [layer.attn.num_q_heads for layer in layers] == OPENELM_HEADS


def test_questions_are_distinct_and_none_is_held_out() -> None:
    drawn = [said(example) for example in pool(700, seed=0)]
    withheld = {said(example) for part in HELD_OUT for example in held_out(part)}
    assert len(set(drawn)) == 700 and not withheld & set(drawn)


def test_a_question_is_the_same_in_any_order_of_its_sentences() -> None:
    first, second = held_out("test")[1], held_out("test")[15]
    assert first.rule == second.rule and said(first) != said(second)
    sentences = first.question.removesuffix(".").split(". ")
    turned = type(first)(**{**vars(first), "question": ". ".join(reversed(sentences)) + "."})
    assert len(sentences) > 1 and said(turned) == said(first)


def test_less_data_is_the_beginning_of_more() -> None:
    assert pool(56, seed=3) == pool(140, seed=3)[:56]
    assert pool(56, seed=3) != pool(56, seed=4)


def test_kinds_are_equally_frequent() -> None:
    counts = [sum((example.rule, example.hops) == kind for example in pool(280, seed=0)) for kind in KINDS]
    assert min(counts) >= 18 and sum(counts) == 280


def test_more_questions_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("decoders.training.prontoqa.sample", lambda random, rule, hops: held_out("test")[0])
    with pytest.raises(ValueError, match="only 0 different questions"):
        pool(5, seed=0)


def test_equal_seeds_give_equal_batches() -> None:
    first, again, other = (list(itertools.islice(training_batches(40, seed, 4), 12)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True))
    assert any(a[0].shape != b[0].shape or not torch.equal(a[0], b[0]) for a, b in zip(first, other, strict=True))


def test_every_question_comes_once_a_round() -> None:
    # 64 questions are one round of sixteen batches of four.
    seen = [
        tuple(row[row != tokenizer().pad_token_id].tolist())
        for tokens, _ in itertools.islice(training_batches(64, 0, 4), 32)
        for row in tokens
    ]
    assert sorted(seen[:64]) == sorted(seen[64:]) and len(set(seen)) == 64 and seen[:64] != seen[64:]


def test_validation_loss_is_that_of_each_proof_alone() -> None:
    model, words = new_decoder("GPT-2", 0), tokenizer()
    total, count = 0.0, 0
    with torch.inference_mode():
        for example in held_out("validation"):
            prompt, answer = words(example.prompt)["input_ids"], words(example.answer)["input_ids"]
            ids = torch.tensor([[*prompt, *answer, words.eos_token_id]])
            logs = model.eval()(ids).logits[0, :-1].log_softmax(-1)
            told = -logs.gather(1, ids[0, 1:, None])[len(prompt) - 1 :]
            total, count = total + told.sum().item(), count + len(told)
    assert validation_loss(model) == pytest.approx(total / count, abs=1e-5)


def test_a_training_is_the_same_again_and_learns() -> None:
    told = {"questions": 28, "seed": 0, "learning_rate": 3e-3, "batch": 4, "size": PARAMETERS}
    first, again = (trained("Llama", steps=8, **told) for _ in range(2))
    assert torch.equal(_weights(first), _weights(again)) and first["validation_loss"] == again["validation_loss"]
    losses = first["losses"]
    assert isinstance(losses, Tensor) and len(losses) == 8 and losses[-1] < losses[0]


def test_fitting_draws_one_batch_a_step() -> None:
    source = training_batches(28, 0, 4)
    losses = list(itertools.islice(fit(new_decoder("OpenELM", 0), source, 3, 1e-3), 3))
    fresh = training_batches(28, 0, 4)
    for _ in range(3):
        next(fresh)
    assert len(losses) == 3 and torch.equal(next(source)[0], next(fresh)[0])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_decoder_loads_as_it_was(architecture: str, tmp_path: Path) -> None:
    model = new_decoder(architecture, 5).eval()
    weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    save_decoder(architecture, PARAMETERS, weights, tmp_path)
    assert openelm_style.OpenELMConfig.model_type == "openelm"  # known to transformers once imported
    loaded = ck.load(str(tmp_path))
    for example in held_out("test")[:2]:
        with torch.inference_mode():
            expected = model(loaded.tokens([example.prompt]).ids).logits[:, -1]
        assert torch.allclose(loaded.run([example.prompt], logits_at=-1).logits, expected, atol=1e-5)


def test_the_exam_is_the_held_out_questions_and_its_gold_is_right() -> None:
    task = exam(3)
    assert {item.question for item in task.items} == {example.prompt for example in held_out("test")[: 3 * len(KINDS)]}
    for item in task.items:
        assert all(judge(item, item.gold).correct for judge in task.judges.values())
    words = tokenizer()
    for item in task.items:
        assert len(words(item.question)["input_ids"]) + task.max_new_tokens <= CONTEXT
        assert len(words(item.gold)["input_ids"]) < task.max_new_tokens
    with pytest.raises(ValueError, match="1 to 100 test questions"):
        exam(0)


def test_answers_are_judged_and_kept(tmp_path: Path) -> None:
    weights = torch.nn.utils.parameters_to_vector(new_decoder("OpenELM", 0).parameters()).detach()
    save_decoder("OpenELM", PARAMETERS, weights, tmp_path)
    table = as_table(answered(tmp_path / "model.safetensors", 1)["answers"])
    assert list(zip(table["rule"], table["hops"], strict=True)) == list(KINDS)
    assert not table[list(JUDGES)].to_numpy().any() and table["n_tokens"].le(116).all()
    assert set(prontoqa.RULES) == set(table["rule"])


@pytest.mark.parametrize(
    ("changed", "said_so"),
    [
        ({"seeds": (0,)}, "seeds: two different ones"),
        ({"questions": (10, 10)}, "questions: two different ones"),
        ({"seeds": (0, TUNING_SEED)}, "is the tuning's"),
        ({"rates": ()}, "learning rates"),
        ({"steps": 0}, "learning rates, steps"),
    ],
)
def test_a_plan_that_cannot_be_compared_is_refused(changed: dict[str, object], said_so: str) -> None:
    with pytest.raises(ValueError, match=said_so):
        Plan(**changed)


def test_rates_are_tuned_on_the_middle_amount_with_a_seed_apart() -> None:
    plan = Plan()
    assert plan.tuned_on == 4_000 and TUNING_SEED not in plan.seeds
    assert [plan.rounds(amount) for amount in plan.questions] == [16, 4, 1]


def _weights(told: object) -> Tensor:
    weights = told["weights"]  # type: ignore[index]  # a mapping
    assert isinstance(weights, Tensor)
    return weights
