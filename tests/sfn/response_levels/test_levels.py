"""Levels of responses: the measures against hand-made ones, planted responses, corrections, and bad input."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.sfn.response_levels import labelled
from transformers import GPT2Config, GPT2LMHeadModel

import circuitkit as ck
from circuitkit.evaluation import Evaluation
from circuitkit.sfn.response_levels.agreement import Agreement
from circuitkit.sfn.response_levels.criterion import level_of
from circuitkit.sfn.response_levels.likelihood import Reference, Row
from circuitkit.sfn.response_levels.repetition import said_before
from circuitkit.tasks import prontoqa


@pytest.fixture(scope="module")
def reference() -> ck.Model:
    return ck.load("deductor-130k")


@pytest.fixture(scope="module")
def own(reference: ck.Model) -> Evaluation:
    task = prontoqa.task("implication_elimination", hops=2, shots=0, n=6, seed=3)
    return ck.evaluate(reference, task, progress=False)


@pytest.fixture(scope="module")
def found(own: Evaluation, reference: ck.Model) -> ck.sfn.Levels:
    return ck.sfn.levels(own, reference, progress=False)


def with_texts(evaluation: Evaluation, texts: list[str], right: bool = False) -> Evaluation:
    changed = []
    for response, text in zip(evaluation.responses, texts, strict=True):
        judged = {n: dataclasses.replace(j, correct=right) for n, j in response.judgements.items()}
        changed.append(dataclasses.replace(response, text=text, judged=text, judgements=judged))
    return dataclasses.replace(evaluation, responses=tuple(changed))


def test_padded_rows_score_as_each_row_alone(reference: ck.Model) -> None:
    scorer = Reference(reference)
    prompts = ["Q: Rex is a wumpus. Prove: Rex is a wumpus.\nA:", "Q: Fae is shy.\nA:", "Q: Max is loud.\nA:"]
    texts = [" Rex is a wumpus.", " Fae is shy. Fae is shy. Fae is shy.", ""]
    rows = [Row(scorer.prompt(p), scorer.response(t), True) for p, t in zip(prompts, texts, strict=True)]
    for row, scored in zip(rows, scorer.score(rows, lambda n: None), strict=True):
        with torch.no_grad():
            logits = reference.hf(torch.tensor([[*row.prompt, *row.response]])).logits[0].log_softmax(-1)
        start = len(row.prompt) - 1
        by_hand = [float(logits[start + at, token]) for at, token in enumerate(row.response)]
        end = float(logits[-1, scorer.ends].logsumexp(-1))
        np.testing.assert_allclose(scored, [*by_hand, end], atol=1e-5)


def test_own_right_answers_are_level_four(found: ck.sfn.Levels, own: Evaluation) -> None:
    assert [each.level == "IV" for each in found.graded] == own.frame["headline"].tolist()
    assert own.accuracy.hits > 0


def test_planted_nonsense_loops_and_silence_are_level_one(
    own: Evaluation, found: ck.sfn.Levels, reference: ck.Model
) -> None:
    texts = [
        " loud a are Rex Every Every. is not or",
        " Rex" * 40,
        "",
        " Rex is a wumpus." * 12,
        " \n.",
        " are are a Fae",
    ]
    planted = ck.sfn.levels(with_texts(own, texts), reference, calibration=found.calibration, progress=False)
    assert planted.frame["level"].tolist() == ["I"] * 6


def test_answers_to_other_questions_are_level_two(own: Evaluation, found: ck.sfn.Levels, reference: ck.Model) -> None:
    texts = [each.text for each in own.responses]
    swapped = with_texts(own, [*texts[1:], texts[0]])
    levels = ck.sfn.levels(swapped, reference, calibration=found.calibration, progress=False)
    assert (levels.frame["level"] == "II").sum() >= 5
    assert (levels.frame["dependence"] < found.frame["dependence"]).all()


def test_a_bare_answer_where_a_proof_is_asked_for_is_off_the_task(
    own: Evaluation, found: ck.sfn.Levels, reference: ck.Model
) -> None:
    bare = with_texts(own, [" True", " False"] * 3)
    levels = ck.sfn.levels(bare, reference, calibration=found.calibration, progress=False)
    assert levels.frame["level"].tolist() == ["II"] * 6


def test_proofs_that_are_cut_short_are_level_three(own: Evaluation, found: ck.sfn.Levels, reference: ck.Model) -> None:
    texts = [each.text.split(".")[0] + "." + each.text.split(".")[1] + "." for each in own.responses]
    levels = ck.sfn.levels(with_texts(own, texts), reference, calibration=found.calibration, progress=False)
    assert levels.frame["level"].tolist() == ["III"] * 6


def test_pairs_without_a_judge_are_level_three_at_most(own: Evaluation, reference: ck.Model) -> None:
    pairs = [(each.prompt, each.text) for each in own.responses]
    unjudged = ck.sfn.levels(pairs, reference, progress=False)
    assert set(unjudged.frame["level"]) == {"III"}
    judged = ck.sfn.levels(pairs, reference, judge=lambda prompt, text: True, progress=False)
    assert set(judged.frame["level"]) == {"IV"}


def test_a_correction_is_kept_beside_the_criterion(found: ck.sfn.Levels, tmp_path: Path) -> None:
    key = found.graded[0].answer.key
    changed = found.overrule(key, "III", "a step is missing", who="A. Reader")
    assert found.level(key) == found.graded[0].criterion
    again = ck.sfn.Levels.load(changed.save(tmp_path))
    row = again.frame.iloc[0]
    assert (row["level"], row["by"], row["reason"]) == ("III", "A. Reader", "a step is missing")
    assert row["criterion"] == found.graded[0].criterion
    assert again.graded == changed.graded
    assert again.calibration == changed.calibration or math.isnan(changed.calibration.own_overlap)


def test_shares_add_up_and_have_intervals(found: ck.sfn.Levels) -> None:
    shares = found.by("rule")
    assert shares["share"].sum() == pytest.approx(1)
    assert ((shares["low"] <= shares["share"] + 1e-12) & (shares["share"] <= shares["high"])).all()
    assert found.plot().get_title().startswith("Response levels")


def test_agreement_and_kappa_by_hand() -> None:
    met = Agreement(("I", "I", "II", "IV"), ("I", "II", "II", "IV"))
    # Both agree on 3 of 4; by chance on (2*1 + 1*2 + 0 + 1*1)/16.
    assert met.share == 0.75
    assert met.kappa == pytest.approx((0.75 - 5 / 16) / (1 - 5 / 16))
    assert met.confusion.loc["II", "I"] == 1


def test_repetition_of_a_proof_is_no_loop() -> None:
    assert said_before([1, 2, 3, 4, 5, 6, 1, 2, 3, 9]).sum() == 0
    assert said_before([1, 2, 3, 4, 5, 9, 1, 2, 3, 4, 5]).tolist() == [False] * 6 + [True] * 5
    assert said_before([7] * 5).tolist() == [False, True, True, True, True]


def test_the_labelled_responses_are_a_hundred_of_all_kinds() -> None:
    rows = labelled.rows()
    assert len(rows) == 100
    assert {row["kind"] for row in rows} == {"intact", "merged", "destroyed"}
    assert {row["level"] for row in rows} == {"I", "II", "III", "IV"}
    assert not {row["key"] for row in rows} & {row["key"] for row in labelled.rows(labelled.TUNED_ON)}


def test_bad_input_is_named(own: Evaluation, found: ck.sfn.Levels, reference: ck.Model) -> None:
    with pytest.raises(ck.sfn.LevelError, match="no responses"):
        ck.sfn.levels([], reference)
    with pytest.raises(ck.sfn.LevelError, match="has no question"):
        ck.sfn.levels([("", " Rex is shy."), ("Q: a", "b")], reference)
    with pytest.raises(ck.sfn.LevelError, match="answer one question"):
        ck.sfn.levels([("Q: Rex is shy.\nA:", " Rex is shy.")], reference)
    with pytest.raises(ck.sfn.LevelError, match="no tokenizer"):
        ck.sfn.levels(own, ck.Model(reference.hf))
    with pytest.raises(ck.sfn.LevelError, match="no judge 'fair'"):
        ck.sfn.levels(own, reference, judge="fair")
    with pytest.raises(ck.sfn.LevelError, match="no level 'V'"):
        found.overrule(found.graded[0].answer.key, "V", "why")
    with pytest.raises(ck.sfn.LevelError, match="no response 'x'"):
        found.overrule("x", "I", "why")
    with pytest.raises(ck.sfn.LevelError, match="6 responses and 1 labels"):
        found.agreement(["I"])
    with pytest.raises(ck.sfn.LevelError, match="pairs of two texts"):
        ck.sfn.levels([("only one",)], reference)  # type: ignore[list-item]
    with reference.intervene([ck.zero("z[layer=0]")]):
        with pytest.raises(ck.sfn.LevelError, match="interventions are held"):
            ck.sfn.levels(own, reference)
        reference.hf(torch.tensor([[5]]))


def test_a_file_that_is_cut_short_is_refused(found: ck.sfn.Levels, tmp_path: Path) -> None:
    path = found.save(tmp_path / "a.json")
    path.write_text(path.read_text()[:200])
    with pytest.raises(ck.sfn.LevelError, match="cut short"):
        ck.sfn.Levels.load(path)


@pytest.mark.parametrize("side", ["right", "left"])
def test_padded_rows_score_as_each_row_alone_with_absolute_positions(reference: ck.Model, side: str) -> None:
    torch.manual_seed(0)
    size = len(reference.tokenizer)
    config = GPT2Config(
        vocab_size=size, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None
    )
    config.pad_token_id = reference.tokenizer.pad_token_id
    tokenizer = copy.deepcopy(reference.tokenizer)
    tokenizer.padding_side = side
    model = ck.Model(GPT2LMHeadModel(config).eval(), tokenizer, name="random GPT-2")
    scorer = Reference(model)
    prompts = ["Q: Fae is shy.\nA:", "Q: Rex is a wumpus. Every wumpus is loud. Prove: Rex is loud.\nA:"]
    texts = [" Fae is shy. Fae is shy. Fae is shy.", " Rex is loud."]
    rows = [Row(scorer.prompt(p), scorer.response(t)) for p, t in zip(prompts, texts, strict=True)]
    for row, scored in zip(rows, scorer.score(rows, lambda n: None), strict=True):
        with torch.no_grad():
            logits = model.hf(torch.tensor([[*row.prompt, *row.response]])).logits[0].log_softmax(-1)
        start = len(row.prompt) - 1
        alone = [float(logits[start + at, token]) for at, token in enumerate(row.response)]
        np.testing.assert_allclose(scored, alone, atol=1e-5)


def test_where_frames_tell_nothing_likelihood_does(found: ck.sfn.Levels) -> None:
    borders = dataclasses.replace(found.calibration, framed=0.5)
    one = found.graded[0]
    unlikely = dataclasses.replace(one.evidence, fluency=borders.least_fluency - 0.01, repeated=0.0)
    likely = dataclasses.replace(one.evidence, fluency=borders.least_fluency + 0.01, repeated=0.0, well_formed=0.0)
    assert level_of(one.answer, unlikely, borders)[0] == "I"
    assert level_of(one.answer, likely, borders)[0] == "IV"
    assert level_of(one.answer, likely, dataclasses.replace(borders, framed=0.95))[0] == "I"


def test_where_answers_keep_to_no_words_dependence_tells_what_is_on_the_task(found: ck.sfn.Levels) -> None:
    nan = float("nan")
    borders = dataclasses.replace(found.calibration, own_sentences=nan, other_sentences=nan, own_overlap=nan)
    evidence = dataclasses.replace(found.graded[0].evidence, sentences=0.0, overlap=0.0)
    own = dataclasses.replace(evidence, dependence=borders.own_dependence)
    other = dataclasses.replace(evidence, dependence=borders.other_dependence)
    assert (borders.on_task(own), borders.on_task(other)) == pytest.approx((1.0, 0.0))
    answer = dataclasses.replace(found.graded[0].answer, right=False)
    assert [level_of(answer, each, borders)[0] for each in (own, other)] == ["III", "II"]


def test_plain_prompts_are_read_whole_as_questions(own: Evaluation, reference: ck.Model) -> None:
    pairs = [(each.prompt, each.text) for each in own.responses]
    levels = ck.sfn.levels(
        [*pairs, ("Q: Max is loud.\nA:", " is is a Rex or or a. not not a")], reference, progress=False
    )
    assert levels.graded[0].answer.question == pairs[0][0].strip()
    assert levels.frame["level"].iloc[-1] == "I"


def test_an_answer_that_speaks_of_others_is_off_the_task_even_where_a_judge_finds_it_right(
    own: Evaluation, found: ck.sfn.Levels, reference: ck.Model
) -> None:
    texts = [each.text for each in own.responses]
    swapped = with_texts(own, [*texts[1:], texts[0]], right=True)
    levels = ck.sfn.levels(swapped, reference, calibration=found.calibration, progress=False)
    assert (levels.frame["level"] == "II").sum() >= 5


def test_the_criterion_agrees_with_the_hand_on_a_part(reference: ck.Model) -> None:
    # Few questions for a decision make no calibration: all of those, and every third of the others.
    part = [row for at, row in enumerate(labelled.rows()) if row["mode"] == "direct" or at % 3 == 0]
    found = labelled.graded(reference, some=part)[1]
    assert found.n > 34
    assert found.share >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deductor-130k-reason", "deductor-400k-reason", "deductor-1m-reason"])
def test_the_criterion_agrees_with_the_hand_on_all_fresh_responses(name: str) -> None:
    found = labelled.graded(ck.load(name))[1]
    assert found.n == 100
    assert found.share >= 0.93
    assert found.kappa >= 0.88
