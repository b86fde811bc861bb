// From the gateway's own description of a device's keys (JSON Schema) to the fields of a form, and back to an entry.
// The form checks nothing but what a field can hold: the gateway is the judge.
import { told } from "../core/told.ts";

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type Entry = { readonly [key: string]: Json };

interface Property {
  type?: string;
  const?: Json;
  enum?: readonly Json[];
  anyOf?: readonly Property[];
  items?: Property;
  $ref?: string;
  description?: string;
  default?: Json;
  minimum?: number;
  maximum?: number;
}
export interface Schema {
  properties?: Readonly<Record<string, Property>>;
  required?: readonly string[];
}

export interface FieldOf {
  key: string;
  kind: "text" | "integer" | "number" | "yes-no" | "choice" | "list" | "json";
  required: boolean;
  hint: string;
  choices: readonly string[];
  /** What counts where nothing is said; empty: nothing does. */
  otherwise: string;
  min: number | undefined;
  max: number | undefined;
}

/** What an installer knows and must say, before what is seldom touched. */
const FIRST = ["id", "name", "profile", "protocol", "url", "port", "channel", "charge_point_id", "connectors", "unit_id", "phases", "max_current_a"];

function plain(property: Property): Property {
  const one = property.anyOf?.find((each) => each.type !== "null");
  return one ? { ...property, ...one, description: property.description ?? "" } : property;
}

function kindOf(property: Property): FieldOf["kind"] {
  if (property.enum) return "choice";
  if (property.type === "boolean") return "yes-no";
  if (property.type === "integer" || property.type === "number") return property.type;
  if (property.type === "array" && property.items?.type === "string") return "list";
  return property.type === "string" ? "text" : "json";
}

/** The fields of a device, but its driver. `first`: those that one says; `more`: those that are seldom touched. */
export function fieldsOf(schema: Schema): { first: FieldOf[]; more: FieldOf[] } {
  const required = schema.required ?? [];
  const all = Object.entries(schema.properties ?? {})
    .filter(([key]) => key !== "driver")
    .map(([key, given]): FieldOf => {
      const property = plain(given);
      const kind = kindOf(property);
      return {
        key,
        kind,
        required: required.includes(key),
        hint: property.description ?? "",
        choices: (property.enum ?? []).map(String),
        otherwise: kind === "json" ? "" : textOf(given.default ?? null),
        min: property.minimum,
        max: property.maximum,
      };
    });
  const rank = ({ key }: FieldOf): number => (FIRST.includes(key) ? FIRST.indexOf(key) : FIRST.length);
  const shown = (one: FieldOf): boolean => one.required || FIRST.includes(one.key);
  return { first: all.filter(shown).sort((one, other) => rank(one) - rank(other)), more: all.filter((one) => !shown(one)) };
}

/** A value as it stands in a field. */
export function textOf(value: Json | undefined): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "object") return Array.isArray(value) && value.every((one) => typeof one === "string") ? value.join(", ") : JSON.stringify(value);
  return String(value);
}

/** What was typed, as the entry wants it; undefined: nothing. Throws `SyntaxError` on JSON that is none. */
export function valueOf(field: FieldOf, text: string): Json | undefined {
  const said = text.trim();
  if (said === "") return undefined;
  if (field.kind === "integer" || field.kind === "number") {
    const figure = Number(said.replace(",", "."));
    return Number.isFinite(figure) ? figure : said; // the gateway says what is wrong with it
  }
  if (field.kind === "choice") return field.choices.length && field.choices.every((one) => /^-?\d+$/.test(one)) ? Number(said) : said;
  if (field.kind === "yes-no") return said === "true";
  if (field.kind === "list") return said.split(",").map((one) => one.trim()).filter(Boolean);
  return field.kind === "json" ? (JSON.parse(said) as Json) : said;
}

/** The entry with a key set or taken out; all others stay, also those that no form knows. */
export function withValue(entry: Entry, key: string, value: Json | undefined): Entry {
  const { [key]: _, ...rest } = entry;
  return value === undefined ? rest : key in entry ? Object.fromEntries(Object.entries(entry).map(([each, old]) => [each, each === key ? value : old])) : { ...rest, [key]: value };
}

/** A name for a device that nobody has yet: `meter`, `meter2`, … */
export function freeId(wanted: string, taken: readonly string[]): string {
  const base = wanted.replace(/[^A-Za-z0-9_-]/g, "_").replace(/^[_-]+/, "").slice(0, 60) || "device";
  for (let count = 1; ; count++) {
    const id = count === 1 ? base : `${base.replace(/\d+$/, "")}${count}`;
    if (!taken.includes(id)) return id;
  }
}

/** What the gateway found wrong, by the key that it is about; `""`: about the whole. Without a list, its message may name one. */
export function byKey(problem: { errors?: readonly object[] }, message = ""): Readonly<Record<string, string>> {
  const named = /`(\w+)[`.\[]/.exec(message)?.[1];
  if (!problem.errors?.length && named) return { [named]: message };
  const found: Record<string, string> = {};
  for (const each of (problem.errors ?? []) as { key?: string; where?: string; what: string; hint?: string }[]) {
    const where = each.key ?? (each.where ?? "").replace(/^body\./, "");
    const key = where.split(".")[0] ?? "";
    found[key] = [found[key], told(each.what), told(each.hint)].filter(Boolean).join("; ");
  }
  return found;
}
