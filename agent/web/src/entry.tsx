// How to get in: the first user with the one-time code, everybody else with their password.
import type { ComponentChildren, JSX } from "preact";
import { LANGUAGES, type Language, language, setLanguage, texts } from "./core/i18n.ts";
import { Refused } from "./core/api.ts";
import { go } from "./core/route.ts";
import { enter, logIn, setUp } from "./core/session.ts";
import { Choice, Field, Form, tell } from "./ui/parts.tsx";

const say = texts({
  en: {
    login: "Log in", user: "User name", password: "Password", setup: "Set up this gateway", code: "One-time code",
    codeHint: "The gateway's log, or the terminal that it was started in, shows it. A restart makes another one.",
    passwordHint: "At least ten characters; a few words make a good one.", again: "The same again", differs: "The two passwords are not the same.",
    welcome: "This gateway has no user yet. The first one is its administrator.", next: "Make the administrator", language: "Language",
  },
  es: {
    login: "Iniciar sesión", user: "Usuario", password: "Contraseña", setup: "Configurar esta pasarela", code: "Código de un solo uso",
    codeHint: "Está en el registro de la pasarela o en la terminal donde se inició. Al reiniciar se crea otro.",
    passwordHint: "Al menos diez caracteres; unas cuantas palabras forman una buena.", again: "La misma otra vez", differs: "Las dos contraseñas no son iguales.",
    welcome: "Esta pasarela aún no tiene usuarios. El primero es su administrador.", next: "Crear el administrador", language: "Idioma",
  },
});

const Gate = ({ title, children }: { title: string; children: ComponentChildren }): JSX.Element => (
  <main class="gate">
    <img src="/static/icon.svg" alt="" width="48" height="48" />
    <h1>{title}</h1>
    {children}
    <Choice<Language> label={say("language")} value={language.value} of={LANGUAGES} set={setLanguage} />
  </main>
);

export const LogIn = (): JSX.Element => (
  <Gate title={say("login")}>
    <Form button={say("login")} send={({ username = "", password = "" }) => logIn(username, password)}>
      <Field label={say("user")} name="username" autocomplete="username" autocapitalize="none" required autofocus />
      <Field label={say("password")} name="password" type="password" autocomplete="current-password" required />
    </Form>
  </Gate>
);

/** What the gateway answers when it has an administrator already. */
const DONE = 409;

async function begin({ code = "", username = "", password = "", again = "" }: Record<string, string>): Promise<void> {
  if (password !== again) throw new Error(say("differs"));
  go("wizard");
  try {
    await setUp(code.trim(), username.trim(), password);
  } catch (error) {
    if (!(error instanceof Refused && error.status === DONE)) throw error;
    tell(error.message);
    await enter(); // somebody else was first: there is a user to log in as
  }
}

export const SetUp = (): JSX.Element => (
  <Gate title={say("setup")}>
    <p>{say("welcome")}</p>
    <Form button={say("next")} send={begin}>
      <Field label={say("code")} hint={say("codeHint")} name="code" autocomplete="off" autocapitalize="characters" spellcheck={false} required autofocus />
      <Field label={say("user")} name="username" autocomplete="username" autocapitalize="none" required />
      <Field label={say("password")} hint={say("passwordHint")} name="password" type="password" autocomplete="new-password" minLength={10} required />
      <Field label={say("again")} name="again" type="password" autocomplete="new-password" minLength={10} required />
    </Form>
  </Gate>
);
