// Any signals over any time. The address holds what is shown, so that it can be kept and sent; the browser's "back" goes back.
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { url } from "../core/api.ts";
import { moment } from "../core/format.ts";
import { texts } from "../core/i18n.ts";
import { deviceOf, now } from "../core/live.ts";
import { place, to } from "../core/route.ts";
import { useStore } from "../core/store.ts";
import { inputOf, typedTime } from "../core/zone.ts";
import { type Shown, panned, queryOf, rowsOf, shownOf, spanOf, valueAt, widened } from "../site/chart-range.ts";
import { lineOf, useHistories } from "../site/history.ts";
import { type Site, useSite } from "../site/use-site.ts";
import { Chart, type Line, shownOf as shownValue } from "../ui/chart.tsx";
import { Icon } from "../ui/icons.tsx";
import { Alert, Card, Field, Table } from "../ui/parts.tsx";

const say = texts({
  en: {
    title: "Charts", signals: "Signals", search: "Search for a signal or device", add: "Add", remove: "Take {name} out", none: "Choose what to look at.", range: "Range", hour: "1 h", day: "24 h", week: "7 d", month: "30 d", from: "From", to: "To", show: "Show", earlier: "Earlier", later: "Later", wider: "Show more", back: "Back", nothing: "Nothing is stored of it in this range.",
    drag: "Drag over the chart to look closer; a tap tells the values.", csv: "CSV of {name}", table: "As a table", time: "Time", least: "lowest", mean: "mean", most: "highest", last: "last", loading: "Loading …", found: "{n} more: write more of the name.", chart: "Chart of {names}, {from} to {to}", signal: "Signal", full: "Up to {n} signals at once.", nosignals: "No signal of that name.",
  },
  es: {
    title: "Gráficas", signals: "Señales", search: "Buscar una señal o un equipo", add: "Agregar", remove: "Quitar {name}", none: "Elija qué mirar.", range: "Intervalo", hour: "1 h", day: "24 h", week: "7 d", month: "30 d", from: "Desde", to: "Hasta", show: "Mostrar", earlier: "Antes", later: "Después", wider: "Ver más", back: "Volver", nothing: "No hay nada guardado de ella en este intervalo.",
    drag: "Arrastre sobre la gráfica para acercar; un toque dice los valores.", csv: "CSV de {name}", table: "Como tabla", time: "Hora", least: "mínimo", mean: "media", most: "máximo", last: "último", loading: "Cargando …", found: "{n} más: escriba más del nombre.", chart: "Gráfica de {names}, {from} a {to}", signal: "Señal", full: "Hasta {n} señales a la vez.", nosignals: "Ninguna señal con ese nombre.",
  },
});

const RANGES = [["hour", 3_600], ["day", 86_400], ["week", 604_800], ["month", 2_592_000]] as const;
const MOST = 6;
const LISTED = 60;
const ROWS = 200;

export default function Page(_: { id: string }): JSX.Element {
  const { query } = useStore(place);
  const site = useSite();
  const signals = useMemo(() => [...new Set((query.get("signals") ?? "").split(",").filter(Boolean))].slice(0, MOST), [query]);
  const shown = useMemo(() => shownOf(query), [query]);
  const show = (next: { signals?: readonly string[]; shown?: Shown }): void => {
    location.hash = to("charts", "", { signals: (next.signals ?? signals).join(","), ...queryOf(next.shown ?? shown) });
  };
  return (
    <>
      <h1>{say("title")}</h1>
      <div class="stack">
        <Card>
          <Picker site={site} chosen={signals} set={(next) => show({ signals: next })} />
        </Card>
        <Card>
          <Ranges shown={shown} set={(next) => show({ shown: next })} />
          {signals.length ? <Plot signals={signals} shown={shown} zoom={(from_s, to_s) => show({ shown: { from_s, to_s } })} /> : <p class="dim">{say("none")}</p>}
        </Card>
      </div>
    </>
  );
}

/** What is shown, and a search for more, grouped by device. */
function Picker({ site, chosen, set }: { site: Site; chosen: readonly string[]; set: (signals: readonly string[]) => void }): JSX.Element {
  const [wanted, setWanted] = useState("");
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  const all = [...site.names].filter((name) => !chosen.includes(name));
  const found = words.length || !chosen.length ? all.filter((name) => words.every((one) => `${name} ${site.nameOf(deviceOf(name))}`.toLowerCase().includes(one))) : [];
  const devices = [...new Set(found.slice(0, LISTED).map(deviceOf))];
  const full = chosen.length >= MOST;
  return (
    <>
      <div class="chips">
        {chosen.map((name) => (
          <button key={name} type="button" class="chosen" aria-label={say("remove", { name })} onClick={() => set(chosen.filter((one) => one !== name))}>
            {name} <Icon name="close" />
          </button>
        ))}
      </div>
      {full ? <p class="dim">{say("full", { n: MOST })}</p> : <Field label={say("search")} type="search" value={wanted} autocapitalize="none" spellcheck={false} onInput={(event) => setWanted(event.currentTarget.value)} />}
      {!full && found.length > 0 && (
        <div class="found">
          {devices.map((device) => (
            <section key={device} aria-label={site.nameOf(device)}>
              <h3>{site.nameOf(device)}</h3>
              <div class="chips">
                {found
                  .slice(0, LISTED)
                  .filter((name) => deviceOf(name) === device)
                  .map((name) => (
                    <button key={name} type="button" onClick={() => (set([...chosen, name]), setWanted(""))}>
                      {name.slice(device.length + 1)}
                    </button>
                  ))}
              </div>
            </section>
          ))}
          {found.length > LISTED && <p class="dim">{say("found", { n: found.length - LISTED })}</p>}
        </div>
      )}
      {!full && words.length > 0 && !found.length && <p class="dim">{say("nosignals")}</p>}
    </>
  );
}

function Ranges({ shown, set }: { shown: Shown; set: (shown: Shown) => void }): JSX.Element {
  const now_s = now() / 1000;
  const last_s = "last_s" in shown ? shown.last_s : undefined;
  const span = spanOf(shown, now_s);
  const [typed, type] = useState<{ from?: string; to?: string }>({});
  useEffect(() => type({}), [shown]);
  const from = typed.from ?? inputOf(span.from_s * 1000);
  const until = typed.to ?? inputOf(span.to_s * 1000);
  const good = typedTime(from) < typedTime(until);
  return (
    <div class="ranges">
      <div class="row between">
        <div class="chips" role="group" aria-label={say("range")}>
          {RANGES.map(([name, seconds]) => (
            <button key={name} type="button" aria-pressed={last_s === seconds} onClick={() => set({ last_s: seconds })}>
              {say(name)}
            </button>
          ))}
        </div>
        <div class="chips">
          <button type="button" aria-label={say("earlier")} onClick={() => set(panned(shown, -0.5, now_s))}>
            <Icon name="left" />
          </button>
          <button type="button" aria-label={say("later")} disabled={last_s !== undefined} onClick={() => set(panned(shown, 0.5, now_s))}>
            <Icon name="right" />
          </button>
          <button type="button" onClick={() => set(widened(shown, now_s))}>
            {say("wider")}
          </button>
          {last_s === undefined && (
            <button type="button" onClick={() => history.back()}>
              {say("back")}
            </button>
          )}
        </div>
      </div>
      <details open={last_s === undefined}>
        <summary>
          {moment(span.from_s * 1000)} – {moment(span.to_s * 1000)}
        </summary>
        <div class="two">
          <Field label={say("from")} type="datetime-local" value={from} onInput={(event) => type({ ...typed, from: event.currentTarget.value })} />
          <Field label={say("to")} type="datetime-local" value={until} onInput={(event) => type({ ...typed, to: event.currentTarget.value })} />
          <button type="button" class="low" disabled={!good} onClick={() => set({ from_s: typedTime(from) / 1000, to_s: typedTime(until) / 1000 })}>
            {say("show")}
          </button>
        </div>
      </details>
    </div>
  );
}

function useWidth(): [{ current: HTMLDivElement | null }, number] {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => setWidth(box.current?.clientWidth ?? 600), []);
  return [box, width];
}

function Plot({ signals, shown, zoom }: { signals: readonly string[]; shown: Shown; zoom: (from_s: number, to_s: number) => void }): JSX.Element {
  const [box, width] = useWidth();
  // A point for each pixel or so; a dozen widths in all, so that turning a phone asks for few others.
  const points = Math.max(120, Math.min(1500, Math.round(width / 100) * 100));
  const last_s = "last_s" in shown ? shown.last_s : 0;
  const found = useHistories(width ? signals : [], shown, points, last_s ? Math.max(10, Math.min(300, last_s / points)) : 0);
  const span = useMemo(() => spanOf(shown, now() / 1000), [found, shown]);
  const lines = useMemo(() => found.of.filter((one) => signals.includes(one.signal.name)).map((one) => lineOf(one)), [found, signals]);
  const some = lines.filter((one) => one.values.length);
  const label = say("chart", { names: lines.map((one) => one.name).join(", "), from: moment(span.from_s * 1000), to: moment(span.to_s * 1000) });
  return (
    <div ref={box} aria-busy={found.busy}>
      {found.errors.map((one) => (
        <Alert key={one.name}>
          {one.name}: {one.why}
        </Alert>
      ))}
      {some.length > 0 && <Chart lines={some} label={label} zoom={zoom} height={width < 480 ? 280 : 380} from_s={span.from_s} to_s={span.to_s} />}
      <p class="dim">{found.busy && !lines.length ? say("loading") : some.length ? say("drag") : say("nothing")}</p>
      <Figures lines={some} range={span} />
    </div>
  );
}

/** The figures of each line, and all of it as a table: the same for who can't see the chart. */
function Figures({ lines, range }: { lines: readonly Line[]; range: { from_s: number; to_s: number } }): JSX.Element | null {
  const [open, setOpen] = useState(false);
  if (!lines.length) return null;
  return (
    <>
      <Table head={[say("signal"), `>${say("least")}`, `>${say("mean")}`, `>${say("most")}`, `>${say("last")}`, "CSV"]} label={say("signals")}>
        {lines.map((line, index) => (
          <tr key={line.name}>
            <td class="nowrap">
              <span class={`swatch c${(index % 6) + 1}`} aria-hidden="true" />
              {line.name}
            </td>
            {summary(line).map((value, place) => (
              <td key={place} class="value">
                {place === 1 && line.steps ? "" : shownValue(line, value)}
              </td>
            ))}
            <td>
              <a class="button link" download aria-label={say("csv", { name: line.name })} href={url("/api/history.csv", { query: { signal: line.name, from: range.from_s.toFixed(3), to: range.to_s.toFixed(3), points: 5000 } })}>
                <Icon name="download" /> CSV
              </a>
            </td>
          </tr>
        ))}
      </Table>
      <details open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>{say("table")}</summary>
        {open && (
          <Table head={[say("time"), ...lines.map((one) => `>${one.name}`)]} label={say("table")}>
            {rowsOf(lines, ROWS).map((time_s) => (
              <tr key={time_s}>
                <td class="nowrap">{moment(time_s * 1000)}</td>
                {lines.map((one) => (
                  <td key={one.name} class="value">
                    {shownValue(one, valueAt(one, time_s))}
                  </td>
                ))}
              </tr>
            ))}
          </Table>
        )}
      </details>
    </>
  );
}

/** Lowest, mean of the points, highest, last. */
function summary(line: Line): (number | null)[] {
  const known = (values: readonly (number | null)[]): number[] => values.filter((one): one is number => one !== null);
  const values = known(line.values);
  if (!values.length) return [null, null, null, null];
  const least = known(line.low ?? line.values).reduce((one, other) => Math.min(one, other));
  const most = known(line.high ?? line.values).reduce((one, other) => Math.max(one, other));
  return [least, values.reduce((sum, one) => sum + one, 0) / values.length, most, line.values.at(-1) ?? null];
}
