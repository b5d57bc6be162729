// What circuits of growing size keep of the behaviour, with the slider's place on it: a click there moves the slider.

import { axis, makeChart, tooltip, type Chart, type Option } from "../../chart";
import { element, refill, toggle } from "../../dom";
import { cursor, liveLine } from "../../keyboard";
import { interval, number, percent } from "../../text";
import { theme, type Palette } from "../../theme";
import { factList } from "../map/cell";
import type { Fact } from "../map/data";
import type { Averaging, Band, By, CircuitData, CurveData, PointData } from "./data";

const AVERAGINGS: readonly Averaging[] = ["ratio of means", "mean of ratios"];
const HINT = "Click on the curve, or press Enter at a size, and the slider goes there.";

export interface Beside {
  /** Show the slider's place, and the curve of edges in that order where there is one. */
  at(n: number, by: By): void;
}

interface State {
  curve: CurveData | null;
  points: readonly PointData[];
  averaging: Averaging;
  /** The slider's place, in edges, and the order that it takes them in; null where there is no slider. */
  n: number | null;
  by: By | null;
}

/** Draw curves, one at a time, and single circuits' values with them. */
export function curvePanel(place: HTMLElement, data: CircuitData, choose: ((n: number) => void) | null): Beside {
  const { curves, points } = data;
  const state: State = { curve: curves[0] ?? null, points, averaging: AVERAGINGS[0], n: null, by: null };
  const rule = element("p", { class: "caption" });
  const key = element("div");
  const picture = element("div");
  place.append(element("div", { class: "controls" }, [
    toggle("Average over examples", AVERAGINGS.map((value) => ({ value, label: value })), state.averaging, (averaging) => {
      state.averaging = averaging;
      draw();
    }),
    choose === null && curves.length > 1 && toggle("Edges taken by", curves.map((value) => ({ value, label: byWords(value.by) })), state.curve, (curve) => {
      state.curve = curve;
      draw();
    }),
  ]), picture, key, rule);
  const chart = makeChart(picture, (palette) => curveOption(state, data, palette), {
    label: `Faithfulness against the share of edges. Arrow keys go from size to size${choose === null ? "" : ", Enter moves the slider there"}.`,
    height: 300,
  });
  chart.place.setAttribute("role", "application");
  const say = liveLine(place, choose === null ? "Point at the curve for its numbers." : HINT);
  listen(chart, state, data, say, choose);

  function draw(): void {
    chart.update();
    refill(key, legend(state, theme.palette));
    rule.textContent = state.curve === null ? "" : ruleWords(state.curve, state.by);
  }
  theme.subscribe((palette) => refill(key, legend(state, palette)));
  draw();
  return {
    at(n, by) {
      state.n = n;
      state.by = by;
      state.curve = curves.find((curve) => curve.by === by) ?? curves[0] ?? null;
      draw();
      if (state.curve !== null) say(sentence(state.curve, nearest(state.curve, n), state.averaging));
    },
  };
}

/** By which rule the curve's circuits were cut, and what makes it another than the slider's. */
function ruleWords({ rule, by, undefined: why }: CurveData, slider: By | null): string {
  const other = slider === null || slider === by ? "" : ` No curve of edges by ${byWords(slider)} was saved, which the slider takes now.`;
  return `Curve: ${rule}.${other}${why === null ? "" : ` Mind: ${why}.`}`;
}

function byWords(by: By): string {
  return by === "signed" ? "helpfulness" : "magnitude";
}

/** The measured size that is nearest to so many edges, on the axis's scale. */
function nearest({ requested }: CurveData, n: number): number {
  const apart = (other: number): number => Math.abs(Math.log((other + 1) / (n + 1)));
  return requested.reduce((best, size, i) => (apart(size) < apart(requested[best]) ? i : best), 0);
}

function sentence(curve: CurveData, i: number, averaging: Averaging): string {
  const { value, low, high } = curve.found[averaging];
  const random = curve.random?.[averaging].value[i];
  const beside = random === null || random === undefined ? "" : `; random circuits ${percent(random)}`;
  return `${curve.requested[i]} edges asked for, ${curve.sizes[i]} left: keeps ${percent(value[i])} (95% interval ${percent(low[i])} to ${percent(high[i])})${beside}.`;
}

function factsOf(curve: CurveData, i: number): Fact[] {
  return [
    { name: "edges", value: `${curve.requested[i]} asked for (${number(100 * curve.fractions[i])}%), ${curve.sizes[i]} left` },
    ...AVERAGINGS.map((how) => ({ name: how, value: of(curve.found[how], i) })),
    ...(curve.random === null ? [] : AVERAGINGS.map((how) => ({ name: `random circuits, ${how}`, value: of(curve.random![how], i) }))),
  ];
}

function of({ value, low, high }: Band, i: number): string {
  return low[i] === null ? number(value[i]) : `${number(value[i])} (${interval(low[i], high[i])})`;
}

function share(n: number, { n_edges }: { n_edges: number }): number {
  return (100 * n) / n_edges;
}

function curveOption(state: State, data: CircuitData, palette: Palette): Option {
  const { curve, averaging, points, n } = state;
  const other = AVERAGINGS.find((how) => how !== averaging)!;
  const [own, beside] = [palette.diverging[9], palette.categories[0]];
  const at = curve?.fractions.map((fraction) => 100 * fraction) ?? [];
  const least = Math.min(...at, ...points.map((point) => share(point.size, point))) || 0.1;
  const line = (band: Band): (number | null)[][] => at.map((x, i) => [x, band.value[i]]);
  const series: object[] = [];
  if (curve !== null) {
    if (curve.random !== null) {
      series.push(bandSeries(at, curve.random[averaging], beside, palette));
      series.push({ type: "line", name: "random", data: line(curve.random[averaging]), symbol: "rect", symbolSize: 6, lineStyle: { color: beside, width: 1.5, type: "dotted" }, itemStyle: { color: beside }, silent: true });
    }
    series.push(bandSeries(at, curve.found[averaging], own, palette));
    series.push({ type: "line", name: "other", data: line(curve.found[other]), symbol: "none", lineStyle: { color: own, width: 1.2, type: "dashed" }, silent: true });
  }
  series.push({
    type: "line",
    name: "found",
    data: curve === null ? [] : line(curve.found[averaging]),
    symbol: "circle",
    symbolSize: 8,
    lineStyle: { color: own, width: 2.5 },
    itemStyle: { color: own },
    emphasis: { scale: 1.6, itemStyle: { borderColor: palette.mark, borderWidth: 2 } },
    markLine: {
      silent: true,
      symbol: "none",
      label: { show: false },
      data: [
        { yAxis: 1, lineStyle: { color: palette.muted, type: "dotted", width: 1 } },
        { yAxis: 0, lineStyle: { color: palette.muted, type: "solid", width: 1 } },
        ...(n === null || n === 0 ? [] : [{ xAxis: Math.max(least, share(n, data)), lineStyle: { color: palette.accent, type: "solid", width: 3 } }]),
      ],
    },
  });
  const there = points.flatMap((point) => (point.values[averaging][0] === null ? [] : [{ point, value: [share(point.size, point), ...point.values[averaging]] }]));
  series.push(whiskers(there.map(({ value }) => value), palette), {
    type: "scatter",
    name: "circuit",
    data: there.map(({ point, value }) => ({ value: value.slice(0, 2), point })),
    symbol: "diamond",
    symbolSize: 14,
    itemStyle: { color: palette.surface, borderColor: palette.text, borderWidth: 2.5 },
    z: 6,
  });
  return {
    grid: { left: 56, right: 14, top: 10, bottom: 44 },
    tooltip: tooltip(palette, ({ seriesName, dataIndex, data: item }) => {
      if (seriesName === "found" && curve !== null) return factList("Circuits of this size", factsOf(curve, dataIndex));
      return item?.point === undefined ? null : factList("The circuit", pointFacts(item.point));
    }),
    xAxis: axis(palette, "edges asked for, % of all", { type: "log", min: least, max: 100, nameGap: 26, axisLabel: { formatter: (value: number) => number(value), hideOverlap: true } }),
    yAxis: axis(palette, "faithfulness", { type: "value", ...reach(curve, points), nameGap: 38, splitLine: { show: true, lineStyle: { color: palette.line } } }),
    series,
  };
}

function pointFacts(point: PointData): Fact[] {
  return [
    { name: "edges", value: `${point.size} (${number(share(point.size, point))}%)` },
    ...AVERAGINGS.map((how) => {
      const [value, low, high] = point.values[how];
      return { name: how, value: low === null ? number(value) : `${number(value)} (${interval(low, high)})` };
    }),
  ];
}

/** From a little under what is drawn to a little over it: intervals that reach far out are cut. */
function reach(curve: CurveData | null, points: readonly PointData[]): { min: number; max: number; interval: number } {
  const values = [0, 1, ...points.flatMap(({ values }) => AVERAGINGS.map((how) => values[how][0]))];
  if (curve !== null) {
    for (const how of AVERAGINGS) values.push(...curve.found[how].value, ...(curve.random?.[how].value ?? []));
  }
  const finite = values.filter((value): value is number => value !== null);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const room = 0.1 * (high - low);
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100].find((one) => (high - low) / one <= 7) ?? (high - low) / 5;
  return { min: Math.floor((low - room) / step) * step, max: Math.ceil((high + room) / step) * step, interval: step };
}

/** The area between low and high ends, where there are any. */
function bandSeries(at: readonly number[], band: Band, colour: string, palette: Palette): object {
  const there = at.flatMap((x, i) => (band.low[i] === null || band.high[i] === null ? [] : [[x, band.low[i], band.high[i]] as number[]]));
  return {
    type: "custom",
    silent: true,
    clip: true,
    data: there.length > 1 ? [[there[0][0], there[0][1]]] : [],
    encode: { x: 0, y: 1 },
    renderItem: (_: unknown, api: any) => ({
      type: "polygon",
      shape: { points: [...there.map(([x, low]) => api.coord([x, low])), ...[...there].reverse().map(([x, , high]) => api.coord([x, high]))] },
      style: { fill: colour, opacity: palette.dark ? 0.25 : 0.18 },
    }),
    z: 1,
  };
}

function whiskers(ends: (number | null)[][], palette: Palette): object {
  return {
    type: "custom",
    silent: true,
    clip: true,
    data: ends.filter(([, , low, high]) => low !== null && high !== null),
    encode: { x: 0, y: [2, 3] },
    z: 5,
    renderItem: (_: unknown, api: any) => {
      const [x, low] = api.coord([api.value(0), api.value(2)]);
      return { type: "line", shape: { x1: x, y1: low, x2: x, y2: api.coord([api.value(0), api.value(3)])[1] }, style: { stroke: palette.text, lineWidth: 2 } };
    },
  };
}

function legend(state: State, palette: Palette): HTMLElement {
  const { curve, averaging, points, n } = state;
  const stroke = (colour: string, style: string): HTMLElement => {
    const made = element("span", { class: "swatch stroke" });
    made.style.borderTop = `3px ${style} ${colour}`;
    return made;
  };
  const other = AVERAGINGS.find((how) => how !== averaging)!;
  return element("ul", { class: "legend" }, [
    curve !== null && element("li", {}, [stroke(palette.diverging[9], "solid"), `circuits, ${averaging}; band: 95% interval over examples`]),
    curve !== null && element("li", {}, [stroke(palette.diverging[9], "dashed"), `circuits, ${other}`]),
    curve?.random !== null && curve !== null && element("li", {}, [stroke(palette.categories[0], "dotted"), `mean of ${curve.draws} random circuits; band: their middle 95%`]),
    points.length > 0 && element("li", {}, [element("span", { class: "swatch diamond" }), "the circuit itself, with its 95% interval"]),
    n !== null && element("li", {}, [stroke(palette.accent, "solid"), "the slider's place"]),
  ]);
}

/** Let pointer and keys read sizes off, and choose one. */
function listen(chart: Chart, state: State, data: CircuitData, say: (text: string | null) => void, choose: ((n: number) => void) | null): void {
  const found = (): number => (chart.echarts.getOption() as { series: { name?: string }[] }).series.findIndex(({ name }) => name === "found");
  const tell = (i: number): void => {
    if (state.curve !== null) say(sentence(state.curve, i, state.averaging));
  };
  const point = (i: number): void => {
    const seriesIndex = found();
    chart.echarts.dispatchAction({ type: "downplay", seriesIndex });
    chart.echarts.dispatchAction({ type: "highlight", seriesIndex, dataIndex: i });
    chart.echarts.dispatchAction({ type: "showTip", seriesIndex, dataIndex: i });
    tell(i);
  };
  const columns = state.curve?.fractions.length ?? 0;
  if (columns > 0) {
    cursor(chart.place, {
      rows: 1,
      columns,
      start: [0, columns - 1],
      onMove: (_, column) => point(column),
      onChoose: (_, column) => {
        if (state.curve === null || choose === null) return;
        choose(state.curve.requested[column]);
        point(column);
      },
      onLeave() {
        chart.echarts.dispatchAction({ type: "downplay", seriesIndex: found() });
        chart.echarts.dispatchAction({ type: "hideTip" });
      },
    });
  }
  chart.echarts.on("mouseover", ({ seriesName, dataIndex }: any) => {
    if (seriesName === "found") tell(dataIndex);
  });
  if (choose === null) return;
  chart.echarts.getZr().on("click", ({ offsetX, offsetY }: any) => {
    if (!chart.echarts.containPixel("grid", [offsetX, offsetY])) return;
    const [at] = chart.echarts.convertFromPixel("grid", [offsetX, offsetY]) as number[];
    choose(Math.round((at / 100) * data.n_edges));
  });
}
