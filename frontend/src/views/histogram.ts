// How the modules of two checkpoints differ: a map by layer and module, and behind each cell its histogram and its null.

import { makeChart, type Chart } from "../chart";
import { element, select } from "../dom";
import { cursor, liveLine, type Cursor } from "../keyboard";
import { capital, counted, number, plain, words } from "../text";
import { theme } from "../theme";
import { boardHeight, boardOption, ends, factsOf, leastBoardWidth, nameOf, scaleOf, type Shown } from "./histogram/board";
import { measuresOf, shapeAt, type Compared, type DeltaData } from "./histogram/data";
import { showShape, type ShownShape } from "./histogram/shape";

export function histogramView(place: HTMLElement, data: DeltaData): void {
  if (data.checkpoints.length === 0 || data.checkpoints.some(({ boards }) => boards.length === 0)) throw new Error("it compares no module");
  let checkpoint = data.checkpoints[data.checkpoints.length - 1];
  const shown: Shown = { data, board: checkpoint.boards[0], measure: measuresOf(data, checkpoint.boards[0])[0], chosen: null };
  const controls = element("div", { class: "controls" });
  const picture = element("div");
  const legend = element("div");
  const live = element("div");
  const below = element("div");
  place.append(controls, picture, legend, live, below);
  const hint = data.shapes.length > 0 ? "Point at a cell for its numbers; click it, or press Enter, for its histogram." : "Point at a cell for its numbers.";
  const say = liveLine(live, hint);
  let chart: Chart | null = null;
  let shape: ShownShape | null = null;

  function choose(cell: readonly [number, number] | null): void {
    const found = cell === null ? undefined : shapeAt(data, shown.board, ...cell);
    shape?.dispose();
    shape = null;
    shown.chosen = found === undefined ? null : cell;
    chart?.update();
    if (cell === null) return;
    const name = nameOf(shown.board, cell);
    if (found === undefined) {
      const last = data.checkpoints[data.checkpoints.length - 1];
      const why = data.shapes.length > 0 && checkpoint !== last && shown.board.column === "module" ? ` Those of ${plain(last.name, 40)} are: choose it above.` : "";
      say(`${name}: its histogram is not in the page.${why}`);
      return;
    }
    shape = showShape(below, found, `Relative change of ${name}`, data.formula, () => {
      choose(null);
      chart?.place.focus();
    });
    say(`${name}: its histogram is shown below.`);
  }
  function draw(): void {
    chart?.dispose();
    const made = makeChart(picture, (palette) => boardOption(shown, palette), {
      label: `${words(shown.measure)} of ${shown.board.name} of ${checkpoint.name} against ${data.a}. Arrow keys move from cell to cell, Enter shows a cell's histogram, Escape leaves.`,
      height: boardHeight(shown),
      least: leastBoardWidth(shown),
      shapes: shown.board.rows.length * shown.board.columns.length,
    });
    chart = made;
    listen(made, shown, say, choose);
    explain();
  }
  function explain(): void {
    legend.replaceChildren(key(shown, checkpoint));
  }
  function rebuild(): void {
    const measures = measuresOf(data, shown.board);
    if (!measures.includes(shown.measure)) shown.measure = measures[0];
    choose(null);
    controls.replaceChildren(
      ...(data.checkpoints.length > 1 ? [select("Checkpoint", data.checkpoints.map((each) => ({ value: each, label: plain(each.name, 40) })), checkpoint, (value) => {
        checkpoint = value;
        shown.board = value.boards.find(({ name }) => name === shown.board.name) ?? value.boards[0];
        rebuild();
      })] : []),
      ...(checkpoint.boards.length > 1 ? [select("Of", checkpoint.boards.map((each) => ({ value: each, label: capital(each.name) })), shown.board, (value) => {
        shown.board = value;
        rebuild();
      })] : []),
      select("Measure", measures.map((each) => ({ value: each, label: capital(words(each)) })), shown.measure, (value) => {
        shown.measure = value;
        chart?.update();
        explain();
      }),
    );
    draw();
  }
  theme.subscribe(explain);
  rebuild();
}

function key(shown: Shown, { judged, bimodal }: Compared): HTMLElement {
  const [low, high] = ends(shown);
  const bar = element("span", { class: "swatch scale" });
  bar.style.background = `linear-gradient(90deg, ${scaleOf(shown, theme.palette).join(", ")})`;
  const nowrap = (text: string): HTMLElement => element("span", { class: "nowrap" }, text);
  const lines = [element("li", {}, [nowrap(number(low)), bar, nowrap(number(high)), element("span", { class: "unit" }, shown.data.measures[shown.measure] ?? words(shown.measure))])];
  if (shown.board.values[shown.measure].flat().includes(null)) lines.push(element("li", {}, [element("span", { class: "swatch hatched" }), "no such module"]));
  if (shown.board.column === "module" && judged > 0) {
    lines.push(element("li", {}, [element("span", { class: "swatch dot" }), `two humps that no null makes, after correction: ${bimodal} of ${counted(judged, "weight")}`]));
  }
  return element("ul", { class: "legend" }, lines);
}

function listen(chart: Chart, shown: Shown, say: (text: string | null) => void, choose: (cell: readonly [number, number]) => void): Cursor {
  const { board } = shown;
  chart.place.setAttribute("role", "application");
  const sentence = (cell: readonly [number, number]): string => `${nameOf(board, cell)}: ${factsOf(shown.data, board, cell).map(({ name, value }) => `${name} ${value}`).join(", ")}.`;
  const leave = (): void => {
    [0, 1].forEach((seriesIndex) => chart.echarts.dispatchAction({ type: "downplay", seriesIndex }));
    chart.echarts.dispatchAction({ type: "hideTip" });
    say(null);
  };
  const point = (row: number, column: number): void => {
    const option = chart.echarts.getOption() as { series: { data: { cell?: number[] }[] }[] };
    for (const [seriesIndex, { data }] of option.series.slice(0, 2).entries()) {
      const dataIndex = data.findIndex(({ cell }) => cell !== undefined && cell[0] === row && cell[1] === column);
      chart.echarts.dispatchAction({ type: "downplay", seriesIndex });
      if (dataIndex < 0) continue;
      chart.echarts.dispatchAction({ type: "highlight", seriesIndex, dataIndex });
      const pixel = chart.echarts.convertToPixel({ seriesIndex }, [column, row]);
      if (Array.isArray(pixel)) chart.reveal(pixel[0]);
      chart.echarts.dispatchAction({ type: "showTip", seriesIndex, dataIndex });
    }
  };
  const keys = cursor(chart.place, {
    rows: board.rows.length,
    columns: board.columns.length,
    upwards: true,
    onMove(row, column) {
      point(row, column);
      say(sentence([row, column]));
    },
    onChoose(row, column) {
      choose([row, column]);
      point(row, column);
    },
    onLeave: leave,
  });
  chart.echarts.on("mouseover", (item: any) => {
    const cell = item.data?.cell;
    if (cell === undefined) return;
    keys.at(cell[0], cell[1]);
    say(sentence(cell));
  });
  chart.echarts.on("click", (item: any) => {
    if (item.data?.cell !== undefined) choose(item.data.cell);
  });
  chart.echarts.on("globalout", () => say(null));
  return keys;
}
