// What a map of a study's cells is made of, as sections/maps.py writes it, and how to find one's way in it.

import { interval, number, plain, shown, words } from "../../text";

/** Axes whose labels are tokens. */
const OF_TOKENS = new Set(["position", "query", "key", "token"]);

type Numbers = readonly (number | null)[];

export interface Axis {
  name: string;
  /** What each entry is called: a layer's number, a head's. */
  entries: readonly (string | number)[];
  /** What stands there, such as a position's token. */
  labels: readonly string[] | null;
}

export interface Measure {
  name: "normalised" | "effect";
  /** What its numbers are, with their unit. */
  unit: string;
  /** By what an effect is multiplied to be this. */
  scale: number;
}

export interface Examples {
  /** How many there are; `indices` are those that are kept. */
  n: number;
  indices: readonly number[];
  /** Which cells they are kept of, as flat indices; `effects` has a row for each. */
  cells: readonly number[];
  effects: readonly Numbers[];
  clean: Numbers;
  corrupt: Numbers | null;
  groups: readonly number[] | null;
  prompts: { clean: readonly string[]; corrupt: readonly string[] | null } | null;
}

export interface MapData {
  title: string;
  metric: string;
  unit: string;
  direction: "denoise" | "noise" | "ablate";
  axes: readonly Axis[];
  measures: readonly Measure[];
  baseline: { clean: number; corrupt: number | null };
  /** Of each cell, the last axis fastest; null where there is no such cell. */
  effect: Numbers;
  /** What else is known of each: its interval, corrected p, and control; not all of it of large maps. */
  sure: {
    low?: Numbers;
    high?: Numbers;
    p_corrected?: Numbers;
    control_mean?: Numbers;
    control_low?: Numbers;
    control_high?: Numbers;
    control_p?: Numbers;
    control_n?: Numbers;
  };
  /** What one control and several are called: random sets, or the other heads of the layer. */
  control: readonly [one: string, several: string] | null;
  /** The cells that survive correction; null where there is no test, and `untested` says why. */
  significant: readonly number[] | null;
  untested: string | null;
  examples: Examples;
}

export interface Fact {
  name: string;
  value: string;
}

/** A map with what is looked up in it again and again. */
export class StudyMap {
  readonly sizes: readonly number[];
  readonly survives: ReadonlySet<number>;
  readonly strongest: number;
  private readonly strides: readonly number[];
  private readonly exampleRow: ReadonlyMap<number, number>;

  constructor(readonly data: MapData) {
    this.sizes = data.axes.map((axis) => axis.entries.length);
    this.strides = this.sizes.map((_, i) => this.sizes.slice(i + 1).reduce((product, size) => product * size, 1));
    const cells = this.sizes.reduce((product, size) => product * size, 1);
    if (data.axes.length === 0 || data.effect.length !== cells) {
      throw new Error(`its ${data.effect.length} effects are not those of ${this.sizes.join(" x ")} cells`);
    }
    this.survives = new Set(data.significant ?? []);
    this.exampleRow = new Map(data.examples.cells.map((cell, row) => [cell, row]));
    this.strongest = data.effect.reduce<number>(
      (best, effect, cell) => (Math.abs(effect ?? -1) > Math.abs(data.effect[best] ?? 0) ? (effect === null ? best : cell) : best),
      0,
    );
  }

  /** The flat index of a cell at a place along each axis. */
  at(place: readonly number[]): number {
    return place.reduce((sum, index, axis) => sum + index * this.strides[axis], 0);
  }

  /** Where a cell is along each axis. */
  placeOf(cell: number): number[] {
    return this.strides.map((stride, axis) => Math.floor(cell / stride) % this.sizes[axis]);
  }

  /** What an entry of an axis is called on a picture: its label where it has one. */
  entry(axis: number, index: number): string {
    const { entries, labels } = this.data.axes[axis];
    return this.text(axis, labels === null ? String(entries[index]) : labels[index], 14);
  }

  /** Where labels are tokens, their spaces are seen; names have room for more letters. */
  private text(axis: number, label: string, longest: number): string {
    return OF_TOKENS.has(this.data.axes[axis].name) ? shown(label, longest) : plain(label, longest + 10);
  }

  /** How many cells survive correction at each entry of an axis. */
  survivorsAlong(axis: number): number[] {
    const counts = new Array<number>(this.sizes[axis]).fill(0);
    for (const cell of this.survives) counts[this.placeOf(cell)[axis]] += 1;
    return counts;
  }

  /** A cell in words: "layer 3, position 14 (sterpus)". */
  nameOf(cell: number): string {
    return this.placeOf(cell)
      .map((index, axis) => {
        const { name, entries, labels } = this.data.axes[axis];
        const label = labels === null || labels[index] === String(entries[index]) ? "" : ` (${this.text(axis, labels[index], 40)})`;
        return `${words(name)} ${plain(String(entries[index]), 40)}${label}`;
      })
      .join(", ");
  }

  /** One of a cell's numbers in the effect's unit, as a measure has it. */
  measured(numbers: Numbers | undefined, cell: number, measure: Measure): number | null {
    const one = numbers?.[cell];
    return one === null || one === undefined ? null : one * measure.scale;
  }

  /** Low and high end of a cell's numbers; a negative scale turns them round. */
  ends(low: Numbers | undefined, high: Numbers | undefined, cell: number, measure: Measure): [number, number] | null {
    const [a, b] = [this.measured(low, cell, measure), this.measured(high, cell, measure)];
    return a === null || b === null ? null : [Math.min(a, b), Math.max(a, b)];
  }

  /** The metric under a cell, from its effect and what it is held against. */
  valueOf(effect: number, clean: number | null, corrupt: number | null): number | null {
    const against = this.data.direction === "denoise" ? corrupt : clean;
    if (against === null) return null;
    return this.data.direction === "denoise" ? against + effect : against - effect;
  }

  /** The effects of a cell's examples, those that are kept; null where none are. */
  effectsOf(cell: number): Numbers | null {
    const row = this.exampleRow.get(cell);
    return row === undefined ? null : this.data.examples.effects[row];
  }

  /** What is known of a cell, one fact a line. */
  facts(cell: number): Fact[] {
    const { data } = this;
    const effect = data.effect[cell];
    if (effect === null) return [{ name: "no such cell", value: "the model has none here" }];
    const unit = data.unit === "" ? "" : ` ${data.unit}`;
    const facts: Fact[] = [
      { name: words(data.metric), value: number(this.valueOf(effect, data.baseline.clean, data.baseline.corrupt)) + unit },
      { name: "effect", value: number(effect) + unit },
    ];
    const normalised = data.measures.find(({ name }) => name === "normalised");
    if (normalised !== undefined) facts.push({ name: "normalised", value: number(effect * normalised.scale) });
    const [low, high] = [data.sure.low?.[cell], data.sure.high?.[cell]];
    if (low !== null && low !== undefined) facts.push({ name: "95% interval", value: `${interval(low, high)}${unit}` });
    const p = data.sure.p_corrected?.[cell];
    if (p !== null && p !== undefined) {
      facts.push({ name: "corrected p", value: `${number(p)}, ${this.survives.has(cell) ? "survives" : "does not survive"}` });
    }
    return [...facts, ...this.controlFacts(cell, unit)];
  }

  private controlFacts(cell: number, unit: string): Fact[] {
    const { data } = this;
    const n = data.sure.control_n?.[cell];
    if (data.control === null || n === null || n === undefined) return [];
    if (n === 0) return [{ name: "control", value: "none: nothing matches it" }];
    const spread = `${interval(data.sure.control_low?.[cell], data.sure.control_high?.[cell])}${unit}`;
    return [
      { name: "control", value: `${number(data.sure.control_mean?.[cell])}${unit}, mean of ${n} ${data.control[n === 1 ? 0 : 1]}` },
      { name: "their middle 95%", value: `${spread}; p = ${number(data.sure.control_p?.[cell])}` },
    ];
  }
}
