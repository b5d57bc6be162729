// How many edges are taken: a slider, on which the file's own circuit is marked.

import { element, slider } from "../../dom";
import { counted } from "../../text";
import { stops, type Layered } from "./data";
import type { Choice } from "./shown";

/** As how many edges the curve and the slider show a choice. */
export function placeOf({ data }: Layered, { which, by, n }: Choice): number {
  if (n !== "own") return n;
  const { own } = data.graphs[which === "both" ? 0 : which];
  return own?.n[by] ?? own?.size ?? 0;
}

export interface Size {
  readonly place: HTMLElement;
  /** Move the slider to so many edges, or to the nearest place that it has. */
  set(n: number): void;
  /** Say anew what is there, after the order or the graph has changed. */
  say(): void;
}

export function sizeControl(layered: Layered, choice: Choice, changed: (n: number | "own") => void): Size {
  const { graphs } = layered.data;
  const most = Math.max(...graphs.map((_, graph) => layered.ranking(graph, choice.by).length));
  const wanted = [
    ...graphs.flatMap(({ own }) => (own === null ? [] : Object.values(own.n))),
    ...layered.data.curves.flatMap(({ requested }) => [...requested]),
  ];
  const sizes = stops(most, wanted);
  const nearest = (n: number): number => sizes.reduce((best, size, i) => (Math.abs(size - n) < Math.abs(sizes[best] - n) ? i : best), 0);
  const tell = (i: number): string => {
    const which = choice.which === "both" ? graphs.map((_, graph) => graph) : [choice.which];
    const left = which.map((graph) => (choice.n === "own" ? layered.own(graph) : layered.strongest(graph, choice.by, sizes[i])).size);
    const many = left.length > 1 ? ` (${which.map((graph, at) => `${left[at].toLocaleString("en")} of ${graphs[graph].name}`).join(", ")})` : "";
    if (choice.n === "own") return `the file's own: ${left.length > 1 ? many.slice(2, -1) : counted(left[0], "edge")}`;
    const end = i === sizes.length - 1 && most < graphs[which[0]].rankable ? " (as many as the page has)" : "";
    return `${sizes[i].toLocaleString("en")} strongest${end}: ${left.length > 1 ? `on a way${many}` : `${left[0].toLocaleString("en")} on a way from input to logits`}`;
  };
  const place = slider("Edges", { min: 0, max: sizes.length - 1, value: nearest(placeOf(layered, choice)) }, tell, (i) => changed(sizes[i]));
  const input = place.querySelector("input")!, said = place.querySelector("output")!;
  // The file's own circuit is marked on the slider.
  const marks = element("datalist", { id: `marks-${Math.random().toString(36).slice(2)}` }, [...new Set(graphs.flatMap(({ own }) => (own === null ? [] : Object.values(own.n).filter((n) => n <= most))))].map((n) =>
    element("option", { value: nearest(n) }),
  ));
  input.setAttribute("list", marks.id);
  place.append(marks);
  const say = (): void => {
    if (choice.n === "own") input.value = String(nearest(placeOf(layered, choice)));
    said.textContent = tell(Number(input.value));
    input.setAttribute("aria-valuetext", said.textContent);
  };
  return {
    place,
    say,
    set(n) {
      input.value = String(nearest(n));
      changed(sizes[Number(input.value)]);
    },
  };
}
