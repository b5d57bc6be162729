// The colours of attention and of scores: both begin at the page's own shade, so that what is strong stands out.

import type { Palette } from "../../theme";

/** From no attention to the most: to orange. */
export function attentionScale({ diverging }: Palette): string[] {
  return diverging.slice((diverging.length - 1) / 2);
}

/** From a score of 0 to one of 1: to purple. */
export function scoreScale({ diverging }: Palette): string[] {
  return diverging.slice(0, (diverging.length + 1) / 2).reverse();
}

export function gradient(scale: readonly string[]): string {
  return `linear-gradient(90deg, ${scale.join(", ")})`;
}
