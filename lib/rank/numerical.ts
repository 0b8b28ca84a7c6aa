/** The numerical rank of a matrix, with the gap that it is read off. */
import { allEigenvalues } from "../all-eigenvalues";
import { EPSILON, magnitudes, NOISE_FLOAT32, type Spectrum } from "../anisotropy/magnitudes";
import { countAbove } from "../anisotropy/measures";
import { CALL_OPTIONS, type CallOptions } from "../call";
import { spectralDensity } from "../density";
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

export interface OperatorRankOptions extends RankOptions, CallOptions {
  /** From the whole spectrum. */
  method?: "exact" | undefined;
}

export interface CountOptions extends CallOptions {
  /** By Lanczos quadrature from random probes, for operators too large for their whole spectrum. */
  method: "count";
  /**
   * Relative to the largest |lambda|: an eigenvalue counts above. Default 1e-4. A quadrature of
   * `steps` products cannot tell eigenvalues much smaller than its node spacing from 0, so that this
   * is no rank in the sense of the exact method.
   */
  tol?: number | undefined;
  /** Random vectors. Default 16. */
  probes?: number | undefined;
  /** Products a probe. Default 64. */
  steps?: number | undefined;
  /** Of the random vectors. Default 0. */
  seed?: number | bigint | undefined;
}

const COUNT_OPTIONS: { [K in keyof Required<CountOptions>]: Check } = {
  ...CALL_OPTIONS,
  method: check.oneOf("exact", "count"),
  tol: check.notNegative,
  probes: check.positiveInteger,
  steps: check.positiveInteger,
  seed: check.seed,
};

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

/** The number of eigenvalues above a tolerance, estimated. */
export interface CountedRank {
  source: "estimated";
  /** Not a whole number: a mean over probes. */
  rank: number;
  /** Bounds of the quadrature error, for these probes. */
  lower: number;
  upper: number;
  /** Half width of the 95 % interval over probes; infinite for a single one. */
  sampling: number;
  /** Both errors together. */
  interval: [number, number];
  dim: number;
  tolerance: number;
  formula: string;
  products: number;
  warnings: readonly string[];
  seconds: number;
}

export interface OperatorRank extends NumericalRank {
  products: number;
  seconds: number;
}

/**
 * How many eigenvalues are not zero: those above max |lambda| * dim * 2^-52, the convention of
 * `numpy.linalg.matrix_rank` in float64. Says by `gap` and `certain` how clear that is.
 *
 * Of an operator it needs the whole spectrum: dim products and a dense matrix, or less for
 * Gauss-Newton and Fisher matrices of few samples (`exactSpectrum`). Float32 is refused:
 * its rounding, 1e-6 of the largest eigenvalue, hides small eigenvalues and makes others (Singh,
 * Bachmann and Hofmann 2021 count ranks of Hessians in float64 for that reason).
 *
 * With `method: "count"` the number of eigenvalues above a much larger tolerance is estimated, from
 * probes * steps products, with bounds and a sampling error.
 *
 * @param subject all eigenvalues, in any order, or an operator in float64
 * @throws OptionError for float32; MemoryBudgetError where the matrix does not fit: restrict the
 * operator; DataMismatchError where an eigenvalue is not finite; AbortError
 */
export function numericalRank(subject: LinearOperator, options: CountOptions): Promise<CountedRank>;
export function numericalRank(
  subject: LinearOperator,
  options?: OperatorRankOptions,
): Promise<OperatorRank>;
export function numericalRank(subject: Spectrum, options?: RankOptions): NumericalRank;
export function numericalRank(
  subject: LinearOperator | Spectrum,
  options?: OperatorRankOptions | CountOptions,
): Promise<OperatorRank | CountedRank> | NumericalRank {
  if (!(subject instanceof LinearOperator))
    return rankOfSpectrum(
      subject,
      checkOptions<RankOptions>("numericalRank", options as RankOptions, RANK_OPTIONS),
    );
  return options?.method === "count"
    ? countedRank(subject, options)
    : rankOfOperator(subject, options);
}

async function countedRank(operator: LinearOperator, options: CountOptions): Promise<CountedRank> {
  const checked = checkOptions("numericalRank", options, COUNT_OPTIONS);
  const { method: _, tol = 1e-4, probes = 16, ...rest } = checked;
  const { dim, dtype, name } = operator;
  // Below it, products are rounding.
  const least = dtype === "float32" ? 10 * NOISE_FLOAT32 : dim * EPSILON;
  if (tol < least)
    throw new OptionError(
      `numericalRank: tol: expected at least ${least.toPrecision(2)} for ${name} in ${dtype}, ` +
        `got ${tol}`,
    );
  const begin = performance.now();
  const density = await spectralDensity(operator, { ...rest, probes });
  const tolerance = tol * density.scale;
  const zeros = density.count(-tolerance, tolerance);
  return {
    source: "estimated",
    rank: dim - zeros.value,
    lower: dim - zeros.upper,
    upper: dim - zeros.lower,
    sampling: zeros.sampling,
    interval: [dim - zeros.interval[1], dim - zeros.interval[0]],
    dim,
    tolerance,
    formula: `max |lambda| * ${tol}`,
    products: density.products,
    warnings: density.warnings,
    seconds: (performance.now() - begin) / 1000,
  };
}

async function rankOfOperator(
  operator: LinearOperator,
  options: OperatorRankOptions | undefined,
): Promise<OperatorRank> {
  const table = { ...RANK_OPTIONS, ...CALL_OPTIONS, method: COUNT_OPTIONS.method };
  const { tol, scale, method: _, ...call } = checkOptions("numericalRank", options, table);
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
