/** The numerical rank of a matrix, with the gap that it is read off. */
import { allEigenvalues } from "../all-eigenvalues";
import { EPSILON, magnitudes, type Spectrum } from "../anisotropy/magnitudes";
import { countAbove } from "../anisotropy/measures";
import { CALL_OPTIONS, type CallOptions } from "../call";
import { OptionError } from "../errors";
import { LinearOperator } from "../linear-operator";
import { type Check, check, checkOptions, typeName } from "../options";

export interface RankOptions {
  /** Relative to the scale: |lambda| > tol * scale counts. Default dim * 2^-52. */
  tol?: number | undefined;
  /**
   * What the tolerance is relative to. Default: the largest |lambda|. For a part of a sum, such as
   * H_f of H = H_o + H_f, give the largest |lambda| of the sum: at the optimum a part may be
   * nothing but the rounding of the whole.
   */
  scale?: number | undefined;
}

export interface OperatorRankOptions extends RankOptions, CallOptions {}

const RANK_OPTIONS: { [K in keyof Required<RankOptions>]: Check } = {
  tol: check.notNegative,
  scale: check.notNegative,
};

/** A kept eigenvalue so much above the tolerance is certainly no rounding. */
const CLEAR = 100;

export interface NumericalRank {
  source: "exact";
  rank: number;
  dim: number;
  /** Eigenvalues of larger magnitude count. */
  tolerance: number;
  /** How it came about: "max |lambda| * dim * 2^-52". */
  formula: string;
  /** The smallest |lambda| that counts; NaN where none does. */
  smallestKept: number;
  /** The largest |lambda| that does not; NaN where all do. */
  largestDropped: number;
  /** smallestKept / largestDropped; Infinity where what is dropped is 0; NaN without either. */
  gap: number;
  log10Gap: number;
  /**
   * Whether the smallest kept |lambda| is at least 100 times the tolerance, so that neither rounding
   * nor another choice of the tolerance nearby changes the rank.
   */
  certain: boolean;
  /** All eigenvalues by magnitude, largest first. */
  magnitudes: Float64Array;
}

export interface OperatorRank extends NumericalRank {
  products: number;
  seconds: number;
}

/**
 * How many eigenvalues are not zero: those above max |lambda| * dim * 2^-52, the convention of
 * `numpy.linalg.matrix_rank` in float64. Says by `gap` and `certain` how clear that is.
 *
 * Of an operator it needs the whole spectrum: dim products and a dense matrix. Float32 is refused:
 * its rounding, 1e-6 of the largest eigenvalue, hides small eigenvalues and makes others (Singh,
 * Bachmann and Hofmann 2021 count ranks of Hessians in float64 for that reason).
 *
 * @param subject all eigenvalues, in any order, or an operator in float64
 * @throws OptionError for float32; MemoryBudgetError where the matrix does not fit: restrict the
 * operator; DataMismatchError where an eigenvalue is not finite; AbortError
 */
export function numericalRank(
  subject: LinearOperator,
  options?: OperatorRankOptions,
): Promise<OperatorRank>;
export function numericalRank(subject: Spectrum, options?: RankOptions): NumericalRank;
export function numericalRank(
  subject: LinearOperator | Spectrum,
  options?: OperatorRankOptions,
): Promise<OperatorRank> | NumericalRank {
  return subject instanceof LinearOperator
    ? rankOfOperator(subject, options)
    : rankOfSpectrum(subject, checkOptions<RankOptions>("numericalRank", options, RANK_OPTIONS));
}

async function rankOfOperator(
  operator: LinearOperator,
  options: OperatorRankOptions | undefined,
): Promise<OperatorRank> {
  const table = { ...RANK_OPTIONS, ...CALL_OPTIONS };
  const { tol, scale, ...call } = checkOptions("numericalRank", options, table);
  if (operator.dtype !== "float64")
    throw new OptionError(
      `numericalRank: expected ${operator.name} in float64, got float32, whose rounding of about ` +
        '1e-6 of the largest eigenvalue hides its rank; make it with precision: "float64"',
    );
  const begin = performance.now();
  const { values, products } = await allEigenvalues(operator, call);
  const seconds = (performance.now() - begin) / 1000;
  return { ...rankOfSpectrum(values, { tol, scale }), products, seconds };
}

function rankOfSpectrum(spectrum: Spectrum, { tol, scale }: RankOptions): NumericalRank {
  if (typeName(spectrum) === "Float32Array")
    throw new OptionError(
      "numericalRank: expected eigenvalues in float64, got a Float32Array, whose rounding hides " +
        "the rank",
    );
  const { relative, largest } = magnitudes("numericalRank", spectrum);
  const dim = relative.length;
  const values = relative.map((value) => value * largest);
  const tolerance = (tol ?? dim * EPSILON) * (scale ?? largest);
  const rank = countAbove(values, tolerance);
  const smallestKept = rank > 0 ? values[rank - 1]! : Number.NaN;
  const largestDropped = rank < dim ? values[rank]! : Number.NaN;
  const gap = smallestKept / largestDropped;
  return {
    source: "exact",
    rank,
    dim,
    tolerance,
    formula: `${scale === undefined ? "max |lambda|" : scale} * ${tol ?? "dim * 2^-52"}`,
    smallestKept,
    largestDropped,
    gap,
    log10Gap: Math.log10(gap),
    certain: rank === 0 || smallestKept >= CLEAR * tolerance,
    magnitudes: values,
  };
}
