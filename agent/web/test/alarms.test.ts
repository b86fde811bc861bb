import assert from "node:assert/strict";
import { test } from "node:test";
import { type Standing, group, isSignal, open, who } from "../src/alarms/order.ts";

const one = (id: string, more: Partial<Standing> = {}): Standing => ({ id, kind: "alarm", severity: "warning", state: "unacknowledged", active: true, acting: true, shadow: false, raised: "2026-11-21T10:00:00Z", ...more });
const ids = (list: readonly Standing[]): string[] => list.map((each) => each.id);

test("the worst alarm stands first: severity, then what acts though it is over, then the newest", () => {
  const found = open([
    one("old"), one("info", { severity: "info" }), one("new", { raised: "2026-11-21T11:00:00Z" }), one("over", { state: "returned", active: false }),
    one("critical", { severity: "critical" }), one("latched", { severity: "critical", state: "latched", active: false }),
  ]);
  assert.deepEqual(ids(found.now), ["latched", "critical", "new", "old", "over", "info"]);
});

test("what nobody is told of, what somebody has seen and what is on trial stand apart", () => {
  assert.equal(group(one("a", { state: "shelved", active: false })), "quiet");
  assert.equal(group(one("a", { state: "suppressed" })), "quiet");
  assert.equal(group(one("a", { state: "acknowledged" })), "seen");
  assert.equal(group(one("a", { shadow: true })), "trial");
  assert.equal(group(one("held", { state: "normal", active: false })), "seen"); // over, and still acting
});

test("what is well is not open, nor is a rule", () => {
  assert.equal(group(one("a", { state: "normal", active: false, acting: false })), undefined);
  assert.equal(group(one("a", { kind: "rule", severity: null, state: "normal" })), undefined);
});

test("who did it is named without the kind of who it was", () => {
  assert.equal(who("user:ana"), "ana");
  assert.equal(who("condition"), "condition");
  assert.equal(who(undefined), "");
});

test("only signals have a chart, what a condition calculates has none", () => {
  for (const name of ["battery1.soc_pct", "cp-3.1.power_w", "battery1.cell_voltage_v.12"]) assert.ok(isSignal(name), name);
  for (const name of ["age(dead1)", "rate(battery1.soc_pct, 60s)", "cp1"]) assert.ok(!isSignal(name), name);
});
