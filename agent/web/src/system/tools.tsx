// What one takes away from a gateway: a backup, a bundle for support, its certificate.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { download } from "../core/api.ts";
import { texts } from "../core/i18n.ts";
import { to } from "../core/route.ts";
import { Action, Card } from "../ui/parts.tsx";

const say = texts({
  en: {
    backup: "Backup", backupText: "Configuration and database in one file. It is made while all goes on; a large one takes a minute. enlace restore puts it back.", secrets: "with users, keys and passwords, as a replacement gateway needs them: keep the file locked away", make: "Make and download", making: "The backup is being made …", doctor: "Bundle for support",
    doctorText: "How the gateway and its devices are, the log, figures and the configuration without secrets. Look at summary.txt in it before you send it.", certificate: "Certificate", certificateText: "The authority of this gateway's own certificate. Devices that trust it don't warn. Compare its fingerprint with the log first.", get: "Download",
    setup: "Set up", setupText: "The site's name and limit, devices found by a scan, and what check says of it.", open: "Go through the set-up", more: "For programs", metrics: "Figures for Prometheus", api: "The API, described", done: "Downloaded",
  },
  es: {
    backup: "Copia de seguridad", backupText: "Configuración y base de datos en un archivo. Se hace mientras todo sigue; una grande tarda un minuto. enlace restore la devuelve.", secrets: "con usuarios, claves y contraseñas, como los necesita una pasarela de repuesto: guarde el archivo bajo llave", make: "Crear y descargar", making: "Se está creando la copia …", doctor: "Paquete para soporte",
    doctorText: "Cómo están la pasarela y sus equipos, el registro, cifras y la configuración sin secretos. Mire summary.txt dentro antes de enviarlo.", certificate: "Certificado", certificateText: "La autoridad del certificado propio de esta pasarela. Los equipos que confían en ella no avisan. Compare antes su huella con el registro.", get: "Descargar",
    setup: "Configurar", setupText: "Nombre y límite del sitio, equipos hallados por búsqueda, y lo que dice check.", open: "Recorrer la configuración", more: "Para programas", metrics: "Cifras para Prometheus", api: "La API, descrita", done: "Descargado",
  },
});

const BACKUP_MS = 1_800_000;

export function Tools(): JSX.Element {
  return (
    <div class="grid">
      <Card title={say("setup")} icon="wrench">
        <p>{say("setupText")}</p>
        <div class="actions">
          <a class="button" href={to("wizard")}>
            {say("open")}
          </a>
        </div>
      </Card>
      <Backup />
      <Card title={say("doctor")} icon="lab">
        <p>{say("doctorText")}</p>
        <div class="actions">
          <Action icon="download" run={() => download("POST", "/api/system/doctor")} done={say("done")}>
            {say("make")}
          </Action>
        </div>
      </Card>
      <Card title={say("certificate")} icon="check">
        <p>{say("certificateText")}</p>
        <div class="actions">
          <Action icon="download" run={() => download("GET", "/api/system/authority.pem")} done={say("done")}>
            {say("get")}
          </Action>
        </div>
      </Card>
      <Card title={say("more")} icon="system">
        <ul class="plain">
          <li>
            <a href="/metrics">{say("metrics")}</a>
          </li>
          <li>
            <a href="/docs">{say("api")}</a>
          </li>
        </ul>
      </Card>
    </div>
  );
}

function Backup(): JSX.Element {
  const [secrets, setSecrets] = useState(true);
  const [making, setMaking] = useState(false);
  const make = async (): Promise<void> => {
    setMaking(true);
    try {
      await download("POST", "/api/system/backup", { query: { secrets }, signal: AbortSignal.timeout(BACKUP_MS) });
    } finally {
      setMaking(false);
    }
  };
  return (
    <Card title={say("backup")} icon="download">
      <p>{say("backupText")}</p>
      <label class="check">
        <input type="checkbox" checked={secrets} onChange={(event) => setSecrets(event.currentTarget.checked)} />
        <span>{say("secrets")}</span>
      </label>
      {making && (
        <p role="status">
          {say("making")}
          <progress aria-label={say("making")} />
        </p>
      )}
      <div class="actions">
        <Action icon="download" run={make} done={say("done")}>
          {say("make")}
        </Action>
      </div>
    </Card>
  );
}
