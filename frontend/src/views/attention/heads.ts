// A small map of every head of a model, layers upwards: the way to choose one.

import { element } from "../../dom";
import { roving } from "../../keyboard";
import { percent } from "../../text";
import { colourAt, type Palette } from "../../theme";
import { attentionScale } from "./colours";
import type { Head, Reading } from "./data";

/** Pixels of a map's side, at most; larger patterns show the strongest weight of each square. */
const SIDE = 48;

export interface HeadMaps {
  readonly place: HTMLElement;
  choose(head: Head): void;
  paint(palette: Palette): void;
}

export interface Told {
  onChoose(head: Head): void;
  /** The head that is pointed at or focused; null when none is any more. */
  onPoint(head: Head | null): void;
}

export function headMaps(reading: Reading, marked: ReadonlySet<string>, study: string | null, told: Told): HeadMaps {
  const widest = Math.max(...reading.data.n_heads);
  const layers = [...reading.data.layers].reverse();
  const maps: { head: Head; button: HTMLButtonElement; canvas: HTMLCanvasElement | null }[] = [];
  const cells: HTMLElement[] = [element("span", {})];
  for (let head = 0; head < widest; head++) cells.push(element("span", { class: "heads-name" }, String(head)));
  for (const layer of layers) {
    cells.push(element("span", { class: "heads-name" }, String(layer)));
    for (let head = 0; head < widest; head++) {
      const map = makeMap(reading, [layer, head], marked.has(String([layer, head])));
      maps.push(map);
      cells.push(map.button);
    }
  }
  const grid = element("div", { class: "heads-grid", role: "group", "aria-label": "Heads: a small map of each; arrow keys move, Enter chooses" }, cells);
  grid.style.gridTemplateColumns = `max-content repeat(${widest}, minmax(22px, 48px))`;
  roving(maps.map(({ button }) => button), {
    columns: widest,
    onFocus: (i) => told.onPoint(maps[i].head),
    onLeave: () => told.onPoint(null),
    onChoose: (i) => {
      if (reading.has(maps[i].head)) told.onChoose(maps[i].head);
    },
  });
  maps.forEach(({ button, head }) => button.addEventListener("mouseenter", () => told.onPoint(head)));
  grid.addEventListener("mouseleave", () => told.onPoint(null));
  let painted: Palette | null = null;
  const place = element("div", { class: "heads" }, [
    element("p", { class: "heads-axes muted" }, [
      `${layers.length > 1 ? "Layers upwards, heads" : "Heads"} to the right; weights from 0 to 1 on a square-root scale.`,
      study !== null && marked.size > 0 && element("span", {}, [" ", element("span", { class: "swatch dot" }), ` survives in "${study}"`]),
    ]),
    element("div", { class: "scroll" }, grid),
  ]);
  return {
    place,
    choose(head) {
      for (const { button, head: its } of maps) {
        const chosen = String(its) === String(head);
        button.setAttribute("aria-pressed", String(chosen));
        button.tabIndex = chosen ? 0 : -1;
      }
      if (!maps.some(({ button }) => button.tabIndex === 0)) maps[0].button.tabIndex = 0;
    },
    paint(palette) {
      if (palette === painted) return;
      painted = palette;
      const scale = attentionScale(palette);
      // A table of 65 colours is as good as all of them.
      const colours = Array.from({ length: 65 }, (_, step) => channels(colourAt(scale, step / 64)));
      for (const { head, canvas } of maps) if (canvas !== null) draw(canvas, reading, head, colours);
    },
  };
}

function makeMap(reading: Reading, head: Head, marked: boolean): { head: Head; button: HTMLButtonElement; canvas: HTMLCanvasElement | null } {
  const kept = reading.has(head);
  const canvas = !reading.drawn(head) ? null : element("canvas", { "aria-hidden": "true" });
  const missing = canvas !== null ? ", only this small map is in the page" : reading.exists(head) ? ", left out of this page" : ", no such head";
  const label = `layer ${head[0]}, head ${head[1]}${marked ? ", survives in the study" : ""}${kept ? "" : missing}`;
  const state = kept ? "" : canvas !== null ? " small" : reading.exists(head) ? " left-out" : " none";
  return {
    head,
    canvas,
    button: element("button", { type: "button", class: `head${state}${marked ? " marked" : ""}`, "aria-label": label, "aria-pressed": "false", "aria-disabled": kept ? null : "true" }, canvas),
  };
}

/** A pattern in the canvas's pixels, queries downwards: of the weights that share a pixel, the strongest. */
function draw(canvas: HTMLCanvasElement, reading: Reading, head: Head, colours: readonly Channels[]): void {
  const map = reading.map(head, SIDE);
  const pen = canvas.getContext("2d");
  if (map === null || pen === null) throw new Error("this browser draws no pictures");
  const { side, shares } = map;
  [canvas.width, canvas.height] = [side, side];
  const image = pen.createImageData(side, side);
  for (let at = 0; at < shares.length; at++) image.data.set(colours[Math.round(64 * Math.min(1, shares[at]))], 4 * at);
  pen.putImageData(image, 0, 0);
}

type Channels = [red: number, green: number, blue: number, opacity: number];

function channels(colour: string): Channels {
  return [parseInt(colour.slice(1, 3), 16), parseInt(colour.slice(3, 5), 16), parseInt(colour.slice(5, 7), 16), 255];
}

/** Where a head looks, in words: means over the tokens from the third on. */
export function habit(reading: Reading, head: Head): string {
  const name = `Layer ${head[0]}, head ${head[1]}`;
  if (!reading.exists(head)) return `${name}: the model has no such head, or its layer was not captured.`;
  if (!reading.has(head)) return `${name}: left out of this page${reading.drawn(head) ? ", but for its small map" : ""}.`;
  if (reading.size < 3) return `${name}.`;
  const sums = [0, 0, 0];
  for (let query = 2; query < reading.size; query++) {
    [0, query - 1, query].forEach((key, i) => (sums[i] += reading.weight(head, query, key)));
  }
  const [first, before, itself] = sums.map((sum) => percent(sum / (reading.size - 2)));
  return `${name}: on average ${first} on the first token, ${before} on the token before, ${itself} on the token itself.`;
}
