// Two axes of cells as a heat map: purple for under 0, orange for over it, dots on what survives, hatching where no cell is.

import { axis, tooltip, type Option } from "../../chart";
import { words } from "../../text";
import type { Palette } from "../../theme";
import { factList } from "./cell";
import type { Measure, StudyMap } from "./data";

/** Which cells a picture shows: the last two axes, at one place along those before. */
export interface Slice {
  map: StudyMap;
  measure: Measure;
  /** Along the leading axes. */
  fixed: readonly number[];
  /** The cell whose examples are shown below. */
  chosen: number | null;
  /** By cell, in which series it is drawn and as which of its data; the last option that was made fills it. */
  drawn: Map<number, readonly [series: number, index: number]>;
}

/** Pixels that a cell is wide at least, before the picture scrolls, and at most. */
const NARROWEST = 14;
const WIDEST = 80;
/** Right of the cells, and left of them the axis's name. */
const RIGHT = 10;
const NAME = 26;
/** Labels of rows that are longer than this, in pixels, are cut. */
const LONGEST_LABEL = 120;

export function cellAt({ map, fixed }: Slice, row: number, column: number): number {
  return map.at([...fixed, row, column]);
}

/** Attention edges run downwards, as in patterns; layers and the like upwards, as in the figures. */
export function downwards(map: StudyMap): boolean {
  return map.data.axes.slice(-2).map(({ name }) => name).join() === "query,key";
}

export function leastWidth(map: StudyMap): number {
  return left(map) + RIGHT + leastOf(map.sizes[map.sizes.length - 1], NARROWEST);
}

/** How wide so many cells or bars are at least: browsers draw no picture that is much wider than 16,000 pixels. */
export function leastOf(n: number, each: number): number {
  return n * Math.min(each, Math.max(3, 8000 / n));
}

export function mostWidth(map: StudyMap): number {
  return Math.max(320, left(map) + RIGHT + WIDEST * map.sizes[map.sizes.length - 1]);
}

export function heatHeight(map: StudyMap): (width: number) => number {
  const rows = map.sizes[map.sizes.length - 2];
  return () => Math.max(90, Math.min(28, 460 / rows) * rows, 6 * rows) + 24 + below(map);
}

/** Room under the cells: their labels, and the axis's name. */
function below(map: StudyMap): number {
  return labelRoom(map) + 32;
}

/** Room left of the cells: the axis's name, and as much as its labels take. */
function left(map: StudyMap): number {
  return NAME + rowLabelRoom(map);
}

function rowLabelRoom(map: StudyMap): number {
  return Math.min(LONGEST_LABEL, Math.max(44, 7 * longestLabel(map, map.sizes.length - 2) + 8));
}

function longestLabel(map: StudyMap, axisNumber: number): number {
  return Math.max(...map.data.axes[axisNumber].entries.map((_, i) => map.entry(axisNumber, i).length));
}

function labelRoom(map: StudyMap): number {
  const longest = longestLabel(map, map.sizes.length - 1);
  return longest > 2 ? Math.min(165, 7 * longest + 4) : 18;
}

/** How far colours reach to both sides, over all cells, so that panels of one study can be compared. */
export function reach(map: StudyMap, measure: Measure): number {
  return map.data.effect.reduce<number>((most, effect) => Math.max(most, Math.abs((effect ?? 0) * measure.scale)), 0) || 1;
}

export function heatOption(slice: Slice, palette: Palette): Option {
  const { map, measure } = slice;
  const [rowAxis, columnAxis] = [map.sizes.length - 2, map.sizes.length - 1];
  const [rows, columns] = [map.sizes[rowAxis], map.sizes[columnAxis]];
  slice.drawn.clear();
  const there: object[] = [], missing: object[] = [], dots: number[][] = [];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const cell = cellAt(slice, row, column);
      const value = map.measured(map.data.effect, cell, measure);
      const frame = cell === slice.chosen ? { borderColor: palette.mark, borderWidth: 3 } : {};
      const series = value === null ? missing : there;
      slice.drawn.set(cell, [value === null ? 1 : 0, series.length]);
      series.push({ value: [column, row, value ?? 0], cell, itemStyle: frame });
      if (map.survives.has(cell)) dots.push([column, row]);
    }
  }
  const labels = (which: number): string[] => map.data.axes[which].entries.map((_, i) => map.entry(which, i));
  const most = reach(map, measure);
  const long = labelRoom(map) > 18;
  const category = { type: "category", splitArea: { show: false } };
  return {
    grid: { left: left(map), right: RIGHT, top: 12, bottom: below(map) },
    tooltip: tooltip(palette, ({ data }) => factList(map.nameOf(data.cell), map.facts(data.cell))),
    xAxis: axis(palette, words(map.data.axes[columnAxis].name), {
      ...category,
      data: labels(columnAxis),
      nameGap: labelRoom(map) + 12,
      axisLabel: { rotate: long ? 90 : 0, interval: columns > 120 ? "auto" : 0, fontSize: 11 },
    }),
    yAxis: axis(palette, words(map.data.axes[rowAxis].name), {
      ...category,
      data: labels(rowAxis),
      inverse: downwards(map),
      nameGap: rowLabelRoom(map) + 4,
      axisLabel: { interval: rows > 30 ? "auto" : 0, fontSize: 11, width: rowLabelRoom(map), overflow: "truncate" },
    }),
    visualMap: {
      type: "continuous",
      seriesIndex: 0,
      dimension: 2,
      min: -most,
      max: most,
      // Its scale stands in the legend, which does not scroll away with wide maps.
      show: false,
      inRange: { color: [...palette.diverging] },
    },
    series: [
      {
        type: "heatmap",
        data: there,
        itemStyle: { borderColor: palette.surface, borderWidth: columns > 80 ? 0 : 1 },
        emphasis: { itemStyle: { borderColor: palette.mark, borderWidth: 2 } },
        progressive: 0,
      },
      {
        type: "heatmap",
        data: missing,
        itemStyle: { color: palette.missing, decal: hatching(palette), borderColor: palette.surface, borderWidth: 1 },
        emphasis: { itemStyle: { borderColor: palette.mark, borderWidth: 2 } },
        progressive: 0,
      },
      {
        type: "scatter",
        data: dots,
        silent: true,
        symbolSize: columns > 60 ? 5 : 7,
        itemStyle: { color: palette.mark, borderColor: palette.ring, borderWidth: 1, opacity: 1 },
        z: 5,
      },
    ],
  };
}

/** Slanting lines, as the figures have them where there is no cell. */
export function hatching(palette: Palette): object {
  return { symbol: "rect", dashArrayX: [1, 0], dashArrayY: [2, 5], rotation: -Math.PI / 4, color: palette.hatch };
}
