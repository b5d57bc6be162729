// Light, dark, or as the system has it; and the colours that charts use in each. style.css holds those of the page.

export type Mode = "auto" | "light" | "dark";

export interface Palette {
  readonly dark: boolean;
  readonly surface: string;
  readonly text: string;
  readonly muted: string;
  readonly line: string;
  readonly accent: string;
  /** A mark on any colour of a scale, and the ring round it. */
  readonly mark: string;
  readonly ring: string;
  /** What does not exist, hatched. */
  readonly missing: string;
  readonly hatch: string;
  /** From the lowest over nothing to the highest: purple, the page's own shade, orange, as in the figures. */
  readonly diverging: readonly string[];
  readonly sequential: readonly string[];
  /** Okabe and Ito's, the ones that are hard to see on the surface last. */
  readonly categories: readonly string[];
}

// matplotlib's cividis at ten even places; it reads the same on both surfaces.
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];

const LIGHT: Palette = {
  dark: false,
  surface: "#ffffff",
  text: "#1b1c1f",
  muted: "#5b5f66",
  line: "#d5d8dd",
  accent: "#0b5cad",
  mark: "#000000",
  ring: "#ffffff",
  missing: "#e3e4e6",
  hatch: "#b4b7bc",
  diverging: ["#2d004b", "#542788", "#8073ac", "#b2abd2", "#d8daeb", "#f7f7f7", "#fee0b6", "#fdb863", "#e08214", "#b35806", "#7f3b08"],
  sequential: CIVIDIS,
  categories: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442"],
};

const DARK: Palette = {
  dark: true,
  surface: "#1d1f23",
  text: "#e9eaec",
  muted: "#a7abb3",
  line: "#43474e",
  accent: "#7cb8f2",
  mark: "#ffffff",
  ring: "#000000",
  missing: "#3a3d43",
  hatch: "#6a6e76",
  // The same two hues, with nothing at the surface's darkness, so that what is strong is what shines.
  diverging: ["#d9ccff", "#b7a3ee", "#9480d2", "#6f5ea6", "#4a416b", "#2b2d33", "#5e4326", "#8f5c1d", "#c47a1b", "#ee9f3f", "#ffcf8f"],
  sequential: CIVIDIS,
  categories: ["#56b4e9", "#e69f00", "#2fbf95", "#cc79a7", "#f0e442", "#d55e00", "#ffffff", "#4f9bd0"],
};

export interface Theme {
  readonly palette: Palette;
  /** Be told of a change of colours, until the function that is given back is called. */
  subscribe(changed: (palette: Palette) => void): () => void;
}

class PageTheme implements Theme {
  private mode: Mode = "auto";
  /** Whether the page is being laid out for paper. */
  printing = false;
  private readonly subscribers = new Set<(palette: Palette) => void>();
  private readonly system = window.matchMedia("(prefers-color-scheme: dark)");

  constructor() {
    this.system.addEventListener("change", () => this.tell());
    // Paper is white: charts are drawn in light colours for it.
    window.addEventListener("beforeprint", () => this.print(true));
    window.addEventListener("afterprint", () => this.print(false));
  }

  get palette(): Palette {
    if (this.printing) return LIGHT;
    return (this.mode === "auto" ? this.system.matches : this.mode === "dark") ? DARK : LIGHT;
  }

  subscribe(changed: (palette: Palette) => void): () => void {
    this.subscribers.add(changed);
    return () => this.subscribers.delete(changed);
  }

  choose(mode: Mode): void {
    this.mode = mode;
    if (mode === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = mode;
    this.tell();
  }

  private print(printing: boolean): void {
    this.printing = printing;
    this.tell();
  }

  private tell(): void {
    this.subscribers.forEach((changed) => changed(this.palette));
  }
}

export const theme = new PageTheme();

/** Black or white, whichever stands out more from a colour that is written as #rrggbb: always by 4.5 to 1 (WCAG 2.2). */
export function readableOn(colour: string): string {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : Math.pow((part + 0.055) / 1.055, 2.4);
  });
  // Of a luminance L, black stands out by (L + 0.05) / 0.05, and white by 1.05 / (L + 0.05).
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05 > Math.sqrt(0.05 * 1.05) ? "#000000" : "#ffffff";
}

/** The colour at a share, from 0 to 1, of a scale. */
export function colourAt(scale: readonly string[], share: number): string {
  const place = Math.min(1, Math.max(0, share)) * (scale.length - 1);
  const below = Math.min(scale.length - 2, Math.floor(place));
  const parts = [1, 3, 5].map((at) => {
    const [from, to] = [scale[below], scale[below + 1]].map((colour) => parseInt(colour.slice(at, at + 2), 16));
    return Math.round(from + (to - from) * (place - below)).toString(16).padStart(2, "0");
  });
  return `#${parts.join("")}`;
}
