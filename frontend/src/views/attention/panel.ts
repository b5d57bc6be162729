// One reading: its small maps, its text, its strongest edges. Two of them stand side by side and show the same head.

import { makeChart, type Chart } from "../../chart";
import { element, refill } from "../../dom";
import { liveLine } from "../../keyboard";
import { number, percent } from "../../text";
import { colourAt, type Palette } from "../../theme";
import { makeTable } from "../../table";
import { arcsHeight, arcsOption, leastArcsWidth, named, placeOf, type Arcs } from "./arcs";
import { attentionScale, gradient, scoreScale } from "./colours";
import type { Edge, Head, Reading, Way } from "./data";
import { headMaps, type HeadMaps } from "./heads";
import { tokenText, written, type TokenText } from "./text";

/** How many tokens are told in words, and the least weight of one. */
const TOLD = 3;
const LEAST = 0.001;

/** What all panels of a view show. */
export interface Shown {
  head: Head;
  way: Way;
  /** Whether the first token, which takes what attention has nowhere else to put, has a colour and edges. */
  withFirst: boolean;
  scores: boolean;
  edges: number;
}

export interface Asked {
  onHead(head: Head): void;
  onPointHead(panel: Panel, head: Head | null): void;
  onPoint(panel: Panel, at: number | null, how: "pointer" | "focus"): void;
  onPin(panel: Panel, at: number): void;
}

export class Panel {
  readonly place: HTMLElement;
  private readonly maps: HeadMaps;
  private readonly text: TokenText;
  private readonly missing = element("p", { class: "muted" });
  private readonly key = element("ul", { class: "legend" });
  private readonly below = element("div");
  private readonly said = element("div", { class: "said" });
  private readonly say = liveLine(this.said, "");
  private sentence = "";
  private readonly table = element("details", {}, element("summary", {}, "Strongest edges as a table"));
  private readonly tableBox = element("div");
  private readonly arcs: Arcs;
  private readonly chart: Chart;
  /** Whether the pointer is on the arcs, which then must not scroll away under it. */
  private onArcs = false;
  private ranked: Edge[] = [];
  private rankedFor = "";

  constructor(into: HTMLElement, readonly reading: Reading, marked: ReadonlySet<string>, study: string | null, titled: boolean, asked: Asked) {
    this.arcs = { tokens: reading.tokens, edges: [], digits: reading.digits };
    this.maps = headMaps(reading, marked, study, { onChoose: asked.onHead, onPoint: (head) => asked.onPointHead(this, head) });
    this.text = tokenText(reading.tokens, reading.name, {
      onPoint: (at, how) => asked.onPoint(this, at, how),
      onPin: (at) => asked.onPin(this, at),
    });
    this.table.append(this.tableBox);
    this.table.addEventListener("toggle", () => this.fillTable());
    this.place = element("div", { class: "reading" }, [
      titled && element("h4", {}, reading.name || "The prompt"),
      this.maps.place,
      this.missing,
      this.text.place,
      this.said,
      this.key,
      this.below,
      this.table,
    ]);
    into.append(this.place);
    this.chart = makeChart(this.below, (palette, width) => arcsOption(this.arcs, palette, width), {
      label: `Strongest edges${reading.name === "" ? "" : ` of ${reading.name}`} as arcs over the tokens; the table below has them in words`,
      height: arcsHeight,
      least: leastArcsWidth(reading.size),
    });
    this.chart.echarts.on("mouseover", (item: any) => {
      this.onArcs = true;
      if (typeof item.data?.token === "number") asked.onPoint(this, item.data.token, "pointer");
    });
    // The chart forgets what stood out when the pointer leaves one of its tokens.
    this.chart.echarts.on("mouseout", () => asked.onPoint(this, null, "pointer"));
    this.chart.echarts.on("globalout", () => {
      this.onArcs = false;
      asked.onPoint(this, null, "pointer");
    });
  }

  /** How many edges a head has to be drawn. */
  edgeCount({ head, withFirst }: Shown): number {
    return this.reading.has(head) ? this.edgesOf(head, withFirst).length : 0;
  }

  /** The strongest weight that a token's colours show. */
  most(shown: Shown, at: number | null): number {
    return this.weights(shown, at).reduce<number>((most, weight) => Math.max(most, weight ?? 0), 0);
  }

  /** Colour the tokens by one of them; `most` is the weight of the strongest colour, the same in all panels. */
  paint(shown: Shown, at: number | null, pinned: number | null, most: number, palette: Palette): void {
    const there = this.reading.has(shown.head);
    const scores = there && shown.scores ? this.reading.scores(shown.head) : null;
    this.text.paint({ at, pinned, weights: this.weights(shown, at), most, scores }, palette);
    this.missing.textContent = there ? "" : `${this.reading.name || "This model"} has no attention of layer ${shown.head[0]}, head ${shown.head[1]} in this page.`;
    this.missing.hidden = there;
    refill(this.key, ...this.legend(shown, most, palette, there && shown.scores && scores === null));
    this.stress(at);
    if (at !== null && !this.onArcs) this.chart.reveal(placeOf(at, this.reading.size, this.chart.echarts.getWidth()));
    this.sentence = this.sentenceOf(shown, at);
    this.tell(null);
  }

  /** Say something else than what is pointed at in the text, until it is null. */
  tell(other: string | null): void {
    this.say(other ?? this.sentence);
  }

  /** Show another head, or other edges of it. */
  choose(shown: Shown, palette: Palette): void {
    this.maps.choose(shown.head);
    this.maps.paint(palette);
    this.arcs.edges = this.reading.has(shown.head) ? this.edgesOf(shown.head, shown.withFirst).slice(0, shown.edges) : [];
    this.chart.update();
    this.fillTable();
  }

  /** Let a token's edges stand out: far quicker than drawing them anew. */
  private stress(at: number | null): void {
    this.chart.echarts.dispatchAction({ type: "downplay", seriesIndex: 0 });
    // One without an edge would leave nothing but faded ones.
    if (at !== null && this.arcs.edges.some(({ query, key }) => query === at || key === at)) {
      this.chart.echarts.dispatchAction({ type: "highlight", seriesIndex: 0, dataIndex: at });
    }
  }

  /** What is pointed at, in words. */
  private sentenceOf(shown: Shown, at: number | null): string {
    const { tokens } = this.reading;
    if (!this.reading.has(shown.head)) return "";
    if (at === null) return "No token of this prompt stands for it.";
    const seen = this.reading.seen(shown.head, at, shown.way);
    const order = seen.map((_, i) => i).filter((i) => seen[i] >= LEAST && (shown.way === "from" || i > 0)).sort((a, b) => seen[b] - seen[a]);
    const told = order.slice(0, TOLD).map((i) => `${named(tokens, i)} ${number(seen[i], this.reading.digits)}`).join(", ");
    const scores = shown.scores ? this.reading.scores(shown.head) : null;
    const score = scores === null ? "" : ` Its score is ${number(scores[at])}.`;
    if (shown.way === "from") {
      return `${named(tokens, at)} ${told === "" ? "is looked at by none" : `is looked at most by ${told}`}.${score}`;
    }
    const first = `${percent(seen[0])} of its attention goes to the first token, "${written(tokens[0])}"`;
    return `${named(tokens, at)} looks ${told === "" ? "at no other token" : `most at ${told}`}; ${first}.${score}`;
  }

  dispose(): void {
    this.chart.dispose();
    this.place.remove();
  }

  private edgesOf(head: Head, withFirst: boolean): Edge[] {
    const asked = `${head} ${withFirst}`;
    if (asked !== this.rankedFor) {
      this.ranked = this.reading.edges(head, withFirst);
      this.rankedFor = asked;
    }
    return this.ranked;
  }

  private weights(shown: Shown, at: number | null): (number | null)[] {
    if (at === null || !this.reading.has(shown.head)) return this.reading.tokens.map(() => null);
    const leftOut = shown.way === "to" && !shown.withFirst;
    return this.reading.seen(shown.head, at, shown.way).map((weight, i) => (leftOut && i === 0 ? null : weight));
  }

  private legend(shown: Shown, most: number, palette: Palette, unscored: boolean): HTMLElement[] {
    const what = shown.way === "to" ? "share of the outlined token's attention" : "attention that the outlined token gets from each";
    const lines = [element("li", {}, [element("span", {}, "0"), swatch(gradient(attentionScale(palette))), element("span", { class: "nowrap" }, number(most, this.reading.digits)), what])];
    if (shown.way === "to" && !shown.withFirst) lines.push(element("li", {}, "first token: no colour, no edges"));
    if (shown.scores) {
      const [low, high] = [0.4, 1].map((share) => colourAt(scoreScale(palette), share));
      lines.push(element("li", {}, unscored ? "no bars: all tokens have the same score" : [element("span", {}, "0"), swatch(gradient([low, high])), element("span", {}, "1"), "height of the bar: score (Kang & Shin)"]));
    }
    return lines;
  }

  private fillTable(): void {
    if (!this.table.open) return;
    const { tokens, digits } = this.reading;
    // What is copied has no digits that are not known.
    const known = (weight: number): number => (digits < 3 ? Number(weight.toPrecision(digits)) : weight);
    const rows = this.arcs.edges.map(({ query, key, weight }) => [query, written(tokens[query]), key, written(tokens[key]), known(weight)]);
    refill(this.tableBox, makeTable([{ name: "query" }, { name: "its token" }, { name: "key" }, { name: "its token " }, { name: "weight" }], rows, "The edges that are drawn, strongest first"));
  }
}

function swatch(background: string): HTMLElement {
  const made = element("span", { class: "swatch scale" });
  made.style.background = background;
  return made;
}
