import assert from "node:assert/strict";
import { test } from "node:test";
import { barsOf, bucketOf, dateOf, isDate, moved, rangeOf, scaleOf, totalsOf } from "../src/site/bars.ts";

const period = (from: string, wh: number | null, estimated = false) => ({ from, to: from, wh, estimated });

test("a date says what is shown, and goes on by days, months and years", () => {
  assert.deepEqual(["2026", "2026-11", "2026-11-21"].map(bucketOf), ["month", "day", "hour"]);
  assert.equal(moved("2026-12-31", 1), "2027-01-01");
  assert.equal(moved("2028-03-01", -1), "2028-02-29");
  assert.equal(moved("2026-01", -1), "2025-12");
  assert.equal(moved("2026", 1), "2027");
  assert.equal(isDate("2026-13"), false);
  assert.equal(isDate("now"), false);
});

test("days begin where the site is, also when the clocks change", () => {
  const hours = (at: string, zone: string): number => (rangeOf(at, zone).to_ms - rangeOf(at, zone).from_ms) / 3_600_000;
  assert.equal(new Date(rangeOf("2026-11-21", "America/Mexico_City").from_ms).toISOString(), "2026-11-21T06:00:00.000Z");
  assert.equal(hours("2026-03-29", "Europe/Madrid"), 23);
  assert.equal(hours("2026-10-25", "Europe/Madrid"), 25);
  assert.equal(hours("2026-11-21", "Asia/Kolkata"), 24);
  assert.equal(dateOf(Date.parse("2026-11-21T02:00:00Z"), "America/Mexico_City"), "2026-11-20");
  assert.equal(dateOf(Date.parse("2026-01-01T02:00:00Z"), "America/Mexico_City", "month"), "2025");
});

test("a range that still runs is compared with as much of the one before", () => {
  const now = [period("2026-11-21T00:00:00Z", 100), period("2026-11-21T01:00:00Z", 50, true), period("2026-11-21T02:00:00Z", null), period("2026-11-21T03:00:00Z", null)];
  const before = [80, 20, 1000, 1000].map((wh, hour) => period(`2026-11-20T0${hour}:00:00Z`, wh));
  const totals = totalsOf(barsOf(now, before, "hour", "UTC"), Date.parse("2026-11-21T02:30:00Z"));
  assert.deepEqual(totals, { wh: 150, before: 100, change_pct: 50, missing: 1, estimated: true });
});

test("an hour is compared with the same hour of the clock, also on days on which it changes", () => {
  const hours = (at: string) => {
    const { from_ms, to_ms } = rangeOf(at, "Europe/Madrid");
    return Array.from({ length: (to_ms - from_ms) / 3_600_000 }, (_, index) => from_ms + index * 3_600_000);
  };
  const shown = (time_ms: number): number => Number(new Date(time_ms).toLocaleString("en-GB", { hour: "2-digit", timeZone: "Europe/Madrid" }));
  const day = (at: string) => hours(at).map((time_ms) => period(new Date(time_ms).toISOString(), shown(time_ms)));
  for (const [at, length] of [["2026-03-29", 23], ["2026-03-30", 24], ["2026-10-25", 25], ["2026-10-26", 24]] as const) {
    const bars = barsOf(day(at), day(moved(at, -1)), "hour", "Europe/Madrid");
    assert.equal(bars.length, length);
    for (const [index, bar] of bars.entries()) {
      const hour = shown(Date.parse(bar.from));
      const again = index > 0 && shown(Date.parse(bars[index - 1]!.from)) === hour;
      const lacked = at === "2026-03-30" && hour === 2;
      assert.equal(bar.before, again || lacked ? null : hour, `${at} ${bar.from}`);
    }
  }
});

test("days and months are compared by their number", () => {
  const days = (month: string, count: number) => Array.from({ length: count }, (_, n) => period(`${month}-${String(n + 1).padStart(2, "0")}T12:00:00Z`, n + 1));
  assert.deepEqual(barsOf(days("2026-03", 31), days("2026-02", 28), "day", "UTC").map((one) => one.before), [...Array.from({ length: 28 }, (_, n) => n + 1), null, null, null]);
});

test("what is not known is no total", () => {
  assert.deepEqual(totalsOf(barsOf([period("2026-11-21T00:00:00Z", null)], [], "hour", "UTC"), 0), { wh: null, before: null, change_pct: null, missing: 0, estimated: false });
});

test("the scale ends at a round figure above the highest bar", () => {
  for (const highest of [0.3, 7, 149, 151, 3200, 999, 1000, 88_000]) {
    const { top, steps } = scaleOf(highest);
    assert.ok(top >= highest && top <= highest * 2.01, `${highest}: ${top}`);
    assert.ok(steps >= 2 && steps <= 4);
  }
  assert.equal(scaleOf(0).top, 1000);
});
