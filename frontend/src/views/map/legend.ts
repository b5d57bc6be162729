// What the colours and marks of a map mean, in words that wrap on a narrow screen.

import { element } from "../../dom";
import { counted } from "../../text";
import type { Palette } from "../../theme";
import type { Slice } from "./heat";

export function legend({ map, measure }: Slice, palette: Palette): HTMLElement {
  const { data } = map;
  const flat = map.sizes.length === 1;
  const lines = [line(swatch("scale", `linear-gradient(90deg, ${palette.diverging.join(", ")})`), measure.unit)];
  if (flat && data.low !== undefined) lines.push(line(element("span", { class: "swatch whisker" }), "95% interval"));
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
