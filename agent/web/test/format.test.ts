import assert from "node:assert/strict";
import { test } from "node:test";
import { duration, number, quantity, scaled, UNKNOWN } from "../src/core/format.ts";
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
