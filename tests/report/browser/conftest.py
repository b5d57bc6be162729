"""A real browser for reports: every page is opened from disk, and must ask for nothing and complain of nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

Open = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, or Chrome: playwright's own would have to be downloaded."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = f"none of {', '.join(NAMES)} is on the PATH: make browser"
        # Where the checks of a change are run, a test that ran nothing would show nothing.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, headless=True, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """`open_page(path, width=1200, height=900, scheme="light")` opens a file and waits until it is interactive.

    At the end of the test, every page that was opened must have asked for nothing but itself and said nothing on its
    console.
    """
    wrong: list[str] = []
    contexts = []

    def opened(path: Path, *, width: int = 1200, height: int = 900, scheme: Literal["light", "dark"] = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        address = path.resolve().as_uri()
        page.on(
            "request",
            lambda request: (
                None
                if request.url.partition("#")[0] == address or request.url.startswith("data:")
                else wrong.append(f"asked for {request.url}")
            ),
        )
        page.on("console", lambda said: wrong.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.goto(address)
        page.wait_for_selector("html[data-ready=true]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []
