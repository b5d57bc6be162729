"""How long the report of a study takes from opening its file until it can be used, in a real browser.

A study of made-up numbers, of 100 cells and 100 examples unless told, becomes a page. The system's Chromium opens it
anew each round and says when the first map can be pointed at (wall), and how much processor time the page's process
took until then, which other work on the machine does not disturb. Prints a table, and one JSON object as its last line.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from statistics import median

import torch
from playwright.sync_api import Browser, sync_playwright
from yardstick.clock import machine

from circuitkit import report
from circuitkit.results import Baseline, Result

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
READY = """
new MutationObserver(() => {
  if (document.documentElement.dataset.ready && !window.usable) {
    requestAnimationFrame(() => setTimeout(() => (window.usable = performance.now())));
  }
}).observe(document, { attributes: true, subtree: true });
"""


def study(layers: int, heads: int, examples: int) -> Result:
    """A patching study of made-up numbers."""
    generator = torch.Generator().manual_seed(0)
    corrupt = torch.randn(examples, generator=generator)
    effects = torch.randn(layers, heads, 1, generator=generator) + torch.randn(
        layers, heads, examples, generator=generator
    )
    return Result(corrupt + effects, ("layer", "head"), Baseline(corrupt + 5.0, corrupt), "denoise", "logit_difference")


def opened(browser: Browser, page_file: Path) -> tuple[float, float]:
    """Milliseconds until the page could be used, and of processor time that its process took for that."""
    page = browser.new_page()
    page.add_init_script(READY)
    metrics = page.context.new_cdp_session(page)
    metrics.send("Performance.enable")
    page.goto(page_file.as_uri())
    page.wait_for_function("window.usable")
    if page.locator(".view[data-state=mounted]").count() == 0:
        raise SystemExit("the page is ready, but its map is not: this benchmark measures nothing")
    told = {each["name"]: each["value"] for each in metrics.send("Performance.getMetrics")["metrics"]}
    usable = float(page.evaluate("window.usable"))
    page.close()
    return usable, 1e3 * told["ProcessTime"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--heads", type=int, default=10)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="two rounds, to see that it runs")
    options = parser.parse_args()
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        print(f"none of {', '.join(BROWSERS)} is on the PATH: make browser; nothing is measured")
        return
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        study(options.layers, options.heads, options.examples).save(Path(folder) / "heads.safetensors")
        page_file = report.write(folder, progress=False)
        size = page_file.stat().st_size
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        rounds = [opened(browser, page_file) for _ in range(3 if options.quick else options.rounds + 1)][1:]
        browser.close()
    usable, processor = (median(times) for times in zip(*rounds, strict=True))
    cells = options.layers * options.heads
    print(f"{'cells':>8}{'examples':>10}{'KiB':>8}{'wall ms':>10}{'processor ms':>14}")
    print(f"{cells:>8,}{options.examples:>10,}{size // 1024:>8,}{usable:>10.0f}{processor:>14.0f}")
    about = {"benchmark": "report", "quick": options.quick, "machine": machine(torch.device("cpu"))}
    told = {"cells": cells, "examples": options.examples, "bytes": size, "wall_ms": usable, "processor_ms": processor}
    print(json.dumps({**about, **told}))


if __name__ == "__main__":
    main()
