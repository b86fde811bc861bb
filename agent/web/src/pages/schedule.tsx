// What happens by the clock: schedules of the configuration, and timed events that are made here.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type Item, del, patch, post } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { ago, moment } from "../core/format.ts";
import { texts, word } from "../core/i18n.ts";
import { may } from "../core/session.ts";
import { told } from "../core/told.ts";
import { inputOf, typedTime } from "../core/zone.ts";
import { Action, Alert, Await, Badge, Card, Choice, Dialog, Field, Form, Pager, Table, type Tone } from "../ui/parts.tsx";

const say = texts({
  en: {
    title: "Schedule and events", schedules: "Schedules", schedulesEmpty: "The configuration has no schedules.", when: "When", last: "Last time", next: "Next time", run: "Run now", every: "each {s} s", busy: "running",
    result: "What came of it", events: "Timed events", eventsEmpty: "No events yet. An event switches or limits stations from a time to another, once.", add: "New event", change: "Change", name: "Name", from: "From", to: "To",
    fromHint: "Empty: it is started by hand.", toHint: "Empty: it is finished by hand.", station: "Station", all: "All stations", act: "What", on: "switch on", off: "switch off", limit: "limit to", limitA: "Limit in A",
    more: "Another action", less: "Take out", save: "Save", start: "Start now", finish: "Finish now", cancel: "Call off", state: "State", missed: "missed", hand: "by hand", by: "by {who}",
    programmed: "programmed", in_progress: "in progress", completed: "completed", cancelled: "cancelled", noStations: "There are no stations to switch.", limited: "{station}: at most {a} A", switched: "{station}: {set}",
  },
  es: {
    title: "Programa y eventos", schedules: "Programas", schedulesEmpty: "La configuración no tiene programas.", when: "Cuándo", last: "Última vez", next: "Próxima vez", run: "Ejecutar ahora", every: "cada {s} s", busy: "en marcha",
    result: "Resultado", events: "Eventos programados", eventsEmpty: "Aún no hay eventos. Un evento conmuta o limita estaciones de una hora a otra, una vez.", add: "Evento nuevo", change: "Cambiar", name: "Nombre", from: "Desde", to: "Hasta",
    fromHint: "Vacío: se inicia a mano.", toHint: "Vacío: se termina a mano.", station: "Estación", all: "Todas las estaciones", act: "Qué", on: "encender", off: "apagar", limit: "limitar a", limitA: "Límite en A",
    more: "Otra acción", less: "Quitar", save: "Guardar", start: "Iniciar ahora", finish: "Terminar ahora", cancel: "Anular", state: "Estado", missed: "perdido", hand: "a mano", by: "por {who}",
    programmed: "programado", in_progress: "en curso", completed: "terminado", cancelled: "anulado", noStations: "No hay estaciones que conmutar.", limited: "{station}: como máximo {a} A", switched: "{station}: {set}",
  },
});

type TimedEvent = Item<"/api/events">;
type Act = TimedEvent["then"][number];
interface Draft {
  station: string;
  what: "on" | "off" | "limit";
  limit_a: string;
}
const TONES: Readonly<Record<TimedEvent["state"], Tone>> = { programmed: "info", in_progress: "good", completed: "dim", cancelled: "dim" };
const PAGE = 20;

function describe(act: Act): string {
  const station = act.station === "*" ? say("all") : act.station;
  return act.limit_a !== null ? say("limited", { station, a: act.limit_a }) : say("switched", { station, set: say(act.set === "off" ? "off" : "on") });
}

const drafted = (act: Act): Draft => ({ station: act.station, what: act.limit_a !== null ? "limit" : act.set === "off" ? "off" : "on", limit_a: String(act.limit_a ?? 10) });
const acted = ({ station, what, limit_a }: Draft): { station: string; set?: "on" | "off"; limit_a?: number } =>
  what === "limit" ? { station, limit_a: Number(limit_a) } : { station, set: what };

const absolute = (text: string): string | null => (text ? new Date(typedTime(text)).toISOString() : null);

function Edit({ event, close }: { event?: TimedEvent; close: () => void }): JSX.Element {
  const stations = useAsk("/api/stations", { query: { page_size: 1000 } }, 60);
  const [acts, setActs] = useState<Draft[]>(event ? event.then.map(drafted) : [{ station: "*", what: "off", limit_a: "10" }]);
  const names: Record<string, string> = { "*": say("all") };
  for (const one of stations.data?.items ?? []) names[one.id] = one.name && one.name !== one.id ? `${one.name} (${one.id})` : one.id;
  const set = (index: number, change: Partial<Draft>): void => setActs(acts.map((one, place) => (place === index ? { ...one, ...change } : one)));
  const send = async ({ name = "", start = "", end = "" }: Record<string, string>): Promise<void> => {
    // A field knows minutes of a clock: a time that nobody touched stays what it is, to the second.
    const time = (typed: string, before: string | null): string | null => (event && typed === inputOf(before) ? before : absolute(typed));
    const body = { name, start: time(start, event?.start ?? null), end: time(end, event?.end ?? null), then: acts.map(acted) } as never;
    if (event) await patch("/api/events/{event_id}", { params: { event_id: event.id }, body });
    else await post("/api/events", { body });
    close();
  };
  return (
    <Dialog title={event?.name ?? say("add")} close={close}>
      <Form send={send} button={say("save")} cancel={close}>
        <Field label={say("name")} name="name" defaultValue={event?.name ?? ""} maxLength={100} required autofocus />
        <Field label={say("from")} hint={say("fromHint")} name="start" type="datetime-local" defaultValue={inputOf(event?.start ?? null)} />
        <Field label={say("to")} hint={say("toHint")} name="end" type="datetime-local" defaultValue={inputOf(event?.end ?? null)} />
        {acts.map((one, index) => (
          <fieldset key={index} class="row">
            <legend class="hidden">{`${say("act")} ${index + 1}`}</legend>
            <Choice label={say("station")} value={one.station} of={names} set={(station) => set(index, { station })} />
            <Choice label={say("act")} value={one.what} of={{ off: say("off"), on: say("on"), limit: say("limit") }} set={(what) => set(index, { what })} />
            {one.what === "limit" && <Field label={say("limitA")} type="number" min={0} max={1000} step={0.5} required value={one.limit_a} onInput={(typed) => set(index, { limit_a: typed.currentTarget.value })} />}
            {acts.length > 1 && (
              <button type="button" onClick={() => setActs(acts.filter((_, place) => place !== index))}>
                {say("less")}
              </button>
            )}
          </fieldset>
        ))}
        <button type="button" onClick={() => setActs([...acts, { station: "*", what: "off", limit_a: "10" }])}>
          {say("more")}
        </button>
      </Form>
    </Dialog>
  );
}

type Result = Item<"/api/scheduler/jobs">["results"][number];

const Results = ({ of }: { of: readonly Result[] }): JSX.Element => (
  <>
    {of.map((one) => (
      <div key={one.id} class={one.outcome === "done" ? "" : "bad"}>
        {word(one.outcome)} {one.reason && <small class="dim">{told(one.reason)}</small>}
      </div>
    ))}
  </>
);

function Schedules(): JSX.Element {
  const [now, setNow] = useState<Readonly<Record<string, readonly Result[]>>>({});
  const run = async (id: string): Promise<void> => {
    const found = await post("/api/scheduler/run", { body: { id } });
    setNow((before) => ({ ...before, [id]: found.results }));
  };
  const jobs = useAsk("/api/scheduler/jobs", { query: { page_size: 1000 } }, 15);
  return (
    <Card title={say("schedules")} icon="clock" wide>
      <Await of={jobs} empty={say("schedulesEmpty")}>
        {(page) => (
          <Table head={["Id", say("when"), say("last"), say("next"), say("result"), ""]} label={say("schedules")}>
            {page.items.map((job) => (
              <tr key={job.id}>
                <td>
                  {job.id} {job.running && <Badge tone="good">{say("busy")}</Badge>}
                </td>
                <td>{job.cron ? <code>{job.cron}</code> : say("every", { s: job.every_s ?? 0 })}</td>
                <td>{moment(job.last)}</td>
                <td>{moment(job.next)}</td>
                <td>
                  <Results of={now[job.id] ?? job.results} />
                </td>
                <td class="value">{may("operator") && <Action run={() => run(job.id)}>{say("run")}</Action>}</td>
              </tr>
            ))}
          </Table>
        )}
      </Await>
    </Card>
  );
}

function Row({ event, edit }: { event: TimedEvent; edit: () => void }): JSX.Element {
  const params = { event_id: event.id };
  return (
    <tr>
      <td>
        <strong>{event.name}</strong>
        {event.then.map((act, index) => (
          <div key={index} class="dim">
            {describe(act)}
          </div>
        ))}
      </td>
      <td>{event.start ? moment(event.start) : say("hand")}</td>
      <td>{event.end ? moment(event.end) : say("hand")}</td>
      <td>
        <Badge tone={event.missed ? "bad" : TONES[event.state]}>{say(event.missed ? "missed" : event.state)}</Badge>
        {event.started && (
          <small class="dim">
            {" "}
            {ago(event.finished ?? event.started)} {say("by", { who: event.finished ? event.finished_by : event.started_by })}
          </small>
        )}
      </td>
      <td class="value">
        {may("operator") && (
          <div class="actions">
            {event.state === "programmed" && <Action run={() => post("/api/events/{event_id}/start", { params })}>{say("start")}</Action>}
            {event.state === "in_progress" && <Action run={() => post("/api/events/{event_id}/finish", { params })}>{say("finish")}</Action>}
            {(event.state === "programmed" || event.state === "in_progress") && (
              <button type="button" onClick={edit}>
                {say("change")}
              </button>
            )}
            {event.state === "programmed" && (
              <Action kind="danger" run={() => del("/api/events/{event_id}", { params })}>
                {say("cancel")}
              </Action>
            )}
          </div>
        )}
      </td>
    </tr>
  );
}

export default function Schedule(): JSX.Element {
  const [page, setPage] = useState(1);
  const [open, setOpen] = useState<{ event?: TimedEvent }>();
  const events = useAsk("/api/events", { query: { page, page_size: PAGE } }, 15);
  const stations = useAsk("/api/stations", { query: { page_size: 1 } }, 60);
  return (
    <>
      <div class="row between">
        <h1>{say("title")}</h1>
        {may("operator") && (
          <button type="button" class="main" disabled={!stations.data?.total} onClick={() => setOpen({})}>
            {say("add")}
          </button>
        )}
      </div>
      {stations.data?.total === 0 && <Alert tone="info">{say("noStations")}</Alert>}
      <div class="stack">
        <Card title={say("events")} icon="calendar" wide>
          <Await of={events} empty={say("eventsEmpty")}>
            {(found) => (
              <>
                <Table head={[say("name"), say("from"), say("to"), say("state"), ""]} label={say("events")}>
                  {found.items.map((event) => (
                    <Row key={event.id} event={event} edit={() => setOpen({ event })} />
                  ))}
                </Table>
                <Pager page={page} size={PAGE} total={found.total} set={setPage} />
              </>
            )}
          </Await>
        </Card>
        <Schedules />
      </div>
      {open && <Edit {...(open.event ? { event: open.event } : {})} close={() => setOpen(undefined)} />}
    </>
  );
}
