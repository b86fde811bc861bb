// What a charger can be told beside on, off and a limit. The form of each is made of the gateway's description of it.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { useAsk } from "../core/ask.ts";
import { texts, word } from "../core/i18n.ts";
import { may } from "../core/session.ts";
import { told } from "../core/told.ts";
import { Alert, Badge, Card, Dialog, Field, Form } from "../ui/parts.tsx";
import { command } from "./switching.tsx";
import type { StationOut } from "./use-site.ts";

const say = texts({
  en: { title: "Commands to the charger", more: "All commands", send: "Send", answer: "The charger answered", text: "JSON", none: "–", unlock: "Unlock the plug", reset: "Restart", start: "Start a session", stop: "End the session", availability: "In or out of service", trigger: "Ask for a message", optional: "may stay empty" },
  es: { title: "Órdenes al cargador", more: "Todas las órdenes", send: "Enviar", answer: "El cargador contestó", text: "JSON", none: "–", unlock: "Soltar el conector", reset: "Reiniciar", start: "Iniciar una sesión", stop: "Terminar la sesión", availability: "En servicio o fuera", trigger: "Pedir un mensaje", optional: "puede quedar vacío" },
});

const FIRST = ["unlock", "stop", "start", "reset", "availability", "trigger"] as const;
type First = (typeof FIRST)[number];

interface Property {
  type?: string;
  enum?: readonly (string | number)[];
  description?: string;
  minimum?: number;
  maximum?: number;
  maxLength?: number;
  writeOnly?: boolean;
}
interface Schema {
  properties?: Readonly<Record<string, Property>>;
  required?: readonly string[];
}

export function Acts({ station }: { station: StationOut }): JSX.Element | null {
  const asked = useAsk(station.actions.length ? "/api/devices/{device_id}/actions" : null, { params: { device_id: station.device } }, 300);
  const [open, setOpen] = useState("");
  if (!station.actions.length || !may("operator")) return null;
  const known = (asked.data ?? {}) as Record<string, { doc: string; args: Schema }>;
  const first = FIRST.filter((name) => name in known);
  const rest = Object.keys(known).filter((name) => !FIRST.includes(name as First));
  const one = known[open];
  return (
    <Card title={say("title")} icon="wrench">
      <div class="actions">
        {first.map((name) => (
          <button key={name} type="button" onClick={() => setOpen(name)}>
            {say(name)}
          </button>
        ))}
      </div>
      {rest.length > 0 && (
        <details class="more">
          <summary>{say("more")}</summary>
          <div class="actions">
            {rest.map((name) => (
              <button key={name} type="button" onClick={() => setOpen(name)}>
                {name.replaceAll("_", " ")}
              </button>
            ))}
          </div>
        </details>
      )}
      {one && <Act station={station} name={open} doc={one.doc} schema={one.args} close={() => setOpen("")} />}
    </Card>
  );
}

function Act({ station, name, doc, schema, close }: { station: StationOut; name: string; doc: string; schema: Schema; close: () => void }): JSX.Element {
  const [came, setCame] = useState<Awaited<ReturnType<typeof command>> | undefined>();
  const required = schema.required ?? [];
  const properties = Object.entries(schema.properties ?? {});
  const send = async (values: Record<string, string>): Promise<void> => setCame(await command(station, name, argumentsOf(schema, values)));
  return (
    <Dialog title={FIRST.includes(name as First) ? say(name as First) : name.replaceAll("_", " ")} close={close}>
      <p class="dim">
        {station.name || station.id}: {told(doc)}
      </p>
      <Form button={say("send")} send={send} cancel={close}>
        {properties.map(([key, property]) => (
          <Argument key={key} name={key} property={property} needed={required.includes(key)} />
        ))}
      </Form>
      {came && (
        <div role="status">
          <p>
            <Badge tone={came.outcome === "done" ? "good" : "bad"}>{word(came.outcome)}</Badge> {told(came.reason)}
          </p>
          {Object.keys(came.data).length > 0 && (
            <>
              <h3>{say("answer")}</h3>
              <pre>{JSON.stringify(came.data, null, 2)}</pre>
            </>
          )}
          {came.refusal && <Alert>{word(came.refusal)}</Alert>}
        </div>
      )}
    </Dialog>
  );
}

function Argument({ name, property, needed }: { name: string; property: Property; needed: boolean }): JSX.Element {
  const label = `${name.replaceAll("_", " ")}${needed ? " *" : ""}`;
  const hint = [told(property.description), needed ? "" : say("optional")].filter(Boolean).join("; ");
  const { type } = property;
  if (property.enum || type === "boolean") {
    const choices = property.enum ?? ["true", "false"];
    const id = `act-${name}`;
    return (
      <div class="field">
        <label for={id}>{label}</label>
        <select id={id} name={name} required={needed}>
          {!needed && <option value="">{say("none")}</option>}
          {choices.map((one) => (
            <option key={one} value={one}>
              {one}
            </option>
          ))}
        </select>
      </div>
    );
  }
  if (type === "object" || type === "array") {
    const id = `act-${name}`;
    return (
      <div class="field">
        <label for={id}>
          {label} ({say("text")})
        </label>
        <textarea id={id} name={name} required={needed} spellcheck={false}>
          {needed ? (type === "array" ? "[]" : "{}") : ""}
        </textarea>
        {hint && <small class="dim">{hint}</small>}
      </div>
    );
  }
  const number = type === "integer" || type === "number";
  const bounds = { ...(property.minimum === undefined ? {} : { min: property.minimum }), ...(property.maximum === undefined ? {} : { max: property.maximum }), ...(property.maxLength === undefined ? {} : { maxLength: property.maxLength }) };
  return <Field label={label} hint={hint} name={name} type={number ? "number" : "text"} {...(number ? { inputMode: "decimal" as const, step: type === "integer" ? 1 : "any" } : {})} {...bounds} required={needed} autocomplete="off" />;
}

/** What was typed, as the gateway wants it: what was left empty is not sent. Throws on text that is no JSON. */
export function argumentsOf(schema: Schema, values: Readonly<Record<string, string>>): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    const text = values[name] ?? "";
    if (text === "") continue;
    if (property.type === "integer" || property.type === "number") found[name] = Number(text);
    else if (property.type === "boolean") found[name] = text === "true";
    else if (property.type === "object" || property.type === "array") found[name] = JSON.parse(text);
    else found[name] = text;
  }
  return found;
}
