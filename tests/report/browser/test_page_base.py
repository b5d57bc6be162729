"""What every page has, whatever it shows: tables that sort and copy, views made when they come near, paper."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from playwright.sync_api import expect

from circuitkit import report
from circuitkit.results import Baseline, Result

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of several maps, of which most are below the window, and a table with gaps."""
    folder = tmp_path_factory.mktemp("study")
    for number in range(5):
        values = torch.randn(6, 4, generator=torch.Generator().manual_seed(number))
        Result(values, ("layer",), Baseline(torch.ones(4)), "ablate", "kl").save(folder / f"map{number}.safetensors")
    rows = "name,count,share\nb,10,0.5\na,9,\nc,100,-0.25\n\t=1,2,1e-7\n"
    (folder / "rows.csv").write_text(rows, encoding="utf-8")
    return report.write(folder, progress=False)


def test_a_table_sorts_by_number_and_by_name_with_gaps_last(page_file, open_page):
    table = open_page(page_file).locator("[id$=rows] table")

    def column(at: int) -> list[str]:
        return [text.strip() for text in table.locator(f"tbody td:nth-child({at})").all_inner_texts()]

    count, share = (table.get_by_role("button", name=name) for name in ("count", "share"))
    count.click()
    assert column(2) == ["2", "9", "10", "100"]
    count.click()
    assert column(2) == ["100", "10", "9", "2"]
    expect(table.locator("th[aria-sort=descending]")).to_have_text("count")
    for _ in range(2):
        share.press("Enter")
        assert column(1)[-1] == "a"
    assert column(1)[:3] == ["b", "=1", "c"]


def test_a_table_and_the_command_are_copied_as_text(page_file, open_page):
    page = open_page(page_file)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    # What the button says of it for two seconds stays, so that a slow machine sees it too.
    page.evaluate("window.setTimeout = () => 0")
    card = page.locator("[id$=rows]")
    card.get_by_role("button", name="Copy table").click()
    expect(card.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    lines = [line.split("\t") for line in copied.splitlines()]
    assert lines[0] == ["name", "count", "share"]
    assert len(lines) == 5 and {len(line) for line in lines} == {3}
    assert ["c", "100", "-0.25"] in [[cell.replace("−", "-") for cell in line] for line in lines]


def test_a_view_is_made_when_it_comes_near_the_window_and_before_printing(page_file, open_page):
    page = open_page(page_file, height=300, scheme="dark")
    made = page.locator(".view[data-state=mounted]")
    assert made.count() < 5
    scale = page.locator("[id$=map4] .legend .swatch.scale")
    assert scale.count() == 0
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert made.count() == 5
    on_paper = scale.evaluate("one => one.style.background")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert scale.evaluate("one => one.style.background") != on_paper
    assert page.locator("details.still[open]").count() == 0


def test_the_page_reads_without_its_script(page_file, browser):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(page_file.as_uri())
    expect(page.locator("[id$=map0] details.still img")).to_be_visible()
    assert page.locator("[id$=map0] details.still img").get_attribute("src").startswith("data:image/")
    expect(page.locator("[id$=rows] table")).to_contain_text("100")
    context.close()
