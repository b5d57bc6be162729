// Brings a report's page to life: its views when they come near the window, its tables, its copy buttons, its theme.

import { element, failed, toggle } from "./dom";
import { copyButton, enhance } from "./table";
import { visible } from "./text";
import { theme, type Mode } from "./theme";
import { views } from "./views";

/** How far from the window, in pixels, a view is made: near enough that none is seen empty. */
const NEAR = 600;

function mount(place: HTMLElement): void {
  if (place.dataset.state !== undefined) return;
  place.dataset.state = "mounting";
  const still = place.parentElement?.querySelector<HTMLDetailsElement>(":scope > details.still") ?? null;
  const name = place.dataset.view ?? "";
  try {
    const view = Object.hasOwn(views, name) ? views[name] : undefined;
    if (view === undefined) throw new Error(`this page asks for a view "${name}", which its script does not have`);
    view(place, dataOf(place), theme);
    place.dataset.state = "mounted";
    // What stood in for the view while there was none.
    const instead = still ?? place.parentElement?.querySelector<HTMLDetailsElement>(":scope > details.rows") ?? null;
    if (instead !== null) instead.open = false;
  } catch (error) {
    place.dataset.state = "failed";
    failed(place, error);
    if (still !== null) still.open = true;
  }
}

function dataOf(place: HTMLElement): unknown {
  const held = place.parentElement?.querySelector(":scope > script.data");
  if (held === null || held === undefined) throw new Error("its data are not in the page");
  // Names of models, folders and files stand in buttons, legends and sentences: none may turn the writing round them.
  return JSON.parse(held.textContent ?? "", (key, value) => (key === "name" && typeof value === "string" ? visible(value) : value));
}

function mountWhenNear(places: readonly HTMLElement[]): void {
  const observer = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((one) => one.isIntersecting)) {
        observer.unobserve(entry.target);
        mount(entry.target as HTMLElement);
      }
    },
    { rootMargin: `${NEAR}px` },
  );
  for (const place of places) {
    if (place.getBoundingClientRect().top < window.innerHeight) mount(place);
    else observer.observe(place);
  }
  // On paper there is no scrolling.
  window.addEventListener("beforeprint", () => places.forEach(mount));
}

function addThemeSwitch(): void {
  const modes: { value: Mode; label: string }[] = [
    { value: "auto", label: "Auto" },
    { value: "light", label: "Light" },
    { value: "dark", label: "Dark" },
  ];
  const place = document.querySelector(".page-tools") ?? document.querySelector("header") ?? document.body;
  place.append(toggle("Colours of the page", modes, "auto", (mode) => theme.choose(mode)));
}

function addCopyButtons(): void {
  for (const block of document.querySelectorAll<HTMLElement>("pre.command")) {
    block.before(element("div", { class: "tools" }, copyButton(() => block.textContent?.trim() ?? "", "Copy command")));
  }
}

function start(): void {
  addThemeSwitch();
  addCopyButtons();
  document.querySelectorAll<HTMLTableElement>("table.frame").forEach((table) => enhance(table));
  mountWhenNear([...document.querySelectorAll<HTMLElement>(".view")]);
  document.documentElement.dataset.ready = "true";
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
