// One alarm: what is wrong, why, since when, what it does, and what a person can do about it.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type Item, post } from "../core/api.ts";
import { refreshAll } from "../core/ask.ts";
import { ago, live, moment } from "../core/format.ts";
import { texts, word } from "../core/i18n.ts";
import { useSignal } from "../core/live.ts";
import { chartOf, to } from "../core/route.ts";
import { may } from "../core/session.ts";
import { told } from "../core/told.ts";
import { Icon } from "../ui/icons.tsx";
import { Action, Badge, Dialog, Field, Form, type Tone, tell } from "../ui/parts.tsx";
import { isSignal, who } from "./order.ts";

const say = texts({
  en: {
    since: "since {ago}", raised: "raised {time}", times: "{count} times since the start", does: "Does now", would: "Would do", did: "Did until it was over", acknowledge: "Acknowledge", withNote: "Comment",
    note: "Comment", noteHint: "for those who read the history", shelve: "Shelve", unshelve: "Tell me again", shelveTitle: "Tell nobody of it for …", shelveText: "What it does with stations goes on. It comes back by itself.", reason: "Why",
    hours: "{count} h", until: "until {time} by {who}", explained: "explained by {id}: nobody is told", latched: "It is over, and goes on acting until somebody acknowledges it. Then stations may switch on again.",
    returned: "It is over. Nobody has acknowledged it yet.", held: "It is over, and acts until {time}.", trial: "On trial: it is judged and told, and does nothing.", unknown: "Its condition can't be told now: a signal that it reads is not known.",
    by: "{who}, {ago}", acknowledged: "{id} is acknowledged", shelved: "{id} is shelved", values: "Values", chart: "Chart of {name}", history: "History", then: "was {value}", at: "About",
  },
  es: {
    since: "desde {ago}", raised: "surgió {time}", times: "{count} veces desde el arranque", does: "Hace ahora", would: "Haría", did: "Hizo hasta que terminó", acknowledge: "Reconocer", withNote: "Comentar",
    note: "Comentario", noteHint: "para quien lea el historial", shelve: "Aplazar", unshelve: "Avisar de nuevo", shelveTitle: "No avisar a nadie durante …", shelveText: "Lo que hace con las estaciones sigue. Vuelve por sí sola.", reason: "Por qué",
    hours: "{count} h", until: "hasta {time} por {who}", explained: "la explica {id}: no se avisa a nadie", latched: "Ha terminado, pero sigue actuando hasta que alguien la reconozca. Después las estaciones pueden volver a encenderse.",
    returned: "Ha terminado. Nadie la ha reconocido todavía.", held: "Ha terminado, y actúa hasta {time}.", trial: "A prueba: se evalúa y se avisa, y no hace nada.", unknown: "Su condición no se puede evaluar ahora: no se conoce una señal que lee.",
    by: "{who}, {ago}", acknowledged: "{id} está reconocida", shelved: "{id} está aplazada", values: "Valores", chart: "Gráfica de {name}", history: "Historial", then: "era {value}", at: "Sobre",
  },
});

export type Alarm = Item<"/api/alarms">;
export const toneOf = (severity: string | null | undefined): Tone => (severity === "critical" ? "bad" : severity === "warning" ? "warn" : "info");
const HOURS = [1, 8, 24];
const HOUR_S = 3600;

/** A value that made it true, as it was then and as it is now; leads to its chart. */
function Input({ name, then }: { name: string; then: number | null }): JSX.Element {
  const now = useSignal(name);
  const was = live({ value: then, label: null, unit: now?.unit ?? "" });
  if (!isSignal(name))
    return (
      <li>
        <span>
          {name} <strong>{was}</strong>
        </span>
      </li>
    );
  return (
    <li>
      <a href={chartOf(name)} title={say("chart", { name })}>
        <span>{name}</span>
        <strong>{now ? live(now) : was}</strong>
        {now && live(now) !== was && <small class="dim">{say("then", { value: was })}</small>}
      </a>
    </li>
  );
}

export function Inputs({ of }: { of: Alarm }): JSX.Element | null {
  const inputs = Object.entries(of.inputs);
  if (!inputs.length) return null;
  return (
    <ul class="tiles" aria-label={say("values")}>
      {inputs.map(([name, then]) => (
        <Input key={name} name={name} then={then} />
      ))}
    </ul>
  );
}

/** Acknowledge and shelve: for operators. */
export function Acts({ of }: { of: Alarm }): JSX.Element | null {
  const [asks, setAsks] = useState<"note" | "shelve">();
  if (!may("operator") || of.kind === "rule") return null;
  const params = { alarm_id: of.id };
  const close = (): void => setAsks(undefined);
  const needs = of.state === "unacknowledged" || of.state === "latched" || of.state === "returned";
  return (
    <div class="actions two">
      {needs && (
        <>
          <Action kind={of.shadow ? "plain" : "main"} icon="check" run={() => post("/api/alarms/{alarm_id}/acknowledge", { params })}>
            {say("acknowledge")}
          </Action>
          <button type="button" onClick={() => setAsks("note")}>
            {say("withNote")} …
          </button>
        </>
      )}
      {of.state === "shelved" ? (
        <Action icon="alarm" run={() => post("/api/alarms/{alarm_id}/unshelve", { params })}>
          {say("unshelve")}
        </Action>
      ) : (
        <button type="button" onClick={() => setAsks("shelve")}>
          <Icon name="mute" />
          {say("shelve")} …
        </button>
      )}
      {asks === "note" && <Note of={of} close={close} />}
      {asks === "shelve" && <Shelve of={of} close={close} />}
    </div>
  );
}

function Note({ of, close }: { of: Alarm; close: () => void }): JSX.Element {
  const send = async ({ note = "" }: Record<string, string>): Promise<void> => {
    await post("/api/alarms/{alarm_id}/acknowledge", { params: { alarm_id: of.id }, body: { note } });
    tell(say("acknowledged", { id: of.id }), "good");
    close();
  };
  return (
    <Dialog title={`${say("acknowledge")}: ${of.id}`} close={close}>
      <Form send={send} button={say("acknowledge")} cancel={close}>
        <p>{told(of.text)}</p>
        <Field label={say("note")} hint={say("noteHint")} name="note" autofocus maxLength={200} />
      </Form>
    </Dialog>
  );
}

function Shelve({ of, close }: { of: Alarm; close: () => void }): JSX.Element {
  const [reason, setReason] = useState("");
  const shelve = async (hours: number): Promise<void> => {
    await post("/api/alarms/{alarm_id}/shelve", { params: { alarm_id: of.id }, body: { for_s: hours * HOUR_S, reason } });
    tell(say("shelved", { id: of.id }), "good");
    close();
    refreshAll();
  };
  return (
    <Dialog title={say("shelveTitle")} close={close}>
      <p>
        <code>{of.id}</code> · {told(of.text)}
      </p>
      <p class="dim">{say("shelveText")}</p>
      <Field label={say("reason")} value={reason} maxLength={200} onInput={(event) => setReason(event.currentTarget.value)} />
      <div class="actions">
        {HOURS.map((hours) => (
          <Action key={hours} kind="main" run={() => shelve(hours)}>
            {say("hours", { count: hours })}
          </Action>
        ))}
      </div>
    </Dialog>
  );
}

/** What its state means for who reads it; empty where the word says all. */
function Meaning({ of }: { of: Alarm }): JSX.Element | null {
  const lines = [
    of.state === "latched" && say("latched"),
    of.state === "returned" && say("returned"),
    of.held_until && say("held", { time: moment(of.held_until) }),
    of.shadow && say("trial"),
    !of.known && say("unknown"),
    of.suppressed_by && say("explained", { id: of.suppressed_by }),
    of.shelved_until && say("until", { time: moment(of.shelved_until), who: who(of.shelved_by) }),
    of.acknowledged && of.acknowledged_by && `${word("acknowledged")}: ${say("by", { who: who(of.acknowledged_by), ago: ago(of.acknowledged) })}`,
  ].filter((line) => typeof line === "string");
  return lines.length ? (
    <ul class="plain dim">
      {lines.map((line) => (
        <li key={line}>{line}</li>
      ))}
    </ul>
  ) : null;
}

export const Does = ({ of }: { of: Alarm }): JSX.Element | null =>
  of.does.length ? (
    <p>
      <span class="dim">{of.shadow ? say("would") : of.acting ? say("does") : say("did")}:</span> <strong>{of.does.map(told).join(", ")}</strong>
    </p>
  ) : null;

/** An open alarm, whole. */
export function AlarmCard({ of }: { of: Alarm }): JSX.Element {
  return (
    <article class={`card alarm ${of.severity ?? ""}`} aria-label={of.id}>
      <div class="row">
        <Badge tone={toneOf(of.severity)}>{word(of.severity)}</Badge>
        <Badge>{word(of.state)}</Badge>
        <small class="dim" title={of.raised ?? ""}>
          {say("since", { ago: ago(of.raised ?? of.since) })}
          {of.raised_count > 1 && ` · ${say("times", { count: of.raised_count })}`}
        </small>
      </div>
      <p class="said">{told(of.text)}</p>
      <p>
        <code>{told(of.why) || of.when}</code>
      </p>
      <Inputs of={of} />
      <Does of={of} />
      <Meaning of={of} />
      <small class="dim row ends">
        <a href={to("alarms", "", { tab: "history", alarm: of.id })}>{say("history")}</a>
        <span>{of.id}</span>
        {of.device && (
          <a href={to("devices", of.device)}>
            {say("at")} {of.device}
          </a>
        )}
      </small>
      <Acts of={of} />
    </article>
  );
}
