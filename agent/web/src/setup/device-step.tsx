// Devices: found by a search, let in when they call, or added by hand; and those that are there.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { useAsk } from "../core/ask.ts";
import { texts } from "../core/i18n.ts";
import { to } from "../core/route.ts";
import { type Device, StateBadge, Trouble } from "../devices/card.tsx";
import { Pending } from "../site/pending.tsx";
import { Await, Card } from "../ui/parts.tsx";
import { AddDevice } from "./add.tsx";
import { FoundCard } from "./found.tsx";
import { ScanCard } from "./scan.tsx";
import { Ways } from "./steps.tsx";

const say = texts({
  en: { hand: "By hand", handText: "For what a search can't find, or what comes later.", there: "On the site: {count}", none: "Nothing yet." },
  es: { hand: "A mano", handText: "Para lo que una búsqueda no encuentra, o lo que llega después.", there: "En el sitio: {count}", none: "Todavía nada." },
});

const RUNNING_S = 1;
const RESTING_S = 5;

export function DeviceStep(): JSX.Element {
  const [every_s, setEvery] = useState(RUNNING_S);
  const scan = useAsk("/api/scan", {}, every_s);
  const devices = useAsk("/api/devices", { query: { page_size: 1000 } }, 3);
  const [made, setMade] = useState(0);
  const wanted = scan.data && scan.data.state !== "running" && scan.data.state !== "waiting" ? RESTING_S : RUNNING_S;
  if (wanted !== every_s) setEvery(wanted);
  const items = devices.data?.items.filter((one) => one.kind === "configured") ?? [];
  return (
    <div class="stack">
      <Await of={scan}>
        {(found) => (
          <>
            <ScanCard of={found} refresh={scan.refresh} />
            <FoundCard of={found} devices={items} />
          </>
        )}
      </Await>
      <Pending />
      <Card title={say("hand")} icon="plus">
        <details class="more" key={made}>
          <summary>{say("handText")}</summary>
          <AddDevice taken={items.map((one) => one.id)} done={() => setMade(made + 1)} />
        </details>
      </Card>
      <There items={items} />
      <Ways at="devices" />
    </div>
  );
}

export const There = ({ items }: { items: readonly Device[] }): JSX.Element => (
  <Card title={say("there", { count: items.length })} icon="site">
    {!items.length && <p class="dim">{say("none")}</p>}
    <ul class="lines">
      {items.map((one) => (
        <li key={one.id}>
          <div class="row between">
            <a href={to("devices", one.id)}>{one.name || one.id}</a>
            <StateBadge of={one} />
          </div>
          <Trouble of={one} />
        </li>
      ))}
    </ul>
  </Card>
);
