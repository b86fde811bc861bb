// How far the demo's scenario is.
import { now } from "../core/live.ts";

interface Scenario {
  running: boolean;
  step: string | null;
  since: string | null;
  steps: readonly { id: string; lasts_s: number }[];
}

/** Seconds until the next step, as planned; undefined where nothing is. */
export function left(scenario: Scenario, at_ms = now()): number | undefined {
  const step = scenario.steps.find((one) => one.id === scenario.step);
  if (!scenario.running || !step || !scenario.since) return undefined;
  return Math.max(0, Math.round(step.lasts_s - (at_ms - Date.parse(scenario.since)) / 1000));
}
