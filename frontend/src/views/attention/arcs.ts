// The strongest edges of a head as arcs over a row of tokens, from each token that looks to the one that it looks at.

import { axis, tooltip, type Option } from "../../chart";
import { element } from "../../dom";
import { number } from "../../text";
import type { Palette } from "../../theme";
import { colourAt } from "../../theme";
import { attentionScale } from "./colours";
import type { Edge } from "./data";
import { written } from "./text";

/** Pixels left and right of the tokens, of the highest arc, and of the tokens' texts under them. */
const MARGIN = 14;
const HIGHEST = 150;
const TEXTS = 90;

export const arcsHeight = HIGHEST + TEXTS + 12;

export function leastArcsWidth(size: number): number {
  return 2 * MARGIN + 12 * size;
}

/** How far from the picture's left a token stands, in pixels. */
export function placeOf(at: number, size: number, width: number): number {
  return MARGIN + ((at + 0.5) * (width - 2 * MARGIN)) / size;
}

export interface Arcs {
  tokens: readonly string[];
  edges: readonly Edge[];
  /** Of a weight that is told. */
  digits: number;
}

export function arcsOption({ tokens, edges, digits }: Arcs, palette: Palette, width: number): Option {
  const most = Math.max(...edges.map(({ weight }) => weight), 1e-9);
  const apart = (width - 2 * MARGIN) / tokens.length;
  const scale = attentionScale(palette);
  const own = new Map(edges.filter(({ query, key }) => query === key).map(({ query, weight }) => [query, weight]));
  const shade = (weight: number): string => colourAt(scale, 0.45 + 0.55 * (weight / most));
  return {
    tooltip: tooltip(palette, ({ data }) => tip(tokens, data, digits)),
    grid: { left: MARGIN, right: MARGIN, top: HIGHEST + 10, bottom: TEXTS },
    xAxis: axis(palette, "", {
      type: "category",
      data: tokens.map((token) => written(token)),
      axisLabel: { rotate: 90, interval: 0, fontSize: 11, width: TEXTS - 12, overflow: "truncate" },
      axisTick: { show: false },
    }),
    yAxis: { type: "value", show: false, min: 0, max: 1 },
    series: [
      {
        type: "graph",
        coordinateSystem: "cartesian2d",
        layout: "none",
        cursor: "default",
        edgeSymbol: ["none", "none"],
        z: 3,
        data: tokens.map((_, i) => {
          const weight = own.get(i);
          return {
            name: String(i),
            value: [i, 0],
            own: weight,
            token: i,
            symbolSize: weight === undefined ? 6 : 6 + 7 * (weight / most),
            itemStyle: {
              color: weight === undefined ? palette.muted : shade(weight),
              borderColor: palette.surface,
              borderWidth: 0.5,
            },
          };
        }),
        links: edges.filter(({ query, key }) => query !== key).map(({ query, key, weight }) => ({
          source: String(query),
          target: String(key),
          query,
          key,
          weight,
          lineStyle: {
            // A curve of one control point rises to half of where that stands; it leans to one side of its way.
            curveness: (Math.sign(key - query) * 2 * HIGHEST * rise(Math.abs(query - key), tokens.length)) / (Math.abs(query - key) * apart),
            width: 0.75 + 3.25 * (weight / most),
            color: shade(weight),
            opacity: 0.9,
          },
        })),
        // A token that is pointed at, here or in the text, keeps its edges, and the others fade.
        emphasis: { focus: "adjacency", scale: 1.6, label: { show: false }, edgeLabel: { show: false }, itemStyle: { borderColor: palette.accent, borderWidth: 2 }, lineStyle: { opacity: 0.9 } },
        blur: { itemStyle: { opacity: 0.4 }, lineStyle: { opacity: 0.15 } },
        tooltip: {},
      },
    ],
  };
}

/** How high an arc rises, of the highest: long ones higher, but not in proportion, so that short ones are seen. */
function rise(reach: number, size: number): number {
  return Math.pow(reach / Math.max(1, size - 1), 0.6);
}

function tip(tokens: readonly string[], data: any, digits: number): HTMLElement | null {
  if (typeof data?.weight === "number") {
    return element("span", {}, `${named(tokens, data.query)} looks at ${named(tokens, data.key)}: ${number(data.weight, digits)}`);
  }
  if (typeof data?.token !== "number") return null;
  const itself = typeof data.own === "number" ? ` looks at itself: ${number(data.own, digits)}` : "";
  return element("span", {}, `${named(tokens, data.token)}${itself}`);
}

/** A token in words: its text in quotes, and its position. */
export function named(tokens: readonly string[], at: number): string {
  return `"${written(tokens[at])}" (${at})`;
}
