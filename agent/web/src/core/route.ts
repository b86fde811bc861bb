// Where we are: the part of the address behind `#`, so that the gateway serves one page only.
import { Store } from "./store.ts";

export interface Place {
  page: string;
  /** Of what: a station's id and the like; empty where the page has none. */
  id: string;
  query: URLSearchParams;
}

/** `#/station/cp%2F1?tab=why` → page, id, query. */
export function parse(hash: string): Place {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [page = "", ...rest] = path.split("/");
  return { page: page || "site", id: decode(rest.join("/")), query: new URLSearchParams(query) };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The address of a page, for links. */
export function to(page: string, id = "", query: Readonly<Record<string, string>> = {}): string {
  const asked = new URLSearchParams(query).toString();
  return `#/${page}${id ? `/${encodeURIComponent(id)}` : ""}${asked ? `?${asked}` : ""}`;
}

export const place = new Store<Place>(parse(globalThis.location?.hash ?? ""));
globalThis.addEventListener?.("hashchange", () => {
  place.value = parse(location.hash);
});

export function go(page: string, id = "", query: Readonly<Record<string, string>> = {}): void {
  location.hash = to(page, id, query);
}

/** The address of the chart of some signals. */
export const chartOf = (...signals: readonly string[]): string => to("charts", "", { signals: signals.join(",") });
