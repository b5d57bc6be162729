"""The report of every kind of study, as its command leaves it, in a browser: whole, quiet, readable, by keys alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect

from circuitkit import report
from circuitkit.report.embedding import MOST_BYTES
from circuitkit.writing import write_prompts
from report import small_experiments, verb_folders
from report.browser.looking import accessible, by_keys, mounted, sticking_out, too_faint, unfolded
from report.circuit_folders import found, graph
from report.evaluations import choices
from report.small_experiments import EXPERIMENTS
from report.studies import HOSTILE, ORIGIN, study, write_json
from report.verb_folders import VERBS

pytestmark = pytest.mark.slow

WIDE, NARROW = 1200, 400

PageOf = Callable[[str], Path]
Open = Callable[..., Page]

every_study = pytest.mark.parametrize("study", [*VERBS, *EXPERIMENTS])


@pytest.fixture(scope="session")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> PageOf:
    """The report of a study, which is run at the first call."""
    within = tmp_path_factory.mktemp("studies")
    made: dict[str, Path] = {}

    def written(study: str) -> Path:
        if study not in made:
            make = verb_folders.make if study in VERBS else small_experiments.make
            folder = make(study, within)
            made[study] = report.write(folder, progress=False)
        return made[study]

    return written


@every_study
def test_every_view_is_made_and_read_at_both_widths_in_both_themes(study: str, page_of: PageOf, open_page: Open):
    file = page_of(study)
    assert file.stat().st_size < MOST_BYTES
    page = open_page(file, width=WIDE)
    mounted(page)
    unfolded(page)
    wrong: dict[str, list[str]] = {}
    for width in (WIDE, NARROW):
        page.set_viewport_size({"width": width, "height": page.viewport_size["height"]})
        unfolded(page)
        wrong[f"{width} pixels"] = sticking_out(page)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(60)
            wrong[f"{width} pixels, {scheme}"] = too_faint(page)
    assert {where: found for where, found in wrong.items() if found} == {}


@every_study
def test_keys_reach_everything_and_show_where_they_are(study: str, page_of: PageOf, open_page: Open):
    page = open_page(page_of(study))
    mounted(page)
    page.evaluate("scrollTo(0, 0)")
    assert by_keys(page) == {"missed": [], "unseen": [], "bare": []}


@every_study
def test_it_reads_without_its_script(study: str, page_of: PageOf, browser: Browser):
    context = browser.new_context(viewport={"width": NARROW, "height": 900}, java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(page_of(study).as_uri())
    expect(page.locator("#found")).to_be_visible()
    assert len(page.locator("#found").inner_text().split()) > 8
    for card in page.locator("section.card").all():
        shown = card.locator("details.still[open] img, details.rows[open] table")
        assert shown.count() > 0, card.get_attribute("id")
        for image in card.locator("details.still img").all():
            assert image.evaluate("one => one.complete && one.naturalWidth > 0 && one.alt.length > 12")
    assert sticking_out(page) == []
    context.close()


@every_study
def test_no_reader_is_shut_out(study: str, page_of: PageOf, open_page: Open):
    page = open_page(page_of(study))
    mounted(page)
    assert accessible(page) == []


def test_what_was_asked_and_answered_is_never_more_than_text(tmp_path: Path, open_page: Open):
    said = [*HOSTILE, "a"]
    folder = tmp_path / "<img src=x onerror=alert(3)>"
    labels = {"layer": HOSTILE}
    origin = ORIGIN | {"model": HOSTILE[0], "note": HOSTILE[2]}
    study(folder, cells=len(HOSTILE), labels=labels, title=HOSTILE[1], provenance=origin)
    write_prompts(folder, ["af3"], [f"{text} asked" for text in said])
    found(folder / "circuit", graph(model=HOSTILE[1]))
    for name, answers in (("one", said), (HOSTILE[1], ["a"] * len(said))):
        choices(name, answers).save(folder / f"answers {len(name)}")
    pd.DataFrame({HOSTILE[1]: HOSTILE}).to_csv(folder / "rows.csv", index=False)
    page = open_page(report.write(folder, progress=False))
    mounted(page)
    for view in page.locator(".view[data-view=map], .view[data-view=responses]").all():
        view.locator(".chart[tabindex], button:not(.sort, .copy)").last.focus()
        for key in ("ArrowRight", "Enter"):
            page.keyboard.press(key)
    unfolded(page)
    seen = page.locator("body").inner_text()
    for text in (*HOSTILE[:2], HOSTILE[5], HOSTILE[6], "-->", folder.name, f"{HOSTILE[0]} asked"):
        assert text in seen
    assert "\u202e" not in "".join(page.locator("h1, h3, dd, li").all_inner_texts())
    sources = page.locator("img").evaluate_all("all => all.map(one => one.getAttribute('src').slice(0, 11))")
    assert set(sources) == {"data:image/"}
    assert page.locator("script:not(.data)").count() == 1
    assert page.locator("[onerror], [onload], iframe, object, embed, base, form").count() == 0


RUNS = "<img src=x onerror=alert({})>"


def test_names_keys_cells_and_texts_of_a_folder_are_never_more_than_text(tmp_path: Path, open_page: Open):
    told = {
        place: RUNS.format(number)
        for number, place in enumerate(
            (
                "folder",
                "part",
                "file",
                "broken",
                "key",
                "value",
                "model",
                "command",
                "version",
                "library",
                "time",
                "column",
                "cell",
                "text",
                "finding",
                "written",
                "unit",
                "metric",
                "title",
                "label",
                "sentence",
            )
        )
    }
    folder = tmp_path / told["folder"]
    origin = ORIGIN | {
        "model": told["model"],
        "command": f"circuitkit patch '{told['command']}'",
        "time": told["time"],
        "versions": {told["library"]: told["version"]},
        "nested": {told["key"]: [told["value"]], "__proto__": {"constructor": "held under its name"}},
        "sentences": [told["sentence"]],
    }
    names = {"title": told["title"], "unit": told["unit"], "labels": {"layer": (told["label"], "$\\frac{$ $", "$x^2$")}}
    study(folder / told["part"], told["file"], provenance=origin, metric=told["metric"], **names)
    pd.DataFrame({told["column"]: [told["cell"], "NA"], "n": [1, 2]}).to_csv(folder / "cells.csv", index=False)
    (folder / f"{told['broken']}.safetensors").write_bytes(b"cut")
    (folder / "log.txt").write_text(told["text"])
    (folder / "report.md").write_text(f"- **{told['finding']}** `{told['finding']}`\n")
    write_json(folder / "generated.json", {"prompt": "a", "unchanged": told["written"], "changed": told["written"]})
    with pytest.warns(UserWarning, match="not in the report"):
        page = open_page(report.write(folder, progress=False))
    mounted(page)
    unfolded(page)
    seen = page.locator("body").inner_text()
    assert {place for place, text in told.items() if text not in seen} <= {"metric", "unit"}
    assert "held under its name" in seen and "$x^2$" in page.locator("body").inner_html()
    assert page.locator("script:not(.data)").count() == 1
    assert page.locator("img:not([src^='data:image/']), [onerror], iframe, object, embed, base, form").count() == 0
