// Items by who is right: a row an item, a column an evaluation, each verdict a button that opens the answer.

import { element } from "../../dom";
import { roving } from "../../keyboard";
import { plain, words } from "../../text";
import { badge } from "./answer";
import { SIGNS, signsOf, type Filter, type Item, type ResponsesData } from "./data";

/** Rows that are made at once. */
const ROWS = 50;

/** How much of a question tells which it is. */
const LETTERS = 70;

/** Above so many columns their names stand upright. */
const MOST_LYING = 3;

export function itemTable(data: ResponsesData, filter: Filter, items: readonly Item[], open: (item: Item, evaluation: number) => void): HTMLElement {
  const body = element("tbody");
  const upright = data.asked.length > MOST_LYING;
  const head = [
    ...telling(data).map((group) => data.groups[group]).map((name) => element("th", { scope: "col" }, words(name))),
    element("th", { scope: "col" }, "question"),
    ...data.asked.map(({ name }) => element("th", { scope: "col", class: upright ? "upright" : null }, element("span", {}, plain(name, 40)))),
  ];
  const more = element("button", { type: "button", onclick: () => add() });
  const box = element("div", { class: "table" }, [
    element("div", { class: "scroll", role: "region", "aria-label": "Items by who is right" }, element("table", { class: "frame items" }, [element("thead", {}, element("tr", {}, head)), body])),
    more,
  ]);
  let made = 0;
  const buttons: HTMLButtonElement[] = [];
  function add(): void {
    const next = items.slice(made, made + ROWS);
    next.forEach((item) => body.append(row(data, filter, item, buttons, open)));
    made += next.length;
    roving(buttons, { columns: data.asked.length });
    more.hidden = made >= items.length;
    more.textContent = `Show ${Math.min(ROWS, items.length - made)} more of ${items.length}`;
  }
  add();
  return box;
}

function row(data: ResponsesData, filter: Filter, item: Item, buttons: HTMLButtonElement[], open: (item: Item, evaluation: number) => void): HTMLElement {
  const cells = signsOf(data, filter.judge, item.at).map((sign, evaluation) => {
    const { mark, name, kind } = SIGNS[sign];
    const button = element("button", {
      type: "button",
      class: "verdict-button",
      title: `${plain(data.asked[evaluation].name, 60)}: ${name}`,
      "aria-label": `${plain(data.asked[evaluation].name, 60)}: ${name}; ${plain(item.key, 60)}`,
      onclick: () => open(item, evaluation),
    }, badge(mark, kind));
    buttons.push(button);
    return element("td", { class: "verdict-cell" }, button);
  });
  return element("tr", {}, [
    ...telling(data).map((group) => element("td", {}, plain(String(data.of_group[group][item.at] ?? "–"), 40))),
    element("td", { class: "question data-text", title: plain(item.key, 200) }, short(item.question)),
    ...cells,
  ]);
}

/** The groups that tell items apart. */
function telling({ groups, of_group }: ResponsesData): number[] {
  return groups.map((_, group) => group).filter((group) => new Set(of_group[group]).size > 1);
}

/** The end of a question, where those of one task differ most. */
function short(question: string): string {
  const flat = question.replace(/\s+/g, " ").trim();
  return flat.length <= LETTERS ? plain(flat, LETTERS) : `…${plain(flat.slice(-LETTERS), LETTERS)}`;
}
