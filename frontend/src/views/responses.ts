// Responses of one or more models to the same items: who is right where, and why; everything said is shown as text.

import { element, select, toggle } from "../dom";
import { makeTable } from "../table";
import { counted, number, percent, plain, words } from "../text";
import { showItem } from "./responses/answer";
import { matches, nItems, shownItem, signsOf, type Filter, type ResponsesData, type Which } from "./responses/data";
import { itemTable } from "./responses/list";

const KINDS: readonly { value: Which; several: string; one: string | null }[] = [
  { value: "all", several: "all items", one: "all items" },
  { value: "differ", several: "models disagree", one: null },
  { value: "every", several: "all are right", one: "right" },
  { value: "none", several: "none is right", one: "wrong" },
  { value: "unread", several: "no answer could be read", one: "no answer could be read" },
  { value: "broken", several: "broken off", one: "broken off" },
];

/** Values of a group above which it is not chosen from. */
const MOST_VALUES = 60;

export function responsesView(place: HTMLElement, data: ResponsesData): void {
  if (data.asked.length === 0 || data.items.length === 0) throw new Error("it holds no response");
  const several = data.asked.length > 1;
  const differ = several && [...Array(nItems(data)).keys()].some((at) => matches(data, { judge: data.judges[0], which: "differ", groups: [], text: "" }, at));
  const filter: Filter = { judge: data.judges[0], which: differ ? "differ" : "all", groups: data.groups.map(() => null), text: "" };
  const controls = element("div", { class: "controls" });
  const summary = element("div");
  const line = element("p", { class: "live", "aria-live": "polite" });
  const list = element("div");
  const below = element("div");
  place.append(summary, controls, line, list, below);

  function changed(): void {
    const found = data.items.filter((item) => shownItem(data, filter, item));
    const textual = filter.text.trim() !== "" || filter.which === "unread" || filter.which === "broken";
    const all = [...Array(nItems(data)).keys()].filter((at) => matches(data, filter, at)).length;
    line.textContent = textual && data.items.length < nItems(data)
      ? `${found.length.toLocaleString("en")} of the ${counted(data.items.length, "item")} whose texts are in the page.`
      : textual || all === found.length
      ? `${counted(found.length, "item")} of ${nItems(data).toLocaleString("en")}.`
      : `${counted(all, "item")} of ${nItems(data).toLocaleString("en")}; the texts of ${found.length.toLocaleString("en")} of them are in the page.`;
    below.replaceChildren();
    list.replaceChildren(found.length === 0 ? element("p", { class: "muted" }, "No item of this kind is in the page.") : itemTable(data, filter, found, (item, evaluation) => {
      const from = document.activeElement;
      showItem(below, data, item, evaluation, () => {
        below.replaceChildren();
        if (from instanceof HTMLElement) from.focus();
      });
      (below.firstElementChild as HTMLElement).focus();
    }));
  }
  let judged = "";
  function summed(): void {
    if (judged === filter.judge) return;
    judged = filter.judge;
    summary.replaceChildren(several ? overview(data, judged) : headline(data, judged));
  }
  addControls(controls, data, filter, () => {
    summed();
    changed();
  });
  summed();
  changed();
}

function addControls(place: HTMLElement, data: ResponsesData, filter: Filter, changed: () => void): void {
  const several = data.asked.length > 1;
  const kinds = KINDS.flatMap(({ value, several: of_several, one }) => {
    const label = several ? of_several : one;
    return label === null ? [] : [{ value, label }];
  });
  place.append(select("Show", kinds, filter.which, (which) => {
    filter.which = which;
    changed();
  }));
  if (data.judges.length > 1) {
    place.append(toggle("Judge", data.judges.map((judge) => ({ value: judge, label: words(judge) })), filter.judge, (judge) => {
      filter.judge = judge;
      changed();
    }));
  }
  data.groups.forEach((name, group) => {
    const values = [...new Set(data.of_group[group].filter((value) => value !== null).map(String))];
    if (values.length < 2 || values.length > MOST_VALUES) return;
    const choices = [{ value: null as string | null, label: "all" }, ...values.map((value) => ({ value: value as string | null, label: plain(words(value), 40) }))];
    place.append(select(words(name), choices, null, (value) => {
      filter.groups[group] = value;
      changed();
    }));
  });
  const search = element("input", { type: "search", placeholder: "in questions and answers", oninput: () => {
    filter.text = search.value;
    changed();
  } });
  place.append(element("label", { class: "control" }, ["Find ", search]));
}

/** Of one evaluation its accuracy, in a line. */
function headline(data: ResponsesData, judge: string): HTMLElement {
  const { shares, unparseable, truncated } = data.asked[0];
  const share = shares[judge];
  if (share === undefined) return element("p", {}, `Nothing was judged as ${words(judge)}.`);
  const { value, low, high, hits, n } = share;
  const chance = data.chance === null ? "" : ` Chance is ${percent(data.chance)}.`;
  return element("p", {}, `${percent(value)} right as ${words(judge)} (95% interval ${percent(low)} to ${percent(high)}; ${hits} of ${n}); no answer read in ${percent(unparseable)}, ${percent(truncated)} broken off.${chance}`);
}

/** Of several, a row each: accuracy, and on how many items it stands alone. */
function overview(data: ResponsesData, judge: string): HTMLElement {
  const items = [...Array(nItems(data)).keys()].map((at) => signsOf(data, judge, at));
  const rows = data.asked.map(({ name, shares, unparseable, truncated }, i) => {
    const alone = (own: string, other: string): number => items.filter((signs) => signs[i] === own && signs.every((sign, j) => j === i || sign === other)).length;
    const share = shares[judge];
    return [plain(name, 60), share?.value ?? null, share?.low ?? null, share?.high ?? null, alone("1", "0"), alone("0", "1"), unparseable, truncated];
  });
  const shares = (value: unknown): string => (typeof value === "number" ? percent(value) : "–");
  const table = makeTable([
    { name: "evaluation" },
    { name: `right (${words(judge)})`, show: shares },
    { name: "95% from", show: shares },
    { name: "to", show: shares },
    { name: "it alone is right", show: (value) => number(value as number, 6) },
    { name: "it alone is wrong", show: (value) => number(value as number, 6) },
    { name: "no answer read", show: shares },
    { name: "broken off", show: shares },
  ], rows, "Evaluations of the same items");
  return element("details", { open: data.asked.length <= 4 }, [element("summary", {}, `${counted(data.asked.length, "evaluation")} side by side`), table]);
}
