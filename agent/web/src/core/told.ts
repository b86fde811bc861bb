// What the gateway says (reasons, findings, texts of alarms, refusals) in the reader's language: `told(text)`.
//
// The catalogue of a language is a chunk of its own, loaded when it is first needed; until it is there, and where it can't
// be loaded, sentences are shown as they came. The root of the page renders all anew when it comes.
import { moment, number } from "./format.ts";
import { language, wordOf } from "./i18n.ts";
import { type Catalogue, translator } from "./said.ts";
import { Store } from "./store.ts";

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/;

/** A number as the gateway writes it, with as many digits in the reader's way. */
export function figure(text: string): string {
  const share = text.endsWith("%");
  const plain = (share ? text.slice(0, -1) : text).replaceAll(",", "");
  if (!/^[-+]?\d+(\.\d+)?$/.test(plain)) return text;
  const shown = number(Number(plain), plain.split(".")[1]?.length ?? 0);
  return `${plain.startsWith("+") ? "+" : ""}${shown}${share ? " %" : ""}`;
}

export const tellsIn = (catalogue: Catalogue): ((text: string) => string) =>
  translator(catalogue, { number: figure, word: (text) => (TIME.test(text) ? moment(text) : wordOf(text)) });

/** What says Spanish; undefined while it is not loaded. */
export const spanish = new Store<{ readonly say: (text: string) => string } | undefined>(undefined);

/** Load what the language needs. */
export async function learn(): Promise<void> {
  if (language.value !== "es" || spanish.value) return;
  try {
    spanish.value = { say: tellsIn((await import("../said/es.json")).default) };
  } catch {
    // The next change of language tries again.
  }
}

/** A sentence of the gateway in the reader's language; names, and what people wrote, as they are. */
export function told(text: string | null | undefined): string {
  if (!text) return "";
  return language.value === "es" && spanish.value ? spanish.value.say(text) : text;
}
