// A module's histogram of relative change, with the two nulls over it: what sizes alone, and what rounding makes.

import { axis, makeChart, tooltip, type Chart, type Option } from "../../chart";
import { element, toggle } from "../../dom";
import { cursor, liveLine } from "../../keyboard";
import { interval, percent } from "../../text";
import type { Palette } from "../../theme";
import { factList } from "../map/cell";
import type { Fact } from "../map/data";
import type { Shape } from "./data";

type Range = "near" | "wide";

/** What each null is, in words. */
const MEANINGS: Readonly<Record<string, string>> = {
  "changes shuffled": "null: the same changes, shuffled among the weights",
  "rounded noise": "null: Gaussian changes of the same size, rounded to the number format",
};

const FORMULAS = { paper: "(after − before) / before", code: "(after − before) / |before|" };

export interface ShownShape {
  dispose(): void;
}

export function showShape(place: HTMLElement, shape: Shape, title: string, formula: "paper" | "code", close: () => void): ShownShape {
  const near = shape.near !== null && shape.reach > 0;
  let range: Range = near ? "near" : "wide";
  const heading = element("h4", {}, title);
  const controls = element("div", { class: "controls" }, [heading, element("button", { type: "button", onclick: close }, "Close")]);
  const box = element("div", { class: "examples", role: "region", "aria-label": title }, controls);
  place.replaceChildren(box);
  if (shape.because !== null) box.append(element("p", {}, `${shape.verdict}: ${shape.because}.`));
  let chart: Chart;
  if (near) {
    box.append(element("div", { class: "controls" }, toggle<Range>("Range", [
      { value: "near", label: "Its own scale" },
      { value: "wide", label: "−1 to 1, as in the paper" },
    ], range, (value) => {
      range = value;
      keys.resize(1, bins(shape, range).length);
      chart.update();
      explain();
    })));
  }
  const caption = element("p", { class: "caption" });
  const explain = (): void => {
    const outside = `${percent(shape.beyond)} of the weights changed by more than all of themselves, and ${percent(shape.zeros)} were 0 before; these are in no bin.`;
    caption.textContent = range === "wide" ? `Shares of what lies between −1 and 1, of all ${shape.elements.toLocaleString("en")} weights${shape.null === null ? "" : ", and of a sample for the nulls"}. ${outside}` : `Shares of what lies here, of a sample of the weights${shape.null === null ? "" : " and of its nulls"}: the range holds four of five of its weights, in ${bins(shape, range).length} bins.`;
  };
  explain();
  box.append(caption);
  chart = makeChart(box, (palette) => shapeOption(shape, range, formula, palette), {
    label: `${title}. Arrow keys move from bin to bin.`,
    height: 300,
    shapes: 700,
  });
  box.append(key(shape));
  const say = liveLine(box, "Point at a bin, or go from bin to bin with the arrow keys.");
  const keys = cursor(chart.place, {
    rows: 1,
    columns: bins(shape, range).length,
    start: [0, Math.floor(bins(shape, range).length / 2)],
    onMove(_, column) {
      chart.echarts.dispatchAction({ type: "showTip", seriesIndex: 0, dataIndex: column });
      say(facts(shape, range, column).map(({ name, value }) => `${name} ${value}`).join("; "));
    },
    onLeave() {
      chart.echarts.dispatchAction({ type: "hideTip" });
      say(null);
    },
  });
  chart.place.setAttribute("role", "application");
  return {
    dispose() {
      chart.dispose();
      place.replaceChildren();
    },
  };
}

function bins(shape: Shape, range: Range): readonly (number | null)[] {
  return spread(range === "near" && shape.near !== null ? shape.near : shape.wide);
}

function nulls(shape: Shape, range: Range): Readonly<Record<string, readonly (number | null)[]>> {
  const own = (range === "near" ? shape.near_null : shape.null) ?? {};
  return Object.fromEntries(Object.entries(own).map(([name, values]) => [name, spread(values)]));
}

/** Shares of what lies in the range: samples and nulls leave other shares outside, and shapes are what is compared. */
function spread(values: readonly (number | null)[]): readonly number[] {
  const whole = values.reduce<number>((sum, value) => sum + (value ?? 0), 0);
  return values.map((value) => (whole > 0 ? (value ?? 0) / whole : 0));
}

/** The ends of a bin. */
function edges(shape: Shape, range: Range, bin: number): [number, number] {
  const reach = range === "near" ? shape.reach : 1;
  const width = (2 * reach) / bins(shape, range).length;
  return [-reach + bin * width, -reach + (bin + 1) * width];
}

function facts(shape: Shape, range: Range, bin: number): Fact[] {
  const share = (value: number | null): string => (value === null ? "–" : `${(100 * value).toPrecision(3)}%`);
  return [
    { name: "change", value: interval(...edges(shape, range, bin)) },
    { name: "share of weights", value: share(bins(shape, range)[bin]) },
    ...Object.entries(nulls(shape, range)).map(([name, values]) => ({ name, value: share(values[bin]) })),
  ];
}

/** Colours and dashes of the nulls, in their order: told apart without colour too. */
function looks(palette: Palette): { color: string; type: "solid" | "dashed" }[] {
  return [{ color: palette.categories[1], type: "solid" }, { color: palette.text, type: "dashed" }];
}

function shapeOption(shape: Shape, range: Range, formula: "paper" | "code", palette: Palette): Option {
  const middle = (bin: number): number => edges(shape, range, bin).reduce((a, b) => a + b) / 2;
  const values = bins(shape, range);
  const width = edges(shape, range, 0)[1] - edges(shape, range, 0)[0];
  return {
    grid: { left: 64, right: 16, top: 16, bottom: 48 },
    tooltip: { ...tooltip(palette, (items) => factList("", facts(shape, range, (Array.isArray(items) ? items[0] : items).dataIndex))), trigger: "axis", axisPointer: { type: "line", lineStyle: { color: palette.muted } } },
    xAxis: axis(palette, `relative change, ${FORMULAS[formula]}`, {
      type: "value", nameGap: 28, min: edges(shape, range, 0)[0], max: edges(shape, range, values.length - 1)[1],
      axisLine: { onZero: false, lineStyle: { color: palette.muted } },
    }),
    yAxis: axis(palette, "share of weights", {
      type: "value", nameGap: 46, splitLine: { show: true, lineStyle: { color: palette.line } },
      axisLabel: { formatter: (value: number) => `${Number((100 * value).toPrecision(3))}%` },
    }),
    series: [
      {
        type: "custom",
        name: "weights",
        data: values.map((value, bin) => [middle(bin), value ?? 0]),
        renderItem: (_: unknown, api: any) => {
          const [x, top] = api.coord([api.value(0) - width / 2, api.value(1)]);
          const [right, bottom] = api.coord([api.value(0) + width / 2, 0]);
          return { type: "rect", shape: { x, y: top, width: Math.max(1, right - x - (values.length > 100 ? 0 : 1)), height: bottom - top }, style: { fill: palette.categories[0], opacity: 0.75 } };
        },
        encode: { x: 0, y: 1 },
      },
      ...Object.entries(nulls(shape, range)).map(([name, heights], i) => ({
        type: "line",
        name,
        step: "middle",
        showSymbol: false,
        silent: true,
        lineStyle: { ...looks(palette)[i % 2], width: 2 },
        data: heights.map((height, bin) => [middle(bin), height ?? 0]),
        z: 4,
      })),
    ],
  };
}

function key(shape: Shape): HTMLElement {
  const names = Object.keys(shape.null ?? {});
  return element("ul", { class: "legend" }, [
    element("li", {}, [element("span", { class: "swatch bins" }), "weights of this module"]),
    ...names.map((name, i) => element("li", {}, [element("span", { class: i === 0 ? "swatch null-line" : "swatch null-line dashed" }), MEANINGS[name] ?? name])),
  ]);
}
