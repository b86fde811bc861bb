// Setting up: the site, its devices, what check says, done. Each step writes at once; one may leave and come back.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type Answer, get } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { texts } from "../core/i18n.ts";
import { to } from "../core/route.ts";
import { may } from "../core/session.ts";
import { DeviceStep, There } from "../setup/device-step.tsx";
import { Findings } from "../setup/findings.tsx";
import { SiteStep } from "../setup/site-step.tsx";
import { Stepper, Ways, stepOf } from "../setup/steps.tsx";
import { Icon } from "../ui/icons.tsx";
import { Action, Alert, Await, Card } from "../ui/parts.tsx";

const say = texts({
  en: {
    title: "Set-up", admin: "Only an administrator can set the site up.", check: "What enlace check says", checkText: "The same findings as the command's. Errors keep the gateway from taking the file; warnings are worth a look.", nothing: "Nothing to complain about.", again: "Check again", usable: "The configuration can be used.", unusable: "The configuration can't be used as it is.",
    done: "The site is set up", doneText: "All of it stands in the configuration file, and can be changed here or there at any time.", open: "Open the site", users: "Add users", alarms: "See what alarms watch over it", backup: "Make a backup",
  },
  es: {
    title: "Configuración", admin: "Solo un administrador puede configurar el sitio.", check: "Lo que dice enlace check", checkText: "Los mismos avisos que los del comando. Con errores la pasarela no toma el archivo; los avisos merecen una mirada.", nothing: "Nada que objetar.", again: "Comprobar de nuevo", usable: "La configuración se puede usar.", unusable: "La configuración no se puede usar así.",
    done: "El sitio está configurado", doneText: "Todo está en el archivo de configuración, y se puede cambiar aquí o allí en cualquier momento.", open: "Abrir el sitio", users: "Añadir usuarios", alarms: "Ver qué alarmas lo vigilan", backup: "Hacer una copia",
  },
});

function CheckStep(): JSX.Element {
  const [newer, setNewer] = useState<Answer<"/api/check">>();
  const first = useAsk("/api/check", {}, 3600);
  const again = async (): Promise<void> => setNewer(await get("/api/check"));
  return (
    <Card title={say("check")} icon="check" action={<Action run={again}>{say("again")}</Action>}>
      <p class="dim">{say("checkText")}</p>
      <Await of={{ data: newer ?? first.data, error: first.error }}>
        {(found) => (
          <>
            <Alert tone={found.ok ? "good" : "bad"}>{say(found.ok ? "usable" : "unusable")}</Alert>
            <Findings of={found.findings} none={say("nothing")} />
          </>
        )}
      </Await>
      <Ways at="check" />
    </Card>
  );
}

function DoneStep(): JSX.Element {
  const devices = useAsk("/api/devices", { query: { page_size: 1000 } }, 3);
  return (
    <div class="stack">
      <Card>
        <div class="quiet">
          <span class="good">
            <Icon name="check" />
          </span>
          <div>
            <h2>{say("done")}</h2>
            <p class="dim">{say("doneText")}</p>
          </div>
        </div>
        <div class="actions">
          <a class="button main" href={to("site")}>
            {say("open")}
          </a>
          <a class="button" href={to("users")}>
            {say("users")}
          </a>
          <a class="button" href={to("alarms", "", { tab: "all" })}>
            {say("alarms")}
          </a>
          <a class="button" href={to("system", "", { tab: "tools" })}>
            {say("backup")}
          </a>
        </div>
      </Card>
      <There items={devices.data?.items.filter((one) => one.kind === "configured") ?? []} />
    </div>
  );
}

const PARTS = { site: SiteStep, devices: DeviceStep, check: CheckStep, done: DoneStep };

export default function Wizard({ id }: { id: string }): JSX.Element {
  if (!may("admin")) return <Alert>{say("admin")}</Alert>;
  const at = stepOf(id);
  const Part = PARTS[at];
  return (
    <div class="wizard">
      <h1>{say("title")}</h1>
      <Stepper at={at} />
      <Part />
    </div>
  );
}
