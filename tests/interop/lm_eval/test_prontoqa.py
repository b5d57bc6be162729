"""PrOntoQA as a task of lm-eval, end to end, against circuitkit's own evaluation, response by response."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.tasks import TaskManager

import circuitkit as ck
from circuitkit.evaluation import Evaluation
from circuitkit.interop.lm_eval import TASKS, HarnessModel, as_harness_task, evaluate
from circuitkit.run.interventions import Interventions

METRICS = ("headline", "strict", "sound")


def by_lm_eval(model: ck.Model, told: Any, held: Interventions = (), metadata: Any = None) -> list[dict[str, Any]]:
    """The samples of lm-eval's `simple_evaluate`, of a configuration or a task's name."""
    # Without lm-eval's own tasks, whose index takes a quarter of a minute.
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)
    found = lm_eval.simple_evaluate(
        HarnessModel(model, held, batch_size=8, progress=False),
        tasks=[told],
        task_manager=manager,
        bootstrap_iters=0,
    )
    (samples,) = found["samples"].values()
    results = next(iter(found["results"].values()))
    for metric in (*METRICS, "unparseable"):
        assert results[f"{metric},none"] == pytest.approx(sum(each[metric] for each in samples) / len(samples))
    return list(samples)


def check_alike(samples: list[dict[str, Any]], mine: Evaluation) -> None:
    assert [each["doc"]["key"] for each in samples] == [response.key for response in mine.responses]
    assert [each["arguments"][0][0] for each in samples] == [response.prompt for response in mine.responses]
    assert [each["resps"][0][0] for each in samples] == [response.text for response in mine.responses]
    for metric in METRICS:
        assert [bool(each[metric]) for each in samples] == mine.frame[metric].tolist()
    assert [bool(each["unparseable"]) for each in samples] == mine.frame["unparseable"].tolist()


@pytest.mark.parametrize("held", [[], [ck.zero("z[layer=1, head=2]")]], ids=["whole", "ablated"])
def test_offline_accuracy_is_that_of_circuitkits_own_evaluation(held: Interventions):
    model = ck.load("deductor-130k")
    task = ck.tasks.prontoqa.task("implication_elimination", hops=3, shots=0, n=12)
    mine = ck.evaluate(model, task, held, progress=False)
    assert 0 < mine.accuracy.value < 1
    samples = by_lm_eval(model, as_harness_task(task), held)
    check_alike(samples, mine)
    metadata = {"hops": 3, "shots": 0, "n": 12}
    by_name = by_lm_eval(model, "prontoqa_implication_elimination", held, metadata)
    check_alike(by_name, mine)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ck.tasks.prontoqa.RULES)
@pytest.mark.parametrize("name", ["deductor-20k", "deductor-400k-base"])
def test_every_rule_with_exemplars(name: str, rule: str):
    model = ck.load(name)
    task = ck.tasks.prontoqa.task(rule, hops=1, shots=2, n=12, seed=3)
    mine = ck.evaluate(model, task, progress=False)
    check_alike(by_lm_eval(model, f"prontoqa_{rule}", metadata={"shots": 2, "n": 12, "seed": 3}), mine)


def test_every_rule_is_registered():
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    assert manager.all_subtasks == sorted(f"prontoqa_{rule}" for rule in ck.tasks.prontoqa.RULES)
    assert manager.all_tags == ["prontoqa_ood"]


def test_the_runner_asks_them_by_name_and_by_task():
    model = ck.load("deductor-20k")
    task = ck.tasks.prontoqa.task("AndElim", shots=0, n=6)
    found = evaluate(model, [task], seeds=2, max_gen_toks=None, progress=False)
    assert found.table["metric"].tolist() == list(METRICS)
    frame = found.frame
    judge = task.judges["headline"]
    for row in frame.itertuples():
        judgement = judge(task.items[row.doc], row.response)
        assert (bool(row.headline), bool(row.unextracted)) == (judgement.correct, judgement.said is None)
    assert frame.groupby("doc")["response"].nunique().max() == 2


@pytest.mark.slow
def test_lm_evals_own_command_knows_the_model_and_the_tasks(tmp_path: Path):
    model = ck.load("deductor-130k")
    task = ck.tasks.prontoqa.task("implication_elimination", hops=3, shots=0, n=12)
    held = [ck.zero("z[layer=1, head=0]"), ck.zero("z[layer=2, head=1]")]
    accuracy = ck.evaluate(model, task, held, progress=False).accuracy.value
    assert 0 < accuracy < 1
    file = TASKS / "prontoqa_implication_elimination.yaml"
    commands = [
        [sys.executable, "-m", "circuitkit.interop.lm_eval", "--tasks", "prontoqa_implication_elimination"],
        [sys.executable, "-m", "lm_eval", "--tasks", str(file)],
    ]
    for command in commands:
        asked = "--model circuitkit --model_args pretrained=deductor-130k,ablate=1.0+2.1 --metadata hops=3 shots=0 n=12"
        told = subprocess.run(
            [*command, *asked.split()],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        (line,) = [line for line in told.stdout.splitlines() if "headline" in line]
        assert float(line.split("|")[7]) == pytest.approx(accuracy, abs=1e-3)
