"""Draws the documentation's pictures of reports: real studies of the embedded models, opened in the system's Chromium.

    python docs/pictures.py               # all of them, in docs/images
    python docs/pictures.py circuit map   # these

Each is drawn at 1,200 pixels in the light theme and at 400 in the dark one. The studies' folders stay in `--within`,
and are not run again where they are there.
"""

from __future__ import annotations

import io
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cyclopts
from PIL import Image
from playwright.sync_api import Browser, Locator, expect, sync_playwright

from circuitkit import report

app = cyclopts.App(help=__doc__, help_format="plaintext")

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
SHOWN: tuple[tuple[str, int, Literal["light", "dark"]], ...] = (("wide", 1200, "light"), ("narrow", 400, "dark"))
TALLEST = 1500
"""Pixels: what is below is left out of a picture."""
COLOURS = 192
"""Of a picture's palette: as many as a page has, at a third of the bytes."""

FIVE = ("deductor-5k", "deductor-20k", "deductor-60k", "deductor-130k", "deductor-400k")
PAIR = "deductor-130k-base deductor-130k-reason"


@dataclass(frozen=True)
class Picture:
    """A view of a report: the commands whose results it shows, and what a reader does to it before it is drawn."""

    folder: str
    commands: tuple[str, ...]
    """Each run within `folder`."""
    card: str
    """The card's selector."""
    touch: Callable[[Locator], object] = lambda card: None
    """Points at and clicks what the picture is to show, in the view's card."""


def _head_3_6(card: Locator) -> None:
    _press(card, "Home", *["ArrowUp"] * 3, *["ArrowRight"] * 6, "Enter")


def _o_proj_of_layer_2(card: Locator) -> None:
    _press(card, "Home", *["ArrowUp"] * 3, *["ArrowRight"] * 3, "Enter")


def _press(card: Locator, *keys: str) -> None:
    cells = card.locator(".chart").first
    cells.focus()
    for key in keys:
        cells.press(key)


def _last_token(card: Locator) -> None:
    card.locator(".token[aria-pressed]").last.click()


def _smaller(card: Locator) -> None:
    for _ in range(12):
        card.locator("input[type=range]").first.press("ArrowLeft")


def _first_answer(card: Locator) -> None:
    card.locator(".verdict-button").first.click()


def _wrong_ones(card: Locator) -> None:
    card.locator("button.count").nth(2).click()


def _view(name: str) -> str:
    return f"section.card:has(.view[data-view={name}])"


def _script(name: str, told: str) -> str:
    return f"python {shlex.quote(str(ROOT / 'experiments' / name))}.py --out . {told}"


DEMO = ("circuitkit demo --out .",)
FOUND = ("circuitkit circuit find deductor-130k-reason --top 60 --out .",)
COMPARED = (
    "circuitkit circuit find deductor-130k-base --top 60 --out ../base",
    "circuitkit circuit find deductor-130k-reason --top 60 --out ../reason",
    "circuitkit circuit compare ../base/graph.safetensors ../reason/graph.safetensors --out .",
)
MOVED = (f"circuitkit sfn delta {PAIR} --out .",)
SIZES = "--tasks prontoqa/implication_elimination/1 prontoqa/implication_elimination/3 --n 30 --draws 100"
ASKED = "--task prontoqa/ModusPonens/3 --shots 0 --limit 60"
ANSWERED = tuple(f"circuitkit eval {name} {ASKED} --out {name}" for name in FIVE)

PICTURES = {
    "map": Picture("demo", DEMO, "#s-heads", _head_3_6),
    "attention": Picture("demo", DEMO, _view("attention"), _last_token),
    "circuit": Picture("found", FOUND, _view("circuit"), _smaller),
    "overlay": Picture("compared", COMPARED, _view("circuit")),
    "heads": Picture("compared", COMPARED, _view("heads")),
    "histogram": Picture("delta", MOVED, _view("histogram"), _o_proj_of_layer_2),
    "levels": Picture("who_reasons", (_script("who_reasons", "--preset small"),), _view("levels"), _wrong_ones),
    "sizes": Picture("thresholds", (_script("thresholds", SIZES),), _view("sizes")),
    "responses": Picture("answers", ANSWERED, _view("responses"), _first_answer),
}
"""By the view's name."""


def page_of(picture: Picture, within: Path) -> Path:
    """The report of a picture's study, which is run where its folder is not there."""
    folder = within / picture.folder
    if not folder.exists():
        begun = within / f"{picture.folder}.begun"
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir(parents=True)
        for command in picture.commands:
            print(command, flush=True)
            program, *words = shlex.split(command)
            subprocess.run(
                [Path(sys.executable).with_name(program), *words], cwd=begun, check=True, stdout=subprocess.DEVNULL
            )
        begun.rename(folder)
    return report.write(folder)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium: playwright's own would have to be downloaded."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        raise SystemExit("no Chromium is on the PATH: make browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def drawn(browser: Browser, picture: Picture, file: Path, width: int, theme: Literal["light", "dark"]) -> bytes:
    """The picture as PNG."""
    # Narrow pages are shown larger than they are.
    scale = 1 if width > 1000 else 1.5
    page = browser.new_page(viewport={"width": width, "height": TALLEST}, color_scheme=theme, device_scale_factor=scale)
    page.goto(file.resolve().as_uri())
    card = page.locator(picture.card).first
    card.scroll_into_view_if_needed()
    expect(card.locator(".view").first).to_have_attribute("data-state", "mounted")
    picture.touch(card)
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)  # charts move into place
    box = card.bounding_box()
    assert box is not None
    page.set_viewport_size({"width": width, "height": max(TALLEST, int(box["height"]) + 100)})
    page.wait_for_timeout(800)
    taken = Image.open(io.BytesIO(card.screenshot(animations="disabled"))).convert("RGB")
    page.close()
    taken = taken.crop((0, 0, taken.width, min(taken.height, int(scale * TALLEST))))
    kept = io.BytesIO()
    taken.quantize(COLOURS, dither=Image.Dither.NONE).save(kept, "PNG", optimize=True)
    return kept.getvalue()


@app.default
def draw(*names: str, out: Path = IMAGES, within: Path = ROOT / "build" / "pictures") -> None:
    """Draws pictures by name: all where none is named."""
    if unknown := set(names) - set(PICTURES):
        raise SystemExit(f"no picture is called {', '.join(sorted(unknown))}: {', '.join(PICTURES)} are")
    with chromium() as browser:
        for name in names or PICTURES:
            file = page_of(PICTURES[name], within)
            for size, width, theme in SHOWN:
                kept = out / f"report_{name}_{size}_{theme}.png"
                kept.write_bytes(drawn(browser, PICTURES[name], file, width, theme))
                print(kept, kept.stat().st_size, flush=True)


if __name__ == "__main__":
    app()
