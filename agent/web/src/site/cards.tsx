// The smaller boxes of the site page.
import type { JSX } from "preact";
import { useAsk } from "../core/ask.ts";
import { ago, duration, number, quantity } from "../core/format.ts";
import { texts, word } from "../core/i18n.ts";
import { now, useLink, useSignal, useSignals, useSome } from "../core/live.ts";
import { to } from "../core/route.ts";
import { may } from "../core/session.ts";
import { Action, Alert, Await, Badge, Bar, Card, Figure, Live, type Tone } from "../ui/parts.tsx";
import { post } from "../core/api.ts";
import { told } from "../core/told.ts";
import { type Site, usePowers, valueOf } from "./use-site.ts";

const say = texts({
  en: {
    alarms: "{n} open alarms", alarm: "1 open alarm", ack: "Acknowledge", all: "All alarms", charging: "charging", discharging: "discharging", resting: "at rest", hottest: "hottest cell", 
    grid: "Grid meter", from: "from the grid", to: "to the grid", nothing: "nothing flows", phases: "Phases", today: "Energy today", in: "from the grid", out: "to the grid", charged: "into the battery", discharged: "from the battery", made: "by the sun",
    uplink: "Uplink and memory", connected: "connected", broken: "not connected", waits: "{n} records wait", none: "nothing waits", memory: "Memory for data", of: "{used} of {all}", lost: "{n} rows were lost", devices: "Devices", ok: "{online} of {total} online",
    details: "Details", history: "By hour and day", version: "version {v}, up {time}", free: "{pct} of the disk free", advice: "Worth doing", save: "saves {what} in 30 days", more: "All and why", part: "not in order: {name}", since: "since {ago}", noup: "not configured",
  },
  es: {
    alarms: "{n} alarmas abiertas", alarm: "1 alarma abierta", ack: "Reconocer", all: "Todas las alarmas", charging: "cargando", discharging: "descargando", resting: "en reposo", hottest: "celda más caliente", 
    grid: "Medidor de red", from: "de la red", to: "a la red", nothing: "no fluye nada", phases: "Fases", today: "Energía de hoy", in: "de la red", out: "a la red", charged: "a la batería", discharged: "de la batería", made: "del sol",
    uplink: "Enlace y memoria", connected: "conectado", broken: "sin conexión", waits: "esperan {n} registros", none: "no espera nada", memory: "Memoria para datos", of: "{used} de {all}", lost: "se perdieron {n} filas", devices: "Equipos", ok: "{online} de {total} en línea",
    details: "Detalles", history: "Por hora y día", version: "versión {v}, en marcha {time}", free: "{pct} del disco libre", advice: "Vale la pena", save: "ahorra {what} en 30 días", more: "Todas y por qué", part: "no está en orden: {name}", since: "desde {ago}", noup: "no está configurado",
  },
});

/** States of which nobody is told. */
const QUIET = ["normal", "shelved", "suppressed"];
const SEVERITY = ["critical", "warning", "info"];
export const toneOf = (severity: string | null): Tone => (severity === "critical" ? "bad" : severity === "warning" ? "warn" : "info");

/** Alarms that want somebody, the worst first; nothing where there is none. */
export function OpenAlarms({ device, most = 3 }: { device?: string; most?: number }): JSX.Element | null {
  const asked = useAsk("/api/alarms", { query: { kind: "alarm", active: true, page_size: 1000, device } }, 10);
  const open = (asked.data?.items ?? []).filter((one) => !one.shadow && !QUIET.includes(one.state));
  if (!open.length) return null;
  open.sort((one, other) => SEVERITY.indexOf(one.severity ?? "") - SEVERITY.indexOf(other.severity ?? "") || Number(one.state === "acknowledged") - Number(other.state === "acknowledged") || (other.raised ?? "").localeCompare(one.raised ?? ""));
  return (
    <Card title={open.length === 1 ? say("alarm") : say("alarms", { n: open.length })} icon="alarm" tone={toneOf(open[0]!.severity)} action={<a href={to("alarms")}>{say("all")}</a>}>
      <ul class="plain alarms">
        {open.slice(0, most).map((one) => (
          <li key={one.id} class={toneOf(one.severity)}>
            <div>
              <Badge tone={toneOf(one.severity)}>{word(one.severity)}</Badge> <span>{told(one.text)}</span>
              <small class="dim"> {[told(one.why), word(one.state), one.raised ? say("since", { ago: ago(one.raised) }) : ""].filter(Boolean).join(" · ")}</small>
            </div>
            {may("operator") && one.state !== "acknowledged" && (
              <Action run={() => post("/api/alarms/{alarm_id}/acknowledge", { params: { alarm_id: one.id }, body: {} as never })}>{say("ack")}</Action>
            )}
          </li>
        ))}
      </ul>
    </Card>
  );
}

/** How a battery is, in a glance. */
export function BatteryCard({ device, site }: { device: string; site: Site }): JSX.Element {
  const values = useSignals(device);
  const [w = null] = usePowers([device], site.names);
  const stale = useLink() !== "live" || !site.online(device);
  const soc = valueOf(values.get("soc_pct"));
  const hot = values.get("temperature_max_degc") ?? values.get("temperature_degc");
  const way = w === null ? undefined : w > 15 ? say("charging") : w < -15 ? say("discharging") : say("resting");
  return (
    <Card title={site.nameOf(device)} icon="battery" action={<a href={to("battery", device)}>{say("details")}</a>}>
      <div class="figures">
        <Figure value={soc === null ? null : Math.round(soc)} unit="%" label="SoC" stale={stale} />
        <Figure value={w === null ? null : Math.abs(w)} unit="W" label={way ?? word("unknown")} stale={stale} />
        {hot && <Figure value={hot.value} unit="degc" label={say("hottest")} stale={stale} />}
      </div>
      <Bar pct={soc} label="SoC" tone={soc !== null && soc < 15 ? "warn" : "good"} />
    </Card>
  );
}

export function GridCard({ device, site }: { device: string; site: Site }): JSX.Element {
  const values = useSignals(device);
  const [w = null] = usePowers([device], site.names);
  const load = useAsk("/api/load", {}, 30);
  const stale = useLink() !== "live" || !site.online(device);
  const phases = ([1, 2, 3] as const).filter((n) => values.has(`current_l${n}_a`) || values.has(`voltage_l${n}_v`));
  const limit = (n: number): number | undefined => (load.data?.managed && load.data.meter === device ? load.data.phases?.[n - 1]?.limit_a : undefined);
  return (
    <Card title={say("grid")} icon="grid" action={<small class="dim">{site.nameOf(device)}</small>}>
      <Figure value={w === null ? null : Math.abs(w)} unit="W" label={w === null ? word("unknown") : w > 15 ? say("from") : w < -15 ? say("to") : say("nothing")} stale={stale} />
      {phases.length > 0 && (
        <ul class="phases" aria-label={say("phases")}>
          {phases.map((n) => (
            <li key={n}>
              <span class="dim">L{n}</span> <Live of={values.get(`current_l${n}_a`)} online={!stale} />
              {limit(n) !== undefined && <Bar pct={((valueOf(values.get(`current_l${n}_a`)) ?? 0) / limit(n)!) * 100} label={`L${n}: ${quantity(limit(n), "A")}`} tone={(valueOf(values.get(`current_l${n}_a`)) ?? 0) > limit(n)! ? "bad" : "good"} />}
              <small class="dim">
                <Live of={values.get(`voltage_l${n}_v`)} online={!stale} />
              </small>
            </li>
          ))}
        </ul>
      )}
    </Card>
  );
}

/** What flowed today by device; each row asks for its own. */
export function TodayCard({ site }: { site: Site }): JSX.Element | null {
  const { roles, names } = site;
  const rows: { device: string; direction: "import" | "export"; label: string }[] = [];
  if (roles.grid) rows.push({ device: roles.grid, direction: "import", label: say("in") }, { device: roles.grid, direction: "export", label: say("out") });
  for (const one of roles.solar) rows.push({ device: one, direction: "export", label: say("made") });
  for (const one of roles.batteries) rows.push({ device: one, direction: "import", label: `${say("charged")}${roles.batteries.length > 1 ? ` ${one}` : ""}` }, { device: one, direction: "export", label: `${say("discharged")}${roles.batteries.length > 1 ? ` ${one}` : ""}` });
  const chargers = [...new Set(site.outlets.filter((one) => !one.registered).map((one) => one.device))];
  for (const one of [...chargers, ...roles.meters].slice(0, SHOWN)) rows.push({ device: one, direction: "import", label: site.nameOf(one) });
  if (!rows.length || !names.size) return null;
  return (
    <Card title={say("today")} icon="energy" action={<a href={to("energy")}>{say("history")}</a>}>
      <dl class="today">
        {rows.map((row) => (
          <Today key={`${row.device} ${row.direction}`} {...row} />
        ))}
      </dl>
    </Card>
  );
}

/** Of chargers and meters; the energy page has them all. */
const SHOWN = 6;
const HOUR_MS = 3_600_000;

function Today({ device, direction, label }: { device: string; direction: "import" | "export"; label: string }): JSX.Element {
  const from = new Date(Math.floor(now() / HOUR_MS) * HOUR_MS).toISOString();
  const asked = useAsk("/api/energy", { query: { device, direction, bucket: "day", from } }, 60);
  const today = asked.data?.periods.at(-1);
  return (
    <>
      <dt>{label}</dt>
      <dd class={asked.error ? "stale" : ""}>
        <a href={to("energy", device, { direction })}>{quantity(today?.wh, "Wh")}</a>
      </dd>
    </>
  );
}

/** Whether what is measured arrives where it is wanted, and whether there is room for what waits. */
export function UplinkCard(): JSX.Element {
  const health = useAsk("/api/system/health", {}, 10);
  const [connected, backlog] = useSome(["gateway.uplink_connected", "gateway.uplink_backlog"]);
  const free = useSignal("gateway.disk_free_pct");
  const stale = useLink() !== "live";
  return (
    <Card title={say("uplink")} icon="cloud">
      <Await of={health}>
        {(data) => {
          const full = data as Extract<typeof data, { parts: unknown }>;
          const up = full.parts.find((one) => one.name === "uplink");
          const wrong = full.parts.filter((one) => !one.ok);
          const store = full.store;
          const linked = connected === undefined ? up?.ok : connected.value === 1;
          return (
            <>
              <p class="row">
                {up ? <Badge tone={linked ? "good" : "warn"}>{linked ? say("connected") : say("broken")}</Badge> : <Badge>{say("noup")}</Badge>}
                {up && <span class={stale ? "stale" : ""}>{backlog?.value ? say("waits", { n: quantity(backlog.value, "") }) : say("none")}</span>}
              </p>
              {wrong.map((one) => (
                <Alert key={one.name} tone="warn">
                  {say("part", { name: one.name })}: {told(one.detail)} {told(one.hint)}
                </Alert>
              ))}
              {store && (
                <div class="store">
                  <span>{say("memory")}</span>
                  <Bar pct={(store.bytes / store.quota_bytes) * 100} label={say("memory")} tone={store.bytes > 0.9 * store.quota_bytes ? "warn" : "good"} />
                  <small class="dim">
                    {say("of", { used: quantity(store.bytes, "B"), all: quantity(store.quota_bytes, "B") })}
                    {free && free.value !== null && ` · ${say("free", { pct: quantity(free.value, "%") })}`}
                    {store.lost_rows > 0 && <strong class="bad"> {say("lost", { n: store.lost_rows })}</strong>}
                  </small>
                </div>
              )}
              <p class="row between">
                <a href={to("devices")}>{say("ok", { online: full.devices.online, total: full.devices.total })}</a>
                <small class="dim">
                  {say("version", { v: full.version, time: duration(full.uptime_s) })}
                </small>
              </p>
            </>
          );
        }}
      </Await>
    </Card>
  );
}

/** What it would save, of what is known: `12.5 kWh, 30.40 EUR`. */
export const savings = (one: { saving_kwh: number | null; saving_money: number | null; currency: string }): string =>
  [one.saving_kwh ? quantity(one.saving_kwh * 1000, "Wh") : "", one.saving_money ? `${number(one.saving_money, 2)} ${one.currency}` : ""].filter(Boolean).join(", ");

/** The three things that are most worth doing. */
export function AdviceCard(): JSX.Element | null {
  const asked = useAsk("/api/recommendations", { query: { page_size: 3 } }, 300);
  if (!asked.data?.items.length) return null;
  return (
    <Card title={say("advice")} icon="check" action={<a href={to("energy", "", { tab: "advice" })}>{say("more")}</a>}>
      <ul class="plain">
        {asked.data.items.map((one) => (
          <li key={one.id}>
            {told(one.text)}
            {(one.saving_kwh || one.saving_money) && <small class="dim"> {say("save", { what: savings(one) })}</small>}
          </li>
        ))}
      </ul>
    </Card>
  );
}
