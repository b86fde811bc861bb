// Events of the ledger as one line.
import { told } from "../core/told.ts";

/** What says most of an event, first. */
const FIRST = ["who", "by", "what", "target", "result", "reason", "text", "issuer", "action", "outcome"];
const MOST = 4;

/** The plain values of an event in a line: those that say most first, the rest by name. */
export function summary(data: Readonly<Record<string, unknown>>): string {
  const said = FIRST.map((key) => data[key]).filter((value) => typeof value === "string" && value !== "") as string[];
  if (said.length) return said.slice(0, MOST).map(told).join(" · ");
  const plain = Object.entries(data).filter(([, value]) => value !== null && value !== "" && typeof value !== "object");
  return plain.slice(0, MOST).map(([key, value]) => `${key} ${String(value)}`).join(" · ");
}
