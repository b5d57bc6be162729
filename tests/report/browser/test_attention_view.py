"""Attention in a browser: tokens pointed at and reached by keys, heads chosen, edges drawn, two readings at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Locator, Page, expect

from circuitkit import report
from circuitkit.attention import Attention, token_scores
from circuitkit.model.site import Site
from circuitkit.model.tokens import Tokens
from circuitkit.run.cache import Cache

pytestmark = pytest.mark.slow

HOSTILE = (
    "</script><script>document.title = 'taken over'</script>",
    "<img src=x onerror=\"document.title = 'taken over'\">",
    "a\u2028b --> \x07",
    "\u202egnp.exe",
    " {value}",
    " $x$ \n",
)
N = 7


def attention(
    words: Sequence[Sequence[str]], layers: int = 2, heads: int = 3, model: str = "toy", seed: int = 0, names=None
) -> Attention:
    """Random causal patterns of prompts of one length."""
    n = len(words[0])
    generator = torch.Generator().manual_seed(seed)
    hidden = ~torch.ones(n, n, dtype=torch.bool).tril()
    patterns = {
        Site("pattern", layer=layer): (3 * torch.randn(len(words), heads, n, n, generator=generator))
        .masked_fill(hidden, -torch.inf)
        .softmax(-1)
        for layer in range(layers)
    }
    tokens = Tokens(torch.arange(n).repeat(len(words), 1), torch.ones(len(words), n, dtype=torch.bool))
    cache = Cache(patterns, tokens.positions, tokens.lengths, {}, layers)
    return Attention(cache, tokens, tuple(map(tuple, words)), {"model": model}, names)


def words(start: str = "w", n: int = N) -> list[str]:
    return [f" {start}{at}" for at in range(n)]


def card(page: Page) -> Locator:
    found = page.locator("section.card", has=page.locator(".view[data-view=attention]"))
    found.scroll_into_view_if_needed()
    expect(found.locator(".view")).to_have_attribute("data-state", "mounted")
    return found


def said(live: Locator) -> dict[int, float]:
    """The tokens that a line names behind the first one, with their weights."""
    return {int(at): float(weight) for at, weight in re.findall(r"\((\d+)\) (\d[\d.]*\d|\d)", live.inner_text())}


def colours(reading: Locator) -> list[str]:
    return reading.locator(".token").evaluate_all("all => all.map(one => one.style.background)")


@pytest.fixture(scope="module")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def written(beside: Attention | None = None, **files: Attention) -> Path:
        folder = tmp_path_factory.mktemp("attention")
        for name, one in files.items():
            one.save(folder / f"{name}.safetensors")
        other = None
        if beside is not None:
            other = tmp_path_factory.mktemp("beside")
            beside.save(other)
        return report.write(folder, beside=other, progress=False)

    return written


def test_pointing_at_a_token_colours_the_others_by_its_attention_and_a_click_pins_it(page_of, open_page) -> None:
    kept = attention([words()])
    page = open_page(page_of(attention=kept))
    shown = card(page)
    tokens, live = shown.locator(".token"), shown.locator(".live")
    layer, head = map(int, re.match(r"Layer (\d+), head (\d+)", shown.locator(".chosen-head").inner_text()).groups())
    pattern = kept.pattern(layer, head)
    resting = colours(shown)
    tokens.nth(4).hover()
    weights = said(live)
    strongest = sorted(range(1, 5), key=lambda at: -float(pattern[4, at]))[:3]
    strongest = [at for at in strongest if pattern[4, at] >= 0.001]  # less is not told
    assert len(strongest) > 1
    assert list(weights) == strongest
    assert list(weights.values()) == pytest.approx([float(pattern[4, at]) for at in strongest], rel=6e-3)
    assert f"{float(pattern[4, 0]):.0%} of its attention goes to the first token" in live.inner_text()
    pointed = colours(shown)
    assert pointed != resting and pointed[0] == ""  # the first token is left out
    # The later the stop of the scale, the stronger the colour: the strongest has the last one.
    assert pointed[strongest[0]] == "rgb(127, 59, 8)"
    shown.get_by_role("button", name="Counted").click()
    tokens.nth(4).hover()
    assert colours(shown)[0] != ""
    tokens.nth(4).click()
    expect(tokens.nth(4)).to_have_attribute("aria-pressed", "true")
    page.mouse.move(0, 0)
    assert '"w4" (4) looks' in live.inner_text()
    tokens.nth(2).hover()
    assert '"w2" (2) looks' in live.inner_text()
    tokens.nth(4).click()
    page.mouse.move(0, 0)
    assert '"w6" (6) looks' in live.inner_text()  # the last token, where none is pinned


def test_the_other_way_shows_what_attends_to_a_token(page_of, open_page) -> None:
    kept = attention([words()])
    shown = card(open_page(page_of(attention=kept)))
    layer, head = map(int, re.match(r"Layer (\d+), head (\d+)", shown.locator(".chosen-head").inner_text()).groups())
    shown.get_by_role("button", name="Is looked at by").click()
    shown.locator(".token").nth(2).hover()
    column = kept.pattern(layer, head)[:, 2]
    assert '"w2" (2) is looked at most by' in shown.locator(".live").inner_text()
    for at, weight in said(shown.locator(".live")).items():
        assert weight == pytest.approx(float(column[at]), rel=6e-3) and at >= 2


def test_heads_and_tokens_are_chosen_by_keys_alone(page_of, open_page) -> None:
    kept = attention([words()])
    page = open_page(page_of(attention=kept))
    shown = card(page)
    chosen, live = shown.locator(".chosen-head"), shown.locator(".live")
    shown.get_by_role("button", name="No scores").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className").startswith("head")
    page.keyboard.press("Home")
    assert live.inner_text().startswith("Layer 1, head 0: on average ")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    late = kept.pattern(0, 1)[2:]
    assert live.inner_text().startswith(
        f"Layer 0, head 1: on average {float(late[:, 0].mean()):.0%} on the first token"
    )
    page.keyboard.press("Enter")
    assert chosen.inner_text() == "Layer 0, head 1"
    page.keyboard.press("Tab")
    assert '"w6" (6) looks' in live.inner_text()
    page.keyboard.press("ArrowLeft")
    assert '"w5" (5) looks' in live.inner_text()
    assert said(live) == pytest.approx({at: float(kept.pattern(0, 1)[5, at]) for at in said(live)}, rel=6e-3)
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert '"w5" (5) looks' in live.inner_text()
    expect(shown.locator(".token").nth(5)).to_have_attribute("aria-pressed", "true")
    slider = shown.get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")
    expect(shown.locator("output")).to_have_text("1 edge")


def test_bars_are_the_published_scores(page_of, open_page) -> None:
    kept = attention([words()])
    shown = card(open_page(page_of(attention=kept)))
    layer, head = map(int, re.match(r"Layer (\d+), head (\d+)", shown.locator(".chosen-head").inner_text()).groups())
    scores = token_scores(kept.pattern(layer, head)).tolist()
    heights = shown.locator(".token-bar").evaluate_all("all => all.map(one => parseFloat(one.style.height))")
    assert heights == pytest.approx([12 * score for score in scores], abs=0.51)
    shown.locator(".token").nth(3).hover()
    assert f"Its score is {float(f'{scores[3]:.3g}'):g}." in shown.locator(".live").inner_text()
    shown.get_by_role("button", name="No scores").click()
    heights = shown.locator(".token-bar").evaluate_all("all => all.map(one => parseFloat(one.style.height))")
    assert set(heights) == {0}


def test_the_slider_draws_so_many_of_the_strongest_edges(page_of, open_page) -> None:
    kept = attention([words()])
    shown = card(open_page(page_of(attention=kept)))
    layer, head = map(int, re.match(r"Layer (\d+), head (\d+)", shown.locator(".chosen-head").inner_text()).groups())
    pattern = kept.pattern(layer, head).clone()
    pattern[:, 0] = 0
    expect(shown.locator("output")).to_have_text("20 edges")
    arcs = shown.locator(".chart path[fill=none]").count()
    shown.get_by_role("slider").fill("3")
    assert shown.locator(".chart path[fill=none]").count() < arcs
    shown.get_by_text("Strongest edges as a table").click()
    expect(shown.locator(".reading table tbody tr")).to_have_count(3)  # filled when it is open
    values = shown.locator(".reading table tbody td:last-child").evaluate_all(
        "all => all.map(one => +one.dataset.value)"
    )
    assert values == pytest.approx(pattern.flatten().topk(3).values.tolist(), abs=1e-5)
    shown.get_by_role("slider").fill("5")
    assert shown.locator(".reading table tbody tr").count() == 5


def test_a_token_and_an_arc_of_the_picture_of_edges_are_pointed_at_too(page_of, open_page) -> None:
    kept = attention([words()])
    page = open_page(page_of(attention=kept))
    shown = card(page)
    layer, head = map(int, re.match(r"Layer (\d+), head (\d+)", shown.locator(".chosen-head").inner_text()).groups())
    chart = shown.locator(".chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    margin, highest, top = 14, 150, 12  # of arcs.ts
    apart = (box["width"] - 2 * margin) / N
    page.mouse.move(box["x"] + margin + 3.5 * apart, box["y"] + top + highest)
    expect(shown.locator(".live")).to_contain_text('"w3" (3) looks')
    expect(page.locator("body")).to_contain_text('"w3" (3)')
    # The arc from token 6 to token 1 rises to its share of the height, in the middle between them.
    rise = highest * ((6 - 1) / (N - 1)) ** 0.6
    page.mouse.move(box["x"] + margin + 4 * apart, box["y"] + top + highest - rise)
    weight = float(kept.pattern(layer, head)[6, 1])
    tip = page.get_by_text('"w6" (6) looks at "w1" (1): ')
    expect(tip).to_be_visible()
    assert float(tip.inner_text().rpartition(" ")[2]) == pytest.approx(weight, rel=6e-3)
    page.mouse.move(0, 0)
    expect(shown.locator(".live")).to_contain_text('"w6" (6) looks')


def test_two_prompts_stand_side_by_side_and_are_pointed_at_together(page_of, open_page) -> None:
    kept = attention([words("a"), words("b")], names=("clean", "corrupt"))
    page = open_page(page_of(attention=kept))
    shown = card(page)
    readings = shown.locator(".reading")
    expect(readings).to_have_count(2)
    expect(readings.locator("h4")).to_have_text(["clean", "corrupt"])
    before = colours(readings.nth(1))
    readings.nth(0).locator(".token").nth(3).hover()
    assert '"a3" (3) looks' in readings.nth(0).locator(".live").inner_text()
    assert '"b3" (3) looks' in readings.nth(1).locator(".live").inner_text()
    assert colours(readings.nth(1)) != before
    readings.nth(1).locator(".head").first.click()
    for at in (0, 1):
        expect(readings.nth(at).locator(".head[aria-pressed=true]")).to_have_attribute("aria-label", "layer 1, head 0")
    shown.get_by_label("Beside it").select_option("nothing")
    expect(readings).to_have_count(1)
    shown.get_by_label("Prompt").select_option("corrupt")
    expect(readings.locator(".token").first).to_have_text("b0")


def test_two_models_are_shown_side_by_side_whatever_heads_they_have(page_of, open_page) -> None:
    one = attention([words()], model="base")
    # The same text, cut otherwise by another model's tokenizer.
    other = attention([[" w0", " w1", " w", "2", " w3", " w4", " w5", " w6"]], layers=1, heads=4, model="post", seed=1)
    page = open_page(page_of(attention=one, beside=other))
    expect(page.locator(".view[data-view=attention]")).to_have_count(1)
    shown = card(page)
    readings = shown.locator(".reading")
    expect(readings.locator("h4")).to_have_text(["base", "post"])
    readings.nth(0).locator(".head[aria-label='layer 0, head 2']").click()
    readings.nth(0).locator(".token").nth(5).hover()
    assert '"w5" (6) looks' in readings.nth(1).locator(".live").inner_text()
    readings.nth(0).locator(".head[aria-label='layer 1, head 2']").click()
    expect(readings.nth(1)).to_contain_text("post has no attention of layer 1, head 2 in this page.")
    readings.nth(1).locator(".head[aria-label='layer 0, head 3']").click()
    expect(readings.nth(0)).to_contain_text("base has no attention of layer 0, head 3 in this page.")


def test_two_files_of_one_folder_are_two_runs(page_of, open_page) -> None:
    page = open_page(page_of(before=attention([words()]), after=attention([words()], seed=3)))
    expect(card(page).locator(".reading h4")).to_have_text(["toy, After", "toy, Before"])


def test_tokens_are_never_code(page_of, open_page) -> None:
    page = open_page(page_of(attention=attention([HOSTILE])))
    title = page.title()
    shown = card(page)
    expect(shown.locator(".token").first).to_contain_text("</script>")
    expect(shown.locator(".token").nth(3)).to_contain_text("⟨U+202E⟩gnp.exe")
    for at in range(len(HOSTILE)):
        shown.locator(".token").nth(at).hover()
    shown.get_by_text("Strongest edges as a table").click()
    shown.locator(".chart").hover()
    assert page.title() == title
    assert page.locator("img[src=x]").count() == 0


def test_heads_that_are_left_out_are_seen_and_not_chosen(page_of, open_page) -> None:
    kept = attention([words("w", 200)], layers=8, heads=8)
    page = open_page(page_of(attention=kept))
    shown = card(page)
    before = shown.locator(".chosen-head").inner_text()
    left_out = shown.locator(".head[aria-disabled=true]")
    assert 0 < left_out.count() < 64 and shown.locator(".head canvas").count() == 64
    label = left_out.first.get_attribute("aria-label")
    assert label.endswith(", only this small map is in the page")
    left_out.first.click(force=True)
    assert (
        shown.locator(".live").inner_text().lower()
        == f"{label.split(', only')[0]}: left out of this page, but for its small map."
    )
    assert shown.locator(".chosen-head").inner_text() == before
    layer, head = re.match(r"layer (\d+), head (\d+)", label).groups()
    assert re.search(rf"layer {layer} heads? [^;]*\b({head}|\d-\d)", shown.locator(".note").first.inner_text())
    # Its picture is no plain square.
    colours = left_out.locator("canvas").first.evaluate(
        "one => new Set(one.getContext('2d').getImageData(0, 0, one.width, one.height).data).size"
    )
    assert colours > 10
    # Of the others, weights have 8 bits, and no more digits are told than are known.
    layer, head = map(int, re.match(r"Layer (\d+), head (\d+)", before).groups())
    shown.locator(".token").nth(150).hover()
    weights = said(shown.locator(".live"))
    assert len(weights) == 3 and all(len(f"{weight:g}".lstrip("0.")) <= 2 for weight in weights.values())
    for at, weight in weights.items():
        true = float(kept.pattern(layer, head)[150, at])
        assert weight == pytest.approx(true, abs=true**0.5 / 255 + 0.05 * true)


def test_up_and_down_go_to_the_lines_above_and_below(page_of, open_page) -> None:
    page = open_page(page_of(attention=attention([words("w", 60)])), width=400)
    shown = card(page)
    shown.locator(".token").last.focus()

    def at() -> tuple[float, float]:
        box = page.evaluate("(({x, y, width}) => [x + width / 2, y])(document.activeElement.getBoundingClientRect())")
        return box[0], box[1] + page.evaluate("window.scrollY")

    across, down = at()
    page.keyboard.press("ArrowUp")
    assert at()[1] < down and abs(at()[0] - across) < 40
    page.keyboard.press("ArrowDown")
    assert at()[1] == down
    page.keyboard.press("ArrowDown")
    assert at()[1] == down


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_moves_under_the_pointer_nor_scrolls_the_page_at_400_pixels(page_of, open_page, scheme) -> None:
    kept = attention([words("a", 60), words("b", 60)], layers=3, heads=16, names=("clean", "corrupt"))
    page = open_page(page_of(attention=kept), width=400, scheme=scheme)
    shown = card(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    for at in (5, 30, 58):
        shown.locator(".token").nth(at).hover(timeout=5000)
        assert f'"a{at}" ({at}) looks' in shown.locator(".live").first.inner_text()
    assert shown.locator(".chart").first.evaluate(
        "one => one.parentElement.scrollWidth > one.parentElement.clientWidth"
    )


def test_tokens_heads_and_what_is_chosen_are_on_paper(page_of, open_page) -> None:
    kept = attention([words("a"), words("b")], names=("clean", "corrupt"))
    page = open_page(page_of(attention=kept))
    shown = card(page)
    page.emulate_media(media="print")
    for seen in (".token", ".head", ".chosen-head", ".live", "select"):
        expect(shown.locator(seen).first).to_be_visible()
    expect(shown.get_by_role("button", name="Looks at", exact=True)).to_be_visible()
    for useless in (shown.get_by_role("button", name="Is looked at by"), shown.locator("input[type=range]")):
        expect(useless).to_be_hidden()


def test_the_theme_switch_draws_attention_in_other_colours(page_of, open_page) -> None:
    page = open_page(page_of(attention=attention([words()])))
    shown = card(page)

    def seen() -> tuple[list[str], str]:
        return colours(shown), shown.locator("canvas").first.evaluate("one => one.toDataURL()")

    light = seen()
    page.get_by_role("button", name="Dark").click()
    dark = seen()
    assert dark[0] != light[0] and dark[1] != light[1]
    page.get_by_role("button", name="Light").click()
    assert seen() == light


def test_a_name_turns_no_writing_round(page_of, open_page) -> None:
    page = open_page(page_of(attention=attention([words("a"), words("b")], names=("\u202eclean", "corrupt"))))
    shown = card(page)
    assert "⟨U+202E⟩clean" in shown.get_by_label("Prompt").inner_text()
    assert "⟨U+202E⟩clean" in shown.locator("h4").all_inner_texts()
    assert "\u202e" not in page.locator("body").inner_text()
