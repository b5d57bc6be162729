// Attention as sections/attention.py writes it: every head's weights on every prompt, packed, and what is looked up in them.

/** Into how many steps packed numbers divide the way between their ends; as in packing.py. */
const STEPS = 65535;
/** And into how many the root of it, where a weight has 8 bits. */
const ROOT_STEPS = 255;

export type Head = readonly [layer: number, head: number];

export interface ReadingData {
  /** What it is called beside others; empty where it is the only one. */
  name: string;
  tokens: readonly string[];
  layers: readonly number[];
  n_heads: readonly number[];
  /** The heads whose weights and scores follow, one behind the other. */
  kept: readonly Head[];
  /** Whether only the keys up to each query are held, since no token attends to a later one. */
  causal: boolean;
  /** Of a weight: 16 in even steps, or 8 in steps of its root. */
  bits: 16 | 8;
  low: number;
  high: number;
  weights: string;
  scores: string;
  /** Places among the kept heads of those without scores. */
  unscored: readonly number[];
  /** Heads that are left out, of which there is only a small map: 255 times the root of the strongest weight in a pixel. */
  small: { side: number; heads: readonly Head[]; values: string } | null;
}

export interface AttentionData {
  readings: readonly ReadingData[];
  start: Head;
  beside: number | null;
  /** Heads that survive in a study of the same folder, and what that is called. */
  marked: readonly Head[];
  study: string | null;
}

export interface Edge {
  query: number;
  key: number;
  weight: number;
}

/** A prompt as one model reads it. */
export class Reading {
  readonly name: string;
  readonly tokens: readonly string[];
  readonly size: number;
  private readonly packed: Uint16Array | Uint8Array;
  /** What each 8-bit number stands for. */
  private readonly roots: Float64Array | null;
  private readonly packedScores: Uint16Array;
  private readonly places: ReadonlyMap<string, number>;
  private readonly cost: number;
  private readonly small: ReadonlyMap<string, number>;
  private readonly smallMaps: Uint8Array;

  constructor(readonly data: ReadingData) {
    this.name = data.name;
    this.tokens = data.tokens;
    this.size = data.tokens.length;
    this.cost = data.causal ? (this.size * (this.size + 1)) / 2 : this.size * this.size;
    this.packed = data.bits === 8 ? bytesOf(data.weights) : unpack(data.weights);
    this.roots = data.bits === 8 ? Float64Array.from({ length: ROOT_STEPS + 1 }, (_, steps) => data.low + (steps / ROOT_STEPS) ** 2 * (data.high - data.low)) : null;
    this.packedScores = unpack(data.scores);
    this.small = new Map((data.small?.heads ?? []).map((head, place) => [String(head), place]));
    this.smallMaps = bytesOf(data.small?.values ?? "");
    this.places = new Map(data.kept.map((head, place) => [String(head), place]));
    if (this.packed.length !== data.kept.length * this.cost || this.packedScores.length !== data.kept.length * this.size) {
      throw new Error(`${this.packed.length} weights are not those of ${data.kept.length} heads on ${this.size} tokens`);
    }
  }

  /** Whether a head's attention is in the page. */
  has(head: Head): boolean {
    return this.places.has(String(head));
  }

  /** Whether the model has such a head at all, among the layers that were captured. */
  exists([layer, head]: Head): boolean {
    const at = this.data.layers.indexOf(layer);
    return at >= 0 && head < this.data.n_heads[at];
  }

  /** Whether there is a small map of a head, or more. */
  drawn(head: Head): boolean {
    return this.has(head) || this.small.has(String(head));
  }

  /** The shares of a head's small map, as colours show them, queries downwards; null where it is not in the page at all. */
  map(head: Head, most: number): { side: number; shares: ArrayLike<number> } | null {
    const place = this.small.get(String(head));
    if (place !== undefined && this.data.small !== null) {
      const { side } = this.data.small;
      return { side, shares: Array.from(this.smallMaps.subarray(place * side * side, (place + 1) * side * side), (value) => value / 255) };
    }
    if (!this.has(head)) return null;
    const start = this.startOf(head);
    const side = Math.min(most, this.size);
    const shares = new Float32Array(side * side);
    for (let query = 0; query < this.size; query++) {
      for (let key = 0; key < this.size; key++) {
        const at = Math.floor((query * side) / this.size) * side + Math.floor((key * side) / this.size);
        // A square root, so that what is weak can be told from nothing.
        shares[at] = Math.max(shares[at], Math.sqrt(Math.max(0, this.read(start, query, key))));
      }
    }
    return { side, shares };
  }

  /** To how many digits a weight is told: no more than it is known to. */
  get digits(): number {
    return this.data.bits === 8 ? 2 : 3;
  }

  /** The share of its attention that a query puts on a key. */
  weight(head: Head, query: number, key: number): number {
    return this.read(this.startOf(head), query, key);
  }

  /** What one token attends to, or what attends to it. */
  seen(head: Head, at: number, way: Way): number[] {
    const start = this.startOf(head);
    return this.tokens.map((_, other) => (way === "to" ? this.read(start, at, other) : this.read(start, other, at)));
  }

  /** Each token's score after Kang & Shin, from 0 to 1; null where there is no scale. */
  scores(head: Head): number[] | null {
    const place = this.place(head);
    if (this.data.unscored.includes(place)) return null;
    return Array.from(this.packedScores.subarray(place * this.size, (place + 1) * this.size), (steps) => steps / STEPS);
  }

  /** A head's edges that carry anything, strongest first. */
  edges(head: Head, withFirst: boolean): Edge[] {
    const found: Edge[] = [];
    const start = this.startOf(head);
    for (let query = 0; query < this.size; query++) {
      for (let key = withFirst ? 0 : 1; key < (this.data.causal ? query + 1 : this.size); key++) {
        const weight = this.read(start, query, key);
        if (weight > 0) found.push({ query, key, weight });
      }
    }
    return found.sort((one, other) => other.weight - one.weight || one.query - other.query || one.key - other.key);
  }

  /** A weight of the head whose weights begin at `start`: looked up once, since a map reads thousands. */
  private read(start: number, query: number, key: number): number {
    if (this.data.causal && key > query) return 0;
    const within = this.data.causal ? (query * (query + 1)) / 2 + key : query * this.size + key;
    const steps = this.packed[start + within];
    return this.roots === null ? this.data.low + (steps / STEPS) * (this.data.high - this.data.low) : this.roots[steps];
  }

  private startOf(head: Head): number {
    return this.place(head) * this.cost;
  }

  private place(head: Head): number {
    const place = this.places.get(String(head));
    if (place === undefined) throw new Error(`the page holds no attention of layer ${head[0]}, head ${head[1]}`);
    return place;
  }
}

/** Whether the pointed-at token looks, or is looked at. */
export type Way = "to" | "from";

/** The token of another reading that stands for one of this: the same text's, or else the one at the same position. */
export function counterpart(from: Reading, to: Reading, at: number): number | null {
  const [ours, theirs] = [from, to].map(({ tokens }) => tokens.map((token) => token.replace(/\s/g, "")));
  if (from.size === to.size && ours[at] === theirs[at]) return at;
  if (ours.join("") !== theirs.join("")) return at < to.size ? at : null;
  // Two tokenizers cut one text differently: the token that holds the last letter.
  const end = ours.slice(0, at + 1).join("").length;
  let length = 0;
  for (let other = 0; other < to.size; other++) {
    length += theirs[other].length;
    if (length >= end && theirs[other].length > 0) return other;
  }
  return null;
}

function unpack(text: string): Uint16Array {
  const bytes = bytesOf(text);
  // Little-endian whatever the machine is.
  return Uint16Array.from({ length: bytes.length / 2 }, (_, i) => bytes[2 * i] + 256 * bytes[2 * i + 1]);
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
