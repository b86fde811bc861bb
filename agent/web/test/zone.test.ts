import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { day, hourMinute, moment } from "../src/core/format.ts";
import { inputOf, isElsewhere, midnight, setZone, typedTime, zone } from "../src/core/zone.ts";

const NOON = Date.parse("2026-06-15T12:00:00Z");
afterEach(() => setZone(undefined));

test("times are those of the site, wherever the reader is", () => {
  setZone("Asia/Tokyo");
  assert.equal(hourMinute(NOON), "21:00");
  assert.match(moment("2026-06-15T23:30:00Z"), /^16 Jun, 08:30:00$/);
  assert.equal(day("2026-06-15T23:30:00Z"), "Tue 16 Jun");
  assert.equal(day("2026-06-15T23:30:00Z", "UTC"), "Mon 15 Jun");
  setZone("America/Mexico_City");
  assert.equal(hourMinute(NOON), "06:00");
});

test("what is typed is of the site, and goes back into the field as it was", () => {
  for (const name of ["Asia/Tokyo", "America/Mexico_City", "Europe/Madrid", "Asia/Kathmandu", undefined]) {
    setZone(name);
    for (const text of ["2026-06-15T09:30", "2026-12-31T23:59", "2026-03-29T03:30"]) assert.equal(inputOf(typedTime(text)), text);
  }
  setZone("Asia/Tokyo");
  assert.equal(typedTime("2026-06-15T21:00"), NOON);
  assert.ok(Number.isNaN(typedTime("")));
  assert.equal(inputOf(null), "");
});

test("a day begins at the site's midnight, also where clocks change in it", () => {
  assert.equal(midnight(""), undefined);
  setZone("Asia/Tokyo");
  assert.equal(midnight("2026-11-21"), "2026-11-20T15:00:00.000Z");
  assert.equal(midnight("2026-12-31", 1), "2026-12-31T15:00:00.000Z");
  setZone("Europe/Madrid");
  assert.equal(midnight("2026-03-29"), "2026-03-28T23:00:00.000Z");
  assert.equal(midnight("2026-03-29", 1), "2026-03-29T22:00:00.000Z");
});

test("a zone that this browser does not know is none; another time is told", () => {
  setZone("Nowhere/At_all");
  assert.equal(zone.value, undefined);
  assert.equal(isElsewhere(NOON), false);
  setZone(Intl.DateTimeFormat().resolvedOptions().timeZone);
  assert.equal(isElsewhere(NOON), false);
  setZone("Asia/Kathmandu");
  assert.equal(isElsewhere(NOON), true);
});
