// Batteries: how full, how well, how hot, what they may; each cell. And vehicles that tell of themselves.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Item } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { ago, moment, number, quantity } from "../core/format.ts";
import { texts, word } from "../core/i18n.ts";
import { type Value, useLink, useSignals } from "../core/live.ts";
import { to } from "../core/route.ts";
import { may } from "../core/session.ts";
import { told } from "../core/told.ts";
import { OpenAlarms } from "../site/cards.tsx";
import { Cells, Temperatures } from "../site/cells.tsx";
import { Trend } from "../site/trend.tsx";
import { type Site, usePowers, useSite, valueOf } from "../site/use-site.ts";
import { Alert, Await, Badge, Bar, Card, Figure, Live, Pager, Table } from "../ui/parts.tsx";

const say = texts({
  en: {
    title: "Battery", none: "This site has no battery that tells its charge.", add: "Add one", soc: "charge", soh: "health", voltage: "voltage", current: "current", charging: "charging", discharging: "discharging", resting: "at rest", left: "left", holds: "of {wh}", cycles: "cycles",
    limits: "What it allows", charge: "Charging", discharge: "Discharging", allowed: "allowed", refused: "not allowed", unknown: "not known", cells: "Cells", temps: "Temperatures", trend: "Charge and temperature", hottest: "hottest", power: "power",
    faults: "The BMS reports", nofault: "no fault and no warning", fault: "fault", warning: "warning", all: "All values", offline: "Nothing is heard of it: what is shown is old.", contactor: "Main contactor", closed: "closed", open: "open", balancing: "cells are being balanced",
    vehicles: "Vehicles", vehicle: "Vehicle", at: "at {name}", heard: "heard", range: "Last 24 hours", samples: "{n} rows", odd: "What was unusual", calm: "Nothing unusual.", fresh: "{n} signals have less than two weeks of history: too little to judge.", novehicle: "No vehicle has told of itself.", between: "{low} to {high}", usual: "usually {low} to {high}", odo: "distance", alerts: "alerts",
  },
  es: {
    title: "Batería", none: "Este sitio no tiene batería que diga su carga.", add: "Agregar una", soc: "carga", soh: "salud", voltage: "tensión", current: "corriente", charging: "cargando", discharging: "descargando", resting: "en reposo", left: "quedan", holds: "de {wh}", cycles: "ciclos",
    limits: "Lo que permite", charge: "Carga", discharge: "Descarga", allowed: "permitida", refused: "no permitida", unknown: "no se sabe", cells: "Celdas", temps: "Temperaturas", trend: "Carga y temperatura", hottest: "máxima", power: "potencia",
    faults: "El BMS avisa", nofault: "ni fallos ni avisos", fault: "fallo", warning: "aviso", all: "Todos los valores", offline: "No se oye: lo que se ve es antiguo.", contactor: "Contactor principal", closed: "cerrado", open: "abierto", balancing: "equilibrando celdas",
    vehicles: "Vehículos", vehicle: "Vehículo", at: "en {name}", heard: "oído", range: "Últimas 24 horas", samples: "{n} filas", odd: "Lo que fue inusual", calm: "Nada inusual.", fresh: "{n} señales tienen menos de dos semanas de historia: muy poco para juzgar.", novehicle: "Ningún vehículo ha dicho nada.", between: "{low} a {high}", usual: "normalmente {low} a {high}", odo: "recorrido", alerts: "alertas",
  },
});

export default function Page({ id }: { id: string }): JSX.Element {
  const site = useSite();
  const { batteries } = site.roles;
  const shown = id && batteries.includes(id) ? [id] : batteries;
  return (
    <>
      <h1>{say("title")}</h1>
      {batteries.length > 1 && (
        <div class="chips" role="group" aria-label={say("title")}>
          {batteries.map((one) => (
            <a key={one} class="button" href={to("battery", one)} aria-current={one === id ? "page" : undefined}>
              {site.nameOf(one)}
            </a>
          ))}
        </div>
      )}
      <div class="stack">
        {site.devices.data && site.names.size > 0 && !batteries.length && (
          <Card>
            <p>
              {say("none")} {may("admin") && <a href={to("wizard")}>{say("add")}</a>}
            </p>
          </Card>
        )}
        {shown.map((one) => (
          <Battery key={one} device={one} site={site} />
        ))}
        <Vehicles site={site} />
      </div>
    </>
  );
}

function Battery({ device, site }: { device: string; site: Site }): JSX.Element {
  const values = useSignals(device);
  const stale = useLink() !== "live" || !site.online(device);
  const hot = site.names.has(`${device}.temperature_max_degc`) ? "temperature_max_degc" : "temperature_degc";
  const cells = [...values.keys()].some((point) => point.startsWith("cell_voltage"));
  const temps = [...values.keys()].some((point) => point.startsWith("temperature_"));
  return (
    <div class="stack">
      {!site.online(device) && site.devices.data && <Alert tone="warn">{say("offline")}</Alert>}
      <OpenAlarms device={device} most={10} />
      <div class="board">
        <div class="first stack">
          <State device={device} site={site} values={values} stale={stale} />
          <Limits values={values} online={!stale} />
        </div>
        <div class="second stack">
          {cells && (
            <Card title={say("cells")} icon="battery">
              <Cells values={values} stale={stale} />
            </Card>
          )}
          {temps && (
            <Card title={say("temps")} icon="temperature">
              <Temperatures values={values} stale={stale} />
            </Card>
          )}
        </div>
        <div class="third stack">
          <Card title={say("trend")} icon="energy">
            <Trend names={[`${device}.soc_pct`, `${device}.${hot}`]} titles={["SoC", say("hottest")]} label={say("trend")} first={24} />
          </Card>
        </div>
      </div>
      <details class="card">
        <summary>{say("all")}</summary>
        <dl class="facts">
          {[...values].map(([point, value]) => [
            <dt key={point}>
              <a href={to("charts", "", { signals: value.name })}>{point}</a>
            </dt>,
            <dd key={`${point} value`}>
              <Live of={value} online={!stale} />
            </dd>,
          ])}
        </dl>
      </details>
    </div>
  );
}

type Values = ReadonlyMap<string, Value>;

function State({ device, site, values, stale }: { device: string; site: Site; values: Values; stale: boolean }): JSX.Element {
  const [w = null] = usePowers([device], site.names);
  const of = (point: string): number | null => valueOf(values.get(point));
  const soc = of("soc_pct");
  return (
    <Card title={site.nameOf(device)} icon="battery" action={values.has("bms_state") && <Badge><Live of={values.get("bms_state")} online={!stale} /></Badge>}>
      <div class="figures">
        <Figure value={soc === null ? null : Math.round(soc * 10) / 10} unit="%" label={say("soc")} stale={stale} />
        <Figure value={w === null ? null : Math.abs(w)} unit="W" label={w === null ? say("power") : w > 15 ? say("charging") : w < -15 ? say("discharging") : say("resting")} stale={stale} />
      </div>
      <Bar pct={soc} label={say("soc")} tone={soc !== null && soc < 15 ? "warn" : "good"} />
      <dl class="facts">
        <Fact name={say("voltage")} of={values.get("voltage_v")} stale={stale} />
        <Fact name={say("current")} of={values.get("current_a")} stale={stale} />
        <Fact name={say("soh")} of={values.get("soh_pct")} stale={stale} />
        {values.has("energy_remaining_wh") && (
          <>
            <dt>{say("left")}</dt>
            <dd>
              <Live of={values.get("energy_remaining_wh")} online={!stale} /> {of("energy_capacity_wh") !== null && say("holds", { wh: quantity(of("energy_capacity_wh"), "Wh") })}
            </dd>
          </>
        )}
        <Fact name={say("cycles")} of={values.get("cycles")} stale={stale} />
        {values.has("contactor_main") && (
          <>
            <dt>{say("contactor")}</dt>
            <dd>{of("contactor_main") === null ? say("unknown") : of("contactor_main") ? say("closed") : say("open")}</dd>
          </>
        )}
      </dl>
      {of("balancing") === 1 && <Badge tone="info">{say("balancing")}</Badge>}
      <Reports values={values} />
    </Card>
  );
}

const Fact = ({ name, of, stale }: { name: string; of: Value | undefined; stale: boolean }): JSX.Element | null =>
  of ? (
    <>
      <dt>{name}</dt>
      <dd>
        <Live of={of} online={!stale} />
      </dd>
    </>
  ) : null;

/** What the BMS itself reports: faults and warnings that are set. */
function Reports({ values }: { values: Values }): JSX.Element | null {
  const known = [...values].filter(([point]) => /^(fault|warning)(_|$)/.test(point));
  if (!known.length) return null;
  const set = known.filter(([, value]) => value.value === 1);
  const named = set.filter(([point]) => point !== "fault" && point !== "warning");
  return (
    <p class="row">
      <span class="dim">{say("faults")}:</span>
      {(named.length ? named : set).map(([point]) => (
        <Badge key={point} tone={point.startsWith("fault") ? "bad" : "warn"}>
          {say(point.startsWith("fault") ? "fault" : "warning")} {word(point.replace(/^(fault|warning)_?/, ""))}
        </Badge>
      ))}
      {!set.length && <Badge tone="good">{say("nofault")}</Badge>}
    </p>
  );
}

function Limits({ values, online }: { values: Values; online: boolean }): JSX.Element | null {
  const rows = (["charge", "discharge"] as const).filter((way) => [...values.keys()].some((point) => point.startsWith(`${way}_`) && /limit|enabled/.test(point)));
  if (!rows.length) return null;
  return (
    <Card title={say("limits")} icon="check">
      <dl class="facts">
        {rows.map((way) => {
          const enabled = valueOf(values.get(`${way}_enabled`));
          return [
            <dt key={way}>{say(way)}</dt>,
            <dd key={`${way} is`} class="row">
              {values.has(`${way}_enabled`) && <Badge tone={enabled === null ? "dim" : enabled ? "good" : "bad"}>{enabled === null ? say("unknown") : enabled ? say("allowed") : say("refused")}</Badge>}
              {["current_limit_a", "power_limit_w", "voltage_limit_v"].map((point) => values.has(`${way}_${point}`) && <Live key={point} of={values.get(`${way}_${point}`)} online={online} />)}
            </dd>,
          ];
        })}
      </dl>
    </Card>
  );
}

type Vehicle = Item<"/api/vehicles">;
const SIZE = 100;

/** What is in no list of devices, or only posts: vehicles. */
function Vehicles({ site }: { site: Site }): JSX.Element {
  const [page, setPage] = useState(1);
  const asked = useAsk("/api/vehicles", { query: { page, page_size: SIZE } }, 15);
  const [open, setOpen] = useState("");
  const vehicles = (asked.data?.items ?? []).filter((one) => one.source === "posted" || !site.roles.batteries.includes(one.vin));
  return (
    <Card title={say("vehicles")} icon="station">
      <Await of={asked} empty={say("novehicle")}>
        {() =>
          vehicles.length ? (
            <Table head={[say("vehicle"), `>${say("soc")}`, `>${say("power")}`, `>${say("hottest")}`, `>${say("odo")}`, say("heard"), say("alerts")]} label={say("vehicles")}>
              {vehicles.map((one) => [
                <Row key={one.vin} one={one} open={open === one.vin} toggle={() => setOpen(open === one.vin ? "" : one.vin)} />,
                open === one.vin && (
                  <tr key={`${one.vin} more`}>
                    <td colSpan={7}>
                      <About vin={one.vin} />
                    </td>
                  </tr>
                ),
              ])}
            </Table>
          ) : (
            <p class="dim">{say("novehicle")}</p>
          )
        }
      </Await>
      <Pager page={page} size={SIZE} total={asked.data?.total ?? page * SIZE} set={setPage} />
    </Card>
  );
}

const Row = ({ one, open, toggle }: { one: Vehicle; open: boolean; toggle: () => void }): JSX.Element => (
  <tr>
    <th scope="row">
      <button type="button" class="link" aria-expanded={open} onClick={toggle}>
        {one.source === "posted" ? one.vin : say("at", { name: one.vin })}
      </button>
    </th>
    <td class="value">{quantity(one.soc === null ? null : Math.round(one.soc * 10) / 10, "%")}</td>
    <td class="value">{quantity(one.power_kw === null ? null : one.power_kw * 1000, "W")}</td>
    <td class="value">{quantity(one.max_temp, "degc")}</td>
    <td class="value">{one.odo_km === null ? "" : `${number(one.odo_km)} km`}</td>
    <td class="nowrap">{ago(one.ts)}</td>
    <td>{one.alerts.map((code) => <Badge key={code} tone="warn">{word(code)}</Badge>)}</td>
  </tr>
);

function About({ vin }: { vin: string }): JSX.Element {
  const params = { params: { vin } };
  const summary = useAsk("/api/vehicles/{vin}/summary", params, 60);
  const odd = useAsk("/api/vehicles/{vin}/anomalies", params, 300);
  const latest = useAsk("/api/vehicles/{vin}/latest", params, 15);
  const range = (low: number | null, high: number | null, unit: string): string => say("between", { low: quantity(low, unit), high: quantity(high, unit) });
  return (
    <div class="stack">
      {latest.data?.details.map((one) => <Alert key={one.code} tone="warn">{told(one.text)}</Alert>)}
      <Await of={summary}>
        {(data) => (
          <dl class="facts">
            <dt>{say("range")}</dt>
            <dd>{say("samples", { n: data.samples })}</dd>
            <dt>{say("soc")}</dt>
            <dd>{range(data.soc_min, data.soc_max, "%")}</dd>
            <dt>{say("temps")}</dt>
            <dd>{range(data.temp_min, data.temp_max, "degc")}</dd>
          </dl>
        )}
      </Await>
      <h3>{say("odd")}</h3>
      {odd.data && !odd.data.items.length && <p class="dim">{say("calm")} {odd.data.too_new.length > 0 && say("fresh", { n: odd.data.too_new.length })}</p>}
      <ul class="plain">
        {odd.data?.items.map((one) => (
          <li key={`${one.signal} ${one.from_ts}`}>
            <a href={to("charts", "", { signals: one.signal, from: one.from_ts, to: one.to_ts })}>{moment(one.from_ts)}</a> {told(one.text)} <small class="dim">{say("usual", { low: number(one.expected_low, 1), high: number(one.expected_high, 1) })}</small>
          </li>
        ))}
      </ul>
    </div>
  );
}
