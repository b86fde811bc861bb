// Figures, times and ages as people read them, in their language; times are the site's. kW, kWh and so on exist here only: inside all is W and Wh.
import { language, word } from "./i18n.ts";
import { now } from "./live.ts";
import { zone } from "./zone.ts";

const LOCALE = { en: "en-GB", es: "es" } as const;
const locale = (): string => LOCALE[language.value];
/** Shown where a figure is not known. */
export const UNKNOWN = "–";

/** Above it, no quantity of a site: a figure of so many digits tells nothing and bursts its place. */
const LARGEST = 1e12;

export function number(value: number | null | undefined, digits = 0): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return UNKNOWN;
  if (Math.abs(value) >= LARGEST) return value.toLocaleString(locale(), { notation: "scientific", maximumSignificantDigits: 3 });
  const text = value.toLocaleString(locale(), { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return text.replace(/^-(?=[0.,]+$)/, ""); // what rounds to nothing has no sign
}

const LADDERS: Readonly<Record<string, readonly [number, string][]>> = {
  W: [[1e6, "MW"], [1e3, "kW"], [1, "W"]],
  Wh: [[1e6, "MWh"], [1e3, "kWh"], [1, "Wh"]],
  var: [[1e3, "kvar"], [1, "var"]],
  VA: [[1e3, "kVA"], [1, "VA"]],
  B: [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]],
};
const UNITS: Readonly<Record<string, string>> = { pct: "%", degc: "°C", "%": "%" };

/** A value in a unit that fits its size: `[figure, unit]`. */
export function scaled(value: number | null | undefined, unit: string): [string, string] {
  const ladder = LADDERS[unit];
  if (value === null || value === undefined || !Number.isFinite(value)) return [UNKNOWN, ""];
  if (!ladder) return [number(value, Number.isInteger(value) ? 0 : Math.abs(value) < 10 ? 2 : 1), UNITS[unit] ?? unit];
  const [size, name] = ladder.find(([least]) => Math.abs(value) >= least) ?? ladder[ladder.length - 1]!;
  const shown = value / size;
  return [number(shown, size === 1 ? 0 : Math.abs(shown) < 10 ? 2 : 1), name];
}

/** The same as one text. */
export function quantity(value: number | null | undefined, unit: string): string {
  const [figure, name] = scaled(value, unit);
  return name ? `${figure} ${name}` : figure;
}

/** Marks of an axis, `step` apart: all in one unit, with as many digits as tell them apart. */
export function marks(values: readonly number[], step: number, unit: string): string[] {
  const ladder = LADDERS[unit];
  const most = Math.max(0, ...values.map(Math.abs));
  const [size, name] = ladder ? (ladder.find(([least]) => most >= least) ?? ladder[ladder.length - 1]!) : [1, UNITS[unit] ?? unit];
  let digits = 0;
  for (let rest = step / size; digits < MOST_DIGITS && Math.abs(rest - Math.round(rest)) > 1e-6; rest *= 10) digits++;
  return values.map((value) => `${number(value / size, digits)} ${name}`.trim());
}
const MOST_DIGITS = 6;

/** A live value as text: its label where it has one. */
export const live = (value: { value: number | null; label: string | null; unit: string } | undefined): string =>
  value === undefined ? UNKNOWN : (value.label ? word(value.label) : quantity(value.value, value.unit));

const relative = (): Intl.RelativeTimeFormat => new Intl.RelativeTimeFormat(locale(), { numeric: "auto", style: "short" });
const STEPS: readonly [number, Intl.RelativeTimeFormatUnit][] = [[86_400, "day"], [3_600, "hour"], [60, "minute"], [1, "second"]];

/** `3 min. ago`, of a time as the gateway writes it. */
export function ago(time: string | null | undefined): string {
  if (!time) return UNKNOWN;
  const seconds = (Date.parse(time) - now()) / 1000;
  const [size, unit] = STEPS.find(([least]) => Math.abs(seconds) >= least) ?? [1, "second"];
  return relative().format(Math.round(seconds / size), unit);
}

/** How long: `2 h 5 min`. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return UNKNOWN;
  const whole = Math.max(0, Math.round(seconds));
  const parts: [number, string][] = [
    [Math.floor(whole / 86_400), "d"], [Math.floor(whole / 3_600) % 24, "h"], [Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  return first < 0 ? "0 s" : parts.slice(first, first + 2).filter(([count]) => count > 0).map(([count, unit]) => `${count} ${unit}`).join(" ");
}

/** How a time is written, in the site's zone or in `of`. */
const written = (time: string | number | Date, how: Intl.DateTimeFormatOptions, of = zone.value): string => new Date(time).toLocaleString(locale(), { ...how, ...(of ? { timeZone: of } : {}) });
const DATE: Intl.DateTimeFormatOptions = { year: "numeric", month: "numeric", day: "numeric" };
const CLOCK: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit" };
const SECONDS: Intl.DateTimeFormatOptions = { ...CLOCK, second: "2-digit" };

/** The year, where it is not the present one. */
const yearOf = (time: string | number, of?: string): Intl.DateTimeFormatOptions => {
  const year = { year: "numeric" } as const;
  return written(time, year, of) === written(now(), year, of) ? {} : year;
};

/** Date and time, the date only where it is not today, the year where it is another one. */
export function moment(time: string | number | null | undefined): string {
  if (time === null || time === undefined || time === "") return UNKNOWN;
  const today = written(time, DATE) === written(now(), DATE);
  return written(time, today ? SECONDS : { day: "numeric", month: "short", ...yearOf(time), ...SECONDS });
}

/** Parts of a time; `of`: of another zone than the site's, such as UTC for a date that has none. */
export const day = (time: string | number, of?: string): string => written(time, { weekday: "short", day: "numeric", month: "short", ...yearOf(time, of) }, of);
export const dayMonth = (time: string | number): string => written(time, { day: "numeric", month: "short" });
export const hourMinute = (time: string | number, seconds = false): string => written(time, seconds ? SECONDS : CLOCK);
export const monthYear = (time: string | number, of?: string): string => written(time, { month: "short", year: "numeric" }, of);
