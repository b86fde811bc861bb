// Chargers that call and are not let in: who they say to be, and a button to adopt them. A password is shown this once: it
// stands here, each with its charger, until it is put away or the page is left.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type Answer, type Item, post } from "../core/api.ts";
import { refreshAll, useAsk } from "../core/ask.ts";
import { ago } from "../core/format.ts";
import { texts } from "../core/i18n.ts";
import { may, session } from "../core/session.ts";
import { Store, useStore } from "../core/store.ts";
import { told } from "../core/told.ts";
import { Action, Alert, Badge, Card, Field, Form, tell } from "../ui/parts.tsx";

const say = texts({
  en: {
    title: "Chargers that wait", wait: "They call this gateway and are not let in until an administrator adopts them.", as: "Name on this site", asHint: "Letters, figures, - and _",
    outlets: "Outlets", adopt: "Adopt", adoptAs: "Adopt as {device}", adopted: "{id}: adopted", seen: "seen {ago}", gone: "not there now",
    contested: "Another one says to be it, too, with another password. Look before you adopt.", password: "Password for {id}", once: "Shown this once. Enter it at the charger; the user name is {id}.",
    hex: "in hex, as some chargers want it", copy: "Copy", copied: "Copied", away: "Put away", first: "calls since {ago}", admin: "An administrator can adopt it.",
  },
  es: {
    title: "Cargadores en espera", wait: "Llaman a esta pasarela y no entran hasta que un administrador los adopte.", as: "Nombre en este sitio", asHint: "Letras, cifras, - y _",
    outlets: "Tomas", adopt: "Adoptar", adoptAs: "Adoptar como {device}", adopted: "{id}: adoptado", seen: "visto {ago}", gone: "ahora no está",
    contested: "Otro dice ser el mismo, con otra contraseña. Mire antes de adoptar.", password: "Contraseña para {id}", once: "Se muestra solo esta vez. Introdúzcala en el cargador; el usuario es {id}.",
    hex: "en hexadecimal, como lo piden algunos cargadores", copy: "Copiar", copied: "Copiado", away: "Guardar", first: "llama desde {ago}", admin: "Un administrador puede adoptarlo.",
  },
});

type PendingOut = Item<"/api/chargers/pending">;
type Adopted = Answer<"/api/chargers/{charge_point_id}/adopt", "post">;
interface Secret {
  id: string;
  adopted: Adopted;
}

/** Passwords that nobody has put away yet: they outlive the row of their charger, which goes when it is let in. */
const secrets = new Store<readonly Secret[]>([]);
session.listen(() => {
  if (session.value.state !== "inside") secrets.value = [];
});

export function came(id: string, adopted: Adopted | null | undefined): void {
  if (adopted?.password) secrets.value = [...secrets.value.filter((one) => one.id !== id), { id, adopted }];
  else tell(adopted ? `${id}: ${told(adopted.text)}` : say("adopted", { id }), "good");
}

/** Nothing where no charger waits and no password is to be shown. */
export function Pending(): JSX.Element | null {
  const asked = useAsk("/api/chargers/pending", { query: { page_size: 1000 } }, 4);
  const shown = useStore(secrets);
  const items = asked.data?.items ?? [];
  if (!items.length && !shown.length) return null;
  return (
    <Card title={say("title")} icon="station" tone="info" wide>
      {shown.map((one) => (
        <Password key={one.id} of={one} />
      ))}
      {items.length > 0 && <p class="dim">{say("wait")}</p>}
      <ul class="plain pending">
        {items.map((one) => (
          <Waiting key={`${one.charge_point_id} ${one.device}`} of={one} />
        ))}
      </ul>
    </Card>
  );
}

function Waiting({ of }: { of: PendingOut }): JSX.Element {
  const id = of.charge_point_id;
  const boot = ["vendor", "model", "serial", "firmware"].map((key) => of.boot[key]).filter(Boolean).join(" ");
  return (
    <li>
      <div class="row between">
        <strong>{id}</strong>
        {of.connected ? <Badge tone="info">{say("seen", { ago: ago(of.last_seen) })}</Badge> : <Badge tone="warn">{say("gone")}</Badge>}
      </div>
      <p class="dim">{[boot, of.version, of.address, told(of.reason), say("first", { ago: ago(of.first_seen) })].filter(Boolean).join(" · ")}</p>
      {of.contested && <Alert tone="warn">{say("contested")}</Alert>}
      {!may("admin") ? (
        <p class="dim">{say("admin")}</p>
      ) : of.device ? (
        <Action kind="main" run={async () => came(id, await post("/api/chargers/{charge_point_id}/adopt", { params: { charge_point_id: id } }))}>
          {say("adoptAs", { device: of.device })}
        </Action>
      ) : (
        <AdoptNew id={id} />
      )}
    </li>
  );
}

const idOf = (identity: string): string => identity.replace(/[^A-Za-z0-9_-]/g, "-").replace(/^[-_]+/, "").slice(0, 64);

function AdoptNew({ id }: { id: string }): JSX.Element {
  const send = async ({ name = "", outlets = "1" }: Record<string, string>): Promise<void> => {
    const entry = { id: name.trim(), driver: "ocpp", charge_point_id: id, connectors: Number(outlets) };
    came(id, (await post("/api/devices", { body: entry as never })).adoption);
    refreshAll();
  };
  return (
    <Form button={say("adopt")} send={send}>
      <div class="two">
        <Field label={say("as")} hint={say("asHint")} name="name" defaultValue={idOf(id)} pattern="[A-Za-z0-9][A-Za-z0-9_\-]{0,63}" autocapitalize="none" spellcheck={false} required />
        <Field label={say("outlets")} name="outlets" type="number" inputMode="numeric" min={1} max={64} defaultValue={1} required />
      </div>
    </Form>
  );
}

function Password({ of }: { of: Secret }): JSX.Element {
  const { id, adopted } = of;
  return (
    <div class="alert good secret" role="status">
      <strong>{say("password", { id })}</strong>
      <p>{told(adopted.text)}</p>
      <p>
        <code class="big">{adopted.password}</code> <Copy text={adopted.password} />
      </p>
      <p class="dim">
        {say("hex")}: <code>{adopted.password_hex}</code> <Copy text={adopted.password_hex} />
      </p>
      <p>{say("once", { id })}</p>
      <button type="button" onClick={() => (secrets.value = secrets.value.filter((one) => one !== of))}>
        {say("away")}
      </button>
    </div>
  );
}

/** Only where the browser lets a page write to its clipboard, which needs HTTPS. */
function Copy({ text }: { text: string }): JSX.Element | null {
  const [done, setDone] = useState(false);
  if (!navigator.clipboard) return null;
  return (
    <button type="button" class="link" onClick={() => void navigator.clipboard.writeText(text).then(() => setDone(true), () => undefined)}>
      {done ? say("copied") : say("copy")}
    </button>
  );
}
