// What `enlace check` finds, in its own words.
import type { JSX } from "preact";
import { texts } from "../core/i18n.ts";
import { told } from "../core/told.ts";
import { Badge, type Tone } from "../ui/parts.tsx";

const say = texts({
  en: { error: "error", warning: "warning", info: "note" },
  es: { error: "error", warning: "aviso", info: "nota" },
});

export interface Finding {
  severity: "error" | "warning" | "info";
  where: string;
  what: string;
  hint: string;
}
const TONES: Readonly<Record<Finding["severity"], Tone>> = { error: "bad", warning: "warn", info: "info" };
const ORDER = ["error", "warning", "info"];

/** The worst first. `none`: said where there are none. */
export function Findings({ of, none }: { of: readonly Finding[]; none: string }): JSX.Element {
  if (!of.length) return <p class="good">{none}</p>;
  const sorted = [...of].sort((one, other) => ORDER.indexOf(one.severity) - ORDER.indexOf(other.severity));
  return (
    <ul class="lines">
      {sorted.map((one, index) => (
        <li key={index}>
          <div class="row">
            <Badge tone={TONES[one.severity]}>{say(one.severity)}</Badge>
            {one.where && <code class="dim">{one.where}</code>}
          </div>
          <div>{told(one.what)}</div>
          {one.hint && <div class="dim">→ {told(one.hint)}</div>}
        </li>
      ))}
    </ul>
  );
}
