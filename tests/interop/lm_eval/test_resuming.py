"""Runs over several seeds that go on where they were cut short, and folders that are refused."""

from pathlib import Path
from typing import Any

import pytest

import circuitkit as ck
from circuitkit.evaluation import EvaluationError
from circuitkit.interop.lm_eval import HarnessError, HarnessEvaluation, HarnessModel, evaluate
from interop.lm_eval.toys import GPQA, aime, chatty, gpqa


def cut_short(monkeypatch: pytest.MonkeyPatch, after: int) -> list[int]:
    """Let the model fail after so many runs."""
    calls: list[int] = []
    own = HarnessModel.generate_until

    def failing(self: HarnessModel, *args: Any, **how: Any) -> Any:
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return own(self, *args, **how)

    monkeypatch.setattr(HarnessModel, "generate_until", failing)
    return calls


def test_a_run_that_is_cut_short_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = chatty()
    rows = aime(model)
    how: dict[str, Any] = {"data": {"aime24": rows}, "seeds": 3, "max_gen_toks": 3, "progress": False}
    whole = evaluate(model, "aime24", **how)
    with monkeypatch.context() as patched:
        cut_short(patched, after=2)
        with pytest.raises(KeyboardInterrupt):
            evaluate(model, "aime24", out=tmp_path, **how)
    assert sorted(path.name for path in tmp_path.glob("aime*")) == ["aime24-seed-0.json", "aime24-seed-1.json"]
    with pytest.raises(HarnessError, match="has ended"):
        HarnessEvaluation.load(tmp_path)
    with monkeypatch.context() as patched:
        calls = cut_short(patched, after=1)
        found = evaluate(model, "aime24", out=tmp_path, **how)
        assert len(calls) == 1
        more = evaluate(model, "aime24", out=tmp_path, **{**how, "seeds": 2})
        assert len(calls) == 1
    assert [list(run.samples) for run in found.runs] == [list(run.samples) for run in whole.runs]
    assert [run.seed for run in more.runs] == [0, 1]


def test_other_settings_or_questions_in_a_folder_are_refused(tmp_path: Path):
    model = chatty()
    how: dict[str, Any] = {"data": {GPQA: gpqa()}, "seeds": 1, "max_gen_toks": 2, "progress": False, "out": tmp_path}
    evaluate(model, GPQA, **how)
    with pytest.raises(EvaluationError, match=r"generation was .*0\.6.* and is .*0\.9"):
        evaluate(model, GPQA, temperature=0.9, **how)
    with pytest.raises(EvaluationError, match="interventions was"):
        evaluate(model, GPQA, [ck.zero("z[layer=0]")], **how)
    with pytest.raises(HarnessError, match="a run of other questions"):
        evaluate(model, GPQA, **{**how, "data": {GPQA: gpqa(4)}})
    with model.intervene([ck.scale("z[layer=0]", 2.0)]), pytest.raises(EvaluationError, match="held on the model was"):
        model.run([[1, 2]])
        evaluate(model, GPQA, **how)


def test_a_task_that_asks_or_judges_otherwise_is_not_taken_for_the_one_in_a_folder(tmp_path: Path):
    own = {
        "task": "own", "output_type": "generate_until", "test_split": "test", "dataset_path": "none",
        "doc_to_text": "{{question}}", "doc_to_target": "answer", "generation_kwargs": {"until": ["w9"]},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    how: dict[str, Any] = {
        "data": {"own": [{"question": "w3 w4", "answer": "w5"}]}, "seeds": 1, "max_gen_toks": 2, "progress": False,
        "out": tmp_path,
    }  # fmt: skip
    first = evaluate(chatty(), own, **how)
    assert evaluate(chatty(), dict(own), **how).frame.equals(first.frame)
    for other in ({"doc_to_text": "w6 {{question}}"}, {"generation_kwargs": {"until": ["w3"]}}):
        with pytest.raises(HarnessError, match="asked or judged by another configuration of own than this"):
            evaluate(chatty(), {**own, **other}, **how)


def test_runs_of_several_batch_sizes_are_told(tmp_path: Path):
    how: dict[str, Any] = {"data": {GPQA: gpqa()}, "max_gen_toks": 2, "progress": False, "out": tmp_path}
    assert evaluate(chatty(), GPQA, seeds=1, batch_size=2, **how).provenance["batch_size"] == 2
    assert evaluate(chatty(), GPQA, seeds=2, batch_size=3, **how).provenance["batch_size"] == [2, 3]
    assert [run.batch_size for run in HarnessEvaluation.load(tmp_path).runs] == [2, 3]


def test_what_one_task_lacks_is_told_before_another_is_asked(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    calls = cut_short(monkeypatch, after=0)
    with pytest.raises(HarnessError, match=r"aime25: its data set math-ai/aime25 cannot be had \(Couldn't reach"):
        evaluate(
            chatty(),
            ["aime24", "aime25"],
            data={"aime24": [{"Problem": "w3", "Answer": "1"}]},
            max_gen_toks=2,
            progress=False,
        )
    assert not calls
