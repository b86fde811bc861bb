// How the gateway is: its parts, its clock, its uplink, its versions.
import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import { type Answer, get } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { duration, moment, number, quantity } from "../core/format.ts";
import { texts } from "../core/i18n.ts";
import { clockOffset_ms } from "../core/live.ts";
import { to } from "../core/route.ts";
import { may } from "../core/session.ts";
import { useStore } from "../core/store.ts";
import { told } from "../core/told.ts";
import { Icon } from "../ui/icons.tsx";
import { Action, Alert, Await, Badge, Card, type Tone } from "../ui/parts.tsx";
import { Findings } from "../setup/findings.tsx";
import { type Figures, useFigures } from "./metrics.ts";
import { Dropped, Storage } from "./storage.tsx";

const say = texts({
  en: {
    health: "Health", well: "well", degraded: "something is wrong", parts: "Parts", devices: "{online} of {total} devices online", wires: "{online} of {total} wires online", fine: "well", db: "database", uplink: "uplink", clock: "clock", lacking: "{count} not", about: "This gateway",
    site: "Site", version: "Version", boot: "This start", uptime: "Up for", time: "Its time", offset: "This device's clock differs by {time}. The page shows ages by the gateway's clock.", trusted: "The clock is believed", untrusted: "The clock is not believed yet: times are marked until it is.",
    jumps: "jumps", uplinkTitle: "Central server", connected: "connected", away: "not connected", none: "This site has no uplink: nothing is sent to a central server.", events: "Events that wait", telemetry: "Measurements that wait", draining: "of them not sent yet on this connection",
    confirms: "Confirmed by", central: "the central server", broker: "the broker", waits: "Nothing confirmed for", address: "Its broker", sent: "Sent since the start", connections: "Connections, and tries that failed", aside: "Set aside: can't be sent", days: "Its certificate ends in", duplicate: "Another client uses this gateway's name at the broker.",
    check: "What enlace check says", again: "Check again", nothing: "Nothing to complain about.", in: "{count} d", asked: "The same findings as the command's, of the file that is in use.",
  },
  es: {
    health: "Salud", well: "bien", degraded: "algo va mal", parts: "Partes", devices: "{online} de {total} equipos en línea", wires: "{online} de {total} buses en línea", fine: "bien", db: "base de datos", uplink: "enlace", clock: "reloj", lacking: "{count} no", about: "Esta pasarela",
    site: "Sitio", version: "Versión", boot: "Este arranque", uptime: "En marcha", time: "Su hora", offset: "El reloj de este equipo difiere {time}. La página muestra las antigüedades según el reloj de la pasarela.", trusted: "El reloj es de fiar", untrusted: "El reloj aún no es de fiar: las horas quedan marcadas hasta que lo sea.",
    jumps: "saltos", uplinkTitle: "Servidor central", connected: "conectado", away: "sin conexión", none: "Este sitio no tiene enlace: no se envía nada a un servidor central.", events: "Eventos en espera", telemetry: "Mediciones en espera", draining: "de ellas sin enviar en esta conexión",
    confirms: "Confirma", central: "el servidor central", broker: "el broker", waits: "Sin confirmación desde hace", address: "Su broker", sent: "Enviado desde el arranque", connections: "Conexiones, e intentos fallidos", aside: "Apartados: no se pueden enviar", days: "Su certificado termina en", duplicate: "Otro cliente usa el nombre de esta pasarela en el broker.",
    check: "Lo que dice enlace check", again: "Comprobar de nuevo", nothing: "Nada que objetar.", in: "{count} d", asked: "Los mismos avisos que los del comando, sobre el archivo en uso.",
  },
});

type Health = Extract<Answer<"/api/system/health">, { parts: unknown }>;
const NAMED = ["db", "uplink", "clock"] as const;
const CLOCK_OFF_MS = 5_000;

export function State(): JSX.Element {
  const health = useAsk("/api/system/health", {}, 5);
  const figures = useFigures();
  return (
    <Await of={health}>
      {(answer) =>
        "parts" in answer && (
          <div class="grid">
            <Parts of={answer} />
            <About of={answer} figures={figures} />
            <Uplink of={answer} figures={figures} />
            {answer.store && <Storage of={answer.store} />}
            {may("admin") && <Check />}
            <Dropped />
          </div>
        )
      }
    </Await>
  );
}

function Parts({ of }: { of: Health }): JSX.Element {
  const ok = of.status === "OK";
  const count = (what: "devices" | "wires"): ComponentChildren => {
    const { online, total } = of[what];
    return (
      <li class="row between">
        <a href={to("devices")}>{say(what, { online, total })}</a>
        {online === total ? <Sign ok /> : <span class="bad">{say("lacking", { count: total - online })}</span>}
      </li>
    );
  };
  return (
    <Card title={say("health")} icon="system" tone={ok ? undefined : "warn"} action={<Badge tone={ok ? "good" : "warn"}>{say(ok ? "well" : "degraded")}</Badge>}>
      <ul class="lines">
        {of.parts.map((part) => (
          <li key={part.name}>
            <div class="row between">
              <strong>{NAMED.some((one) => one === part.name) ? say(part.name as "db") : part.name}</strong>
              <Sign ok={part.ok} />
            </div>
            {part.detail && <div class={part.ok ? "dim" : ""}>{told(part.detail)}</div>}
            {part.hint && <div class="dim">→ {told(part.hint)}</div>}
          </li>
        ))}
        {count("devices")}
        {count("wires")}
      </ul>
    </Card>
  );
}

const Sign = ({ ok }: { ok: boolean }): JSX.Element => (
  <span class={ok ? "good" : "bad"}>
    <Icon name={ok ? "check" : "warn"} /> {say(ok ? "fine" : "degraded")}
  </span>
);

function About({ of, figures }: { of: Health; figures: Figures | undefined }): JSX.Element {
  const offset_ms = useStore(clockOffset_ms);
  const set = figures?.get("enlace_clock_set");
  const jumps = figures?.get("enlace_clock_jumps_total") ?? 0;
  return (
    <Card title={say("about")} icon="site">
      <dl class="facts">
        <dt>{say("site")}</dt>
        <dd>{of.site}</dd>
        <dt>{say("version")}</dt>
        <dd>{of.version}</dd>
        <dt>{say("uptime")}</dt>
        <dd>{duration(of.uptime_s)}</dd>
        <dt>{say("boot")}</dt>
        <dd>
          <code>{of.boot.slice(0, 8)}</code>
        </dd>
        <dt>{say("time")}</dt>
        <dd>{moment(of.time)}</dd>
      </dl>
      {set !== undefined && (
        <p class={set ? "dim" : "warn"}>
          <Icon name="clock" /> {say(set ? "trusted" : "untrusted")}
          {jumps > 0 && ` · ${number(jumps)} ${say("jumps")}`}
        </p>
      )}
      {Math.abs(offset_ms) > CLOCK_OFF_MS && <Alert tone="warn">{say("offset", { time: duration(Math.abs(offset_ms) / 1000) })}</Alert>}
    </Card>
  );
}

function Uplink({ of, figures }: { of: Health; figures: Figures | undefined }): JSX.Element {
  const part = of.parts.find((one) => one.name === "uplink");
  if (!part)
    return (
      <Card title={say("uplinkTitle")} icon="cloud">
        <p class="dim">{say("none")}</p>
      </Card>
    );
  const figure = (name: string, stream?: string): number | undefined => figures?.get(`enlace_uplink_${name}`, stream ? { stream } : {});
  const connected = figure("connected");
  const waits_s = Math.max(figure("waiting_seconds", "event") ?? 0, figure("waiting_seconds", "telemetry") ?? 0);
  const aside = (figure("set_aside_total", "event") ?? 0) + (figure("set_aside_total", "telemetry") ?? 0);
  const draining = (figure("draining", "event") ?? 0) + (figure("draining", "telemetry") ?? 0);
  const days = figure("certificate_days");
  const tone: Tone = part.ok ? "good" : "warn";
  const rows: [string, string, Tone?][] = [
    [say("address"), of.broker ?? "–"],
    [say("events"), number(figure("backlog", "event"))],
    [say("telemetry"), number(figure("backlog", "telemetry"))],
    ...(draining ? [[`… ${say("draining")}`, number(draining)] as [string, string]] : []),
    [say("confirms"), figure("by_word") === undefined ? "–" : say(figure("by_word") ? "central" : "broker")],
    ...(waits_s >= 1 ? [[say("waits"), duration(waits_s), waits_s > 60 ? "warn" : "dim"] as [string, string, Tone]] : []),
    [say("sent"), quantity(figure("published_bytes_total"), "B")],
    [say("connections"), `${number(figure("connections_total"))} · ${number(figure("failures_total"))}`],
    ...(aside ? [[say("aside"), number(aside), "bad"] as [string, string, Tone]] : []),
    ...(days === undefined ? [] : [[say("days"), say("in", { count: number(days) }), days < 30 ? "warn" : "dim"] as [string, string, Tone]]),
  ];
  return (
    <Card title={say("uplinkTitle")} icon="cloud" tone={part.ok ? undefined : "warn"} action={connected === undefined ? undefined : <Badge tone={tone}>{say(connected ? "connected" : "away")}</Badge>}>
      {!part.ok && <Alert tone="warn">{[part.detail, part.hint].map(told).filter(Boolean).join(" → ")}</Alert>}
      {figure("duplicate") === 1 && <Alert tone="warn">{say("duplicate")}</Alert>}
      <dl class="facts">
        {rows.map(([name, value, how]) => (
          <>
            <dt>{name}</dt>
            <dd class={how ?? ""}>{value}</dd>
          </>
        ))}
      </dl>
    </Card>
  );
}

function Check(): JSX.Element {
  const [found, set] = useState<Answer<"/api/check">>();
  const first = useAsk(found ? null : "/api/check", {}, 3600);
  const shown = found ?? first.data;
  const again = async (): Promise<void> => set(await get("/api/check"));
  return (
    <Card title={say("check")} icon="check" action={<Action run={again}>{say("again")}</Action>}>
      <p class="dim">{say("asked")}</p>
      <Await of={{ data: shown, error: first.error }}>{(answer) => <Findings of={answer.findings} none={say("nothing")} />}</Await>
    </Card>
  );
}
