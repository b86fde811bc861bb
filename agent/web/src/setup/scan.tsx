// The search for devices: where to look, and how far it is.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { type Answer, type Body, del, post } from "../core/api.ts";
import { duration } from "../core/format.ts";
import { texts, word } from "../core/i18n.ts";
import { told } from "../core/told.ts";
import { Action, Alert, Badge, Card, Field, type Tone } from "../ui/parts.tsx";
import { listOf } from "./site.ts";

const say = texts({
  en: {
    title: "Search for devices", text: "It looks where nothing is configured yet, and disturbs nothing that runs.", ocpp: "Chargers that call", ocppText: "OCPP: they knock at this gateway", modbus: "The network", modbusText: "Modbus TCP in its own networks", serial: "Serial lines", serialText: "meters, and Modbus on RS-485", can: "CAN", canText: "batteries",
    start: "Search", again: "Search again", cancel: "Stop", where: "Where exactly", hosts: "Hosts", hostsHint: "10.0.0.21, charger.local:1502", networks: "Networks", networksHint: "192.168.1.0/24; empty: its own", ports: "Serial ports", portsHint: "/dev/ttyUSB0; empty: all that there are", units: "Unit numbers on Modbus", unitsHint: "1, 2, 3; empty: the usual ones",
    left: "about {time} more", messages: "What it says", nothing: "Nothing was found. Is the device powered, on the same network, and not configured already?",
  },
  es: {
    title: "Buscar equipos", text: "Mira donde aún no hay nada configurado, y no molesta a nada que funcione.", ocpp: "Cargadores que llaman", ocppText: "OCPP: llaman a esta pasarela", modbus: "La red", modbusText: "Modbus TCP en sus propias redes", serial: "Líneas serie", serialText: "contadores, y Modbus en RS-485", can: "CAN", canText: "baterías",
    start: "Buscar", again: "Buscar de nuevo", cancel: "Parar", where: "Dónde exactamente", hosts: "Equipos de red", hostsHint: "10.0.0.21, charger.local:1502", networks: "Redes", networksHint: "192.168.1.0/24; vacío: las propias", ports: "Puertos serie", portsHint: "/dev/ttyUSB0; vacío: todos los que haya", units: "Números de unidad en Modbus", unitsHint: "1, 2, 3; vacío: los habituales",
    left: "unos {time} más", messages: "Lo que dice", nothing: "No se encontró nada. ¿El equipo tiene corriente, está en la misma red y no está ya configurado?",
  },
});

export type Scan = Answer<"/api/scan">;
type Kind = Scan["kinds"][number]["kind"];
const KINDS: readonly Kind[] = ["ocpp", "modbus", "serial", "can"];
const PLACES = ["hosts", "networks", "ports", "units"] as const;
const TONES: Readonly<Record<string, Tone>> = { running: "info", done: "good", failed: "bad", cancelled: "warn" };

export function ScanCard({ of, refresh }: { of: Scan; refresh: () => Promise<void> }): JSX.Element {
  const [kinds, setKinds] = useState<readonly Kind[]>(KINDS);
  const [where, setWhere] = useState<Readonly<Record<string, string>>>({});
  const runs = of.state === "running" || of.state === "waiting";
  const begin = async (): Promise<void> => {
    const places = PLACES.map((one) => [one, listOf(where[one] ?? "")] as const).filter(([, list]) => list.length);
    const body = { kinds, ...Object.fromEntries(places.map(([one, list]) => [one, one === "units" ? list.map(Number) : list])) };
    await post("/api/scan", { body: body as unknown as Body<"/api/scan", "post"> });
    await refresh();
  };
  const stop = async (): Promise<void> => {
    await del("/api/scan");
    await refresh();
  };
  return (
    <Card title={say("title")} icon="search">
      <p class="dim">{say("text")}</p>
      {!runs && (
        <>
          <div class="choices kinds">
            {KINDS.map((one) => (
              <label key={one} class="check">
                <input type="checkbox" checked={kinds.includes(one)} onChange={(event) => setKinds(KINDS.filter((each) => (each === one ? event.currentTarget.checked : kinds.includes(each))))} />
                <span>
                  <strong>{say(one)}</strong>
                  <small class="dim">{say(`${one}Text`)}</small>
                </span>
              </label>
            ))}
          </div>
          <details class="more">
            <summary>{say("where")}</summary>
            <div class="fields">
              {PLACES.map((one) => (
                <Field key={one} label={say(one)} hint={say(`${one}Hint`)} value={where[one] ?? ""} autocapitalize="none" autocomplete="off" spellcheck={false} onInput={(event) => setWhere({ ...where, [one]: event.currentTarget.value })} />
              ))}
            </div>
          </details>
        </>
      )}
      <div class="actions">
        {runs ? (
          <Action run={stop} icon="close">
            {say("cancel")}
          </Action>
        ) : (
          <Action kind="main" run={begin} icon="search" disabled={!kinds.length}>
            {say(of.state === "idle" ? "start" : "again")}
          </Action>
        )}
      </div>
      {of.kinds.length > 0 && (
        <ul class="lines">
          {of.kinds.map((one) => (
            <li key={one.kind}>
              <div class="row between">
                <strong>{say(one.kind)}</strong>
                <Badge tone={TONES[one.state] ?? "dim"}>{word(one.state)}</Badge>
              </div>
              {one.state === "running" && <progress aria-label={say(one.kind)} {...(one.total ? { value: one.done, max: one.total } : {})} />}
              <small class="dim">
                {told(one.detail)}
                {one.state === "running" && one.left_s !== null && ` · ${say("left", { time: duration(one.left_s) })}`}
              </small>
            </li>
          ))}
        </ul>
      )}
      {of.state === "done" && !of.found.length && <Alert tone="info">{say("nothing")}</Alert>}
      {of.messages.length > 0 && (
        <details class="more">
          <summary>
            {say("messages")} <span class="dim">{of.messages.length}</span>
          </summary>
          <ul class="plain dim">
            {[...of.messages].reverse().map((one, index) => (
              <li key={index}>{told(one)}</li>
            ))}
          </ul>
        </details>
      )}
    </Card>
  );
}
