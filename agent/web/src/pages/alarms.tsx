// Alarms: what is wrong now, the worst first, and what was.
import type { JSX } from "preact";
import { AlarmCard, type Alarm } from "../alarms/card.tsx";
import { AlarmHistory } from "../alarms/history.tsx";
import { AlarmList } from "../alarms/list.tsx";
import { type Group, open } from "../alarms/order.ts";
import { Told } from "../alarms/told.tsx";
import { post } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { texts } from "../core/i18n.ts";
import { may } from "../core/session.ts";
import { Icon } from "../ui/icons.tsx";
import { Action, Await, Card } from "../ui/parts.tsx";
import { Tabs, useTab } from "../ui/tabs.tsx";

const say = texts({
  en: {
    title: "Alarms", open: "Open", all: "All and rules", history: "History", told: "Who is told", now: "To be seen to", seen: "Seen, and going on", quiet: "Nobody is told of these", trial: "On trial", well: "Nothing is wrong.",
    watch: "{count} alarms watch over the site.", acknowledgeAll: "Acknowledge all", done: "All are acknowledged", parts: "Parts of this page", calm: "Nothing new.",
  },
  es: {
    title: "Alarmas", open: "Abiertas", all: "Todas y reglas", history: "Historial", told: "A quién se avisa", now: "Por atender", seen: "Vistas, y siguen", quiet: "De estas no se avisa a nadie", trial: "A prueba", well: "Todo está bien.",
    watch: "{count} alarmas vigilan el sitio.", acknowledgeAll: "Reconocer todas", done: "Todas están reconocidas", parts: "Partes de esta página", calm: "Nada nuevo.",
  },
});

const TABS = ["open", "all", "history", "told"] as const;
const GROUPS: readonly Group[] = ["now", "seen", "trial", "quiet"];

function Open({ items }: { items: readonly Alarm[] }): JSX.Element {
  const found = open(items);
  if (!GROUPS.some((one) => found[one].length))
    return (
      <Card>
        <div class="quiet good" role="status">
          <Icon name="check" />
          <div>
            <strong>{say("well")}</strong>
            <div class="dim">{say("watch", { count: items.filter((one) => one.kind === "alarm").length })}</div>
          </div>
        </div>
      </Card>
    );
  return (
    <>
      {GROUPS.filter((one) => found[one].length).map((one) => (
        <details key={one} class="group" open={one !== "quiet"}>
          <summary>
            <h2>
              {say(one)} <span class="dim">{found[one].length}</span>
            </h2>
          </summary>
          <div class="alarms">
            {found[one].map((alarm) => (
              <AlarmCard key={alarm.id} of={alarm} />
            ))}
          </div>
        </details>
      ))}
    </>
  );
}

export default function Alarms(): JSX.Element {
  const asked = useTab(TABS);
  const tab = asked === "told" && !may("operator") ? "open" : asked;
  const all = useAsk("/api/alarms", { query: { page_size: 1000 } }, 10);
  const items = all.data?.items ?? [];
  const now = open(items).now.length;
  const parts: [(typeof TABS)[number], string, number?][] = [["open", say("open"), now], ["all", say("all")], ["history", say("history")]];
  if (may("operator")) parts.push(["told", say("told")]);
  return (
    <>
      <div class="row between titled">
        <h1>{say("title")}</h1>
        {tab === "open" && now > 1 && may("operator") && (
          <Action icon="check" run={() => post("/api/alarms/acknowledge")} done={say("done")}>
            {say("acknowledgeAll")}
          </Action>
        )}
      </div>
      <Tabs page="alarms" label={say("parts")} tabs={parts} at={tab} />
      {tab === "open" && <Await of={all}>{(list) => <Open items={list.items} />}</Await>}
      {tab === "all" && <Await of={all}>{(list) => <AlarmList items={list.items} />}</Await>}
      {tab === "history" && <AlarmHistory known={items.map((one) => one.id)} />}
      {tab === "told" && <Told />}
    </>
  );
}
