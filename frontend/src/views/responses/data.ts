// Responses of one or more evaluations to the same items, as sections/responses.py writes them.

/** A sentence of a proof: its verdict, how it follows, on how many open assumptions it rests, whether it concludes. */
export type Step = readonly [text: string, verdict: string, kind: string, open: number, concludes: boolean];

export interface Response {
  text: string;
  /** The answer that was read out of it; null where none could be. */
  said: string | null;
  /** By judge, in their order; null where it was not judged so. */
  right: readonly (boolean | null)[];
  truncated: boolean;
  n_tokens: number;
  which: string;
  steps: readonly Step[] | null;
  /** How many steps of the proof come after these. */
  left_out: number;
}

export interface Item {
  /** Its place among all items. */
  at: number;
  key: string;
  question: string;
  gold: string;
  /** A list for each evaluation. */
  responses: readonly (readonly Response[])[];
}

export interface Share {
  value: number;
  low: number | null;
  high: number | null;
  hits: number;
  n: number;
}

export interface Asked {
  name: string;
  shares: Readonly<Partial<Record<string, Share>>>;
  unparseable: number;
  truncated: number;
  n: number;
}

export interface ResponsesData {
  task: string;
  judges: readonly string[];
  groups: readonly string[];
  chance: number | null;
  asked: readonly Asked[];
  /** By judge, a text for each evaluation with a sign an item: all right (1), none (0), some (~), not asked (-). */
  right: Readonly<Record<string, readonly string[]>>;
  /** By group, each item's value. */
  of_group: readonly (readonly (string | number | null)[])[];
  items: readonly Item[];
}

export type Sign = "1" | "0" | "~" | "-";

export const SIGNS: Readonly<Record<Sign, { mark: string; name: string; kind: string }>> = {
  "1": { mark: "✓", name: "right", kind: "right" },
  "0": { mark: "✗", name: "wrong", kind: "wrong" },
  "~": { mark: "◐", name: "partly right", kind: "partly" },
  "-": { mark: "–", name: "not asked", kind: "none" },
};

export type Which = "all" | "differ" | "every" | "none" | "unread" | "broken";

/** What is shown of the items. */
export interface Filter {
  judge: string;
  which: Which;
  /** By group, the value that is shown; null for all. */
  groups: (string | null)[];
  text: string;
}

export function signsOf(data: ResponsesData, judge: string, at: number): Sign[] {
  return data.right[judge].map((signs) => signs[at] as Sign);
}

function holds(signs: readonly Sign[], which: Which): boolean {
  const asked = signs.filter((sign) => sign !== "-");
  if (which === "differ") return new Set(asked).size > 1 || asked.includes("~");
  if (which === "every") return asked.length > 0 && asked.every((sign) => sign === "1");
  if (which === "none") return asked.length > 0 && asked.every((sign) => sign === "0");
  return true;
}

/** Whether an item, of which the page may have no text, is of the kind and groups that are shown. */
export function matches(data: ResponsesData, filter: Filter, at: number): boolean {
  return holds(signsOf(data, filter.judge, at), filter.which)
    && filter.groups.every((value, group) => value === null || String(data.of_group[group][at]) === value);
}

/** Whether an item with its texts is shown. */
export function shownItem(data: ResponsesData, filter: Filter, item: Item): boolean {
  if (!matches(data, filter, item.at)) return false;
  const every = item.responses.flat();
  if (filter.which === "unread" && !every.some(({ said }) => said === null)) return false;
  if (filter.which === "broken" && !every.some(({ truncated }) => truncated)) return false;
  const wanted = filter.text.trim().toLowerCase();
  return wanted === "" || [item.key, item.question, item.gold, ...every.map(({ text }) => text)].some((text) => text.toLowerCase().includes(wanted));
}

export function nItems(data: ResponsesData): number {
  return data.right[data.judges[0]][0].length;
}
