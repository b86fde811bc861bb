// The spread of a battery's cells. Pure.

export interface Spread {
  low: number | null;
  high: number | null;
  /** Numbers of the cells, where they are known. */
  lowAt: number | null;
  highAt: number | null;
}

/** From each cell where there are any; or else what the BMS says of them, V. */
export function spreadOf(cells: readonly { n: number; value: number | null }[], low: number | null, high: number | null): Spread {
  const known = cells.filter((one): one is { n: number; value: number } => one.value !== null);
  if (!known.length) return { low, high, lowAt: null, highAt: null };
  const least = known.reduce((one, other) => (other.value < one.value ? other : one));
  const most = known.reduce((one, other) => (other.value > one.value ? other : one));
  return { low: least.value, high: most.value, lowAt: least.n, highAt: most.n };
}

/** From which to which voltage bars are drawn, so that some mV are seen and a bar never jumps: whole steps of 50 mV around all. */
export function windowOf(low: number | null, high: number | null): [number, number] {
  if (low === null || high === null) return [0, 1];
  const step = high - low > 0.4 ? 0.25 : 0.05;
  return [round(Math.floor(low / step - 0.5) * step), round(Math.ceil(high / step + 0.2) * step)];
}

const round = (value: number): number => Math.round(value * 1000) / 1000;
