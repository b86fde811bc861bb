// A device's entry as a form that is made of the gateway's description of its keys, or as JSON. Both show the same entry.
import type { JSX } from "preact";
import { useId, useMemo, useState } from "preact/hooks";
import { type Item, Refused } from "../core/api.ts";
import { refreshAll, useAsk } from "../core/ask.ts";
import { texts, word } from "../core/i18n.ts";
import { told } from "../core/told.ts";
import { Alert, Await, Field } from "../ui/parts.tsx";
import { label } from "./labels.ts";
import { patienceOf } from "./patience.ts";
import { type Entry, type FieldOf, type Schema, byKey, fieldsOf, textOf, valueOf, withValue } from "./schema.ts";
import { Test, tryEntry } from "./test.tsx";

const say = texts({
  en: { form: "Form", raw: "As JSON", more: "More settings", save: "Save", saving: "It is being written and applied …", cancel: "Cancel", yes: "yes", no: "no", otherwise: "otherwise {value}", choose: "choose …", json: "The entry", jsonHint: "One JSON object, with the same keys as in the configuration.", bad: "This is no JSON: {why}", noModel: "no profile" },
  es: { form: "Formulario", raw: "Como JSON", more: "Más ajustes", save: "Guardar", saving: "Se está escribiendo y aplicando …", cancel: "Cancelar", yes: "sí", no: "no", otherwise: "si no, {value}", choose: "elija …", json: "La entrada", jsonHint: "Un objeto JSON, con las mismas claves que en la configuración.", bad: "Esto no es JSON: {why}", noModel: "sin perfil" },
});

type Profile = Item<"/api/profiles">;
const KINDS = ["charger", "meter", "inverter", "battery", "other"];

export interface EntryFormProps {
  entry: Entry;
  /** Told of each change, so that who leaves finds it again. */
  change: (entry: Entry) => void;
  /** Writes it; its refusal is shown at the fields. */
  save: (entry: Entry) => Promise<unknown>;
  cancel?: () => void;
  /** The device is there already: its name stays, and it is tested where it runs. */
  existing?: boolean;
  saveLabel?: string;
}

export function EntryForm(props: EntryFormProps): JSX.Element {
  const { entry, change, save, cancel, existing } = props;
  const schemas = useAsk("/api/config/schema", {}, 3600);
  const [raw, setRaw] = useState<string>();
  const [errors, setErrors] = useState<Readonly<Record<string, string>>>({});
  const [refused, setRefused] = useState("");
  const [busy, setBusy] = useState(false);
  const driver = textOf(entry["driver"]);
  const set = (field: FieldOf, text: string): void => {
    const { [field.key]: _, ...rest } = errors;
    try {
      change(withValue(entry, field.key, valueOf(field, text)));
      setErrors(rest);
    } catch (error) {
      setErrors({ ...rest, [field.key]: say("bad", { why: String(error) }) });
    }
  };
  const typed = (text: string): void => {
    setRaw(text);
    try {
      const read: unknown = JSON.parse(text);
      if (typeof read !== "object" || read === null || Array.isArray(read)) throw new SyntaxError("{…}");
      change(read as Entry);
      setErrors({});
    } catch (error) {
      setErrors({ "": say("bad", { why: error instanceof Error ? error.message : String(error) }) });
    }
  };
  const refuse = (error: unknown): void => {
    const message = error instanceof Error ? error.message : String(error);
    setErrors(error instanceof Refused ? byKey(error.problem, message) : {});
    setRefused(message);
  };
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setRefused("");
    try {
      await save(entry);
    } catch (error) {
      refuse(error);
    } finally {
      setBusy(false);
      refreshAll();
    }
  };
  return (
    <Await of={schemas}>
      {(found) => {
        const schema = (found.devices as Record<string, Schema>)[driver];
        const names = schema ? Object.keys(schema.properties ?? {}) : [];
        const others = Object.entries(errors).filter(([key]) => raw !== undefined || !names.includes(key));
        return (
          <form class="entry" onSubmit={(event) => void submit(event)}>
            <div class="row" role="group">
              <button type="button" aria-pressed={raw === undefined} onClick={() => setRaw(undefined)}>
                {say("form")}
              </button>
              <button type="button" aria-pressed={raw !== undefined} onClick={() => setRaw(JSON.stringify(entry, null, 2))}>
                {say("raw")}
              </button>
            </div>
            {raw === undefined && schema ? <Fields schema={schema} driver={driver} entry={entry} errors={errors} set={set} existing={existing ?? false} /> : <Raw text={raw ?? JSON.stringify(entry, null, 2)} set={typed} />}
            <Alert>{others.map(([key, what]) => (key ? `${key}: ${what}` : what)).join(" · ") || refused}</Alert>
            {!existing && <Test patience_s={patienceOf(driver, textOf(entry["protocol"]), entry["request"] === true)} run={() => tryEntry(entry).catch((error: unknown) => (refuse(error), Promise.reject(error)))} />}
            {busy && (
              <div role="status">
                <small class="dim">{say("saving")}</small>
                <progress aria-label={say("saving")} />
              </div>
            )}
            <div class="actions">
              <button class="main" aria-busy={busy} disabled={busy || "" in errors}>
                {props.saveLabel ?? say("save")}
              </button>
              {cancel && (
                <button type="button" onClick={cancel}>
                  {say("cancel")}
                </button>
              )}
            </div>
          </form>
        );
      }}
    </Await>
  );
}

function Raw({ text, set }: { text: string; set: (text: string) => void }): JSX.Element {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{say("json")}</label>
      <textarea id={id} value={text} spellcheck={false} rows={12} onInput={(event) => set(event.currentTarget.value)} />
      <small class="dim">{say("jsonHint")}</small>
    </div>
  );
}

interface FieldsProps {
  schema: Schema;
  driver: string;
  entry: Entry;
  errors: Readonly<Record<string, string>>;
  set: (field: FieldOf, text: string) => void;
  existing: boolean;
}

function Fields({ schema, driver, entry, errors, set, existing }: FieldsProps): JSX.Element {
  const { first, more } = useMemo(() => fieldsOf(schema), [schema]);
  const modelled = driver === "modbus" || driver === "can";
  const show = (field: FieldOf): JSX.Element =>
    field.key === "profile" && modelled ? (
      <Model key={field.key} driver={driver} field={field} value={textOf(entry["profile"])} error={errors["profile"]} set={(text) => set(field, text)} />
    ) : (
      <Input key={field.key} field={field} value={textOf(entry[field.key])} error={errors[field.key]} fixed={existing && field.key === "id"} set={(text) => set(field, text)} />
    );
  return (
    <>
      <div class="fields">{first.map(show)}</div>
      {more.length > 0 && (
        <details class="more" open={more.some((one) => one.key in errors)}>
          <summary>{say("more")}</summary>
          <div class="fields">{more.map(show)}</div>
        </details>
      )}
    </>
  );
}

function Input({ field, value, error, fixed, set }: { field: FieldOf; value: string; error: string | undefined; fixed: boolean; set: (text: string) => void }): JSX.Element {
  const title = `${label(field.key)}${field.required ? " *" : ""}`;
  const hint = [told(field.hint), field.otherwise && !field.hint.includes("default") ? say("otherwise", { value: field.otherwise }) : ""].filter(Boolean).join("; ");
  if (field.kind === "choice" || field.kind === "yes-no") {
    const choices = field.kind === "yes-no" ? ([["true", say("yes")], ["false", say("no")]] as const) : field.choices.map((one) => [one, one] as const);
    return <Choose title={title} hint={hint} error={error} value={value} set={set} groups={[["", choices]]} empty={field.required ? say("choose") : "–"} />;
  }
  const number = field.kind === "integer" || field.kind === "number";
  const bounds = { ...(field.min === undefined ? {} : { min: field.min }), ...(field.max === undefined ? {} : { max: field.max }) };
  return (
    <Field label={title} hint={hint} error={error} type={number ? "number" : "text"} {...(number ? { step: field.kind === "integer" ? 1 : "any", ...bounds } : { autocapitalize: "none", autocomplete: "off", spellcheck: false })}
      value={value} placeholder={field.otherwise} required={field.required} readOnly={fixed} onInput={(event) => set(event.currentTarget.value)} />
  );
}

/** Device models, by what they are. */
function Model({ driver, field, value, error, set }: { driver: string; field: FieldOf; value: string; error: string | undefined; set: (text: string) => void }): JSX.Element {
  const profiles = useAsk("/api/profiles", { query: { driver, page_size: 1000 } }, 3600);
  const items = profiles.data?.items ?? [];
  const groups = KINDS.map((kind) => [word(kind), items.filter((one) => one.kind === kind).sort((one, other) => one.title.localeCompare(other.title)).map((one: Profile) => [one.name, one.title] as const)] as const).filter(([, some]) => some.length);
  const extra = driver === "modbus" ? ["sunspec"] : [];
  if (value && !items.some((one) => one.name === value) && !extra.includes(value)) extra.push(value);
  const all = extra.length ? [...groups, ["–", extra.map((one) => [one, one === "sunspec" ? "SunSpec" : one] as const)] as const] : groups;
  return <Choose title={`${label("profile")}${field.required ? " *" : ""}`} hint={value || told(field.hint)} error={error} value={value} set={set} groups={all} empty={field.required ? say("choose") : say("noModel")} />;
}

type Group = readonly [string, readonly (readonly [string, string])[]];

function Choose({ title, hint, error, value, set, groups, empty }: { title: string; hint: string; error: string | undefined; value: string; set: (text: string) => void; groups: readonly Group[]; empty: string }): JSX.Element {
  const id = useId();
  const options = (some: Group[1]): JSX.Element[] => some.map(([key, text]) => (
    <option key={key} value={key} selected={key === value}>
      {text}
    </option>
  ));
  return (
    <div class="field">
      <label for={id}>{title}</label>
      <select id={id} value={value} aria-invalid={error ? true : undefined} aria-describedby={`${id}-about`} onChange={(event) => set(event.currentTarget.value)}>
        <option value="" selected={!value}>
          {empty}
        </option>
        {groups.map(([name, some]) => (name ? <optgroup key={name} label={name}>{options(some)}</optgroup> : options(some)))}
      </select>
      <small id={`${id}-about`} class={error ? "bad" : "dim"}>
        {error || hint}
      </small>
    </div>
  );
}
