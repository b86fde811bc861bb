// The range of a chart as its address holds it: `last` seconds up to now, or `from` and `to`. Pure.

export type Shown = { last_s: number } | { from_s: number; to_s: number };
const DAY_S = 86_400;
/** What is stored is of this time: nobody looks before it, and calendars end somewhere. */
const LAST_S = 50 * 365 * DAY_S;
const END_S = Date.UTC(2100, 0) / 1000;

/** A time of an address: ISO 8601, or seconds since 1970. */
function seconds(text: string | null): number | undefined {
  if (!text) return undefined;
  const found = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Date.parse(text) / 1000;
  return Number.isFinite(found) ? found : undefined;
}

/** What an address asks for; the last 24 hours where it says nothing that can be shown. */
export function shownOf(query: URLSearchParams): Shown {
  const from_s = seconds(query.get("from"));
  const to_s = seconds(query.get("to"));
  if (from_s !== undefined && to_s !== undefined && from_s >= 0 && to_s > from_s && to_s <= END_S) return { from_s, to_s };
  const last_s = Number(query.get("last"));
  return { last_s: last_s >= 1 ? Math.min(last_s, LAST_S) : DAY_S };
}

/** The same for an address. */
export function queryOf(shown: Shown): Record<string, string> {
  if ("last_s" in shown) return { last: String(Math.round(shown.last_s)) };
  return { from: new Date(Math.round(shown.from_s * 1000)).toISOString(), to: new Date(Math.round(shown.to_s * 1000)).toISOString() };
}

export const spanOf = (shown: Shown, now_s: number): { from_s: number; to_s: number } => ("last_s" in shown ? { from_s: now_s - shown.last_s, to_s: now_s } : shown);

/** The same length earlier or later, but not beyond now: what ends there goes on with it. */
export function panned(shown: Shown, by: number, now_s: number): Shown {
  const { from_s, to_s } = spanOf(shown, now_s);
  const length = to_s - from_s;
  const end = to_s + by * length;
  return end >= now_s ? { last_s: Math.min(length, LAST_S) } : { from_s: Math.max(0, end - length), to_s: Math.max(1, end) };
}

/** Three times as much around the same middle, as far as there is any. */
export function widened(shown: Shown, now_s: number): Shown {
  const { from_s, to_s } = spanOf(shown, now_s);
  const length = to_s - from_s;
  return to_s + length >= now_s ? { last_s: Math.min(Math.round(3 * length), LAST_S) } : { from_s: Math.max(0, from_s - length), to_s: to_s + length };
}

/** Times of all lines in order, no more than `most` of them. */
export function rowsOf(lines: readonly { times_s: readonly number[] }[], most: number): number[] {
  const all = [...new Set(lines.flatMap((one) => one.times_s.map((time) => Math.round(time))))].sort((one, other) => one - other);
  const step = Math.ceil(all.length / most);
  return all.filter((_, index) => index % step === 0);
}

/** What a line is at a time: its last value up to then. */
export function valueAt(line: { times_s: readonly number[]; values: readonly (number | null)[] }, time_s: number): number | null {
  let found: number | null = null;
  for (let index = 0; index < line.times_s.length && line.times_s[index]! <= time_s + 0.5; index++) found = line.values[index] ?? null;
  return found;
}
