// A station in one or two lines: who it is, what it does, what it draws, and its switch.
import type { JSX } from "preact";
import { duration, quantity } from "../core/format.ts";
import { texts } from "../core/i18n.ts";
import { useLink, useSome } from "../core/live.ts";
import { to } from "../core/route.ts";
import { signalOf } from "./roles.ts";
import { OnOff, StationState } from "./switching.tsx";
import { type StationOut, valueOf } from "./use-site.ts";

const say = texts({
  en: { limit: "limit {a}", session: "{wh} in {time}", most: "up to {w}", soc: "vehicle {pct}" },
  es: { limit: "límite {a}", session: "{wh} en {time}", most: "hasta {w}", soc: "vehículo {pct}" },
});

export function StationRow({ station, online, full }: { station: StationOut; online: boolean; full?: boolean }): JSX.Element {
  const [power, energy, time, soc, plugged] = useSome(["power_w", "session_energy_wh", "session_duration_s", "soc_pct", "plugged"].map((point) => signalOf(station, point)));
  const stale = useLink() !== "live" || (!online && !station.registered);
  const w = power === undefined ? station.power_w : valueOf(power);
  const about: string[] = [];
  if (station.limit_a !== null) about.push(say("limit", { a: quantity(station.limit_a, "A") }));
  if (valueOf(plugged) !== 0 && valueOf(energy) && valueOf(time)) about.push(say("session", { wh: quantity(valueOf(energy), "Wh"), time: duration(valueOf(time)) }));
  if (valueOf(plugged) !== 0 && valueOf(soc) !== null) about.push(say("soc", { pct: quantity(Math.round(valueOf(soc)!), "%") }));
  if (full && station.max_kw !== null) about.push(say("most", { w: quantity(station.max_kw * 1000, "W") }));
  if (full && station.location) about.push(station.location);
  return (
    <li class={`station ${(w ?? 0) > 0 ? "draws" : ""}`}>
      <div class="line">
        <a href={to("station", station.id)}>
          <strong>{station.name || station.id}</strong>
          {station.name && station.name !== station.id && <small class="dim"> {station.id}</small>}
        </a>
        <span class={`power ${stale || w === null ? "stale" : ""}`}>{quantity(w, "W")}</span>
      </div>
      <div class="line">
        <div class="about">
          <StationState station={station} stale={stale} />
          <small class="dim dots">
            {about.map((text) => (
              <span key={text}>{text}</span>
            ))}
          </small>
        </div>
        <OnOff station={station} />
      </div>
    </li>
  );
}
