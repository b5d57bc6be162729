// What the colours and marks of a map mean, in words that wrap on a narrow screen.

import { element } from "../../dom";
import { counted, number } from "../../text";
import type { Palette } from "../../theme";
import { reach, type Slice } from "./heat";

export function legend({ map, measure }: Slice, palette: Palette): HTMLElement {
  const { data } = map;
  const flat = map.sizes.length === 1;
  const lines = [flat ? line(swatch("scale", signs(palette)), "under 0, over 0") : scale(reach(map, measure), measure.unit, palette)];
  if (flat && data.sure.low !== undefined) lines.push(line(element("span", { class: "swatch whisker" }), "95% interval"));
  if (flat && data.control !== null) lines.push(line(element("span", { class: "swatch diamond" }), `mean of ${data.control[1]}, with their middle 95%`));
  lines.push(
    data.significant === null
      ? line(null, `no interval and no test: ${data.untested ?? "not known"}`)
      : line(element("span", { class: "swatch dot" }), `survives correction: ${data.significant.length} of ${counted(real(data.effect), "cell")}`),
  );
  const missing = data.effect.length - real(data.effect);
  if (missing > 0) lines.push(line(swatch("hatched", null), `no such cell: ${missing}`));
  return element("ul", { class: "legend" }, lines);
}

/** The colour scale between the numbers that its ends stand for. */
function scale(most: number, unit: string, palette: Palette): HTMLElement {
  const colours = swatch("scale", `linear-gradient(90deg, ${palette.diverging.join(", ")})`);
  return element("li", {}, [nowrap(number(-most)), colours, nowrap(`+${number(most)}`), element("span", { class: "unit" }, unit)]);
}

function nowrap(text: string): HTMLElement {
  return element("span", { class: "nowrap" }, text);
}

/** The colours of bars under and over nothing, side by side. */
function signs({ diverging }: Palette): string {
  return `linear-gradient(90deg, ${diverging[2]} 50%, ${diverging[diverging.length - 3]} 50%)`;
}

function real(effects: readonly (number | null)[]): number {
  return effects.filter((effect) => effect !== null).length;
}

function line(mark: HTMLElement | null, words: string): HTMLElement {
  return element("li", {}, [mark, words]);
}

function swatch(kind: string, background: string | null): HTMLElement {
  const made = element("span", { class: `swatch ${kind}` });
  if (background !== null) made.style.background = background;
  return made;
}
