// How a device is: one look says whether it is heard, and what to do where it is not.
import type { JSX } from "preact";
import type { Item } from "../core/api.ts";
import { ago, duration, number } from "../core/format.ts";
import { texts, word } from "../core/i18n.ts";
import { useLink } from "../core/live.ts";
import { to } from "../core/route.ts";
import { may } from "../core/session.ts";
import { told } from "../core/told.ts";
import { driverName } from "../setup/labels.ts";
import { patienceOf } from "../setup/patience.ts";
import { Test, tryDevice } from "../setup/test.tsx";
import { Badge, type Tone } from "../ui/parts.tsx";
import { useSince } from "./ticking.ts";

const say = texts({
  en: { heard: "heard {time} ago", never: "never heard", signals: "{known} of {total} values known", next: "next try in {time}", now: "tried now", wire: "Wire", address: "Address", restarts: "Opened again", times: "{count} times", since: "since {ago}", model: "Model", driver: "How", details: "Open", old: "old" },
  es: { heard: "oído hace {time}", never: "nunca oído", signals: "{known} de {total} valores conocidos", next: "próximo intento en {time}", now: "se intenta ahora", wire: "Bus", address: "Dirección", restarts: "Abierto de nuevo", times: "{count} veces", since: "desde {ago}", model: "Modelo", driver: "Cómo", details: "Abrir", old: "antiguo" },
});

export type Device = Item<"/api/devices">;
const TONES: Readonly<Record<string, Tone>> = { online: "good", offline: "bad", starting: "info", unsupported: "warn" };
/** Older than this, it is worth a word even of a device that is online. */
const OLD_S = 120;

export const StateBadge = ({ of }: { of: Device }): JSX.Element => <Badge tone={TONES[of.state] ?? "dim"}>{word(of.state)}</Badge>;

/** How long ago it was heard; goes on while nothing newer is known. */
export function Heard({ of }: { of: Device }): JSX.Element {
  const since_s = useSince(of);
  const lost = useLink() !== "live";
  if (of.age_s === null) return <span class="warn">{say("never")}</span>;
  const age_s = of.age_s + since_s;
  return <span class={lost || age_s > OLD_S ? "stale" : "dim"}>{say("heard", { time: duration(Math.floor(age_s)) })}</span>;
}

/** What went wrong last, what to do, and when it is tried again. */
export function Trouble({ of }: { of: Device }): JSX.Element | null {
  const since_s = useSince(of);
  if (of.state === "online" || (!of.last_error && of.next_try_s === null)) return null;
  const left_s = of.next_try_s === null ? undefined : of.next_try_s - since_s;
  return (
    <div class={`alert ${of.state === "offline" ? "bad" : "warn"}`}>
      {of.last_error && <div>{told(of.last_error)}</div>}
      {of.hint && <div>→ {told(of.hint)}</div>}
      {left_s !== undefined && <small>{left_s >= 1 ? say("next", { time: duration(left_s) }) : say("now")}</small>}
    </div>
  );
}

export function Facts({ of }: { of: Device }): JSX.Element {
  const rows: [string, string][] = [
    [say("driver"), driverName(of.driver)],
    [say("model"), of.profile],
    [say("address"), of.address],
    [say("wire"), of.wire && !of.address.startsWith(of.wire) ? of.wire : ""],
    [say("restarts"), of.restarts ? say("times", { count: number(of.restarts) }) : ""],
  ];
  return (
    <dl class="facts">
      {rows.filter(([, value]) => value).map(([name, value]) => (
        <>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </>
      ))}
    </dl>
  );
}

export function DeviceCard({ of }: { of: Device }): JSX.Element {
  const { state } = of;
  const details = (
    <a class="button" href={to("devices", of.id)}>
      {say("details")}
    </a>
  );
  return (
    <article class={`card device ${state === "offline" ? "bad" : state === "unsupported" ? "warn" : ""}`} aria-label={of.id}>
      <header>
        <h2>
          <a class="plain" href={to("devices", of.id)}>
            {of.name || of.id}
          </a>
        </h2>
        <StateBadge of={of} />
      </header>
      <p class="dim">
        {of.name && `${of.id} · `}
        {driverName(of.driver)}
        {of.profile && ` · ${of.profile}`}
      </p>
      <p class="row">
        <Heard of={of} />
        <span class={of.known < of.signals ? "" : "dim"}>{say("signals", { known: number(of.known), total: number(of.signals) })}</span>
        {of.since && state !== "online" && <span class="dim">{say("since", { ago: ago(of.since) })}</span>}
      </p>
      <Trouble of={of} />
      {of.testable && may("operator") ? <Test patience_s={patienceOf(of.driver, of.profile)} run={() => tryDevice(of.id)}>{details}</Test> : <div class="actions">{details}</div>}
    </article>
  );
}
