// What two checkpoints' differences are made of, as sections/sfn.py writes them.

type Numbers = readonly (number | null)[];

/** A map: its rows are layers, the lowest first; of each measure a value a cell. */
export interface Board {
  name: string;
  column: string;
  columns: readonly string[];
  rows: readonly string[];
  values: Readonly<Record<string, readonly Numbers[]>>;
  /** Cells, row and column, in which a weight has two humps that no null makes. */
  humps: readonly (readonly [number, number])[];
}

export interface Compared {
  name: string;
  boards: readonly Board[];
  /** Of how many weights it is known what explains their histogram, and how many have two humps of their own. */
  judged: number;
  bimodal: number;
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
  /** Those of the last checkpoint. */
  shapes: readonly Shape[];
}

/** Measures of which 0 is the middle of a scale and not its end. */
export const SIGNED = new Set(["cosine", "cosine_with_a"]);

/** What stands at a place of the histogram's map; a checkpoint before the last has none in the page. */
export function shapeAt(data: DeltaData, board: Board, row: number, column: number): Shape | undefined {
  if (board.column !== "module" || !data.checkpoints[data.checkpoints.length - 1].boards.includes(board)) return undefined;
  return data.shapes.find(({ module, layer }) => module === board.columns[column] && layer === board.rows[row]);
}

/** The measures that a board has, in the data's order. */
export function measuresOf(data: DeltaData, board: Board): string[] {
  const own = Object.keys(board.values);
  return [...Object.keys(data.measures).filter((name) => own.includes(name)), ...own.filter((name) => !(name in data.measures))];
}
