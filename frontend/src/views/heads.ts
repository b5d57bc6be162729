// Heads as a map, layers upwards: a number for each, and letters on those that are told apart.

import { axis, makeChart, tooltip, type Option } from "../chart";
import { element, refill, toggle } from "../dom";
import { cursor, liveLine } from "../keyboard";
import { capital, number } from "../text";
import { colourAt, readableOn, theme, type Palette } from "../theme";
import { factList } from "./map/cell";
import type { Fact } from "./map/data";
import { hatching } from "./map/heat";

export interface HeadMeasure {
  name: string;
  unit: string;
  /** Whether colours part at 0. */
  centred: boolean;
  /** Of each layer's heads; null where a layer has no such head, or the number is not known. */
  values: readonly (readonly (number | null)[])[];
}

export interface HeadMark {
  name: string;
  letter: string;
  /** Layer and head of each. */
  heads: readonly (readonly [number, number])[];
}

export interface HeadData {
  title: string;
  measures: readonly HeadMeasure[];
  marks: readonly HeadMark[];
}

/** Pixels of a cell at least and at most, and what is left of them and under them. */
const [NARROWEST, TALLEST] = [18, 34];
const LEFT = 48, BELOW = 44;
/** Pixels over which the cells of few heads are not stretched. */
const WIDEST = 120;

export function headsView(place: HTMLElement, data: HeadData): void {
  const layers = data.measures[0]?.values.length ?? 0;
  const heads = Math.max(0, ...data.measures.flatMap(({ values }) => values.map((row) => row.length)));
  if (layers === 0 || heads === 0) throw new Error("it has no head");
  let measure = data.measures[0];
  const key = element("div");
  if (data.measures.length > 1) {
    place.append(element("div", { class: "controls" }, toggle("What is shown", data.measures.map((value) => ({ value, label: capital(value.name) })), measure, (chosen) => {
      measure = chosen;
      draw();
    })));
  }
  const cells = Array.from({ length: layers * heads }, (_, i): [number, number] => [Math.floor(i / heads), i % heads]);
  const picture = element("div");
  place.append(picture, key);
  const chart = makeChart(picture, (palette) => option(data, measure, cells, palette), {
    label: `${data.title}. Arrow keys go from head to head, Escape leaves.`,
    height: 12 + BELOW + layers * Math.min(TALLEST, Math.max(NARROWEST, 460 / layers)),
    least: LEFT + 8 + NARROWEST * heads,
    most: LEFT + 8 + WIDEST * heads,
    shapes: layers * heads * 2,
  });
  chart.place.setAttribute("role", "application");
  const say = liveLine(place, "Point at a head for its numbers.");
  const tell = (layer: number, head: number): void => {
    const facts = factsOf(data, layer, head);
    say(facts === null ? `Layer ${layer} has no head ${head}.` : `L${layer}H${head}: ${facts.map(({ name, value }) => `${name} ${value}`).join("; ")}.`);
  };
  const keys = cursor(chart.place, {
    rows: layers,
    columns: heads,
    upwards: true,
    start: [layers - 1, 0],
    onMove(layer, head) {
      const dataIndex = layer * heads + head;
      chart.echarts.dispatchAction({ type: "downplay", seriesIndex: 0 });
      chart.echarts.dispatchAction({ type: "highlight", seriesIndex: 0, dataIndex });
      const pixel = chart.echarts.convertToPixel({ seriesIndex: 0 }, [head, layer]);
      if (Array.isArray(pixel)) chart.reveal(pixel[0]);
      chart.echarts.dispatchAction({ type: "showTip", seriesIndex: 0, dataIndex });
      tell(layer, head);
    },
    onLeave() {
      chart.echarts.dispatchAction({ type: "downplay", seriesIndex: 0 });
      chart.echarts.dispatchAction({ type: "hideTip" });
      say(null);
    },
  });
  chart.echarts.on("mouseover", ({ seriesIndex, dataIndex }: any) => {
    if (seriesIndex !== 0) return;
    keys.at(...cells[dataIndex]);
    tell(...cells[dataIndex]);
  });
  // What keys have reached is not left by the pointer.
  chart.echarts.on("globalout", () => document.activeElement !== chart.place && say(null));

  function draw(): void {
    chart.update();
    refill(key, legend(data, measure, theme.palette));
  }
  theme.subscribe((palette) => refill(key, legend(data, measure, palette)));
  draw();
}

/** What is known of a head; null where the layer has no such head. */
function factsOf(data: HeadData, layer: number, head: number): Fact[] | null {
  const known = data.measures.map(({ name, values }) => ({ name, value: values[layer][head] ?? null }));
  if (known.every(({ value }) => value === null)) return null;
  const marks = marksOf(data, layer, head).map(({ name }) => name);
  return [...(marks.length > 0 ? [{ name: "it is", value: marks.join(", ") }] : []), ...known.map(({ name, value }) => ({ name, value: number(value) }))];
}

function marksOf(data: HeadData, layer: number, head: number): HeadMark[] {
  return data.marks.filter(({ heads }) => heads.some(([l, h]) => l === layer && h === head));
}

/** The ends of a measure's colours: both sides of 0 alike, or from 0 up. */
function reach({ values, centred }: HeadMeasure): [number, number] {
  const all = values.flat().filter((value): value is number => value !== null);
  const most = Math.max(0, ...all.map(Math.abs)) || 1;
  return centred ? [-most, most] : [Math.min(0, ...all), Math.max(0, ...all) || 1];
}

function scaleOf({ centred }: HeadMeasure, palette: Palette): readonly string[] {
  if (centred) return palette.diverging;
  // From the surface's own shade, so that the few heads that matter stand out.
  const middle = (palette.diverging.length - 1) / 2;
  return palette.diverging.slice(middle);
}

function option(data: HeadData, measure: HeadMeasure, cells: readonly [number, number][], palette: Palette): Option {
  const [low, high] = reach(measure);
  const scale = scaleOf(measure, palette);
  const [layers, heads] = [cells[cells.length - 1][0] + 1, cells[cells.length - 1][1] + 1];
  const items = cells.map(([layer, head]) => {
    const value = measure.values[layer][head] ?? null;
    const colour = value === null ? palette.missing : colourAt(scale, (value - low) / (high - low));
    const letters = marksOf(data, layer, head).map(({ letter }) => letter).join("");
    return {
      value: [head, layer],
      itemStyle: { color: colour, ...(value === null ? { decal: hatching(palette) } : {}) },
      label: { show: letters !== "", formatter: () => letters, color: value === null ? palette.text : readableOn(colour), fontWeight: "bold", fontSize: 12 },
    };
  });
  const named = (n: number): string[] => Array.from({ length: n }, (_, i) => String(i));
  return {
    grid: { left: LEFT, right: 8, top: 8, bottom: BELOW },
    tooltip: tooltip(palette, ({ dataIndex }) => {
      const [layer, head] = cells[dataIndex];
      return factList(`L${layer}H${head}`, factsOf(data, layer, head) ?? [{ name: "no such head", value: "the layer has none" }]);
    }),
    xAxis: axis(palette, "head", { type: "category", data: named(heads), nameGap: 24, axisLabel: { interval: heads > 40 ? "auto" : 0, fontSize: 11 } }),
    yAxis: axis(palette, "layer", { type: "category", data: named(layers), nameGap: 30, axisLabel: { interval: layers > 20 ? "auto" : 0, fontSize: 11 } }),
    series: [{
      type: "custom",
      data: items,
      encode: { x: 0, y: 1 },
      renderItem: ({ dataIndex }: any, api: any) => {
        const [x, y] = api.coord([api.value(0), api.value(1)]);
        const [width, height] = api.size([1, 1]);
        const { itemStyle, label } = items[dataIndex];
        return {
          type: "rect",
          shape: { x: x - width / 2 + 0.5, y: y - height / 2 + 0.5, width: width - 1, height: height - 1 },
          style: { fill: itemStyle.color, decal: itemStyle.decal },
          emphasis: { style: { stroke: palette.mark, lineWidth: 2.5 } },
          textContent: label.show ? { style: { text: label.formatter(), fill: label.color, fontWeight: "bold", fontSize: 12 } } : undefined,
          textConfig: { position: "inside" },
        };
      },
    }],
  };
}

function legend(data: HeadData, measure: HeadMeasure, palette: Palette): HTMLElement {
  const [low, high] = reach(measure);
  const colours = element("span", { class: "swatch scale" });
  colours.style.background = `linear-gradient(90deg, ${scaleOf(measure, palette).join(", ")})`;
  const ends = (value: number): HTMLElement => element("span", { class: "nowrap" }, number(value));
  return element("ul", { class: "legend" }, [
    element("li", {}, [ends(low), colours, ends(high), element("span", { class: "unit" }, measure.unit)]),
    ...data.marks.map(({ name, letter, heads }) => element("li", {}, [element("strong", {}, letter), `${name}: ${heads.length}`])),
  ]);
}
