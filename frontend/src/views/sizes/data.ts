// Accuracy against size, as sections/sizes.py writes it.

import { number, percent } from "../../text";
import type { Fact } from "../map/data";

export interface Point {
  name: string;
  x: number;
  y: number;
  low: number | null;
  high: number | null;
  facts: Readonly<Record<string, string>>;
}

export interface Series {
  name: string;
  /** Whether its models are one thing at several sizes, so that a line joins them. */
  joined: boolean;
  points: readonly Point[];
}

export interface Line {
  name: string;
  kind: "threshold" | "no threshold";
  /** Whether it predicts best of its kind. */
  best: boolean;
  places: readonly (readonly [number, number])[];
}

export interface Plane {
  name: string;
  /** What a mark's line spans. */
  spread: string;
  chance: number | null;
  series: readonly Series[];
  lines: readonly Line[];
  verdict: "threshold" | "possible" | "growth" | "flat" | null;
  told: readonly string[];
  breakpoint: number | null;
  interval: readonly [number, number] | null;
  level: number;
}

export interface SizesData {
  what: string;
  measure: string;
  planes: readonly Plane[];
}

export interface Mark {
  point: Point;
  series: number;
}

/** All models of a task, the smallest first: the way that keys go. */
export function marksOf(plane: Plane): Mark[] {
  return plane.series.flatMap(({ points }, series) => points.map((point) => ({ point, series }))).sort((a, b) => a.point.x - b.point.x || a.point.y - b.point.y);
}

/** A number of parameters as one says it: 1.3M. */
export function size(parameters: number): string {
  for (const [unit, letter] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]] as const) {
    if (parameters >= unit * 0.9995) return `${number(parameters / unit)}${letter}`;
  }
  return number(parameters);
}

export function factsOf(plane: Plane, { point, series }: Mark): Fact[] {
  return [
    { name: plane.series[series].joined ? "of" : "family", value: plane.series[series].name },
    { name: "parameters", value: `${size(point.x)} (${point.x.toLocaleString("en")})` },
    { name: "right", value: percent(point.y) + (point.low === null ? "" : `, ${plane.spread} ${percent(point.low)} to ${percent(point.high)}`) },
    ...Object.entries(point.facts).map(([name, value]) => ({ name: name === "right" ? "questions" : name, value })),
  ];
}

export const VERDICTS: Readonly<Record<string, string>> = {
  threshold: "A threshold",
  possible: "A threshold is possible, and not sure",
  growth: "No threshold: accuracy goes with size, smoothly as far as can be told",
  flat: "No threshold: accuracy cannot be shown to go with size",
};
