"""Responses on a page: which evaluations stand side by side, who is right where, what is kept, and each step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit.attention import gold_scores
from circuitkit.evaluation import Evaluation
from circuitkit.report import read
from circuitkit.report.contents import Contents
from circuitkit.report.embedding import as_json
from circuitkit.report.section import Section
from circuitkit.report.sections import responses
from circuitkit.report.sections.kept_items import kept
from report.evaluations import choices, proofs

STEPS = " Max is a zumpus. Max is a zumpus."


def sections(folder: Path, beside: Path | None = None) -> list[Section]:
    return list(read(folder, beside=beside, progress=False).sections)


def saved(folder: Path, **evaluations: Evaluation) -> Path:
    for name, each in evaluations.items():
        each.save(folder / name)
    return folder


def test_models_that_were_asked_the_same_stand_side_by_side(tmp_path):
    folder = saved(tmp_path / "all", one=choices("m-1m", "aab"), two=choices("m-20k", "abb"), other=proofs("p", {}))
    letters, of_proofs = sections(folder)
    assert [each["name"] for each in letters.data["asked"]] == ["m-20k", "m-1m"]
    assert letters.data["right"] == {"exact": ["100", "110"]}
    assert any("1 of the 3 items that both were asked are not judged alike." in said for said in letters.says)
    assert "McNemar" in letters.says[-1]
    assert [each["name"] for each in of_proofs.data["asked"]] == ["p"]


def test_folders_that_are_shown_beside_each_other_are_compared(tmp_path):
    one, two = saved(tmp_path / "one", answers=choices("m", "ab")), saved(tmp_path / "two", answers=choices("m", "aa"))
    (found,) = sections(one, two)
    assert found.data["right"] == {"exact": ["10", "11"]}
    assert [each["name"] for each in found.data["asked"]] == ["one/answers", "two/answers"]


def test_other_questions_of_a_task_stand_apart(tmp_path):
    other = choices("m", "aa")
    asked = tuple(type(item)(item.key, "Another?", item.gold, groups=item.groups) for item in other.items)
    other = Evaluation(other.model, other.task, asked, other.judges, other.responses, other.decoding, other.shots)
    assert len(sections(saved(tmp_path, one=choices("m", "ab"), two=other))) == 2


def test_three_sets_of_questions_in_two_folders_are_all_shown(tmp_path):
    for root in ("one", "two"):
        for name in ("h1", "h2", "h3"):
            asked = choices("m", "ab")
            items = tuple(replace(item, question=f"{item.question} ({name})") for item in asked.items)
            replace(asked, items=items).save(tmp_path / root / name)
    (found,) = sections(tmp_path / "one", tmp_path / "two")
    assert [each["name"] for each in found.data["choices"]] == ["h1", "h2", "h3"]


def test_one_of_the_same_name_is_called_by_its_decoding_or_its_folder(tmp_path):
    folder = saved(tmp_path, a=choices("m", "ab"), b=choices("m", "ab", decoding="paper"), c=choices("m", "ab"))
    (found,) = sections(folder)
    names = [each["name"] for each in found.data["asked"]]
    assert len(set(names)) == 3 and all(name.startswith("m, ") for name in names)


def test_answers_that_were_kept_to_be_read_are_called_by_their_folders(tmp_path):
    tuned = choices("/runs/of/mine/model", "ab")
    folder = saved(tmp_path, **{"20k-base": choices("deductor-20k-base", "aa"), "20k-full": tuned})
    (found,) = sections(folder)
    assert [each["name"] for each in found.data["asked"]] == ["20k-base", "20k-full"]


def test_an_item_that_was_not_asked_is_marked(tmp_path):
    (found,) = sections(saved(tmp_path, one=choices("m", "aba"), two=choices("n", "ab")))
    assert found.data["right"] == {"exact": ["101", "10-"]}
    assert found.data["items"][2]["responses"][1] == []


def test_each_step_of_a_proof_is_judged(tmp_path):
    (found,) = sections(saved(tmp_path, one=proofs("m", {1: STEPS, 2: " Sam loves."})))
    gold, wrong, unread, _ = (item["responses"][0][0]["steps"] for item in found.data["items"])
    assert {step[1] for step in gold} == {"correct"} and gold[-1][4]
    assert [step[1] for step in wrong] == ["invalid", "invalid"] and [step[1] for step in unread] == ["unparseable"]
    assert found.data["items"][1]["responses"][0][0]["right"] == [False, False, False]


def test_how_many_steps_of_a_long_proof_are_left_out_is_told(tmp_path):
    (found,) = sections(saved(tmp_path, one=proofs("m", {1: " Max is a zumpus." * 65})))
    long, short = (found.data["items"][at]["responses"][0][0] for at in (1, 0))
    assert (len(long["steps"]), long["left_out"], short["left_out"]) == (60, 5, 0)


def test_letters_have_what_was_read_and_what_is_right(tmp_path):
    (found,) = sections(saved(tmp_path, one=choices("m", ["b", None])))
    answers = [item["responses"][0][0] for item in found.data["items"]]
    assert [(each["said"], each["truncated"], each["steps"]) for each in answers] == [
        ("b", False, None),
        (None, True, None),
    ]
    assert [item["gold"] for item in found.data["items"]] == ["a", "a"] and found.data["chance"] == 0.2


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("ab")), min_size=8, max_size=40), st.integers(1500, 6000)
)
def test_what_is_kept_has_some_of_every_kind_and_fits(said, most):
    group = [choices("m", [one for one, _ in said]), choices("n", [two for _, two in said])]
    signs = [tuple("01"[each == "a"] for each in pair) for pair in said]
    chosen, notes = kept(group, group[0].items, signs, ["kind"], ["exact"], most)
    assert chosen and (len(chosen) == 1 or len(as_json(chosen).encode()) <= most + 2 * len(chosen))
    assert [each["at"] for each in chosen] == sorted(each["at"] for each in chosen)
    assert bool(notes) == (len(chosen) < len(said))
    kinds = {(i % 2, len(set(signs[i])), signs[i][0] if len(set(signs[i])) == 1 else "") for i in range(len(said))}
    kinds_kept = {
        (i % 2, len(set(signs[i])), signs[i][0] if len(set(signs[i])) == 1 else "") for i in (e["at"] for e in chosen)
    }
    assert kinds_kept == kinds or len(chosen) <= len(kinds)


def test_texts_are_thinned_to_what_a_page_bears_and_shares_are_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(responses, "MOST_OF_A_TASK", 3000)
    (found,) = sections(saved(tmp_path, one=choices("m", "ab" * 100)))
    assert 2 <= len(found.data["items"]) < 200 and "of 200 items are in the page" in found.notes[0]
    assert found.data["asked"][0]["shares"]["exact"]["n"] == 200


def test_too_many_evaluations_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(responses, "MOST_MODELS", 2)
    (found,) = sections(saved(tmp_path, a=choices("a", "ab"), b=choices("b", "ab"), c=choices("c", "ab")))
    assert len(found.data["asked"]) == 2 and found.notes[0].startswith("The first 2 of 3 evaluations are here")


@pytest.mark.parametrize("place", ["answers", "deep/er"])
def test_what_is_shown_once_is_not_shown_again(tmp_path, place):
    saved(tmp_path, **{place: choices("m", "ab")})
    contents = Contents.of(tmp_path)
    assert len(list(responses.sections(contents))) == 1
    assert not any(part.of_kind("evaluation", "table", "figure") for part in contents.walk())


def test_scores_beside_answers_of_several_models_get_a_note_and_no_card_each(tmp_path):
    scores = gold_scores(ck.load("deductor-5k"), ["Max is a cat."], [" Max"], layers=0, progress=False)
    saved(tmp_path, one=choices("m", "ab"), two=choices("n", "aa"))
    scores.save(tmp_path / "one" / "gold_scores.safetensors")
    (found,) = sections(tmp_path)
    assert found.notes[-1].startswith("Attention scores of gold tokens lie beside 1 of these evaluations")
