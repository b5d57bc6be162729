// A study's cells as bars or a map: point for the numbers, click for the examples behind them.

import { makeChart, type Chart } from "../chart";
import { element, select, toggle } from "../dom";
import { cursor, liveLine } from "../keyboard";
import { words } from "../text";
import { theme } from "../theme";
import { barsHeight, barsOption, leastBarsWidth } from "./map/bars";
import { sentence } from "./map/cell";
import { StudyMap, type MapData } from "./map/data";
import { showExamples, type Shown } from "./map/examples";
import { cellAt, downwards, heatHeight, heatOption, leastWidth, mostWidth, type Slice } from "./map/heat";
import { legend } from "./map/legend";

export function mapView(place: HTMLElement, data: MapData): void {
  const map = new StudyMap(data);
  const flat = map.sizes.length === 1;
  const start = map.placeOf(map.strongest);
  const slice: Slice = { map, measure: data.measures[0], fixed: start.slice(0, -2), chosen: null, drawn: new Map() };
  const controls = element("div", { class: "controls" });
  const picture = element("div");
  const key = element("div");
  const below = element("div");
  place.append(controls, picture, key);

  const chart = makeChart(picture, (palette) => (flat ? barsOption(slice, palette) : heatOption(slice, palette)), {
    label: `${data.title}. Arrow keys move from cell to cell, Enter shows a cell's examples, Escape leaves.`,
    height: flat ? barsHeight(map) : heatHeight(map),
    least: flat ? leastBarsWidth(map) : leastWidth(map),
    most: flat ? undefined : mostWidth(map),
    shapes: flat ? map.sizes[0] : map.sizes[map.sizes.length - 1] * map.sizes[map.sizes.length - 2],
  });
  chart.place.setAttribute("role", "application");
  const hint = "Point at a cell for its numbers; click it, or press Enter, for its examples.";
  const say = liveLine(place, hint);
  place.append(below);
  let examples: Shown | null = null;

  function choose(cell: number | null): void {
    slice.chosen = cell;
    chart.update();
    examples?.dispose();
    examples = cell === null ? null : showExamples(below, map, cell, slice.measure, () => {
      choose(null);
      chart.place.focus();
    });
    if (cell !== null) say(`${sentence(map, cell, slice.measure)} Its examples are shown below.`);
  }
  function changed(): void {
    key.replaceChildren(legend(slice, theme.palette));
    // The examples stay with their cell, in the measure that is now shown.
    if (slice.chosen === null) chart.update();
    else choose(slice.chosen);
  }
  addControls(controls, slice, changed);
  theme.subscribe((palette) => key.replaceChildren(legend(slice, palette)));
  key.replaceChildren(legend(slice, theme.palette));
  listen(chart, slice, flat, say, choose, start.slice(-2));
}

function addControls(place: HTMLElement, slice: Slice, changed: () => void): void {
  const { map } = slice;
  if (map.data.measures.length > 1) {
    const choices = map.data.measures.map((measure) => ({ value: measure, label: measure.name === "effect" ? "Effect" : "Normalised" }));
    place.append(toggle("What is shown", choices, slice.measure, (measure) => {
      slice.measure = measure;
      changed();
    }));
  }
  const fixed = [...slice.fixed];
  slice.fixed = fixed;
  fixed.forEach((at, axis) => {
    const survivors = map.survivorsAlong(axis);
    const choices = map.data.axes[axis].entries.map((_, i) => ({
      value: i,
      label: map.entry(axis, i) + (survivors[i] > 0 ? ` (${survivors[i]} survive)` : ""),
    }));
    place.append(select(words(map.data.axes[axis].name), choices, at, (value) => {
      fixed[axis] = value;
      changed();
    }));
  });
}

/** Let pointer and keys show a cell, and choose one. */
function listen(
  chart: Chart, slice: Slice, flat: boolean, say: (text: string | null) => void, choose: (cell: number) => void, start: readonly number[],
): void {
  const { map } = slice;
  const upwards = !flat && !downwards(map);
  const cell = (row: number, column: number): number => (flat ? column : cellAt(slice, row, column));
  const point = (at: number): void => {
    const [seriesIndex, dataIndex] = slice.drawn.get(at)!;
    [0, 1].forEach((series) => chart.echarts.dispatchAction({ type: "downplay", seriesIndex: series }));
    const place = map.placeOf(at).slice(-2).reverse();
    const pixel = chart.echarts.convertToPixel({ seriesIndex }, flat ? [place[0], 0] : place);
    if (Array.isArray(pixel)) chart.reveal(pixel[0]);
    chart.echarts.dispatchAction({ type: "highlight", seriesIndex, dataIndex });
    chart.echarts.dispatchAction({ type: "showTip", seriesIndex, dataIndex });
  };
  // Choosing draws anew, which would put the numbers away: where nothing hovers, they would not come again.
  const pick = (at: number): void => {
    choose(at);
    point(at);
  };
  const [rows, columns] = flat ? [1, map.sizes[0]] : map.sizes.slice(-2);
  const keys = cursor(chart.place, {
    rows,
    columns,
    upwards,
    start: flat ? [0, start[start.length - 1]] : [start[0], start[1]],
    onMove(row, column) {
      point(cell(row, column));
      say(sentence(map, cell(row, column), slice.measure));
    },
    onChoose: (row, column) => pick(cell(row, column)),
    onLeave() {
      [0, 1].forEach((seriesIndex) => chart.echarts.dispatchAction({ type: "downplay", seriesIndex }));
      chart.echarts.dispatchAction({ type: "hideTip" });
      say(null);
    },
  });
  const pointed = (item: any): number | null => (typeof item.data?.cell === "number" ? item.data.cell : null);
  let under: number | null = null;
  chart.echarts.on("mouseover", (item: any) => {
    const at = pointed(item);
    if (at === null) return;
    under = at;
    const where = map.placeOf(at).slice(-2);
    keys.at(flat ? 0 : where[0], where[where.length - 1]);
    say(sentence(map, at, slice.measure));
  });
  chart.echarts.on("click", (item: any) => {
    const at = pointed(item);
    if (at !== null) pick(at);
  });
  // ECharts forgets a touch that takes longer than 0.3 s, as on a slow phone; the browser's own click comes after it.
  chart.place.addEventListener("click", () => {
    if (under !== null && slice.drawn.has(under) && under !== slice.chosen) pick(under);
  });
  chart.echarts.on("mouseout", () => {
    under = null;
  });
  chart.echarts.on("globalout", () => {
    under = null;
    say(null);
  });
}
