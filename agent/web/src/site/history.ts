// The past of signals, as lines of a chart.
//
// 1. What did not change was not stored: a value holds until the next one. Where nothing was stored for longer than a few
//    intervals the line goes on level and then steps, instead of sloping through hours in which nothing happened.
// 2. What was not known is a gap.
import { useEffect, useState } from "preact/hooks";
import { type Answer, Refused, get } from "../core/api.ts";
import { clockOffset_ms, link, now, useLink } from "../core/live.ts";
import { useStore } from "../core/store.ts";
import type { Line } from "../ui/chart.tsx";

export type History = Answer<"/api/history">;
export interface Range {
  /** s since 1970. */
  from_s: number;
  to_s: number;
}

/** A line of a history. `title`: what it is called. */
export function lineOf(history: History, title = history.signal.name): Line {
  const { signal, points, interval_s } = history;
  const state = signal.kind !== "gauge";
  const holds_s = Math.max(2.5 * interval_s, 30);
  const times_s: number[] = [];
  const values: (number | null)[] = [];
  const low: (number | null)[] = [];
  const high: (number | null)[] = [];
  const push = (time_s: number, value: number | null, least: number | null, most: number | null): void => {
    times_s.push(time_s);
    values.push(value);
    low.push(least);
    high.push(most);
  };
  let last: number | null = null;
  let last_s = Number.NEGATIVE_INFINITY;
  for (const point of points) {
    const time_s = Date.parse(point.time) / 1000;
    if (last !== null && time_s - last_s > holds_s) push(time_s - 0.001, last, last, last);
    push(time_s, state ? point.last : (point.mean ?? point.last), point.min, point.max);
    if (point.last === null && values.at(-1) !== null) push(time_s + Math.max(interval_s, 0.001) * 0.999, null, null, null);
    last = point.last;
    last_s = time_s;
  }
  const to_s = Date.parse(history.to) / 1000;
  if (last !== null && to_s - last_s > holds_s) push(to_s, last, last, last);
  const line: Line = { name: title, unit: signal.unit, times_s, values, steps: state };
  if (!state && interval_s > 0) Object.assign(line, { low, high });
  if (Object.keys(signal.labels).length) line.labels = signal.labels;
  return line;
}

export interface Histories {
  of: readonly History[];
  /** Of which signals, and why not. */
  errors: readonly { name: string; why: string }[];
  busy: boolean;
}

const NOTHING: Histories = { of: [], errors: [], busy: true };

/** What this device's clock may differ before its last hour is another one than the gateway's. */
const CLOCK_STEP_MS = 10_000;

/** The histories of signals; `every_s` asks again, for a range that goes on to now, which is the gateway's. */
export function useHistories(names: readonly string[], range: Range | { last_s: number }, points: number, every_s = 0): Histories {
  const [found, set] = useState<Histories>(NOTHING);
  const offset = Math.round(useStore(clockOffset_ms) / CLOCK_STEP_MS);
  const key = JSON.stringify([names, range, points, "last_s" in range ? offset : 0]);
  // The live values tell the gateway's time. Without it, "the last hour" may be one that has not been.
  const waits = useLink() === "connecting" && "last_s" in range;
  useEffect(() => {
    if (waits) return undefined;
    const leaving = new AbortController();
    const ask = async (): Promise<void> => {
      const query = "last_s" in range ? { from: now() / 1000 - range.last_s, to: undefined } : { from: range.from_s, to: range.to_s };
      const answers = await Promise.allSettled(names.map((signal) => get("/api/history", { query: { signal, points, from: query.from.toFixed(3), to: query.to?.toFixed(3) }, signal: leaving.signal })));
      if (leaving.signal.aborted) return;
      const errors = answers.flatMap((one, index) => (one.status === "rejected" ? [{ name: names[index]!, why: one.reason instanceof Refused ? one.reason.message : String(one.reason) }] : []));
      set({ of: answers.flatMap((one) => (one.status === "fulfilled" ? [one.value] : [])), errors, busy: false });
    };
    set((before) => ({ ...before, busy: true }));
    void ask();
    const timer = every_s ? setInterval(() => !document.hidden && link.value === "live" && void ask(), every_s * 1000) : undefined;
    return () => {
      leaving.abort();
      clearInterval(timer);
    };
  }, [key, every_s, waits]);
  return found;
}
