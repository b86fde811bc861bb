// What happened to alarms and rules, newest first.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Item } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { duration, moment } from "../core/format.ts";
import { texts, word } from "../core/i18n.ts";
import { go, place } from "../core/route.ts";
import { useStore } from "../core/store.ts";
import { told } from "../core/told.ts";
import { midnight } from "../core/zone.ts";
import { Await, Badge, Card, Choice, Field, Pager } from "../ui/parts.tsx";
import { toneOf } from "./card.tsx";
import { who } from "./order.ts";

const say = texts({
  en: {
    which: "Which", whichHint: "its id; empty: all", kind: "Of", alarm: "alarms", rule: "rules", from: "From", to: "To", nothing: "Nothing happened then.", by: "by {who}", damaged: "this entry is damaged", done: "did", would: "would have done",
    raised: "raised", cleared: "over", acknowledged: "acknowledged", shelved: "shelved", unshelved: "told again", suppressed: "explained", unsuppressed: "no longer explained", active: "active", over: "over", forTime: "for {time}", time: "its time",
    condition: "its condition", configuration: "the configuration", left_out: "{count} changes before were not kept",
  },
  es: {
    which: "Cuál", whichHint: "su identificador; vacío: todas", kind: "De", alarm: "alarmas", rule: "reglas", from: "Desde", to: "Hasta", nothing: "Entonces no pasó nada.", by: "por {who}", damaged: "esta entrada está dañada", done: "hizo", would: "habría hecho",
    raised: "surgió", cleared: "terminó", acknowledged: "reconocida", shelved: "aplazada", unshelved: "se avisa de nuevo", suppressed: "explicada", unsuppressed: "ya no la explica otra", active: "activa", over: "terminó", forTime: "durante {time}", time: "su plazo",
    condition: "su condición", configuration: "la configuración", left_out: "no se guardaron {count} cambios anteriores",
  },
});

type Kind = "alarm" | "rule";
type Happened = Item<"/api/alarms/history">;
const SIZE = 50;
const EVENTS = ["raised", "cleared", "acknowledged", "shelved", "unshelved", "suppressed", "unsuppressed", "active", "over"] as const;
const CAUSES = ["condition", "time", "configuration"] as const;
export function AlarmHistory({ known }: { known: readonly string[] }): JSX.Element {
  const { query } = useStore(place);
  const [page, setPage] = useState(1);
  const [from, setFrom] = useState("");
  const [until, setUntil] = useState("");
  const alarm = query.get("alarm") ?? "";
  const kind: Kind = query.get("kind") === "rule" ? "rule" : "alarm";
  const choose = (next: { alarm?: string; kind?: Kind }): void => {
    setPage(1);
    const asked = { tab: "history", alarm, kind, ...next };
    go("alarms", "", Object.fromEntries(Object.entries(asked).filter(([key, value]) => value && !(key === "kind" && value === "alarm"))));
  };
  const found = useAsk("/api/alarms/history", { query: { alarm, kind, from: midnight(from), to: midnight(until, 1), page, page_size: SIZE } }, 30);
  return (
    <Card>
      <div class="filters">
        <Choice label={say("which")} value={alarm} of={{ "": "–", ...Object.fromEntries([...new Set([...known, ...(alarm ? [alarm] : [])])].map((one) => [one, one])) }} set={(next) => choose({ alarm: next })} />
        <Choice<Kind> label={say("kind")} value={kind} of={{ alarm: say("alarm"), rule: say("rule") }} set={(next) => choose({ kind: next, alarm: "" })} />
        <Field label={say("from")} type="date" value={from} max={until} onInput={(event) => (setPage(1), setFrom(event.currentTarget.value))} />
        <Field label={say("to")} type="date" value={until} min={from} onInput={(event) => (setPage(1), setUntil(event.currentTarget.value))} />
      </div>
      <Await of={found} empty={say("nothing")}>
        {(list) => (
          <>
            <ul class="lines">
              {list.items.map((one) => (
                <li key={one.seq}>
                  <Entry of={one} />
                </li>
              ))}
            </ul>
            <Pager page={page} size={SIZE} total={list.total} set={setPage} />
          </>
        )}
      </Await>
    </Card>
  );
}

function Entry({ of }: { of: Happened }): JSX.Element {
  const data = of.data ?? {};
  const text = (key: string): string => (typeof data[key] === "string" ? (data[key] as string) : "");
  const list = (key: string): string => (Array.isArray(data[key]) ? (data[key] as string[]).map(told).join(", ") : "");
  const event = of.kind.split(".")[1] ?? of.kind;
  const known = EVENTS.find((one) => one === event);
  const cause = CAUSES.find((one) => one === data["source"]);
  const source = cause ? (cause === "condition" ? "" : say(cause)) : who(data["source"]);
  const seconds = typeof data["for_s"] === "number" ? data["for_s"] : undefined;
  const did = list("done") ? `${say("done")}: ${list("done")}` : list("would") ? `${say("would")}: ${list("would")}` : "";
  const note = text("note") || text("reason");
  const left = typeof data["left_out"] === "number" ? say("left_out", { count: data["left_out"] }) : "";
  const begins = event === "raised" || event === "active";
  return (
    <>
      <div class="row">
        <span class="when">{moment(of.time)}</span>
        <Badge tone={begins ? toneOf(text("severity")) : event === "cleared" || event === "over" ? "good" : "dim"}>{known ? say(known) : word(event)}</Badge>
        <strong>{of.alarm}</strong>
        {(source || text("by")) && <span class="dim">{say("by", { who: source || text("by") })}</span>}
        {seconds !== undefined && <span class="dim">{say("forTime", { time: duration(seconds) })}</span>}
      </div>
      {of.data === null && <small class="bad">{say("damaged")}</small>}
      {begins && text("text") && <div>{told(text("text"))}</div>}
      {begins && text("why") && <code class="block">{told(text("why"))}</code>}
      {note && <div>“{note}”</div>}
      {did && <small class="dim">{did}</small>}
      {left && <small class="warn">{left}</small>}
    </>
  );
}
