// A device by hand: what it is, its keys, a test, and into the configuration.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { post } from "../core/api.ts";
import { texts } from "../core/i18n.ts";
import { came } from "../site/pending.tsx";
import { Icon, type IconName } from "../ui/icons.tsx";
import { tell } from "../ui/parts.tsx";
import { EntryForm } from "./entry-form.tsx";
import { type Entry, freeId, textOf } from "./schema.ts";

const say = texts({
  en: {
    what: "What is it?", ocpp: "A charger that calls the gateway", ocppText: "OCPP: the charger has the gateway's address and dials in.", modbus: "A device on Modbus", modbusText: "Charger, meter, inverter or battery; over the network or RS-485.", serial_meter: "A meter with a readout", serial_meterText: "P1 port, optical head or M-Bus on a serial line.",
    can: "A battery on CAN", canText: "Its BMS sends by itself.", saved: "{id} is saved and runs", save: "Add to the site", back: "Something else",
  },
  es: {
    what: "¿Qué es?", ocpp: "Un cargador que llama a la pasarela", ocppText: "OCPP: el cargador tiene la dirección de la pasarela y llama.", modbus: "Un equipo en Modbus", modbusText: "Cargador, contador, inversor o batería; por la red o RS-485.", serial_meter: "Un contador con lectura", serial_meterText: "Puerto P1, cabezal óptico o M-Bus en una línea serie.",
    can: "Una batería en CAN", canText: "Su BMS envía por sí solo.", saved: "{id} está guardado y en marcha", save: "Añadir al sitio", back: "Otra cosa",
  },
});

const DRIVERS = [["ocpp", "station"], ["modbus", "devices"], ["can", "battery"], ["serial_meter", "energy"]] as const satisfies readonly (readonly [string, IconName])[];
type Driver = (typeof DRIVERS)[number][0];
const BEGIN: Readonly<Record<Driver, { id: string; keys: Entry }>> = {
  ocpp: { id: "cp1", keys: { charge_point_id: "", connectors: 1 } },
  modbus: { id: "device1", keys: { profile: "", url: "tcp://" } },
  can: { id: "battery1", keys: { channel: "can0", profile: "" } },
  serial_meter: { id: "meter1", keys: { protocol: "dsmr", port: "/dev/ttyUSB0" } },
};
const SAVE_MS = 60_000;

/** Write an entry, and show the password where a charger was adopted with one. */
export async function addDevice(entry: Entry): Promise<void> {
  const said = Object.fromEntries(Object.entries(entry).filter(([, value]) => value !== "" && value !== null));
  const written = await post("/api/devices", { body: said as never, signal: AbortSignal.timeout(SAVE_MS) });
  if (written.adoption) came(textOf(entry["charge_point_id"]), written.adoption);
  tell(say("saved", { id: written.id }), "good");
}

/** `begin`: an entry that is completed here, as a scan proposes it. */
export function AddDevice({ taken, begin, done, cancel }: { taken: readonly string[]; begin?: Entry | undefined; done: (id: string) => void; cancel?: () => void }): JSX.Element {
  const [entry, setEntry] = useState<Entry | undefined>(begin);
  if (!entry)
    return (
      <>
        <h3>{say("what")}</h3>
        <div class="choices">
          {DRIVERS.map(([driver, icon]) => (
            <button key={driver} type="button" onClick={() => setEntry({ id: freeId(BEGIN[driver].id, taken), driver, ...BEGIN[driver].keys })}>
              <Icon name={icon} />
              <span>
                <strong>{say(driver)}</strong>
                <small class="dim">{say(`${driver}Text`)}</small>
              </span>
            </button>
          ))}
        </div>
      </>
    );
  const save = async (next: Entry): Promise<void> => {
    await addDevice(next);
    done(textOf(next["id"]));
  };
  return <EntryForm entry={entry} change={setEntry} save={save} cancel={cancel ?? ((): void => setEntry(undefined))} saveLabel={say("save")} />;
}
