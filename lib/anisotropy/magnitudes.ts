/** Spectra as measures take them: magnitudes, largest first, over the largest. */
import { DataMismatchError, OptionError } from "../errors";
import { describe } from "../options";

/** Eigenvalues in any order; those of negative sign count by their magnitude. */
export type Spectrum = ArrayLike<number>;

export interface Magnitudes {
  /** |lambda| / largest, largest first; all 0 for a spectrum of zeros. */
  relative: Float64Array;
  /** The largest |lambda|. */
  largest: number;
  /** The smallest lambda, with its sign. */
  lowest: number;
}

/**
 * Checks and sorts a spectrum. The division by the largest keeps squares from overflowing, and makes
 * every measure of the shape the same for c times the spectrum.
 *
 * @throws OptionError where there are no numbers; DataMismatchError where one is not finite
 */
export function magnitudes(where: string, spectrum: Spectrum): Magnitudes {
  if (
    typeof spectrum !== "object" ||
    spectrum === null ||
    !Number.isSafeInteger(spectrum.length) ||
    spectrum.length < 1
  )
    throw new OptionError(
      `${where}: expected eigenvalues, at least one number, got ${describe(spectrum)}`,
    );
  const relative = new Float64Array(spectrum.length);
  let largest = 0;
  let lowest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < relative.length; i++) {
    const value = spectrum[i]!;
    if (typeof value !== "number" || !Number.isFinite(value))
      throw new DataMismatchError(
        `${where}: expected finite eigenvalues, got ${describe(value)} at index ${i}`,
      );
    relative[i] = Math.abs(value);
    largest = Math.max(largest, relative[i]!);
    lowest = Math.min(lowest, value);
  }
  if (largest > 0) for (let i = 0; i < relative.length; i++) relative[i]! /= largest;
  relative.sort().reverse();
  return { relative, largest, lowest };
}

/** Products in float32 carry noise of about this, relative to the largest eigenvalue. */
export const NOISE_FLOAT32 = 1e-6;
export const EPSILON = 2 ** -52;

/**
 * Relative to the largest eigenvalue, what counts as zero: dim * 2^-52, NumPy's convention for
 * ranks (`numpy.linalg.matrix_rank`); for eigenvalues of an operator in float32, its noise where
 * that is more.
 */
export function relativeTolerance(dim: number, dtype: "float32" | "float64" = "float64"): number {
  return Math.max(dim * EPSILON, dtype === "float32" ? NOISE_FLOAT32 : 0);
}

/** Sums from the small end, for the last digits. */
export function sum(count: number, term: (i: number) => number): number {
  let total = 0;
  for (let i = count - 1; i >= 0; i--) total += term(i);
  return total;
}
