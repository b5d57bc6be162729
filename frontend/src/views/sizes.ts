// Accuracy against size: point at a model for its numbers; the curves, and where a breakpoint may lie, if one is told.

import { makeChart } from "../chart";
import { element, select, toggle } from "../dom";
import { cursor, liveLine } from "../keyboard";
import { plain } from "../text";
import { theme, type Palette } from "../theme";
import { VERDICTS, factsOf, marksOf, size, type Plane, type SizesData } from "./sizes/data";
import { SYMBOLS, coloured, dashed, linesOf, planeOption, type Looks } from "./sizes/plane";

export function sizesView(place: HTMLElement, data: SizesData): void {
  if (data.planes.length === 0 || data.planes.some((plane) => marksOf(plane).length === 0)) throw new Error("it holds no model");
  const looks: Looks = { plane: data.planes[0], marks: marksOf(data.planes[0]), every: false };
  const controls = element("div", { class: "controls" });
  const verdict = element("p", { class: "size-verdict" });
  const picture = element("div");
  const legend = element("div");
  const told = element("ul", { class: "told" });
  place.append(controls, verdict, picture, legend);
  const chart = makeChart(picture, (palette, width) => planeOption(looks, palette, width), {
    label: `${data.measure}, against the number of parameters. Arrow keys move from model to model, the smallest first.`,
    height: (width) => (width < 500 ? 300 : 380),
    shapes: 3 * Math.max(...data.planes.map((plane) => marksOf(plane).length)),
  });
  chart.place.setAttribute("role", "application");
  const say = liveLine(place, "Point at a mark for its numbers, or go from mark to mark with the arrow keys.");
  place.append(told);

  const seriesIndex = (): number => linesOf(looks).length + looks.plane.series.length + 1;
  const sentence = (at: number): string => `${plain(looks.marks[at].point.name, 60)}: ${factsOf(looks.plane, looks.marks[at]).map(({ name, value }) => `${name} ${value}`).join("; ")}.`;
  const point = (at: number): void => {
    chart.echarts.dispatchAction({ type: "downplay", seriesIndex: seriesIndex() });
    chart.echarts.dispatchAction({ type: "highlight", seriesIndex: seriesIndex(), dataIndex: at });
    chart.echarts.dispatchAction({ type: "showTip", seriesIndex: seriesIndex(), dataIndex: at });
    say(sentence(at));
  };
  const keys = cursor(chart.place, {
    rows: 1,
    columns: looks.marks.length,
    onMove: (_, column) => point(column),
    onLeave() {
      chart.echarts.dispatchAction({ type: "downplay", seriesIndex: seriesIndex() });
      chart.echarts.dispatchAction({ type: "hideTip" });
      say(null);
    },
  });
  chart.echarts.on("mouseover", (item: any) => {
    if (item.data?.mark === undefined) return;
    keys.at(0, item.dataIndex);
    say(sentence(item.dataIndex));
  });
  chart.echarts.on("globalout", () => say(null));

  function changed(): void {
    looks.marks = marksOf(looks.plane);
    keys.resize(1, looks.marks.length);
    chart.update();
    explain(theme.palette);
    verdict.textContent = looks.plane.verdict === null ? "" : `${VERDICTS[looks.plane.verdict]}.`;
    verdict.hidden = looks.plane.verdict === null;
    told.replaceChildren(...looks.plane.told.map((each) => element("li", {}, each)));
    told.hidden = looks.plane.told.length === 0;
    say(null);
  }
  function explain(palette: Palette): void {
    legend.replaceChildren(key(looks, palette));
  }
  addControls(controls, data, looks, changed);
  theme.subscribe(explain);
  changed();
}

function addControls(place: HTMLElement, data: SizesData, looks: Looks, changed: () => void): void {
  if (data.planes.length > 1) {
    place.append(select(data.what, data.planes.map((plane) => ({ value: plane, label: named(plane) })), looks.plane, (plane) => {
      looks.plane = plane;
      changed();
    }));
  }
  if (data.planes.some(({ lines }) => lines.some(({ best }) => !best))) {
    place.append(toggle("Curves", [{ value: false, label: "Best curves" }, { value: true, label: "All curves" }], false, (every) => {
      looks.every = every;
      changed();
    }));
  }
}

function named({ name, verdict }: Plane): string {
  const told = verdict === "threshold" ? " (threshold)" : verdict === "possible" ? " (possible)" : "";
  return plain(name, 70) + told;
}

function key(looks: Looks, palette: Palette): HTMLElement {
  const { plane } = looks;
  const lines = linesOf(looks);
  const mark = (symbol: string, colour: string): HTMLElement => {
    const made = element("span", { class: `mark ${symbol}` });
    made.style.color = colour;
    return made;
  };
  const stroke = (type: string, colour: string): HTMLElement => {
    const made = element("span", { class: "stroke" });
    made.style.borderTop = `2px ${type} ${colour}`;
    return made;
  };
  return element("ul", { class: "legend" }, [
    ...plane.series.map(({ name }, i) => element("li", {}, [mark(SYMBOLS[i % SYMBOLS.length], coloured(palette, i)), plain(name, 40)])),
    ...lines.map((line) => element("li", {}, [stroke(dashed(line), line.best ? palette.text : palette.muted), `${line.name} (${line.kind}${line.best ? ", the best" : ""})`])),
    plane.breakpoint !== null && plane.interval !== null && element("li", {}, [
      stroke("solid", palette.categories[1]),
      `breakpoint ${size(plane.breakpoint)}, ${Math.round(100 * plane.level)}% interval ${size(plane.interval[0])} to ${size(plane.interval[1])} (band)`,
    ]),
    plane.chance !== null && element("li", {}, [stroke("dotted", palette.muted), `chance, ${Math.round(100 * plane.chance)}%`]),
  ]);
}
