"""What is said of all searches for a threshold together, from tables with fixed numbers."""

import pandas as pd
import pytest
from threshold_answer import answer, corrected


def searches(*told: tuple[str, str, float, float]) -> pd.DataFrame:
    rows = [
        {"task": task, "verdict": verdict, "p": p, "p_trend": p_trend, "breakpoint": 2e9, "low": 1e9, "high": 3e9}
        for task, verdict, p, p_trend in told
    ]
    return corrected(pd.DataFrame(rows))


def test_a_search_is_held_against_all_by_its_larger_p() -> None:
    fits = searches(("a", "threshold", 0.001, 0.004), ("b", "growth", 0.4, 0.001), ("c", "flat", 0.02, 0.03))
    assert fits["p_corrected"].tolist() == pytest.approx([0.012, 0.4, 0.06])


def test_every_verdict_is_counted_and_only_what_survives_stands() -> None:
    fits = searches(
        ("sums", "threshold", 0.001, 0.001),
        ("dates", "threshold", 0.04, 0.002),
        ("rules", "possible", 0.02, 0.002),
        ("names", "growth", 0.4, 0.002),
        ("trees", "growth", 0.3, 0.002),
        ("songs", "flat", 0.9, 0.8),
    )
    assert answer(fits, draws=999) == (
        "Of 6 searches, 2 find a threshold: "
        "sums at 2B (1B to 3B; p = 0.006 corrected over all 6 searches, Holm); "
        "dates at 2B (1B to 3B; p = 0.16 corrected over all 6 searches, Holm). "
        "Corrected over all 6 searches, 1 of them stands (p < 0.05). "
        "In 1 a threshold is possible, but models or families left out are predicted as well without one; "
        "in 2 accuracy changes with size, and no rise is shown to begin; "
        "in 1 accuracy cannot be shown to go with size."
    )


@pytest.mark.parametrize(("draws", "could"), [(119, False), (120, True)])
def test_too_few_draws_for_any_to_stand_are_named(draws: int, could: bool) -> None:
    fits = searches(*((name, "threshold", 1 / (draws + 1), 0.0001) for name in "abcdef"))
    said = answer(fits, draws=draws)
    assert ("6 of them stand (p < 0.05)." in said) is could
    without = "None can stand the correction over 6 searches: with 119 draws no corrected p is under 0.05. "
    assert (f"{without}Take --draws 120, or more." in said) is not could


def test_six_are_listed_the_surest_first_and_the_others_counted() -> None:
    fits = searches(*((f"task {at}", "threshold", at / 1000, 0.0001) for at in range(9, 0, -1)))
    said = answer(fits, draws=999)
    listed, rest = said.split("threshold: ")[1].split("; and ")
    assert [each.split(" at ")[0] for each in listed.split("); ")] == [f"task {at}" for at in range(1, 7)]
    assert rest.startswith("3 more.") and "In " not in rest


def test_none_and_a_single_search_are_said_so() -> None:
    none = searches(("a", "growth", 0.4, 0.001), ("b", "flat", 0.4, 0.5))
    assert answer(none, draws=19).startswith("Of 2 searches, none finds a threshold. In 1 accuracy changes")
    assert "draws" not in answer(none, draws=19)
    one = answer(searches(("a", "threshold", 0.01, 0.01)), draws=199)
    assert one == (
        "Of 1 searches, 1 finds a threshold: a at 2B (1B to 3B; p = 0.01 corrected over all 1 searches, Holm)."
    )
