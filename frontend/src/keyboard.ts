// What a pointer does, done with keys: arrows move, Enter or Space chooses, Escape leaves; and a line says what is shown.

import { element } from "./dom";

const STEPS: Record<string, readonly [row: number, column: number]> = {
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
};

export interface Cells {
  rows: number;
  columns: number;
  /** Whether the first row is the lowest, as in maps of layers. */
  upwards?: boolean;
  /** Where the first key press goes, [row, column]. */
  start?: readonly [number, number];
  onMove(row: number, column: number): void;
  onChoose?(row: number, column: number): void;
  onLeave?(): void;
}

export interface Cursor {
  /** Tell the cursor where the pointer has been, so that keys go on from there. */
  at(row: number, column: number): void;
  /** Change how many cells there are. */
  resize(rows: number, columns: number): void;
}

/** Move about a picture of cells that are no elements of their own, such as a heat map's: the picture takes the focus. */
export function cursor(picture: HTMLElement, cells: Cells): Cursor {
  let [row, column] = cells.start ?? [0, 0];
  picture.tabIndex = 0;
  const move = (to: readonly [number, number]): void => {
    row = Math.min(cells.rows - 1, Math.max(0, to[0]));
    column = Math.min(cells.columns - 1, Math.max(0, to[1]));
    cells.onMove(row, column);
  };
  picture.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (step !== undefined) move([row + (cells.upwards ? -step[0] : step[0]), column + step[1]]);
    else if (event.key === "Home") move([row, 0]);
    else if (event.key === "End") move([row, cells.columns - 1]);
    else if (event.key === "Enter" || event.key === " ") cells.onChoose?.(row, column);
    else if (event.key === "Escape") picture.blur();
    else return;
    event.preventDefault();
  });
  picture.addEventListener("focus", () => {
    // A click focuses too, and its own place counts.
    if (picture.matches(":focus-visible")) move([row, column]);
  });
  picture.addEventListener("blur", () => cells.onLeave?.());
  return {
    at(toRow, toColumn) {
      [row, column] = [toRow, toColumn];
    },
    resize(rows, columns) {
      [cells.rows, cells.columns] = [rows, columns];
      [row, column] = [Math.min(row, rows - 1), Math.min(column, columns - 1)];
    },
  };
}

export interface Roving {
  /** How many items stand in one line; all of them unless told. Up and down move a whole line. */
  columns?: number;
  onFocus?(index: number): void;
  onChoose?(index: number): void;
  onLeave?(): void;
}

/** Make one of many elements the one that Tab reaches, and let arrow keys move between them. */
export function roving(items: readonly HTMLElement[], how: Roving = {}): void {
  const columns = how.columns ?? items.length;
  items.forEach((item, index) => {
    item.tabIndex = index === 0 ? 0 : -1;
    item.addEventListener("focus", () => {
      items.forEach((other) => (other.tabIndex = other === item ? 0 : -1));
      how.onFocus?.(index);
    });
    item.addEventListener("blur", () => how.onLeave?.());
    item.addEventListener("keydown", (event) => {
      const step = STEPS[event.key];
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (step !== undefined) items[index + step[0] * columns + step[1]]?.focus();
      else if (event.key === "Home") items[0].focus();
      else if (event.key === "End") items[items.length - 1].focus();
      // A button chooses by itself, through its click.
      else if ((event.key === "Enter" || event.key === " ") && item.tagName !== "BUTTON") how.onChoose?.(index);
      else if (event.key === "Escape") item.blur();
      else return;
      if (item.tagName !== "BUTTON" || (event.key !== "Enter" && event.key !== " ")) event.preventDefault();
    });
    if (how.onChoose !== undefined) item.addEventListener("click", () => how.onChoose?.(index));
  });
}

/** A line under a picture that says, to the eye and to a screen reader, what is pointed at. */
export function liveLine(place: HTMLElement, atFirst: string): (text: string | null) => void {
  const line = element("p", { class: "live", "aria-live": "polite" }, atFirst);
  place.append(line);
  // It grows and never shrinks: what is below it would move away from under a pointer that is about to click there.
  window.addEventListener("resize", () => (line.style.minHeight = ""));
  return (text) => {
    line.textContent = text ?? atFirst;
    line.style.minHeight = `${Math.max(parseFloat(line.style.minHeight) || 0, line.offsetHeight)}px`;
  };
}
