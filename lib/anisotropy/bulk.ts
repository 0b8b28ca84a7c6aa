/** Outliers of a spectrum against its bulk. */
import { OptionError } from "../errors";
import { describe } from "../options";
import { magnitudes, relativeTolerance, type Spectrum } from "./magnitudes";
import { countAbove } from "./measures";

/** The limit law of the eigenvalues of (1/n) X^T X for n samples of p independent entries. */
export interface MarchenkoPastur {
  /** variance * (1 - sqrt(p/n))^2: the lower edge of the part that is not 0. */
  lower: number;
  /** variance * (1 + sqrt(p/n))^2. */
  upper: number;
  /** The share of eigenvalues that are 0, where p > n. */
  zeros: number;
}

function positive(where: string, given: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(given))
    if (typeof value !== "number" || !(value > 0) || !Number.isFinite(value))
      throw new OptionError(`${where}: ${name}: expected a number over 0, got ${describe(value)}`);
}

/**
 * The edges of the spectrum that noise alone would have (Marchenko and Pastur 1967).
 *
 * @param n samples; for a Gauss-Newton matrix samples times outputs
 * @param p parameters
 * @param variance of an entry; see `marchenkoPasturVariance`
 */
export function marchenkoPastur(n: number, p: number, variance = 1): MarchenkoPastur {
  positive("marchenkoPastur", { n, p, variance });
  const root = Math.sqrt(p / n);
  return {
    lower: variance * (1 - root) ** 2,
    upper: variance * (1 + root) ** 2,
    zeros: Math.max(0, 1 - n / p),
  };
}

/** The share of the nonzero part of the law below x, for variance 1. */
function shareBelow(n: number, p: number, x: number): number {
  const { lower, upper } = marchenkoPastur(n, p);
  if (x <= lower) return 0;
  if (x >= upper) return 1;
  // x = centre - radius cos(t) takes the roots at the edges away: f dx = radius^2 sin^2 t / (2 pi
  // ratio x) dt, integrated by the midpoint rule, and by 1 over the nonzero part.
  const [centre, radius] = [(upper + lower) / 2, (upper - lower) / 2];
  const end = Math.acos((centre - x) / radius);
  const steps = 2000;
  let total = 0;
  for (let i = 0; i < steps; i++) {
    const t = ((i + 0.5) * end) / steps;
    const at = centre - radius * Math.cos(t);
    total += Math.sin(t) ** 2 / at;
  }
  const ratio = p / n;
  const nonzero = Math.min(1, n / p);
  return (total * (end / steps) * radius ** 2) / (2 * Math.PI * ratio) / nonzero;
}

/** Where an increasing function of [low, high] reaches `wanted`. */
function bisect(low: number, high: number, wanted: number, f: (x: number) => number): number {
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (f(middle) < wanted) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/**
 * The variance for which the median of the nonzero eigenvalues is that of the law (the estimate of
 * Gavish and Donoho 2014): outliers hardly move it.
 */
export function marchenkoPasturVariance(spectrum: Spectrum, n: number, p: number): number {
  positive("marchenkoPasturVariance", { n, p });
  const { relative, largest } = magnitudes("marchenkoPasturVariance", spectrum);
  const count = Math.min(relative.length, Math.round(Math.min(n, p)));
  const bulk = relative.subarray(0, count);
  const median = (bulk[(count - 1) >> 1]! + bulk[count >> 1]!) / 2;
  const { lower, upper } = marchenkoPastur(n, p);
  return (median * largest) / bisect(lower, upper, 0.5, (x) => shareBelow(n, p, x));
}

/** What lies outside of the bulk. */
export interface Outliers {
  count: number;
  rule: "gap" | "marchenko-pastur" | "semicircle";
  /** What is above it is an outlier; NaN where the rule finds no edge. */
  edge: number;
  /** gap: the smallest outlier over the largest of the bulk; NaN without outliers. */
  gap: number;
  /** marchenko-pastur: the variance that was used. */
  variance?: number;
}

export interface OutlierOptions {
  /**
   * "gap" (default): the bulk ends at the largest ratio l_i / l_(i+1) among the upper half of the
   * eigenvalues above p * 2^-52 times the largest, if it is at least `minGap`. "marchenko-pastur":
   * outliers are above the upper edge for `samples`; for matrices of the form J^T J. "semicircle":
   * above the radius of a semicircle with the same median magnitude, for indefinite bulks.
   */
  rule?: Outliers["rule"] | undefined;
  /** gap: default 2. */
  minGap?: number | undefined;
  /** gap: relative to the largest, what counts as zero. Default p * 2^-52. */
  tol?: number | undefined;
  /** marchenko-pastur: n. */
  samples?: number | undefined;
  /** marchenko-pastur: default `marchenkoPasturVariance`. */
  variance?: number | undefined;
}

/** Counts eigenvalues, by magnitude, that stand out of the bulk by a stated rule. */
export function outliers(spectrum: Spectrum, options: OutlierOptions = {}): Outliers {
  const { rule = "gap", minGap = 2, samples } = options;
  const { relative, largest } = magnitudes("outliers", spectrum);
  const p = relative.length;
  const none: Outliers = { count: 0, rule, edge: Number.NaN, gap: Number.NaN };
  if (largest === 0) return none;
  const above = (edge: number): Outliers => {
    const count = countAbove(relative, edge / largest);
    const gap = count > 0 && count < p ? relative[count - 1]! / relative[count]! : Number.NaN;
    return { count, rule, edge, gap };
  };
  if (rule === "gap") {
    positive("outliers", { minGap });
    const range = countAbove(relative, options.tol ?? relativeTolerance(p));
    let [best, ratio] = [0, 0];
    for (let i = 1; i <= range / 2; i++)
      if (relative[i - 1]! / relative[i]! > ratio)
        [best, ratio] = [i, relative[i - 1]! / relative[i]!];
    return ratio < minGap
      ? none
      : { count: best, rule, edge: relative[best]! * largest, gap: ratio };
  }
  if (rule === "marchenko-pastur") {
    if (samples === undefined)
      throw new OptionError("outliers: samples: expected their number for marchenko-pastur");
    const variance = options.variance ?? marchenkoPasturVariance(spectrum, samples, p);
    if (variance === 0) return { ...none, variance };
    return { ...above(marchenkoPastur(samples, p, variance).upper), variance };
  }
  if (rule !== "semicircle")
    throw new OptionError(
      `outliers: rule: expected gap, marchenko-pastur or semicircle, got ${describe(rule)}`,
    );
  const median = (relative[(p - 1) >> 1]! + relative[p >> 1]!) / 2;
  if (median === 0) return none;
  const half = bisect(0, 1, 0.5, (x) => (2 / Math.PI) * (x * Math.sqrt(1 - x * x) + Math.asin(x)));
  return above((median / half) * largest);
}
