// One task's models by size on a logarithmic axis, curves, and the band where a breakpoint may lie.

import { axis, tooltip, type Option } from "../../chart";
import { plain } from "../../text";
import type { Palette } from "../../theme";
import { factList } from "../map/cell";
import { factsOf, size, type Line, type Mark, type Plane } from "./data";

/** Marks that are told apart without colour. */
export const SYMBOLS = ["circle", "rect", "triangle", "diamond", "arrow", "roundRect"] as const;

export interface Looks {
  plane: Plane;
  marks: readonly Mark[];
  /** Curves beside the best of each kind. */
  every: boolean;
}

export function coloured(palette: Palette, series: number): string {
  return palette.categories[series % palette.categories.length];
}

export function linesOf({ plane, every }: Looks): Line[] {
  return plane.lines.filter(({ best }) => best || every);
}

export function dashed({ kind, best }: Line): "solid" | "dashed" | "dotted" {
  return !best ? "dotted" : kind === "threshold" ? "solid" : "dashed";
}

/** Decades that hold all sizes, with some room on both sides. */
function limits(plane: Plane): [number, number] {
  const sizes = plane.series.flatMap(({ points }) => points.map(({ x }) => x));
  return [Math.min(...sizes) / 1.5, Math.max(...sizes) * 1.5];
}

/** Round sizes: powers of ten, and where these are few, twice and five times them. */
function ticks(least: number, most: number, width: number): number[] {
  const decades = Math.log10(most / least);
  const steps = decades * (width < 500 ? 2 : 1) > 6 ? [1] : decades * (width < 500 ? 2 : 1) > 3.5 ? [1, 3] : [1, 2, 5];
  const first = Math.floor(Math.log10(least));
  return [...Array(Math.ceil(decades) + 2).keys()].flatMap((i) => steps.map((step) => step * 10 ** (first + i))).filter((value) => value >= least && value <= most);
}

/** How far a series stands beside the place of its size, in pixels, so that models of one size are all seen. */
function beside(plane: Plane, series: number): number {
  const n = plane.series.length;
  return plane.series.some(({ joined }) => joined) || n > 8 ? 0 : (series - (n - 1) / 2) * Math.min(7, 24 / n);
}

export function planeOption(looks: Looks, palette: Palette, width: number): Option {
  const { plane, marks } = looks;
  const [least, most] = limits(plane);
  const percentage = (value: number): string => `${Math.round(100 * value)}%`;
  return {
    grid: { left: 58, right: 18, top: 16, bottom: 50 },
    tooltip: tooltip(palette, ({ data }) => (data?.mark === undefined ? null : factList(plain(data.mark.point.name, 60), factsOf(plane, data.mark)))),
    xAxis: axis(palette, "parameters", {
      type: "log", min: least, max: most, nameGap: 30,
      axisLabel: { formatter: size, hideOverlap: true, customValues: ticks(least, most, width) },
      axisTick: { show: true, customValues: ticks(least, most, width), lineStyle: { color: palette.muted } },
    }),
    yAxis: axis(palette, "share that is right", {
      type: "value", min: 0, max: 1, nameGap: 42,
      axisLabel: { formatter: percentage },
      splitLine: { show: true, lineStyle: { color: palette.line } },
    }),
    series: [
      ...linesOf(looks).map((line) => ({
        type: "line",
        silent: true,
        showSymbol: false,
        data: line.places.filter(([x]) => x >= least && x <= most),
        lineStyle: { color: line.best ? palette.text : palette.muted, type: dashed(line), width: line.best ? 2 : 1.2 },
        z: 2,
      })),
      ...plane.series.map(({ joined, points }, series) => ({
        type: "line",
        silent: true,
        showSymbol: false,
        data: joined ? [...points].sort((a, b) => a.x - b.x).map(({ x, y }) => [x, y]) : [],
        lineStyle: { color: coloured(palette, series), width: 1.5 },
        z: 2,
      })),
      whiskers(plane, marks, palette),
      {
        type: "scatter",
        data: marks.map((mark) => ({
          value: [mark.point.x, mark.point.y],
          mark,
          symbol: SYMBOLS[mark.series % SYMBOLS.length],
          symbolOffset: [beside(plane, mark.series), 0],
          itemStyle: { color: coloured(palette, mark.series), borderColor: palette.surface, borderWidth: 1, opacity: 1 },
        })),
        symbolSize: 11,
        emphasis: { scale: 1.5, itemStyle: { borderColor: palette.mark, borderWidth: 2 } },
        z: 6,
        markArea: plane.interval === null ? undefined : {
          silent: true,
          itemStyle: { color: palette.categories[1], opacity: 0.18 },
          data: [[{ xAxis: Math.max(least, plane.interval[0]) }, { xAxis: Math.min(most, plane.interval[1]) }]],
        },
        markLine: {
          silent: true,
          symbol: "none",
          label: { show: false },
          data: [
            ...(plane.breakpoint === null ? [] : [{ xAxis: plane.breakpoint, lineStyle: { color: palette.categories[1], width: 2.5, type: "solid" } }]),
            ...(plane.chance === null ? [] : [{ yAxis: plane.chance, lineStyle: { color: palette.muted, width: 1.2, type: "dotted" } }]),
          ],
        },
      },
    ],
  };
}

function whiskers(plane: Plane, marks: readonly Mark[], palette: Palette): object {
  const known = marks.filter(({ point }) => point.low !== null && point.high !== null);
  return {
    type: "custom",
    silent: true,
    clip: true,
    data: known.map(({ point, series }) => [point.x, point.low, point.high, series]),
    encode: { x: 0, y: [1, 2] },
    z: 4,
    renderItem: (_: unknown, api: any) => {
      const [place, low] = api.coord([api.value(0), api.value(1)]);
      const x = place + beside(plane, api.value(3));
      const high = api.coord([api.value(0), api.value(2)])[1];
      return { type: "line", shape: { x1: x, y1: low, x2: x, y2: high }, style: { stroke: coloured(palette, api.value(3)), lineWidth: 2, opacity: 0.8 } };
    },
  };
}
