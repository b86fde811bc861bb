import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { type FieldOf, byKey, fieldsOf, freeId, textOf, valueOf, withValue } from "../src/setup/schema.ts";
import { changed, listOf } from "../src/setup/site.ts";
import { choices, keyOf } from "../src/setup/draft.ts";
import { patienceOf } from "../src/setup/patience.ts";

const SCHEMA = {
  properties: {
    report: { $ref: "#/$defs/Report", default: { every: false } },
    every_s: { anyOf: [{ type: "number", exclusiveMinimum: 0 }, { type: "null" }], default: null, description: "how often" },
    url: { type: "string" },
    driver: { const: "modbus", type: "string" },
    unit_id: { anyOf: [{ type: "integer", minimum: 0, maximum: 255 }, { type: "null" }], default: null },
    id: { type: "string" },
    phases: { type: "integer", enum: [1, 2, 3], default: 3 },
    dbc: { type: "array", items: { type: "string" }, default: [] },
    fd: { type: "boolean", default: false },
  },
  required: ["id", "driver", "url"],
};
const { first, more } = fieldsOf(SCHEMA);
const field = (key: string): FieldOf => [...first, ...more].find((one) => one.key === key)!;

test("what an installer must say stands first, in the order of work; the driver is no field", () => {
  assert.deepEqual(first.map((one) => one.key), ["id", "url", "unit_id", "phases"]);
  assert.deepEqual(more.map((one) => one.key).sort(), ["dbc", "every_s", "fd", "report"]);
  assert.equal(field("url").required, true);
  assert.equal(field("unit_id").max, 255);
  assert.equal(field("phases").otherwise, "3");
});

test("what is typed becomes what the entry wants, and nothing typed is no key", () => {
  assert.equal(valueOf(field("every_s"), "2,5"), 2.5);
  assert.equal(valueOf(field("phases"), "3"), 3);
  assert.equal(valueOf(field("fd"), "true"), true);
  assert.deepEqual(valueOf(field("dbc"), "a.dbc, b.dbc,"), ["a.dbc", "b.dbc"]);
  assert.deepEqual(valueOf(field("report"), '{"every": true}'), { every: true });
  assert.equal(valueOf(field("url"), "  "), undefined);
  assert.equal(valueOf(field("unit_id"), "x"), "x"); // the gateway is the judge
  assert.throws(() => valueOf(field("report"), "{"), SyntaxError);
});

test("a value goes to its field and back unchanged", () => {
  for (const [key, value] of [["dbc", ["a", "b"]], ["report", { every: true }], ["fd", false], ["every_s", 2.5], ["url", "tcp://a:502"]] as const) {
    assert.deepEqual(valueOf(field(key), textOf(value)), value);
  }
});

test("a change keeps all other keys and their order, also those that no form knows", () => {
  const entry = { id: "a", driver: "modbus", odd: [1], url: "x" };
  assert.deepEqual(Object.keys(withValue(entry, "driver", "can")), ["id", "driver", "odd", "url"]);
  assert.deepEqual(withValue(entry, "odd", undefined), { id: "a", driver: "modbus", url: "x" });
  assert.deepEqual(withValue(entry, "unit_id", 0), { ...entry, unit_id: 0 });
});

test("a device gets a name that nobody has and the configuration takes", () => {
  assert.equal(freeId("meter", []), "meter");
  assert.equal(freeId("meter", ["meter", "meter2"]), "meter3");
  assert.equal(freeId("  ñ/!", []), "device");
  assert.match(freeId("CP 1/ä", []), /^[A-Za-z0-9][A-Za-z0-9_-]*$/);
});

test("what the gateway refuses stands at the field that it is about", () => {
  assert.deepEqual(byKey({ errors: [{ where: "site.yaml:5:14", what: "bad", hint: "write x", key: "report.every" }, { where: "body.id", what: "too long" }, { where: "", what: "all", key: "" }] }), {
    report: "bad; write x", id: "too long", "": "all",
  });
  assert.deepEqual(byKey({}), {});
  assert.deepEqual(byKey({}, "edit site.yaml: `every_s` must be more than 0"), { every_s: "edit site.yaml: `every_s` must be more than 0" });
});

test("of the site only what is another is sent, and nothing that the environment holds", () => {
  const site = { id: "demo", name: "Demo", timezone: "UTC", import_limit_a: 40, power_return_s: 600, editable: true, read_only: "", locked: ["timezone"], id_change: "", demo: false };
  const typed = { id: "demo", name: "Demo", timezone: "Europe/Madrid", import_limit_a: "40", power_return_s: "600" };
  assert.deepEqual(changed(site, typed), {});
  assert.deepEqual(changed(site, { ...typed, import_limit_a: "32,5", name: " Patio " }), { name: "Patio", import_limit_a: 32.5 });
  assert.deepEqual(changed(site, { ...typed, import_limit_a: "" }), { import_limit_a: null });
  assert.deepEqual(changed(site, { ...typed, import_limit_a: "6O A" }), { import_limit_a: "6O A" }, "no number is never no limit");
  assert.deepEqual(changed(site, { name: "" }), { name: "", import_limit_a: null, power_return_s: null });
});

test("places to search are parted by commas or blanks", () => {
  assert.deepEqual(listOf(" 10.0.0.1, charger.local:1502;  x "), ["10.0.0.1", "charger.local:1502", "x"]);
  assert.deepEqual(listOf(" "), []);
});

const found = (yaml: string, id: string, more: object = {}) => ({ kind: "modbus", yaml, entry: { id, driver: "modbus" }, configured: false, ready: true, ...more });

test("what is whole is chosen, and no two devices get one name", () => {
  const all = choices([found("a", "meter"), found("b", "meter"), found("c", "cp1", { ready: false }), found("d", "old", { configured: true })], {}, ["meter", "old"]);
  assert.deepEqual(all.map((one) => one.entry["id"]), ["meter2", "meter3", "cp1", "old"]);
  assert.deepEqual(all.map((one) => one.chosen), [true, true, false, false]);
});

test("what somebody said of a found device stands: not chosen, or completed", () => {
  const [a, b] = [found("a", "meter"), found("b", "cp1", { ready: false })];
  const all = choices([a, b], { [keyOf(a)]: { chosen: false }, [keyOf(b)]: { entry: { id: "mine", driver: "modbus", profile: "x" } } }, []);
  assert.deepEqual(all.map((one) => one.chosen), [false, true]);
  assert.equal(all[1]!.entry["profile"], "x");
});

test("how long a test may take is what the gateway waits", () => {
  const code = readFileSync(new URL("../../device_tests.py", import.meta.url), "utf8");
  const [asked_s, heard_s, readout_s, can_s, told_s] = /^ASKED_S, HEARD_S, READOUT_S, CAN_S, TOLD_S = ([\d., ]+)$/m.exec(code)![1]!.split(", ").map(Number) as [number, number, number, number, number];
  const trigger_s = Number(/^TRIGGER_S = ([\d.]+)$/m.exec(code)![1]);
  assert.equal(patienceOf("modbus", "abb_b23"), asked_s);
  assert.equal(patienceOf("serial_meter", "mbus"), asked_s);
  assert.equal(patienceOf("serial_meter", "dsmr"), Math.ceil(heard_s));
  assert.equal(patienceOf("serial_meter", "d0", true), readout_s);
  assert.equal(patienceOf("serial_meter", "d0"), readout_s);
  assert.equal(patienceOf("serial_meter", "d0", false), Math.ceil(heard_s));
  assert.equal(patienceOf("can", "j1939_pack"), can_s);
  assert.equal(patienceOf("ocpp", ""), told_s + trigger_s);
});
