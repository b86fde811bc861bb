// All alarms and rules, with their condition and how they stand.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { ago } from "../core/format.ts";
import { texts, word } from "../core/i18n.ts";
import { place, to } from "../core/route.ts";
import { told } from "../core/told.ts";
import { Badge, Card, Choice, Field } from "../ui/parts.tsx";
import { Acts, type Alarm, Inputs, toneOf } from "./card.tsx";
import { worst } from "./order.ts";

const say = texts({
  en: {
    search: "Search", what: "What", all: "alarms and rules", alarm: "alarms", rule: "rules", device: "Device", every: "all", shown: "{count} of {total}", when: "Condition", does: "Does", never: "never raised since the start",
    last: "last raised {ago}", nothing: "none", history: "History", unknown: "its condition can't be told now", trial: "on trial",
  },
  es: {
    search: "Buscar", what: "Qué", all: "alarmas y reglas", alarm: "alarmas", rule: "reglas", device: "Equipo", every: "todos", shown: "{count} de {total}", when: "Condición", does: "Hace", never: "no ha surgido desde el arranque",
    last: "surgió por última vez {ago}", nothing: "nada", history: "Historial", unknown: "su condición no se puede evaluar ahora", trial: "a prueba",
  },
});

type What = "all" | "alarm" | "rule";

export function AlarmList({ items }: { items: readonly Alarm[] }): JSX.Element {
  const [text, setText] = useState("");
  const [what, setWhat] = useState<What>("all");
  const [device, setDevice] = useState(place.value.query.get("device") ?? "");
  const devices = [...new Set(items.map((one) => one.device).filter(Boolean))].sort();
  const wanted = text.trim().toLowerCase();
  const found = items
    .filter((one) => (what === "all" || one.kind === what) && (!device || one.device === device))
    .filter((one) => !wanted || `${one.id} ${told(one.text)} ${one.when} ${one.device}`.toLowerCase().includes(wanted))
    .sort((one, other) => Number(other.state !== "normal") - Number(one.state !== "normal") || worst(one, other));
  return (
    <Card>
      <div class="filters">
        <Field label={say("search")} type="search" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        <Choice<What> label={say("what")} value={what} of={{ all: say("all"), alarm: say("alarm"), rule: say("rule") }} set={setWhat} />
        <Choice label={say("device")} value={device} of={{ "": say("every"), ...Object.fromEntries(devices.map((one) => [one, one])) }} set={setDevice} />
      </div>
      <p class="dim" role="status">
        {say("shown", { count: found.length, total: items.length })}
      </p>
      <ul class="lines">
        {found.map((one) => (
          <li key={one.id}>
            <Line of={one} />
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Line({ of }: { of: Alarm }): JSX.Element {
  const rests = of.state === "normal" && !of.active;
  return (
    <details class="more of">
      <summary>
        <span class="grow">
          <span class="name">{of.id}</span>
          <small class="dim">{told(of.text)}</small>
        </span>
        {of.shadow && <Badge>{say("trial")}</Badge>}
        <Badge tone={rests ? "dim" : toneOf(of.severity)}>{of.kind === "rule" ? word(of.active ? "active" : "normal") : word(of.state)}</Badge>
      </summary>
      <dl class="facts">
        <dt>{say("when")}</dt>
        <dd>
          <code>{of.when}</code>
          {!of.known && <small class="warn"> {say("unknown")}</small>}
        </dd>
        <dt>{say("does")}</dt>
        <dd>{of.does.join(", ") || say("nothing")}</dd>
        {of.severity && (
          <>
            <dt>{word(of.severity)}</dt>
            <dd>{of.raised ? say("last", { ago: ago(of.raised) }) : say("never")}</dd>
          </>
        )}
      </dl>
      <Inputs of={of} />
      <a href={to("alarms", "", { tab: "history", alarm: of.id, kind: of.kind })}>{say("history")}</a>
      <Acts of={of} />
    </details>
  );
}
