/** Measures of operators too large for their whole spectrum, each with its error. */
import type { CallOptions } from "../call";
import { meanOf, student975 } from "../density/estimate";
import { traceFunction } from "../functions";
import { type LinearOperator, linearOperator, vectors } from "../linear-operator";
import { type Check, check } from "../options";
import { Random } from "../random";
import { type Eigenpairs, eigsh } from "../spectra";
import { relativeTolerance } from "./magnitudes";

export interface EstimateOptions {
  /** Leading eigenpairs, by magnitude, that are computed and taken out. Default 20. */
  k?: number | undefined;
  /** Random products with what is left. Default 64. */
  probes?: number | undefined;
  /**
   * Whether the operator is known to have no negative eigenvalues, as Gauss-Newton and Fisher
   * matrices have none. Default: it is looked for them, by 4 times 128 further products.
   */
  definite?: boolean | undefined;
  /** Of everything random. Default 0. */
  seed?: number | bigint | undefined;
}

/** @internal */
export const ESTIMATE_OPTIONS: { [K in keyof Required<EstimateOptions>]: Check } = {
  k: check.positiveInteger,
  probes: {
    expected: "a whole number of at least 2",
    fits: (value) => Number.isSafeInteger(value) && (value as number) >= 2,
  },
  definite: check.boolean,
  seed: check.seed,
};

/** A number with its error. */
export interface Uncertain {
  value: number;
  /** One standard deviation, to first order. */
  standardError: number;
  /** 95 %, by Student's t, within what is possible. */
  interval: [number, number];
}

export interface EstimatedMeasures {
  source: "estimated";
  /** Whether negative eigenvalues were found, and the measures are of |lambda|. */
  absolute: boolean;
  dim: number;
  /** The largest |lambda|, and the residual of its eigenpair. */
  largest: number;
  residual: number;
  /** The eigenpairs that were taken out: by magnitude, with their signs. */
  top: Float64Array;
  /** sum lambda, with signs. */
  trace: Uncertain;
  /** sum |lambda|. */
  nuclear: Uncertain;
  frobenius: Uncertain;
  /** (sum |lambda|)^2 / ||A||_F^2. */
  participationRatio: Uncertain;
  /** sum |lambda| / l_1. */
  intrinsicDimension: Uncertain;
  /** ||A||_F^2 / ||A||_2^2 of the matrix itself. */
  stableRank: Uncertain;
  /** ||B||_F^2 / ||B||_2^2 of its root, A = B^T B: the same number as the intrinsic dimension. */
  stableRankOfRoot: Uncertain;
  topMass: { k: number; share: Uncertain }[];
  /** Whether the leading eigenpairs converged, and why not. */
  converged: boolean;
  reason: string;
  products: number;
  warnings: readonly string[];
}

/** Streams of one seed. */
const PROBES = 4;
/** Vectors of a block. */
const WIDTH = 16;
/** Of the quadrature of |lambda|, which has a kink at 0: its error asks for steps, not probes. */
const QUADRATURE = { probes: 4, steps: 128 };

/** Inner products with the eigenvectors taken out of each vector of a block, in place. */
function projectOut(block: Float32Array | Float64Array, { vectors, dim }: Eigenpairs): void {
  const count = vectors.length / dim;
  for (let at = 0; at < block.length; at += dim)
    for (let k = 0; k < count; k++) {
      let inner = 0;
      for (let i = 0; i < dim; i++) inner += vectors[k * dim + i]! * block[at + i]!;
      for (let i = 0; i < dim; i++) block[at + i]! -= inner * vectors[k * dim + i]!;
    }
}

/** For each random z orthogonal to the known eigenvectors, z^T A z and ||A z||^2. */
async function probe(
  operator: LinearOperator,
  known: Eigenpairs,
  probes: number,
  seed: number | bigint,
  call: CallOptions,
): Promise<{ linear: number[]; square: number[] }> {
  const { dim, dtype } = operator;
  const random = new Random(seed, PROBES);
  const [linear, square]: [number[], number[]] = [[], []];
  while (linear.length < probes) {
    const count = Math.min(WIDTH, probes - linear.length);
    const block = vectors(dtype, count * dim);
    for (let i = 0; i < block.length; i++) block[i] = random.sign();
    projectOut(block, known);
    const product = await operator.apply(block, call);
    // (I - V V^T) A z: what A sends back to V is counted with the eigenvalues.
    projectOut(product, known);
    for (let at = 0; at < block.length; at += dim) {
      let [zAz, AzAz] = [0, 0];
      for (let i = at; i < at + dim; i++) {
        zAz += block[i]! * product[i]!;
        AzAz += product[i]! * product[i]!;
      }
      linear.push(zAz);
      square.push(AzAz);
    }
  }
  return { linear, square };
}

/**
 * @internal Traces and norms as the known part of the leading eigenpairs plus Hutchinson's estimate
 * of the rest, and what follows from them by the delta method.
 */
export async function estimatedMeasures(
  operator: LinearOperator,
  {
    k = 20,
    probes = 64,
    definite,
    seed = 0,
    top,
  }: EstimateOptions & { top?: readonly number[] | undefined },
  { signal, onProgress }: CallOptions,
): Promise<EstimatedMeasures> {
  const { dim } = operator;
  const call = { signal, onProgress };
  const known = await eigsh(operator, { k: Math.min(k, dim), seed, ...call });
  const rest = await probe(operator, known, probes, seed, call);
  let products = known.products + probes;

  const knownSum = known.values.reduce((sum, x) => sum + x, 0);
  const knownSize = known.values.reduce((sum, x) => sum + Math.abs(x), 0);
  // A v = lambda v + r: the residual's square counts twice in the norm.
  const knownSquare = known.values.reduce(
    (sum, x, i) => sum + x * x + 2 * known.residuals[i]! ** 2,
    0,
  );
  const trace = knownSum + meanOf(rest.linear);
  const square = knownSquare + meanOf(rest.square);
  const largest = known.values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const noise = Math.max(relativeTolerance(dim, operator.dtype), 1e-12) * largest;

  // sum |lambda| of the rest, as its trace plus twice its negative part.
  let negative = { value: 0, error: 0 };
  if (definite !== true) {
    const deflated = linearOperator(
      dim,
      async (block) => {
        projectOut(block, known);
        const product = await operator.apply(block, { signal });
        projectOut(product, known);
        return product;
      },
      { dtype: operator.dtype, name: `rest of ${operator.name}` },
    );
    const excess = (x: number) => (x < -noise ? -2 * x : 0);
    const found = await traceFunction(deflated, excess, { ...QUADRATURE, seed, ...call });
    products += found.products;
    // One number for sampling and quadrature, as what follows needs one.
    negative = {
      value: found.value,
      error: Math.hypot(found.standardError, found.quadratureError),
    };
    deflated.dispose();
  }
  const absolute = negative.value > 0 || known.values.some((x) => x < -noise);
  const nuclear = knownSize + meanOf(rest.linear) + negative.value;

  /** By the derivatives by sum |lambda| and ||A||_F^2 at their estimates. */
  const uncertain = (
    value: number,
    [bySum, bySquare]: readonly [number, number],
    [least, most]: readonly [number, number],
    negativeError = negative.error,
  ): Uncertain => {
    const influence = rest.linear.map((x, i) => bySum * x + bySquare * rest.square[i]!);
    const mean = meanOf(influence);
    const variance = influence.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (probes - 1) / probes;
    const standardError = Math.hypot(Math.sqrt(variance), bySum * negativeError);
    const half = standardError * student975(probes - 1);
    const interval: [number, number] = [
      Math.max(least, value - half),
      Math.min(most, value + half),
    ];
    return { value, standardError, interval };
  };
  const over = (a: number, b: number) => (b === 0 ? 0 : a / b);
  const infinity = Number.POSITIVE_INFINITY;
  const frobenius = Math.sqrt(square);
  const intrinsic = uncertain(over(nuclear, largest), [over(1, largest), 0], [0, dim]);
  const sizes = Float64Array.from(known.values, Math.abs).sort().reverse();
  const ks = (top ?? [1, 10, 100]).filter((count) => count <= sizes.length);
  return {
    source: "estimated",
    absolute,
    dim,
    largest,
    residual: known.residuals[known.values.findIndex((x) => Math.abs(x) === largest)] ?? 0,
    top: known.values,
    trace: uncertain(trace, [1, 0], [-infinity, infinity], 0),
    nuclear: uncertain(nuclear, [1, 0], [0, infinity]),
    frobenius: uncertain(frobenius, [0, over(1, 2 * frobenius)], [0, infinity]),
    participationRatio: uncertain(
      over(nuclear ** 2, square),
      [over(2 * nuclear, square), -over(nuclear ** 2, square ** 2)],
      [0, dim],
    ),
    intrinsicDimension: intrinsic,
    stableRank: uncertain(over(square, largest ** 2), [0, over(1, largest ** 2)], [0, dim]),
    stableRankOfRoot: intrinsic,
    topMass: ks.map((count) => {
      const part = sizes.subarray(0, count).reduce((sum, x) => sum + x, 0);
      return {
        k: count,
        share: uncertain(over(part, nuclear), [-over(part, nuclear ** 2), 0], [0, 1]),
      };
    }),
    converged: known.converged,
    reason: known.reason,
    products,
    warnings: known.warnings,
  };
}
