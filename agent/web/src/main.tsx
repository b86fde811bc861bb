// The page: who looks, where they are, and around each page the same frame.
import { type ComponentChildren, type ComponentType, type JSX, render } from "preact";
import { useEffect, useErrorBoundary, useRef, useState } from "preact/hooks";
import type { Answer } from "./core/api.ts";
import { type Asked, useAsk } from "./core/ask.ts";
import { LANGUAGES, type Language, language, setLanguage, texts, useLanguage, word } from "./core/i18n.ts";
import { now, useLink } from "./core/live.ts";
import { place, to } from "./core/route.ts";
import { enter, logOut, may, session } from "./core/session.ts";
import { useStore } from "./core/store.ts";
import { learn, spanish } from "./core/told.ts";
import { type Theme, setTheme, showTheme, theme } from "./core/theme.ts";
import { isElsewhere, setZone, zone } from "./core/zone.ts";
import { DemoPanel } from "./demo/panel.tsx";
import { LogIn, SetUp } from "./entry.tsx";
import { Icon, type IconName } from "./ui/icons.tsx";
import { Alert, Choice, LinkNote, Toasts, tell } from "./ui/parts.tsx";

const say = texts({
  en: {
    site: "Site", stations: "Stations", battery: "Battery", devices: "Devices", alarms: "Alarms", energy: "Energy", charts: "Charts", schedule: "Schedule",
    maintenance: "Maintenance", system: "System", users: "Users", more: "More", skip: "Skip to the page", live: "live", connecting: "connecting", lost: "no connection",
    away: "The gateway does not answer. This page tries again by itself.", language: "Language", theme: "Appearance", auto: "as the device", light: "light", dark: "dark",
    logout: "Log out", nav: "Pages", unknown: "There is no such page.", asking: "One moment …", broken: "This page could not be loaded. It is tried again by itself.", anew: "Load all anew", failed: "This page failed: {why}", api: "API", account: "Account", times: "Times are those of the site ({zone}), which differ from this device's.",
  },
  es: {
    site: "Sitio", stations: "Estaciones", battery: "Batería", devices: "Equipos", alarms: "Alarmas", energy: "Energía", charts: "Gráficas", schedule: "Programa",
    maintenance: "Mantenimiento", system: "Sistema", users: "Usuarios", more: "Más", skip: "Ir a la página", live: "en vivo", connecting: "conectando", lost: "sin conexión",
    away: "La pasarela no responde. Esta página lo intenta de nuevo por sí sola.", language: "Idioma", theme: "Aspecto", auto: "como el equipo", light: "claro", dark: "oscuro",
    logout: "Cerrar sesión", nav: "Páginas", unknown: "No existe esa página.", asking: "Un momento …", broken: "No se pudo cargar esta página. Se intenta de nuevo por sí sola.", anew: "Cargar todo de nuevo", failed: "Esta página falló: {why}", api: "API", account: "Cuenta", times: "Las horas son las del sitio ({zone}), distintas de las de este dispositivo.",
  },
});

type Page = ComponentType<{ id: string }>;
type Load = () => Promise<{ default: Page }>;
/** Pages by the first part of their address. Each is a chunk of its own, loaded when it is first seen. */
const PAGES: Readonly<Record<string, Load>> = {
  site: () => import("./pages/site.tsx"),
  stations: () => import("./pages/stations.tsx"),
  station: () => import("./pages/station.tsx"),
  battery: () => import("./pages/battery.tsx"),
  devices: () => import("./pages/devices.tsx"),
  alarms: () => import("./pages/alarms.tsx"),
  energy: () => import("./pages/energy.tsx"),
  charts: () => import("./pages/charts.tsx"),
  schedule: () => import("./pages/schedule.tsx"),
  maintenance: () => import("./pages/maintenance.tsx"),
  system: () => import("./pages/system.tsx"),
  users: () => import("./pages/users.tsx"),
  account: () => import("./pages/account.tsx"),
  wizard: () => import("./pages/wizard.tsx"),
};
type Key = "site" | "stations" | "battery" | "alarms" | "energy" | "charts" | "devices" | "schedule" | "maintenance" | "system" | "users";
const MENU: readonly [Key, IconName][] = [
  ["site", "site"], ["stations", "station"], ["battery", "battery"], ["alarms", "alarm"], ["energy", "energy"], ["charts", "log"], ["devices", "devices"],
  ["schedule", "calendar"], ["maintenance", "wrench"], ["system", "system"], ["users", "users"],
];
/** What a phone's bar has room for; the rest is behind "More". */
const FIRST = 4;

/** So long until a page that could not be loaded is tried again. */
const AGAIN_MS = 3_000;

/** `broken`: it could not be loaded; the line was cut, or the gateway was upgraded meanwhile and has other pages. */
function usePage(load: Load | undefined): { Page?: Page; broken?: boolean } {
  const [loaded, set] = useState<{ of?: Load; Page?: Page; broken?: boolean }>({});
  useEffect(() => {
    let wanted = true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const ask = (): void =>
      void load?.().then(
        (module) => wanted && set({ of: load, Page: module.default }),
        () => {
          if (!wanted) return;
          set({ of: load, broken: true });
          timer = setTimeout(ask, AGAIN_MS);
        },
      );
    ask();
    return () => {
      wanted = false;
      clearTimeout(timer);
    };
  }, [load]);
  return loaded.of === load ? loaded : {};
}

/** Alarms that nobody has seen to. */
const useAlarms = (state: "unacknowledged" | "latched" | "returned"): Asked<Answer<"/api/alarms">> => useAsk("/api/alarms", { query: { kind: "alarm", state, page_size: 1000 } }, 15);

function Menu({ page }: { page: string }): JSX.Element {
  const [open, setOpen] = useState(false);
  const alarms = [useAlarms("unacknowledged"), useAlarms("latched"), useAlarms("returned")];
  const raised = alarms.flatMap((one) => one.data?.items ?? []).filter((one) => !one.shadow).length;
  const here = page === "station" ? "stations" : page === "wizard" ? "devices" : page;
  useEffect(() => setOpen(false), [page]);
  const shown = MENU.filter(([key]) => key !== "users" || may("admin"));
  return (
    <nav class={`menu ${open ? "open" : ""}`} aria-label={say("nav")}>
      {shown.map(([key, icon], index) => (
        <a key={key} href={to(key)} class={index < FIRST ? "first" : ""} aria-current={here === key ? "page" : undefined}>
          <Icon name={icon} />
          <span>{say(key)}</span>
          {key === "alarms" && raised > 0 && <span class="count">{raised}</span>}
        </a>
      ))}
      <button type="button" class="more" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="more" />
        <span>{say("more")}</span>
      </button>
    </nav>
  );
}

function Head({ site }: { site: string }): JSX.Element {
  const link = useLink();
  const look = useStore(theme);
  const who = useStore(session);
  const account = useRef<HTMLDetailsElement>(null);
  const shut = (): void => void account.current?.removeAttribute("open");
  useEffect(() => place.listen(shut), []); // it would stand over the page that it led to
  const escaped = (event: KeyboardEvent): void => {
    if (event.key !== "Escape") return;
    shut();
    account.current?.querySelector("summary")?.focus();
  };
  return (
    <header class="top">
      <a class="brand" href={to("site")}>
        <img src="/static/icon.svg" alt="" width="26" height="26" />
        <strong>{site || "Enlace"}</strong>
      </a>
      <span class={`link ${link}`} role="status">
        {say(link)}
      </span>
      <details ref={account} class="account" onKeyDown={escaped}>
        <summary aria-label={who.state === "inside" ? `${say("account")}: ${who.user}` : say("account")}>
          <Icon name="users" />
          <span>{who.state === "inside" ? who.user : say("account")}</span>
        </summary>
        <div>
          {who.state === "inside" && (
            <a href={to("account")}>
              {who.user} ({word(who.role)})
            </a>
          )}
          <Choice<Language> label={say("language")} value={language.value} of={LANGUAGES} set={setLanguage} />
          <Choice<Theme> label={say("theme")} value={look} of={{ auto: say("auto"), light: say("light"), dark: say("dark") }} set={setTheme} />
          <a href="/docs">{say("api")}</a>
          <button type="button" onClick={() => void logOut().catch((error: Error) => tell(error.message, "bad"))}>
            {say("logout")}
          </button>
        </div>
      </details>
    </header>
  );
}

const Broken = ({ why }: { why: string }): JSX.Element => (
  <>
    <Alert>{why}</Alert>
    <button type="button" onClick={() => location.reload()}>
      {say("anew")}
    </button>
  </>
);

/** A page that fails says so, and the frame around it goes on. */
function Guarded({ children }: { children: ComponentChildren }): JSX.Element {
  const [error] = useErrorBoundary((failed: unknown) => console.warn(failed));
  return error ? <Broken why={say("failed", { why: String(error) })} /> : <>{children}</>;
}

function Inside(): JSX.Element {
  const { page, id } = useStore(place);
  const load = PAGES[page];
  const { Page, broken } = usePage(load);
  const known = useAsk("/api/site", {}, 60);
  const main = useRef<HTMLElement>(null);
  const site = known.data?.name || known.data?.id || "";
  useEffect(() => setZone(known.data?.timezone), [known.data?.timezone]);
  const title = page in PAGES && MENU.some(([key]) => key === page) ? say(page as Key) : site;
  useEffect(() => {
    document.title = [title, site, "Enlace"].filter((one, index, all) => one && all.indexOf(one) === index).join(" · ");
  }, [title, site]);
  const first = useRef(true);
  useEffect(() => {
    if (!first.current) {
      scrollTo(0, 0);
      main.current?.focus({ preventScroll: true }); // so that a reader hears the new page, and Tab goes on there
    }
    first.current = false;
  }, [page, id]);
  return (
    <>
      <a class="skip" href="#page" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        {say("skip")}
      </a>
      <Head site={site} />
      <LinkNote />
      <DemoPanel />
      <div class="frame">
        <Menu page={page} />
        <main ref={main} id="page" tabIndex={-1}>
          {!load && <Alert>{say("unknown")}</Alert>}
          {broken && <Broken why={say("broken")} />}
          {Page && (
            <Guarded key={`${page}/${id}`}>
              <Page id={id} />
            </Guarded>
          )}
          {isElsewhere(now()) && <p class="dim">{say("times", { zone: zone.value ?? "" })}</p>}
        </main>
      </div>
    </>
  );
}

function App(): JSX.Element {
  const tongue = useLanguage();
  useStore(spanish);
  useStore(zone);
  const now = useStore(session);
  return (
    <div key={tongue} class="all">
      {now.state === "asking" && <p class="dim centre">{say("asking")}</p>}
      {now.state === "away" && (
        <div class="centre">
          <Alert>{say("away")}</Alert>
        </div>
      )}
      {now.state === "set-up" && <SetUp />}
      {now.state === "log-in" && <LogIn />}
      {now.state === "inside" && <Inside />}
      <Toasts />
    </div>
  );
}

/** So long the first look waits for the sentences of its language; on a bad line they come when they come. */
const PATIENCE_MS = 1500;

document.documentElement.lang = language.value;
showTheme();
language.listen(() => void learn());
void enter();
void Promise.race([learn(), new Promise((go) => setTimeout(go, PATIENCE_MS))]).finally(() => render(<App />, document.getElementById("app")!));
