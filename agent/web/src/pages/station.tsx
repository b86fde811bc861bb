// One station: what it does, what it shall do, why, and what it did.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { del, patch } from "../core/api.ts";
import { refreshAll, useAsk } from "../core/ask.ts";
import { quantity } from "../core/format.ts";
import { texts } from "../core/i18n.ts";
import { useLink, useSignals, useSome } from "../core/live.ts";
import { go, to } from "../core/route.ts";
import { may } from "../core/session.ts";
import { Acts } from "../site/acts.tsx";
import { OpenAlarms } from "../site/cards.tsx";
import { signalOf } from "../site/roles.ts";
import { PresentSession, Sessions } from "../site/sessions.tsx";
import { OnOff, StationState, canSwitch, change, command } from "../site/switching.tsx";
import { Trend } from "../site/trend.tsx";
import { type StationOut, useSite, valueOf } from "../site/use-site.ts";
import { PastDecisions, WhyCard } from "../site/why.tsx";
import { Icon } from "../ui/icons.tsx";
import { Action, Alert, Card, Choice, Field, Figure, Form, Live } from "../ui/parts.tsx";

const say = texts({
  en: {
    back: "Stations", none: "There is no station {id}.", draws: "draws", most: "can give", given: "offered", shall: "What it shall do", auto: "Automatic", autoHint: "Takes back what was said by hand; rules, schedules and load management go on.", limit: "Current per phase", set: "Set", lift: "No limit",
    holds: "Holds", forever: "until somebody says otherwise", hour: "for 1 hour", hours: "for {n} hours", day: "for a day", hand: "Viewers can look only.", power: "Power", curve: "What it drew", values: "All values", registered: "This station has no wire to the gateway.", edit: "Change", name: "Name", place: "Place", kw: "Power, kW", remove: "Remove", gone: "removed",
    offline: "Nothing is heard of its charger: what is shown is old.", device: "Its charger", limited: "limit",
  },
  es: {
    back: "Estaciones", none: "No existe la estación {id}.", draws: "consume", most: "puede dar", given: "ofrecido", shall: "Lo que debe hacer", auto: "Automático", autoHint: "Retira lo dicho a mano; siguen reglas, programas y gestión de carga.", limit: "Corriente por fase", set: "Fijar", lift: "Sin límite",
    holds: "Vale", forever: "hasta que alguien diga otra cosa", hour: "durante 1 hora", hours: "durante {n} horas", day: "durante un día", hand: "Con lectura solo se puede mirar.", power: "Potencia", curve: "Lo que consumió", values: "Todos los valores", registered: "Esta estación no tiene cable a la pasarela.", edit: "Cambiar", name: "Nombre", place: "Lugar", kw: "Potencia, kW", remove: "Quitar", gone: "quitada",
    offline: "No se oye a su cargador: lo que se ve es antiguo.", device: "Su cargador", limited: "límite",
  },
});

export default function Page({ id }: { id: string }): JSX.Element {
  const asked = useAsk(id ? "/api/stations/{station_id}" : null, { params: { station_id: id } }, 4);
  const station = asked.data;
  return (
    <>
      <p class="back">
        <a href={to("stations")}>
          <Icon name="left" /> {say("back")}
        </a>
      </p>
      <h1>
        {station?.name || id} {station?.name && station.name !== id && <small class="dim">{id}</small>}
      </h1>
      {!id && <Alert>{say("none", { id })}</Alert>}
      {!station && asked.error && <Alert>{asked.error.status === 404 ? say("none", { id }) : asked.error.message}</Alert>}
      {station && <Shown station={station} />}
    </>
  );
}

function Shown({ station }: { station: StationOut }): JSX.Element {
  const site = useSite();
  const online = station.registered || site.online(station.device);
  const power = signalOf(station);
  const limit = signalOf(station, "current_limit_a");
  return (
    <div class="stack">
      {!online && site.devices.data && <Alert tone="warn">{say("offline")}</Alert>}
      <OpenAlarms device={station.device} />
      <div class="board">
        <div class="first stack">
          <Present station={station} online={online} />
          <Wanted station={station} />
        </div>
        <div class="second stack">
          <PresentSession station={station} />
          <WhyCard station={station.id} />
          <Acts station={station} />
        </div>
        <div class="third stack">
          {!station.registered && (
            <Card title={say("curve")} icon="energy">
              <Trend names={site.names.has(limit) ? [power, limit] : [power]} titles={[say("power"), say("limited")]} label={say("curve")} />
            </Card>
          )}
          {station.registered && may("operator") && <Registered station={station} />}
        </div>
      </div>
      {!station.registered && <Sessions station={station} />}
      <PastDecisions station={station.id} />
      {!station.registered && <Values station={station} online={online} />}
    </div>
  );
}

function Present({ station, online }: { station: StationOut; online: boolean }): JSX.Element {
  const [power, offered, soc] = useSome(["power_w", "current_offered_a", "soc_pct"].map((point) => signalOf(station, point)));
  const stale = useLink() !== "live" || !online;
  return (
    <Card>
      <StationState station={station} stale={stale} />
      <div class="figures">
        <Figure value={power === undefined ? station.power_w : valueOf(power)} unit="W" label={say("draws")} stale={stale} />
        {station.limit_a !== null && <Figure value={station.limit_a} unit="A" label={say("limited")} />}
        {offered && <Figure value={offered.value} unit="A" label={say("given")} stale={stale} />}
        {station.max_kw !== null && <Figure value={station.max_kw * 1000} unit="W" label={say("most")} />}
        {valueOf(soc) !== null && <Figure value={Math.round(valueOf(soc)!)} unit="%" label="SoC" stale={stale} />}
      </div>
      {station.registered && <p class="dim">{say("registered")} {station.location}</p>}
    </Card>
  );
}

type Holds = "0" | "3600" | "14400" | "28800" | "86400";

/** On, off, automatic, and how much. */
function Wanted({ station }: { station: StationOut }): JSX.Element | null {
  const [holds, setHolds] = useState<Holds>("0");
  const setting = station.settings["current_limit_a"];
  const lasting = holds === "0" ? {} : { for_s: Number(holds) };
  if (!canSwitch(station) && !setting) return null;
  if (!may("operator"))
    return (
      <Card title={say("shall")} icon="power">
        <p class="dim">{say("hand")}</p>
      </Card>
    );
  return (
    <Card title={say("shall")} icon="power">
      <div class="shall">
        <OnOff station={station} lasting={lasting} />
        <Action run={() => command(station, "release", { all: true })}>
          {say("auto")}
        </Action>
      </div>
      <p class="dim">
        <small>{say("autoHint")}</small>
      </p>
      {setting && <Limit station={station} min={setting.min} max={setting.max} lasting={lasting} />}
      <Choice<Holds> label={say("holds")} value={holds} set={setHolds} of={{ "0": say("forever"), "3600": say("hour"), "14400": say("hours", { n: 4 }), "28800": say("hours", { n: 8 }), "86400": say("day") }} />
    </Card>
  );
}

function Limit({ station, min, max, lasting }: { station: StationOut; min: number; max: number; lasting: { for_s?: number } }): JSX.Element {
  const stands = station.limit_a ?? max;
  const [chosen, choose] = useState<number | null>(null);
  // Load management may change the limit while somebody's finger is on the slider: what was chosen stays.
  const value = chosen ?? Math.max(min, Math.min(max, stands));
  return (
    <div class="limit">
      <label for="limit">
        {say("limit")} <output for="limit">{quantity(value, "A")}</output>
      </label>
      <input id="limit" type="range" min={min} max={max} step={1} value={value} aria-valuetext={quantity(value, "A")} onInput={(event) => choose(Number(event.currentTarget.value))} />
      <div class="row between dim">
        <small>{quantity(min, "A")}</small>
        <small>{quantity(max, "A")}</small>
      </div>
      <div class="actions">
        <Action kind="main" disabled={value === station.limit_a} run={async () => (await change(station, { limit_a: value, ...lasting }), choose(null))}>
          {say("set")} {quantity(value, "A")}
        </Action>
        <Action disabled={station.limit_a === null || station.limit_a === max} run={async () => (await change(station, { limit_a: max, ...lasting }), choose(null))}>
          {say("lift")}
        </Action>
      </div>
    </div>
  );
}

function Registered({ station }: { station: StationOut }): JSX.Element {
  const send = async ({ name = "", location = "", max_kw = "" }: Record<string, string>): Promise<void> => {
    await patch("/api/stations/{station_id}", { params: { station_id: station.id }, body: { name, location, ...(max_kw ? { max_kw: Number(max_kw) } : {}) } as never });
  };
  const remove = async (): Promise<void> => {
    await del("/api/stations/{station_id}", { params: { station_id: station.id } });
    refreshAll();
    go("stations");
  };
  return (
    <Card title={say("edit")} icon="edit">
      <Form button={say("edit")} send={send}>
        <Field label={say("name")} name="name" defaultValue={station.name} maxLength={100} required />
        <Field label={say("place")} name="location" defaultValue={station.location} maxLength={200} />
        <Field label={say("kw")} name="max_kw" type="number" inputMode="decimal" min={0.1} step="any" defaultValue={station.max_kw ?? ""} />
      </Form>
      <div class="actions">
        <Action kind="danger" icon="trash" run={remove} done={say("gone")}>
          {say("remove")}
        </Action>
      </div>
    </Card>
  );
}

/** Every value of the outlet, for who looks for the one that is not shown above. */
function Values({ station, online }: { station: StationOut; online: boolean }): JSX.Element {
  const values = useSignals(station.device);
  const mine = [...values].filter(([point]) => !station.outlet || point.endsWith(`.${station.outlet}`));
  return (
    <details class="card">
      <summary>{say("values")}</summary>
      <dl class="facts">
        {mine.map(([point, value]) => (
          <>
            <dt key={point}>
              <a href={to("charts", "", { signals: value.name })}>{point}</a>
            </dt>
            <dd>
              <Live of={value} online={online} />
            </dd>
          </>
        ))}
      </dl>
    </details>
  );
}
