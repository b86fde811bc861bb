// Who is told of alarms. Addresses are never shown: the gateway doesn't give them.
import type { JSX } from "preact";
import { type Item, post } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { ago, duration, number } from "../core/format.ts";
import { texts } from "../core/i18n.ts";
import { may } from "../core/session.ts";
import { told } from "../core/told.ts";
import { Action, Alert, Await, Badge, Card, tell } from "../ui/parts.tsx";

const say = texts({
  en: {
    none: "Nobody is told of alarms: there is no notify: in the configuration. E-mail, Telegram, webhooks and others can be set there.", test: "Send a test message", sent: "{id}: the test message was taken", failed: "{id}: {why}",
    addresses: "Addresses", waiting: "News that wait", taken: "Sent since the start", failures: "Tries that failed", dropped: "Never told", last: "Last sent", next: "Next try", in: "in {time}", well: "works", ill: "fails", unused: "nothing sent yet",
  },
  es: {
    none: "No se avisa a nadie de las alarmas: no hay notify: en la configuración. Allí se pueden poner correo, Telegram, webhooks y otros.", test: "Enviar un mensaje de prueba", sent: "{id}: el mensaje de prueba fue aceptado", failed: "{id}: {why}",
    addresses: "Direcciones", waiting: "Avisos en espera", taken: "Enviados desde el arranque", failures: "Intentos fallidos", dropped: "Nunca avisados", last: "Último envío", next: "Próximo intento", in: "en {time}", well: "funciona", ill: "falla", unused: "aún sin envíos",
  },
});

type Channel = Item<"/api/notify">;

export function Told(): JSX.Element {
  const channels = useAsk("/api/notify", {}, 10);
  return (
    <Await of={channels} empty={say("none")}>
      {(list) => (
        <div class="grid">
          {list.items.map((one) => (
            <ChannelCard key={one.id} of={one} />
          ))}
        </div>
      )}
    </Await>
  );
}

function ChannelCard({ of }: { of: Channel }): JSX.Element {
  const test = async (): Promise<void> => {
    const came = await post("/api/notify/{channel_id}/test", { params: { channel_id: of.id }, signal: AbortSignal.timeout(60_000) });
    tell(came.sent ? say("sent", { id: of.id }) : say("failed", { id: of.id, why: told(came.error) }), came.sent ? "good" : "bad");
  };
  const tone = of.last_error ? "bad" : of.last_sent ? "good" : "dim";
  return (
    <Card title={of.id} tone={of.last_error ? "bad" : undefined} action={<Badge tone={tone}>{of.last_error ? say("ill") : of.last_sent ? say("well") : say("unused")}</Badge>}>
      <Alert>{told(of.last_error)}</Alert>
      <dl class="facts">
        <dt>{say("addresses")}</dt>
        <dd>{number(of.addresses)}</dd>
        <dt>{say("waiting")}</dt>
        <dd>{number(of.waiting)}</dd>
        <dt>{say("taken")}</dt>
        <dd>{number(of.sent)}</dd>
        <dt>{say("failures")}</dt>
        <dd>{number(of.failures)}</dd>
        {of.dropped > 0 && (
          <>
            <dt class="bad">{say("dropped")}</dt>
            <dd class="bad">{number(of.dropped)}</dd>
          </>
        )}
        {of.last_sent && (
          <>
            <dt>{say("last")}</dt>
            <dd>{ago(of.last_sent)}</dd>
          </>
        )}
        {of.next_try_in_s !== null && (
          <>
            <dt>{say("next")}</dt>
            <dd>{say("in", { time: duration(of.next_try_in_s) })}</dd>
          </>
        )}
      </dl>
      {may("admin") && (
        <div class="actions">
          <Action run={test}>{say("test")}</Action>
        </div>
      )}
    </Card>
  );
}
