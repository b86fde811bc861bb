// The gateway itself: how it is, its log, who did what, and what one takes away from it.
import type { JSX } from "preact";
import { texts } from "../core/i18n.ts";
import { may } from "../core/session.ts";
import { Audit } from "../system/audit.tsx";
import { State } from "../system/health.tsx";
import { Logs } from "../system/logs.tsx";
import { Tools } from "../system/tools.tsx";
import { Tabs, useTab } from "../ui/tabs.tsx";

const say = texts({
  en: { title: "System", state: "State", logs: "Log", audit: "Events", tools: "Backup and support", parts: "Parts of this page" },
  es: { title: "Sistema", state: "Estado", logs: "Registro", audit: "Eventos", tools: "Copia y soporte", parts: "Partes de esta página" },
});

const TABS = ["state", "logs", "audit", "tools"] as const;
type Tab = (typeof TABS)[number];
const SHOWN: Readonly<Record<Tab, { by: "viewer" | "operator" | "admin"; part: () => JSX.Element }>> = {
  state: { by: "viewer", part: State },
  logs: { by: "admin", part: Logs },
  audit: { by: "operator", part: Audit },
  tools: { by: "admin", part: Tools },
};

export default function System(): JSX.Element {
  const shown = TABS.filter((one) => may(SHOWN[one].by));
  const asked = useTab(TABS);
  const at = shown.includes(asked) ? asked : "state";
  const Part = SHOWN[at].part;
  return (
    <>
      <h1>{say("title")}</h1>
      {shown.length > 1 && <Tabs page="system" label={say("parts")} tabs={shown.map((one) => [one, say(one)] as const)} at={at} />}
      <Part />
    </>
  );
}
