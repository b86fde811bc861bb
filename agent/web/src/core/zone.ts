// The site's time zone: every time that the page shows, and every one that is typed, is of it, wherever the reader is.
// Until the site is known, and where a browser knows no such zone, it is the browser's own.
import { Store } from "./store.ts";

export const zone = new Store<string | undefined>(undefined);
const MINUTE_MS = 60_000;

/** The zone that the site has, once it is known. */
export function setZone(name: string | undefined): void {
  try {
    new Intl.DateTimeFormat("en-US", { timeZone: name });
    zone.value = name;
  } catch {
    zone.value = undefined;
  }
}

/** How far a zone is ahead of UTC at a time, ms. */
export function ahead_ms(time_ms: number, of: string | undefined = zone.value): number {
  const shown = new Intl.DateTimeFormat("en-US", { timeZone: of, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" }).formatToParts(time_ms);
  const part = (type: string): number => Number(shown.find((one) => one.type === type)?.value);
  return Date.UTC(part("year"), part("month") - 1, part("day"), part("hour"), part("minute"), part("second")) - Math.floor(time_ms / 1000) * 1000;
}

/** The time at which clocks there show what `wall_ms` is in UTC; of an hour that is shown twice the earlier one. */
export function atWall(wall_ms: number, of: string | undefined = zone.value): number {
  const first = wall_ms - ahead_ms(wall_ms, of);
  return wall_ms - ahead_ms(first, of);
}

/** A time as `datetime-local` wants it, which knows no zone. */
export function inputOf(time: number | string | null | undefined): string {
  if (time === null || time === undefined || time === "") return "";
  const time_ms = new Date(time).getTime();
  return new Date(time_ms + ahead_ms(time_ms)).toISOString().slice(0, 16);
}

/** What was typed there, ms since 1970; NaN: no time. */
export function typedTime(text: string): number {
  const wall_ms = Date.parse(`${text}Z`);
  return Number.isNaN(wall_ms) ? wall_ms : atWall(wall_ms);
}

/** When a day (`2026-11-21`) begins at the site; `add` days later. */
export function midnight(day: string, add = 0): string | undefined {
  if (!day) return undefined;
  const when = new Date(`${day}T00:00:00Z`);
  when.setUTCDate(when.getUTCDate() + add);
  return new Date(atWall(when.getTime())).toISOString();
}

const own = (): string => Intl.DateTimeFormat().resolvedOptions().timeZone;

/** Whether the site's clocks show another time than the reader's, now. */
export const isElsewhere = (now_ms: number): boolean => zone.value !== undefined && Math.abs(ahead_ms(now_ms) - ahead_ms(now_ms, own())) >= MINUTE_MS;
