/** Axes on which densities are shown, and smoothing on them. */

export type AxisName = "linear" | "log" | "symlog";

/** A monotone map of eigenvalues, and back. */
export interface Axis {
  to: (value: number) => number;
  from: (u: number) => number;
}

/** The symmetric logarithm is linear below `threshold`, and log10 |x / threshold| well above. */
export function axisOf(name: AxisName, threshold: number): Axis {
  switch (name) {
    case "linear":
      return { to: (x) => x, from: (u) => u };
    case "log":
      return { to: Math.log10, from: (u) => 10 ** u };
    case "symlog":
      return {
        to: (x) => Math.asinh(x / (2 * threshold)) / Math.LN10,
        from: (u) => 2 * threshold * Math.sinh(u * Math.LN10),
      };
  }
}

/** A Gaussian is cut off at so many standard deviations, and what is left scaled to 1. */
export const CUT = 4;

/** erf by its series of positive terms; for |x| up to 3. */
function erf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

const INSIDE = erf(CUT / Math.SQRT2);

/** The share of a cut Gaussian below z standard deviations. */
function normalBelow(z: number): number {
  if (z <= -CUT) return 0;
  if (z >= CUT) return 1;
  return 0.5 * (1 + erf(z / Math.SQRT2) / INSIDE);
}

/**
 * The mass that points with a Gaussian kernel put into each of `count` equal cells from `low` to
 * `high`. Nothing is lost as long as the kernels fit between the ends, however narrow they are.
 */
export function smooth(
  points: ArrayLike<number>,
  weights: ArrayLike<number>,
  sigma: number,
  low: number,
  high: number,
  count: number,
): Float64Array {
  const mass = new Float64Array(count);
  const width = (high - low) / count;
  const cell = (u: number) => Math.min(count - 1, Math.max(0, Math.floor((u - low) / width)));
  for (let i = 0; i < points.length; i++) {
    const at = points[i]!;
    const last = cell(at + CUT * sigma);
    let before = 0;
    for (let j = cell(at - CUT * sigma); j <= last; j++) {
      const after = j === last ? 1 : normalBelow((low + (j + 1) * width - at) / sigma);
      mass[j]! += weights[i]! * (after - before);
      before = after;
    }
  }
  return mass;
}

/** The median gap between neighbours, over all probes; 0 where there is none. */
export function medianGap(probes: readonly ArrayLike<number>[]): number {
  const gaps = probes.flatMap((points) =>
    Array.from({ length: Math.max(0, points.length - 1) }, (_, i) => points[i + 1]! - points[i]!),
  );
  gaps.sort((a, b) => a - b);
  return gaps[Math.floor(gaps.length / 2)] ?? 0;
}
