"""What a browser sees of a page: text that is too faint, what stands out of the page, what keys reach."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

AXE = Path(__file__).parents[3] / "frontend" / "node_modules" / "axe-core" / "axe.min.js"

LEAST_CONTRAST = 4.5
"""WCAG 2.2's level AA for text of any size (1.4.3 asks 3 of large text)."""

PATIENCE = 10

FAINT = """
least => {
  const parse = text => {
    const found = /^rgba?\\(([^)]+)\\)/.exec(text);
    if (found === null) return text.startsWith("color(srgb") ? (() => {
      const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
      return [255 * r, 255 * g, 255 * b, a];
    })() : null;
    const [r, g, b, a = 1] = found[1].split(/[\\s,/]+/).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((part, at) => a * part + (1 - a) * under[at]).concat(1);
  const light = parts => {
    const [r, g, b] = parts.slice(0, 3).map(part => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  // What an element paints over its whole box, with how much it lets through.
  const painted = element => {
    const style = getComputedStyle(element);
    let opacity = 1;
    for (let up = element; up !== null; up = up.parentElement) opacity *= Number(getComputedStyle(up).opacity);
    const drawn = element instanceof SVGElement && !["svg", "g", "text", "tspan"].includes(element.localName);
    const parts = parse(drawn ? style.fill : style.backgroundColor);
    if (parts === null) return null;
    return [parts[0], parts[1], parts[2], parts[3] * opacity * (drawn ? Number(style.fillOpacity) : 1)];
  };
  const root = getComputedStyle(document.documentElement);
  const canvas = over(painted(document.body) ?? [0, 0, 0, 0], parse(root.colorScheme.includes("dark") &&
    matchMedia("(prefers-color-scheme: dark)").matches ? "rgb(18,18,18)" : "rgb(255,255,255)"));
  const under = (element, x, y) => {
    const stack = document.elementsFromPoint(x, y);
    const from = stack.findIndex(one => one === element || element.contains(one));
    if (from < 0) return null;
    const layers = stack.slice(from).map(painted).filter(parts => parts !== null && parts[3] > 0);
    return layers.reverse().reduce((below, parts) => over(parts, below), canvas);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = new Map();
  let seen = 0;
  for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    const element = node.parentElement;
    if (node.data.trim() === "" || element.closest("script, style, option, [disabled], .offscreen, .skip")) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = [...range.getClientRects()].find(one => one.width > 1 && one.height > 1);
    if (box === undefined) continue;
    const behind = under(element, box.x + box.width / 2, box.y + box.height / 2);
    if (behind === null) continue;  // scrolled out of its own box
    const style = getComputedStyle(element);
    const ink = parse(element instanceof SVGElement ? style.fill : style.color);
    if (ink === null) continue;
    let opacity = 1;
    for (let up = element; up !== null; up = up.parentElement) opacity *= Number(getComputedStyle(up).opacity);
    const found = contrast(over([ink[0], ink[1], ink[2], ink[3] * opacity], behind), behind);
    seen += 1;
    if (found < least) {
      const where = `${element.closest("section")?.id}: ${element.localName}.${element.getAttribute("class") ?? ""}`;
      if (!faint.has(where)) faint.set(where, `${where} ${JSON.stringify(node.data.slice(0, 30))} ${found.toFixed(2)}`);
    }
  }
  return { seen, faint: [...faint.values()] };
}
"""

STICKING_OUT = """
() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const boxed = one => one.parentElement !== null && one.closest("body > *") !== one &&
    (getComputedStyle(one.parentElement).overflowX !== "visible" || boxed(one.parentElement));
  const out = [...document.body.querySelectorAll("*")].filter(
    one => one.getBoundingClientRect().right > width + 1 && !boxed(one));
  return [`the page is ${document.documentElement.scrollWidth} pixels wide in a window of ${width}`,
    ...out.slice(0, 8).map(one => `${one.closest("section")?.id}: ${one.localName}.${one.className}`)];
}
"""

TABBABLE = "a[href], button, select, input, textarea, summary, [tabindex]"

WATCH = """
selector => {
  const all = [...document.querySelectorAll(selector)].filter(
    one => one.tabIndex >= 0 && !one.disabled && one.checkVisibility({ visibilityProperty: true }));
  window.asked = new Map(all.map((one, at) => [one, at]));
  window.reached = new Set();
  window.unseen = [];
  const name = one => `${one.closest("section")?.id}: ${one.localName}.${one.getAttribute("class") ?? ""}`;
  window.nameOf = one => name(one);
  document.addEventListener("focusin", ({ target }) => {
    if (window.reached.has(target)) return;
    window.reached.add(target);
    // An outline may be on a neighbour, where the element itself is a label's hidden box.
    const style = getComputedStyle(target);
    const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    if (!outlined && style.boxShadow === "none") window.unseen.push(name(target));
  });
  return all.length;
}
"""

REACHED = """
() => ({
  missed: [...window.asked.keys()].filter(one => one.isConnected && !window.reached.has(one)).map(window.nameOf),
  unseen: window.unseen,
  bare: [...document.querySelectorAll(".view")].filter(view => ![...window.reached].some(one => view.contains(one)))
    .map(window.nameOf),
})
"""


def mounted(page: Page) -> None:
    """Every view is made, one after another, as a reader comes past it; none shows an error."""
    for view in page.locator(".view").all():
        view.scroll_into_view_if_needed()
        expect(view).to_have_attribute("data-state", "mounted")
    assert page.locator(".view .error").all_inner_texts() == []


def unfolded(page: Page) -> None:
    """Every `details` is opened, and the window is as high as the page, so that nothing is out of sight."""
    page.evaluate("document.querySelectorAll('details').forEach(one => (one.open = true))")
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": page.viewport_size["width"], "height": min(height, 16_000)})
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(60)  # charts that grew are drawn in the next frame


def too_faint(page: Page) -> list[str]:
    """Text with less contrast to what it stands on than `LEAST_CONTRAST`, as computed from styles."""
    found: dict[str, Any] = {}
    for _ in range(PATIENCE):
        found = page.evaluate(FAINT, LEAST_CONTRAST)
        if not found["faint"]:
            break
        page.wait_for_timeout(200)  # charts are drawn in new colours after the page
    assert found["seen"] > 20
    return found["faint"]


def sticking_out(page: Page) -> list[str]:
    """What makes the page wider than its window."""
    return page.evaluate(STICKING_OUT)


def by_keys(page: Page) -> dict[str, list[str]]:
    """Tab from the page's start to its end: what was missed, what had focus unseen, which view had no focus at all."""
    expected = page.evaluate(WATCH, TABBABLE)
    for _ in range(expected + 40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body && window.reached.size > 0"):
            break
    return page.evaluate(REACHED)


def accessible(page: Page) -> list[str]:
    """What axe-core finds seriously or critically wrong, each with the first place."""
    if not AXE.is_file():
        reason = "axe-core is not in frontend/node_modules: make frontend"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'], preload: false })")
    return [
        f"{each['id']} ({each['impact']}): {each['help']}; {len(each['nodes'])} places, {each['nodes'][0]['target']}"
        f" {each['nodes'][0]['html'][:120]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
