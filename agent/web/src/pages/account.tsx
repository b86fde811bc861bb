// One's own log-in: who one is here, and another password.
import type { JSX } from "preact";
import { post } from "../core/api.ts";
import { texts, word } from "../core/i18n.ts";
import { enter, session } from "../core/session.ts";
import { useStore } from "../core/store.ts";
import { Card, Field, Form, tell } from "../ui/parts.tsx";

const say = texts({
  en: {
    title: "Account", old: "Present password", new: "New password", again: "The same again", hint: "At least ten characters, and not the name; a few words make a good one.", save: "Change password",
    differs: "The two passwords are not the same.", done: "The password is changed. Other log-ins of this user have ended.", name: "User name", role: "Role",
  },
  es: {
    title: "Cuenta", old: "Contraseña actual", new: "Contraseña nueva", again: "La misma otra vez", hint: "Al menos diez caracteres y distinta del nombre; unas cuantas palabras forman una buena.", save: "Cambiar contraseña",
    differs: "Las dos contraseñas no son iguales.", done: "La contraseña ha cambiado. Las demás sesiones de este usuario han terminado.", name: "Usuario", role: "Función",
  },
});

export default function Account(): JSX.Element {
  const me = useStore(session);
  const change = async ({ old = "", next = "", again = "" }: Record<string, string>): Promise<void> => {
    if (next !== again) throw new Error(say("differs"));
    await post("/api/auth/password", { body: { old, new: next } });
    tell(say("done"), "good");
    await enter();
  };
  return (
    <>
      <h1>{say("title")}</h1>
      <div class="grid">
        <Card title={say("title")} icon="users">
          {me.state === "inside" && (
            <dl class="facts">
              <dt>{say("name")}</dt>
              <dd>{me.user}</dd>
              <dt>{say("role")}</dt>
              <dd>{word(me.role)}</dd>
            </dl>
          )}
        </Card>
        <Card title={say("save")} icon="edit">
          <Form send={change} button={say("save")}>
            <Field label={say("old")} name="old" type="password" autocomplete="current-password" required />
            <Field label={say("new")} hint={say("hint")} name="next" type="password" autocomplete="new-password" minLength={10} required />
            <Field label={say("again")} name="again" type="password" autocomplete="new-password" minLength={10} required />
          </Form>
        </Card>
      </div>
    </>
  );
}
