// Who did what, and what happened: the ledger.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type Item, download } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { moment } from "../core/format.ts";
import { texts } from "../core/i18n.ts";
import { may } from "../core/session.ts";
import { midnight } from "../core/zone.ts";
import { Action, Await, Badge, Card, Choice, Field, Pager } from "../ui/parts.tsx";
import { summary } from "./events.ts";

const say = texts({
  en: {
    title: "Who did what, and what happened", kind: "What", subject: "About", subjectHint: "a device, station or part; whole name", from: "From", to: "To", csv: "CSV, with the hashes", none: "Nothing happened then.", damaged: "damaged", chained: "Each event is chained to the one before it: enlace audit verify checks the chain.",
    all: "everything", audit: "what users did", command: "commands", station: "stations", session: "sessions", alarm: "alarms", rule: "rules", device: "devices", charger: "chargers", config: "configuration", clock: "clock", details: "Details", number: "Number", hash: "Link in the chain",
  },
  es: {
    title: "Quién hizo qué, y qué pasó", kind: "Qué", subject: "Sobre", subjectHint: "un equipo, estación o parte; nombre completo", from: "Desde", to: "Hasta", csv: "CSV, con los hashes", none: "Entonces no pasó nada.", damaged: "dañado", chained: "Cada evento está encadenado al anterior: enlace audit verify comprueba la cadena.",
    all: "todo", audit: "lo que hicieron usuarios", command: "órdenes", station: "estaciones", session: "sesiones", alarm: "alarmas", rule: "reglas", device: "equipos", charger: "cargadores", config: "configuración", clock: "reloj", details: "Detalles", number: "Número", hash: "Eslabón de la cadena",
  },
});

type Event = Item<"/api/audit">;
const KINDS = ["audit", "command", "station", "session", "alarm", "rule", "device", "charger", "config", "clock"] as const;
type Kind = "" | (typeof KINDS)[number];
const SIZE = 50;
const EXPORT_MS = 600_000;

export function Audit(): JSX.Element {
  const [kind, setKind] = useState<Kind>("");
  const [subject, setSubject] = useState("");
  const [from, setFrom] = useState("");
  const [until, setUntil] = useState("");
  const [page, setPage] = useState(1);
  const first = <T,>(set: (next: T) => void) => (next: T): void => (setPage(1), set(next));
  const query = { kind, subject: subject.trim(), from: midnight(from), to: midnight(until, 1) };
  const found = useAsk("/api/audit", { query: { ...query, page, page_size: SIZE } }, 15);
  const kinds = { "": say("all"), ...Object.fromEntries(KINDS.map((one) => [one, say(one)])) } as Record<Kind, string>;
  return (
    <Card title={say("title")} icon="log" action={may("admin") && <Action icon="download" run={() => download("GET", "/api/audit.csv", { query, signal: AbortSignal.timeout(EXPORT_MS) })}>{say("csv")}</Action>}>
      <div class="filters">
        <Choice<Kind> label={say("kind")} value={kind} of={kinds} set={first(setKind)} />
        <Field label={say("subject")} type="search" value={subject} placeholder="cp1" onInput={(event) => first(setSubject)(event.currentTarget.value)} />
        <Field label={say("from")} type="date" value={from} max={until} onInput={(event) => first(setFrom)(event.currentTarget.value)} />
        <Field label={say("to")} type="date" value={until} min={from} onInput={(event) => first(setUntil)(event.currentTarget.value)} />
      </div>
      <Await of={found} empty={say("none")}>
        {(list) => (
          <>
            <ul class="lines">
              {list.items.map((one) => (
                <li key={one.seq}>
                  <Line of={one} />
                </li>
              ))}
            </ul>
            <Pager page={page} size={SIZE} total={list.total} set={setPage} />
          </>
        )}
      </Await>
      <small class="dim">{say("chained")}</small>
    </Card>
  );
}

function Line({ of }: { of: Event }): JSX.Element {
  return (
    <details class="more of">
      <summary>
        <span class="grow">
          <span class="row">
            <span class="when">{moment(of.time)}</span>
            <Badge>{of.kind}</Badge>
            <strong>{of.subject}</strong>
          </span>
          <small class={of.data ? "dim" : "bad"}>{of.data ? summary(of.data) : say("damaged")}</small>
        </span>
      </summary>
      <pre>{JSON.stringify(of.data, null, 1)}</pre>
      <small class="dim">
        {say("number")} {of.seq}
        {of.hash && ` · ${say("hash")} ${of.hash.slice(0, 16)}…`}
      </small>
    </details>
  );
}
