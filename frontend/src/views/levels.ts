// Levels of responses by condition: click a count for responses behind it, and what was measured in them.

import { element } from "../dom";
import { liveLine, roving } from "../keyboard";
import { counted, number, percent, plain, words } from "../text";
import { theme, type Palette } from "../theme";
import { factList } from "./map/cell";
import { text } from "./responses/answer";

export interface Count {
  n: number;
  share: number | null;
  low: number | null;
  high: number | null;
}

export interface Levelled {
  /** Behind which count it stands. */
  row: number;
  level: number;
  key: string;
  question: string;
  text: string;
  reason: string;
  by: string;
  /** What the criterion says, where a person says otherwise. */
  criterion: string;
  right: boolean | null;
  on_task: number | null;
  evidence: Readonly<Record<string, number | null>>;
}

export interface LevelsData {
  groups: readonly string[];
  rows: readonly { told: readonly (string | number | null)[]; counts: readonly Count[] }[];
  responses: readonly Levelled[];
}

const LEVELS = ["I", "II", "III", "IV"];
const MEANINGS = ["nonsense", "off the task", "on the task, not right", "right"];

const EVIDENCE: Readonly<Record<string, string>> = {
  n_tokens: "tokens",
  unknown: "share of unknown words",
  repeated: "share said again",
  log_likelihood: "log-likelihood, nats a token",
  fluency: "fluency, 0 to 1",
  dependence: "dependence on its question, nats a token",
  overlap: "telling words of the question",
  sentences: "sentences that speak of the question",
  well_formed: "share in well-formed sentences",
};

/** Colours of the levels: purple and orange apart in lightness too, as in the figures. */
function colours({ dark }: Palette): readonly string[] {
  return dark ? ["#8a8d94", "#9480d2", "#fdb863", "#e08214"] : ["#4d4d4d", "#998ec3", "#fdb863", "#b35806"];
}

export function levelsView(place: HTMLElement, data: LevelsData): void {
  if (data.rows.length === 0) throw new Error("it holds no response");
  const legend = element("ul", { class: "legend" }, LEVELS.map((level, i) => element("li", {}, [element("span", { class: `swatch level-${i}` }), `${level}: ${MEANINGS[i]}`])));
  const below = element("div");
  const buttons: HTMLButtonElement[] = [];
  const named = data.groups.length > 0 ? data.groups : ["responses"];
  const table = element("table", { class: "frame levels" }, [
    element("thead", {}, element("tr", {}, [
      ...named.map((name) => element("th", { scope: "col" }, plain(words(name), 40))),
      ...LEVELS.map((level) => element("th", { scope: "col" }, level)),
      element("th", { scope: "col" }, "shares"),
    ])),
    element("tbody", {}, data.rows.map((_, row) => rowOf(data, row, buttons, (level) => choose(row, level)))),
  ]);
  const shell = element("div", { class: "levels-view" }, [
    legend,
    element("div", { class: "table" }, element("div", { class: "scroll", role: "region", "aria-label": "Responses by level" }, table)),
  ]);
  place.append(shell);
  const say = liveLine(place, "Click a count, or go to it with the arrow keys and press Enter, for responses behind it.");
  place.append(below);
  roving(buttons, {
    columns: LEVELS.length,
    onFocus: (index) => say(sentence(data, Math.floor(index / LEVELS.length), index % LEVELS.length)),
    onLeave: () => say(null),
  });
  const paint = (palette: Palette): void => colours(palette).forEach((colour, i) => shell.style.setProperty(`--level-${i}`, colour));
  theme.subscribe(paint);
  paint(theme.palette);

  function choose(row: number, level: number): void {
    buttons.forEach((button, i) => button.setAttribute("aria-expanded", String(i === row * LEVELS.length + level)));
    below.replaceChildren(behind(data, row, level, () => {
      below.replaceChildren();
      const from = buttons[row * LEVELS.length + level];
      from.setAttribute("aria-expanded", "false");
      from.focus();
    }));
    (below.firstElementChild as HTMLElement).focus();
  }
}

function nameOf(data: LevelsData, row: number): string {
  const { told } = data.rows[row];
  const named = told.flatMap((value, i) => (value === null || value === "" ? [] : [`${words(data.groups[i])} ${plain(String(value), 60)}`]));
  return named.length === 0 ? "all responses" : named.join(", ");
}

function sentence(data: LevelsData, row: number, level: number): string {
  const { n, share, low, high } = data.rows[row].counts[level];
  return `${nameOf(data, row)}: ${counted(n, "response")} of level ${LEVELS[level]} (${MEANINGS[level]}), ${percent(share)}, 95% interval ${percent(low)} to ${percent(high)}.`;
}

function rowOf(data: LevelsData, row: number, buttons: HTMLButtonElement[], choose: (level: number) => void): HTMLElement {
  const { told, counts } = data.rows[row];
  const cells = counts.map(({ n }, level) => {
    const button = element("button", { type: "button", class: "count", "aria-expanded": "false", "aria-label": sentence(data, row, level), onclick: () => choose(level) }, String(n));
    buttons.push(button);
    return element("td", { class: "number" }, button);
  });
  const bar = element("div", { class: "shares", "aria-hidden": "true" }, counts.map(({ share, n }, level) => {
    const part = element("span", { class: `level-${level}`, title: `${LEVELS[level]}: ${n}` });
    part.style.width = `${100 * (share ?? 0)}%`;
    return part;
  }));
  const names = told.length === 0 ? ["all"] : told.map((value) => plain(String(value ?? "–"), 60));
  return element("tr", {}, [...names.map((name) => element("td", {}, name)), ...cells, element("td", { class: "bar" }, bar)]);
}

function behind(data: LevelsData, row: number, level: number, close: () => void): HTMLElement {
  const found = data.responses.filter((each) => each.row === row && each.level === level);
  const { n } = data.rows[row].counts[level];
  const title = `Level ${LEVELS[level]}, ${MEANINGS[level]}: ${nameOf(data, row)}`;
  const kept = found.length < n ? ` ${counted(found.length, "response")} of ${n.toLocaleString("en")} are in the page.` : "";
  return element("div", { class: "examples", role: "region", "aria-label": title, tabindex: -1 }, [
    element("div", { class: "controls" }, [element("h4", {}, title), element("button", { type: "button", onclick: close }, "Close")]),
    element("p", { class: "caption" }, `${sentence(data, row, level)}${kept}`),
    ...found.map(levelled),
  ]);
}

function levelled(each: Levelled): HTMLElement {
  const right = each.right === null ? "" : each.right ? "; the judge finds it right" : "; the judge finds it wrong";
  const person = each.by === "the criterion" ? "" : ` (${plain(each.by, 60)}; the criterion says ${each.criterion})`;
  const facts = Object.entries(each.evidence).map(([name, value]) => ({ name: EVIDENCE[name] ?? words(name), value: number(value) }));
  return element("details", { class: "answer", open: true }, [
    element("summary", {}, `${plain(each.key, 80)}: ${plain(each.reason, 200)}${person}${right}`),
    element("h5", {}, "Question"),
    text(each.question),
    element("h5", {}, "Response"),
    text(each.text),
    element("details", {}, [element("summary", {}, "What was measured in it"), factList("", [...facts, { name: "on the task: 0 as to another question, 1 as to its own", value: number(each.on_task) }])]),
  ]);
}
