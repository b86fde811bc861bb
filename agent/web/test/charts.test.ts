import assert from "node:assert/strict";
import { test } from "node:test";
import { type Shown, panned, queryOf, rowsOf, shownOf, spanOf, valueAt, widened } from "../src/site/chart-range.ts";
import { lineOf } from "../src/site/history.ts";
import { marked } from "../src/ui/touch.ts";

const NOW_S = 1_800_000_000;

test("an address holds what is shown, and nothing that can't be shown", () => {
  const range = { from_s: NOW_S - 7200, to_s: NOW_S - 3600 };
  assert.deepEqual(shownOf(new URLSearchParams(queryOf(range))), range);
  assert.deepEqual(shownOf(new URLSearchParams(queryOf({ last_s: 3600 }))), { last_s: 3600 });
  for (const wrong of ["", "last=x", "last=-5", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from=yesterday&to=now"]) {
    assert.deepEqual(shownOf(new URLSearchParams(wrong)), { last_s: 86_400 });
  }
});

test("no address and no number of steps leads out of the calendar", () => {
  const now_s = Date.parse("2026-11-21T12:00:00Z") / 1000;
  const whole = (shown: Shown): boolean => {
    const { from_s, to_s } = spanOf(shown, now_s);
    return from_s >= 0 && to_s > from_s && to_s <= Date.UTC(2100, 0) / 1000 && queryOf(shown) !== undefined;
  };
  for (const query of ["last=1e15", "last=Infinity", "from=0&to=9e15", "from=1e300&to=2e300", "from=-0001-01-01T00:00:00Z&to=2026-01-01T00:00:00Z"]) assert.ok(whole(shownOf(new URLSearchParams(query))), query);
  for (const first of [{ last_s: 3600 }, { from_s: 1000, to_s: 5000 }, { from_s: now_s - 7200, to_s: now_s - 3600 }]) {
    let [wider, earlier, later]: Shown[] = [first, first, first];
    for (let step = 0; step < 40; step++) {
      wider = widened(wider!, now_s);
      earlier = panned(widened(earlier!, now_s), -0.5, now_s);
      later = panned(wider, 0.5, now_s);
      assert.ok(whole(wider) && whole(earlier) && whole(later), `${JSON.stringify([wider, earlier, later])}`);
    }
  }
});

test("a range that is moved or widened to now goes on with it", () => {
  assert.deepEqual(panned({ last_s: 3600 }, -0.5, NOW_S), { from_s: NOW_S - 5400, to_s: NOW_S - 1800 });
  assert.deepEqual(panned({ from_s: NOW_S - 5400, to_s: NOW_S - 1800 }, 0.5, NOW_S), { last_s: 3600 });
  assert.deepEqual(widened({ from_s: NOW_S - 9000, to_s: NOW_S - 8000 }, NOW_S), { from_s: NOW_S - 10_000, to_s: NOW_S - 7000 });
  assert.deepEqual(widened({ last_s: 3600 }, NOW_S), { last_s: 10_800 });
  assert.deepEqual(spanOf({ last_s: 60 }, NOW_S), { from_s: NOW_S - 60, to_s: NOW_S });
});

const history = (kind: string, interval_s: number, points: unknown[]) =>
  ({ signal: { id: 1, name: "a.b", device: "a", point: "b", unit: "W", kind, source: "", labels: {} }, from: "2026-11-21T00:00:00Z", to: "2026-11-21T01:00:00Z", interval_s, points }) as never;
const point = (time: string, value: number | null) => ({ time: `2026-11-21T00:${time}Z`, min: value, max: value, mean: value, last: value, count: 1, gap: false });

test("a value holds until the next one, and until the end", () => {
  const line = lineOf(history("gauge", 0, [point("00:00", 0), point("30:00", 11_000)]));
  assert.equal(valueAt(line, Date.parse("2026-11-21T00:29:59Z") / 1000 - 1), 0);
  assert.equal(line.values.at(-1), 11_000);
  assert.equal(line.times_s.at(-1), Date.parse("2026-11-21T01:00:00Z") / 1000);
  // Right before the step it is still the old value: no slope through half an hour.
  assert.deepEqual(line.values, [0, 0, 11_000, 11_000]);
});

test("what was not known is a gap, and does not go on", () => {
  const line = lineOf(history("gauge", 60, [point("00:00", 5), { ...point("01:00", 7), last: null, gap: true }]));
  assert.equal(line.values.at(-1), null);
  assert.deepEqual(line.values.slice(0, 2), [5, 7]);
});

test("states step by their last value", () => {
  const line = lineOf(history("state", 60, [{ ...point("00:00", 1), mean: null }, { ...point("01:00", 2), mean: null }]));
  assert.equal(line.steps, true);
  assert.equal(line.values[1], 2);
});

test("a table has no more rows than are read", () => {
  const line = { times_s: Array.from({ length: 1000 }, (_, n) => n), values: Array.from({ length: 1000 }, (_, n) => n) };
  assert.ok(rowsOf([line, line], 200).length <= 200);
  assert.equal(valueAt(line, -1), null);
  assert.equal(valueAt(line, 500), 500);
});

test("a finger marks a range in either direction, and never beyond the chart", () => {
  assert.deepEqual(marked(40, 100, 300), { left: 40, width: 60 });
  assert.deepEqual(marked(100, 40, 300), { left: 40, width: 60 });
  assert.deepEqual(marked(100, -30, 300), { left: 0, width: 100 });
  assert.deepEqual(marked(250, 900, 300), { left: 250, width: 50 });
});
