"""What lm-eval found over several seeds: means and errors, what failed, tables, files and figure."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from circuitkit.interop.lm_eval import HarnessError, HarnessEvaluation, evaluate
from circuitkit.interop.lm_eval.outcome import HarnessRun
from interop.lm_eval.toys import GPQA, WORDS, aime, chatty


def by_seed(found: HarnessEvaluation, task: str, filter: str, seeds: Sequence[int] = range(4)) -> list[float]:
    return [
        float(np.mean([each["exact_match"] for each in run.samples if each["filter"] == filter]))
        for seed in seeds
        for run in found.runs
        if run.task == task and run.seed == seed
    ]


def test_the_mean_and_its_error_are_over_seeds(found: HarnessEvaluation):
    assert found.tasks == ("aime24", "aime25", GPQA)
    errors = {}
    for task, named in (("aime24", "none"), ("aime25", "none"), (GPQA, "strict-match"), (GPQA, "flexible-extract")):
        each = by_seed(found, task, named)
        over = found.over_seeds(task, filter=named)
        errors[task] = np.std(each, ddof=1) / 2
        assert over == (pytest.approx(np.mean(each)), pytest.approx(errors[task]), 4)
    pooled = found.pooled()
    assert pooled.standard_error == pytest.approx(0.5 * math.sqrt(errors["aime24"] ** 2 + errors["aime25"] ** 2))
    assert pooled.mean == pytest.approx((found.over_seeds("aime24").mean + found.over_seeds("aime25").mean) / 2)


def test_both_of_gpqas_filters_are_told(found: HarnessEvaluation):
    frame = found.frame[found.frame["task"] == GPQA]
    flexible = frame[frame["filter"] == "flexible-extract"]
    last = [(re.findall(r"(\([A-Z]\))", text) or ["[invalid]"])[-1] for text in flexible["response"]]
    assert flexible["read"].tolist() == last
    assert flexible["exact_match"].tolist() == [float(a == b) for a, b in zip(last, flexible["target"], strict=True)]
    assert 0 < flexible["exact_match"].mean() < 1
    assert flexible["unextracted"].tolist() == [each == "[invalid]" for each in last]
    assert frame[frame["filter"] == "strict-match"]["unextracted"].all()
    rows = found.table.set_index(["task", "filter"])
    assert rows.loc[(GPQA, "strict-match"), "unextracted"] == 1
    assert rows.loc[(GPQA, "flexible-extract"), "unextracted"] == pytest.approx(flexible["unextracted"].mean())


def test_responses_that_hit_the_limit_or_hold_no_answer_stand_beside_accuracy():
    model, limit = chatty(), 6
    model.hf.generation_config.eos_token_id = list(range(70, 96))
    found = evaluate(model, "aime24", data={"aime24": aime(model)}, seeds=2, max_gen_toks=limit, progress=False)
    frame = found.frame
    assert 0 < frame["truncated"].mean() < 1
    assert (frame["n_tokens"] <= limit).all()
    assert (frame.loc[frame["n_tokens"] < limit, "truncated"] == False).all()  # noqa: E712
    assert found.table["truncated"].tolist() == [pytest.approx(frame["truncated"].mean())]
    assert found.table["unextracted"].tolist() == [1.0]


def test_prompts_that_lose_their_beginning_are_counted():
    rows = [{"Problem": " ".join(WORDS[:n]), "Answer": "1"} for n in (3, 30)]
    with pytest.warns(UserWarning, match="lose their beginning"):
        found = evaluate(
            chatty(), "aime24", data={"aime24": rows}, seeds=1, max_gen_toks=50, max_length=64, progress=False
        )
    assert found.frame["cut"].tolist() == [False, True]
    assert found.table["cut"].tolist() == [0.5]


def test_it_is_saved_whole_and_loads_again(found: HarnessEvaluation, tmp_path: Path):
    again = HarnessEvaluation.load(found.save(tmp_path))
    assert again.table.equals(found.table)
    assert again.frame.equals(found.frame)
    path = HarnessRun.path(tmp_path, "aime24", 0)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(HarnessError, match=r"aime24-seed-0\.json cannot be read"):
        HarnessEvaluation.load(tmp_path)
    path.unlink()
    with pytest.raises(HarnessError, match="lacks the run of aime24 with seed 0"):
        HarnessEvaluation.load(tmp_path)
    told = tmp_path / "provenance.json"
    assert json.loads(told.read_text())["provenance"]["seeds"] == [0, 1, 2, 3]
    for text, why in (('{"model": ', "cannot be read"), ('{"study": "ablation.sweep"}', "is of something else")):
        told.write_text(text)
        with pytest.raises(HarnessError, match=rf"provenance\.json {why}"):
            HarnessEvaluation.load(tmp_path)


def test_it_is_drawn(found: HarnessEvaluation):
    axes = found.plot()
    assert axes.get_ylabel() == "share of responses (%)"
    assert "4 seeds" in axes.get_title()
    assert any(GPQA in label.get_text() for label in axes.get_xticklabels())


def test_what_is_not_there_is_named(found: HarnessEvaluation):
    with pytest.raises(HarnessError, match="there is no task 'aime26'; there are aime24"):
        found.over_seeds("aime26")
    with pytest.raises(HarnessError, match="has no metric 'f1'; it has exact_match"):
        found.over_seeds("aime24", "f1")
    with pytest.raises(HarnessError, match="has no filter 'lenient'; it has strict-match, flexible-extract"):
        found.over_seeds(GPQA, filter="lenient")
    with pytest.raises(HarnessError, match="as many seeds and questions"):
        found.pooled("aime24", GPQA)
