// Periods of energy as bars. Pure.
//
// What is shown is named by the date: `2026-11-21` is a day in hours, `2026-11` a month in days, `2026` a year in months, all
// of the site's time zone, as the gateway's buckets are.
import { ahead_ms, atWall } from "../core/zone.ts";

export type Bucket = "hour" | "day" | "month";
export interface Period {
  from: string;
  to: string;
  wh: number | null;
  estimated: boolean;
}
export interface Bar {
  from: string;
  wh: number | null;
  /** Of the same place in the range before; null: not known. */
  before: number | null;
  estimated: boolean;
}

const BUCKETS: readonly Bucket[] = ["month", "day", "hour"];
/** The parts of a date that is a year, a month or a day; undefined for anything else. */
function parts(at: string): number[] | undefined {
  return /^\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?$/.test(at) ? at.split("-").map(Number) : undefined;
}

export const isDate = (at: string): boolean => parts(at) !== undefined;
export const bucketOf = (at: string): Bucket => BUCKETS[(parts(at) ?? [0]).length - 1]!;

const pad = (value: number): string => String(value).padStart(2, "0");

/** The same kind of range, so many earlier or later. */
export function moved(at: string, by: number): string {
  const [year = 1970, month, day] = parts(at) ?? [];
  if (month === undefined) return String(year + by);
  const date = new Date(Date.UTC(year, month - 1 + (day === undefined ? by : 0), day === undefined ? 1 : day + by));
  const text = `${date.getUTCFullYear()}-${pad(date.getUTCMonth() + 1)}`;
  return day === undefined ? text : `${text}-${pad(date.getUTCDate())}`;
}

/** When a day, month or year begins in a zone, ms since 1970. */
function begin_ms(at: string, zone: string | undefined): number {
  const [year = 1970, month = 1, day = 1] = parts(at) ?? [];
  return atWall(Date.UTC(year, month - 1, day), zone);
}

/** From when to when, ms since 1970; `to` is not included. */
export const rangeOf = (at: string, zone: string | undefined): { from_ms: number; to_ms: number } => ({ from_ms: begin_ms(at, zone), to_ms: begin_ms(moved(at, 1), zone) });

/** The date in the zone, to the length of `2026-11-21`, `2026-11` or `2026`. */
export function dateOf(time_ms: number, zone: string | undefined, bucket: Bucket = "hour"): string {
  const local = new Date(time_ms + ahead_ms(time_ms, zone)).toISOString();
  return local.slice(0, bucket === "hour" ? 10 : bucket === "day" ? 7 : 4);
}

/**
 * Bars of a range with those of the range before at the same places: the first day of a month with the first one of the other.
 * Hours go by the zone's clocks, so that a day on which they change is not an hour off; what one of the days lacks is not known.
 */
export function barsOf(periods: readonly Period[], before: readonly Period[], bucket: Bucket, zone: string | undefined): Bar[] {
  const place = (one: Period, index: number): number => (bucket === "hour" ? clockOf(one.from, zone) : index);
  const past = new Map<number, Period>();
  for (const [index, one] of before.entries()) if (!past.has(place(one, index))) past.set(place(one, index), one);
  return periods.map((one, index) => {
    const at = place(one, index);
    const was = past.get(at);
    past.delete(at); // of an hour that is there twice the first one is compared
    return { from: one.from, wh: one.wh, before: was?.wh ?? null, estimated: one.estimated };
  });
}

/** What the zone's clocks show, ms since their midnight. */
const clockOf = (time: string, zone: string | undefined): number => (Date.parse(time) + ahead_ms(Date.parse(time), zone)) % 86_400_000;

export interface Totals {
  wh: number | null;
  before: number | null;
  /** Against the range before, %: of the places alone that are known in both. */
  change_pct: number | null;
  missing: number;
  estimated: boolean;
}

/** `now_ms`: periods that have not begun are not missing. */
export function totalsOf(bars: readonly Bar[], now_ms: number): Totals {
  const known = bars.filter((one) => one.wh !== null);
  const both = known.filter((one) => one.before !== null);
  const sum = (values: readonly (number | null)[]): number => values.reduce<number>((total, one) => total + (one ?? 0), 0);
  const before = sum(both.map((one) => one.before));
  return {
    wh: known.length ? sum(known.map((one) => one.wh)) : null,
    before: both.length ? before : null,
    change_pct: both.length && before > 0 ? ((sum(both.map((one) => one.wh)) - before) / before) * 100 : null,
    missing: bars.filter((one) => one.wh === null && Date.parse(one.from) <= now_ms).length,
    estimated: known.some((one) => one.estimated),
  };
}

/** A round figure at or above the highest bar, and how many steps to it. */
export function scaleOf(highest: number): { top: number; steps: number } {
  if (!(highest > 0)) return { top: 1000, steps: 2 };
  const power = 10 ** Math.floor(Math.log10(highest));
  for (const [factor, steps] of [[1, 2], [1.5, 3], [2, 2], [3, 3], [4, 4], [5, 2], [6, 3], [8, 4], [10, 2]] as const) {
    if (factor * power >= highest) return { top: factor * power, steps };
  }
  return { top: 10 * power, steps: 2 };
}
