// The edges that are shown, as a table that is made when it is opened.

import { element, refill } from "../../dom";
import { makeTable, type Value } from "../../table";
import { counted } from "../../text";
import { theme } from "../../theme";
import type { Shown } from "./shown";

export interface EdgeTable {
  place: HTMLElement;
  changed(): void;
}

/** The edges that are shown, as a table that is made when it is opened. */
export function edgeTable(shown: () => Shown): EdgeTable {
  const summary = element("summary"), body = element("div");
  const place = element("details", { class: "edges" }, [summary, body]);
  const fill = (): void => {
    if (!place.open) return;
    const now = shown();
    const { nodes, inputs, source, destination, graphs, unit } = now.layered.data;
    const edges = now.choice.pinned === null ? now.edges : now.edgesOf(now.choice.pinned);
    const score = (graph: number): string => `score${now.overlaid ? ` in ${graphs[graph].name}` : ""}${unit === "" ? "" : ` [${unit}]`}`;
    const columns = ["source", "destination", ...now.graphs.map(score), ...(now.overlaid ? ["in"] : []), ...now.graphs.flatMap((graph) => (graphs[graph].stability === null ? [] : ["in resamples"]))];
    const rows = edges.map((edge): Value[] => [
      nodes.names[source[edge]],
      inputs.names[destination[edge]],
      ...now.graphs.map((graph) => graphs[graph].scores[edge]),
      ...(now.overlaid ? [now.look(edge, theme.palette).told.replace(/^in /, "")] : []),
      ...now.graphs.flatMap((graph) => (graphs[graph].stability === null ? [] : [graphs[graph].stability!.edges[edge]])),
    ]);
    const table = makeTable(columns.map((name) => ({ name })), rows, "Edges of the circuit shown");
    table.querySelector(".scroll")?.classList.add("tall");
    refill(body, table);
  };
  place.addEventListener("toggle", fill);
  return {
    place,
    changed() {
      const now = shown();
      const n = now.choice.pinned === null ? now.edges.length : now.edgesOf(now.choice.pinned).length;
      summary.textContent = now.ofSize === null ? `The ${counted(n, "edge")} shown, as a table` : `The ${counted(n, "edge")} that are in the page, of ${now.ofSize.toLocaleString("en")}, as a table`;
      fill();
    },
  };
}
