// The arithmetic of the power flow, in W. Pure. Positive is drawn from the site; a battery's is positive while it charges.
//
// 1. The grid meter sees what all the others sum to: grid = other + batteries + chargers + solar (which is negative).
// 2. `other` is what nothing measures: house, heating, what is in no list. Without the grid meter nobody knows it.
// 3. What is not known is null. It is in no sum, and whoever shows a sum of which parts are missing says so.

export interface Sum {
  /** null: none of the parts is known. */
  w: number | null;
  /** How many parts are not known. */
  missing: number;
}

export interface Flow {
  grid: number | null;
  battery: Sum;
  chargers: Sum;
  solar: Sum;
  other: number | null;
}

/** Below this nothing flows: meters show some W of noise. */
export const QUIET_W = 15;

export function sum(parts: readonly (number | null | undefined)[]): Sum {
  const known = parts.filter((one): one is number => typeof one === "number" && Number.isFinite(one));
  return { w: known.length ? known.reduce((total, one) => total + one, 0) : null, missing: parts.length - known.length };
}

export function flowOf(grid: number | null | undefined, batteries: readonly (number | null | undefined)[], chargers: readonly (number | null | undefined)[], solar: readonly (number | null | undefined)[]): Flow {
  const found = { battery: sum(batteries), chargers: sum(chargers), solar: sum(solar) };
  const measured = (found.battery.w ?? 0) + (found.chargers.w ?? 0) + (found.solar.w ?? 0);
  return { grid: grid ?? null, ...found, other: grid === null || grid === undefined ? null : grid - measured };
}

/** Whether, and which way: 1 towards the site's middle, -1 from it, 0 nothing flows or it is not known. */
export function direction(w: number | null, source: boolean): -1 | 0 | 1 {
  if (w === null || Math.abs(w) < QUIET_W) return 0;
  return w > 0 === source ? 1 : -1;
}

/** How strong a flow is drawn, 1 to 5, against the strongest one of the picture. */
export function strength(w: number | null, strongest: number): 1 | 2 | 3 | 4 | 5 {
  if (w === null || strongest <= 0) return 1;
  return Math.max(1, Math.min(5, Math.ceil(Math.sqrt(Math.abs(w) / strongest) * 5))) as 1 | 2 | 3 | 4 | 5;
}
