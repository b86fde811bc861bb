// The site in a glance: what is wrong, what flows, what each part does, and a switch for each station.
import type { JSX } from "preact";
import { texts } from "../core/i18n.ts";
import { useLink, useSome } from "../core/live.ts";
import { to } from "../core/route.ts";
import { may } from "../core/session.ts";
import { AdviceCard, BatteryCard, GridCard, OpenAlarms, TodayCard, UplinkCard } from "../site/cards.tsx";
import { FlowView } from "../site/flow-view.tsx";
import { flowOf } from "../site/flow.ts";
import { Pending } from "../site/pending.tsx";
import { signalOf } from "../site/roles.ts";
import { StationRow } from "../site/station-row.tsx";
import { urgency } from "../site/switching.tsx";
import { type Site, type StationOut, usePowers, useSite, valueOf } from "../site/use-site.ts";
import { Await, Card } from "../ui/parts.tsx";

const say = texts({
  en: {
    title: "Site now", flow: "Power now", stations: "Stations", all: "All {n} stations", charts: "Chart", battery: "Battery", none: "No charging station yet.",
    begin: "This site has no device yet", how: "Search for what is connected, test it, and save it: the first values show here at once.", start: "Set the site up", wait: "An administrator has to set it up.",
  },
  es: {
    title: "El sitio ahora", flow: "Potencia ahora", stations: "Estaciones", all: "Las {n} estaciones", charts: "Gráfica", battery: "Batería", none: "Aún no hay estaciones de carga.",
    begin: "Este sitio aún no tiene equipos", how: "Busque lo que está conectado, pruébelo y guárdelo: los primeros valores se ven aquí enseguida.", start: "Configurar el sitio", wait: "Un administrador tiene que configurarlo.",
  },
});

/** Rows of stations on this page; the rest is on their own. */
const SHOWN = 8;

export default function Page(_: { id: string }): JSX.Element {
  const site = useSite();
  const empty = site.devices.data?.items.length === 0 && site.stations.data?.items.length === 0;
  return (
    <>
      <h1 class="hidden">{say("title")}</h1>
      <div class="board">
        <div class="first stack">
          <OpenAlarms />
          <Pending />
          {empty ? <Begin /> : <Flowing site={site} />}
        </div>
        <div class="second stack">
          {!empty && <Stations site={site} />}
          {site.roles.batteries.slice(0, 4).map((one) => (
            <BatteryCard key={one} device={one} site={site} />
          ))}
          {site.roles.grid && <GridCard device={site.roles.grid} site={site} />}
          <AdviceCard />
        </div>
        <div class="third stack">
          <TodayCard site={site} />
          <UplinkCard />
        </div>
      </div>
    </>
  );
}

function Begin(): JSX.Element {
  return (
    <Card title={say("begin")} icon="plus">
      <p>{may("admin") ? say("how") : say("wait")}</p>
      {may("admin") && (
        <p class="actions">
          <a class="button main" href={to("wizard")}>
            {say("start")}
          </a>
        </p>
      )}
    </Card>
  );
}

function Flowing({ site }: { site: Site }): JSX.Element {
  const { roles, names } = site;
  const [grid] = usePowers(roles.grid ? [roles.grid] : [], names);
  const batteries = usePowers(roles.batteries, names);
  const solar = usePowers(roles.solar, names);
  const wired = site.outlets.filter((one) => !one.registered);
  const chargers = usePowersOf(wired);
  const socs = useSome(roles.batteries.map((one) => `${one}.soc_pct`)).map(valueOf);
  const live = useLink() === "live";
  const flow = flowOf(live || grid !== undefined ? grid : null, batteries, chargers, solar);
  const has = { grid: !!roles.grid, battery: roles.batteries.length > 0, chargers: wired.length > 0, solar: roles.solar.length > 0 };
  const shown = [roles.grid, ...roles.batteries, ...roles.solar].filter((one): one is string => !!one).map((one) => `${one}.power_w`);
  return (
    <Card title={say("flow")} icon="site" action={shown.length > 0 && <a href={to("charts", "", { signals: [...shown, ...wired.slice(0, 3).map((one) => signalOf(one))].join(",") })}>{say("charts")}</a>}>
      <FlowView flow={flow} has={has} soc={socs.length === 1 ? socs[0]! : null} />
    </Card>
  );
}

/** What stations draw, W. One that says that nothing is plugged in or charges draws nothing, also where it tells no power. */
function usePowersOf(stations: readonly StationOut[]): readonly (number | null)[] {
  const heard = useSome(stations.flatMap((one) => [signalOf(one), signalOf(one, "charging"), signalOf(one, "plugged")]));
  return stations.map((_, index) => {
    const [power, charging, plugged] = heard.slice(3 * index, 3 * index + 3).map(valueOf);
    return power ?? (charging === 0 || plugged === 0 ? 0 : null);
  });
}

function Stations({ site }: { site: Site }): JSX.Element {
  const sorted = site.outlets.map((one, index) => ({ one, index })).sort((a, b) => urgency(a.one) - urgency(b.one) || a.index - b.index);
  const few = site.outlets.length <= SHOWN;
  const shown = few ? site.outlets : sorted.slice(0, SHOWN - 2).map(({ one }) => one);
  return (
    <Card title={say("stations")} icon="station" action={<a href={to("stations")}>{say("all", { n: site.outlets.length })}</a>}>
      <Await of={site.stations} empty={say("none")}>
        {() => (
          <ul class="plain stations">
            {shown.map((one) => (
              <StationRow key={one.id} station={one} online={site.online(one.device)} />
            ))}
          </ul>
        )}
      </Await>
    </Card>
  );
}
