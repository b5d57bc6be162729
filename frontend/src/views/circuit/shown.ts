// What is shown of one circuit, or of two over each other: which edges, how strong each is, and how it looks.

import { counted, number, percent } from "../../text";
import type { Palette } from "../../theme";
import type { Fact } from "../map/data";
import type { By, Circuit, Layered } from "./data";

/** So many edges are drawn at the most, the strongest. */
export const MOST_DRAWN = 300;

/** Which graphs are looked at: one of them, or both over each other. */
export type Which = 0 | 1 | "both";

export interface Choice {
  which: Which;
  by: By;
  /** How many of the strongest edges, or the file's own circuits. */
  n: number | "own";
  /** The node whose edges alone are shown. */
  pinned: number | null;
}

/** How an edge looks and what that says. */
export interface Look {
  colour: string;
  dash: number[];
  told: string;
}

export interface Drawn {
  edge: number;
  look: Look;
  /** How strong it is, of the strongest of its circuit. */
  share: number;
}

/** What a choice comes to. */
export class Shown {
  readonly graphs: readonly number[];
  readonly circuits: readonly Circuit[];
  /** Edges of either circuit, the strongest of its own first. */
  readonly edges: readonly number[];
  readonly inside: ReadonlySet<number>;
  private readonly members: readonly ReadonlySet<number>[];
  private readonly shares: ReadonlyMap<number, number>;

  constructor(readonly layered: Layered, readonly choice: Choice) {
    const { which, by, n } = choice;
    this.graphs = which === "both" ? layered.data.graphs.map((_, graph) => graph) : [which];
    this.circuits = this.graphs.map((graph) => (n === "own" ? layered.own(graph) : layered.strongest(graph, by, n)));
    this.members = this.circuits.map(({ edges }) => new Set(edges));
    this.inside = new Set(this.circuits.flatMap(({ inside }) => [...inside]));
    const shares = new Map<number, number>();
    this.circuits.forEach(({ edges }, i) => {
      const { scores } = layered.data.graphs[this.graphs[i]];
      const most = edges.length === 0 ? 1 : Math.abs(scores[edges[0]]) || 1;
      edges.forEach((edge) => shares.set(edge, Math.max(shares.get(edge) ?? 0, Math.abs(scores[edge]) / most)));
    });
    this.shares = shares;
    this.edges = [...shares.keys()].sort((a, b) => shares.get(b)! - shares.get(a)!);
  }

  /** How many edges a circuit has of which only the strongest are in the page; null where all are. */
  get ofSize(): number | null {
    const thinned = this.circuits.filter(({ edges, size }) => edges.length < size);
    return thinned.length === 0 ? null : this.circuits.reduce((sum, { size }) => sum + size, 0);
  }

  get overlaid(): boolean {
    return this.graphs.length > 1;
  }

  /** The edges of a node, in and out. */
  edgesOf(node: number): number[] {
    const { source, destination } = this.layered.data;
    return this.edges.filter((edge) => source[edge] === node || this.ends(destination[edge]).includes(node));
  }

  /** The nodes of the circuits that read by an input; all that do where none of them is in. */
  ends(input: number): readonly number[] {
    const all = this.layered.readers[input];
    const there = all.filter((node) => this.inside.has(node) || node === this.layered.logits);
    return there.length > 0 ? there : all;
  }

  /** What is drawn, the weakest first, so that the strong lie over the weak. */
  drawn(palette: Palette): Drawn[] {
    const { pinned } = this.choice;
    const edges = pinned === null ? this.edges.slice(0, MOST_DRAWN) : first(this.edgesOf(pinned), this.edges);
    return edges.map((edge) => ({ edge, look: this.look(edge, palette), share: this.shares.get(edge)! })).reverse();
  }

  /** In which of two circuits an edge or a node is: both, or the one or the other alone. */
  private side(inFirst: boolean, palette: Palette): Look {
    const { graphs } = this.layered.data;
    return inFirst
      ? { colour: palette.diverging[9], dash: [8, 4], told: `in ${graphs[this.graphs[0]].name} alone` }
      : { colour: palette.diverging[1], dash: [2, 3], told: `in ${graphs[this.graphs[1]].name} alone` };
  }

  look(edge: number, palette: Palette): Look {
    if (this.overlaid) {
      const [base, post] = this.members.map((members) => members.has(edge));
      return base && post ? both(palette) : this.side(base, palette);
    }
    const { scores, sign } = this.layered.data.graphs[this.graphs[0]];
    return signed(scores[edge], sign, palette);
  }

  nodeLook(node: number, palette: Palette): Look {
    if (!this.overlaid || node === this.layered.logits || node === 0) return both(palette);
    const [base, post] = this.circuits.map(({ inside }) => inside.has(node));
    return base && post ? both(palette) : this.side(base, palette);
  }

  /** The looks that there are, and of how many edges each. */
  looks(palette: Palette): [Look, number][] {
    const counts = new Map<string, [Look, number]>();
    for (const edge of this.edges) {
      const look = this.look(edge, palette);
      const known = counts.get(look.told);
      if (known === undefined) counts.set(look.told, [look, 1]);
      else known[1] += 1;
    }
    return [...counts.values()].sort(([a], [b]) => a.dash.length - b.dash.length || a.told.localeCompare(b.told));
  }

  /** An edge by its ends. */
  nameOf(edge: number): string {
    const { nodes, inputs, source, destination } = this.layered.data;
    return `${nodes.names[source[edge]]} → ${inputs.names[destination[edge]]}`;
  }

  edgeFacts(edge: number): Fact[] {
    const { graphs, unit } = this.layered.data;
    return this.graphs.flatMap((graph, i) => {
      const { name, scores, sign, stability } = graphs[graph];
      const of = this.overlaid ? ` in ${name}` : "";
      const score = scores[edge];
      const says = sign === null || score === 0 ? "" : `, ${score > 0 ? sign.above : sign.below}`;
      const often = stability?.edges[edge];
      return [
        { name: `score${of}`, value: `${number(score)}${unit === "" ? "" : ` ${unit}`}${says}` },
        ...(this.overlaid ? [{ name: "its circuit", value: this.members[i].has(edge) ? "has it" : "has it not" }] : []),
        ...(often === undefined ? [] : [{ name: `in resamples${of}`, value: percent(often) }]),
      ];
    });
  }

  nodeFacts(node: number): Fact[] {
    const { graphs, unit } = this.layered.data;
    return this.graphs.flatMap((graph, i) => {
      const { name, importance, stability } = graphs[graph];
      const { degreeIn, degreeOut, inside, edges } = this.circuits[i];
      const of = this.overlaid ? ` in ${name}` : "";
      const there = inside.has(node) || (node === this.layered.logits && edges.length > 0);
      const often = stability?.nodes[node];
      const entered = node === this.layered.logits && degreeIn[node] === 0
        ? edges.filter((edge) => this.layered.readers[this.layered.data.destination[edge]].includes(node)).length
        : degreeIn[node];
      return [
        { name: `circuit${of}`, value: there ? `${counted(entered, "edge")} in, ${degreeOut[node]} out` : "not in it" },
        ...(importance[node] === undefined ? [] : [{ name: `importance${of}`, value: `${number(importance[node])}${unit === "" ? "" : ` ${unit}`}, over all edges out of it` }]),
        ...(often === undefined || often === null ? [] : [{ name: `in resamples${of}`, value: percent(often) }]),
      ];
    });
  }
}

function both(palette: Palette): Look {
  return { colour: palette.text, dash: [], told: "in both" };
}

function signed(score: number, sign: { helps: number; above: string; below: string } | null, palette: Palette): Look {
  if (sign === null) return { colour: palette.text, dash: [], told: "magnitudes, which have no sign" };
  if (score === 0) return { colour: palette.muted, dash: [2, 3], told: "no effect" };
  // Orange and full for what helps; where that is not known, for what is above 0.
  const up = score > 0 === (sign.helps >= 0);
  const told = score > 0 ? sign.above : sign.below;
  return up ? { colour: palette.diverging[9], dash: [], told } : { colour: palette.diverging[1], dash: [7, 4], told };
}

function first(some: readonly number[], ordered: readonly number[]): number[] {
  const chosen = new Set(some);
  return ordered.filter((edge) => chosen.has(edge)).slice(0, MOST_DRAWN);
}
