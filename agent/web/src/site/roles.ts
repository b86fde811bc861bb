// What the devices of a site are to its power flow, told by the points that they have. Pure.
//
// 1. Chargers are what the list of stations says. A charger of several outlets is its outlets, not one more.
// 2. A battery is a device with `soc_pct` that is no charger (a charger tells its vehicle's) and no vehicle that posts.
// 3. The grid meter is the one that load management goes by, or `insight:` names; or else the one meter that counts both ways (as agent/insight
//    has it); or else, of several, the one that a utility's tariffs give away, or its name. Where that is not plain there is
//    none: a wrong one would make every other figure wrong.
import { deviceOf } from "../core/live.ts";

export interface Station {
  id: string;
  device: string;
  outlet: number;
}

export interface Roles {
  grid: string | undefined;
  batteries: readonly string[];
  solar: readonly string[];
  /** Other meters: what they measure is part of something else. */
  meters: readonly string[];
}

const GRID_NAME = /(^|[^a-z])(grid|main|mains|utility|netz|red|acometida|cfe)([^a-z]|$)/i;
const UTILITY = ["tariff", "energy_import_tariff_wh.1", "power_failures"];

/** `names`: of all signals. `posted`: devices that have no wire. `named`: the meter that the site's configuration says it is, or empty. */
export function rolesOf(names: readonly string[], stations: readonly Station[], posted: readonly string[], named: string): Roles {
  const points = new Map<string, Set<string>>();
  for (const name of names) {
    const device = deviceOf(name);
    points.set(device, (points.get(device) ?? new Set()).add(name.slice(device.length + 1)));
  }
  const none = new Set(["gateway", ...posted, ...stations.map((one) => one.device)]);
  const charger = (has: ReadonlySet<string>): boolean => ["charger_status", "plugged", "charging"].some((point) => has.has(point) || has.has(`${point}.1`));
  const devices = [...points].filter(([device, has]) => !none.has(device) && !charger(has));
  const having = (...wanted: string[]): string[] =>
    devices.filter(([, has]) => wanted.some((point) => has.has(point) || has.has(`${point}.1`))).map(([device]) => device);
  const batteries = having("soc_pct").filter((device) => points.get(device)!.has("soc_pct"));
  const solar = having("inverter_status", "string_power_w", "dc_power_w").filter((device) => !batteries.includes(device));
  const others = having("power_w", "power_import_w").filter((device) => !batteries.includes(device) && !solar.includes(device));
  const grid = named && points.has(named) ? named : gridOf(others, points);
  return { grid, batteries, solar, meters: others.filter((device) => device !== grid) };
}

function gridOf(meters: readonly string[], points: ReadonlyMap<string, ReadonlySet<string>>): string | undefined {
  const both = meters.filter((device) => [...points.get(device)!].some((point) => point.startsWith("energy_export")));
  const only = (found: readonly string[]): string | undefined => (found.length === 1 ? found[0] : undefined);
  return (
    only(both) ??
    only(meters.filter((device) => UTILITY.some((point) => points.get(device)!.has(point)))) ??
    only(meters.filter((device) => GRID_NAME.test(device))) ??
    undefined
  );
}

/** Stations that stand for themselves: a charger of several outlets is left out where its outlets are there. */
export function outlets<T extends Station>(stations: readonly T[]): T[] {
  const several = new Set(stations.filter((one) => one.outlet > 0).map((one) => one.device));
  return stations.filter((one) => one.outlet > 0 || !several.has(one.device));
}

/** The signal with what a station draws, and the one of any other of its points. */
export const signalOf = (station: Station, point = "power_w"): string => `${station.device}.${point}${station.outlet ? `.${station.outlet}` : ""}`;

/** What each of the roles' power is made of: signals that are added up (`+`) or taken off (`-`). */
export function powerSignals(device: string, names: ReadonlySet<string>): { plus: string; minus?: string } {
  if (names.has(`${device}.power_w`) || !names.has(`${device}.power_import_w`)) return { plus: `${device}.power_w` };
  return { plus: `${device}.power_import_w`, minus: `${device}.power_export_w` };
}
