// Languages. Each page keeps its own words beside it: `const say = texts({en: {...}, es: {...}})`, then `say("key")`.
// TypeScript refuses a text that one of the languages lacks.
import { Store, useStore } from "./store.ts";

export type Language = "en" | "es";
export const LANGUAGES: Readonly<Record<Language, string>> = { en: "English", es: "Español" };
const KEPT = "enlace.language";

function first(): Language {
  const kept = read(KEPT);
  if (kept === "en" || kept === "es") return kept;
  return globalThis.navigator?.language?.toLowerCase().startsWith("es") ? "es" : "en";
}

/** What this browser keeps of us; nothing where it keeps nothing (private windows may refuse). */
export function read(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function keep(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // It holds until the page is left.
  }
}

export const language = new Store<Language>(first());

export function setLanguage(next: Language): void {
  keep(KEPT, next);
  language.value = next;
  document.documentElement.lang = next;
}

/** The language, rendered anew when it changes: the root of the page uses it, so no other component has to. */
export const useLanguage = (): Language => useStore(language);

type Values = Readonly<Record<string, string | number>>;
export type Words<K extends string> = (key: K, values?: Values) => string;

/** Words of one page. `{name}` in a text is filled from the values. */
export function texts<const E extends Record<string, string>>(both: {
  en: E;
  es: { [K in keyof E]: string };
}): Words<keyof E & string> {
  return (key, values) => {
    const text: string = both[language.value][key];
    return values ? text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole)) : text;
  };
}

/** The gateway's own closed lists of words (states, outcomes, severities, roles) in the reader's language; as is where unknown. */
export function word(code: string | null | undefined): string {
  if (!code) return "";
  return wordOf(code) ?? code.replaceAll("_", " ");
}

/** The same; undefined for what is none of those words, and in English. */
export const wordOf = (code: string): string | undefined => (language.value === "es" && Object.hasOwn(SPANISH, code) ? SPANISH[code] : undefined);

const SPANISH: Readonly<Record<string, string>> = {
  on: "encendida", off: "apagada", online: "en línea", offline: "sin conexión", starting: "iniciando", unsupported: "no compatible",
  critical: "crítica", warning: "aviso", info: "información", normal: "normal", active: "activa", acknowledged: "reconocida",
  shelved: "aplazada", suppressed: "suprimida", latched: "retenida", returned: "terminó sin reconocer", cleared: "despejada", raised: "surgida", pending: "pendiente",
  viewer: "lectura", operator: "operador", admin: "administrador", unacknowledged: "sin reconocer",
  done: "hecho", rejected: "rechazado", failed: "fallido", expired: "caducado", superseded: "sustituido",
  Available: "Libre", Preparing: "Preparando", Charging: "Cargando", SuspendedEV: "Pausa del vehículo", SuspendedEVSE: "Pausa del cargador",
  Finishing: "Terminando", Reserved: "Reservada", Unavailable: "No disponible", Faulted: "Averiada", Occupied: "Ocupada",
  running: "en marcha", waiting: "en espera", finished: "terminado", planned: "planificado", scheduled: "programado", cancelled: "cancelado",
  charging: "cargando", discharging: "descargando", idle: "en reposo", standby: "en espera", full: "llena", empty: "vacía", balancing: "equilibrando", fault: "fallo",
  error: "error", ok: "bien", high: "alta", medium: "media", low: "baja",
};
