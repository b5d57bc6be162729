// The examples behind one cell: a dot for each beside their mean and its interval, and a table with their prompts.

import { axis, makeChart, tooltip, type Chart, type Option } from "../../chart";
import { element } from "../../dom";
import { cursor, liveLine } from "../../keyboard";
import { makeTable, type Column, type Value } from "../../table";
import { counted, number, visible, words } from "../../text";
import type { Palette } from "../../theme";
import { factList } from "./cell";
import type { Fact, Measure, StudyMap } from "./data";

/** Above so many clusters they share one line, and colours would not tell them apart either. */
const MOST_GROUPS = 12;
/** How much of a prompt stands in a tooltip. */
const LETTERS = 300;
/** And in the line that is read out. */
const LETTERS_SAID = 80;

interface Example {
  index: number;
  group: number | null;
  clean: number | null;
  corrupt: number | null;
  value: number | null;
  effect: number;
  prompt: string | null;
  corruptPrompt: string | null;
}

export interface Shown {
  dispose(): void;
}

/** Show a cell's examples in an element, in place of what was there. */
export function showExamples(place: HTMLElement, map: StudyMap, cell: number, measure: Measure, close: () => void): Shown {
  const examples = examplesOf(map, cell);
  const heading = element("h4", {}, `Each example at ${map.nameOf(cell)}`);
  const closing = element("button", { type: "button", onclick: close }, "Close");
  const box = element("div", { class: "examples", role: "region", "aria-label": heading.textContent ?? "" }, [
    element("div", { class: "controls" }, [heading, closing]),
  ]);
  place.replaceChildren(box);
  if (examples.length === 0) {
    box.append(element("p", { class: "muted" }, why(map, cell)));
    return { dispose: () => place.replaceChildren() };
  }
  const { n } = map.data.examples;
  const kept = examples.length < n ? ` ${counted(examples.length, "example")} of ${n.toLocaleString("en")} are kept here; mean and interval are of all.` : "";
  box.append(element("p", { class: "caption" }, `A dot is an example; the line is their mean, the band its 95% interval.${kept}`));
  const chart = dots(box, map, cell, measure, examples);
  box.append(element("details", {}, [element("summary", {}, `The ${counted(examples.length, "example")} as a table`), table(map, examples)]));
  return {
    dispose() {
      chart.dispose();
      place.replaceChildren();
    },
  };
}

function why(map: StudyMap, cell: number): string {
  if (map.data.effect[cell] === null) return "There is no such cell, so it has no examples.";
  return "This cell's examples are not in the page, which keeps those of the strongest cells; the result's file has them all.";
}

function examplesOf(map: StudyMap, cell: number): Example[] {
  const { examples } = map.data;
  const effects = map.effectsOf(cell);
  if (effects === null || map.data.effect[cell] === null) return [];
  return examples.indices.flatMap((index, i) => {
    const effect = effects[i];
    if (effect === null) return [];
    const [clean, corrupt] = [examples.clean[i], examples.corrupt?.[i] ?? null];
    return [{
      index,
      group: examples.groups?.[i] ?? null,
      clean,
      corrupt,
      value: map.valueOf(effect, clean, corrupt),
      effect,
      prompt: prompt(examples.prompts?.clean, i),
      corruptPrompt: prompt(examples.prompts?.corrupt, i),
    }];
  });
}

function prompt(texts: readonly string[] | null | undefined, i: number): string | null {
  return texts === null || texts === undefined ? null : visible(texts[i]);
}

function dots(box: HTMLElement, map: StudyMap, cell: number, measure: Measure, examples: readonly Example[]): Chart {
  const groups = [...new Set(examples.flatMap(({ group }) => (group === null ? [] : [group])))].sort((a, b) => a - b);
  const clustered = groups.length > 1 && groups.length <= MOST_GROUPS;
  // From left to right, as the keys go.
  const ordered = [...examples].sort((a, b) => (a.effect - b.effect) * Math.sign(measure.scale));
  const chart = makeChart(box, (palette) => dotsOption(map, cell, measure, ordered, clustered ? groups : null, palette), {
    label: `${counted(examples.length, "example")} at ${map.nameOf(cell)} by ${measure.unit}`,
    height: clustered ? 110 + 34 * groups.length : 170,
    shapes: examples.length,
  });
  const hint = "Point at a dot, or go from dot to dot with the arrow keys.";
  const say = liveLine(box, hint);
  const speak = (i: number): void => say(`${title(ordered[i])}: ${factsOf(map, ordered[i], LETTERS_SAID).map(({ name, value }) => `${name} ${value}`).join("; ")}`);
  const keys = cursor(chart.place, {
    rows: 1,
    columns: ordered.length,
    onMove(_, column) {
      chart.echarts.dispatchAction({ type: "downplay", seriesIndex: 0 });
      chart.echarts.dispatchAction({ type: "highlight", seriesIndex: 0, dataIndex: column });
      chart.echarts.dispatchAction({ type: "showTip", seriesIndex: 0, dataIndex: column });
      speak(column);
    },
    onLeave() {
      chart.echarts.dispatchAction({ type: "downplay", seriesIndex: 0 });
      chart.echarts.dispatchAction({ type: "hideTip" });
      say(null);
    },
  });
  chart.echarts.on("mouseover", { seriesIndex: 0 }, ({ dataIndex }: any) => {
    keys.at(0, dataIndex);
    speak(dataIndex);
  });
  return chart;
}

function dotsOption(
  map: StudyMap, cell: number, measure: Measure, ordered: readonly Example[], groups: readonly number[] | null, palette: Palette,
): Option {
  const mean = map.measured(map.data.effect, cell, measure);
  const ends = map.ends(map.data.sure.low, map.data.sure.high, cell, measure);
  // Spread over the line's height so that few dots hide one another: the golden ratio's multiples lie evenly.
  const spread = (index: number): number => ((index * 0.618034) % 1) - 0.5;
  const line = ({ index, group }: Example): number => (groups === null || group === null ? 0 : groups.indexOf(group)) + 0.6 * spread(index);
  const lines = groups === null ? 1 : groups.length;
  return {
    grid: { left: groups === null ? 16 : 84, right: 20, top: 12, bottom: 48 },
    tooltip: tooltip(palette, ({ data }) => (data.example === undefined ? null : factList(title(data.example), factsOf(map, data.example)))),
    xAxis: axis(palette, measure.unit, { type: "value", scale: true, nameGap: 28, axisLine: { onZero: false, lineStyle: { color: palette.muted } }, splitLine: { show: true, lineStyle: { color: palette.line } } }),
    yAxis: {
      type: "value",
      min: -0.5,
      max: lines - 0.5,
      interval: 0.5,
      inverse: true,
      axisLine: { show: false },
      axisTick: { show: false },
      splitLine: { show: false },
      axisLabel: {
        show: groups !== null,
        color: palette.muted,
        formatter: (at: number) => (groups !== null && Number.isInteger(at) && at >= 0 && at < lines ? `cluster ${groups[at]}` : ""),
      },
    },
    series: [{
      type: "scatter",
      symbolSize: ordered.length > 300 ? 5 : 8,
      itemStyle: { color: palette.categories[0], opacity: 0.75 },
      emphasis: { scale: 1.6, itemStyle: { opacity: 1, borderColor: palette.mark, borderWidth: 2 } },
      data: ordered.map((example) => ({ value: [example.effect * measure.scale, line(example)], example })),
      markLine: {
        silent: true,
        symbol: "none",
        label: { show: false },
        data: [
          { xAxis: 0, lineStyle: { color: palette.muted, type: "dashed", width: 1 } },
          ...(mean === null ? [] : [{ xAxis: mean, lineStyle: { color: palette.categories[1], type: "solid", width: 2.5 } }]),
        ],
      },
      markArea: ends === null ? undefined : {
        silent: true,
        itemStyle: { color: palette.categories[1], opacity: 0.22 },
        data: [[{ xAxis: ends[0] }, { xAxis: ends[1] }]],
      },
    }],
  };
}

function title(example: Example): string {
  return `Example ${example.index}${example.group === null ? "" : `, cluster ${example.group}`}`;
}

function factsOf(map: StudyMap, example: Example, letters = LETTERS): Fact[] {
  const unit = map.data.unit === "" ? "" : ` ${map.data.unit}`;
  const cut = (text: string): string => (text.length > letters ? `…${text.slice(-letters)}` : text);
  return [
    { name: "effect", value: number(example.effect) + unit },
    { name: words(map.data.metric), value: number(example.value) + unit },
    { name: "clean run", value: number(example.clean) + unit },
    ...(example.corrupt === null ? [] : [{ name: "corrupt run", value: number(example.corrupt) + unit }]),
    ...(example.prompt === null ? [] : [{ name: "prompt", value: cut(example.prompt) }]),
    ...(example.corruptPrompt === null ? [] : [{ name: "corrupt prompt", value: cut(example.corruptPrompt) }]),
  ];
}

function table(map: StudyMap, examples: readonly Example[]): HTMLElement {
  const unit = map.data.unit === "" ? "" : ` [${map.data.unit}]`;
  const all: (Column & { of(example: Example): Value })[] = [
    { name: "example", of: ({ index }) => index },
    { name: "cluster", of: ({ group }) => group },
    { name: `effect${unit}`, of: ({ effect }) => effect },
    { name: `${words(map.data.metric)}${unit}`, of: ({ value }) => value },
    { name: `clean run${unit}`, of: ({ clean }) => clean },
    { name: `corrupt run${unit}`, of: ({ corrupt }) => corrupt },
    { name: "prompt", of: ({ prompt }) => prompt },
    { name: "corrupt prompt", of: ({ corruptPrompt }) => corruptPrompt },
  ];
  const columns = all.filter(({ of }) => examples.some((example) => of(example) !== null));
  return makeTable(columns, examples.map((example) => columns.map(({ of }) => of(example))), "The examples of this cell");
}
