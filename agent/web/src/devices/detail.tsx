// One device: its values as they come, its stations, its entry in the configuration.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type Answer, del, put } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { number } from "../core/format.ts";
import { texts } from "../core/i18n.ts";
import { type Value, useSignals } from "../core/live.ts";
import { chartOf, go, to } from "../core/route.ts";
import { may } from "../core/session.ts";
import { told } from "../core/told.ts";
import { EntryForm } from "../setup/entry-form.tsx";
import { patienceOf } from "../setup/patience.ts";
import type { Entry } from "../setup/schema.ts";
import { Test, tryDevice } from "../setup/test.tsx";
import { Icon } from "../ui/icons.tsx";
import { Alert, Await, Card, Dialog, Field, Form, Live, tell } from "../ui/parts.tsx";
import { type Device, Facts, Heard, StateBadge, Trouble } from "./card.tsx";

const say = texts({
  en: {
    back: "All devices", values: "Values", search: "Search", none: "No value is known.", chart: "Chart of {name}", stations: "Its stations: switch, limit, commands", entry: "In the configuration", edit: "Change", remove: "Take out", removeSure: "Take {id} out of the configuration? What it told stays in the store; its stations are gone.",
    saved: "{id} is saved and applied", removed: "{id} is taken out", counters: "Figures of its wire", alarms: "Its alarms", locked: "It can't be changed here: {why}", gone: "There is no device {id}.", unknown: "{count} not known",
  },
  es: {
    back: "Todos los equipos", values: "Valores", search: "Buscar", none: "No se conoce ningún valor.", chart: "Gráfica de {name}", stations: "Sus estaciones: encender, limitar, órdenes", entry: "En la configuración", edit: "Cambiar", remove: "Quitar", removeSure: "¿Quitar {id} de la configuración? Lo que dijo queda guardado; sus estaciones desaparecen.",
    saved: "{id} está guardado y aplicado", removed: "{id} está quitado", counters: "Cifras de su bus", alarms: "Sus alarmas", locked: "No se puede cambiar aquí: {why}", gone: "No hay ningún equipo {id}.", unknown: "{count} desconocidos",
  },
});

const APPLY_MS = 60_000;

export function Detail({ id, devices }: { id: string; devices: readonly Device[] }): JSX.Element {
  const of = devices.find((one) => one.id === id);
  return (
    <>
      <p>
        <a href={to("devices")}>‹ {say("back")}</a>
      </p>
      {of ? <Known of={of} /> : <Alert>{say("gone", { id })}</Alert>}
    </>
  );
}

function Known({ of }: { of: Device }): JSX.Element {
  return (
    <>
      <div class="row titled">
        <h1>{of.name || of.id}</h1>
        <StateBadge of={of} />
        <Heard of={of} />
      </div>
      <div class="grid">
        <Card title={of.id} icon="devices">
          <Trouble of={of} />
          <Facts of={of} />
          {of.testable && may("operator") && <Test patience_s={patienceOf(of.driver, of.profile)} run={() => tryDevice(of.id)} />}
          <p class="ends">
            <a href={to("alarms", "", { tab: "all", device: of.id })}>{say("alarms")}</a>
          </p>
        </Card>
        <Stations of={of} />
        {may("admin") && of.kind === "configured" && <InFile of={of} />}
        {may("admin") && of.kind === "posted" && <Remove of={of} />}
        <Values of={of} />
        <Counters of={of} />
      </div>
    </>
  );
}

function Values({ of }: { of: Device }): JSX.Element {
  const values = useSignals(of.id);
  const [text, setText] = useState("");
  const wanted = text.trim().toLowerCase();
  const shown = [...values].filter(([point]) => !wanted || point.includes(wanted));
  const unknown = of.signals - of.known;
  return (
    <Card title={say("values")} icon="energy" wide action={unknown > 0 && <small class="dim">{say("unknown", { count: number(unknown) })}</small>}>
      {values.size > 12 && <Field label={say("search")} type="search" value={text} onInput={(event) => setText(event.currentTarget.value)} />}
      {shown.length ? (
        <ul class="values">
          {shown.map(([point, value]) => (
            <One key={point} point={point} value={value} online={of.state === "online"} />
          ))}
        </ul>
      ) : (
        <p class="dim">{say("none")}</p>
      )}
    </Card>
  );
}

const One = ({ point, value, online }: { point: string; value: Value; online: boolean }): JSX.Element => (
  <li>
    <a href={chartOf(value.name)} title={say("chart", { name: value.name })}>
      <span>{point}</span>
      <strong>
        <Live of={value} online={online} />
      </strong>
    </a>
  </li>
);

function Stations({ of }: { of: Device }): JSX.Element | null {
  const stations = useAsk("/api/stations", { query: { page_size: 500 } }, 30);
  const its = stations.data?.items.filter((one) => one.device === of.id) ?? [];
  if (!its.length) return null;
  return (
    <Card title={say("stations")} icon="station">
      <ul class="tiles">
        {its.map((one) => (
          <li key={one.id}>
            <a href={to("station", one.id)}>
              {one.name || one.id} <Icon name="right" />
            </a>
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Counters({ of }: { of: Device }): JSX.Element | null {
  const counters = Object.entries(of.counters);
  if (!counters.length) return null;
  return (
    <Card>
      <details class="more">
        <summary>{say("counters")}</summary>
        <dl class="facts">
          {counters.map(([name, count]) => (
            <>
              <dt>{told(name.replaceAll("_", " "))}</dt>
              <dd>{number(count)}</dd>
            </>
          ))}
        </dl>
      </details>
    </Card>
  );
}

function InFile({ of }: { of: Device }): JSX.Element {
  const asked = useAsk("/api/devices/{device_id}/entry", { params: { device_id: of.id } }, 60);
  const [edits, setEdits] = useState(false);
  return (
    <Card title={say("entry")} icon="edit">
      <Await of={asked}>
        {(found) => (
          <>
            <pre>{found.yaml}</pre>
            {found.editable ? (
              <div class="actions">
                <button type="button" onClick={() => setEdits(true)}>
                  <Icon name="edit" /> {say("edit")}
                </button>
                <Remove of={of} bare />
              </div>
            ) : (
              <p class="dim">{say("locked", { why: told(found.reason) })}</p>
            )}
            {edits && <Edit of={found} close={() => (setEdits(false), void asked.refresh())} />}
          </>
        )}
      </Await>
    </Card>
  );
}

function Edit({ of, close }: { of: Answer<"/api/devices/{device_id}/entry">; close: () => void }): JSX.Element {
  const [entry, setEntry] = useState(of.entry as Entry);
  const save = async (next: Entry): Promise<void> => {
    await put("/api/devices/{device_id}", { params: { device_id: of.id }, body: next as never, signal: AbortSignal.timeout(APPLY_MS) });
    tell(say("saved", { id: of.id }), "good");
    close();
  };
  return (
    <Dialog title={of.id} close={close}>
      <EntryForm entry={entry} change={setEntry} save={save} cancel={close} existing />
    </Dialog>
  );
}

function Remove({ of, bare }: { of: Device; bare?: boolean }): JSX.Element {
  const [asks, setAsks] = useState(false);
  const remove = async (): Promise<void> => {
    await del("/api/devices/{device_id}", { params: { device_id: of.id }, signal: AbortSignal.timeout(APPLY_MS) });
    tell(say("removed", { id: of.id }), "good");
    go("devices");
  };
  const button = (
    <>
      <button type="button" class="danger" onClick={() => setAsks(true)}>
        <Icon name="trash" /> {say("remove")}
      </button>
      {asks && (
        <Dialog title={say("remove")} close={() => setAsks(false)}>
          <Form send={remove} button={say("remove")} cancel={() => setAsks(false)}>
            <p>{say("removeSure", { id: of.id })}</p>
          </Form>
        </Dialog>
      )}
    </>
  );
  return bare ? button : <Card>{button}</Card>;
}
