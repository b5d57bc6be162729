// A prompt's tokens as text that can be pointed at, gone through by keys, and pinned.

import { element } from "../../dom";
import { roving } from "../../keyboard";
import { plain } from "../../text";
import { colourAt, readableOn, type Palette } from "../../theme";
import { attentionScale, scoreScale } from "./colours";

/** Pixels of the bar of a score of 1. */
const TALLEST = 12;

export interface Colouring {
  /** The token that looks or is looked at; null where none is. */
  at: number | null;
  pinned: number | null;
  /** Each token's weight; null where it has no colour. */
  weights: readonly (number | null)[];
  /** The weight that has the strongest colour. */
  most: number;
  scores: readonly number[] | null;
}

export interface TokenText {
  readonly place: HTMLElement;
  paint(colouring: Colouring, palette: Palette): void;
}

export interface Told {
  onPoint(at: number | null, how: "pointer" | "focus"): void;
  onPin(at: number): void;
}

export function tokenText(tokens: readonly string[], name: string, told: Told): TokenText {
  // Where words begin with their space, a token without one goes on with the word before.
  const spaced = tokens.some((token) => /^\s\S/.test(token));
  const buttons = tokens.map((token, at) =>
    element("button", {
      type: "button",
      class: `token${at > 0 && (!spaced || /^\s/.test(token)) ? " apart" : ""}`,
      "aria-label": `token ${at}: ${written(token)}`,
      "aria-pressed": "false",
    }, [element("span", { class: "token-text" }, written(token)), element("span", { class: "token-bar", "aria-hidden": "true" })]),
  );
  const pieces: HTMLElement[] = [];
  buttons.forEach((button, at) => {
    pieces.push(button);
    if (tokens[at].includes("\n")) pieces.push(element("br"));
  });
  const place = element("div", { class: "tokens", role: "group", "aria-label": `Tokens${name === "" ? "" : ` of ${name}`}: arrow keys move, Enter pins one, Escape leaves` }, pieces);
  roving(buttons, {
    onFocus: (at) => {
      // A click focuses too, and pins by itself.
      if (buttons[at].matches(":focus-visible")) told.onPoint(at, "focus");
    },
    onLeave: () => told.onPoint(null, "focus"),
    onChoose: (at) => told.onPin(at),
  });
  place.addEventListener("keydown", (event) => moveByLine(buttons, event));
  if (buttons.length > 0) {
    buttons[0].tabIndex = -1;
    buttons[buttons.length - 1].tabIndex = 0;
  }
  buttons.forEach((button, at) => button.addEventListener("mouseenter", () => told.onPoint(at, "pointer")));
  place.addEventListener("mouseleave", () => told.onPoint(null, "pointer"));
  return {
    place,
    paint({ at, pinned, weights, most, scores }, palette) {
      const [scale, ofScores] = [attentionScale(palette), scoreScale(palette)];
      buttons.forEach((button, i) => {
        const weight = weights[i];
        const colour = weight === null ? "" : colourAt(scale, most > 0 ? weight / most : 0);
        button.style.background = colour;
        button.style.color = colour === "" ? "" : readableOn(colour);
        button.classList.toggle("at", i === at);
        button.setAttribute("aria-pressed", String(i === pinned));
        const bar = button.lastElementChild as HTMLElement;
        bar.style.height = scores === null ? "0" : `${Math.round(TALLEST * scores[i])}px`;
        bar.style.background = scores === null ? "" : colourAt(ofScores, 0.4 + 0.6 * scores[i]);
      });
      place.classList.toggle("scored", scores !== null);
    },
  };
}

/** Up and down go to the nearest token of the line above or below, which only the page's layout knows. */
function moveByLine(buttons: readonly HTMLButtonElement[], event: KeyboardEvent): void {
  if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
  const here = (event.target as HTMLElement).getBoundingClientRect();
  const middle = here.left + here.width / 2;
  const boxes = buttons.map((button) => button.getBoundingClientRect());
  const beyond = boxes.filter((box) => (event.key === "ArrowUp" ? box.bottom <= here.top + 1 : box.top >= here.bottom - 1));
  if (beyond.length === 0) return;
  const line = event.key === "ArrowUp" ? Math.max(...beyond.map((box) => box.top)) : Math.min(...beyond.map((box) => box.top));
  const apart = (box: DOMRect): number => (Math.abs(box.top - line) < 2 ? Math.abs(box.left + box.width / 2 - middle) : Infinity);
  buttons[boxes.reduce((best, box, i) => (apart(box) < apart(boxes[best]) ? i : best), 0)].focus();
}

/** A token as it stands in the text: without the space before it, everything that cannot be seen made visible. */
export function written(token: string): string {
  const bare = /^ \S/.test(token) ? token.slice(1) : token;
  return plain(bare.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "·"), 60) || "∅";
}
