// Machines, what is due on them, what was done, and the plans that say so.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type Item, patch, post } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { day, number } from "../core/format.ts";
import { texts } from "../core/i18n.ts";
import { go, place } from "../core/route.ts";
import { may } from "../core/session.ts";
import { useStore } from "../core/store.ts";
import { told } from "../core/told.ts";
import { inputOf, midnight } from "../core/zone.ts";
import { Action, Await, Badge, Card, Choice, Dialog, Field, Form, Pager, Table, type Tone } from "../ui/parts.tsx";

const say = texts({
  en: {
    title: "Maintenance", due: "What is due", dueEmpty: "Nothing is due.", log: "Log", logEmpty: "Nothing has been written down.", machines: "Machines", plans: "Plans", machine: "Machine", what: "What", state: "State", left: "Left",
    done: "Write down", entry: "New entry", date: "Date", dateHint: "Empty: now.", kind: "Kind", description: "What was done", technician: "Who did it", cost: "Cost", currency: "Currency", parts: "Parts, separated by commas", save: "Save",
    correct: "Correct", corrected: "corrected", correction: "correction", addMachine: "Add a machine", code: "Code", name: "Name", type: "Type", location: "Where it stands", status: "Status", serial: "Serial number", maker: "Maker", model: "Model",
    notes: "Notes", change: "Change", report: "Report to print", csv: "CSV", all: "All machines", enabled: "on", disabled: "off", enable: "Turn on", disable: "Turn off", every: "every", planType: "for", machineFilter: "Machine shown",
    preventive: "preventive", corrective: "repair", inspection: "inspection", calibration: "calibration", other: "other", overdue: "overdue", dueSoon: "due", ok: "in time", unknown: "not known",
    active: "active", inactive: "inactive", maintenance: "in maintenance", retired: "retired", days: "days", running_s: "running hours", energy_wh: "kWh", cycles: "cycles", switches: "switchings", sessions: "sessions", contactor: "contactor switchings",
    newPlan: "New plan", interval: "Interval", unit: "Counted in", warn: "Warn before", forType: "For the type", late: "{n} {unit} too late", toGo: "{n} {unit} to go", dueOn: "on {date}",
  },
  es: {
    title: "Mantenimiento", due: "Lo que toca", dueEmpty: "No hay nada pendiente.", log: "Historial", logEmpty: "No hay nada anotado.", machines: "Máquinas", plans: "Planes", machine: "Máquina", what: "Qué", state: "Estado", left: "Queda",
    done: "Anotar", entry: "Anotación nueva", date: "Fecha", dateHint: "Vacío: ahora.", kind: "Tipo", description: "Qué se hizo", technician: "Quién lo hizo", cost: "Coste", currency: "Moneda", parts: "Piezas, separadas por comas", save: "Guardar",
    correct: "Corregir", corrected: "corregida", correction: "corrección", addMachine: "Añadir una máquina", code: "Código", name: "Nombre", type: "Tipo", location: "Dónde está", status: "Situación", serial: "Número de serie", maker: "Fabricante", model: "Modelo",
    notes: "Notas", change: "Cambiar", report: "Informe para imprimir", csv: "CSV", all: "Todas las máquinas", enabled: "activo", disabled: "inactivo", enable: "Activar", disable: "Desactivar", every: "cada", planType: "para", machineFilter: "Máquina mostrada",
    preventive: "preventivo", corrective: "reparación", inspection: "inspección", calibration: "calibración", other: "otro", overdue: "vencido", dueSoon: "toca", ok: "en plazo", unknown: "no se sabe",
    active: "activa", inactive: "inactiva", maintenance: "en mantenimiento", retired: "retirada", days: "días", running_s: "horas de marcha", energy_wh: "kWh", cycles: "ciclos", switches: "conmutaciones", sessions: "sesiones", contactor: "maniobras del contactor",
    newPlan: "Plan nuevo", interval: "Intervalo", unit: "Contado en", warn: "Avisar antes", forType: "Para el tipo", late: "{n} {unit} de retraso", toGo: "faltan {n} {unit}", dueOn: "el {date}",
  },
});

type Entry = Item<"/api/maintenance">;
type Machine = Item<"/api/machines">;
type Due = Item<"/api/maintenance/due">;
type Plan = Item<"/api/maintenance/plans">;
const KINDS = ["preventive", "corrective", "inspection", "calibration", "other"] as const;
type Kind = (typeof KINDS)[number];
const BY = ["days", "running_s", "energy_wh", "cycles", "switches", "sessions", "contactor"] as const;
type By = (typeof BY)[number];
const STATUSES: readonly Machine["status"][] = ["active", "inactive", "maintenance", "retired"];
const STATES: Readonly<Record<string, [Tone, "overdue" | "dueSoon" | "ok" | "unknown"]>> = { overdue: ["bad", "overdue"], due: ["warn", "dueSoon"], ok: ["good", "ok"], unknown: ["dim", "unknown"] };
/** Counters are kept in s and Wh, and read in hours and kWh. */
const PER: Readonly<Record<string, number>> = { running_s: 3600, energy_wh: 1000 };
const PAGE = 20;
const DUE_PAGE = 50;

const kinds = (): Record<Kind, string> => Object.fromEntries(KINDS.map((one) => [one, say(one)])) as Record<Kind, string>;
const shown = (by: string, amount: number): string => number(amount / (PER[by] ?? 1));
const kindOf = (kind: string): string => (KINDS.includes(kind as Kind) ? say(kind as Kind) : kind);
const unitOf = (by: string): string => (BY.includes(by as By) ? say(by as By) : by);

function left(due: Due): string {
  const first = [...due.intervals].sort((one, other) => (one.left ?? Infinity) / one.every - (other.left ?? Infinity) / other.every)[0];
  if (!first || first.left === null) return due.due ? say("dueOn", { date: day(due.due) }) : "";
  const values = { n: shown(first.by, Math.abs(first.left)), unit: unitOf(first.by) };
  return first.left < 0 ? say("late", values) : say("toGo", values);
}

/** `of`: the entry that this one corrects, or the machine that it is for. */
function WriteDown({ of, close }: { of: { entry?: Entry; machine?: string; plan?: string; kind?: string }; close: () => void }): JSX.Element {
  const { entry } = of;
  const machines = useAsk("/api/machines", { query: { page_size: 1000 } }, 60);
  const [kind, setKind] = useState<Kind>((entry?.kind ?? of.kind ?? "preventive") as Kind);
  const [machine, setMachine] = useState(entry?.machine ?? of.machine ?? "");
  const names = Object.fromEntries((machines.data?.items ?? []).map((one) => [one.code, one.name || one.code]));
  const chosen = machine || Object.keys(names)[0] || "";
  const send = async (typed: Record<string, string>): Promise<void> => {
    const { date = "", description = "", technician = "", cost = "", currency = "", parts = "" } = typed;
    const body = {
      machine: chosen, kind, description, technician, plan: entry?.plan ?? of.plan ?? "",
      ...(date ? { date: entry && date === inputOf(entry.date).slice(0, 10) ? entry.date : midnight(date) } : {}),
      ...(cost ? { cost: Number(cost), ...(currency ? { currency: currency.toUpperCase() } : {}) } : {}),
      parts: parts.split(",").map((one) => one.trim()).filter(Boolean),
    } as never;
    if (entry) await post("/api/maintenance/{number}/correction", { params: { number: entry.id }, body });
    else await post("/api/maintenance", { body });
    close();
  };
  return (
    <Dialog title={entry ? say("correct") : say("entry")} close={close}>
      <Form send={send} button={say("save")} cancel={close} ready={Boolean(chosen)}>
        <Choice label={say("machine")} value={chosen} of={names} set={setMachine} />
        <Choice label={say("kind")} value={kind} of={kinds()} set={setKind} />
        <Field label={say("date")} hint={say("dateHint")} name="date" type="date" defaultValue={entry ? inputOf(entry.date).slice(0, 10) : ""} />
        <Field label={say("description")} name="description" defaultValue={entry?.description ?? ""} maxLength={4000} />
        <Field label={say("technician")} name="technician" defaultValue={entry?.technician ?? ""} maxLength={200} />
        <Field label={say("cost")} name="cost" type="number" min={0} step={0.01} defaultValue={entry?.cost ?? ""} />
        <Field label={say("currency")} name="currency" pattern="[A-Za-z]{3}" maxLength={3} defaultValue={entry?.currency ?? ""} />
        <Field label={say("parts")} name="parts" defaultValue={entry?.parts.join(", ") ?? ""} />
      </Form>
    </Dialog>
  );
}

function EditMachine({ machine, close }: { machine?: Machine; close: () => void }): JSX.Element {
  const [status, setStatus] = useState<Machine["status"]>(machine?.status ?? "active");
  const names = Object.fromEntries(STATUSES.map((one) => [one, say(one)])) as Record<Machine["status"], string>;
  const send = async (typed: Record<string, string>): Promise<void> => {
    const { code = "", ...said } = typed;
    // What the device says of itself stays so until somebody says something else.
    const changed = Object.fromEntries(Object.entries(said).filter(([key, value]) => value !== (machine?.[key as keyof Machine] ?? "")));
    const body = { ...changed, ...(status === machine?.status ? {} : { status }) } as never;
    if (machine) await patch("/api/machines/{code}", { params: { code: machine.code }, body });
    else await post("/api/machines", { body: { ...(body as object), code } as never });
    close();
  };
  return (
    <Dialog title={machine ? machine.name || machine.code : say("addMachine")} close={close}>
      <Form send={send} button={say("save")} cancel={close}>
        {!machine && <Field label={say("code")} name="code" maxLength={64} required autofocus />}
        {(["name", "type", "location", "maker", "model", "serial", "notes"] as const).map((key) => (
          <Field key={key} label={say(key)} name={key} defaultValue={machine?.[key] ?? ""} />
        ))}
        <Choice label={say("status")} value={status} of={names} set={setStatus} />
      </Form>
    </Dialog>
  );
}

function NewPlan({ close }: { close: () => void }): JSX.Element {
  const [kind, setKind] = useState<Kind>("preventive");
  const [by, setBy] = useState<By>("days");
  const names = Object.fromEntries(BY.map((one) => [one, say(one)])) as Record<By, string>;
  const send = async ({ name = "", type = "", every = "", warn = "", description = "" }: Record<string, string>): Promise<void> => {
    const per = PER[by] ?? 1;
    await post("/api/maintenance/plans", { body: { name, kind, type, description, intervals: [{ by, every: Number(every) * per, warn: Number(warn || 0) * per }] } as never });
    close();
  };
  return (
    <Dialog title={say("newPlan")} close={close}>
      <Form send={send} button={say("save")} cancel={close}>
        <Field label={say("name")} name="name" maxLength={100} required autofocus />
        <Field label={say("forType")} name="type" placeholder="charger" maxLength={60} required />
        <Choice label={say("kind")} value={kind} of={kinds()} set={setKind} />
        <Choice label={say("unit")} value={by} of={names} set={setBy} />
        <Field label={say("interval")} name="every" type="number" min={1} required />
        <Field label={say("warn")} name="warn" type="number" min={0} />
        <Field label={say("description")} name="description" maxLength={4000} />
      </Form>
    </Dialog>
  );
}

function DueCard({ machine, write }: { machine: string; write: (due: Due) => void }): JSX.Element {
  const [page, setPage] = useState(1);
  const due = useAsk("/api/maintenance/due", { query: { machine, page, page_size: DUE_PAGE } }, 60);
  return (
    <Card title={say("due")} icon="wrench" wide>
      <Await of={due} empty={say("dueEmpty")}>
        {(found) => (
          <>
            <Table head={[say("machine"), say("what"), say("state"), say("left"), ""]} label={say("due")}>
              {found.items.map((one) => {
                const [tone, text] = STATES[one.state] ?? ["dim", "unknown"];
                return (
                  <tr key={`${one.machine} ${one.plan}`}>
                    <td>{one.machine_name || one.machine}</td>
                    <td>
                      {told(one.name)} <small class="dim">{kindOf(one.kind)}</small>
                    </td>
                    <td>
                      <Badge tone={tone}>{say(text)}</Badge>
                    </td>
                    <td>{left(one)}</td>
                    <td class="value">
                      {may("operator") && (
                        <button type="button" aria-label={`${say("done")}: ${told(one.name)}, ${one.machine}`} onClick={() => write(one)}>
                          {say("done")}
                        </button>
                      )}
                    </td>
                  </tr>
                );
              })}
            </Table>
            <Pager page={page} size={DUE_PAGE} total={found.total} set={setPage} />
          </>
        )}
      </Await>
    </Card>
  );
}

function Log({ machine, correct }: { machine: string; correct: (entry: Entry) => void }): JSX.Element {
  const [page, setPage] = useState(1);
  const log = useAsk("/api/maintenance", { query: { machine, page, page_size: PAGE } }, 60);
  return (
    <Card title={say("log")} icon="log" wide>
      <Await of={log} empty={say("logEmpty")}>
        {(found) => (
          <>
            <Table head={[say("date"), say("machine"), say("what"), say("technician"), `>${say("cost")}`, ""]} label={say("log")}>
              {found.items.map((one) => (
                <tr key={one.id} class={one.corrected_by ? "dim" : ""}>
                  <td>{day(one.date)}</td>
                  <td>{one.machine}</td>
                  <td>
                    {one.description || kindOf(one.kind)} {one.parts.length > 0 && <small class="dim">{one.parts.join(", ")}</small>} {one.corrected_by && <Badge>{say("corrected")}</Badge>}{" "}
                    {one.corrects && <Badge tone="info">{say("correction")}</Badge>}
                  </td>
                  <td>{one.technician}</td>
                  <td class="value">{one.cost === null ? "" : `${number(one.cost, 2)} ${one.currency}`}</td>
                  <td class="value">
                    {may("operator") && !one.corrected_by && (
                      <button type="button" aria-label={`${say("correct")}: ${one.description || one.kind}`} onClick={() => correct(one)}>
                        {say("correct")}
                      </button>
                    )}
                  </td>
                </tr>
              ))}
            </Table>
            <Pager page={page} size={PAGE} total={found.total} set={setPage} />
          </>
        )}
      </Await>
    </Card>
  );
}

function Machines({ edit }: { edit: (machine?: Machine) => void }): JSX.Element {
  const machines = useAsk("/api/machines", { query: { page_size: 1000 } }, 60);
  const action = may("operator") && (
    <button type="button" onClick={() => edit()}>
      {say("addMachine")}
    </button>
  );
  return (
    <Card title={say("machines")} icon="devices" action={action} wide>
      <Await of={machines}>
        {(page) => (
          <Table head={[say("code"), say("name"), say("type"), say("location"), say("status"), ""]} label={say("machines")}>
            {page.items.map((one) => (
              <tr key={one.code}>
                <td>
                  <button type="button" class="link" onClick={() => go("maintenance", one.code)}>
                    {one.code}
                  </button>
                </td>
                <td>
                  {one.name} <small class="dim">{[one.maker, one.model, one.serial].filter(Boolean).join(" ")}</small>
                </td>
                <td>{one.type}</td>
                <td>{one.location}</td>
                <td>{say(one.status)}</td>
                <td class="value">
                  {may("operator") && (
                    <button type="button" aria-label={`${say("change")}: ${one.code}`} onClick={() => edit(one)}>
                      {say("change")}
                    </button>
                  )}
                </td>
              </tr>
            ))}
          </Table>
        )}
      </Await>
    </Card>
  );
}

function Plans(): JSX.Element {
  const [adding, setAdding] = useState(false);
  const plans = useAsk("/api/maintenance/plans", { query: { page_size: 500 } }, 60);
  const action = may("operator") && (
    <button type="button" onClick={() => setAdding(true)}>
      {say("newPlan")}
    </button>
  );
  const turn = (plan: Plan): Promise<unknown> => patch("/api/maintenance/plans/{plan_id}", { params: { plan_id: plan.id }, body: { enabled: !plan.enabled } as never });
  return (
    <Card title={say("plans")} icon="calendar" action={action} wide>
      <Await of={plans}>
        {(page) => (
          <Table head={[say("name"), say("planType"), say("every"), say("state"), ""]} label={say("plans")}>
            {page.items.map((one) => (
              <tr key={one.id} class={one.enabled ? "" : "dim"}>
                <td>
                  {told(one.name)} <small class="dim">{told(one.description)}</small>
                </td>
                <td>{one.machine ?? one.type}</td>
                <td>
                  {one.intervals.map((interval) => (
                    <div key={interval.by}>
                      {shown(interval.by, interval.every)} {unitOf(interval.by)}
                    </div>
                  ))}
                </td>
                <td>{one.enabled ? say("enabled") : say("disabled")}</td>
                <td class="value">{may("operator") && <Action run={() => turn(one)} label={`${say(one.enabled ? "disable" : "enable")}: ${told(one.name)}`}>{say(one.enabled ? "disable" : "enable")}</Action>}</td>
              </tr>
            ))}
          </Table>
        )}
      </Await>
      {adding && <NewPlan close={() => setAdding(false)} />}
    </Card>
  );
}

/** `id`: the code of the machine that is shown; empty: all. */
export default function Maintenance({ id }: { id: string }): JSX.Element {
  useStore(place);
  const [writing, write] = useState<{ entry?: Entry; machine?: string; plan?: string; kind?: string }>();
  const [machine, edit] = useState<{ of?: Machine }>();
  const machines = useAsk("/api/machines", { query: { page_size: 1000 } }, 60);
  const names: Record<string, string> = { "": say("all") };
  for (const one of machines.data?.items ?? []) names[one.code] = one.name || one.code;
  const asked = id ? `?machine=${encodeURIComponent(id)}` : "";
  return (
    <>
      <div class="row between">
        <h1>{say("title")}</h1>
        <div class="row">
          <Choice label={say("machineFilter")} value={id} of={names} set={(code) => go("maintenance", code)} />
          <a class="button" href={`/api/maintenance/report${asked}`} target="_blank" rel="noopener">
            {say("report")}
          </a>
          <a class="button" href={`/api/maintenance/report.csv${asked}`}>
            {say("csv")}
          </a>
          {may("operator") && (
            <button type="button" class="main" onClick={() => write(id ? { machine: id } : {})}>
              {say("done")}
            </button>
          )}
        </div>
      </div>
      <div class="stack">
        <DueCard machine={id} key={`due ${id}`} write={(due) => write({ machine: due.machine, plan: due.plan, kind: due.kind })} />
        <Log machine={id} key={id} correct={(entry) => write({ entry })} />
        <Machines edit={(of) => edit(of ? { of } : {})} />
        <Plans />
      </div>
      {writing && <WriteDown of={writing} close={() => write(undefined)} />}
      {machine && <EditMachine {...(machine.of ? { machine: machine.of } : {})} close={() => edit(undefined)} />}
    </>
  );
}
