/** How a spectrum decays: as a power of the index, exponentially, or with a power-law tail. */
import { OptionError } from "../errors";
import { describe } from "../options";
import { magnitudes, relativeTolerance, type Spectrum } from "./magnitudes";
import { countAbove } from "./measures";

/** The indices that a fit uses, counted from 1, both included. */
export type IndexWindow = readonly [from: number, to: number];

/** A straight line through ln l. */
export interface DecayFit {
  /** Of power: s in l_i ~ i^-s. Of exponential: b in l_i ~ exp(-b i). */
  rate: number;
  /** ln l where the line's abscissa (ln i, or i) is 0. */
  intercept: number;
  /** 1 minus the residual over the variance of ln l; 1 for a spectrum that is flat. */
  r2: number;
  /** Root of the mean squared residual of ln l. */
  rms: number;
  window: IndexWindow;
}

/** Both fits of ln l, which have as many parameters and the same data and so can be compared. */
export interface Decay {
  power: DecayFit;
  exponential: DecayFit;
  /** The one with the smaller residual; "equal" where they differ by less than rounding. */
  better: "power" | "exponential" | "equal";
}

function line(x: readonly number[], y: readonly number[], window: IndexWindow): DecayFit {
  const n = x.length;
  const mean = (values: readonly number[]) => values.reduce((sum, v) => sum + v, 0) / n;
  const [mx, my] = [mean(x), mean(y)];
  let [xx, xy, yy] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    const [dx, dy] = [x[i]! - mx, y[i]! - my];
    xx += dx * dx;
    xy += dx * dy;
    yy += dy * dy;
  }
  const slope = xy / xx;
  const rest = x.reduce((sum, xi, i) => sum + (y[i]! - my - slope * (xi - mx)) ** 2, 0);
  // What rounding of logarithms makes of a flat spectrum is no variance.
  const flat = yy <= n * (1e-14 * Math.max(1, ...y.map(Math.abs))) ** 2;
  return {
    rate: -slope,
    intercept: my - slope * mx,
    r2: flat ? 1 : 1 - rest / yy,
    rms: Math.sqrt(rest / n),
    window,
  };
}

/**
 * Least squares of ln l_i against ln i (a power law) and against i (an exponential, the "sloppy"
 * spectrum of Waterfall et al. 2006: evenly spread in its logarithm).
 *
 * @param window default: all eigenvalues above p * 2^-52 times the largest
 * @returns undefined where the window holds fewer than three positive eigenvalues, which any line
 * of either kind fits
 * @throws OptionError where the window is not within the spectrum, or holds a zero
 */
export function decay(spectrum: Spectrum, window?: IndexWindow, tol?: number): Decay | undefined {
  const { relative, largest } = magnitudes("decay", spectrum);
  const range = countAbove(relative, tol ?? relativeTolerance(relative.length));
  const [from, to] = window ?? [1, range];
  if (window !== undefined) {
    const fits = Number.isSafeInteger(from) && Number.isSafeInteger(to) && 1 <= from && from < to;
    if (!fits || to > relative.length)
      throw new OptionError(
        `decay: window: expected [from, to] with 1 <= from < to <= ${relative.length}, got ` +
          `[${window}]`,
      );
    if (!(relative[to - 1]! > 0))
      throw new OptionError(
        `decay: window: expected nonzero eigenvalues, and eigenvalue ${to} is 0; ` +
          `use [${from}, ${Math.max(from, range)}]`,
      );
  }
  if (largest === 0 || to - from + 1 < 3) return undefined;
  const index = Array.from({ length: to - from + 1 }, (_, i) => from + i);
  const y = index.map((i) => Math.log(relative[i - 1]!) + Math.log(largest));
  const power = line(index.map(Math.log), y, [from, to]);
  const exponential = line(index, y, [from, to]);
  const apart = Math.abs(power.rms - exponential.rms);
  const equal = apart <= 1e-12 * Math.max(1, ...y.map(Math.abs));
  const better = equal ? "equal" : power.rms < exponential.rms ? "power" : "exponential";
  return { power, exponential, better };
}

/** The density of eigenvalues as l^-alpha above a threshold. */
export interface TailFit {
  /** 1 + m / sum ln(l / lmin). A spectrum l_i = i^-s has alpha near 1 + 1/s. */
  alpha: number;
  /** (alpha - 1) / sqrt(m). */
  standardError: number;
  /** Where the tail begins: its smallest eigenvalue. */
  lmin: number;
  /** m, the eigenvalues of the tail. */
  count: number;
  /** Kolmogorov-Smirnov: the largest distance of the tail's distribution from the fitted one. */
  ks: number;
}

export interface TailOptions {
  /** Where the tail begins. Default: where the distance `ks` is least. */
  lmin?: number | undefined;
  /** Fewest eigenvalues of a tail whose begin is searched for. Default 10, or all. */
  minCount?: number | undefined;
  /** Relative to the largest, what counts as zero. Default p * 2^-52. */
  tol?: number | undefined;
}

/** No more thresholds than these are tried, evenly spread over the indices. */
const THRESHOLDS = 300;

/**
 * The maximum-likelihood exponent of a power-law tail with its goodness (Clauset, Shalizi and Newman
 * 2009, section 3).
 *
 * @returns undefined where fewer than two different positive eigenvalues are left
 */
export function powerLawTail(spectrum: Spectrum, options: TailOptions = {}): TailFit | undefined {
  const { relative, largest } = magnitudes("powerLawTail", spectrum);
  if (largest === 0) return undefined;
  const range = countAbove(relative, options.tol ?? relativeTolerance(relative.length));
  const { lmin, minCount = Math.min(10, range) } = options;
  for (const [name, value] of Object.entries({ lmin, minCount }))
    if (value !== undefined && !(typeof value === "number" && value > 0))
      throw new OptionError(
        `powerLawTail: ${name}: expected a number over 0, got ${describe(value)}`,
      );
  const logs = Float64Array.from(relative.subarray(0, range), Math.log);
  const sums = new Float64Array(range + 1);
  for (let i = 0; i < range; i++) sums[i + 1] = sums[i]! + logs[i]!;
  const fitted = (count: number, threshold: number): TailFit | undefined => {
    const begin = Math.log(threshold);
    const excess = sums[count]! - count * begin;
    if (!(excess > 1e-12 * count)) return undefined;
    const exponent = count / excess;
    let ks = 0;
    for (let i = 0; i < count; i++) {
      // The share of the tail at or above eigenvalue i, against (l / lmin)^(1 - alpha).
      const model = Math.exp(-exponent * (logs[i]! - begin));
      ks = Math.max(ks, Math.abs(i / count - model), Math.abs((i + 1) / count - model));
    }
    const alpha = 1 + exponent;
    return {
      alpha,
      standardError: exponent / Math.sqrt(count),
      lmin: threshold * largest,
      count,
      ks,
    };
  };
  if (lmin !== undefined) {
    const threshold = lmin / largest;
    let count = 0;
    while (count < range && relative[count]! >= threshold) count++;
    return count < 2 ? undefined : fitted(count, threshold);
  }
  let best: TailFit | undefined;
  const first = Math.max(2, minCount);
  const stride = Math.max(1, (range - first) / THRESHOLDS);
  for (let at = first; at <= range; at += stride) {
    let count = Math.floor(at);
    const threshold = relative[count - 1]!;
    while (count < range && relative[count] === threshold) count++;
    const found = fitted(count, threshold);
    if (found && (best === undefined || found.ks < best.ks)) best = found;
  }
  return best;
}
