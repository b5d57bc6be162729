"""Checkpoint rules on synthetic curves, against their definitions written out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuitkit.training import rules
from circuitkit.training.errors import TrainingError

RULES = ("best", "last within", "last")
# Few values, so that equal losses are common.
LOSSES = st.lists(st.one_of(st.sampled_from([0.5, 0.55, 0.6, 0.7, 1.0]), st.floats(0, 5)), min_size=1, max_size=12)


@st.composite
def curves(draw):
    losses = draw(LOSSES)
    rising = draw(st.lists(st.integers(1, 50), min_size=len(losses), max_size=len(losses)))
    return [sum(rising[: at + 1]) for at in range(len(losses))], losses


def u_shaped(steps, lowest_at, rise):
    return [1.0 + rise * (step - lowest_at) ** 2 for step in steps]


def test_a_curve_that_falls_and_rises_has_its_best_in_the_valley_and_its_last_within_on_the_rise():
    steps = list(range(10, 301, 10))
    losses = u_shaped(steps, 100, 1e-5)
    assert rules.choose(steps, losses, "best") == 100
    # 1e-5 · (200 − 100)² = 0.1 is within the margin, 1e-5 · (210 − 100)² = 0.121 is not.
    assert rules.choose(steps, losses, "last within", 0.1001) == 200
    assert rules.choose(steps, losses, "last within", 0.0) == 100
    assert rules.choose(steps, losses, "last") == 300


def test_a_curve_that_leaves_the_margin_and_comes_back_is_taken_where_it_is_back():
    assert rules.choose([1, 2, 3, 4, 5], [1.0, 2.0, 1.05, 3.0, 3.0], "last within", 0.1) == 3


def test_equal_losses_give_the_first_as_best_and_the_last_as_last_within():
    steps, losses = [5, 10, 15], [0.7, 0.7, 0.7]
    assert rules.choose(steps, losses, "best") == 5
    assert rules.choose(steps, losses, "last within", 0.0) == 15


@given(curves(), st.floats(0, 1))
def test_each_rule_is_its_definition(curve, margin):
    steps, losses = curve
    best = rules.choose(steps, losses, "best")
    within = rules.choose(steps, losses, "last within", margin)
    by_step = dict(zip(steps, losses, strict=True))
    assert by_step[best] == min(losses) and all(by_step[s] > by_step[best] for s in steps if s < best)
    assert by_step[within] <= min(losses) + margin and all(
        by_step[s] > min(losses) + margin for s in steps if s > within
    )
    assert best <= within <= rules.choose(steps, losses, "last") == steps[-1]


@given(curves(), st.floats(0, 1), st.sampled_from(["choosable", "any margin", "all"]))
def test_what_is_pruned_as_the_training_goes_on_is_never_missed(curve, margin, keep):
    steps, losses = curve
    on_disk = []
    for at, (step, loss) in enumerate(zip(steps, losses, strict=True)):
        on_disk.append((step, loss))
        staying = rules.kept([s for s, _ in on_disk], [v for _, v in on_disk], margin, keep)
        on_disk = [(s, v) for s, v in on_disk if s in staying]
        left = [s for s, _ in on_disk], [v for _, v in on_disk]
        for rule in RULES:
            asked = [margin] if keep == "choosable" else [0.0, margin, 2 * margin, 10.0]
            for other in asked:
                whole = rules.choose(steps[: at + 1], losses[: at + 1], rule, other)
                assert rules.choose(*left, rule, other) == whole
    assert len(on_disk) <= (3 if keep == "choosable" else len(steps))


@given(curves())
def test_any_margin_keeps_no_more_than_some_margin_could_choose(curve):
    steps, losses = curve
    lowest = min(losses)
    choosable = {rules.choose(steps, losses, "last within", max(0.0, loss - lowest) + 1e-9) for loss in losses}
    choosable |= {rules.choose(steps, losses, "last within", max(0.0, loss - lowest)) for loss in losses}
    choosable |= {steps[-1], rules.choose(steps, losses, "best")}
    assert rules.kept(steps, losses, keep="any margin") <= choosable


def test_a_checkpoint_without_a_measured_loss_is_chosen_as_the_last_only():
    steps, losses = [10, 20, 30, 40], [None, 0.9, 0.8, None]
    assert [rules.choose(steps, losses, rule) for rule in RULES] == [30, 30, 40]
    assert rules.kept(steps, losses) == {30, 40}
    assert rules.kept(steps, None) == {40}


@pytest.mark.parametrize("rule", ["best", "last within"])
@pytest.mark.parametrize("losses", [None, [None, None]])
def test_without_a_validation_set_only_the_last_can_be_chosen(rule, losses):
    with pytest.raises(TrainingError, match="give a validation set, or choose the rule 'last'"):
        rules.choose([1, 2], losses, rule)
    assert rules.choose([1, 2], losses, "last") == 2


@pytest.mark.parametrize("spoiled", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rule", RULES)
def test_a_loss_that_is_no_number_is_named_by_its_step(rule, spoiled):
    with pytest.raises(TrainingError, match=r"at step 20 is -?(nan|inf).*lower the learning rate"):
        rules.choose([10, 20, 30], [1.0, spoiled, 0.9], rule)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1], [1.0], "newest"), "no checkpoint rule 'newest': choose one of 'best', 'last within', 'last'"),
        (([1], [1.0], "last within", -0.1), "margin is a number of nats from 0 on, not -0.1"),
        (([1], [1.0], "last within", math.nan), "margin is a number of nats from 0 on, not nan"),
        (([], [], "best"), "no checkpoint to choose from"),
        (([2, 1], [1.0, 1.0], "best"), "1 comes after 2"),
        (([1, 1], [1.0, 1.0], "best"), "1 comes after 1"),
        (([1, 2], [1.0], "best"), "1 came for 2"),
    ],
)
def test_what_cannot_be_chosen_from_is_told(arguments, message):
    with pytest.raises(TrainingError, match=message):
        rules.choose(*arguments)


def test_a_way_of_keeping_that_is_not_there_is_told():
    with pytest.raises(TrainingError, match="keep is one of 'choosable', 'any margin', 'all', not 'some'"):
        rules.kept([1], [1.0], keep="some")
