// Bars that can be picked: each is a button that says its figure; the one before stands behind it, paler.
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { quantity } from "../core/format.ts";
import { texts } from "../core/i18n.ts";
import { now } from "../core/live.ts";
import { type Bar, scaleOf } from "./bars.ts";

const say = texts({
  en: { before: "before: {wh}", about: "about", unknown: "not known", bars: "Energy by period" },
  es: { before: "antes: {wh}", about: "aprox.", unknown: "no se sabe", bars: "Energía por período" },
});

export function said(bar: Bar, name: string): string {
  const wh = bar.wh === null ? say("unknown") : `${bar.estimated ? `${say("about")} ` : ""}${quantity(bar.wh, "Wh")}`;
  return `${name}: ${wh}${bar.before === null ? "" : `, ${say("before", { wh: quantity(bar.before, "Wh") })}`}`;
}

/** `names`: short ones for the axis and long ones to be read, by the bar's place. */
export function Bars({ bars, short, long, picked, pick }: { bars: readonly Bar[]; short: (bar: Bar) => string; long: (bar: Bar) => string; picked: number | null; pick: (index: number) => void }): JSX.Element {
  const { top, steps } = scaleOf(Math.max(0, ...bars.flatMap((one) => [one.wh ?? 0, one.before ?? 0])));
  const every = Math.ceil(bars.length / 8);
  const height = (wh: number | null): { height: string } => ({ height: `${((wh ?? 0) / top) * 100}%` });
  const list = useRef<HTMLOListElement>(null);
  const last = bars.findLastIndex((one) => one.wh !== null);
  // Bars as wide as a thumb may need more room than a phone has: then what is newest is in sight.
  useEffect(() => {
    const box = list.current;
    const bar = box?.children[last] as HTMLElement | undefined;
    if (box && bar) box.scrollLeft = bar.offsetLeft + bar.offsetWidth - box.clientWidth;
  }, [bars.length, last]);
  return (
    <div class="bars" role="group" aria-label={say("bars")}>
      <div class="lines" aria-hidden="true">
        {Array.from({ length: steps + 1 }, (_, n) => (
          <span key={n} style={{ bottom: `${(n / steps) * 100}%` }}>
            <small>{quantity((top * n) / steps, "Wh")}</small>
          </span>
        ))}
      </div>
      <ol ref={list}>
        {bars.map((one, index) => (
          <li key={one.from}>
            <button type="button" class={`${one.wh === null && Date.parse(one.from) <= now() ? "unknown" : ""} ${one.estimated ? "about" : ""}`} aria-pressed={picked === index} aria-label={said(one, long(one))} title={said(one, long(one))} onClick={() => pick(index)}>
              <span class="past" style={height(one.before)} />
              <span class="now" style={height(one.wh)} />
            </button>
            <small aria-hidden="true">{index % every === 0 ? short(one) : ""}</small>
          </li>
        ))}
      </ol>
    </div>
  );
}
