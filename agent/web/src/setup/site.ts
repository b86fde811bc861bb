// What is typed of the site, and of places to search, as the gateway wants it.
import type { Answer } from "../core/api.ts";

export type Site = Answer<"/api/site">;

/** What was typed, as far as it is another than before; a comma is taken for a point. What is no number goes as it is: the gateway says so. */
export function changed(of: Site, typed: Readonly<Record<string, string>>): Record<string, unknown> {
  const figure = (text: string): number | string | null => {
    const said = text.trim();
    const value = Number(said.replace(",", "."));
    return said === "" ? null : Number.isFinite(value) ? value : said;
  };
  const next: Record<string, unknown> = { id: typed["id"]?.trim(), name: typed["name"]?.trim(), timezone: typed["timezone"]?.trim(), import_limit_a: figure(typed["import_limit_a"] ?? ""), power_return_s: figure(typed["power_return_s"] ?? "") };
  return Object.fromEntries(Object.entries(next).filter(([key, value]) => !of.locked.includes(key) && value !== undefined && value !== of[key as keyof Site]));
}

/** Parts of a text, by commas or blanks. */
export const listOf = (text: string): string[] => text.split(/[\s,;]+/).filter(Boolean);
