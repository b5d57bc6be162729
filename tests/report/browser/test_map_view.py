"""Maps of a study's cells in a browser: pointed at, gone through by keys, clicked; and data that would be code."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Locator, Page, expect

from circuitkit import report
from circuitkit.pairs import Pairs
from circuitkit.results import Baseline, Result
from circuitkit.writing import write_prompts

pytestmark = pytest.mark.slow

HOSTILE = (
    "</script><script>document.title = 'taken over'</script>",
    "<img src=x onerror=\"document.title = 'taken over'\">",
    "a\u2028b --> \x07",
    "\u202egnp.exe",
    "{value} {a|b} $x$",
    " wumpus",
)
N = 12


def result(shape: tuple[int, ...], axes: tuple[str, ...], seed: int = 0, **more: object) -> Result:
    """A denoising study of made-up numbers, of which one cell stands out."""
    generator = torch.Generator().manual_seed(seed)
    effects = 0.3 * torch.randn(*shape, N, generator=generator)
    effects[tuple(size - 1 for size in shape)] += 5.0
    clean, corrupt = 4 + torch.randn(N, generator=generator), torch.randn(N, generator=generator)
    return Result(corrupt + effects, axes, Baseline(clean, corrupt), "denoise", "logit_difference", "logits", **more)


def card(page: Page, name: str) -> Locator:
    found = page.locator(f"section.card[id$={name}]")
    found.scroll_into_view_if_needed()
    expect(found.locator(".view")).to_have_attribute("data-state", "mounted")
    return found


def read(live: Locator) -> tuple[str, float]:
    """The cell that the line under a map names, and the number that it gives."""
    said = re.match(r"(.*?): (?:normalised|effect) (−?[\d.]+)", live.inner_text())
    assert said, live.inner_text()
    return said[1], float(said[2].replace("−", "-"))


@pytest.fixture(scope="module")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def written(*, prompts: bool = False, **results: Result) -> Path:
        folder = tmp_path_factory.mktemp("study")
        for name, one in results.items():
            one.save(folder / f"{name}.safetensors")
        if prompts:
            texts = [f"{HOSTILE[i % len(HOSTILE)]} asked {i}" for i in range(N)]
            write_prompts(folder, ["of these"], Pairs(texts, [f"{text} corrupt" for text in texts], [" no"] * N))
        return report.write(folder, progress=False)

    return written


def test_pointing_at_a_cell_tells_its_numbers_and_clicking_it_shows_its_examples(page_of, open_page) -> None:
    study = result((3, 4), ("layer", "head"))
    page = open_page(page_of(heads=study))
    heads = card(page, "heads")
    chart, live = heads.locator(".chart"), heads.locator(".live").first
    box = chart.bounding_box()
    seen = {}
    for across in (0.2, 0.4, 0.6, 0.95):
        page.mouse.move(box["x"] + across * box["width"], box["y"] + 0.25 * box["height"])
        name, value = read(live)
        layer, head = map(int, re.fullmatch(r"layer (\d+), head (\d+)", name).groups())
        assert value == pytest.approx(float(study.normalised[layer, head]), abs=6e-3)
        seen[layer, head] = value
    assert len(seen) == 4
    assert (2, 3) in seen and "(survives)" in live.inner_text()
    tip = page.locator("body > div .facts").last
    expect(tip).to_contain_text("95% interval")
    expect(tip).to_contain_text("mean of 3 other heads of its layer")
    page.mouse.down()
    page.mouse.up()
    examples = heads.locator(".examples")
    expect(examples).to_contain_text("Each example at layer 2, head 3")
    examples.locator("summary").click()
    shown = [
        float(cell)
        for cell in examples.locator("tbody td:nth-child(2)").evaluate_all("all => all.map(one => one.dataset.value)")
    ]
    assert shown == pytest.approx(study.effects_per_example[2, 3].tolist(), rel=1e-4)


def test_a_map_is_gone_through_by_keys_alone(page_of, open_page) -> None:
    study = result((3, 4), ("layer", "head"))
    page = open_page(page_of(heads=study))
    heads = card(page, "heads")
    live = heads.locator(".live").first
    heads.get_by_role("button", name="Effect", exact=True).focus()
    page.keyboard.press("Tab")
    assert read(live)[0] == "layer 2, head 3"  # the strongest cell
    for key, name in (("ArrowDown", "layer 1, head 3"), ("ArrowLeft", "layer 1, head 2"), ("Home", "layer 1, head 0")):
        page.keyboard.press(key)
        assert read(live)[0] == name
    page.keyboard.press("Enter")
    expect(heads.locator(".examples")).to_contain_text("Each example at layer 1, head 0")
    heads.locator(".examples .chart").focus()
    page.keyboard.press("ArrowRight")
    expect(heads.locator(".examples .live")).to_contain_text("Example ")
    heads.get_by_role("button", name="Close").press("Enter")
    expect(heads.locator(".examples")).to_have_count(0)
    assert page.evaluate("document.activeElement.className") == "chart"
    page.keyboard.press("Escape")
    expect(live).to_contain_text("Point at a cell")


def test_the_switch_shows_effects_in_the_metrics_unit(page_of, open_page) -> None:
    study = result((3, 4), ("layer", "head"))
    heads = card(open_page(page_of(heads=study)), "heads")
    largest = float(study.effects.abs().max())
    expect(heads.locator(".legend")).to_contain_text("share of clean − corrupt restored")
    heads.get_by_role("button", name="Effect", exact=True).click()
    expect(heads.locator(".legend")).to_contain_text("logit difference, value − corrupt [logits]")
    expect(heads.locator(".legend")).to_contain_text(f"+{largest:.3g}")
    heads.locator(".chart").focus()
    heads.page.keyboard.press("ArrowUp")
    assert read(heads.locator(".live").first)[1] == pytest.approx(largest, abs=6e-3)


def test_cells_that_do_not_exist_are_hatched_and_said(page_of, open_page) -> None:
    values = result((3, 4), ("layer", "head"))
    values.per_example[1, 2:] = torch.nan
    page = open_page(page_of(heads=values))
    heads = card(page, "heads")
    expect(heads.locator(".legend")).to_contain_text("no such cell: 2")
    assert heads.locator(".chart svg pattern").count() > 0
    heads.locator(".chart").focus()
    page.keyboard.press("ArrowDown")
    expect(heads.locator(".live").first).to_have_text("layer 1, head 3: no such cell.")


def test_names_of_rows_are_whole(page_of, open_page) -> None:
    names = tuple(f"mlp_out.{i}" for i in range(3))
    paths = card(open_page(page_of(paths=result((3, 2), ("sender", "receiver"), labels={"sender": names}))), "paths")
    for name in names:
        expect(paths.locator(".chart svg text", has_text=name)).to_be_visible()


def test_a_cell_is_touched_where_nothing_hovers(page_of, browser) -> None:
    study = result((3, 4), ("layer", "head"))
    context = browser.new_context(viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True, offline=True)
    page = context.new_page()
    page.goto(page_of(heads=study).as_uri())
    heads = card(page, "heads")
    box = heads.locator(".chart").bounding_box()
    page.touchscreen.tap(box["x"] + 0.9 * box["width"], box["y"] + 30)  # the last head of the highest layer
    name, value = read(heads.locator(".live").first)
    assert name == "layer 2, head 3" and value == pytest.approx(float(study.normalised[2, 3]), rel=6e-3)
    expect(page.locator("body > div .facts").last).to_contain_text("95% interval")
    expect(heads.locator(".examples")).to_contain_text("Each example at layer 2, head 3")
    context.close()


def test_more_than_two_axes_are_chosen_among(page_of, open_page) -> None:
    study = result((2, 3, 2, 4), ("layer", "head", "query", "key"))
    page = open_page(page_of(edges=study))
    edges = card(page, "edges")
    layer = edges.get_by_label("layer")
    assert layer.evaluate("one => one.selectedIndex") == 1  # where the strongest cell is
    edges.get_by_label("head").select_option(index=0)
    layer.select_option(index=0)
    edges.locator(".chart").focus()
    page.keyboard.press("Home")
    name, value = read(edges.locator(".live").first)
    assert name == "layer 0, head 0, query 1, key 0"
    assert value == pytest.approx(float(study.normalised[0, 0, 1, 0]), abs=6e-3)


def test_text_of_prompts_and_tokens_is_never_code(page_of, open_page) -> None:
    study = result(
        (len(HOSTILE),),
        ("position",),
        labels={"position": HOSTILE},
        groups=torch.arange(N) % 3,
        provenance={"data_sha256": "of these"},
    )
    page = open_page(page_of(positions=study, prompts=True))
    title = page.title()
    positions = card(page, "positions")
    positions.locator(".chart").focus()
    page.keyboard.press("Home")
    expect(positions.locator(".live").first).to_contain_text("</script>")
    page.keyboard.press("Enter")
    examples = positions.locator(".examples")
    expect(examples.locator(".chart")).to_contain_text("cluster 2")
    examples.locator("summary").click()
    for text in (HOSTILE[0], HOSTILE[1], HOSTILE[4]):
        expect(examples.locator("tbody td", has_text=f"{text} asked").first).to_be_visible()
    examples.locator(".chart").focus()
    for _ in range(N):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".facts").last).to_contain_text("corrupt prompt")
    assert page.title() == title
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_but_a_maps_own_box_scrolls_at_400_pixels(page_of, open_page, scheme) -> None:
    labels = {"position": tuple(f"token{i}" for i in range(60))}
    page = open_page(page_of(stream=result((4, 60), ("layer", "position"), labels=labels)), width=400, scheme=scheme)
    stream = card(page, "stream")
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    box = stream.locator(".view .scroll").first
    assert box.evaluate("one => one.scrollWidth > one.clientWidth && one.scrollLeft === 0")
    # The cell that a key reaches is brought into view.
    stream.locator(".chart").focus()
    page.keyboard.press("End")
    assert box.evaluate("one => one.scrollLeft > 0")


def test_the_theme_switch_draws_a_map_in_other_colours(page_of, open_page) -> None:
    page = open_page(page_of(heads=result((3, 4), ("layer", "head"))))
    heads = card(page, "heads")

    def strongest() -> str:
        return heads.locator(".legend .swatch.scale").evaluate("one => one.style.background")

    light, back = strongest(), page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark").click()
    assert strongest() != light
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != back
    page.get_by_role("button", name="Light").click()
    assert strongest() == light


def test_data_that_a_view_cannot_draw_leave_a_message_and_the_still_picture(page_of, browser) -> None:
    path = page_of(heads=result((3, 4), ("layer", "head")))
    spoiled = path.with_name("spoiled.html")
    spoiled.write_text(
        re.sub(r'"effect":\[[^\]]*\]', '"effect":[1]', path.read_text(encoding="utf-8"), count=1), encoding="utf-8"
    )
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.type))
    page.goto(spoiled.as_uri())
    expect(page.get_by_role("alert")).to_contain_text("could not be made interactive")
    assert page.locator("[id$=heads] details.still").get_attribute("open") is not None
    assert said == ["error"]
    page.close()
