import assert from "node:assert/strict";
import { test } from "node:test";
import { day, duration, marks, moment, number, quantity, scaled, UNKNOWN } from "../src/core/format.ts";
import { language, texts, word } from "../src/core/i18n.ts";
import { parse, to } from "../src/core/route.ts";
import { url } from "../src/core/api.ts";

test("a quantity is shown in the unit that fits its size", () => {
  assert.deepEqual(scaled(7400, "W"), ["7.40", "kW"]);
  assert.deepEqual(scaled(-22_100, "W"), ["-22.1", "kW"]);
  assert.deepEqual(scaled(46, "W"), ["46", "W"]);
  assert.deepEqual(scaled(0, "W"), ["0", "W"]);
  assert.equal(quantity(2_500_000, "Wh"), "2.50 MWh");
  assert.equal(quantity(31.25, "degc"), "31.3 °C");
  assert.equal(quantity(3.312, "V"), "3.31 V");
});

test("what is not known is never a figure", () => {
  for (const nothing of [null, undefined, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.equal(quantity(nothing, "W"), UNKNOWN);
    assert.equal(number(nothing), UNKNOWN);
    assert.equal(duration(nothing), UNKNOWN);
  }
});

test("what rounds to nothing has no sign", () => {
  assert.equal(quantity(-0.4, "W"), "0 W");
  assert.equal(quantity(-0.6, "W"), "-1 W");
  assert.equal(quantity(-0.001, "A"), "0.00 A");
  assert.equal(number(-0), "0");
});

test("a figure without sense stays short, and keeps its sign", () => {
  assert.equal(quantity(3.4e38, "W"), "3.4E32 MW");
  assert.equal(quantity(-3.4e38, "A"), "-3.4E38 A");
  assert.equal(number(999_999_999_999), "999,999,999,999");
});

test("marks of an axis are told apart, and share a unit", () => {
  assert.deepEqual(marks([11_020, 11_030, 11_040], 10, "W"), ["11.02 kW", "11.03 kW", "11.04 kW"]);
  assert.deepEqual(marks([0, 5000, 10_000], 5000, "W"), ["0 kW", "5 kW", "10 kW"]);
  assert.deepEqual(marks([-500, 0, 500], 500, "W"), ["-500 W", "0 W", "500 W"]);
  assert.deepEqual(marks([0, 0.25, 0.5], 0.25, "V"), ["0.00 V", "0.25 V", "0.50 V"]);
  assert.deepEqual(marks([50, 75, 100], 25, "pct"), ["50 %", "75 %", "100 %"]);
  assert.deepEqual(marks([0, 1], 1, ""), ["0", "1"]);
});

test("a time of another year says which", () => {
  const year = new Date().getFullYear();
  const then = Date.UTC(year - 1, 5, 15, 12);
  assert.match(moment(then), new RegExp(`${year - 1}`));
  assert.match(day(then), new RegExp(`${year - 1}`));
  assert.match(day(Date.UTC(year + 1, 5, 15, 12), "UTC"), new RegExp(`${year + 1}`));
  assert.doesNotMatch(day(Date.UTC(year, 5, 15, 12)), /\d{4}/);
});

test("durations name their two largest parts", () => {
  assert.equal(duration(0), "0 s");
  assert.equal(duration(59.6), "1 min");
  assert.equal(duration(7503), "2 h 5 min");
  assert.equal(duration(86_400 + 30), "1 d");
});

test("figures and words follow the language", () => {
  const say = texts({ en: { hot: "Too hot: {value}" }, es: { hot: "Demasiado caliente: {value}" } });
  language.value = "es";
  assert.equal(number(1234.5, 1), "1234,5");
  assert.equal(say("hot", { value: "50 °C" }), "Demasiado caliente: 50 °C");
  assert.equal(word("critical"), "crítica");
  assert.equal(word("never_heard_of"), "never heard of");
  language.value = "en";
  assert.equal(say("hot", { value: "{value}" }), "Too hot: {value}");
});

test("an address is a page, of what, and how", () => {
  for (const id of ["cp1", "a/b c", "ñ?&#%"]) {
    const place = parse(to("station", id, { tab: "why" }));
    assert.equal(place.page, "station");
    assert.equal(place.id, id);
    assert.equal(place.query.get("tab"), "why");
  }
  assert.equal(parse("").page, "site");
  assert.equal(parse("#/station/%E0%A4%A").id, "%E0%A4%A");
});

test("an operation's address is filled in, and asks only for what is set", () => {
  assert.equal(url("/api/stations/{station_id}/why", { params: { station_id: "a/b" } }), "/api/stations/a%2Fb/why");
  assert.equal(url("/api/alarms", { query: { kind: "alarm", active: undefined, page: 2, device: "" } }), "/api/alarms?kind=alarm&page=2");
});
