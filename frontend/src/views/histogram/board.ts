// Layers by modules, or by heads, as a heat map of one measure.

import { axis, tooltip, type Option } from "../../chart";
import { number, plain, words } from "../../text";
import { colourAt, type Palette } from "../../theme";
import { factList } from "../map/cell";
import type { Fact } from "../map/data";
import { hatching } from "../map/heat";
import { SIGNED, measuresOf, shapeAt, type Board, type DeltaData } from "./data";

export interface Shown {
  data: DeltaData;
  board: Board;
  measure: string;
  /** The cell whose histogram is shown below: row and column. */
  chosen: readonly [number, number] | null;
}

const NARROWEST = 22;
const MARGIN = 76;

export function leastBoardWidth({ board }: Shown): number {
  return MARGIN + 10 + NARROWEST * board.columns.length;
}

function labelRoom(board: Board): number {
  const longest = Math.max(...board.columns.map((name) => name.length));
  return longest > 3 ? Math.min(150, 7 * longest + 4) : 18;
}

export function boardHeight({ board }: Shown): number {
  return Math.max(90, Math.min(30, 480 / board.rows.length) * board.rows.length) + 56 + labelRoom(board);
}

/** The ends of a measure's colours: its least and its most, or as far to both sides of 0. */
export function ends({ board, measure }: Shown): [number, number] {
  const values = board.values[measure].flat().filter((value): value is number => value !== null);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const most = Math.max(Math.abs(low), Math.abs(high));
  if (most === 0 || values.length === 0) return [0, 1];
  return SIGNED.has(measure) || low < 0 ? [-most, most] : low === high ? [0, high] : [low, high];
}

export function scaleOf(shown: Shown, palette: Palette): readonly string[] {
  return ends(shown)[0] < 0 ? palette.diverging : palette.sequential;
}

export function boardOption(shown: Shown, palette: Palette): Option {
  const { data, board, measure, chosen } = shown;
  const [low, high] = ends(shown);
  const scale = scaleOf(shown, palette);
  const there: object[] = [], missing: object[] = [];
  board.rows.forEach((_, row) => board.columns.forEach((_, column) => {
    const value = board.values[measure][row][column];
    const frame = chosen !== null && chosen[0] === row && chosen[1] === column ? { borderColor: palette.mark, borderWidth: 3 } : {};
    const colour = value === null ? {} : { color: colourAt(scale, (value - low) / (high - low)) };
    (value === null ? missing : there).push({ value: [column, row, value ?? 0], cell: [row, column], itemStyle: { ...colour, ...frame } });
  }));
  const room = labelRoom(board);
  const category = { type: "category", splitArea: { show: false } };
  const series = { type: "heatmap", progressive: 0, emphasis: { itemStyle: { borderColor: palette.mark, borderWidth: 2 } } };
  return {
    grid: { left: MARGIN, right: 10, top: 12, bottom: room + 34 },
    tooltip: tooltip(palette, ({ data: item }) => factList(nameOf(board, item.cell), factsOf(data, board, item.cell))),
    xAxis: axis(palette, words(board.column), {
      ...category,
      data: board.columns.map((name) => plain(name, 24)),
      nameGap: room + 12,
      axisLabel: { rotate: room > 18 ? 90 : 0, interval: 0, fontSize: 11 },
    }),
    yAxis: axis(palette, "layer", {
      ...category,
      data: [...board.rows],
      nameGap: 54,
      axisLabel: { interval: board.rows.length > 30 ? "auto" : 0, fontSize: 11 },
    }),
    // ECharts paints heat maps by one of these alone; each cell brings the colour that the scale gives it.
    visualMap: { show: false, type: "continuous", min: low, max: high, dimension: 2, seriesIndex: 0, inRange: { color: [...scale] } },
    series: [
      { ...series, data: there, itemStyle: { borderColor: palette.surface, borderWidth: 1 } },
      { ...series, data: missing, itemStyle: { color: palette.missing, decal: hatching(palette), borderColor: palette.surface, borderWidth: 1 } },
      { type: "scatter", data: board.humps.map(([row, column]) => [column, row]), silent: true, symbolSize: 7, itemStyle: { color: palette.mark, borderColor: palette.ring, borderWidth: 1, opacity: 1 }, z: 5 },
    ],
  };
}

export function nameOf(board: Board, [row, column]: readonly [number, number]): string {
  const layer = board.rows[row];
  const where = /^\d+$/.test(layer) ? `layer ${layer}` : `${layer} the layers`;
  const what = board.column === "module" ? "" : `${board.name.replace(/^heads of /, "")} ${board.column} `;
  return `${where}, ${what}${plain(board.columns[column], 40)}`;
}

export function factsOf(data: DeltaData, board: Board, [row, column]: readonly [number, number]): Fact[] {
  const facts = measuresOf(data, board).flatMap((name) => {
    const value = board.values[name][row][column];
    return value === null ? [] : [{ name: words(name), value: number(value) }];
  });
  if (facts.length === 0) return [{ name: "no such module", value: "the model has none here" }];
  const shape = shapeAt(data, board, row, column);
  if (shape === undefined) return facts;
  return [...facts, { name: "weights", value: shape.elements.toLocaleString("en") }, ...(shape.verdict === null ? [] : [{ name: "histogram", value: shape.verdict }])];
}
