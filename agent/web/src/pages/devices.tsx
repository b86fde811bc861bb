// Devices: how each is, what is wrong with it, and how it gets onto the site and off it.
import type { JSX } from "preact";
import { useAsk } from "../core/ask.ts";
import { texts } from "../core/i18n.ts";
import { go, to } from "../core/route.ts";
import { may } from "../core/session.ts";
import { DeviceCard } from "../devices/card.tsx";
import { Detail } from "../devices/detail.tsx";
import { AddDevice } from "../setup/add.tsx";
import { Pending } from "../site/pending.tsx";
import { Icon } from "../ui/icons.tsx";
import { Await, Card } from "../ui/parts.tsx";

const say = texts({
  en: { title: "Devices", online: "{online} of {total} online", none: "There are no devices yet.", add: "Add by hand", scan: "Search for devices", back: "All devices", new: "A new device" },
  es: { title: "Equipos", online: "{online} de {total} en línea", none: "Todavía no hay equipos.", add: "Añadir a mano", scan: "Buscar equipos", back: "Todos los equipos", new: "Un equipo nuevo" },
});

/** No device can be called so. */
const NEW = "+";
const ORDER = ["offline", "unsupported", "starting", "online"];

export default function Devices({ id }: { id: string }): JSX.Element {
  const asked = useAsk("/api/devices", { query: { page_size: 1000 } }, 3);
  if (id === NEW && may("admin"))
    return (
      <>
        <p>
          <a href={to("devices")}>‹ {say("back")}</a>
        </p>
        <h1>{say("new")}</h1>
        <Card>
          <AddDevice taken={asked.data?.items.map((one) => one.id) ?? []} done={(made) => go("devices", made)} />
        </Card>
      </>
    );
  if (id) return <Await of={asked}>{(list) => <Detail id={id} devices={list.items} />}</Await>;
  const items = asked.data?.items ?? [];
  const online = items.filter((one) => one.state === "online").length;
  return (
    <>
      <div class="row between titled">
        <div class="row">
          <h1>{say("title")}</h1>
          {items.length > 0 && <span class={online < items.length ? "warn" : "dim"}>{say("online", { online, total: items.length })}</span>}
        </div>
        {may("admin") && (
          <div class="row">
            <a class="button" href={to("wizard", "devices")}>
              <Icon name="search" /> {say("scan")}
            </a>
            <a class="button" href={to("devices", NEW)}>
              <Icon name="plus" /> {say("add")}
            </a>
          </div>
        )}
      </div>
      <div class="grid">
        <Pending />
        <Await of={asked} empty={say("none")}>
          {(list) => [...list.items].sort((one, other) => ORDER.indexOf(one.state) - ORDER.indexOf(other.state)).map((one) => <DeviceCard key={one.id} of={one} />)}
        </Await>
      </div>
    </>
  );
}
