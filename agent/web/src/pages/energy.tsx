// Energy by hour, day and month: of which device, which way, against the range before; where it went; what is worth doing.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { url } from "../core/api.ts";
import { useAsk } from "../core/ask.ts";
import { day, hourMinute, moment, monthYear, number, quantity } from "../core/format.ts";
import { texts, word } from "../core/i18n.ts";
import { now } from "../core/live.ts";
import { place, to } from "../core/route.ts";
import { useStore } from "../core/store.ts";
import { told } from "../core/told.ts";
import { ahead_ms } from "../core/zone.ts";
import { Bars, said } from "../site/bar-view.tsx";
import { type Bar, type Bucket, barsOf, bucketOf, dateOf, isDate, moved, rangeOf, totalsOf } from "../site/bars.ts";
import { savings } from "../site/cards.tsx";
import { type Site, useSite } from "../site/use-site.ts";
import { Icon } from "../ui/icons.tsx";
import { Alert, Await, Badge, Card, Choice, Figure, Table } from "../ui/parts.tsx";

const say = texts({
  en: {
    title: "Energy", cost: "cost by tariff", earned: "earned by tariff", device: "Device", way: "Direction", import: "taken", export: "given", hour: "Day", day: "Month", month: "Year", span: "Range", earlier: "Earlier", later: "Later", today: "Now", total: "total", before: "range before, as far", change: "change", mean: "per {bucket}", perhour: "hour", perday: "day", permonth: "month",
    none: "No device with a meter yet.", unknown: "Of {n} of them nothing is known: they are missing in the total.", estimated: "Some of it is estimated, mostly too low.", nothing: "Nothing is known of it in this range.", csv: "CSV", table: "As a table", period: "Period", wh: "Energy", was: "Before", open: "Open", pick: "Tap a bar for its figure.",
    source: "From: {what}", register: "the device's register", posted: "what is posted", power: "its power, summed up", spans: "{wh} more flowed between two readings, some time in this range.", share: "Who took it", shares: "Devices by what they took in this range. A sub-meter's part may be in another's, too.",
    advice: "Worth doing", calm: "Nothing to recommend. After some days of history there may be more.", save: "saves {what} in 30 days", since: "since {time}", evidence: "Why", values: "from {from} to {to}", grid: "Grid", battery: "Batteries", solar: "Solar", charger: "Chargers", other: "Others",
  },
  es: {
    title: "Energía", cost: "costo según tarifa", earned: "ganado según tarifa", device: "Equipo", way: "Sentido", import: "tomada", export: "entregada", hour: "Día", day: "Mes", month: "Año", span: "Intervalo", earlier: "Antes", later: "Después", today: "Ahora", total: "total", before: "intervalo anterior, hasta aquí", change: "cambio", mean: "por {bucket}", perhour: "hora", perday: "día", permonth: "mes",
    none: "Aún no hay equipo con medidor.", unknown: "De {n} no se sabe nada: faltan en el total.", estimated: "Una parte es estimada, casi siempre por lo bajo.", nothing: "No se sabe nada de este intervalo.", csv: "CSV", table: "Como tabla", period: "Período", wh: "Energía", was: "Antes", open: "Abrir", pick: "Toque una barra para ver su cifra.",
    source: "De: {what}", register: "el contador del equipo", posted: "lo que se envía", power: "su potencia, sumada", spans: "{wh} más fluyeron entre dos lecturas, en algún momento de este intervalo.", share: "Quién la tomó", shares: "Equipos por lo que tomaron en este intervalo. La parte de un submedidor puede estar también en otro.",
    advice: "Vale la pena", calm: "Nada que recomendar. Con unos días de historia puede haber más.", save: "ahorra {what} en 30 días", since: "desde {time}", evidence: "Por qué", values: "de {from} a {to}", grid: "Red", battery: "Baterías", solar: "Solar", charger: "Cargadores", other: "Otros",
  },
});

type Way = "import" | "export";
const MOST = 12;

export default function Page({ id }: { id: string }): JSX.Element {
  const site = useSite();
  const { query } = useStore(place);
  const settings = useAsk("/api/site", {}, 600);
  const zone = settings.data?.timezone;
  const groups = useMemo(() => groupsOf(site), [site]);
  const devices = groups.flatMap(([, names]) => names);
  const device = id || site.roles.grid || devices[0] || "";
  const way: Way = query.get("direction") === "export" ? "export" : "import";
  const asked = query.get("at") ?? "";
  const at = isDate(asked) ? asked : dateOf(now(), zone, "hour");
  const show = (next: { device?: string; direction?: Way; at?: string }): void => {
    location.hash = to("energy", next.device ?? device, { direction: next.direction ?? way, at: next.at ?? at });
  };
  return (
    <>
      <h1>{say("title")}</h1>
      <div class="stack">
        {!devices.length && site.devices.data && site.names.size > 0 && <Card>{say("none")}</Card>}
        {device && (settings.data || settings.error) && (
          <>
            <Card>
              <div class="two">
                <Devices groups={groups} device={device} site={site} set={(next) => show({ device: next })} />
                <Choice<Way> label={say("way")} value={way} of={{ import: say("import"), export: say("export") }} set={(next) => show({ direction: next })} />
              </div>
              <Range at={at} zone={zone} set={(next) => show({ at: next })} />
              <Shown key={`${device} ${way}`} device={device} way={way} at={at} zone={zone} open={(next) => show({ at: next })} />
            </Card>
            <Shares groups={groups} site={site} at={at} zone={zone} />
          </>
        )}
        <Advice />
      </div>
    </>
  );
}

type Groups = readonly (readonly [string, readonly string[]])[];

function groupsOf(site: Site): Groups {
  const { roles, names } = site;
  const counted = new Set([...names].filter((name) => /\.(energy_(import|export)|power_w|power_import_w)/.test(name) && !name.startsWith("gateway.")).map((name) => name.split(".")[0]!));
  const chargers = [...new Set(site.outlets.map((one) => one.device))].filter((one) => counted.has(one));
  const known = new Set([roles.grid, ...roles.batteries, ...roles.solar, ...chargers]);
  const groups: [string, readonly string[]][] = [
    [say("grid"), roles.grid ? [roles.grid] : []],
    [say("solar"), roles.solar],
    [say("battery"), roles.batteries.filter((one) => counted.has(one))],
    [say("charger"), chargers],
    [say("other"), [...counted].filter((one) => !known.has(one))],
  ];
  return groups.filter(([, found]) => found.length);
}

function Devices({ groups, device, site, set }: { groups: Groups; device: string; site: Site; set: (device: string) => void }): JSX.Element {
  return (
    <div class="field">
      <label for="energy-device">{say("device")}</label>
      <select id="energy-device" value={device} onChange={(event) => set(event.currentTarget.value)}>
        {groups.map(([name, found]) => (
          <optgroup key={name} label={name}>
            {found.map((one) => (
              <option key={one} value={one} selected={one === device}>
                {site.nameOf(one) === one ? one : `${site.nameOf(one)} (${one})`}
              </option>
            ))}
          </optgroup>
        ))}
      </select>
    </div>
  );
}

/** What the range costs or earned, where the gateway knows a tariff. */
function Money({ way, cost }: { way: Way; cost: number | null }): JSX.Element | null {
  const settings = useAsk("/api/energy/settings", {}, 600);
  if (cost === null) return null;
  return (
    <div class="figure">
      <span class="label">{say(way === "import" ? "cost" : "earned")}</span>
      <span class="number">
        {number(cost, 2)}
        <small> {settings.data?.currency}</small>
      </span>
    </div>
  );
}

const LENGTHS: Readonly<Record<Bucket, number>> = { hour: 10, day: 7, month: 4 };

/** Day, month or year, and which. */
function Range({ at, zone, set }: { at: string; zone: string | undefined; set: (at: string) => void }): JSX.Element {
  const bucket = bucketOf(at);
  const present = dateOf(now(), zone, bucket);
  const zoom = (next: Bucket): void => {
    const newest = dateOf(now(), zone, "hour");
    const inside = newest.startsWith(at) ? newest : `${at}-01-01`.slice(0, 10);
    set((LENGTHS[next] <= at.length ? at : inside).slice(0, LENGTHS[next]));
  };
  return (
    <div class="row between range">
      <div class="chips" role="group" aria-label={say("span")}>
        {(["hour", "day", "month"] as const).map((one) => (
          <button key={one} type="button" aria-pressed={one === bucket} onClick={() => zoom(one)}>
            {say(one)}
          </button>
        ))}
      </div>
      <div class="row">
        <button type="button" aria-label={say("earlier")} onClick={() => set(moved(at, -1))}>
          <Icon name="left" />
        </button>
        <strong aria-live="polite">{titleOf(at)}</strong>
        <button type="button" aria-label={say("later")} disabled={at >= present} onClick={() => set(moved(at, 1))}>
          <Icon name="right" />
        </button>
        {at !== present && (
          <button type="button" onClick={() => set(present)}>
            {say("today")}
          </button>
        )}
      </div>
    </div>
  );
}

/** A date without a zone. */
function titleOf(at: string): string {
  if (at.length === 4) return at;
  return at.length === 7 ? monthYear(`${at}-15T12:00Z`, "UTC") : day(`${at}T12:00Z`, "UTC");
}

function useEnergy(device: string, way: Way, at: string, zone: string | undefined, every_s: number, cost = false): ReturnType<typeof useAsk<"/api/energy">> {
  const { from_ms, to_ms } = rangeOf(at, zone);
  const query = { device, direction: way, bucket: bucketOf(at), from: new Date(from_ms).toISOString(), to: new Date(to_ms - 1000).toISOString(), ...(cost ? { cost } : {}) };
  return useAsk("/api/energy", { query }, every_s);
}

function Shown({ device, way, at, zone, open }: { device: string; way: Way; at: string; zone: string | undefined; open: (at: string) => void }): JSX.Element {
  const asked = useEnergy(device, way, at, zone, 60, true);
  const before = useEnergy(device, way, moved(at, -1), zone, 3600);
  const [picked, pick] = useState<number | null>(null);
  useEffect(() => pick(null), [at]);
  const bucket = bucketOf(at);
  const { from_ms, to_ms } = rangeOf(at, zone);
  return (
    <Await of={asked}>
      {(data) => {
        const bars = barsOf(data.periods, before.data?.periods ?? [], bucket, zone);
        const totals = totalsOf(bars, now());
        const begun = bars.filter((one) => one.wh !== null).length;
        const chosen = picked === null ? undefined : bars[picked];
        return (
          <>
            <div class="figures compact">
              <Figure value={totals.wh} unit="Wh" label={say("total")} />
              <Money way={way} cost={data.cost} />
              {totals.before !== null && <Figure value={totals.before} unit="Wh" label={say("before")} />}
              {totals.change_pct !== null && (
                <div class="figure">
                  <span class="label">{say("change")}</span>
                  <span class="number">
                    {totals.change_pct > 0 ? "+" : ""}
                    {number(totals.change_pct)}
                    <small> %</small>
                  </span>
                </div>
              )}
              {totals.wh !== null && begun > 1 && <Figure value={totals.wh / begun} unit="Wh" label={say("mean", { bucket: say(bucket === "hour" ? "perhour" : bucket === "day" ? "perday" : "permonth") })} />}
            </div>
            {totals.wh === null ? (
              <p class="dim">{say("nothing")}</p>
            ) : (
              <div class={way}>
                <Bars bars={bars} short={(one) => shortOf(one, bucket, zone)} long={(one) => longOf(one, bucket)} picked={picked} pick={(index) => pick(index === picked ? null : index)} />
              </div>
            )}
            <p class="row" role="status">
              {chosen ? (
                <>
                  <strong>{said(chosen, longOf(chosen, bucket))}</strong>
                  {bucket !== "hour" && (
                    <button type="button" onClick={() => open(dateOf(Date.parse(chosen.from), zone, bucket === "day" ? "hour" : "day"))}>
                      {say("open")}
                    </button>
                  )}
                </>
              ) : (
                totals.wh !== null && <span class="dim">{say("pick")}</span>
              )}
            </p>
            <Notes missing={totals.missing} estimated={totals.estimated} source={data.source} spans_wh={data.spans.reduce((sum, one) => sum + one.wh, 0)} />
            <div class="row between">
              <details>
                <summary>{say("table")}</summary>
                <Table head={[say("period"), `>${say("wh")}`, `>${say("was")}`]} label={say("table")}>
                  {bars.map((one) => (
                    <tr key={one.from}>
                      <td class="nowrap">{longOf(one, bucket)}</td>
                      <td class="value">{quantity(one.wh, "Wh")}</td>
                      <td class="value">{quantity(one.before, "Wh")}</td>
                    </tr>
                  ))}
                </Table>
              </details>
              <a class="button" download href={url("/api/energy.csv", { query: { device, direction: way, bucket, from: new Date(from_ms).toISOString(), to: new Date(to_ms - 1000).toISOString() } })}>
                <Icon name="download" /> {say("csv")}
              </a>
            </div>
          </>
        );
      }}
    </Await>
  );
}

const shortOf = (bar: Bar, bucket: Bucket, zone: string | undefined): string => {
  const time_ms = Date.parse(bar.from);
  const date = new Date(time_ms + ahead_ms(time_ms, zone)); // its parts of UTC are those that the site's clocks show
  return bucket === "hour" ? String(date.getUTCHours()) : String(bucket === "day" ? date.getUTCDate() : date.getUTCMonth() + 1);
};
const longOf = (bar: Bar, bucket: Bucket): string => (bucket === "hour" ? hourMinute(bar.from) : bucket === "day" ? day(bar.from) : monthYear(bar.from));

function Notes({ missing, estimated, source, spans_wh }: { missing: number; estimated: boolean; source: "register" | "posted" | "power" | null; spans_wh: number }): JSX.Element {
  const notes: ComponentChildren[] = [];
  if (missing) notes.push(say("unknown", { n: missing }));
  if (estimated) notes.push(say("estimated"));
  if (spans_wh > 0) notes.push(say("spans", { wh: quantity(spans_wh, "Wh") }));
  if (source) notes.push(say("source", { what: say(source) }));
  return <p class="dim">{notes.join(" ")}</p>;
}

/** What each device took in the range: a bar against the one that took most. */
function Shares({ groups, site, at, zone }: { groups: Groups; site: Site; at: string; zone: string | undefined }): JSX.Element | null {
  const devices = groups.flatMap(([, found]) => found).filter((one) => one !== site.roles.grid && !site.roles.solar.includes(one)).slice(0, MOST);
  const [most, setMost] = useState<Readonly<Record<string, number>>>({});
  if (!devices.length) return null;
  const top = Math.max(1, ...devices.map((one) => most[one] ?? 0));
  return (
    <Card title={say("share")} icon="energy">
      <p class="dim">{say("shares")}</p>
      <ul class="plain">
        {devices.map((one) => (
          <Share key={`${one} ${at}`} device={one} name={site.nameOf(one)} at={at} zone={zone} top={top} tell={(wh) => setMost((known) => (known[one] === wh ? known : { ...known, [one]: wh }))} />
        ))}
      </ul>
    </Card>
  );
}

function Share({ device, name, at, zone, top, tell }: { device: string; name: string; at: string; zone: string | undefined; top: number; tell: (wh: number) => void }): JSX.Element {
  const asked = useEnergy(device, "import", at, zone, 60);
  const wh = asked.data?.total_wh ?? null;
  useEffect(() => tell(wh ?? 0), [wh]);
  return (
    <li class="share">
      <a href={to("energy", device, { direction: "import", at })}>{name}</a>
      <strong>{quantity(wh, "Wh")}</strong>
      <span class="track" aria-hidden="true">
        <span style={{ width: `${((wh ?? 0) / top) * 100}%` }} />
      </span>
    </li>
  );
}

/** What the gateway recommends, with what it saw. */
function Advice(): JSX.Element {
  const asked = useAsk("/api/recommendations", { query: { page_size: 100 } }, 300);
  return (
    <Card title={say("advice")} icon="check">
      <Await of={asked} empty={say("calm")}>
        {({ items }) => (
          <ul class="plain advice">
            {items.map((one) => (
              <li key={one.id}>
                <p class="row">
                  <Badge tone={one.priority === 1 ? "warn" : "info"}>{word(one.kind)}</Badge>
                  <strong>{told(one.text)}</strong>
                </p>
                <p class="dim">
                  {(one.saving_kwh || one.saving_money) && `${say("save", { what: savings(one) })} · `}
                  {say("since", { time: moment(one.since) })}
                </p>
                {one.evidence.length > 0 && (
                  <details>
                    <summary>{say("evidence")}</summary>
                    <ul>
                      {one.evidence.map((each) => (
                        <li key={`${each.signal} ${each.from}`}>
                          <a href={to("charts", "", { signals: each.signal, from: each.from, to: each.to })}>{each.signal}</a> {say("values", { from: moment(each.from), to: moment(each.to) })}:{" "}
                          {Object.entries(each.values)
                            .map(([name, value]) => `${name.replaceAll("_", " ")} ${number(value, Number.isInteger(value) ? 0 : 2)}`)
                            .join(", ")}
                        </li>
                      ))}
                    </ul>
                  </details>
                )}
              </li>
            ))}
          </ul>
        )}
      </Await>
      {asked.error && asked.data && <Alert tone="warn">{asked.error.message}</Alert>}
    </Card>
  );
}
