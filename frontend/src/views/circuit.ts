// A circuit as a layered graph with a slider for its size, beside what it keeps of the behaviour; or two overlaid.

import { makeChart, type Chart } from "../chart";
import { element, refill, select, toggle } from "../dom";
import { cursor, liveLine } from "../keyboard";
import { counted } from "../text";
import { theme, type Palette } from "../theme";
import { curvePanel, type Beside } from "./circuit/curve";
import { Layered, type By, type CircuitData } from "./circuit/data";
import { itemsOf, layersHeight, layersOption, leastLayersWidth, type Item } from "./circuit/layers";
import { MOST_DRAWN, Shown, type Choice } from "./circuit/shown";
import { placeOf, sizeControl, type Size } from "./circuit/size";
import { edgeTable } from "./circuit/table";

/** What is cut out of a graph that was not cut at first. */
const USUAL_SHARE = 0.05;

export function circuitView(place: HTMLElement, data: CircuitData): void {
  if (data.graphs.length === 0) {
    curvePanel(place, data, null);
    return;
  }
  const layered = new Layered(data);
  const choice = firstChoice(layered);
  const controls = element("div", { class: "controls" });
  const left = element("div", { class: "layers" }), right = element("div", { class: "beside" });
  const measured = data.curves.length + data.points.length > 0;
  place.append(controls, element("div", { class: measured ? "circuit two" : "circuit" }, [left, measured && right]));

  let shown = new Shown(layered, choice);
  let items: Item[] = [];
  const picture = element("div"), key = element("div"), cut = element("p", { class: "caption" });
  left.append(picture);
  const chart = makeChart(picture, (palette) => {
    items = itemsOf(shown, palette);
    return layersOption(shown, items, palette);
  }, {
    label: `${data.title} as a layered graph. Arrow keys go from node to node, Enter keeps a node's edges alone, Escape leaves.`,
    height: layersHeight(layered),
    least: leastLayersWidth(layered),
    shapes: data.nodes.names.length * 3 + MOST_DRAWN,
  });
  chart.place.setAttribute("role", "application");
  const say = liveLine(left, "Point at a node or an edge for its numbers; click a node, or press Enter, to keep its edges alone.");
  left.append(key, cut);
  const table = edgeTable(() => shown);
  let beside: Beside | null = null;
  const size = sizeControl(layered, choice, (n) => {
    choice.n = n;
    draw();
  });
  addControls(controls, layered, choice, size, draw);
  if (measured) beside = curvePanel(right, data, (n) => size.set(n));
  addStability(place, data);
  place.append(table.place);

  function draw(): void {
    shown = new Shown(layered, choice);
    // What is faint since something else was pointed at would stay so in the new picture.
    chart.echarts.dispatchAction({ type: "downplay", seriesIndex: 0 });
    chart.update();
    describe(theme.palette);
    cut.textContent = cutWords(shown);
    beside?.at(placeOf(layered, choice), choice.by, shown.graphs);
    size.say();
    table.changed();
  }
  function describe(palette: Palette): void {
    refill(key, legend(shown, palette));
  }
  theme.subscribe(describe);
  listen(chart, layered, () => shown, () => items, say, (node) => {
    choice.pinned = choice.pinned === node ? null : node;
    draw();
    say(nodeSentence(shown, node, choice.pinned === node));
  });
  draw();
}

function firstChoice({ data }: Layered): Choice {
  const [graph] = data.graphs;
  const by = graph.by;
  const usual = Math.max(1, Math.floor(USUAL_SHARE * data.n_edges));
  const owned = data.graphs.every(({ own }) => own !== null);
  // A circuit of more edges than the page has is no place of the slider's.
  const place = graph.own?.n[by], there = place !== undefined && place <= graph.ranked.absolute.length ? place : undefined;
  const n = data.graphs.length === 1 ? (there ?? (owned ? "own" : usual)) : owned ? "own" : usual;
  return { which: data.graphs.length > 1 ? "both" : 0, by, n, pinned: null };
}

function addControls(place: HTMLElement, layered: Layered, choice: Choice, size: Size, changed: () => void): void {
  const { graphs } = layered.data;
  if (graphs.length > 1) {
    const shownOf = [{ value: "both" as const, label: "Both" }, ...graphs.map(({ name }, i) => ({ value: i as 0 | 1, label: name }))];
    place.append(toggle("Circuits shown", shownOf, choice.which, (which) => {
      choice.which = which;
      changed();
    }));
  }
  if (graphs.every(({ ranked }) => ranked.signed !== undefined)) {
    const orders: { value: By; label: string }[] = [
      { value: "absolute", label: "Magnitude" },
      { value: "signed", label: "Helpfulness" },
    ];
    place.append(select("Strongest by", orders, choice.by, (by) => {
      choice.by = by;
      changed();
    }));
  }
  place.append(size.place);
  if (graphs.every(({ own }) => own !== null)) {
    const label = graphs.length > 1 ? "The circuits as compared" : `The circuit found: ${counted(graphs[0].own!.size, "edge")}`;
    place.append(element("button", { type: "button", onclick: () => {
      // In an order in which it comes out it is a place of the slider's.
      const n = graphs.length === 1 ? graphs[0].own!.n[choice.by] : undefined;
      if (n !== undefined && n <= layered.ranking(0, choice.by).length) return size.set(n);
      choice.n = "own";
      changed();
    } }, label));
  }
}

function cutWords(shown: Shown): string {
  const n = shown.ofSize ?? shown.edges.length, { pinned } = shown.choice;
  const drawn = shown.choice.pinned === null && n > MOST_DRAWN ? `The ${MOST_DRAWN} strongest of ${n.toLocaleString("en")} edges are drawn. ` : "";
  const alone = pinned === null ? "" : `The edges of ${shown.layered.data.nodes.names[pinned]} alone are drawn: choose it again for all. `;
  return `${alone}${drawn}Edges run upwards, and enter a head at its left as its query, in the middle as its key, at its right as its value; the wider, the stronger.`;
}

function legend(shown: Shown, palette: Palette): HTMLElement {
  const partly = shown.ofSize === null ? "" : `, of the ${shown.edges.length.toLocaleString("en")} in the page`;
  return element("ul", { class: "legend" }, shown.looks(palette).map(([{ colour, dash, told }, n]) => {
    const stroke = element("span", { class: "swatch stroke" });
    stroke.style.borderTop = `3px ${dash.length === 0 ? "solid" : dash[0] > 4 ? "dashed" : "dotted"} ${colour}`;
    return element("li", {}, [stroke, `${told}: ${counted(n, "edge")}${partly}`]);
  }));
}

/** How stable a circuit is, where that is known: what is poor is not to be missed. */
function addStability(place: HTMLElement, { graphs }: CircuitData): void {
  for (const { name, stability } of graphs) {
    if (stability === null) continue;
    const { verdict, told } = stability;
    place.append(element("p", { class: verdict === "poor" ? "stability poor" : "stability" }, [
      element("strong", {}, `Stability ${verdict}`),
      `${graphs.length > 1 ? ` (${name})` : ""}${told.replace(/^stability [a-z]+/, "")}.`,
    ]));
  }
}

function nodeSentence(shown: Shown, node: number, pinned = false): string {
  const facts = shown.nodeFacts(node).map(({ name, value }) => `${name}: ${value}`);
  return `${shown.layered.data.nodes.names[node]}${pinned ? " (its edges alone)" : ""}. ${facts.join("; ")}.`;
}

/** Let pointer and keys show a node or an edge, and keep a node's edges. */
function listen(
  chart: Chart, layered: Layered, shown: () => Shown, items: () => readonly Item[], say: (text: string | null) => void, choose: (node: number) => void,
): void {
  const { data } = layered;
  const rows = rowsOf(layered);
  const indexOf = (node: number): number => items().length - data.nodes.names.length + node;
  const nodeAt = (row: number, column: number): number => rows[row][Math.min(column, rows[row].length - 1)];
  const point = (node: number): void => {
    chart.echarts.dispatchAction({ type: "downplay", seriesIndex: 0 });
    chart.echarts.dispatchAction({ type: "highlight", seriesIndex: 0, dataIndex: indexOf(node) });
    const pixel = chart.echarts.convertToPixel({ seriesIndex: 0 }, [data.nodes.x[node], data.nodes.y[node]]);
    if (Array.isArray(pixel)) chart.reveal(pixel[0]);
    chart.echarts.dispatchAction({ type: "showTip", seriesIndex: 0, dataIndex: indexOf(node) });
    say(nodeSentence(shown(), node));
  };
  const keys = cursor(chart.place, {
    rows: rows.length,
    columns: Math.max(...rows.map((row) => row.length)),
    upwards: true,
    start: [rows.length - 1, 0],
    onMove: (row, column) => point(nodeAt(row, column)),
    onChoose: (row, column) => {
      choose(nodeAt(row, column));
      point(nodeAt(row, column));
    },
    onLeave() {
      chart.echarts.dispatchAction({ type: "downplay", seriesIndex: 0 });
      chart.echarts.dispatchAction({ type: "hideTip" });
      say(null);
    },
  });
  chart.echarts.on("mouseover", ({ dataIndex }: any) => {
    const item = items()[dataIndex];
    if (item === undefined) return;
    if (item.kind === "edge") {
      const facts = shown().edgeFacts(item.drawn.edge).map(({ name, value }) => `${name}: ${value}`);
      say(`${shown().nameOf(item.drawn.edge)}, ${item.drawn.look.told}. ${facts.join("; ")}.`);
      return;
    }
    const row = rows.findIndex((nodes) => nodes.includes(item.node));
    keys.at(row, rows[row].indexOf(item.node));
    say(nodeSentence(shown(), item.node));
  });
  chart.echarts.on("click", ({ dataIndex }: any) => {
    const item = items()[dataIndex];
    if (item?.kind === "node") choose(item.node);
  });
  // What keys have reached is not left by the pointer.
  chart.echarts.on("globalout", () => document.activeElement !== chart.place && say(null));
}

/** The nodes of each row, the input's first: a layer's heads from left to right, and its MLP. */
function rowsOf({ data, logits }: Layered): number[][] {
  const rows: number[][] = [[0], ...Array.from({ length: data.layers }, (): number[] => []), [logits]];
  data.nodes.names.forEach((name, node) => {
    const layer = /^[am](\d+)/.exec(name);
    if (layer !== null) rows[Number(layer[1]) + 1].push(node);
  });
  return rows;
}
