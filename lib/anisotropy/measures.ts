/**
 * How uneven a spectrum is, in one number each. Exact functions of all eigenvalues l_1 .. l_p;
 * negative ones count by their magnitude. None but the effective dimension changes when the
 * spectrum is multiplied by a number or permuted. Of a spectrum of zeros all are 0.
 */
import { OptionError } from "../errors";
import { describe } from "../options";
import { magnitudes, type Spectrum, sum } from "./magnitudes";

/**
 * (sum l)^2 / sum l^2: from 1, one direction, to p, a sphere. tr(A)^2 / ||A||_F^2 where no
 * eigenvalue is negative.
 */
export function participationRatio(spectrum: Spectrum): number {
  const { relative: l, largest } = magnitudes("participationRatio", spectrum);
  if (largest === 0) return 0;
  return sum(l.length, (i) => l[i]!) ** 2 / sum(l.length, (i) => l[i]! * l[i]!);
}

function entropy(l: Float64Array): number {
  const total = sum(l.length, (i) => l[i]!);
  return sum(l.length, (i) => {
    const share = l[i]! / total;
    return share > 0 ? -share * Math.log(share) : 0;
  });
}

/**
 * exp(H), where H = -sum pi ln pi over the shares pi = l / sum l (Roy and Vetterli 2007, who take
 * singular values); 0 ln 0 = 0. From 1 to p.
 */
export function effectiveRank(spectrum: Spectrum): number {
  const { relative, largest } = magnitudes("effectiveRank", spectrum);
  return largest === 0 ? 0 : Math.exp(entropy(relative));
}

/** The entropy of the shares over ln p: from 0, one direction, to 1, a sphere. 1 where p = 1. */
export function normalizedEntropy(spectrum: Spectrum): number {
  const { relative, largest } = magnitudes("normalizedEntropy", spectrum);
  if (largest === 0) return 0;
  return relative.length === 1 ? 1 : entropy(relative) / Math.log(relative.length);
}

/** sum l / l_1: how many directions as strong as the first would have the trace. */
export function intrinsicDimension(spectrum: Spectrum): number {
  const { relative } = magnitudes("intrinsicDimension", spectrum);
  return sum(relative.length, (i) => relative[i]!);
}

/**
 * ||A||_F^2 / ||A||_2^2 of the matrix A itself, sum l^2 / l_1^2. Not the stable rank of a factor of
 * it: see `stableRankOfRoot`.
 */
export function stableRank(spectrum: Spectrum): number {
  const { relative } = magnitudes("stableRank", spectrum);
  return sum(relative.length, (i) => relative[i]! ** 2);
}

/**
 * ||B||_F^2 / ||B||_2^2 of a root B, A = B^T B, such as the Jacobian of a Gauss-Newton matrix: sum l
 * / l_1, the same number as the intrinsic dimension of A.
 */
export function stableRankOfRoot(spectrum: Spectrum): number {
  const { relative } = magnitudes("stableRankOfRoot", spectrum);
  return sum(relative.length, (i) => relative[i]!);
}

/**
 * l_1 / l_r, where l_r is the smallest eigenvalue above `relativeTolerance` times l_1.
 *
 * @param relativeTolerance default p * 2^-52
 */
export function conditionNumber(spectrum: Spectrum, relativeTolerance?: number): number {
  const { relative, largest } = magnitudes("conditionNumber", spectrum);
  if (largest === 0) return 0;
  return 1 / relative[countAbove(relative, relativeTolerance ?? relative.length * 2 ** -52) - 1]!;
}

/** How many of numbers, largest first, are above `threshold`. */
export function countAbove(descending: Float64Array, threshold: number): number {
  let [low, high] = [0, descending.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (descending[middle]! > threshold) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** sum_ij |l_i - l_j| / (2 p sum l): from 0, all equal, to 1 - 1/p, one direction. */
export function gini(spectrum: Spectrum): number {
  const { relative: l, largest } = magnitudes("gini", spectrum);
  if (largest === 0) return 0;
  const p = l.length;
  // Sorted: sum_ij |l_i - l_j| = 2 sum_i (p - 1 - 2 i) l_i.
  const spread = sum(p, (i) => (p - 1 - 2 * i) * l[i]!);
  return spread / (p * sum(p, (i) => l[i]!));
}

/** The share of the k largest in the sum. */
export function topMass(spectrum: Spectrum, k: number): number {
  const { relative: l, largest } = magnitudes("topMass", spectrum);
  if (!Number.isSafeInteger(k) || k < 1 || k > l.length)
    throw new OptionError(
      `topMass: k: expected a whole number from 1 to ${l.length}, the number of eigenvalues, ` +
        `got ${describe(k)}`,
    );
  if (largest === 0) return 0;
  return sum(k, (i) => l[i]!) / sum(l.length, (i) => l[i]!);
}

/** How many eigenvalues are above tau times the largest. */
export function countAboveShare(spectrum: Spectrum, tau: number): number {
  const { relative, largest } = magnitudes("countAboveShare", spectrum);
  if (typeof tau !== "number" || !(tau >= 0) || tau > 1)
    throw new OptionError(
      `countAboveShare: tau: expected a number from 0 to 1, got ${describe(tau)}`,
    );
  return largest === 0 ? 0 : countAbove(relative, tau);
}

/**
 * sum l / (l + z) (MacKay 1992): the number of directions that the data determine against a prior
 * of precision z.
 *
 * @param z in the units of the eigenvalues, over 0
 */
export function effectiveDimension(spectrum: Spectrum, z: number): number {
  const { relative: l, largest } = magnitudes("effectiveDimension", spectrum);
  if (typeof z !== "number" || !(z > 0) || !Number.isFinite(z))
    throw new OptionError(`effectiveDimension: z: expected a number over 0, got ${describe(z)}`);
  if (largest === 0) return 0;
  const share = z / largest;
  return sum(l.length, (i) => l[i]! / (l[i]! + share));
}
