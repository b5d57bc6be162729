// One way to make a chart: ECharts' parts that are used, its size and colours kept right, its words for a screen reader.

import { BarChart, CustomChart, GraphChart, HeatmapChart, LineChart, ScatterChart } from "echarts/charts";
import { AriaComponent, DataZoomComponent, GridComponent, LegendComponent, MarkAreaComponent, MarkLineComponent, TooltipComponent, VisualMapComponent } from "echarts/components";
import * as echarts from "echarts/core";
import type { EChartsCoreOption, EChartsType } from "echarts/core";
import { CanvasRenderer, SVGRenderer } from "echarts/renderers";

import { element } from "./dom";
import { number } from "./text";
import { theme, type Palette } from "./theme";

echarts.use([
  BarChart, CustomChart, GraphChart, HeatmapChart, LineChart, ScatterChart,
  AriaComponent, DataZoomComponent, GridComponent, LegendComponent, MarkAreaComponent, MarkLineComponent, TooltipComponent, VisualMapComponent,
  CanvasRenderer, SVGRenderer,
]);

export type Option = EChartsCoreOption;

/** Above so many shapes a canvas is drawn faster than as many SVG elements. */
const MOST_ELEMENTS = 2000;

const WIDE = 4000;
/** How wide, in pixels, a chart is on paper, where nothing scrolls: an A4 or letter page within its margins. */
const PAPER = 620;
/** How far, in pixels, what is revealed stays from the edge. */
const EDGE = 24;

export interface Settings {
  /** What the chart shows, for those who do not see it. */
  label: string;
  /** In pixels; a function of the width where the height depends on it. */
  height: number | ((width: number) => number);
  /** How many shapes it has, about: decides between SVG and canvas. */
  shapes?: number;
  /** Pixels under which the chart scrolls in its own box and is not squeezed further. */
  least?: number;
  /** Pixels over which it is not stretched further, such as a map of few cells. */
  most?: number;
}

export interface Chart {
  /** What is drawn on, and takes the focus where a cursor is put on it. */
  readonly place: HTMLElement;
  readonly echarts: EChartsType;
  /** Scroll the chart's box, where it has to scroll, until a place `x` pixels from the chart's left is seen. */
  reveal(x: number): void;
  /** Draw again, after what the option is made from has changed. */
  update(): void;
  dispose(): void;
}

/**
 * Make a chart in an element. `option` is called anew for a change of colours or width, and by `update`. Tooltips must
 * be made by a formatter that gives an element, since ECharts reads a string as HTML.
 */
export function makeChart(into: HTMLElement, option: (palette: Palette, width: number) => Option, settings: Settings): Chart {
  const place = element("div", { class: "chart", role: "img", "aria-label": settings.label });
  const box = element("div", { class: "scroll" }, place);
  into.append(box);
  const most = settings.most ?? Infinity;
  const breadth = (): number => (theme.printing ? Math.min(PAPER, most) : Math.max(Math.min(box.clientWidth, most), settings.least ?? 0, 1));
  const fit = (): number => {
    const width = breadth();
    place.style.width = `${width}px`;
    place.style.height = `${typeof settings.height === "number" ? settings.height : settings.height(width)}px`;
    return width;
  };
  let width = fit();
  const canvas = (settings.shapes ?? 0) > MOST_ELEMENTS;
  // On a fine screen a wide canvas would have more pixels than browsers draw.
  const chart = echarts.init(place, null, { renderer: canvas ? "canvas" : "svg", devicePixelRatio: width > WIDE ? 1 : undefined });
  const update = (): void => {
    width = fit();
    chart.resize();
    const made = option(theme.palette, width);
    const tip = made.tooltip === undefined ? {} : { tooltip: { ...asText(made.tooltip as Option), ...outside(place) } };
    chart.setOption({ ...shared(theme.palette), ...made, ...tip }, { notMerge: true });
  };
  update();
  const resized = new ResizeObserver(() => {
    if (breadth() !== width) update();
  });
  resized.observe(box);
  const unsubscribe = theme.subscribe(update);
  return {
    place,
    echarts: chart,
    update,
    reveal(x) {
      const seen = box.clientWidth;
      if (x < box.scrollLeft + EDGE || x > box.scrollLeft + seen - EDGE) box.scrollLeft = x - seen / 2;
    },
    dispose() {
      resized.disconnect();
      unsubscribe();
      chart.dispose();
      box.remove();
    },
  };
}

function shared(palette: Palette): Option {
  return {
    animation: false,
    backgroundColor: "transparent",
    color: [...palette.categories],
    textStyle: { color: palette.text, fontFamily: "system-ui, sans-serif", fontSize: 12 },
  };
}

/** A tooltip whose formatter, should it give a string, gives that as text: ECharts would read it as HTML. */
function asText(tip: Option): Option {
  const { formatter } = tip;
  if (formatter === undefined || typeof formatter === "string") return tip;
  return { ...tip, formatter: (...asked: unknown[]) => element("div", {}, (formatter as (...asked: unknown[]) => Node | string)(...asked)) };
}

/** Where a tooltip goes: into the window and not into the chart, which may be lower than it is, or scroll. */
function outside(place: HTMLElement): Option {
  const apart = 12;
  return {
    appendTo: document.body,
    confine: false,
    position: ([x, y]: [number, number], _item: unknown, _tip: unknown, _mark: unknown, size: { contentSize: [number, number] }) => {
      const { left, top } = place.getBoundingClientRect();
      const [width, height] = size.contentSize;
      const right = left + x + apart;
      const under = top + y + apart;
      return [
        (right + width < document.documentElement.clientWidth - apart ? right : Math.max(apart, left + x - apart - width)) - left,
        (under + height < window.innerHeight - apart ? under : Math.max(apart, top + y - apart - height)) - top,
      ];
    },
  };
}

/** A tooltip in the page's colours; `content` makes an element of what is pointed at, or nothing. */
export function tooltip(palette: Palette, content: (item: any) => HTMLElement | null): Option {
  return {
    trigger: "item",
    backgroundColor: palette.surface,
    borderColor: palette.line,
    textStyle: { color: palette.text, fontSize: 12 },
    extraCssText: "max-width: min(22rem, 80vw); white-space: normal;",
    formatter: (item: unknown) => content(item) ?? element("span"),
  };
}

/** An axis in the page's colours: its name beside it, thin lines. */
export function axis(palette: Palette, name: string, rest: Option = {}): Option {
  return {
    name,
    nameLocation: "middle",
    nameTextStyle: { color: palette.text },
    axisLabel: { color: palette.muted, ...(rest.type === "value" ? { formatter: (value: number) => number(value, 6) } : {}), ...(rest.axisLabel as object | undefined) },
    axisLine: { show: true, lineStyle: { color: palette.muted } },
    axisTick: { show: true, lineStyle: { color: palette.muted } },
    splitLine: { show: false, lineStyle: { color: palette.line } },
    ...Object.fromEntries(Object.entries(rest).filter(([key]) => key !== "axisLabel")),
  };
}
