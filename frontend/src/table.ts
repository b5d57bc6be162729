// Tables that sort by a column and copy as tab-separated text: those the page came with, and those that views make.

import { element, type Child } from "./dom";
import { number } from "./text";

export type Value = string | number | boolean | null;

export interface Column {
  name: string;
  /** How a value is shown; numbers to three digits unless told. */
  show?: (value: Value) => Child;
}

/** Make a table of rows, to sort and to copy. */
export function makeTable(columns: readonly Column[], rows: readonly (readonly Value[])[], caption = ""): HTMLElement {
  const body = rows.map((row) =>
    element("tr", {}, row.map((value, i) => {
      const show = columns[i].show ?? ((one: Value) => (typeof one === "number" ? number(one) : one === null ? "–" : String(one)));
      return element("td", { class: typeof value === "number" ? "number" : null, "data-value": value === null ? "" : String(value) }, show(value));
    })),
  );
  const table = element("table", { class: "frame" }, [
    caption !== "" && element("caption", {}, caption),
    element("thead", {}, element("tr", {}, columns.map(({ name }) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, body),
  ]);
  const box = element("div", { class: "table" }, element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption || "table" }, table));
  enhance(table, box);
  return box;
}

/** Give a table buttons in its head that sort it, and one beside it that copies it. */
export function enhance(table: HTMLTableElement, box: Element = table.closest(".table") ?? table.parentElement!): void {
  const heads = [...(table.tHead?.rows[0]?.cells ?? [])];
  heads.forEach((head, column) => {
    const button = element("button", { type: "button", class: "sort", onclick: () => sort(table, heads, column) });
    button.append(...head.childNodes);
    head.append(button);
    const numbers = [...(table.tBodies[0]?.rows ?? [])].some((row) => row.cells[column]?.classList.contains("number"));
    if (numbers) head.classList.add("number");
  });
  box.prepend(element("div", { class: "tools" }, copyButton(() => asText(table), "Copy table")));
}

/** A button that puts text on the clipboard and says that it did. */
export function copyButton(text: () => string, label: string): HTMLButtonElement {
  const button = element("button", { type: "button", class: "copy" }, label);
  button.addEventListener("click", async () => {
    const done = await copy(text());
    button.textContent = done ? "Copied" : "Not copied: the browser refuses";
    window.setTimeout(() => (button.textContent = label), 2000);
  });
  return button;
}

async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Some browsers keep the clipboard from pages that were opened from disk; the old way still works there.
    const area = element("textarea", { class: "offscreen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function sort(table: HTMLTableElement, heads: readonly HTMLTableCellElement[], column: number): void {
  const upwards = heads[column].getAttribute("aria-sort") !== "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", upwards ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [valueOf(row.cells[column]), row] as const);
  rows.sort(([a], [b]) => compare(a, b, upwards));
  body.append(...rows.map(([, row]) => row));
}

/** Numbers before text, and cells without a value last whichever way it sorts. */
function compare(a: string | number | null, b: string | number | null, upwards: boolean): number {
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  const order = typeof a === "number" && typeof b === "number" ? a - b
    : typeof a === "number" ? -1 : typeof b === "number" ? 1 : a.localeCompare(b, "en", { numeric: true });
  return upwards ? order : -order;
}

function valueOf(cell: HTMLTableCellElement | undefined): string | number | null {
  const text = textOf(cell);
  if (text === "" || text === "–") return null;
  const value = Number(text.replace(/−/g, "-").replace(/,/g, ""));
  return Number.isNaN(value) ? text : value;
}

function textOf(cell: HTMLTableCellElement | undefined): string {
  return cell?.dataset.value ?? cell?.textContent?.trim() ?? "";
}

function asText(table: HTMLTableElement): string {
  return [...table.rows].map((row) => [...row.cells].map((cell) => textOf(cell).replace(/[\t\r\n]+/g, " ")).join("\t")).join("\n");
}
