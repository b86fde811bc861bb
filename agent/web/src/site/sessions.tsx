// Charging sessions of a station: the one that runs, and those that were.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { url } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { duration, moment, quantity } from "../core/format.ts";
import { texts, word } from "../core/i18n.ts";
import { now, useLink, useSome } from "../core/live.ts";
import { Icon } from "../ui/icons.tsx";
import { Await, Badge, Card, Figure, Pager, Table } from "../ui/parts.tsx";
import { signalOf } from "./roles.ts";
import { type StationOut, valueOf } from "./use-site.ts";

const say = texts({
  en: { sessions: "Sessions", begin: "Began", time: "Lasted", energy: "Energy", reason: "Ended because", who: "Who", runs: "runs", csv: "CSV", none: "No session yet.", present: "Present session", since: "since {time}", so: "so far", tag: "Card {tag}", outlet: "Outlet", mean: "on average", vehicle: "vehicle" },
  es: { sessions: "Sesiones", begin: "Empezó", time: "Duró", energy: "Energía", reason: "Terminó por", who: "Quién", runs: "en marcha", csv: "CSV", none: "Aún no hay sesiones.", present: "Sesión actual", since: "desde {time}", so: "hasta ahora", tag: "Tarjeta {tag}", outlet: "Toma", mean: "de media", vehicle: "vehículo" },
});

const SIZE = 10;

/** The session that runs, or nothing. */
export function PresentSession({ station }: { station: StationOut }): JSX.Element | null {
  const asked = useAsk("/api/sessions", { query: { device: station.device, running: true, page_size: 100 } }, 10);
  const [energy, soc] = useSome([signalOf(station, "session_energy_wh"), signalOf(station, "soc_pct")]);
  const stale = useLink() !== "live";
  const one = asked.data?.items.find((session) => !station.outlet || session.outlet === station.outlet);
  if (!one) return null;
  const lasted_s = (now() - Date.parse(one.start)) / 1000;
  const wh = valueOf(energy) ?? one.energy_wh;
  return (
    <Card title={say("present")} icon="clock" action={<small class="dim">{say("since", { time: moment(one.start) })}</small>}>
      <div class="figures">
        <Figure value={wh} unit="Wh" label={say("so")} stale={stale} />
        <div class="figure">
          <span class="label">{say("time")}</span>
          <span class="number">{duration(lasted_s)}</span>
        </div>
        <Figure value={wh === null || lasted_s < 60 ? null : (wh / lasted_s) * 3600} unit="W" label={say("mean")} stale={stale} />
        {valueOf(soc) !== null && <Figure value={Math.round(valueOf(soc)!)} unit="%" label={say("vehicle")} stale={stale} />}
      </div>
      {one.id_tag && <p class="dim">{say("tag", { tag: one.id_tag })}</p>}
    </Card>
  );
}

export function Sessions({ station }: { station: StationOut }): JSX.Element {
  const [page, setPage] = useState(1);
  const whole = station.outlet === 0;
  const query = { device: station.device, ...(whole ? {} : { outlet: station.outlet }) };
  const asked = useAsk("/api/sessions", { query: { ...query, page, page_size: SIZE } }, 30);
  const several = whole && (asked.data?.items.some((one) => one.outlet > 1) ?? false);
  return (
    <Card
      title={say("sessions")}
      icon="log"
      wide
      action={
        <a class="button" href={url("/api/sessions.csv", { query })} download>
          <Icon name="download" /> {say("csv")}
        </a>
      }
    >
      <Await of={asked} empty={say("none")}>
        {({ items, total }) => (
          <>
            <Table head={[say("begin"), `>${say("time")}`, `>${say("energy")}`, say("who"), say("reason"), ...(several ? [say("outlet")] : [])]} label={say("sessions")}>
              {items.map((one) => (
                <tr key={one.id}>
                  <td class="nowrap">{moment(one.start)}</td>
                  <td class="value">{one.stop ? duration((Date.parse(one.stop) - Date.parse(one.start)) / 1000) : <Badge tone="good">{say("runs")}</Badge>}</td>
                  <td class="value">{quantity(one.energy_wh, "Wh")}</td>
                  <td>{one.id_tag}</td>
                  <td>{word(one.reason)}</td>
                  {several && <td>{one.outlet}</td>}
                </tr>
              ))}
            </Table>
            <Pager page={page} size={SIZE} total={total} set={setPage} />
          </>
        )}
      </Await>
    </Card>
  );
}
