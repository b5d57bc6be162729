"""Pairs of openings as the paper has them, and heads of one model in another."""

import pytest
import torch

import circuitkit as ck
from circuitkit.circuits import CircuitError, attribute, cross_patch, thinking_pairs, written_openings
from circuitkit.circuits.comparing.openings import deductions_with_openings, prompt_ids
from circuitkit.model import planted
from circuits.comparing.twins import pairs_of, with_noise

PROBLEMS, PROOFS, DIRECT = deductions_with_openings(4, hops=1)


@pytest.fixture(scope="module")
def model() -> ck.Model:
    return ck.load("deductor-5k")


def test_both_sides_have_the_same_prompts_swapped_and_the_models_own_next_token(model):
    thinking = thinking_pairs(model, PROBLEMS, PROOFS, "Max is", n_tokens=3)
    direct = thinking_pairs(model, PROBLEMS, PROOFS, "Max is", n_tokens=3, clean="direct")
    assert thinking.pairs.clean == direct.pairs.corrupt and thinking.pairs.corrupt == direct.pairs.clean
    assert thinking.align == "tokens" and all(len(each) == 2 for each in thinking.clean_openings)
    alone = model.run([thinking.pairs.clean[0]], logits_at=-1).logits.argmax(-1)
    assert thinking.pairs.answer[0].item() == alone.item()
    graph = attribute(model, thinking.pairs, thinking.metric, align=thinking.align, progress=False)
    assert bool((graph.scores != 0).any())


def test_whole_openings_correspond_from_their_ends(model):
    found = thinking_pairs(model, PROBLEMS, PROOFS, DIRECT, n_tokens=3, lengths="whole")
    [(ours, theirs)] = found.align
    before = [len(ids) for ids in prompt_ids(model, PROBLEMS, None, None)]
    for row, (one, other) in enumerate(zip(ours.rows, theirs.rows, strict=True)):
        assert one == (*range(before[row]), before[row] + 2) and other == tuple(range(before[row] + 1))
    graph = attribute(model, found.pairs, found.metric, align=found.align, progress=False)
    assert bool((graph.scores != 0).any())


def test_a_chat_template_turns_thinking_on_and_off(model):
    tokenizer = ck.load("deductor-5k").tokenizer
    tokenizer.chat_template = (
        "{% for m in messages %}Q: {{ m['content'] }}\nA:{% endfor %}{% if not enable_thinking %} True{% endif %}"
    )
    chatting = ck.Model(model.hf, tokenizer)
    found = thinking_pairs(chatting, ["Fae is loud."], " Fae", " Fae", think=True, direct_think=False)
    texts = [tokenizer.decode(side[0]) for side in (found.pairs.clean, found.pairs.corrupt)]
    assert texts == ["Q: Fae is loud.\nA: Fae", "Q: Fae is loud.\nA: True Fae"]
    assert found.align != "tokens"


def test_openings_of_both_sides_are_drawn_apart(model):
    found = thinking_pairs(model, PROBLEMS * 8, [" Max", " Rex"], [" Fae", " Sam"], n_tokens=1)
    assert len(set(zip(found.clean_openings, found.corrupt_openings, strict=True))) == 4


def test_written_openings_are_what_the_model_writes_alone(model):
    together = written_openings(model, PROBLEMS, 4)
    assert together[1] == written_openings(model, PROBLEMS[1:2], 4)[0]
    drawn = [written_openings(model, PROBLEMS, 4, temperature=2.0, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_pairs_that_say_nothing_are_refused(model):
    with pytest.raises(CircuitError, match="same tokens"):
        thinking_pairs(model, PROBLEMS, " Max", " Max")
    with pytest.raises(CircuitError, match="no thinking openings"):
        thinking_pairs(model, PROBLEMS, [], " Max")
    with pytest.raises(CircuitError, match="2 direct problems for 4"):
        thinking_pairs(model, PROBLEMS, " Max", " Rex", direct_problems=PROBLEMS[:2])


# Heads of one model in another


@pytest.fixture(scope="module")
def twins():
    plant = planted.build("planted-induction-llama")
    head = plant.circuit["induction"]
    return with_noise(plant, head, 0), ck.Model(plant.model, plant.tokenizer), pairs_of(plant, 4, 0), head


def test_the_one_head_that_differs_carries_one_model_into_the_other(twins):
    base, post, pairs, head = twins
    found = cross_patch(base, post, pairs, {"planted": [head], "other": [(0, 0)]}, controls=2, progress=False)
    torch.testing.assert_close(found.patched[:, 0], found.giving, rtol=0, atol=2e-5)
    assert not torch.allclose(found.receiving, found.giving, atol=0.1)
    torch.testing.assert_close(found.patched[:, 1], found.receiving, rtol=0, atol=2e-5)
    rows = found.frame.set_index(["direction", "set"])
    assert rows.loc[("base + post", "planted"), "share"] == pytest.approx(1, abs=1e-4)
    assert rows["controls"].tolist() == [2, 2, 2, 2] and rows["control_mean"].abs().max() < 1e-4
    # The weights that write are what differs, so z alone changes nothing.
    moved = cross_patch(base, post, pairs, [head], what="z", controls=0, progress=False)
    torch.testing.assert_close(moved.patched[:, 0], moved.receiving, rtol=0, atol=2e-5)
    assert "no other heads" in str(moved)


def test_models_and_metrics_that_have_nothing_in_common_are_refused(twins):
    base, _, pairs, head = twins
    with pytest.raises(CircuitError, match="another architecture"):
        cross_patch(base, ck.load("deductor-5k"), pairs, [head])
    with pytest.raises(CircuitError, match="own clean one"):
        cross_patch(base, base, pairs, [head], "kl")
    small, other = ck.load("deductor-5k"), ck.load("deductor-5k-base")
    words = other.tokenizer.backend_tokenizer.to_str().replace('" loud"', '" LOUD"')
    other.tokenizer = type(other.tokenizer)(
        tokenizer_object=other.tokenizer.backend_tokenizer.from_str(words), unk_token="<unk>", pad_token="<pad>"
    )
    with pytest.raises(CircuitError, match="other tokens"):
        cross_patch(small, other, ck.Pairs(["Fae is loud."], ["Rex is loud."], [" Fae"]), [(0, 0)])
