// The layered graph as a picture: layers upwards, heads side by side, each edge's way to where its node reads it.

import { axis, tooltip, type Option } from "../../chart";
import type { Palette } from "../../theme";
import { factList } from "../map/cell";
import type { Layered } from "./data";
import type { Drawn, Shown } from "./shown";

/** Pixels from one head to the next before the picture scrolls, and from one layer to the next. */
const NARROWEST = 26;
/** The same of a layer of many heads, which would not stand beside its curve. */
const [MANY, NARROWER] = [20, 18];
const [LOWEST, HIGHEST] = [30, 74];
const LEFT = 44;
/** Straight pieces that an edge's way is drawn by. */
const STEPS = 28;

export type Item = { kind: "edge"; drawn: Drawn } | { kind: "node"; node: number };

export function leastLayersWidth({ data }: Layered): number {
  return LEFT + (data.heads > MANY ? NARROWER : NARROWEST) * (data.heads + 2);
}

export function layersHeight({ data }: Layered): number {
  return 56 + (data.layers + 2) * rowHeight(data.layers);
}

function rowHeight(layers: number): number {
  return Math.min(HIGHEST, Math.max(LOWEST, 640 / (layers + 2)));
}

/** What is drawn, in order: the index of an item is that of its datum. */
export function itemsOf(shown: Shown, palette: Palette): Item[] {
  const { nodes } = shown.layered.data;
  return [
    ...shown.drawn(palette).map((drawn): Item => ({ kind: "edge", drawn })),
    ...nodes.names.map((_, node): Item => ({ kind: "node", node })),
  ];
}

export function layersOption(shown: Shown, items: readonly Item[], palette: Palette): Option {
  const { layered } = shown;
  const { data } = layered;
  const beside = near(shown, items);
  return {
    grid: { left: LEFT, right: 4, top: 4, bottom: 44 },
    tooltip: tooltip(palette, ({ dataIndex }) => tip(shown, items[dataIndex])),
    xAxis: axis(palette, "head", {
      type: "value",
      min: -1,
      max: data.heads + 1.5,
      interval: 0.5,
      nameGap: 26,
      axisTick: { show: false },
      axisLine: { show: false },
      axisLabel: {
        fontSize: 11,
        hideOverlap: true,
        formatter: (at: number) => (at === data.heads + 0.5 ? "MLP" : Number.isInteger(at) && at >= 0 && at < data.heads ? String(at) : ""),
      },
    }),
    yAxis: axis(palette, "layer", {
      type: "value",
      min: -1.5,
      max: data.layers + 0.5,
      interval: 0.5,
      nameGap: 28,
      axisTick: { show: false },
      axisLine: { show: false },
      axisLabel: {
        fontSize: 11,
        hideOverlap: true,
        formatter: (at: number) => (Number.isInteger(at) && at >= 0 && at < data.layers ? String(at) : ""),
      },
    }),
    series: [
      {
        type: "custom",
        data: items.map((item) => (item.kind === "node" ? [data.nodes.x[item.node], data.nodes.y[item.node]] : [0, 0])),
        encode: { x: 0, y: 1 },
        clip: false,
        renderItem: ({ dataIndex }: any, api: any) => {
          const item = items[dataIndex];
          return item.kind === "edge"
            ? edgeShape(item.drawn, way(shown, item.drawn.edge, api), beside[dataIndex])
            : nodeShape(shown, item.node, api, beside[dataIndex], palette);
        },
      },
    ],
  };
}

/** What stays bright when each item is pointed at: of a node its edges and their other ends, of an edge its ends. */
function near(shown: Shown, items: readonly Item[]): number[][] {
  const { source, destination, nodes } = shown.layered.data;
  const firstNode = items.length - nodes.names.length;
  const found = items.map((_, i) => new Set([i]));
  items.forEach((item, at) => {
    if (item.kind !== "edge") return;
    const { edge } = item.drawn;
    const ends = [source[edge], ...shown.ends(destination[edge])].map((node) => firstNode + node);
    for (const end of ends) [at, ...ends].forEach((each) => found[end].add(each));
    ends.forEach((end) => found[at].add(end));
  });
  return found.map((each) => [...each]);
}

/**
 * An edge's way in pixels: it leaves upwards and arrives upwards, at a head's left as its query, in the middle as its
 * key, at its right as its value, or between heads that share it. It goes round the nodes that it skips, since it would
 * look like two edges through a third.
 */
function way(shown: Shown, edge: number, api: any): [number, number][] {
  const { nodes, inputs, source, destination } = shown.layered.data;
  const [wide, high] = api.size([1, 1]);
  const radius = radiusOf(wide, high);
  const from = source[edge], to = destination[edge];
  const ends = shown.ends(to);
  const [x, y] = api.coord([nodes.x[from], nodes.y[from]]);
  const start = [x, y - radius * 0.8];
  const end = ends.length === 1 ? entrance(api.coord([nodes.x[ends[0]], nodes.y[ends[0]]]), inputs.names[to], radius) : api.coord([inputs.x[to], inputs.y[to]]);
  const aside = Math.abs(inputs.x[to] - nodes.x[from]), rows = inputs.y[to] - nodes.y[from];
  const bow = aside < 0.3 && rows > 1.05 ? Math.min(0.45 + 0.05 * (rows - 2), 0.8) * Math.min(wide, 1.4 * high) : 0;
  const lift = 0.45 * Math.max(start[1] - end[1], 0.35 * high);
  const points = [start, [start[0] + bow, start[1] - lift], [end[0] + bow, end[1] + lift], end];
  const found: [number, number][] = [];
  for (let step = 0; step <= STEPS; step++) {
    const along = step / STEPS, left = 1 - along;
    const weights = [left ** 3, 3 * along * left ** 2, 3 * along ** 2 * left, along ** 3];
    found.push([0, 1].map((at) => weights.reduce((sum, weight, i) => sum + weight * points[i][at], 0)) as [number, number]);
  }
  return found;
}

/** Where an edge enters a node, by what it is read as. */
function entrance([x, y]: [number, number], input: string, radius: number): [number, number] {
  const port = { q: -0.62, k: 0, v: 0.62 }[/<(.)>$/.exec(input)?.[1] ?? "k"] ?? 0;
  return [x + port * radius, y + radius * (port === 0 ? 0.95 : 0.75)];
}

function radiusOf(wide: number, high: number): number {
  return Math.max(4, Math.min(14, 0.42 * wide, 0.19 * high));
}

function edgeShape({ look, share }: Drawn, points: [number, number][], focus: number[]): object {
  const style = {
    stroke: look.colour,
    lineWidth: 0.8 + 3.4 * Math.sqrt(share),
    lineDash: look.dash.length > 0 ? look.dash : null,
    fill: "none",
    opacity: 0.45 + 0.5 * share,
  };
  return {
    type: "polyline",
    shape: { points },
    style,
    focus,
    z2: 1,
    emphasis: { style: { opacity: 1 } },
    blur: { style: { opacity: 0.07 } },
  };
}

function nodeShape(shown: Shown, node: number, api: any, focus: number[], palette: Palette): object {
  const { data, logits } = shown.layered;
  const [x, y] = api.coord([data.nodes.x[node], data.nodes.y[node]]);
  const [wide, high] = api.size([1, 1]);
  const end = node === 0 || node === logits;
  const there = end || shown.inside.has(node);
  const pinned = shown.choice.pinned === node;
  const radius = radiusOf(wide, high);
  const { colour } = shown.nodeLook(node, palette);
  const name = data.nodes.names[node];
  const style = { fill: there ? palette.surface : palette.missing, stroke: there ? colour : palette.missing, lineWidth: pinned ? 4 : there ? 1.8 : 0 };
  const states = { emphasis: { style: { stroke: palette.accent, lineWidth: 3.5 } }, blur: { style: { opacity: 0.25 } } };
  const label = end ? name : name.replace(/^a(\d+)\.h(\d+)$/, "$1.$2");
  const fontSize = end ? 11 : Math.min(11, (3.4 * radius) / label.length);
  const [half, tall] = end ? [26, Math.max(9, radius)] : [radius, radius * 0.85];
  // Outside the circuit a node is a dot, but as large to point at.
  const dot = Math.max(2.5, radius / 3);
  const box = there ? { x: x - half, y: y - tall, width: 2 * half, height: 2 * tall, r: 2 } : { x: x - dot, y: y - dot, width: 2 * dot, height: 2 * dot };
  const shape = name.startsWith("a") ? { type: "circle", shape: { cx: x, cy: y, r: there ? radius : dot } } : { type: "rect", shape: box };
  const words = { text: label, x, y, align: "center", verticalAlign: "middle", fill: colour, fontSize };
  return {
    type: "group",
    focus,
    z2: 3,
    children: [
      { type: "circle", shape: { cx: x, cy: y, r: radius + 3 }, style: { fill: "transparent" }, z2: 2 },
      { ...shape, style, z2: 3, ...states },
      ...(there && fontSize >= 7 ? [{ type: "text", style: words, silent: true, z2: 4, blur: { style: { opacity: 0.25 } } }] : []),
    ],
  };
}

function tip(shown: Shown, item: Item | undefined): HTMLElement | null {
  if (item === undefined) return null;
  if (item.kind === "edge") return factList(`${shown.nameOf(item.drawn.edge)} (${item.drawn.look.told})`, shown.edgeFacts(item.drawn.edge));
  return factList(shown.layered.data.nodes.names[item.node], shown.nodeFacts(item.node));
}
