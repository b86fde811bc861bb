// What there is on the site: stations, devices and their roles, asked for once however many parts of a page want it.
import { useMemo } from "preact/hooks";
import type { Item } from "../core/api.ts";
import { type Asked, useAsk } from "../core/ask.ts";
import { type Value, useNames, useSome } from "../core/live.ts";
import { type Roles, outlets, powerSignals, rolesOf } from "./roles.ts";

export type StationOut = Item<"/api/stations">;
export type DeviceOut = Item<"/api/devices">;

export interface Site {
  stations: Asked<{ items: StationOut[] }>;
  devices: Asked<{ items: DeviceOut[] }>;
  /** Stations without chargers that stand there by their outlets. */
  outlets: readonly StationOut[];
  roles: Roles;
  names: ReadonlySet<string>;
  /** What people call a device. */
  nameOf: (device: string) => string;
  online: (device: string) => boolean;
}

const ALL = { query: { page_size: 1000 } };
const NONE: readonly never[] = [];

export function useSite(): Site {
  const names = useNames();
  const stations = useAsk("/api/stations", ALL, 5);
  const devices = useAsk("/api/devices", ALL, 10);
  const load = useAsk("/api/load", {}, 30);
  const settings = useAsk("/api/energy/settings", {}, 600);
  const meter = (load.data?.managed && load.data.meter) || settings.data?.grid || "";
  return useMemo(() => {
    const all = stations.data?.items ?? NONE;
    const known = new Map((devices.data?.items ?? NONE).map((one) => [one.id, one]));
    const posted = [...known.values()].filter((one) => one.kind === "posted").map((one) => one.id);
    // A device that only posts may be missing in the list of devices: what is in no list has no wire.
    const unlisted = devices.data ? [...new Set(names.map((name) => name.split(".")[0]!))].filter((one) => !known.has(one)) : NONE;
    return {
      stations,
      devices,
      outlets: outlets(all),
      roles: rolesOf(names, all, [...posted, ...unlisted], meter),
      names: new Set(names),
      nameOf: (device: string) => known.get(device)?.name || device,
      online: (device: string) => !devices.data || known.get(device)?.state === "online",
    };
  }, [stations.data, stations.error, devices.data, devices.error, names, meter]);
}

/** What devices draw now, W; null for those of which it is not known. */
export function usePowers(devices: readonly string[], names: ReadonlySet<string>): readonly (number | null)[] {
  const wanted = devices.map((device) => powerSignals(device, names));
  const heard = useSome(wanted.flatMap(({ plus, minus }) => [plus, minus ?? plus]));
  return wanted.map(({ minus }, index) => {
    const plus = valueOf(heard[2 * index]);
    const less = minus === undefined ? 0 : valueOf(heard[2 * index + 1]);
    return plus === null || less === null ? null : plus - less;
  });
}

export const valueOf = (value: Value | undefined): number | null => value?.value ?? null;
