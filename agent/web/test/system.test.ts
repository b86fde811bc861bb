import assert from "node:assert/strict";
import { test } from "node:test";
import { summary } from "../src/system/events.ts";
import { Figures, samples } from "../src/system/metrics.ts";

const TEXT = `# HELP enlace_uplink_backlog records that are not confirmed
# TYPE enlace_uplink_backlog gauge
enlace_uplink_backlog{stream="event"} 0
enlace_uplink_backlog{stream="telemetry"} 1234
enlace_wire_online{wire="a \\"b\\", c}"} 1
enlace_clock_set 1
other 3
`;

test("a figure is found by its name and labels; one that is not there is unknown", () => {
  const figures = new Figures(TEXT);
  assert.equal(figures.get("enlace_uplink_backlog", { stream: "telemetry" }), 1234);
  assert.equal(figures.get("enlace_clock_set"), 1);
  assert.equal(figures.get("enlace_uplink_connected"), undefined);
  assert.equal(samples(TEXT, "enlace_wire")[0]?.labels["wire"], 'a "b", c}');
  assert.equal(samples(TEXT, "enlace_").length, 4);
});

test("an event in a line says first who did what", () => {
  assert.equal(summary({ result: "done", what: "log debug for 600 s", who: "user:ana", old: "info" }), "user:ana · log debug for 600 s · done");
  assert.equal(summary({ wire: "can0", count: 3, empty: "", none: null, deep: {} }), "wire can0 · count 3");
});
