"""Circuits in a browser: the slider cuts as circuitkit does, nodes and edges are pointed at, two are overlaid."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from circuitkit import report
from circuitkit.circuits import Graph, Layout, emergent_heads, stability
from report.circuit_folders import PLAIN, SHARED, compared, curve, found, graph

pytestmark = pytest.mark.slow

HOSTILE = "</script><img src=x onerror=\"document.title = 'taken over'\">"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    return lambda: tmp_path_factory.mktemp("circuit")


def page_of(folder: Path) -> Path:
    return report.write(folder, progress=False)


def card(page: Page, name: str) -> Locator:
    shown = page.locator(f"section.card[id$={name}]")
    shown.scroll_into_view_if_needed()
    expect(shown.locator(".view")).to_have_attribute("data-state", "mounted")
    return shown


def move(shown: Locator, place: int) -> None:
    """Move the slider as a pointer does."""
    shown.get_by_role("slider").evaluate(
        "(one, value) => { one.value = value; one.dispatchEvent(new Event('input')); }", place
    )


def edges(shown: Locator) -> set[tuple[str, str]]:
    """The edges that the table under the picture has."""
    details = shown.locator("details.edges")
    if details.get_attribute("open") is None:
        details.locator("summary").click()
        shown.page.wait_for_function("one => one.querySelector('table') !== null", arg=details.element_handle())
    rows = details.locator("table").evaluate(
        "table => [...table.tBodies[0].rows].map(row => [row.cells[0].textContent, row.cells[1].textContent])"
    )
    return {(source, destination) for source, destination in rows}


def expected(circuit: Graph) -> set[tuple[str, str]]:
    frame = circuit.frame
    return set(zip(frame["source"], frame["destination"], strict=True))


@pytest.mark.parametrize("layout", [PLAIN, SHARED], ids=["plain", "shared keys and values, parallel layers"])
def test_the_slider_cuts_as_top_and_prune_do(folder, open_page, layout: Layout) -> None:
    scored = graph(layout, 3, ties=True)
    scored.save(place := folder())
    shown = card(open_page(page_of(place)), "graph")
    sizes = (1, 7, 20, 33, 50, 64, layout.n_edges)
    for by, label in (("absolute", "Magnitude"), ("signed", "Helpfulness")):
        shown.get_by_label("Strongest by").select_option(label=label)
        lengths = set()
        for n in sizes:
            # Of a small graph each size is a place of the slider, the first that of one edge.
            move(shown, n - 1)
            circuit = scored.top(n, by).prune()
            lengths.add(circuit.size)
            expect(shown.locator(".slider output")).to_have_text(
                f"{n} strongest: {circuit.size} on a way from input to logits"
            )
            assert edges(shown) == expected(circuit), (by, n)
        assert len(lengths) > 3


def test_what_is_pointed_at_tells_its_degrees_and_importance_and_a_click_keeps_its_edges(folder, open_page) -> None:
    circuit = found(place := folder(), graph(seed=6))
    page = open_page(page_of(place))
    shown = card(page, "graph")
    told = circuit.complexity.set_index("node")
    names = [name for name in told.index[told["out_degree"] > 0] if name.startswith("a")]
    chart, live = shown.locator(".chart").first, shown.locator(".layers .live")
    for name in names[:3]:
        label = name.removeprefix("a").replace("h", "")
        box = chart.locator("text", has_text=label).first.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        degrees = told.loc[name]
        edge = "edge" if degrees["in_degree"] == 1 else "edges"
        expect(live).to_contain_text(f"{name}. circuit: {degrees['in_degree']} {edge} in, {degrees['out_degree']} out")
        importance = circuit.importance()[circuit.layout.layer_and_head(name)]
        expect(live).to_contain_text(f"importance: {float(f'{importance:.3g}'):g} logits")
    page.mouse.down()
    page.mouse.up()
    kept = {(source, destination) for source, destination in expected(circuit) if source == name or name in destination}
    assert edges(shown) == kept
    # The page has moved with the click that opened the table.
    chart.scroll_into_view_if_needed()
    box = chart.locator("text", has_text=label).first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.up()
    assert edges(shown) == expected(circuit)


def test_edges_differ_by_sign_in_colour_and_in_dash(folder, open_page) -> None:
    circuit = found(place := folder(), graph(seed=6))
    shown = card(open_page(page_of(place)), "graph")
    strokes = (
        shown.locator(".chart")
        .first.locator("path[fill=none]")
        .evaluate_all(
            "all => all.filter(one => one.getAttribute('stroke') && one.getAttribute('d').includes('L'))"
            ".map(one => [one.getAttribute('stroke'), one.getAttribute('stroke-dasharray'), "
            "+one.getAttribute('stroke-width') || 1])"
        )
    )
    scores = circuit.scores[circuit.members]
    helps = [one for one in strokes if one[0] == "#b35806"]
    hurts = [one for one in strokes if one[0] == "#542788"]
    assert (len(helps), len(hurts)) == (int((scores > 0).sum()), int((scores < 0).sum()))
    assert not any(dash for _, dash, _ in helps) and all(dash for _, dash, _ in hurts)
    assert max(width for *_, width in helps + hurts) > 1.4 * min(width for *_, width in helps + hurts)
    expect(shown.locator(".layers .legend")).to_contain_text(f"lowers the logit difference: {len(helps)} edge")


def test_a_graph_and_its_curve_are_gone_through_by_keys_alone(folder, open_page) -> None:
    circuit = found(place := folder(), graph(seed=6))
    page = open_page(page_of(place))
    shown = card(page, "graph")
    slider = shown.get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowRight")
    n = int(shown.locator(".slider output").inner_text().split()[0])
    assert edges(shown) == expected(circuit.whole().top(n).prune())
    shown.get_by_role("button", name="The circuit found").focus()
    page.keyboard.press("Enter")
    assert edges(shown) == expected(circuit)
    shown.locator(".chart").first.focus()
    live = shown.locator(".layers .live")
    page.keyboard.press("ArrowUp")
    expect(live).to_contain_text("logits. circuit:")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    expect(live).to_contain_text("m2. circuit:")
    page.keyboard.press("Enter")
    kept = {(source, destination) for source, destination in expected(circuit) if "m2" in (source, destination)}
    assert edges(shown) == kept
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(live).to_contain_text("Point at a node or an edge")
    shown.locator(".beside .chart").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    beside = curve(circuit)
    expect(shown.locator(".beside .live")).to_contain_text(f"{beside.requested[1]} edges asked for")
    page.keyboard.press("Enter")
    expect(shown.locator(".slider output")).to_contain_text(f"{beside.requested[1]} strongest")
    assert edges(shown) == expected(circuit.whole().top(beside.requested[1]).prune())


def test_a_click_on_the_curve_moves_the_slider_and_both_averagings_are_shown(folder, open_page) -> None:
    circuit = found(place := folder(), graph(seed=6))
    page = open_page(page_of(place))
    shown = card(page, "graph")
    chart = shown.locator(".beside .chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    # In the middle of the axis, from 10 % to 100 %, both on a logarithmic scale.
    page.mouse.click(box["x"] + 56 + (box["width"] - 70) / 2, box["y"] + 60)
    expect(shown.locator(".slider output")).to_contain_text("strongest")
    n = int(shown.locator(".slider output").inner_text().split()[0])
    assert n == pytest.approx(circuit.layout.n_edges * 10**-0.5, abs=2)
    live = shown.locator(".beside .live")
    row = curve(circuit).frame.loc[1]
    for name, label in (("faithfulness", "ratio of means"), ("mean_of_ratios", "mean of ratios")):
        shown.get_by_role("button", name=label).click()
        chart.focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        expect(live).to_contain_text(f"keeps {100 * row[name]:.0f}%")
        expect(live).to_contain_text("95% interval")
    expect(shown.locator(".beside .legend")).to_contain_text("mean of 2 random circuits")
    shown.get_by_label("Strongest by").select_option(label="Helpfulness")
    expect(shown.locator(".beside .caption")).to_contain_text("No curve of edges by helpfulness was saved")


def test_a_poor_circuit_is_said_to_be_poor(folder, open_page) -> None:
    scored = graph(seed=6, noise=9.0)
    circuit = scored.top(30).prune()
    circuit.save(place := folder())
    assert stability(circuit, 30, resamples=10).verdict == "poor"
    stability(circuit, 30, resamples=10).save(place)
    shown = card(open_page(page_of(place)), "graph")
    expect(shown.locator(".stability.poor strong")).to_have_text("Stability poor")
    expect(shown.locator(".stability.poor")).to_contain_text("says little about the model")


def test_two_circuits_are_overlaid_and_their_heads_told_apart(folder, open_page) -> None:
    base, post = compared(place := folder(), names=(HOSTILE, "post"))
    page = open_page(page_of(place))
    title = page.title()
    shown = card(page, "circuits-of-head-changes")
    key = shown.locator(".layers .legend")
    for told, circuit in (
        ("in both", base & post),
        (f"in {HOSTILE} alone", base - post),
        ("in post alone", post - base),
    ):
        expect(key).to_contain_text(f"{told}: {circuit.size} edge")
    dashes = key.locator(".swatch").evaluate_all("all => all.map(one => one.style.borderTopStyle)")
    assert sorted(dashes) == ["dashed", "dotted", "solid"]
    assert edges(shown) == expected(base | post)
    shown.get_by_role("button", name="post", exact=True).click()
    assert edges(shown) == expected(post)
    expect(key).to_contain_text("helps: corrupting it lowers the logit difference")
    shown.get_by_role("button", name="Both").click()
    move(shown, 29)
    assert edges(shown) == expected(base.whole().top(30).prune() | post.whole().top(30).prune())
    heads = card(page, "s-head-changes")
    heads.locator(".chart").focus()
    page.keyboard.press("ArrowUp")
    for letter, chosen in (("E", set(post.heads) - set(base.heads)), ("L", set(base.heads) - set(post.heads))):
        assert heads.locator(".chart text", has_text=re.compile(f"^{letter}$")).count() == len(chosen)
    changes = emergent_heads(base, post, resamples=10)
    row = changes.frame.set_index(["layer", "head"]).loc[2, 0]
    became = "" if row["change"] == "neither" else f"it is {row['change']}; "
    expect(heads.locator(".live")).to_contain_text(f"L2H0: {became}effect {row['effect']:.3g}".replace("-", "\u2212"))
    assert page.title() == title and page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_wide_graph_scrolls_in_its_own_box_at_400_pixels(folder, open_page, scheme) -> None:
    graph(Layout((24,) * 3, (24,) * 3, (False,) * 3)).top(400).prune().save(place := folder())
    page = open_page(page_of(place), width=400, scheme=scheme)
    shown = card(page, "graph")
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    box = shown.locator(".layers .scroll").first
    assert box.evaluate("one => one.scrollWidth > one.clientWidth && one.scrollLeft === 0")
    shown.locator(".chart").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    assert box.evaluate("one => one.scrollLeft > 0")
    expect(shown.locator(".layers .caption").last).to_contain_text("Edges run upwards")
