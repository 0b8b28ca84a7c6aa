/** All measures of a spectrum of which every eigenvalue is known. */
import { type Check, check, checkOptions } from "../options";
import { type Outliers, outliers } from "./bulk";
import { type Decay, decay, type IndexWindow, powerLawTail, type TailFit } from "./fits";
import { magnitudes, relativeTolerance, type Spectrum, sum } from "./magnitudes";
import {
  conditionNumber,
  countAbove,
  countAboveShare,
  effectiveDimension,
  effectiveRank,
  gini,
  intrinsicDimension,
  normalizedEntropy,
  participationRatio,
  stableRank,
  stableRankOfRoot,
  topMass,
} from "./measures";

export interface MeasureOptions {
  /** For `topMass`. Default 1, 10 and 100, as far as there are so many eigenvalues. */
  top?: readonly number[] | undefined;
  /** For `countAbove`, shares of the largest. Default 0.1, 0.01 and 0.001. */
  tau?: readonly number[] | undefined;
  /** For `effectiveDimension`, in the units of the eigenvalues. Default: tau times the largest. */
  z?: readonly number[] | undefined;
  /** Of the fits of decay. Default: the eigenvalues above `tolerance`. */
  window?: IndexWindow | undefined;
  /** n of the Marchenko-Pastur law; outliers are then counted against it as well. */
  samples?: number | undefined;
}

const numbers = (least: number, most: number, expected: string): Check => ({
  expected: `an array of ${expected}`,
  fits: (value) =>
    Array.isArray(value) && value.every((x) => typeof x === "number" && x > least && x <= most),
});

/** @internal */
export const MEASURE_OPTIONS: { [K in keyof Required<MeasureOptions>]: Check } = {
  top: {
    expected: "an array of whole numbers of at least 1",
    fits: (value) => Array.isArray(value) && value.every((k) => Number.isSafeInteger(k) && k >= 1),
  },
  tau: numbers(0, 1, "shares over 0 and at most 1"),
  z: numbers(0, Number.MAX_VALUE, "numbers over 0"),
  window: {
    expected: "[from, to], indices from 1",
    fits: (value) =>
      Array.isArray(value) && value.length === 2 && value.every(Number.isSafeInteger),
  },
  samples: check.positiveInteger,
};

export interface ExactMeasures {
  source: "exact";
  /** Whether there are negative eigenvalues, and the measures are of |lambda|. */
  absolute: boolean;
  dim: number;
  /** The largest |lambda|. */
  largest: number;
  /** sum lambda, with signs. */
  trace: number;
  /** sum |lambda|. */
  nuclear: number;
  frobenius: number;
  /** Eigenvalues above `tolerance`: what `condition` and the fits are taken over. */
  rank: number;
  /** p * 2^-52 times the largest |lambda|; 1e-6 times, for eigenvalues of float32 operators. */
  tolerance: number;
  /** Each as the function of its name, of |lambda|. */
  participationRatio: number;
  effectiveRank: number;
  normalizedEntropy: number;
  intrinsicDimension: number;
  /** ||A||_F^2 / ||A||_2^2 of the matrix itself. */
  stableRank: number;
  /** ||B||_F^2 / ||B||_2^2 of its root, A = B^T B. */
  stableRankOfRoot: number;
  condition: number;
  gini: number;
  topMass: { k: number; share: number }[];
  countAbove: { tau: number; count: number }[];
  effectiveDimension: { z: number; value: number }[];
  /** Absent where fewer than three eigenvalues are above `tolerance`. */
  decay?: Decay;
  /** Absent where no two of them differ. */
  tail?: TailFit;
  outliers: Outliers[];
}

/**
 * Every measure of a whole spectrum: participation ratio, effective rank, stable ranks, decay,
 * outliers and the others, by their definitions. Costs no product.
 *
 * @param spectrum all eigenvalues, in any order
 * @param dtype what they were computed in, for `tolerance`
 * @throws OptionError; DataMismatchError where an eigenvalue is not finite
 */
export function spectrumMeasures(
  spectrum: Spectrum,
  options?: MeasureOptions,
  dtype: "float32" | "float64" = "float64",
): ExactMeasures {
  const given = checkOptions("spectrumMeasures", options, MEASURE_OPTIONS);
  const { relative, largest, lowest } = magnitudes("spectrumMeasures", spectrum);
  const dim = relative.length;
  const share = relativeTolerance(dim, dtype);
  const rank = largest === 0 ? 0 : countAbove(relative, share);
  const tau = given.tau ?? [0.1, 0.01, 0.001];
  const z = given.z ?? (largest === 0 ? [] : tau.map((t) => t * largest));
  const top = (given.top ?? [1, 10, 100]).filter((k) => k <= dim);
  const decaying = decay(spectrum, given.window, share);
  const tail = powerLawTail(spectrum, { tol: share });
  return {
    source: "exact",
    absolute: lowest < -share * largest,
    dim,
    largest,
    trace: sum(dim, (i) => spectrum[i]! / (largest || 1)) * largest,
    nuclear: sum(dim, (i) => relative[i]!) * largest,
    frobenius: Math.sqrt(sum(dim, (i) => relative[i]! ** 2)) * largest,
    rank,
    tolerance: share * largest,
    participationRatio: participationRatio(spectrum),
    effectiveRank: effectiveRank(spectrum),
    normalizedEntropy: normalizedEntropy(spectrum),
    intrinsicDimension: intrinsicDimension(spectrum),
    stableRank: stableRank(spectrum),
    stableRankOfRoot: stableRankOfRoot(spectrum),
    condition: conditionNumber(spectrum, share),
    gini: gini(spectrum),
    topMass: top.map((k) => ({ k, share: topMass(spectrum, k) })),
    countAbove: tau.map((t) => ({ tau: t, count: countAboveShare(spectrum, t) })),
    effectiveDimension: z.map((value) => ({
      z: value,
      value: effectiveDimension(spectrum, value),
    })),
    ...(decaying && { decay: decaying }),
    ...(tail && { tail }),
    outliers: [
      outliers(spectrum, { tol: share }),
      ...(given.samples === undefined
        ? []
        : [outliers(spectrum, { rule: "marchenko-pastur", samples: given.samples })]),
    ],
  };
}
