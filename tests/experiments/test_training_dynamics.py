"""Training dynamics: curves of heads against planted circuits, tables, and the quick study to its end."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import training_dynamics
from dynamics import tables
from dynamics.cells import questions
from dynamics.page import of_changes, of_power
from dynamics.plans import PRESETS, RULES, Plan, ways
from dynamics.study import Followed, Run, _rewards
from eliciting.proofs import HELD_OUT_SEED, HELD_OUT_SIZE, told_apart

from circuitkit.circuits import Convention, Graph, Layout
from circuitkit.tasks import prontoqa

LAYOUT = Layout((4, 4), (4, 4), (False, False))


def circuit(*heads: tuple[int, int]) -> Graph:
    """A circuit that has exactly these heads: each read from the input, and read by the logits."""
    scores = torch.zeros(LAYOUT.reach.shape)
    for layer, head in heads:
        row = LAYOUT.heads_at(layer).start + head
        scores[0, LAYOUT.queries_at(layer).start + head] = scores[row, LAYOUT.logits_at] = 1.0
    graph = Graph(LAYOUT, scores, LAYOUT.reach, Convention("eap", "logit_difference"))
    return graph.threshold(0.5).prune()


def followed(method: str, seed: int, circuits: dict[int, Graph], accuracies: list[float]) -> Followed:
    told = pd.DataFrame(
        {"method": method, "seed": seed, "step": list(circuits), "accuracy": accuracies, "noise": 0.5, "reward": np.nan}
    )
    return Followed(Run(method, seed), told, circuits)


@pytest.fixture(scope="module")
def trainings() -> list[Followed]:
    a, b, c, d = (0, 0), (0, 1), (1, 2), (1, 3)
    loses = [{0: circuit(a, b), 2: circuit(a, b), 4: circuit(a, c), 6: circuit(c, d), 8: circuit(c, d)}] * 2
    stays = [{step: circuit(a, b) for step in (0, 2, 4, 6, 8)}] * 2
    rising, noisy = [0.1, 0.1, 0.5, 0.9, 0.9], [0.1, 0.3, 0.2, 0.3, 0.4]
    return [
        *(followed("sft", seed, each, rising) for seed, each in enumerate(loses)),
        *(followed("grpo", seed, each, noisy) for seed, each in enumerate(stays)),
    ]


def test_heads_that_stay_appear_and_vanish_are_counted(trainings):
    table = tables.checkpoints_table(trainings)
    own = table[(table["method"] == "sft") & (table["seed"] == 0)]
    assert own["kept"].tolist() == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert own["new"].tolist() == [0, 0, 1, 2, 2]
    assert own["turnover"].tolist()[1:] == [0, 2, 2, 0]
    assert own["heads"].tolist() == [2] * 5
    heads = tables.heads_table(trainings)
    mine = heads[(heads["method"] == "sft") & (heads["seed"] == 0)].set_index(["layer", "head"])
    assert mine.loc[(1, 2), "first"] == 4 and mine.loc[(1, 3), "first"] == 6 and not mine.loc[(0, 0), "at_end"]


def test_heads_new_and_gone_from_start_to_end_are_counted(trainings):
    found = tables.changes_table(trainings, resamples=0).set_index(["method", "seed"])
    assert found.loc[("sft", 0), ["new", "gone"]].tolist() == [2, 2]
    assert found.loc[("grpo", 0), ["new", "gone"]].tolist() == [0, 0]
    assert "4 heads are new and 4 gone" in of_changes(found)


def test_tests_that_could_not_have_come_out_are_told():
    made = pd.DataFrame({"p": [0.04, 0.5, np.nan], "smallest_p": [0.03, 0.01, np.nan]})
    assert "Of 2 tests of levels 1 could" in of_power("levels", made)
    assert "says nothing against it" in of_power("levels", made.assign(smallest_p=0.03))


def test_methods_are_means_over_seeds_with_students_intervals(trainings):
    checkpoints = tables.checkpoints_table(trainings)
    found = tables.methods_table(checkpoints, tables.complexity_table(trainings)).set_index("method")
    assert found.loc["sft", "kept"] == 0 and found.loc["grpo", "kept"] == 1
    assert found.loc["sft", "turnover"] == 1 and found.loc["grpo", "new"] == 0
    assert (found.loc["sft", "in_degree of heads"], found.loc["sft", "out_degree of heads"]) == (1, 1)
    mean, low, high = tables.student(np.array([0.2, 0.4]))
    assert (mean, low, high) == pytest.approx((0.3, 0.3 - 12.7062 * 0.1, 0.3 + 12.7062 * 0.1), abs=1e-4)
    assert np.isnan(tables.student(np.array([0.2]))[1])


def test_heads_that_go_as_accuracy_rises_go_together_and_those_that_stay_do_not(trainings):
    found = tables.correlations_table(tables.checkpoints_table(trainings), block=1).set_index(["method", "curve", "of"])
    assert found.loc[("sft", "kept", "changes"), "correlation"] == pytest.approx(-1)
    assert found.loc[("sft", "turnover", "changes"), "correlation"] == pytest.approx(1)
    assert found.loc[("grpo", "kept", "levels"), "trainings"] == 0
    # Both seeds are alike, so that the trend is all there is.
    assert found.loc[("sft", "kept", "levels"), "correlation_other"] == pytest.approx(-1)
    assert (found["p_corrected"].dropna() >= found["p"].dropna() - 1e-12).all()


def test_rewards_are_means_since_the_checkpoint_before():
    curve = pd.DataFrame({"step": [1, 2, 3, 4], "reward": [0.0, 1.0, 0.5, 0.5]}).to_json(orient="records")
    assert np.array_equal(_rewards(curve, [0, 2, 4]), [np.nan, 0.5, 0.5], equal_nan=True)


def test_no_question_that_is_rewarded_is_held_out():
    held_out = {
        told_apart(example.prompt) for example in prontoqa.generate(RULES[0], 1, 0, HELD_OUT_SIZE, HELD_OUT_SEED)
    }
    task = questions(RULES[:1], 60)
    assert task.items and not {told_apart(item.question) for item in task.items} & held_out


@pytest.mark.parametrize(
    ("settings", "said"), [({"every": 30}, "fewer than four checkpoints"), ({"seeds": ()}, "none")]
)
def test_plans_that_leave_nothing_to_compare_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Plan("deductor-60k-base", ways(1e-3, 1e-3, 16, 4, "deductor-130k"), **settings)
    with pytest.raises(SystemExit, match="fewer than four checkpoints"):
        training_dynamics.main(out="nowhere", every=40)


@pytest.mark.slow
def test_the_quick_study_runs_to_its_end_and_goes_on_where_it_was(tmp_path):
    training_dynamics.main(out=tmp_path, preset="quick", workers=1, progress=False)
    page = (tmp_path / "report.md").read_text()
    assert all(f"**{method}**" in page for method in PRESETS["quick"].ways)
    checkpoints = pd.read_csv(tmp_path / "checkpoints.csv")
    assert len(checkpoints) == 3 * 5 and (checkpoints[checkpoints["step"] == 0]["kept"] == 1).all()
    # All trainings start from one model.
    assert checkpoints[checkpoints["step"] == 0]["accuracy"].nunique() == 1

    def made() -> dict[Path, int]:
        # Trainings and graphs; what is told of them, tables and cohorts, is written anew.
        kept = [path for path in tmp_path.rglob("*.safetensors") if path.parent.name != "cohorts"]
        return {path: path.stat().st_mtime_ns for path in kept}

    before = made()
    assert {path.relative_to(tmp_path).parts[0] for path in before} == {"graphs", "trainings"}
    training_dynamics.main(out=tmp_path, preset="quick", workers=1, progress=False)
    assert made() == before
    assert (tmp_path / "report.md").read_text() == page
