// Who may get in, who is in now, and the tokens of machines. For admins.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type Item, del, patch, post } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { ago, moment } from "../core/format.ts";
import { texts, word } from "../core/i18n.ts";
import { type Role, may, session } from "../core/session.ts";
import { useStore } from "../core/store.ts";
import { Action, Alert, Await, Badge, Card, Choice, Dialog, Field, Form, Table } from "../ui/parts.tsx";

const say = texts({
  en: {
    title: "Users", add: "Add a user", name: "User name", role: "Role", password: "Password", passwordHint: "At least ten characters, and not the name; a few words make a good one.",
    roles: "A viewer reads, an operator switches and acknowledges, an administrator changes devices and users.", save: "Save", remove: "Remove", removeSure: "Remove {name}? All log-ins and tokens of this user end at once.",
    newPassword: "New password", setPassword: "Set password", tokens: "Tokens of machines", makeToken: "Make a token", label: "What it is for", tokenHint: "For programs that read or command through the API, with this user's role.",
    shown: "This is shown only once. Copy it now:", revoke: "Take back", active: "Logged in now", since: "since", seen: "last seen", kind: "by", change: "Change", adminsOnly: "Only an administrator can see this page.",
    you: "you", none: "none", saved: "Saved", created: "made", browser: "browser", program: "program", token: "token",
  },
  es: {
    title: "Usuarios", add: "Añadir un usuario", name: "Usuario", role: "Función", password: "Contraseña", passwordHint: "Al menos diez caracteres y distinta del nombre; unas cuantas palabras forman una buena.",
    roles: "Lectura ve todo, un operador conmuta y reconoce, un administrador cambia equipos y usuarios.", save: "Guardar", remove: "Eliminar", removeSure: "¿Eliminar a {name}? Todas sus sesiones y claves terminan de inmediato.",
    newPassword: "Contraseña nueva", setPassword: "Cambiar contraseña", tokens: "Claves de máquinas", makeToken: "Crear una clave", label: "Para qué es", tokenHint: "Para programas que leen o mandan por la API, con la función de este usuario.",
    shown: "Solo se muestra esta vez. Cópiela ahora:", revoke: "Retirar", active: "Con sesión abierta", since: "desde", seen: "visto", kind: "con", change: "Cambiar", adminsOnly: "Solo un administrador puede ver esta página.",
    you: "usted", none: "ninguna", saved: "Guardado", created: "creada", browser: "navegador", program: "programa", token: "clave",
  },
});

type User = Item<"/api/users">;
const roles = (): Record<Role, string> => ({ viewer: word("viewer"), operator: word("operator"), admin: word("admin") });
const KINDS: Readonly<Record<string, "browser" | "program" | "token">> = { browser: "browser", program: "program", token: "token" };

function NewUser({ close }: { close: () => void }): JSX.Element {
  const [role, setRole] = useState<Role>("viewer");
  const send = async ({ username = "", password = "" }: Record<string, string>): Promise<void> => {
    await post("/api/users", { body: { username: username.trim(), password, role } });
    close();
  };
  return (
    <Dialog title={say("add")} close={close}>
      <Form send={send} button={say("save")} cancel={close}>
        <Field label={say("name")} name="username" autocomplete="off" autocapitalize="none" required autofocus />
        <Field label={say("password")} hint={say("passwordHint")} name="password" type="password" autocomplete="new-password" minLength={10} required />
        <Choice label={say("role")} value={role} of={roles()} set={setRole} />
        <p class="dim">{say("roles")}</p>
      </Form>
    </Dialog>
  );
}

function Change({ user, close }: { user: User; close: () => void }): JSX.Element {
  const [role, setRole] = useState(user.role as Role);
  const [token, setToken] = useState("");
  const params = { name: user.username };
  const save = async ({ password = "" }: Record<string, string>): Promise<void> => {
    const changed = { ...(role === user.role ? {} : { role }), ...(password ? { password } : {}) };
    if (Object.keys(changed).length) await patch("/api/users/{name}", { params, body: changed });
    close();
  };
  const make = async ({ label = "" }: Record<string, string>): Promise<void> => {
    setToken((await post("/api/users/{name}/tokens", { params, body: { label } }))?.token ?? "");
  };
  return (
    <Dialog title={user.username} close={close}>
      <Form send={save} button={say("save")} cancel={close}>
        <Choice label={say("role")} value={role} of={roles()} set={setRole} />
        <Field label={say("newPassword")} hint={say("passwordHint")} name="password" type="password" autocomplete="new-password" minLength={10} />
      </Form>
      <h3>{say("tokens")}</h3>
      <p class="dim">{say("tokenHint")}</p>
      <ul class="plain">
        {user.tokens.map((one) => (
          <li key={one.label} class="row between">
            <span>
              {one.label}{" "}
              <small class="dim">
                {say("created")} {ago(one.created)}
              </small>
            </span>
            <Action kind="danger" run={() => del("/api/users/{name}/tokens/{label}", { params: { ...params, label: one.label } })}>
              {say("revoke")}
            </Action>
          </li>
        ))}
      </ul>
      {token && (
        <Alert tone="good">
          {say("shown")} <code>{token}</code>
        </Alert>
      )}
      <Form send={make} button={say("makeToken")}>
        <Field label={say("label")} name="label" maxLength={64} required />
      </Form>
    </Dialog>
  );
}

function Remove({ user, close }: { user: User; close: () => void }): JSX.Element {
  const remove = async (): Promise<void> => {
    await del("/api/users/{name}", { params: { name: user.username } });
    close();
  };
  return (
    <Dialog title={say("remove")} close={close}>
      <Form send={remove} button={say("remove")} cancel={close}>
        <p>{say("removeSure", { name: user.username })}</p>
      </Form>
    </Dialog>
  );
}

function Active(): JSX.Element {
  const active = useAsk("/api/users/active", { query: { page_size: 100 } }, 15);
  return (
    <Card title={say("active")} icon="clock">
      <Await of={active}>
        {(page) => (
          <Table head={[say("name"), say("kind"), say("since"), say("seen")]} label={say("active")}>
            {page.items.map((one, index) => (
              <tr key={index}>
                <td>{one.username}</td>
                <td>{KINDS[one.kind] ? say(KINDS[one.kind]!) : one.kind}</td>
                <td>{moment(one.since)}</td>
                <td>{ago(one.last_seen)}</td>
              </tr>
            ))}
          </Table>
        )}
      </Await>
    </Card>
  );
}

export default function Users(): JSX.Element {
  const users = useAsk(may("admin") ? "/api/users" : null, { query: { page_size: 500 } }, 30);
  const me = useStore(session);
  const [open, setOpen] = useState<{ user?: User; what: "add" | "change" | "remove" }>();
  if (!may("admin")) return <Alert>{say("adminsOnly")}</Alert>;
  const close = (): void => setOpen(undefined);
  const shown = open?.user && (users.data?.items.find((one) => one.username === open.user?.username) ?? open.user);
  return (
    <>
      <div class="row between">
        <h1>{say("title")}</h1>
        <button type="button" class="main" onClick={() => setOpen({ what: "add" })}>
          {say("add")}
        </button>
      </div>
      <div class="stack">
        <Card>
          <Await of={users}>
            {(page) => (
              <Table head={[say("name"), say("role"), say("tokens"), ""]} label={say("title")}>
                {page.items.map((user) => (
                  <tr key={user.username}>
                    <td>
                      {user.username} {me.state === "inside" && me.user === user.username && <Badge tone="info">{say("you")}</Badge>}
                    </td>
                    <td>{word(user.role)}</td>
                    <td>{user.tokens.map((one) => one.label).join(", ") || <span class="dim">{say("none")}</span>}</td>
                    <td class="value">
                      <button type="button" aria-label={`${say("change")}: ${user.username}`} onClick={() => setOpen({ user, what: "change" })}>
                        {say("change")}
                      </button>{" "}
                      <button type="button" class="danger" aria-label={`${say("remove")}: ${user.username}`} onClick={() => setOpen({ user, what: "remove" })}>
                        {say("remove")}
                      </button>
                    </td>
                  </tr>
                ))}
              </Table>
            )}
          </Await>
        </Card>
        <Active />
      </div>
      {open?.what === "add" && <NewUser close={close} />}
      {open?.what === "change" && shown && <Change user={shown} close={close} />}
      {open?.what === "remove" && shown && <Remove user={shown} close={close} />}
    </>
  );
}
