// The cells of a battery as bars: each from the lowest to the highest that its chemistry may have, the lowest and the highest
// marked, with the spread that tells how well they are balanced. And its temperatures.
import type { JSX } from "preact";
import { number, quantity } from "../core/format.ts";
import { texts } from "../core/i18n.ts";
import type { Value } from "../core/live.ts";
import { Figure } from "../ui/parts.tsx";
import { spreadOf, windowOf } from "./spread.ts";

const say = texts({
  en: { lowest: "lowest", highest: "highest", spread: "spread", mean: "mean", cells: "Cell voltages", cell: "Cell {n}: {v}", temps: "Temperatures", sensor: "Sensor {n}: {v}", scale: "Bars from {from} to {to}" },
  es: { lowest: "mínima", highest: "máxima", spread: "diferencia", mean: "media", cells: "Tensiones de celdas", cell: "Celda {n}: {v}", temps: "Temperaturas", sensor: "Sensor {n}: {v}", scale: "Barras de {from} a {to}" },
});

/** The members of an array point, by their number. */
export function members(values: ReadonlyMap<string, Value>, point: string): { n: number; value: number | null }[] {
  return [...values]
    .filter(([name]) => name.startsWith(`${point}.`) && /^\d+$/.test(name.slice(point.length + 1)))
    .map(([name, one]) => ({ n: Number(name.slice(point.length + 1)), value: one.value }))
    .sort((one, other) => one.n - other.n);
}

export function Cells({ values, stale }: { values: ReadonlyMap<string, Value>; stale: boolean }): JSX.Element | null {
  const cells = members(values, "cell_voltage_v");
  const lowest = values.get("cell_voltage_min_v")?.value ?? null;
  const highest = values.get("cell_voltage_max_v")?.value ?? null;
  if (!cells.length && lowest === null && highest === null) return null;
  const found = spreadOf(cells, lowest, highest);
  const [from, to] = windowOf(found.low, found.high);
  const spread = found.low === null || found.high === null ? null : (found.high - found.low) * 1000;
  return (
    <div class={stale ? "old" : ""}>
      <div class="figures">
        <Volts value={found.low} label={`${say("lowest")}${found.lowAt ? ` (${found.lowAt})` : ""}`} />
        <Volts value={found.high} label={`${say("highest")}${found.highAt ? ` (${found.highAt})` : ""}`} />
        <Figure value={spread === null ? null : Math.round(spread)} unit="mV" label={say("spread")} />
      </div>
      {cells.length > 0 && (
        <>
          <ul class="cells" aria-label={say("cells")}>
            {cells.map(({ n, value }) => (
              <li key={n} class={n === found.lowAt ? "low" : n === found.highAt ? "high" : ""} title={say("cell", { n, v: quantity(value, "V") })}>
                <span class="bar" aria-hidden="true">
                  <span style={{ height: `${share(value, from, to)}%` }} />
                </span>
                <span class="hidden">{say("cell", { n, v: "" })}</span>
                <small>{number(value, 3)}</small>
                <small class="dim" aria-hidden="true">
                  {n === found.lowAt ? "▼" : n === found.highAt ? "▲" : ""}
                  {n}
                </small>
              </li>
            ))}
          </ul>
          <small class="dim">{say("scale", { from: quantity(from, "V"), to: quantity(to, "V") })}</small>
        </>
      )}
    </div>
  );
}

/** To the millivolt: that is what cells differ by. */
const Volts = ({ value, label }: { value: number | null; label: string }): JSX.Element => (
  <div class="figure">
    <span class="label">{label}</span>
    <span class="number">
      {number(value, 3)}
      <small> V</small>
    </span>
  </div>
);

const share = (value: number | null, from: number, to: number): number => (value === null ? 0 : Math.max(2, Math.min(100, ((value - from) / (to - from)) * 100)));

export function Temperatures({ values, stale }: { values: ReadonlyMap<string, Value>; stale: boolean }): JSX.Element | null {
  const sensors = members(values, "temperature_sensor_degc");
  const low = values.get("temperature_min_degc")?.value ?? null;
  const high = values.get("temperature_max_degc")?.value ?? null;
  const mean = values.get("temperature_degc");
  if (!sensors.length && low === null && high === null && !mean) return null;
  const hottest = Math.max(...sensors.map((one) => one.value ?? Number.NEGATIVE_INFINITY));
  return (
    <div class={stale ? "old" : ""}>
      <div class="figures">
        {mean && <Figure value={mean.value} unit="degc" label={say("mean")} />}
        <Figure value={low} unit="degc" label={say("lowest")} />
        <Figure value={high} unit="degc" label={say("highest")} />
      </div>
      {sensors.length > 0 && (
        <ul class="sensors" aria-label={say("temps")}>
          {sensors.map(({ n, value }) => (
            <li key={n} class={value === hottest ? "high" : ""}>
              <span class="hidden">{say("sensor", { n, v: "" })}</span>
              <small class="dim" aria-hidden="true">
                {n}
              </small>{" "}
              {quantity(value, "degc")}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
