// What two checkpoints' differences are made of, as sections/sfn.py writes them.

type Numbers = readonly (number | null)[];

/** A map: its rows are layers, the lowest first; of each measure a value a cell. */
export interface Board {
  name: string;
  column: string;
  columns: readonly string[];
  rows: readonly string[];
  values: Readonly<Record<string, readonly Numbers[]>>;
}

export interface Compared {
  name: string;
  boards: readonly Board[];
}

/** A module's histogram, as shares of its weights: over −1 to 1, and over −reach to reach of a sample. */
export interface Shape {
  module: string;
  layer: string;
  wide: Numbers;
  null: Readonly<Record<string, Numbers>> | null;
  reach: number;
  near: Numbers | null;
  near_null: Readonly<Record<string, Numbers>> | null;
  beyond: number;
  zeros: number;
  verdict: string | null;
  because: string | null;
  elements: number;
}

export interface DeltaData {
  a: string;
  /** What each measure is, with its unit. */
  measures: Readonly<Record<string, string>>;
  checkpoints: readonly Compared[];
  formula: "paper" | "code";
  shapes: readonly Shape[];
}

/** Measures of which 0 is the middle of a scale and not its end. */
export const SIGNED = new Set(["cosine", "cosine_with_a"]);

/** Two humps that neither null makes. */
export const BIMODAL = "bimodal";

/** What stands at a place of the histogram's map. */
export function shapeAt(data: DeltaData, board: Board, row: number, column: number): Shape | undefined {
  if (board.column !== "module") return undefined;
  return data.shapes.find(({ module, layer }) => module === board.columns[column] && layer === board.rows[row]);
}

/** The measures that a board has, in the data's order. */
export function measuresOf(data: DeltaData, board: Board): string[] {
  const own = Object.keys(board.values);
  return [...Object.keys(data.measures).filter((name) => own.includes(name)), ...own.filter((name) => !(name in data.measures))];
}
