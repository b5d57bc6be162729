"""lm-eval's tasks over several seeds: means and errors, what failed, and runs that go on where they were cut short."""

import json
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pytest
import torch
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import architectures
import circuitkit as ck
from circuitkit.evaluation import EvaluationError
from circuitkit.interop.lm_eval import HarnessError, HarnessEvaluation, HarnessModel, evaluate
from circuitkit.interop.lm_eval.configurations import configuration_of, in_one_order
from circuitkit.interop.lm_eval.outcome import HarnessRun
from circuitkit.run import InterventionError

GPQA = "gpqa_diamond_cot_zeroshot"
WORDS = [f"w{number}" for number in range(3, 96)]


def chatty() -> ck.Model:
    """A tiny random model that says letters in parentheses often, and "The answer is" never."""
    hf, _ = architectures.build("mixtral")
    spoken = [f"({'ABCD'[number % 4]})x{number}" if number % 3 else f"w{number}" for number in range(3, 96)]
    words = Tokenizer(
        models.WordLevel({word: at for at, word in enumerate(["<pad>", "<eos>", "<unk>", *spoken])}, unk_token="<unk>")
    )
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return ck.Model(
        hf,
        PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", bos_token="<eos>", unk_token="<unk>"
        ),
    )


def aime(model: ck.Model, n: int = 4) -> list[dict[str, str]]:
    """Problems whose answers are what the model says first where it takes the likeliest word."""
    problems = [" ".join(WORDS[at : at + 3]) for at in range(n)]
    asked = evaluate(
        model, "aime24", seeds=1, temperature=0, max_gen_toks=1, progress=False,
        data={"aime24": [{"Problem": problem, "Answer": "?"} for problem in problems]},
    )  # fmt: skip
    said = asked.frame["response"]
    return [{"Problem": problem, "Answer": text} for problem, text in zip(problems, said, strict=True)]


def gpqa(n: int = 5) -> list[dict[str, str]]:
    return [
        {"Question": WORDS[at], "Correct Answer": f"right {at}"}
        | {f"Incorrect Answer {wrong}": f"wrong {at} {wrong}" for wrong in (1, 2, 3)}
        for at in range(n)
    ]


@pytest.fixture(scope="module")
def found() -> HarnessEvaluation:
    model = chatty()
    problems = aime(model)
    data = {"aime24": problems, "aime25": [{"problem": p["Problem"], "answer": p["Answer"]} for p in problems[::-1]]}
    return evaluate(model, data={**data, GPQA: gpqa()}, seeds=4, max_gen_toks=3, batch_size=3, progress=False)


def by_seed(found: HarnessEvaluation, task: str, filter: str, seeds: Sequence[int] = range(4)) -> list[float]:
    return [
        float(np.mean([each["exact_match"] for each in run.samples if each["filter"] == filter]))
        for seed in seeds
        for run in found.runs
        if run.task == task and run.seed == seed
    ]


def test_likeliest_words_that_are_the_answers_are_right():
    model = chatty()
    again = evaluate(
        model, "aime24", seeds=1, temperature=0, max_gen_toks=1, data={"aime24": aime(model)}, progress=False
    )
    assert again.over_seeds("aime24").mean == 1.0
    assert math.isnan(again.over_seeds("aime24").standard_error)
    hidden = evaluate(
        model,
        "aime24",
        [ck.zero("mlp_out[layer=2]")],
        seeds=1,
        temperature=0,
        max_gen_toks=1,
        data={"aime24": aime(model)},
        progress=False,
    )
    assert hidden.over_seeds("aime24").mean < 1.0
    assert hidden.provenance["interventions"] == ["replace mlp_out[layer=2] (both)"]


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


def test_questions_are_the_same_for_every_seed_and_draws_are_not(found: HarnessEvaluation):
    for task in found.tasks:
        frame = found.frame[found.frame["task"] == task]
        assert (frame.groupby("doc")["prompt"].nunique() == 1).all()
        assert (frame.groupby("doc")["target"].nunique() == 1).all()
        assert (frame.groupby("doc")["response"].nunique() > 1).any()


@pytest.mark.parametrize("task", ["aime24", GPQA])
def test_a_run_is_that_of_lm_evals_simple_evaluate_with_its_seed(found: HarnessEvaluation, task: str):
    model = chatty()
    rows = gpqa() if task == GPQA else aime(model)
    theirs = lm_eval.simple_evaluate(
        HarnessModel(model, batch_size=3),
        tasks=[ConfigurableTask(config=in_one_order(configuration_of(task, rows), 0))],
        task_manager=TaskManager(include_defaults=False),
        gen_kwargs={"do_sample": True, "temperature": 0.6, "max_gen_toks": 3},
        bootstrap_iters=0,
        torch_random_seed=1,
    )
    (mine,) = [run for run in found.runs if (run.task, run.seed) == (task, 1)]
    samples = theirs["samples"][task]
    assert [each["response"] for each in mine.samples] == [each["resps"][0][0] for each in samples]
    assert [each["exact_match"] for each in mine.samples] == [each["exact_match"] for each in samples]


def test_generators_are_left_as_they_were():
    model = chatty()
    before = torch.get_rng_state(), random.getstate()
    evaluate(model, "aime24", data={"aime24": [{"Problem": "w3", "Answer": "1"}]}, max_gen_toks=2, progress=False)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


def test_a_run_depends_on_its_seed_and_not_on_what_ran_before(found: HarnessEvaluation):
    alone = evaluate(chatty(), GPQA, data={GPQA: gpqa()}, seeds=[2], max_gen_toks=3, batch_size=3, progress=False)
    (before,) = [run for run in found.runs if (run.task, run.seed) == (GPQA, 2)]
    assert list(alone.runs[0].samples) == list(before.samples)


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


# Runs that are cut short


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
    assert json.loads((tmp_path / "provenance.json").read_text())["provenance"]["seeds"] == [0, 1, 2, 3]


def test_it_is_drawn(found: HarnessEvaluation):
    axes = found.plot()
    assert axes.get_ylabel() == "share of responses (%)"
    assert "4 seeds" in axes.get_title()
    assert any(GPQA in label.get_text() for label in axes.get_xticklabels())


# What is refused


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"seeds": 0}, "give one or more"),
        ({"seeds": [1, 1]}, "such that differ"),
        ({"temperature": 0}, "all seeds would be alike"),
        ({"temperature": -1}, "has to be 0 or more"),
        ({"max_gen_toks": 64}, "max_gen_toks 64 leaves no room for a prompt"),
        ({"max_gen_toks": 0}, "leaves no room"),
        ({"limit": 0}, "limit 0 leaves no question"),
        ({"chat": True}, "has no chat template"),
        ({"enable_thinking": False}, "give chat=True as well"),
        ({"generation": {"temperature": 1}}, "temperature is no part of generation"),
        ({"data": {"aime26": []}}, "which is none of the tasks"),
        ({"data": {"aime24": []}}, "the data holds no questions"),
        ({"tasks": ["aime24", "aime24"]}, "named twice"),
    ],
)
def test_what_cannot_be_asked_is_refused(how: dict[str, Any], message: str):
    given = {"tasks": "aime24", "data": {"aime24": [{"Problem": "w3", "Answer": "1"}]}, "max_gen_toks": 3, **how}
    with pytest.raises(HarnessError, match=message):
        evaluate(chatty(), progress=False, **given)


def test_what_is_not_there_is_named(found: HarnessEvaluation):
    with pytest.raises(HarnessError, match="there is no task 'aime26'; there are aime24"):
        found.over_seeds("aime26")
    with pytest.raises(HarnessError, match="has no metric 'f1'; it has exact_match"):
        found.over_seeds("aime24", "f1")
    with pytest.raises(HarnessError, match="has no filter 'lenient'; it has strict-match, flexible-extract"):
        found.over_seeds(GPQA, filter="lenient")
    with pytest.raises(HarnessError, match="as many seeds and questions"):
        found.pooled("aime24", GPQA)


def test_a_chat_is_asked_in_the_template():
    model = chatty()
    model.tokenizer.chat_template = "{% for each in messages %}w3 {{ each['content'] }} w6 {% endfor %}"
    rows = [{"Problem": "w9", "Answer": "1"}]
    found = evaluate(
        model, "aime24", data={"aime24": rows}, chat=True, system="w12", seeds=1, max_gen_toks=2, progress=False
    )
    assert found.frame["prompt"].tolist() == ["w3 w12 w6 w3 Question: w9\nAnswer: w6 "]


def test_drawing_cuts_to_the_fifty_likeliest_unless_it_is_told_otherwise():
    model = chatty()
    rows = [{"Problem": WORDS[at], "Answer": "1"} for at in range(40)]
    how: dict[str, Any] = {"data": {"aime24": rows}, "seeds": 1, "temperature": 1000.0, "max_gen_toks": 1}
    lowest = []
    for generation in ({}, {"top_k": 0}):
        found = evaluate(model, "aime24", batch_size=40, generation=generation, progress=False, **how)
        prompts, said = (model.tokenizer(found.frame[each].tolist())["input_ids"] for each in ("prompt", "response"))
        logits = model.run(prompts, logits_at=-1).logits
        drawn = logits.gather(1, torch.tensor(said))
        lowest.append(int((logits > drawn).sum(-1).max()))
    assert lowest[0] < 50 <= lowest[1]


def test_likelihoods_are_asked_once():
    told = {
        "task": "letters",
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "question",
        "doc_to_choice": ["w5", "w6"],
        "doc_to_target": "answer",
        "dataset_path": "none",
    }
    rows = [{"question": "w3 w4", "answer": 0}, {"question": "w7", "answer": 1}]
    how: dict[str, Any] = {"data": {"letters": rows}, "progress": False}
    with pytest.raises(HarnessError, match="asks for likelihoods, by which all seeds are alike"):
        evaluate(chatty(), [told], seeds=2, **how)
    once = evaluate(chatty(), [told], seeds=1, **how)
    assert once.over_seeds("letters", "acc").n == 1
    assert math.isnan(once.table["truncated"].iloc[0])


def test_a_metric_that_is_no_mean_over_responses_is_not_told_as_one():
    perplexity = {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}
    told = {
        "task": "last_word", "output_type": "loglikelihood", "test_split": "test", "dataset_path": "none",
        "doc_to_text": "question", "doc_to_target": "answer", "metric_list": [perplexity, {"metric": "acc"}],
    }  # fmt: skip
    how: dict[str, Any] = {
        "data": {"last_word": [{"question": "w3", "answer": " w6"}]}, "seeds": 1, "progress": False
    }  # fmt: skip
    with pytest.warns(UserWarning, match="last_word: perplexity left out"):
        found = evaluate(chatty(), told, **how)
    assert found.table["metric"].tolist() == ["acc"]
    with pytest.raises(HarnessError, match=r"has no metric that is a mean of a number .* it has perplexity"):
        evaluate(chatty(), {**told, "metric_list": [perplexity]}, **how)


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


def test_an_intervention_that_never_took_place_is_an_error():
    with pytest.raises(InterventionError, match="never took place"):
        evaluate(
            chatty(),
            "aime24",
            [ck.zero("z[layer=0, position=60]")],
            data={"aime24": [{"Problem": "w3", "Answer": "1"}]},
            max_gen_toks=2,
            progress=False,
        )
