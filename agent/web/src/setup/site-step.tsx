// The site itself: its name, its time, and what its connection to the grid bears.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { Refused, patch } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { texts } from "../core/i18n.ts";
import { go } from "../core/route.ts";
import { told } from "../core/told.ts";
import { Alert, Await, Card, Field, Form, tell } from "../ui/parts.tsx";
import { byKey } from "./schema.ts";
import { type Site, changed } from "./site.ts";
import { Ways } from "./steps.tsx";

const say = texts({
  en: {
    title: "Your site", id: "Identifier", idHint: "Letters, figures, - and _: the central server knows the site by it.", name: "Name for people", zone: "Time zone", zoneHint: "For schedules and for what is counted by day, such as America/Mexico_City", here: "As this device: {zone}", limit: "Limit of the grid connection, A per phase", limitHint: "The fuse. All stations together keep below it where a meter measures the connection. Empty: no limit.",
    wait: "Wait after a power cut, s", waitHint: "Each station waits at random up to this, so that not all come back at once.", save: "Save and go on", more: "More settings", locked: "The environment sets it: it can't be changed here.", readonly: "The configuration can't be written here: {why}", confirm: "I know, change the identifier", saved: "The site is saved",
  },
  es: {
    title: "Su sitio", id: "Identificador", idHint: "Letras, cifras, - y _: con él conoce el servidor central al sitio.", name: "Nombre para personas", zone: "Zona horaria", zoneHint: "Para programas y para lo que se cuenta por día, como America/Mexico_City", here: "Como este equipo: {zone}", limit: "Límite de la acometida, A por fase", limitHint: "El fusible. Todas las estaciones juntas quedan por debajo si un contador mide la acometida. Vacío: sin límite.",
    wait: "Espera tras un corte de luz, s", waitHint: "Cada estación espera al azar hasta este tiempo, para que no vuelvan todas a la vez.", save: "Guardar y seguir", more: "Más ajustes", locked: "Lo fija el entorno: no se puede cambiar aquí.", readonly: "La configuración no se puede escribir aquí: {why}", confirm: "Lo sé, cambiar el identificador", saved: "El sitio está guardado",
  },
});

const zones = (): readonly string[] => Intl.supportedValuesOf?.("timeZone") ?? [];
const SAVE_MS = 60_000;

export function SiteStep(): JSX.Element {
  const site = useAsk("/api/site", {}, 60);
  return (
    <Card title={say("title")} icon="site">
      <Await of={site}>{(found) => <SiteForm of={found} />}</Await>
    </Card>
  );
}

function SiteForm({ of }: { of: Site }): JSX.Element {
  const [id, setId] = useState(of.id);
  const [zone, setZone] = useState(of.timezone);
  const [sure, setSure] = useState(false);
  const [errors, setErrors] = useState<Readonly<Record<string, string>>>({});
  const mine = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!of.editable)
    return (
      <>
        <Alert tone="warn">{say("readonly", { why: of.read_only })}</Alert>
        <dl class="facts">
          <dt>{say("id")}</dt>
          <dd>{of.id}</dd>
          <dt>{say("name")}</dt>
          <dd>{of.name}</dd>
          <dt>{say("zone")}</dt>
          <dd>{of.timezone}</dd>
          <dt>{say("limit")}</dt>
          <dd>{of.import_limit_a ?? "–"}</dd>
        </dl>
        <Ways at="site" />
      </>
    );
  const send = async (typed: Record<string, string>): Promise<void> => {
    setErrors({});
    const body = changed(of, { ...typed, id, timezone: zone });
    if ("id" in body && sure) body["confirm_id"] = true;
    try {
      if (Object.keys(body).length) {
        await patch("/api/site", { body: body as never, signal: AbortSignal.timeout(SAVE_MS) });
        tell(say("saved"), "good");
      }
      go("wizard", "devices");
    } catch (error) {
      if (error instanceof Refused) setErrors(byKey(error.problem));
      throw error;
    }
  };
  const about = (key: string, hint: string): { hint: string; error: string | undefined; readOnly: boolean } => ({ hint: of.locked.includes(key) ? say("locked") : hint, error: errors[key], readOnly: of.locked.includes(key) });
  return (
    <Form button={say("save")} send={send} ready={id === of.id || sure}>
      <Field label={say("name")} name="name" defaultValue={of.name} autocomplete="off" autofocus {...about("name", "")} />
      <Field label={say("id")} value={id} autocapitalize="none" spellcheck={false} autocomplete="off" required onInput={(event) => setId(event.currentTarget.value)} {...about("id", say("idHint"))} />
      {id !== of.id && (
        <>
          <Alert tone="warn">{told(of.id_change)}</Alert>
          <label class="check">
            <input type="checkbox" checked={sure} onChange={(event) => setSure(event.currentTarget.checked)} />
            {say("confirm")}
          </label>
        </>
      )}
      <Field label={say("zone")} value={zone} list="zones" autocomplete="off" spellcheck={false} required onInput={(event) => setZone(event.currentTarget.value)} {...about("timezone", say("zoneHint"))} />
      <datalist id="zones">
        {zones().map((one) => (
          <option key={one} value={one} />
        ))}
      </datalist>
      {mine && mine !== zone && !of.locked.includes("timezone") && (
        <div>
          <button type="button" onClick={() => setZone(mine)}>
            {say("here", { zone: mine })}
          </button>
        </div>
      )}
      <Field label={say("limit")} name="import_limit_a" inputMode="decimal" defaultValue={of.import_limit_a ?? ""} autocomplete="off" {...about("import_limit_a", say("limitHint"))} />
      <details class="more" open={"power_return_s" in errors}>
        <summary>{say("more")}</summary>
        <Field label={say("wait")} name="power_return_s" inputMode="decimal" defaultValue={of.power_return_s} autocomplete="off" {...about("power_return_s", say("waitHint"))} />
      </details>
    </Form>
  );
}
