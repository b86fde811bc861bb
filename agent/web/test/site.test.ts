import assert from "node:assert/strict";
import { test } from "node:test";
import { direction, flowOf, strength, sum } from "../src/site/flow.ts";
import { spreadOf, windowOf } from "../src/site/spread.ts";
import { outlets, rolesOf, signalOf } from "../src/site/roles.ts";

const both = (device: string): string[] => [`${device}.power_w`, `${device}.energy_import_wh`, `${device}.energy_export_wh`];
const stations = [
  { id: "cp1", device: "cp1", outlet: 0 },
  { id: "cp3", device: "cp3", outlet: 0 },
  { id: "cp3.1", device: "cp3", outlet: 1 },
  { id: "cp3.2", device: "cp3", outlet: 2 },
];

test("the one meter that counts both ways is the grid's", () => {
  const roles = rolesOf([...both("m1"), "m2.power_w", "m2.energy_import_wh"], [], [], "");
  assert.equal(roles.grid, "m1");
  assert.deepEqual(roles.meters, ["m2"]);
});

test("of several meters it is that of load management, or the utility's, or the one called so; or none", () => {
  const two = [...both("a"), ...both("b")];
  assert.equal(rolesOf(two, [], [], "b").grid, "b");
  assert.equal(rolesOf([...two, "a.power_failures"], [], [], "").grid, "a");
  assert.equal(rolesOf([...both("sub1"), ...both("grid")], [], [], "").grid, "grid");
  assert.equal(rolesOf([...both("sub1"), ...both("gridiron")], [], [], "").grid, undefined);
  assert.equal(rolesOf(two, [], [], "").grid, undefined);
  assert.equal(rolesOf(two, [], [], "gone").grid, undefined);
});

test("a battery has a charge and is neither a charger nor a vehicle that posts", () => {
  const names = ["bat.soc_pct", "bat.power_w", "cp1.soc_pct", "cp1.power_w", "cp9.soc_pct", "cp9.charger_status", "cp3.soc_pct.2", "VAN.soc_pct", "VAN.power_w", "gateway.cpu_pct"];
  assert.deepEqual(rolesOf(names, stations, ["VAN"], ""), { grid: undefined, batteries: ["bat"], solar: [], meters: [] });
});

test("an inverter gives sun, one with a battery is the battery", () => {
  const names = ["pv.power_w", "pv.inverter_status", "roof.power_w", "roof.string_power_w.1", "hybrid.soc_pct", "hybrid.dc_power_w", "hybrid.power_w"];
  const roles = rolesOf(names, [], [], "");
  assert.deepEqual(roles.solar, ["pv", "roof"]);
  assert.deepEqual(roles.batteries, ["hybrid"]);
});

test("a charger of several outlets is its outlets", () => {
  assert.deepEqual(outlets(stations).map((one) => one.id), ["cp1", "cp3.1", "cp3.2"]);
  assert.equal(signalOf(stations[2]!), "cp3.power_w.1");
  assert.equal(signalOf(stations[0]!, "session_energy_wh"), "cp1.session_energy_wh");
});

test("what nothing measures is what the grid meter sees less all the others", () => {
  const flow = flowOf(5000, [2600], [4100, 0], [-3000]);
  assert.equal(flow.other, 1300);
  assert.equal(flowOf(-200, [-1000], [], []).other, 800);
});

test("what is not known is in no sum, and makes no figure up", () => {
  assert.deepEqual(sum([]), { w: null, missing: 0 });
  assert.deepEqual(sum([null, 4100, undefined]), { w: 4100, missing: 2 });
  assert.deepEqual(sum([null]), { w: null, missing: 1 });
  assert.equal(flowOf(null, [2600], [], []).other, null);
  assert.equal(flowOf(0, [], [], []).other, 0);
});

test("a flow goes to the middle from what gives, and from it to what takes", () => {
  assert.equal(direction(3000, true), 1); // drawn from the grid
  assert.equal(direction(-3000, true), -1); // fed in
  assert.equal(direction(2600, false), -1); // a battery that charges
  assert.equal(direction(-2600, false), 1);
  assert.equal(direction(4, true), 0);
  assert.equal(direction(null, true), 0);
});

test("the strongest flow is drawn strongest, the weakest still", () => {
  assert.equal(strength(8000, 8000), 5);
  assert.equal(strength(-8000, 8000), 5);
  assert.equal(strength(20, 8000), 1);
  assert.equal(strength(null, 0), 1);
});

test("the spread of cells is of those that are known, and bars stand in a window around it", () => {
  const cells = [{ n: 1, value: 3.34 }, { n: 2, value: null }, { n: 3, value: 3.361 }, { n: 4, value: 3.35 }];
  assert.deepEqual(spreadOf(cells, 1, 9), { low: 3.34, high: 3.361, lowAt: 1, highAt: 3 });
  assert.deepEqual(spreadOf([], 3.2, 3.3), { low: 3.2, high: 3.3, lowAt: null, highAt: null });
  const [from, to] = windowOf(3.34, 3.361);
  assert.ok(from < 3.34 && to > 3.361 && to - from < 0.2);
});
