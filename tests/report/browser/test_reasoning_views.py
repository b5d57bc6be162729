"""Responses, levels, sizes and histograms in a browser: pointed at, gone through by keys; responses that are code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

import circuitkit as ck
from circuitkit import report
from circuitkit.sfn import Condition, Delta, LevelTable
from circuitkit.thresholds import Threshold, find
from planted_accuracy import planted, step
from report.evaluations import choices, proofs
from report.studies import HOSTILE
from sfn.response_levels.test_level_table import levels

pytestmark = pytest.mark.slow

WRONG = " Max is a zumpus. Max is a zumpus."


def card(page: Page, name: str) -> Locator:
    found = page.locator(f"section.card[id$='{name}']")
    found.scroll_into_view_if_needed()
    expect(found.locator(".view")).to_have_attribute("data-state", "mounted")
    return found


@pytest.fixture(scope="module")
def delta() -> Delta:
    return ck.sfn.delta("deductor-5k-base", "deductor-5k", ["q_proj", "o_proj"], progress=False)


@pytest.fixture(scope="module")
def threshold() -> Threshold:
    table = planted(step, 0, models=16, families=5, sure=200)
    return find(table, task="steps", chance=0.2, draws=99, leave_out=False, progress=False)


def page_of(folder: Path, **results: object) -> Path:
    for name, one in results.items():
        one.save(folder / name)
    return report.write(folder, progress=False)


def test_responses_that_hold_code_are_text(tmp_path, open_page) -> None:
    said = [*HOSTILE, "a"]
    page = open_page(page_of(tmp_path, one=choices("one", said), two=choices(HOSTILE[1], ["a"] * len(said))))
    shown = card(page, "responses-letters")
    assert HOSTILE[1] in shown.locator("table.items thead").inner_text()
    for at, text in enumerate(HOSTILE):
        shown.locator("table.items tbody tr").nth(at).locator(".verdict-button").first.click()
        shown.get_by_label("Answer of").select_option("one")
        written = shown.locator(".answer pre").inner_text()
        for part in re.split("[\x00-\x1f\u2028\u202c\u202e]", text):
            assert part in written
        assert not re.search("[\x00\x1b\u2028\u202e]", written)
    assert page.evaluate("document.querySelectorAll('.view script, .view img').length") == 0


def test_items_that_models_disagree_on_come_first_and_are_chosen_from(tmp_path, open_page) -> None:
    page = open_page(page_of(tmp_path, one=choices("m-1m", "aabba"), two=choices("m-20k", "abaab")))
    shown = card(page, "responses-letters")
    line = shown.locator(".live")
    expect(line).to_contain_text("4 items of 5")
    heads = shown.locator("table.items thead th").all_inner_texts()
    assert heads[-2:] == ["m-20k", "m-1m"]
    shown.get_by_label("Show").select_option("all are right")
    expect(line).to_contain_text("1 item of 5")
    shown.get_by_label("Show").select_option("all items")
    shown.get_by_label("kind").select_option("odd")
    expect(line).to_contain_text("2 items of 5")
    shown.get_by_label("Find").fill("question 3")
    expect(line).to_contain_text("1 item of 5")
    shown.locator("summary", has_text="side by side")
    row = shown.locator("table.frame").first.locator("tbody tr").first
    assert row.locator("td").nth(4).inner_text() == "2"  # it alone is right


def test_proofs_are_read_step_by_step_with_keys_alone(tmp_path, open_page) -> None:
    page = open_page(page_of(tmp_path, one=proofs("m", {1: WRONG}), two=proofs("n", {})))
    shown = card(page, "responses-prontoqa-implication-elimination-2")
    expect(shown.locator(".live")).to_contain_text("1 item of 4")
    shown.get_by_label("Find").focus()
    page.keyboard.press("Tab")
    assert "verdict-button" in page.evaluate("document.activeElement.className")
    page.keyboard.press("Enter")
    steps = shown.locator("ol.proof li")
    expect(steps).to_have_count(1)
    expect(steps.first).to_contain_text("invalid: does not follow from the question and the steps before; said 2 times")
    shown.get_by_label("Answer of").select_option("n")
    expect(steps.last).to_contain_text("this is what was to be proved")
    expect(shown.locator(".answer .legend")).to_contain_text("strict: right")
    shown.get_by_role("button", name="Close").press("Enter")
    assert "verdict-button" in page.evaluate("document.activeElement.className")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(steps.first).to_contain_text("correct: it stands in the question")


def test_responses_of_one_model_show_what_was_read_and_what_is_right(tmp_path, open_page) -> None:
    page = open_page(page_of(tmp_path, one=choices("m", ["a", "b", None])))
    shown = card(page, "responses-letters")
    expect(shown.locator(".view > div > p").first).to_contain_text(
        "33% right as exact (95% interval 6% to 79%; 1 of 3)"
    )
    shown.get_by_label("Show").select_option("wrong")
    expect(shown.locator(".live")).to_contain_text("2 items of 3")
    shown.locator(".verdict-button").first.click()
    expect(shown.locator(".answer")).to_contain_text("read: b")
    shown.get_by_label("Show").select_option("broken off")
    shown.locator(".verdict-button").first.click()
    expect(shown.locator(".answer")).to_contain_text("no answer could be read")


def test_a_count_opens_the_responses_behind_it(tmp_path, open_page) -> None:
    conditions = [
        Condition.of({"set": name}, levels(given)) for name, given in (("o_proj", "1124"), (HOSTILE[0], "44"))
    ]
    LevelTable("merges", conditions).save(tmp_path)
    shown = card(open_page(report.write(tmp_path, progress=False)), "level-table")
    counts = shown.locator("button.count")
    assert counts.all_inner_texts() == ["2", "1", "0", "1", "0", "0", "0", "2"]
    counts.first.focus()
    shown.page.keyboard.press("ArrowRight")
    expect(shown.locator(".live")).to_contain_text(
        "set o_proj: 1 response of level II (off the task), 25%, 95% interval"
    )
    shown.page.keyboard.press("Enter")
    expect(shown.locator(".examples .answer")).to_have_count(1)
    shown.locator(".examples summary", has_text="What was measured").click()
    expect(shown.locator(".examples .facts")).to_contain_text("fluency, 0 to 1")
    shown.get_by_role("button", name="Close").press("Enter")
    assert shown.page.evaluate("document.activeElement.className") == "count"


def test_a_breakpoint_is_told_and_models_are_gone_through_by_size(tmp_path, open_page, threshold) -> None:
    page = open_page(page_of(tmp_path, **{"fits/steps.json": threshold}))
    shown = card(page, "thresholds")
    expect(shown.locator(".legend")).to_contain_text("breakpoint ")
    expect(shown.locator(".size-verdict")).to_have_text("A threshold.")
    shown.get_by_role("button", name="All curves").press("Enter")
    expect(shown.locator(".legend")).to_contain_text("isotonic (no threshold)")
    page.keyboard.press("Tab")
    smallest = threshold.frame.sort_values(["parameters", "accuracy"]).iloc[0]
    expect(shown.locator(".live")).to_contain_text(f"{smallest['model']}: family {smallest['family']}")
    page.keyboard.press("End")
    largest = threshold.frame.sort_values(["parameters", "accuracy"]).iloc[-1]
    expect(shown.locator(".live")).to_contain_text(f"{largest['model']}: ")
    page.keyboard.press("Escape")
    expect(shown.locator(".live")).to_contain_text("Point at a mark")


def test_a_cell_opens_its_histogram_beside_its_nulls(tmp_path, open_page, delta) -> None:
    delta.save(tmp_path)
    page = open_page(report.write(tmp_path, progress=False))
    shown = card(page, "delta")
    shown.get_by_label("Measure").focus()
    page.keyboard.press("Tab")
    live = shown.locator(".live").first
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    value = delta.table("relative").loc[1, "o_proj"]
    expect(live).to_contain_text(f"layer 1, o_proj: relative {value:.3g}")
    page.keyboard.press("Enter")
    examples = shown.locator(".examples")
    expect(examples).to_contain_text("Relative change of layer 1, o_proj")
    expect(examples).to_contain_text("null: the same changes, shuffled among the weights")
    examples.get_by_role("button", name="−1 to 1, as in the paper").click()
    examples.locator(".chart").focus()
    page.keyboard.press("ArrowRight")
    expect(examples.locator(".live")).to_contain_text("changes shuffled")
    shown.locator(".controls select").first.select_option("Heads of q_proj")
    expect(shown.locator(".examples")).to_have_count(0)
    shown.locator(".chart").focus()
    page.keyboard.press("Home")
    expect(live).to_contain_text("q_proj head 0")


@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_never_scrolls_sideways(tmp_path, open_page, delta, threshold, width, scheme) -> None:
    LevelTable("merges", [Condition.of({"set": "o_proj" * 9}, levels("1124"))]).save(tmp_path)
    delta.save(tmp_path)
    models = {f"m{i}": choices(f"a-model-of-a-long-name-{i}k", "ab" * 9) for i in range(12)}
    page = open_page(page_of(tmp_path, **models, **{"threshold.json": threshold}), width=width, scheme=scheme)
    for name in ("delta", "level-table", "thresholds", "responses-letters"):
        card(page, name)
    assert page.evaluate("document.documentElement.scrollWidth") == width
