// A small chart of the last hours, which leads to the large one.
import type { JSX } from "preact";
import { useMemo, useState } from "preact/hooks";
import { texts } from "../core/i18n.ts";
import { now } from "../core/live.ts";
import { to } from "../core/route.ts";
import { Chart, Legend } from "../ui/chart.tsx";
import { lineOf, useHistories } from "./history.ts";

const say = texts({
  en: { hours: "{n} h", range: "Hours", more: "Open as a chart", none: "Nothing of it is stored yet." },
  es: { hours: "{n} h", range: "Horas", more: "Abrir como gráfica", none: "Aún no hay nada guardado." },
});

const HOURS = [1, 6, 24, 168] as const;

/** `names`: of the signals; `titles`: what they are called here. */
export function Trend({ names, titles, label, first = 6 }: { names: readonly string[]; titles: readonly string[]; label: string; first?: number }): JSX.Element {
  const [hours, setHours] = useState<number>(first);
  const found = useHistories(names, { last_s: hours * 3600 }, 300, 20);
  const to_s = useMemo(() => now() / 1000, [found]);
  const lines = useMemo(() => found.of.map((one) => lineOf(one, titles[names.indexOf(one.signal.name)] ?? one.signal.name)).filter((one) => one.values.length), [found]);
  return (
    <div>
      <div class="row between">
        <div class="chips" role="group" aria-label={say("range")}>
          {HOURS.map((one) => (
            <button key={one} type="button" aria-pressed={one === hours} onClick={() => setHours(one)}>
              {one < 48 ? say("hours", { n: one }) : `${one / 24} d`}
            </button>
          ))}
        </div>
        <a href={to("charts", "", { signals: names.join(","), last: `${hours * 3600}` })}>{say("more")}</a>
      </div>
      {lines.length > 0 ? (
        <>
          <Chart lines={lines} label={label} height={210} from_s={to_s - hours * 3600} to_s={to_s} />
          <Legend lines={lines} />
        </>
      ) : (
        !found.busy && <p class="dim">{say("none")}</p>
      )}
    </div>
  );
}
