// Live values from /api/live. Rules:
//
// 1. One stream for the whole page. What it says is kept by signal; components render when their signals change.
// 2. The gateway says something at least each 15 s. A stream that is silent for longer than SILENT_MS is given up and opened
//    anew: a half-open connection looks like a quiet one otherwise.
// 3. While there is no stream, nothing is live: whoever shows a value shows it as stale.
// 4. Values arrive up to five times a second; components are told once a frame.
import { useEffect, useState } from "preact/hooks";
import { Store, useStore } from "./store.ts";

export interface Value {
  id: number;
  name: string;
  value: number | null;
  label: string | null;
  unit: string;
  time: string | null;
  age_s: number | null;
}

export type Link = "connecting" | "live" | "lost";

const SILENT_MS = 40_000;
const RETRY_MS = 3_000;

export const link = new Store<Link>("connecting");
/** Grows whenever something happened that the ledger knows: alarms, switches, sessions, commands. */
export const news = new Store(0);
/** The gateway's clock less this device's, ms: ages of its times are right on a phone with a wrong clock. */
export const clockOffset_ms = new Store(0);

const values = new Map<string, Value>();
const names = new Store<readonly string[]>([]);
const waiting = new Map<string, Set<() => void>>();
const touched = new Set<() => void>();
let stream: EventSource | null = null;
let heard = 0;
let timer: ReturnType<typeof setInterval> | undefined;
let told = false;

function tellSoon(name: string): void {
  for (const key of [name, deviceOf(name), ""]) for (const listener of waiting.get(key) ?? []) touched.add(listener);
  if (told || !touched.size) return;
  told = true;
  const later = document.hidden ? (run: () => void) => setTimeout(run, 200) : requestAnimationFrame;
  later(() => {
    told = false;
    const now = [...touched];
    touched.clear();
    for (const listener of now) listener();
  });
}

export function deviceOf(name: string): string {
  return name.slice(0, name.indexOf("."));
}

interface Said {
  time: string;
  values: Value[];
}

function take(event: MessageEvent<string>, whole: boolean): void {
  heard = performance.now();
  const said = JSON.parse(event.data) as Said;
  clockOffset_ms.value = Math.round((Date.parse(said.time) - Date.now()) / 1000) * 1000;
  if (whole) {
    const gone = new Set(values.keys());
    for (const one of said.values) gone.delete(one.name);
    for (const name of gone) {
      values.delete(name);
      tellSoon(name);
    }
  }
  for (const one of said.values) {
    values.set(one.name, one);
    tellSoon(one.name);
  }
  if (names.value.length !== values.size || whole) names.value = [...values.keys()];
}

function open(): void {
  stream?.close();
  heard = performance.now();
  const source = new EventSource("/api/live");
  stream = source;
  source.addEventListener("snapshot", (event) => {
    take(event, true);
    link.value = "live";
  });
  source.addEventListener("change", (event) => take(event, false));
  source.addEventListener("beat", () => {
    heard = performance.now();
  });
  source.addEventListener("news", (event) => {
    heard = performance.now();
    news.value = (JSON.parse((event as MessageEvent<string>).data) as { newest: number }).newest;
  });
  source.addEventListener("error", () => {
    if (source !== stream) return;
    link.value = "lost";
    // A browser tries again by itself, but not after a refusal.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => source === stream && open(), RETRY_MS);
  });
}

/** Begin to listen; again is harmless. */
export function start(): void {
  if (stream) return;
  open();
  timer = setInterval(() => {
    if (performance.now() - heard < SILENT_MS) return;
    link.value = "lost";
    open();
  }, 5_000);
}

/** Listen no more, and forget what was heard: somebody else may log in. */
export function stop(): void {
  stream?.close();
  stream = null;
  clearInterval(timer);
  link.value = "connecting";
  values.clear();
  names.value = [];
}

function useListening<T>(key: string, look: () => T): T {
  const [, again] = useState(0);
  useEffect(() => {
    const listener = (): void => again((count) => count + 1);
    const listeners = waiting.get(key) ?? new Set();
    waiting.set(key, listeners.add(listener));
    listener();
    return () => {
      listeners.delete(listener);
      if (!listeners.size) waiting.delete(key);
    };
  }, [key]);
  return look();
}

/** A signal by its full name (`battery1.soc_pct`); undefined while nothing is known of it. */
export const useSignal = (name: string): Value | undefined => useListening(name, () => values.get(name));

/** All signals of a device by their point, in the order of the catalogue. */
export const useSignals = (device: string): ReadonlyMap<string, Value> =>
  useListening(device, () => {
    const found = [...values.values()].filter((one) => deviceOf(one.name) === device).sort((one, other) => one.id - other.id);
    return new Map(found.map((one) => [one.name.slice(device.length + 1), one]));
  });

/** The values of some signals, in the order of their names; undefined for those of which nothing is known. */
export function useSome(names: readonly string[]): readonly (Value | undefined)[] {
  const [, again] = useState(0);
  const key = names.join("\n");
  useEffect(() => {
    const listener = (): void => again((count) => count + 1);
    for (const name of key.split("\n")) waiting.set(name, (waiting.get(name) ?? new Set()).add(listener));
    listener();
    return () => {
      for (const name of key.split("\n")) {
        const listeners = waiting.get(name);
        listeners?.delete(listener);
        if (!listeners?.size) waiting.delete(name);
      }
    };
  }, [key]);
  return names.map((name) => values.get(name));
}

/** The names of all signals that were heard of. Renders only when there are others. */
export function useNames(): readonly string[] {
  return useStore(names);
}

/** All signals there are. Renders often: only where all are shown. */
export const useAllSignals = (): ReadonlyMap<string, Value> => useListening("", () => new Map(values));

/** Now, as the gateway's clock has it, ms. */
export const now = (): number => Date.now() + clockOffset_ms.value;
export const useLink = (): Link => useStore(link);
