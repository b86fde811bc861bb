// Which alarms are open, and which of them is the worst. No page here: this is what tests hold to.

export interface Standing {
  kind: "alarm" | "rule";
  severity: "info" | "warning" | "critical" | null;
  state: string;
  active: boolean;
  acting: boolean;
  shadow: boolean;
  raised: string | null;
  id: string;
}

/** `now`: somebody has to look; `seen`: somebody has, and it goes on; `quiet`: nobody is told of it; `trial`: it only tries. */
export type Group = "now" | "seen" | "quiet" | "trial";
const SEVERITIES = ["critical", "warning", "info"];
/** Over, but still to be acknowledged, comes after what is going on. */
const STATES = ["latched", "unacknowledged", "returned", "acknowledged", "shelved", "suppressed", "normal"];

/** Where an alarm is shown among the open ones; undefined: it isn't open. Rules are never open, they only act. */
export function group(one: Standing): Group | undefined {
  if (one.kind === "rule") return undefined;
  if (one.state === "shelved" || one.state === "suppressed") return "quiet";
  if (one.state === "normal" && !one.active && !one.acting) return undefined;
  if (one.shadow) return "trial";
  return one.state === "acknowledged" || one.state === "normal" ? "seen" : "now";
}

const rank = (list: readonly string[], word: string | null): number => (word !== null && list.includes(word) ? list.indexOf(word) : list.length);

/** The worst first: severity, then what nobody has seen, then the newest. */
export function worst(one: Standing, other: Standing): number {
  return (
    rank(SEVERITIES, one.severity) - rank(SEVERITIES, other.severity) ||
    rank(STATES, one.state) - rank(STATES, other.state) ||
    (other.raised ?? "").localeCompare(one.raised ?? "") ||
    one.id.localeCompare(other.id)
  );
}

/** The open ones by group, the worst first in each. */
export function open<A extends Standing>(all: readonly A[]): Record<Group, A[]> {
  const found: Record<Group, A[]> = { now: [], seen: [], quiet: [], trial: [] };
  for (const one of [...all].sort(worst)) {
    const at = group(one);
    if (at) found[at].push(one);
  }
  return found;
}

/** Who or what caused an event: `user:ana` is ana. */
export function who(source: unknown): string {
  const text = typeof source === "string" ? source : "";
  return text.replace(/^user:/, "");
}

/** Whether an input of a condition is a signal, whose chart can be drawn; else it is calculated: `age(cp1)`. */
export const isSignal = (input: string): boolean => /^[\w-]+(\.[\w-]+)+$/.test(input);
