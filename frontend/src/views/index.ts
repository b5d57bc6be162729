// The views by the name that a page's `data-view` gives them. A view of one's own: a file beside this one, a line below.

import type { Theme } from "../theme";
import { attentionView } from "./attention";
import { choiceView } from "./choice";
import { circuitView } from "./circuit";
import { headsView } from "./heads";
import { mapView } from "./map";
import { histogramView } from "./histogram";
import { levelsView } from "./levels";
import { responsesView } from "./responses";
import { sizesView } from "./sizes";

/** Fill an element from a section's data. Throws where the data are not what it can show. */
export type View = (place: HTMLElement, data: any, theme: Theme) => void;

export const views: Readonly<Record<string, View>> = {
  attention: attentionView,
  choice: choiceView,
  circuit: circuitView,
  heads: headsView,
  map: mapView,
  histogram: histogramView,
  levels: levelsView,
  responses: responsesView,
  sizes: sizesView,
};
