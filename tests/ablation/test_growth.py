"""Joint sets and greedy growth: against an exhaustive search, and planted circuits."""

from itertools import product

import pandas as pd
import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.metrics import Metric
from circuitkit.model import planted


def drawn(n: int = 4, length: int = 6, seed: int = 2) -> ck.Pairs:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, architectures.VOCABULARY, (n, length), generator=generator)
    ids = torch.randint(5, architectures.VOCABULARY, (n, 2), generator=generator)
    return ck.Pairs(tokens, tokens.flip(1), ids[:, 0], ids[:, 1])


def test_growth_takes_what_costs_most_at_each_step():
    hf, _ = architectures.build("llama")
    model, pairs = ck.Model(hf), drawn()
    growth = ck.ablation.grow(model, pairs, 3, controls=4, progress=False)
    grown: list[tuple[int, int]] = []
    for size, head in enumerate(growth.heads):
        left = [each for each in product(range(3), range(4)) if each not in grown]
        tried = ck.ablation.sets(model, pairs, [[*grown, each] for each in left], controls=0, progress=False).result
        assert head == left[int(tried.effects.argmax())]
        torch.testing.assert_close(growth.result.per_example[size], tried.per_example[left.index(head)])
        grown.append(head)


def test_growth_under_a_divergence_makes_it_rise():
    hf, _ = architectures.build("llama")
    model, tokens = ck.Model(hf), drawn().clean
    growth = ck.ablation.grow(model, tokens, 1, controls=2, progress=False)
    single = ck.ablation.sweep(model, tokens, progress=False)
    assert growth.result.metric == "kl"
    assert single.values[growth.heads[0]] == single.values.max()


def test_growth_under_a_loss_of_ones_own_makes_it_rise():
    hf, _ = architectures.build("llama")
    model, pairs = ck.Model(hf), drawn()

    def loss(logits, targets):
        return -logits.log_softmax(-1).gather(-1, targets.answer)[:, 0]

    # One token's cross-entropy by another name, which says nothing of its direction.
    surprise = Metric("surprise", loss, higher_is_better=False)
    expected = ck.ablation.grow(model, pairs, 2, metric="cross_entropy", controls=1, progress=False)
    growth = ck.ablation.grow(model, pairs, 2, metric=surprise, controls=1, progress=False)
    assert growth.heads == expected.heads
    falls = ck.ablation.grow(model, pairs, 1, metric=loss, controls=1, progress=False)
    assert falls.result.values[0] < growth.result.values[0]


def test_controls_are_matched_and_told_when_they_overlap():
    hf, _ = architectures.build("llama")
    model, pairs = ck.Model(hf), drawn()
    growth = ck.ablation.grow(model, pairs, 4, heads=[(1, head) for head in range(4)], controls=5, progress=False)
    assert growth.disjoint == (True, True, False, False)
    # Three others of one, one other pair of two, three other triples of three, and no other whole layer.
    assert growth.frame["control_n"].tolist() == [3, 1, 3, 0]
    assert growth.controls[3] is None and growth.frame["control_p"].isna().tolist() == [False] * 3 + [True]
    other_pair = sorted({0, 1, 2, 3} - {head for _, head in growth.heads[:2]})
    expected = ck.ablation.sets(model, pairs, [[(1, head) for head in other_pair]], progress=False).result.effects[0]
    assert growth.controls[1].controls[0] == pytest.approx(float(expected), abs=1e-5)


def test_given_sets_stand_beside_the_same_controls_as_a_grown_one():
    hf, _ = architectures.build("llama")
    model, pairs = ck.Model(hf), drawn()
    growth = ck.ablation.grow(model, pairs, 4, heads=[(1, head) for head in range(4)], controls=5, progress=False)
    joint = ck.ablation.sets(model, pairs, growth.sets, controls=5, progress=False)
    torch.testing.assert_close(joint.result.per_example, growth.result.per_example)
    assert joint.disjoint == growth.disjoint and joint.controls[3] is None
    columns = ["effect", "p_corrected", "control_mean", "control_low", "control_high", "control_p", "control_n"]
    pd.testing.assert_frame_equal(joint.frame[columns], growth.frame[columns], check_exact=False)
    # Controls are what the sets that they stand for measure, in the metric's unit.
    [control] = ck.ablation.sets(model, pairs, [[(0, 1), (2, 3)]], controls=40, progress=False).controls
    others = [[(0, a), (2, b)] for a, b in product((0, 2, 3), (0, 1, 2))]
    alone = ck.ablation.sets(model, pairs, others, controls=0, progress=False)
    assert control.controls == pytest.approx(alone.result.effects.tolist(), abs=1e-5)
    assert alone.controls == (None,) * 9 and alone.frame["control_p"].isna().all()


@pytest.mark.parametrize("how", ["mean", "resample", "scale"])
def test_controls_are_ablated_in_the_same_way(how):
    hf, _ = architectures.build("llama")
    model, pairs = ck.Model(hf), drawn()
    factor = 0.5 if how == "scale" else None
    [control] = ck.ablation.sets(model, pairs, [[(1, 2)]], how, controls=3, factor=factor, progress=False).controls
    heads = ck.ablation.sweep(model, pairs, how=how, factor=factor, progress=False)
    assert control.observed == pytest.approx(float(heads.effects[1, 2]), abs=1e-5)
    assert control.controls == pytest.approx(heads.effects[1, [0, 1, 3]].tolist(), abs=1e-5)


@pytest.mark.parametrize("name", planted.names())
def test_a_planted_circuit_costs_more_than_any_random_set(name):
    plant = planted.build(name)
    pairs = ck.Pairs(*plant.pairs(8, seed=3, length=14))
    joint = ck.ablation.sets(ck.load(name), pairs, {"circuit": plant.heads}, "mean", progress=False)
    [control] = joint.controls
    assert len(control.controls) == 20 and control.p == pytest.approx(1 / 21)
    assert control.high < 0.2 * control.observed


@pytest.mark.parametrize("name", planted.names())
def test_planted_heads_come_first(name):
    plant = planted.build(name)
    pairs = ck.Pairs(*plant.pairs(8, seed=3, length=14))
    model = ck.load(name)
    growth = ck.ablation.grow(model, pairs, 1, "mean", controls=7, progress=False)
    assert growth.heads[0] in plant.heads
    assert growth.result.normalised[0] > 0.5
    assert growth.controls[0].high < 0.3 * growth.result.effects[0]


def test_a_grown_set_holds_the_circuits_last_heads():
    plant = planted.build("planted-induction-gpt2")
    pairs = ck.Pairs(*plant.pairs(8, seed=3, length=12))
    # Without the head that all rest on, the two that read it are to be found, and no decoy.
    rest = [head for head in product(range(5), range(8)) if head != plant.circuit["previous"]]
    growth = ck.ablation.grow(ck.load(plant.name), pairs, 2, "mean", heads=rest, controls=3, progress=False)
    assert set(growth.heads) == {plant.circuit["induction"], plant.circuit["saturated"]}
    assert (growth.result.normalised[1] > 0.8).item()


def test_bad_sets_are_named():
    hf, _ = architectures.build("llama")
    model, pairs = ck.Model(hf), drawn()
    with pytest.raises(ValueError, match="set 'late' is empty"):
        ck.ablation.sets(model, pairs, {"late": []})
    with pytest.raises(ValueError, match="names a head twice"):
        ck.ablation.sets(model, pairs, [[(0, 1), (0, 1)]])
    with pytest.raises(ValueError, match="0 or more, not -1"):
        ck.ablation.sets(model, pairs, [[(0, 1)]], controls=-1)
    with pytest.raises(ValueError, match="13 heads cannot be grown from 12"):
        ck.ablation.grow(model, pairs, 13)
    named = ck.ablation.sets(model, pairs, {"late": [(2, 0), (2, 1)]}, controls=1, progress=False)
    assert named.frame["set_label"].tolist() == ["late"]
