// What is said of one cell: in a tooltip, and in a sentence.

import { element } from "../../dom";
import { number, words } from "../../text";
import type { Fact, Measure, StudyMap } from "./data";

/** A heading and a list of facts. */
export function factList(title: string, facts: readonly Fact[]): HTMLElement {
  return element("div", {}, [
    element("p", { class: "facts-title" }, title),
    element("dl", { class: "facts" }, facts.flatMap(({ name, value }) => [element("dt", {}, name), element("dd", {}, value)])),
  ]);
}

/** A cell in one sentence, as the line under the picture says it. */
export function sentence(map: StudyMap, cell: number, measure: Measure): string {
  const name = map.nameOf(cell);
  const value = map.measured(map.data.effect, cell, measure);
  if (value === null) return `${name}: no such cell.`;
  const ends = map.ends(map.data.sure.low, map.data.sure.high, cell, measure);
  const sure = ends === null ? "" : `, 95% interval ${number(ends[0])} to ${number(ends[1])}`;
  const p = map.data.sure.p_corrected?.[cell];
  const tested = p === null || p === undefined ? "" : `, corrected p = ${number(p)}${map.survives.has(cell) ? " (survives)" : ""}`;
  return `${name}: ${words(measure.name)} ${number(value)}${sure}${tested}.`;
}
