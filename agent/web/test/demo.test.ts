import assert from "node:assert/strict";
import { test } from "node:test";
import { left } from "../src/demo/steps.ts";

const at = Date.parse("2026-11-21T10:00:10Z");
const scenario = { running: true, step: "heat", since: "2026-11-21T10:00:00Z", steps: [{ id: "heat", lasts_s: 40 }] };

test("how long a step still lasts", () => {
  assert.equal(left(scenario, at), 30);
  assert.equal(left(scenario, at + 100_000), 0);
});

test("a scenario that stands still, or whose step is not known, has no time left to tell", () => {
  assert.equal(left({ ...scenario, running: false }, at), undefined);
  assert.equal(left({ ...scenario, step: "gone" }, at), undefined);
  assert.equal(left({ ...scenario, since: null }, at), undefined);
});
