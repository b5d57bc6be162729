// Where heads look: choose a head from small maps, point at a token, and see what it attends to; two readings side by side.

import { element, refill, select, slider, toggle } from "../dom";
import { counted } from "../text";
import { theme } from "../theme";
import { counterpart, Reading, type AttentionData, type Head } from "./attention/data";
import { habit } from "./attention/heads";
import { Panel, type Shown } from "./attention/panel";

/** Edges that are drawn at first, and at the most; the papers draw 50. */
const EDGES = 20;
const MOST_EDGES = 100;

/** A token of one of the panels. */
interface Place {
  panel: number;
  at: number;
}

export function attentionView(place: HTMLElement, data: AttentionData): void {
  if (data.readings.length === 0) throw new Error("it holds no prompt");
  new AttentionView(place, data);
}

class AttentionView {
  private readonly readings: readonly Reading[];
  private readonly marked: ReadonlySet<string>;
  private readonly shown: Shown;
  /** Which readings stand side by side. */
  private chosen: number[];
  private panels: Panel[] = [];
  private pointer: Place | null = null;
  private focus: Place | null = null;
  private pinned: Place | null = null;
  private readonly controls = element("div", { class: "controls" });
  private readonly edgeControl = element("div", { class: "controls" });
  private readonly title = element("h4", { class: "chosen-head" });
  private readonly side = element("div", { class: "readings" });

  constructor(place: HTMLElement, private readonly data: AttentionData) {
    this.readings = data.readings.map((each) => new Reading(each));
    this.marked = new Set(data.marked.map(String));
    this.chosen = data.beside === null ? [0] : [0, data.beside];
    const start = this.readings[0].has(data.start) ? data.start : data.readings[0].kept[0];
    this.shown = { head: start, way: "to", withFirst: false, scores: true, edges: EDGES };
    place.classList.add("attention");
    place.append(this.controls, this.title);
    place.append(this.side, this.edgeControl);
    this.addControls();
    this.open();
    theme.subscribe(() => this.redraw());
  }

  private addControls(): void {
    const choices = this.readings.map((reading, value) => ({ value, label: reading.name || "the prompt" }));
    const pieces: HTMLElement[] = [];
    if (this.readings.length > 1) {
      pieces.push(select("Prompt", choices, this.chosen[0], (value) => this.compare([value, ...this.chosen.slice(1)])));
      const others = [{ value: -1, label: "nothing" }, ...choices];
      pieces.push(select("Beside it", others, this.chosen[1] ?? -1, (value) => this.compare(value < 0 ? [this.chosen[0]] : [this.chosen[0], value])));
    }
    pieces.push(
      toggle("Which way", [{ value: "to" as const, label: "Looks at" }, { value: "from" as const, label: "Is looked at by" }], this.shown.way, (way) => {
        this.shown.way = way;
        this.paint();
      }),
      toggle("The first token", [{ value: false, label: "First token left out" }, { value: true, label: "Counted" }], this.shown.withFirst, (withFirst) => {
        this.shown.withFirst = withFirst;
        this.redraw();
      }),
      toggle("Token scores", [{ value: true, label: "Scores" }, { value: false, label: "No scores" }], this.shown.scores, (scores) => {
        this.shown.scores = scores;
        this.paint();
      }),
    );
    refill(this.controls, ...pieces);
  }

  private compare(chosen: number[]): void {
    this.chosen = chosen;
    this.pointer = this.focus = null;
    // A token that the other prompt has not got cannot stay pinned.
    if (this.pinned !== null && (this.pinned.panel >= chosen.length || this.pinned.at >= this.readings[chosen[this.pinned.panel]].size)) this.pinned = null;
    this.open();
  }

  /** Put the chosen readings side by side. */
  private open(): void {
    const { data } = this;
    this.panels.forEach((panel) => panel.dispose());
    this.side.classList.toggle("two", this.chosen.length > 1);
    this.panels = this.chosen.map((reading, i) => new Panel(this.side, this.readings[reading], this.marked, data.study, this.readings.length > 1, {
      onHead: (head) => this.choose(head),
      onPointHead: (panel, head) => panel.tell(head === null ? null : this.habitOf(panel, head)),
      onPoint: (_, at, how) => {
        const where = at === null ? null : { panel: i, at };
        if (how === "pointer") this.pointer = where;
        else this.focus = where;
        this.paint();
      },
      onPin: (_, at) => {
        this.pinned = this.pinned?.panel === i && this.pinned.at === at ? null : { panel: i, at };
        this.paint();
      },
    }));
    this.redraw();
  }

  private choose(head: Head): void {
    this.shown.head = head;
    this.redraw();
  }

  /** Draw everything, for another head or other colours. */
  private redraw(): void {
    const most = Math.min(MOST_EDGES, Math.max(1, ...this.panels.map((panel) => panel.edgeCount(this.shown))));
    const value = Math.min(this.shown.edges, most);
    refill(this.edgeControl, slider("Strongest edges drawn", { min: 1, max: most, value }, (n) => counted(n, "edge"), (n) => {
      this.shown.edges = n;
      this.panels.forEach((panel) => panel.choose(this.shown, theme.palette));
      this.paint();
    }));
    const [layer, head] = this.shown.head;
    const survives = this.marked.has(String(this.shown.head)) && this.data.study !== null ? `, survives in "${this.data.study}"` : "";
    this.title.textContent = `Layer ${layer}, head ${head}${survives}`;
    this.panels.forEach((panel) => panel.choose(this.shown, theme.palette));
    this.paint();
  }

  /** Colour all panels by the token that is pointed at, focused, pinned, or else the last one. */
  private paint(): void {
    const where = this.pointer ?? this.focus ?? this.pinned ?? { panel: 0, at: this.panels[0].reading.size - 1 };
    const at = this.panels.map((panel, i) => this.placeIn(where, panel, i));
    const pinned = this.panels.map((panel, i) => (this.pinned === null ? null : this.placeIn(this.pinned, panel, i)));
    // One scale for all, so that two readings can be compared.
    const most = Math.max(...this.panels.map((panel, i) => panel.most(this.shown, at[i])));
    this.panels.forEach((panel, i) => panel.paint(this.shown, at[i], pinned[i], most, theme.palette));
  }

  private placeIn(where: Place, panel: Panel, i: number): number | null {
    return i === where.panel ? where.at : counterpart(this.panels[where.panel].reading, panel.reading, where.at);
  }

  private habitOf(panel: Panel, head: Head): string {
    const study = this.marked.has(String(head)) && this.data.study !== null ? ` It survives in "${this.data.study}".` : "";
    return `${habit(panel.reading, head)}${study}`;
  }
}
