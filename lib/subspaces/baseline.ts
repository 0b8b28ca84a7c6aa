/** What chance alone would give: overlaps of random subspaces and random masks. */
import type { Random } from "../random";
import type { Rows } from "./orthonormal";

/** How large a number is by chance. */
export interface Baseline {
  /** Exactly. */
  expected: number;
  /** Holds 95 % of random draws. */
  band: [low: number, high: number];
  draws: number;
}

/** The middle 95 % of draws. */
export function bandOf(draws: number[]): [number, number] {
  const sorted = Float64Array.from(draws).sort();
  const at = (share: number) => {
    const place = share * (sorted.length - 1);
    const low = Math.floor(place);
    const high = Math.min(low + 1, sorted.length - 1);
    return sorted[low]! + (place - low) * (sorted[high]! - sorted[low]!);
  };
  return [at(0.025), at(0.975)];
}

/** In place, the lower triangle of a symmetric matrix becomes its Cholesky factor. */
function factor(a: Rows): void {
  const n = a.length;
  for (let j = 0; j < n; j++) {
    for (let k = 0; k < j; k++) a[j]![j]! -= a[j]![k]! ** 2;
    a[j]![j] = Math.sqrt(a[j]![j]!);
    for (let i = j + 1; i < n; i++) {
      for (let k = 0; k < j; k++) a[i]![j]! -= a[i]![k]! * a[j]![k]!;
      a[i]![j]! /= a[j]![j]!;
    }
  }
}

/** Adds the Gram matrix of `count` Gaussian rows to the lower triangle; gives the rows. */
function addGaussian(sum: Rows, count: number, random: Random): Rows {
  const n = sum.length;
  const rows = Array.from({ length: count }, () =>
    Float64Array.from({ length: n }, () => random.normal()),
  );
  for (const row of rows)
    for (let i = 0; i < n; i++) for (let j = 0; j <= i; j++) sum[i]![j]! += row[i]! * row[j]!;
  return rows;
}

/** The same for many rows, by the triangle that Bartlett (1933) gives for their Gram matrix. */
function addWishart(sum: Rows, count: number, random: Random): void {
  const n = sum.length;
  const triangle = Array.from({ length: n }, (_, i) =>
    Float64Array.from({ length: i + 1 }, (_, j) =>
      i === j ? Math.sqrt(random.chiSquare(count - i)) : random.normal(),
    ),
  );
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++)
      for (let k = 0; k <= j; k++) sum[i]![j]! += triangle[i]![k]! * triangle[j]![k]!;
}

/**
 * A draw of ||V^T W||_F^2 for a random subspace V of dimension k and any W of dimension l in R^p.
 * V spans a Gaussian matrix G; its share in the first l coordinates is tr(A (A + B)^-1) with the
 * Gram matrices A and B of the first and the other rows of G. B is drawn as a whole, so that the
 * cost does not depend on p.
 */
export function randomOverlap(k: number, l: number, p: number, random: Random): number {
  const [small, large] = k < l ? [k, l] : [l, k];
  const sum = Array.from({ length: small }, () => new Float64Array(small));
  const first = addGaussian(sum, large, random);
  if (p - large >= small) addWishart(sum, p - large, random);
  else addGaussian(sum, p - large, random);
  factor(sum);
  let total = 0;
  for (const row of first)
    for (let i = 0; i < small; i++) {
      for (let j = 0; j < i; j++) row[i]! -= sum[i]![j]! * row[j]!;
      row[i]! /= sum[i]![i]!;
      total += row[i]! ** 2;
    }
  return total;
}
