// One axis of cells as bars: each with its interval, its control beside it, and a dot where it survives correction.

import { axis, tooltip, type Option } from "../../chart";
import { words } from "../../text";
import type { Palette } from "../../theme";
import { factList } from "./cell";
import { hatching, leastOf, type Slice } from "./heat";
import type { StudyMap } from "./data";

const WIDEST_LABEL = 165;

export function leastBarsWidth(map: StudyMap): number {
  return 80 + leastOf(map.sizes[0], 20);
}

function labelRoom(map: StudyMap): number {
  const longest = Math.max(...map.data.axes[0].entries.map((_, i) => map.entry(0, i).length));
  return longest > 2 ? Math.min(WIDEST_LABEL, 7 * longest + 4) : 18;
}

export function barsHeight(map: StudyMap): number {
  return 300 + labelRoom(map);
}

export function barsOption({ map, measure, chosen, drawn }: Slice, palette: Palette): Option {
  const { data } = map;
  const cells = data.axes[0].entries.map((_, cell) => cell);
  cells.forEach((cell) => drawn.set(cell, [0, cell]));
  const values = cells.map((cell) => map.measured(data.effect, cell, measure));
  const whiskers = cells.flatMap((cell) => {
    const ends = map.ends(data.sure.low, data.sure.high, cell, measure);
    return ends === null ? [] : [[cell, ...ends]];
  });
  const controls = cells.flatMap((cell) => {
    const mean = map.measured(data.sure.control_mean, cell, measure);
    return mean === null ? [] : [{ value: [cell, mean], cell }];
  });
  const controlSpread = cells.flatMap((cell) => {
    const ends = map.ends(data.sure.control_low, data.sure.control_high, cell, measure);
    return ends === null ? [] : [[cell, ...ends]];
  });
  const colour = (value: number): string => palette.diverging[value < 0 ? 2 : palette.diverging.length - 3];
  return {
    grid: { left: 76, right: 12, top: 24, bottom: labelRoom(map) + 34 },
    tooltip: tooltip(palette, (item) => {
      const cell: number | undefined = item.data?.cell;
      return cell === undefined ? null : factList(map.nameOf(cell), map.facts(cell));
    }),
    xAxis: axis(palette, words(data.axes[0].name), {
      type: "category",
      data: cells.map((cell) => map.entry(0, cell)),
      nameGap: labelRoom(map) + 12,
      axisLabel: { rotate: labelRoom(map) > 18 ? 90 : 0, interval: cells.length > 120 ? "auto" : 0, fontSize: 11 },
      axisLine: { onZero: false, lineStyle: { color: palette.muted } },
    }),
    yAxis: axis(palette, measure.unit, { type: "value", nameGap: 52, splitLine: { show: true, lineStyle: { color: palette.line } } }),
    series: [
      {
        type: "bar",
        data: cells.map((cell, i) => ({
          value: [cell, values[i] ?? 0],
          cell,
          itemStyle: {
            color: colour(values[i] ?? 0),
            ...(cell === chosen ? { borderColor: palette.mark, borderWidth: 3 } : {}),
          },
        })),
        barMaxWidth: 40,
        emphasis: { itemStyle: { borderColor: palette.mark, borderWidth: 2 } },
      },
      lines("interval", whiskers, 0, palette.mark, 2),
      lines("spread of controls", controlSpread, 8, palette.muted, 1.5),
      {
        type: "scatter",
        data: controls,
        symbol: "diamond",
        symbolSize: 9,
        symbolOffset: [8, 0],
        itemStyle: { color: palette.surface, borderColor: palette.muted, borderWidth: 2 },
        z: 6,
      },
      {
        type: "scatter",
        silent: true,
        symbolSize: 8,
        symbolOffset: [0, -10],
        // Over the bar's interval, so that it lies on no line.
        data: cells.flatMap((cell, i) => (map.survives.has(cell) ? [[cell, Math.max(0, values[i] ?? 0, map.ends(data.sure.low, data.sure.high, cell, measure)?.[1] ?? 0)]] : [])),
        itemStyle: { color: palette.mark, borderColor: palette.ring, borderWidth: 1, opacity: 1 },
        z: 7,
      },
      missingBands(cells.filter((_, i) => values[i] === null), palette),
    ],
  };
}

/** An upright line from a low to a high end at each of some places along the axis. */
function lines(name: string, ends: readonly (readonly number[])[], shift: number, colour: string, width: number): object {
  return {
    type: "custom",
    name,
    silent: true,
    data: ends,
    encode: { x: 0, y: [1, 2] },
    z: 5,
    renderItem: (_: unknown, api: any) => {
      const [x, low] = api.coord([api.value(0), api.value(1)]);
      const high = api.coord([api.value(0), api.value(2)])[1];
      return { type: "line", shape: { x1: x + shift, y1: low, x2: x + shift, y2: high }, style: { stroke: colour, lineWidth: width } };
    },
  };
}

/** A hatched band over the whole height where there is no cell. */
function missingBands(cells: readonly number[], palette: Palette): object {
  return {
    type: "custom",
    silent: true,
    data: cells.map((cell) => [cell, 0]),
    encode: { x: 0, y: 1 },
    renderItem: (params: any, api: any) => {
      const width = api.size([1, 0])[0] * 0.8;
      const { y, height } = params.coordSys;
      return {
        type: "rect",
        shape: { x: api.coord([api.value(0), 0])[0] - width / 2, y, width, height },
        style: { fill: palette.missing, decal: hatching(palette) },
      };
    },
  };
}
