// What a circuit's picture is made of, as sections/circuit_data.py writes it; cutting and pruning as circuitkit does it.

export type By = "absolute" | "signed";
export type Averaging = "ratio of means" | "mean of ratios";
type Numbers = readonly (number | null)[];

/** Nodes, or inputs of nodes, and where they stand: heads to the right, layers upwards. */
export interface Places {
  names: readonly string[];
  x: readonly number[];
  y: readonly number[];
}

export interface GraphData {
  name: string;
  convention: string;
  /** Of each kept edge. */
  scores: readonly number[];
  /** Kept edges, the strongest first. */
  ranked: { absolute: readonly number[]; signed?: readonly number[] };
  /** How many could be ranked, kept or not. */
  rankable: number;
  /** The file's own circuit; `n`: as how many strongest edges, pruned, it comes out; its nodes' degrees where not all its edges are kept. */
  own: { edges: readonly number[]; size: number; n: { absolute?: number; signed?: number }; degrees: { in: readonly number[]; out: readonly number[] } | null } | null;
  by: By;
  /** What signs say; null where scores are magnitudes. */
  sign: { helps: number; above: string; below: string } | null;
  /** Of each node but the logits, over all edges. */
  importance: readonly number[];
  stability: { verdict: string; told: string; edges: Numbers; nodes: Numbers } | null;
}

/** Numbers with the ends of their intervals. */
export interface Band {
  value: Numbers;
  low: Numbers;
  high: Numbers;
}

export interface CurveData {
  /** Which graph's circuits it tells of, and what its file is called. */
  graph: number;
  title: string;
  by: By;
  rule: string;
  n_edges: number;
  fractions: readonly number[];
  requested: readonly number[];
  sizes: readonly number[];
  found: Record<Averaging, Band>;
  random: Record<Averaging, Band> | null;
  draws: number;
  undefined: string | null;
}

export interface PointData {
  /** Which graph's circuit it tells of. */
  graph: number;
  size: number;
  n_edges: number;
  /** Value, low and high. */
  values: Record<Averaging, Numbers>;
  undefined: string | null;
}

export interface CircuitData {
  title: string;
  metric: string;
  unit: string;
  n_edges: number;
  layers: number;
  heads: number;
  nodes: Places;
  inputs: Places;
  /** By which inputs each node reads. */
  reads: readonly (readonly number[])[];
  /** Of each kept edge: the node that it leads out of, and the input that it leads into. */
  source: readonly number[];
  destination: readonly number[];
  graphs: readonly GraphData[];
  curves: readonly CurveData[];
  points: readonly PointData[];
}

/** A circuit out of one graph: its edges, strongest first, and each node's edges in and out. */
export interface Circuit {
  edges: readonly number[];
  /** How many it has, kept in the page or not. */
  size: number;
  degreeIn: readonly number[];
  degreeOut: readonly number[];
  /** Which nodes are in it. */
  inside: ReadonlySet<number>;
}

/** Looks up and cuts what the data hold. */
export class Layered {
  readonly logits: number;
  /** Which nodes read by each input. */
  readonly readers: readonly (readonly number[])[];
  private readonly found = new Map<string, Circuit>();

  constructor(readonly data: CircuitData) {
    const { nodes, inputs, reads, source, destination, graphs } = data;
    if (reads.length !== nodes.names.length || source.length !== destination.length || graphs.some(({ scores }) => scores.length !== source.length)) {
      throw new Error("its nodes, edges and scores are not of one graph");
    }
    this.logits = nodes.names.length - 1;
    const readers: number[][] = inputs.names.map(() => []);
    reads.forEach((columns, node) => columns.forEach((column) => readers[column].push(node)));
    this.readers = readers;
  }

  /** The order in which a graph's edges can be taken; by magnitude where its signs are not known. */
  ranking(graph: number, by: By): readonly number[] {
    const { ranked } = this.data.graphs[graph];
    return ranked[by] ?? ranked.absolute;
  }

  /** The `n` strongest edges of a graph, pruned. */
  strongest(graph: number, by: By, n: number): Circuit {
    return this.once(`${graph} ${by} ${n}`, () => {
      const taken = this.ranking(graph, by).slice(0, n);
      const edges = this.pruned(taken);
      return this.circuit(graph, edges, edges.length);
    });
  }

  /** A graph's own circuit, as its file has it: of a large one the strongest edges alone, but every node with its degrees. */
  own(graph: number): Circuit {
    return this.once(`${graph} own`, () => {
      const { own } = this.data.graphs[graph];
      const found = this.circuit(graph, own?.edges ?? [], own?.size ?? 0);
      if (own === null || own.degrees === null) return found;
      const { in: degreeIn, out: degreeOut } = own.degrees;
      const inside = new Set(degreeIn.flatMap((n, node) => (node !== this.logits && n + degreeOut[node] > 0 ? [node] : [])));
      return { ...found, degreeIn, degreeOut, inside };
    });
  }

  /**
   * Those of the edges that lie on a way from the input to the logits. What writes stands before what reads it, so that
   * one pass forwards and one backwards find all; an input that heads share is read as long as one of them is.
   */
  pruned(edges: readonly number[]): number[] {
    const { source, destination, reads } = this.data;
    const into = new Map<number, number[]>(), out = new Map<number, number[]>();
    for (const edge of edges) {
      put(into, destination[edge], source[edge]);
      put(out, source[edge], destination[edge]);
    }
    const led = reads.map((_, node) => node === 0);
    for (let node = 1; node <= this.logits; node++) {
      led[node] = reads[node].some((column) => into.get(column)?.some((from) => led[from]));
    }
    const on = reads.map((_, node) => node === this.logits);
    for (let node = this.logits - 1; node >= 0; node--) {
      on[node] = out.get(node)?.some((column) => this.readers[column].some((reader) => on[reader])) ?? false;
    }
    return edges.filter((edge) => led[source[edge]] && this.readers[destination[edge]].some((reader) => on[reader]));
  }

  private circuit(graph: number, edges: readonly number[], size: number): Circuit {
    const { source, destination, reads, graphs } = this.data;
    const leading = new Set(edges.map((edge) => source[edge]));
    const entered = reads.map(() => 0), degreeOut = reads.map(() => 0);
    const into = this.readers.map(() => 0);
    for (const edge of edges) {
      into[destination[edge]] += 1;
      degreeOut[source[edge]] += 1;
    }
    // An input that heads share belongs to those of them that lead on; where none does, to all.
    const inside = new Set(leading);
    this.readers.forEach((readers, column) => {
      if (into[column] > 0 && !readers.some((reader) => leading.has(reader))) readers.forEach((reader) => inside.add(reader));
    });
    inside.forEach((node) => (entered[node] = reads[node].reduce((sum, column) => sum + into[column], 0)));
    const strength = (edge: number): number => Math.abs(graphs[graph].scores[edge]);
    const ordered = [...edges].sort((a, b) => strength(b) - strength(a));
    return { edges: ordered, size, degreeIn: entered, degreeOut, inside };
  }

  private once(key: string, make: () => Circuit): Circuit {
    const known = this.found.get(key) ?? make();
    // A slider that is drawn to and fro asks for the same again; but there may be thousands of sizes.
    if (this.found.size > 200) this.found.clear();
    this.found.set(key, known);
    return known;
  }
}

function put(lists: Map<number, number[]>, key: number, value: number): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}

/** The sizes that a slider stops at: each up to some hundreds, then growing by one in a hundred, and some that must be among them. */
export function stops(most: number, wanted: readonly number[]): number[] {
  const found = new Set([most, ...wanted.filter((n) => n > 0 && n <= most)]);
  for (let n = 1; n <= most; n += Math.max(1, Math.round(n / 100))) found.add(n);
  return [...found].sort((a, b) => a - b);
}
