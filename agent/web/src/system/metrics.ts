// Figures that only /metrics has, in the Prometheus text format.
import { useEffect, useState } from "preact/hooks";
import { fetchAnswer } from "../core/api.ts";

export interface Sample {
  name: string;
  labels: Readonly<Record<string, string>>;
  value: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** The samples whose names begin so. */
export function samples(text: string, prefix: string): Sample[] {
  const found: Sample[] = [];
  for (const line of text.split("\n")) {
    if (!line.startsWith(prefix)) continue;
    const [, name, labels = "", value] = LINE.exec(line) ?? [];
    if (name === undefined || value === undefined) continue;
    const each = [...labels.matchAll(LABEL)].map(([, key = "", text = ""]) => [key, text.replace(/\\(.)/g, (_, one: string) => (one === "n" ? "\n" : one))]);
    found.push({ name, labels: Object.fromEntries(each) as Record<string, string>, value: Number(value) });
  }
  return found;
}

export class Figures {
  private readonly all: readonly Sample[];
  constructor(text: string) {
    this.all = samples(text, "enlace_");
  }
  /** Undefined where there is none: what is not known has no sample. */
  get(name: string, labels: Readonly<Record<string, string>> = {}): number | undefined {
    return this.all.find((one) => one.name === name && Object.entries(labels).every(([key, value]) => one.labels[key] === value))?.value;
  }
}

const EVERY_MS = 5_000;

/** Looked at each 5 s while the page is seen; undefined before the first answer. */
export function useFigures(): Figures | undefined {
  const [figures, set] = useState<Figures>();
  useEffect(() => {
    let gone = false;
    const look = async (): Promise<void> => {
      if (document.hidden) return;
      const text = await fetchAnswer("GET", "/metrics").then((answer) => answer.text(), () => undefined);
      if (!gone && text !== undefined) set(new Figures(text));
    };
    void look();
    const timer = setInterval(() => void look(), EVERY_MS);
    return () => {
      gone = true;
      clearInterval(timer);
    };
  }, []);
  return figures;
}
