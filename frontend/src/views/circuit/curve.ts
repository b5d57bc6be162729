// What circuits of growing size keep of the behaviour, with the slider's place on it: a click there moves the slider.

import { axis, makeChart, tooltip, type Chart, type Option } from "../../chart";
import { element, refill, select, toggle } from "../../dom";
import { cursor, liveLine, type Cursor } from "../../keyboard";
import { capital, counted, interval, number, percent } from "../../text";
import { theme, type Palette } from "../../theme";
import { factList } from "../map/cell";
import type { Fact } from "../map/data";
import type { Averaging, Band, By, CircuitData, CurveData, PointData } from "./data";

const AVERAGINGS: readonly Averaging[] = ["ratio of means", "mean of ratios"];
/** What the series of measured curves are called, with their place behind it. */
const FOUND = "found";
const HINT = "Click on the curve, or press Enter at a size, and the slider goes there.";

export interface Beside {
  /** Show the slider's place, and of the circuits that are looked at the curve of edges in that order where there is one. */
  at(n: number, by: By, graphs: readonly number[]): void;
}

interface State {
  /** Those that are drawn: one, or one of each circuit that is overlaid. */
  curves: readonly CurveData[];
  points: readonly PointData[];
  averaging: Averaging;
  /** The slider's place, in edges, and the order that it takes them in; null where there is no slider. */
  n: number | null;
  by: By | null;
}

/** Draw curves, one of each circuit at a time, and single circuits' values with them. */
export function curvePanel(place: HTMLElement, data: CircuitData, choose: ((n: number) => void) | null): Beside {
  const { curves, points } = data;
  const state: State = { curves: curves.slice(0, 1), points, averaging: AVERAGINGS[0], n: null, by: null };
  const rule = element("p", { class: "caption" });
  const key = element("div");
  const picture = element("div");
  const alike = new Set(curves.map(({ by }) => by)).size < curves.length;
  place.append(element("div", { class: "controls" }, [
    toggle("Average over examples", AVERAGINGS.map((value) => ({ value, label: capital(value) })), state.averaging, (averaging) => {
      state.averaging = averaging;
      draw();
    }),
    choose === null && curves.length > 1 && select("Curve", curves.map((value) => ({ value, label: alike ? `${value.title}, by ${byWords(value.by)}` : `by ${byWords(value.by)}` })), curves[0], (curve) => {
      state.curves = [curve];
      draw();
    }),
  ]), picture, key, rule);
  const chart = makeChart(picture, (palette) => curveOption(state, data, palette), {
    label: `Faithfulness against the share of edges. Arrow keys go from size to size${choose === null ? "" : ", Enter moves the slider there"}.`,
    height: 300,
  });
  chart.place.setAttribute("role", "application");
  const say = liveLine(place, choose === null ? "Point at the curve for its numbers." : HINT);
  const keys = listen(chart, state, data, say, choose);
  // What stands under the curve, said anew when the averaging or the curve is another.
  let told: () => string | null = () => null;

  function draw(): void {
    chart.update();
    keys.resize(1, Math.max(1, state.curves[0]?.fractions.length ?? 0));
    refill(key, legend(state, data, theme.palette));
    rule.textContent = ruleWords(state, data);
    say(told());
  }
  theme.subscribe((palette) => refill(key, legend(state, data, palette)));
  draw();
  return {
    at(n, by, graphs) {
      state.n = n;
      state.by = by;
      state.curves = graphs.flatMap((graph) => curves.find((curve) => curve.graph === graph && curve.by === by) ?? curves.find((curve) => curve.graph === graph) ?? []);
      state.points = points.filter(({ graph }) => graphs.includes(graph));
      told = () => (state.curves.length === 0 ? "No curve of this circuit was saved." : state.curves.map((curve) => nearSentence(curve, n, state, data)).join(" "));
      draw();
    },
  };
}

/** By which rule the curves' circuits were cut, and what makes it another than the slider's. */
function ruleWords({ curves, by: slider }: State, data: CircuitData): string {
  return curves.map((curve) => {
    const other = slider === null || slider === curve.by ? "" : ` No curve of edges by ${byWords(slider)} was saved, which the slider takes now.`;
    return `Curve${ofWhich(curve, data)}: ${curve.rule}.${other}${curve.undefined === null ? "" : ` Mind: ${curve.undefined}.`}`;
  }).join(" ");
}

/** Whose it is, where two circuits are overlaid. */
function ofWhich({ graph }: { graph: number }, { graphs }: CircuitData): string {
  return graphs.length > 1 ? ` of ${graphs[graph].name}` : "";
}

function byWords(by: By): string {
  return by === "signed" ? "helpfulness" : "magnitude";
}

/** The measured size that is nearest to so many edges, on the axis's scale. */
function nearest({ requested }: CurveData, n: number): number {
  const apart = (other: number): number => Math.abs(Math.log((other + 1) / (n + 1)));
  return requested.reduce((best, size, i) => (apart(size) < apart(requested[best]) ? i : best), 0);
}

/** What is kept at the slider's place: measured there, or at the nearest size that was. */
function nearSentence(curve: CurveData, n: number, { averaging }: State, data: CircuitData): string {
  const i = nearest(curve, n);
  const there = curve.requested[i] === n ? "" : "Nearest size measured: ";
  return `${there}${sentence(curve, i, averaging, data)}`;
}

function sentence(curve: CurveData, i: number, averaging: Averaging, data: CircuitData): string {
  const { value, low, high } = curve.found[averaging];
  const random = curve.random?.[averaging].value[i];
  const beside = random === null || random === undefined ? "" : `; random circuits ${percent(random)}`;
  const ends = low[i] === null ? "" : ` (95% interval ${percent(low[i])} to ${percent(high[i])})`;
  return `${counted(curve.requested[i], "edge")} asked for, ${counted(curve.sizes[i], "edge").split(" ")[0]} left${ofWhich(curve, data)}: keeps ${percent(value[i])}${ends}${beside}.`;
}

function factsOf(curve: CurveData, i: number): Fact[] {
  return [
    { name: "edges", value: `${curve.requested[i].toLocaleString("en")} asked for (${number(100 * curve.fractions[i])}%), ${curve.sizes[i].toLocaleString("en")} left` },
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

/** How a circuit's curve looks: as its edges do where two are shown. */
function lineOf({ graph }: { graph: number }, { curves }: State, palette: Palette): { color: string; type: "solid" | "dashed" | "dotted" } {
  if (curves.length < 2) return { color: palette.diverging[9], type: "solid" };
  return graph === 0 ? { color: palette.diverging[9], type: "dashed" } : { color: palette.diverging[1], type: "dotted" };
}

function curveOption(state: State, data: CircuitData, palette: Palette): Option {
  const { curves, averaging, points, n } = state;
  const other = AVERAGINGS.find((how) => how !== averaging)!;
  const beside = palette.categories[0];
  const at = (curve: CurveData): number[] => curve.fractions.map((fraction) => 100 * fraction);
  const slider = n === null || n === 0 ? [] : [share(n, data)];
  // The slider goes below the smallest size that was measured.
  const least = Math.min(100, ...curves.flatMap(at).filter((x) => x > 0), ...points.map((point) => share(point.size, point)).filter((x) => x > 0), ...slider);
  const line = (curve: CurveData, band: Band): (number | null)[][] => at(curve).map((x, i) => [x, band.value[i]]);
  const series: object[] = [];
  if (curves.length === 1) {
    const [curve] = curves;
    if (curve.random !== null) {
      series.push(bandSeries(at(curve), curve.random[averaging], beside, palette));
      series.push({ type: "line", name: "random", data: line(curve, curve.random[averaging]), symbol: "rect", symbolSize: 6, lineStyle: { color: beside, width: 1.5, type: "dotted" }, itemStyle: { color: beside }, silent: true });
    }
    const { color } = lineOf(curve, state, palette);
    series.push({ type: "line", name: "other", data: line(curve, curve.found[other]), symbol: "none", lineStyle: { color, width: 1.2, type: "dashed" }, silent: true });
  }
  for (const curve of curves) series.push(bandSeries(at(curve), curve.found[averaging], lineOf(curve, state, palette).color, palette));
  const marks = {
    silent: true,
    symbol: "none",
    label: { show: false },
    data: [
      { yAxis: 1, lineStyle: { color: palette.muted, type: "dotted", width: 1 } },
      { yAxis: 0, lineStyle: { color: palette.muted, type: "solid", width: 1 } },
      ...slider.map((xAxis) => ({ xAxis, lineStyle: { color: palette.accent, type: "solid", width: 3 } })),
    ],
  };
  for (const [i, curve] of (curves.length > 0 ? curves : [null]).entries()) {
    const look = lineOf(curve ?? { graph: 0 }, state, palette);
    series.push({
      type: "line",
      name: `${FOUND}${i}`,
      data: curve === null ? [] : line(curve, curve.found[averaging]),
      symbol: look.type === "dotted" ? "rect" : "circle",
      symbolSize: 8,
      lineStyle: { ...look, width: 2.5 },
      itemStyle: { color: look.color },
      emphasis: { scale: 1.6, itemStyle: { borderColor: palette.mark, borderWidth: 2 } },
      ...(i === 0 ? { markLine: marks } : {}),
    });
  }
  const there = points.flatMap((point) => (point.size === 0 || point.values[averaging][0] === null ? [] : [{ point, value: [share(point.size, point), ...point.values[averaging]] }]));
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
      const curve = curveAt(state, seriesName);
      if (curve !== undefined) return factList(`Circuits of this size${ofWhich(curve, data)}`, factsOf(curve, dataIndex));
      return item?.point === undefined ? null : factList(`The circuit${ofWhich(item.point, data)}`, pointFacts(item.point));
    }),
    xAxis: axis(palette, "edges asked for, % of all", { type: "log", min: least, max: 100, nameGap: 26, axisLabel: { formatter: (value: number) => number(value), hideOverlap: true } }),
    yAxis: axis(palette, "faithfulness", { type: "value", ...reach(curves, points), nameGap: 38, splitLine: { show: true, lineStyle: { color: palette.line } } }),
    series,
  };
}

function pointFacts(point: PointData): Fact[] {
  return [
    { name: "edges", value: `${point.size.toLocaleString("en")} (${number(share(point.size, point))}%)` },
    ...AVERAGINGS.map((how) => {
      const [value, low, high] = point.values[how];
      return { name: how, value: low === null ? number(value) : `${number(value)} (${interval(low, high)})` };
    }),
  ];
}

/** Which curve a series draws. */
function curveAt({ curves }: State, series: string): CurveData | undefined {
  return series.startsWith(FOUND) ? curves[Number(series.slice(FOUND.length))] : undefined;
}

/** From a little under what is drawn to a little over it: intervals that reach far out are cut. */
function reach(curves: readonly CurveData[], points: readonly PointData[]): { min: number; max: number; interval: number } {
  const values = [0, 1, ...points.flatMap(({ values }) => AVERAGINGS.map((how) => values[how][0]))];
  for (const curve of curves) {
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

function legend(state: State, data: CircuitData, palette: Palette): HTMLElement {
  const { curves, averaging, points, n } = state;
  const stroke = (colour: string, style: string): HTMLElement => {
    const made = element("span", { class: "swatch stroke" });
    made.style.borderTop = `3px ${style} ${colour}`;
    return made;
  };
  const other = AVERAGINGS.find((how) => how !== averaging)!;
  const alone = curves.length === 1 ? curves[0] : null;
  const lines = curves.map((curve) => {
    const { color, type } = lineOf(curve, state, palette);
    return element("li", {}, [stroke(color, type), `circuits${ofWhich(curve, data)}, ${averaging}; band: 95% interval over examples`]);
  });
  return element("ul", { class: "legend" }, [
    ...lines,
    alone !== null && element("li", {}, [stroke(lineOf(alone, state, palette).color, "dashed"), `circuits, ${other}`]),
    alone !== null && alone.random !== null && element("li", {}, [stroke(palette.categories[0], "dotted"), `mean of ${alone.draws} random circuits; band: their middle 95%`]),
    points.length > 0 && element("li", {}, [element("span", { class: "swatch diamond" }), "the circuit itself, at the edges that it has, with its 95% interval"]),
    n !== null && element("li", {}, [stroke(palette.accent, "solid"), "the slider's place"]),
  ]);
}

/** Let pointer and keys read sizes off, and choose one. */
function listen(chart: Chart, state: State, data: CircuitData, say: (text: string | null) => void, choose: ((n: number) => void) | null): Cursor {
  const found = (): number => (chart.echarts.getOption() as { series: { name?: string }[] }).series.findIndex(({ name }) => name === `${FOUND}0`);
  const tell = (curve: CurveData, i: number): void => say(sentence(curve, i, state.averaging, data));
  const point = (i: number): void => {
    const [first] = state.curves, seriesIndex = found();
    chart.echarts.dispatchAction({ type: "downplay", seriesIndex });
    chart.echarts.dispatchAction({ type: "highlight", seriesIndex, dataIndex: i });
    chart.echarts.dispatchAction({ type: "showTip", seriesIndex, dataIndex: i });
    if (first !== undefined) say(state.curves.map((curve) => sentence(curve, nearest(curve, first.requested[i]), state.averaging, data)).join(" "));
  };
  const columns = Math.max(1, state.curves[0]?.fractions.length ?? 0);
  const keys = cursor(chart.place, {
    rows: 1,
    columns,
    start: [0, columns - 1],
    onMove: (_, column) => point(column),
    onChoose: (_, column) => {
      if (state.curves.length === 0 || choose === null) return;
      choose(state.curves[0].requested[column]);
      point(column);
    },
    onLeave() {
      chart.echarts.dispatchAction({ type: "downplay", seriesIndex: found() });
      chart.echarts.dispatchAction({ type: "hideTip" });
    },
  });
  chart.echarts.on("mouseover", ({ seriesName, dataIndex }: any) => {
    const curve = curveAt(state, seriesName ?? "");
    if (curve !== undefined) tell(curve, dataIndex);
  });
  if (choose !== null) {
    chart.echarts.getZr().on("click", ({ offsetX, offsetY }: any) => {
      if (!chart.echarts.containPixel("grid", [offsetX, offsetY])) return;
      const [at] = chart.echarts.convertFromPixel("grid", [offsetX, offsetY]) as number[];
      choose(Math.round((at / 100) * data.n_edges));
    });
  }
  return keys;
}
