"""Recovered %: against closed forms, Monte Carlo and brute force, and undefined where it has to be."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from circuitkit.statistics import recovered

accuracies = st.floats(0, 100)
errors = st.floats(0.1, 4)
Z = stats.norm.ppf(0.975)


def by_hand(b: float, t: float, s: float, eb: float, et: float, es: float) -> tuple[float, float]:
    """The share and its propagated error, each derivative written out."""
    share = (t - b) / (s - b)
    of_base = (t - s) / (s - b) ** 2
    of_skyline = -(t - b) / (s - b) ** 2
    return share, np.sqrt((et / (s - b)) ** 2 + (of_base * eb) ** 2 + (of_skyline * es) ** 2)


def fieller_by_hand(b: float, t: float, s: float, eb: float, et: float, es: float) -> tuple[float, float]:
    """The roots of the quadratic equation."""
    a = (s - b) ** 2 - Z**2 * (es**2 + eb**2)
    half = (t - b) * (s - b) - Z**2 * eb**2
    c = (t - b) ** 2 - Z**2 * (et**2 + eb**2)
    root = np.sqrt(half**2 - a * c)
    return (half - root) / a, (half + root) / a


@given(accuracies, accuracies, accuracies, errors, errors, errors)
def test_the_error_is_propagated_with_the_base_in_both_and_fieller_solves_its_equation(
    b: float, t: float, s: float, eb: float, et: float, es: float
) -> None:
    assume(s - b > 1.01 * Z * np.hypot(eb, es))
    found = recovered(b, t, s, se=(eb, et, es), draws=20)
    share, error = by_hand(b, t, s, eb, et, es)
    assert found.undefined is None
    assert found.value == pytest.approx(100 * share) and found.se == pytest.approx(100 * error)
    assert (found.low, found.high) == pytest.approx((100 * (share - Z * error), 100 * (share + Z * error)))
    low, high = fieller_by_hand(b, t, s, eb, et, es)
    assert (found.fieller_low, found.fieller_high) == pytest.approx((100 * low, 100 * high), rel=1e-6, abs=1e-6)


@given(accuracies, accuracies, accuracies, errors, errors, st.none() | st.integers(2, 9))
def test_it_is_undefined_exactly_where_the_interval_of_the_skylines_lead_does_not_lie_above_zero(
    b: float, t: float, s: float, eb: float, es: float, runs: int | None
) -> None:
    variances = np.array([eb, es]) ** 2
    freedom = np.inf if runs is None else variances.sum() ** 2 * (runs - 1) / (variances**2).sum()
    lead = s - b - stats.t.ppf(0.975, freedom) * np.sqrt(variances.sum())
    assume(abs(lead) > 1e-6)
    found = recovered(b, t, s, se=(eb, 1.0, es), runs=runs, draws=20)
    if lead > 0:
        assert found.undefined is None and np.isfinite([found.value, found.fieller_low, found.fieller_high]).all()
        assert found.fieller_low < found.value < found.fieller_high and found.low < found.value < found.high
    else:
        assert "undefined: the skyline" in found.undefined and "the base" in found.undefined
        assert np.isnan([found.value, found.se, found.low, found.fieller_high, found.bootstrap_low]).all()


@given(accuracies, st.floats(30, 60), errors, errors, errors, st.floats(0.01, 5), st.floats(-50, 50))
def test_the_unit_and_its_zero_do_not_matter(
    t: float, lead: float, eb: float, et: float, es: float, unit: float, zero: float
) -> None:
    one = recovered(10.0, t, 10 + lead, se=(eb, et, es), runs=4, draws=50)
    other = recovered(
        *(unit * x + zero for x in (10.0, t, 10 + lead)), se=(unit * eb, unit * et, unit * es), runs=4, draws=50
    )
    for name in ("value", "se", "low", "fieller_high", "bootstrap_low", "bootstrap_high"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-6, abs=1e-6)


def test_the_error_is_that_of_monte_carlo() -> None:
    rng = np.random.default_rng(1)
    b, t, s = (rng.normal(mean, se, 400_000) for mean, se in ((14.6, 1.05), (34.2, 1.86), (64.6, 1.72)))
    found = recovered(14.6, 34.2, 64.6, se=(1.05, 1.86, 1.72))
    shares = 100 * (t - b) / (s - b)
    assert found.se == pytest.approx(shares.std(), rel=0.01)
    assert (found.bootstrap_low, found.bootstrap_high) == pytest.approx(
        tuple(np.quantile(shares, [0.025, 0.975])), abs=0.3
    )
    # An error that forgot that the base is in both would be another one, wherever little is recovered.
    near = recovered(14.6, 15.6, 64.6, se=(3.0, 0.5, 0.5))
    apart = 100 * np.hypot(np.hypot(3.0, 0.5) / 50, 1.0 / 50**2 * np.hypot(3.0, 0.5))
    far = recovered(14.6, 60.0, 64.6, se=(3.0, 0.5, 0.5))
    assert near.se == pytest.approx(apart, rel=0.05) and far.se < 0.3 * apart


@pytest.mark.parametrize("runs", [4, 8])
def test_intervals_of_few_runs_cover_as_often_as_they_say(runs: int) -> None:
    # A skyline five errors off the base, as the published GPQA figures have it.
    rng = np.random.default_rng(runs)
    base, trained, skyline = (rng.normal(mean, 2.0, (3000, runs)) for mean in (40.0, 45.0, 50.0))
    means = [each.mean(1) for each in (base, trained, skyline)]
    se = tuple(each.std(1, ddof=1) / np.sqrt(runs) for each in (base, trained, skyline))
    found = recovered(*means, se=se, runs=runs, draws=400)  # type: ignore[arg-type]
    normal = recovered(*means, se=se, draws=400)  # type: ignore[arg-type]

    def covered(low: Any, high: Any) -> float:
        there = np.isfinite(np.where(np.isnan(low), np.nan, 0.0))
        return float(np.mean((low[there] <= 50) & (high[there] >= 50)))

    assert 0.93 < covered(found.low, found.high) < 0.985
    assert 0.93 < covered(found.fieller_low, found.fieller_high) < 0.985
    assert 0.94 < covered(found.bootstrap_low, found.bootstrap_high) <= 1
    assert covered(normal.low, normal.high) < covered(found.low, found.high) - 0.01


def outcomes(rng: np.random.Generator, items: int, shares: tuple[float, ...] = (0.2, 0.5, 0.8)) -> list[Any]:
    """Right or wrong of three models on the same items, some of which are hard for all."""
    hardness = rng.random(items)
    return [(0.5 * hardness + 0.5 * rng.random(items) < share).astype(float) for share in shares]


def test_pairing_over_items_counts() -> None:
    base, trained, skyline = outcomes(np.random.default_rng(0), 400)
    found = recovered(base, trained, skyline, draws=2000)
    share = (trained.mean() - base.mean()) / (skyline.mean() - base.mean())
    leave = np.array(
        [
            (np.delete(trained, i).mean() - np.delete(base, i).mean())
            / (np.delete(skyline, i).mean() - np.delete(base, i).mean())
            for i in range(400)
        ]
    )
    jackknife = np.sqrt(399 / 400 * ((leave - leave.mean()) ** 2).sum())
    assert found.value == pytest.approx(100 * share) and found.se == pytest.approx(100 * jackknife, rel=0.02)
    se = tuple(float(each.std(ddof=1) / 20) for each in (base, trained, skyline))
    assert found.se < 0.9 * recovered(base.mean(), trained.mean(), skyline.mean(), se=se).se  # type: ignore[arg-type]
    oracle = stats.bootstrap(
        (trained - base, skyline - base),
        lambda gain, away, axis: 100 * gain.mean(axis) / away.mean(axis),
        paired=True,
        n_resamples=5000,
        method="BCa",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (found.bootstrap_low, found.bootstrap_high) == pytest.approx((oracle.low, oracle.high), abs=0.7)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=1.5)


def test_a_model_that_answers_as_the_skyline_has_recovered_all_and_one_that_answers_as_the_base_nothing() -> None:
    base, _, skyline = outcomes(np.random.default_rng(0), 60)
    found = recovered(base, np.stack([skyline, base]), skyline)
    for ends in (found.value, found.low, found.high, found.bootstrap_low, found.bootstrap_high, found.fieller_high):
        assert ends.tolist() == pytest.approx([100, 0], abs=1e-6)


def test_clusters_are_drawn_whole() -> None:
    base, trained, skyline = outcomes(np.random.default_rng(3), 50)
    items = list(range(50)) * 4
    four = [np.tile(each, 4) for each in (base, trained, skyline)]
    by_item, once = recovered(*four, groups=items), recovered(base, trained, skyline)
    # Four samples that are alike tell no more than one.
    assert by_item.value == pytest.approx(once.value) and by_item.se == pytest.approx(once.se)
    assert (by_item.bootstrap_low, by_item.fieller_high) == pytest.approx((once.bootstrap_low, once.fieller_high))
    assert recovered(*four).se < 0.6 * once.se


def test_tables_are_taken_at_once_and_tell_their_cells() -> None:
    table = recovered([[10.0], [20.0]], [[12.0, 15.0, 18.0]], [[30.0], [21.0]], se=(1.0, 1.0, 1.0), draws=500)
    assert table.value.shape == (2, 3) and table.frame.shape == (6, 9)
    assert table.frame["undefined"].notna().tolist() == [False] * 3 + [True] * 3
    alone = recovered(10.0, 15.0, 30.0, se=(1.0, 1.0, 1.0), draws=500)
    assert table.value[0, 1] == alone.value and table.fieller_low[0, 1] == pytest.approx(alone.fieller_low)
    assert "25.0 % recovered" in str(alone) and "undefined" in str(table)
    assert "is below the base" in recovered(30.0, 12.0, 10.0, se=(1.0, 1.0, 1.0)).undefined
    both = torch.stack([torch.from_numpy(np.stack(outcomes(np.random.default_rng(k), 80))) for k in range(2)], dim=1)
    cells = recovered(*both)
    assert cells.value.tolist() == pytest.approx([recovered(*both[:, k]).value for k in range(2)])


def test_means_without_errors_are_exact() -> None:
    found = recovered(0.0, 1.0, 4.0, se=(0.0, 0.0, 0.0), runs=4)
    ends = found.value, found.low, found.high, found.fieller_low, found.fieller_high, found.bootstrap_high
    assert ends == pytest.approx((25.0,) * 6)
    assert recovered(1.0, 1.0, 1.0, se=(0.0, 0.0, 0.0)).undefined is not None


@pytest.mark.parametrize(
    ("arguments", "settings", "why"),
    [
        ((1, 2, 3), {"se": (1, -1, 1)}, "0 or more"),
        ((1, np.nan, 3), {"se": (1, 1, 1)}, "finite"),
        ((1, 2, 3), {"se": (1, 1)}, "got 2"),
        ((1, 2, 3), {"se": (1, 1, 1), "runs": 1}, "two runs"),
        ((1, 2, 3), {"se": (1, 1, 1), "groups": [1]}, "leave them out"),
        ((1, 2, 3), {"se": (1, 1, 1), "level": 95}, "level"),
        ((1, 2, 3), {}, "or se is given"),
        (([0, 1], [1, 1], [1, 1, 1]), {}, "the same items"),
        (([0, 1], [1, 1], [1, np.nan]), {}, "NaN"),
        (([0, 1], [1, 1], [1, 1]), {"runs": 4}, "name their groups"),
        (([0, 1], [1, 1], [1, 1]), {"groups": ["a", "a"]}, "two groups"),
        (([0, 1], [1, 1], [1, 1]), {"groups": ["a"]}, "name each example"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[Any, ...], settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        recovered(*arguments, **settings)
