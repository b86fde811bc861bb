// All stations: what each does and draws, its switch; chargers that wait; stations without a wire.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { post } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { quantity } from "../core/format.ts";
import { texts } from "../core/i18n.ts";
import { go } from "../core/route.ts";
import { may } from "../core/session.ts";
import { Pending } from "../site/pending.tsx";
import { StationRow } from "../site/station-row.tsx";
import { urgency } from "../site/switching.tsx";
import { type Site, type StationOut, useSite } from "../site/use-site.ts";
import { Await, Card, Choice, Dialog, Field, Figure, Form } from "../ui/parts.tsx";

const say = texts({
  en: {
    title: "Stations", register: "Register a station", about: "A station that has no wire to this gateway: it is listed, scheduled and counted; nothing is switched by it.",
    name: "Name", place: "Place", kw: "Power, kW", status: "Begins", on: "on", off: "off", none: "No station yet.", search: "Search", sort: "Order", urgent: "what matters first", listed: "as configured", named: "by name",
    total: "stations", active: "on", off2: "off", can: "can give", now: "draw now", nothing: "None of that name.", whole: "Chargers as a whole", open: "Add a device",
  },
  es: {
    title: "Estaciones", register: "Registrar una estación", about: "Una estación sin cable a esta pasarela: aparece en listas, programas y cuentas; no conmuta nada.",
    name: "Nombre", place: "Lugar", kw: "Potencia, kW", status: "Empieza", on: "encendida", off: "apagada", none: "Aún no hay estaciones.", search: "Buscar", sort: "Orden", urgent: "lo importante primero", listed: "como en la configuración", named: "por nombre",
    total: "estaciones", active: "encendidas", off2: "apagadas", can: "pueden dar", now: "consumen ahora", nothing: "Ninguna con ese nombre.", whole: "Cargadores enteros", open: "Agregar un equipo",
  },
});

type Order = "listed" | "urgent" | "name";
/** From so many on there is something to search in. */
const MANY = 8;

export default function Page(_: { id: string }): JSX.Element {
  const site = useSite();
  const [adding, setAdding] = useState(false);
  return (
    <>
      <div class="row between">
        <h1>{say("title")}</h1>
        {may("operator") && (
          <button type="button" onClick={() => setAdding(true)}>
            {say("register")}
          </button>
        )}
      </div>
      <div class="stack">
        <Pending />
        <Card>
          <Stats site={site} />
        </Card>
        <List site={site} />
      </div>
      {adding && <Register close={() => setAdding(false)} />}
    </>
  );
}

function Stats({ site }: { site: Site }): JSX.Element {
  const stats = useAsk("/api/stations/stats", {}, 10);
  const known = site.outlets.filter((one) => one.power_w !== null);
  return (
    <Await of={stats}>
      {(data) => (
        <div class="figures">
          <Figure value={data.total} unit="" label={say("total")} />
          <Figure value={data.active} unit="" label={say("active")} />
          <Figure value={data.inactive} unit="" label={say("off2")} />
          <Figure value={data.total_kw * 1000} unit="W" label={say("can")} />
          <Figure value={known.length ? known.reduce((sum, one) => sum + (one.power_w ?? 0), 0) : null} unit="W" label={say("now")} />
        </div>
      )}
    </Await>
  );
}

function List({ site }: { site: Site }): JSX.Element {
  const [wanted, setWanted] = useState("");
  const [order, setOrder] = useState<Order>("listed");
  const many = site.outlets.length > MANY;
  const whole = (site.stations.data?.items ?? []).filter((one) => !site.outlets.includes(one));
  const found = sorted(site.outlets, order).filter((one) => `${one.id} ${one.name} ${one.location}`.toLowerCase().includes(wanted.trim().toLowerCase()));
  const rows = (items: readonly StationOut[]): JSX.Element => (
    <ul class="plain stations">
      {items.map((one) => (
        <StationRow key={one.id} station={one} online={site.online(one.device)} full />
      ))}
    </ul>
  );
  return (
    <>
      <Card>
        {many && (
          <div class="two">
            <Field label={say("search")} type="search" value={wanted} onInput={(event) => setWanted(event.currentTarget.value)} />
            <Choice<Order> label={say("sort")} value={order} of={{ listed: say("listed"), urgent: say("urgent"), name: say("named") }} set={setOrder} />
          </div>
        )}
        <Await of={site.stations} empty={<>{say("none")} {may("admin") && <a href="#/wizard">{say("open")}</a>}</>}>
          {() => (found.length ? rows(found) : <p class="dim">{say("nothing")}</p>)}
        </Await>
      </Card>
      {whole.length > 0 && <Card title={say("whole")}>{rows(whole)}</Card>}
    </>
  );
}

function sorted(stations: readonly StationOut[], order: Order): StationOut[] {
  const items = [...stations];
  if (order === "urgent") items.sort((one, other) => urgency(one) - urgency(other));
  if (order === "name") items.sort((one, other) => (one.name || one.id).localeCompare(other.name || other.id, undefined, { numeric: true }));
  return items;
}

function Register({ close }: { close: () => void }): JSX.Element {
  const [status, setStatus] = useState<"on" | "off">("on");
  const send = async ({ name = "", location = "", max_kw = "" }: Record<string, string>): Promise<void> => {
    const made = await post("/api/stations", { body: { name, location, status, ...(max_kw ? { max_kw: Number(max_kw) } : {}) } as never });
    close();
    go("station", made.id);
  };
  return (
    <Dialog title={say("register")} close={close}>
      <p class="dim">{say("about")}</p>
      <Form button={say("register")} send={send} cancel={close}>
        <Field label={say("name")} name="name" maxLength={100} required autofocus />
        <Field label={say("place")} name="location" maxLength={200} />
        <Field label={say("kw")} name="max_kw" type="number" inputMode="decimal" min={0.1} step="any" placeholder={quantity(22000, "W")} />
        <Choice<"on" | "off"> label={say("status")} value={status} of={{ on: say("on"), off: say("off") }} set={setStatus} />
      </Form>
    </Dialog>
  );
}
