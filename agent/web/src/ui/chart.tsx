// A chart of signals over time: one axis per unit, zoom by dragging, double click goes back, gaps stay gaps.
// uPlot draws on a canvas; a table of the same figures stands beside it for who can't see it.
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { dayMonth, hourMinute, marks, moment, quantity } from "../core/format.ts";
import { useLanguage, word } from "../core/i18n.ts";
import { theme } from "../core/theme.ts";
import { useStore } from "../core/store.ts";
import { zone } from "../core/zone.ts";
import { LEAST_PX, dragByTouch } from "./touch.ts";

export interface Line {
  name: string;
  unit: string;
  /** Rising times in s, and a value (in the unit) or null for each. */
  times_s: readonly number[];
  values: readonly (number | null)[];
  /** Lowest and highest of each interval, drawn as a band. */
  low?: readonly (number | null)[];
  high?: readonly (number | null)[];
  /** States and counters hold their value until the next. */
  steps?: boolean;
  /** What the values of a state are called. */
  labels?: Readonly<Record<string, string>>;
}

const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6"] as const;

/** `zoom`: told which range was dragged out, s. */
export function Chart({ lines, label, zoom, height = 260, from_s, to_s }: {
  lines: readonly Line[];
  label: string;
  zoom?: (from_s: number, to_s: number) => void;
  height?: number;
  from_s?: number;
  to_s?: number;
}): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const readout = useRef<HTMLParagraphElement>(null);
  const shown = useStore(theme);
  const language = useLanguage();
  const clock = useStore(zone);
  const asked = useRef(zoom);
  asked.current = zoom;
  useEffect(() => {
    const place = box.current;
    if (!place || !lines.length) return undefined;
    const plot = new uPlot(options(place, lines, height, asked, from_s, to_s, readout), columns(lines), place);
    const watch = new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height }));
    watch.observe(place);
    const letGo = dragByTouch(plot);
    return () => {
      letGo();
      watch.disconnect();
      plot.destroy();
    };
  }, [lines, height, shown, language, clock, from_s, to_s]);
  return (
    <div>
      <div ref={box} class="chart" role="img" aria-label={label} />
      <p ref={readout} class="readout" aria-hidden="true" />
    </div>
  );
}

/** A value of a line as text: its label where it is a state that has one. */
export const shownOf = (line: Line, value: number | null | undefined): string =>
  (value === null || value === undefined ? undefined : word(line.labels?.[value])) || quantity(value, line.unit);

/** Lines share an axis where they share a unit; a state with labels has one for itself. */
const scaleOf = (line: Line): string => (line.labels ? `state ${line.name}` : line.unit || "1");

/** What stands under the pointer, written below the chart. */
function tellValues(plot: uPlot, lines: readonly Line[], place: HTMLElement | null): void {
  if (!place) return;
  const at = plot.cursor.idx;
  if (at === null || at === undefined) {
    place.textContent = "";
    return;
  }
  const values = lines.map((line, index) => {
    const column = plot.data[1 + 3 * index] as (number | null | undefined)[];
    let found = at;
    while (found > 0 && column[found] === undefined) found--; // another line has a point here, this one has none
    return `${line.name} ${shownOf(line, column[found])}`;
  });
  place.textContent = [moment((plot.data[0][at] ?? 0) * 1000), ...values].join("  ·  ");
}

function columns(lines: readonly Line[]): uPlot.AlignedData {
  const tables = lines.map((line) => [line.times_s, line.values, line.low ?? line.values, line.high ?? line.values] as unknown as uPlot.AlignedData);
  return uPlot.join(tables, tables.map(() => [0, 1, 1, 1])) as uPlot.AlignedData;
}

function options(place: HTMLElement, lines: readonly Line[], height: number, zoom: { current: ((from_s: number, to_s: number) => void) | undefined }, from_s: number | undefined, to_s: number | undefined, readout: { current: HTMLElement | null }): uPlot.Options {
  const style = getComputedStyle(place);
  const of = (name: string): string => style.getPropertyValue(name).trim();
  const kinds = [...new Map(lines.map((line) => [scaleOf(line), line])).values()];
  const series: uPlot.Series[] = [{}];
  const bands: uPlot.Band[] = [];
  lines.forEach((line, index) => {
    const colour = of(COLOURS[index % COLOURS.length]!);
    const paths = line.steps ? uPlot.paths.stepped!({ align: 1 }) : uPlot.paths.linear!();
    const scale = scaleOf(line);
    series.push({ label: line.name, scale, stroke: colour, width: 2, paths, points: { show: line.values.length < 3 }, value: (_, value) => quantity(value, line.unit) });
    for (const _ of ["low", "high"]) series.push({ scale, stroke: "transparent", width: 0, paths, points: { show: false } });
    bands.push({ series: [series.length - 1, series.length - 2], fill: `${colour}33` });
  });
  const scales: Record<string, uPlot.Scale> = { x: { time: true, ...(from_s !== undefined && to_s !== undefined ? { range: [from_s, to_s] as [number, number] } : {}) } };
  const font = `12px ${style.fontFamily}`;
  const ticks: uPlot.Axis.Ticks = { stroke: of("--line"), width: 1, size: 5 };
  const axes: uPlot.Axis[] = [{ font, ticks, space: 60, stroke: of("--dim"), grid: { stroke: of("--line"), width: 1 }, values: (_, splits, _axis, _space, incr) => times(splits, incr) }];
  const narrow = place.clientWidth < 480;
  kinds.forEach((line, index) => {
    scales[scaleOf(line)] = line.labels ? { range: rangeOfStates } : {};
    const shown = (ticks: number[], step: number): string[] => (line.labels ? ticks.map((tick) => (Number.isInteger(tick) ? word(line.labels![tick]) : "")) : marks(ticks, step, line.unit));
    const axis: uPlot.Axis = { font, ticks, scale: scaleOf(line), side: index % 2 ? 1 : 3, size: line.labels ? 96 : narrow ? 62 : 68, gap: 3, stroke: kinds.length > 1 ? of(COLOURS[lines.indexOf(line) % COLOURS.length]!) : of("--dim"), grid: { show: index === 0, stroke: of("--line"), width: 1 }, values: (_plot, ticks, _axis, _space, step) => shown(ticks, step) };
    if (line.labels) axis.splits = (_plot, _axis, least, most) => Array.from({ length: Math.floor(most) - Math.ceil(least) + 1 }, (_, n) => Math.ceil(least) + n);
    // A phone has room for two axes; the others' values are read in the line below the chart.
    axes.push(narrow && index > 1 ? { ...axis, show: false } : axis);
  });
  return {
    width: place.clientWidth || 300,
    height,
    series,
    bands,
    scales,
    axes,
    ...(zone.value ? { tzDate: (time_s: number) => uPlot.tzDate(new Date(time_s * 1000), zone.value!) } : {}),
    legend: { show: false },
    cursor: { drag: { x: true, y: false, setScale: false } },
    hooks: {
      setCursor: [(plot) => tellValues(plot, lines, readout.current)],
      setSelect: [
        (plot) => {
          const { left, width } = plot.select;
          if (width < LEAST_PX) return;
          zoom.current?.(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
          plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        },
      ],
    },
  };
}

/** Times of an axis: hours as the reader writes them, and the day where it begins. */
function times(splits: readonly number[], incr_s: number): string[] {
  let before = "";
  return splits.map((time_s) => {
    const date = dayMonth(time_s * 1000);
    const clock = incr_s >= 86_400 ? "" : hourMinute(time_s * 1000, incr_s < 60);
    const text = [clock, date === before ? "" : date].filter(Boolean).join("\n");
    before = date;
    return text;
  });
}

const rangeOfStates = (_: uPlot, least: number | null, most: number | null): [number, number] => [(least ?? 0) - 0.4, (most ?? 1) + 0.4];

/** Which colour is whose. */
export const Legend = ({ lines }: { lines: readonly Line[] }): JSX.Element => (
  <ul class="legend">
    {lines.map((line, index) => (
      <li key={line.name}>
        <span class={`swatch c${(index % COLOURS.length) + 1}`} aria-hidden="true" />
        {line.name} <strong>{shownOf(line, line.values.findLast((value) => value !== null))}</strong>
      </li>
    ))}
  </ul>
);
