// What a scan found: each to be chosen, completed, tested and written.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Item } from "../core/api.ts";
import { refreshAll } from "../core/ask.ts";
import { texts } from "../core/i18n.ts";
import { useStore } from "../core/store.ts";
import { told } from "../core/told.ts";
import { Icon } from "../ui/icons.tsx";
import { Action, Alert, Badge, Card, Dialog } from "../ui/parts.tsx";
import { addDevice } from "./add.tsx";
import { type Choice, choices, drafts, note } from "./draft.ts";
import { EntryForm } from "./entry-form.tsx";
import { type Entry, textOf, withValue } from "./schema.ts";
import type { Scan } from "./scan.tsx";
import { TestResult, tryEntry } from "./test.tsx";

const say = texts({
  en: {
    title: "Found", add: "Add {count} to the site", adding: "Adding {id} …", test: "Test those that are chosen", testing: "Testing {id} …", complete: "Complete it …", edit: "Change …", incomplete: "choose the model", there: "on the site already", choose: "Choose {title}", name: "as", other: "Other models fit as well", entry: "Entry", ok: "That's it", failed: "{count} could not be added: the reason stands with each.",
  },
  es: {
    title: "Encontrado", add: "Añadir {count} al sitio", adding: "Añadiendo {id} …", test: "Probar los elegidos", testing: "Probando {id} …", complete: "Completar …", edit: "Cambiar …", incomplete: "elija el modelo", there: "ya está en el sitio", choose: "Elegir {title}", name: "como", other: "Otros modelos encajan también", entry: "Entrada", ok: "Así es", failed: "No se pudieron añadir {count}: el motivo está en cada uno.",
  },
});

type OneFound = Scan["found"][number];
type Device = Item<"/api/devices">;
const message = (error: unknown): string => (error instanceof Error ? error.message : String(error));

export function FoundCard({ of, devices }: { of: Scan; devices: readonly Device[] }): JSX.Element | null {
  const said = useStore(drafts);
  const [now, setNow] = useState("");
  // A charger that calls is let in where those that wait are shown, with its outlets and its password.
  const here = of.found.filter((one) => one.kind !== "ocpp" || one.configured);
  const all = choices(here, said, devices.map((one) => one.id));
  const chosen = all.filter((one) => one.chosen);
  if (!all.length) return null;
  const test = async (): Promise<void> => {
    for (const { found, entry } of chosen) {
      setNow(say("testing", { id: textOf(entry["id"]) }));
      await tryEntry(entry).then((tested) => note(found, { tested, refused: "" }), (error: unknown) => note(found, { refused: message(error) }));
    }
    setNow("");
  };
  const add = async (): Promise<void> => {
    let failed = 0;
    for (const { found, entry } of chosen) {
      setNow(say("adding", { id: textOf(entry["id"]) }));
      await addDevice(entry).then(() => note(found, { chosen: false, refused: "" }), (error: unknown) => (failed++, note(found, { refused: message(error) })));
    }
    setNow("");
    refreshAll();
    if (failed) throw new Error(say("failed", { count: failed }));
  };
  return (
    <Card title={`${say("title")}: ${all.length}`} icon="devices">
      <ul class="lines">
        {all.map((one) => (
          <li key={one.found.yaml}>
            <One of={one} />
          </li>
        ))}
      </ul>
      {now && (
        <div role="status">
          <small class="dim">{now}</small>
          <progress aria-label={now} />
        </div>
      )}
      {chosen.length > 0 && (
        <div class="actions">
          <Action run={test} icon="lab" disabled={Boolean(now)}>
            {say("test")}
          </Action>
          <Action kind="main" run={add} icon="plus" disabled={Boolean(now)}>
            {say("add", { count: chosen.length })}
          </Action>
        </div>
      )}
    </Card>
  );
}

function One({ of }: { of: Choice<OneFound> }): JSX.Element {
  const { found, entry } = of;
  const [edits, setEdits] = useState(false);
  const completed = found.ready || of.entry !== (found.entry as unknown);
  const facts = [...Object.entries(found.known), ...Object.entries(found.values)];
  return (
    <div class="hit">
      <div class="row">
        {found.configured ? (
          <span class="good">
            <Icon name="check" />
          </span>
        ) : (
          <input type="checkbox" aria-label={say("choose", { title: told(found.title) })} checked={of.chosen} disabled={!completed} onChange={(event) => note(found, { chosen: event.currentTarget.checked })} />
        )}
        <strong class="grow">{told(found.title)}</strong>
        {found.configured ? <Badge tone="good">{say("there")}</Badge> : completed ? <Badge>{`${say("name")} ${textOf(entry["id"])}`}</Badge> : <Badge tone="warn">{say("incomplete")}</Badge>}
      </div>
      <p class="dim">{told(found.text)}</p>
      {facts.length > 0 && (
        <ul class="tiles">
          {facts.map(([key, value]) => (
            <li key={key}>
              <span>
                {told(key)} <strong>{value}</strong>
              </span>
            </li>
          ))}
        </ul>
      )}
      {found.notes.map((one) => (
        <p key={one} class="dim">
          {told(one)}
        </p>
      ))}
      {!found.configured && (
        <>
          {found.alternatives.length > 0 && <Alternatives of={of} />}
          {of.tested && <TestResult of={of.tested} />}
          <Alert>{of.refused}</Alert>
          <button type="button" class={completed ? "" : "main"} onClick={() => setEdits(true)}>
            <Icon name="edit" /> {say(completed ? "edit" : "complete")}
          </button>
          {edits && <Complete of={of} close={() => setEdits(false)} />}
        </>
      )}
    </div>
  );
}

/** Models that answer alike: the installer knows which one hangs there. */
function Alternatives({ of }: { of: Choice<OneFound> }): JSX.Element {
  const { found, entry } = of;
  const now = textOf(entry["profile"]);
  return (
    <fieldset>
      <legend class="dim">{say("other")}</legend>
      {[...new Set([textOf((found.entry as Entry)["profile"]), ...found.alternatives])].filter(Boolean).map((profile) => (
        <label key={profile} class="check">
          <input type="radio" name={found.yaml} checked={profile === now} onChange={() => note(found, { entry: withValue(entry, "profile", profile), chosen: true })} />
          {profile}
        </label>
      ))}
    </fieldset>
  );
}

function Complete({ of, close }: { of: Choice<OneFound>; close: () => void }): JSX.Element {
  const [entry, setEntry] = useState(of.entry);
  return (
    <Dialog title={told(of.found.title)} close={close}>
      <EntryForm entry={entry} change={setEntry} save={async (next) => (note(of.found, { entry: next, chosen: true, refused: "" }), close())} cancel={close} saveLabel={say("ok")} />
    </Dialog>
  );
}
