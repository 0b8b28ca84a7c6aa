/** How two curvature matrices lie to one another, and the noise of gradients to the curvature. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import { gradientCovariance } from "../classes";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import { LinearOperator, vectors } from "../linear-operator";
import type { Model } from "../model/model";
import type { Vectors } from "../native";
import { type EvaluateOptions, fisher, gradient, hessian } from "../operators";
import { type Check, check, checkOptions, describe } from "../options";
import { Random } from "../random";
import { basisOf, type Rows, type VectorSet } from "../subspaces/orthonormal";
import { trace } from "../trace";

export interface AlignmentOptions extends CallOptions {
  /**
   * Vectors whose span is taken exactly, such as leading eigenvectors of A; only the rest is
   * sampled. Default none.
   */
  basis?: VectorSet | undefined;
  /** Random vectors. Default 32. */
  probes?: number | undefined;
  /** Of them. Default 0. */
  seed?: number | bigint | undefined;
  /** Vectors a product. Default 16. */
  blockSize?: number | undefined;
}

const ALIGNMENT_OPTIONS: { [K in keyof Required<AlignmentOptions>]: Check } = {
  ...CALL_OPTIONS,
  basis: check.anything, // basisOf does it
  probes: {
    expected: "a whole number of at least 2",
    fits: (n) => Number.isSafeInteger(n) && (n as number) >= 2,
  },
  seed: check.seed,
  blockSize: check.positiveInteger,
};

/** A number with one standard deviation of its error; 0 where it is exact. */
export interface Measured {
  readonly value: number;
  readonly standardError: number;
}

export interface OperatorAlignment {
  /** tr(A B). */
  readonly inner: Measured;
  /** ||A||_F^2 and ||B||_F^2. */
  readonly squares: readonly [Measured, Measured];
  /** tr(A B) / (||A||_F ||B||_F): 1 for multiples of one another. */
  readonly cosine: Measured;
  /** v^T B v for each vector of the orthonormalised basis, in its order. */
  readonly basisForms: Float64Array;
  /** Random vectors that were used; 0 where all is exact. */
  readonly probes: number;
  /** Products with single vectors of A and of B together. */
  readonly products: number;
}

/** Uses of one seed that must not share numbers. */
const ALIGNMENT = 50;

/** For one vector: A x . B x, |A x|^2, |B x|^2, x . B x. */
type Forms = [inner: number, a: number, b: number, form: number];

async function formsOf(
  A: LinearOperator,
  B: LinearOperator,
  rows: Rows,
  blockSize: number,
  call: CallOptions,
  progress: (done: number) => void,
): Promise<Forms[]> {
  const { dim } = A;
  const found: Forms[] = [];
  for (let first = 0; first < rows.length; first += blockSize) {
    const block = rows.slice(first, first + blockSize);
    const V = vectors(A.dtype, block.length * dim);
    block.forEach((row, i) => {
      V.set(row, i * dim);
    });
    const AV = await A.apply(V, { signal: call.signal });
    const BV = await B.apply(V, { signal: call.signal });
    block.forEach((_, i) => {
      const [x, a, b] = [V, AV, BV].map((all: Vectors) => all.subarray(i * dim, (i + 1) * dim));
      const forms: Forms = [0, 0, 0, 0];
      for (let j = 0; j < dim; j++) {
        forms[0] += a![j]! * b![j]!;
        forms[1] += a![j]! ** 2;
        forms[2] += b![j]! ** 2;
        forms[3] += x![j]! * b![j]!;
      }
      found.push(forms);
    });
    progress(found.length);
  }
  return found;
}

/** Random signs without what the basis spans. */
function probesOf(count: number, dim: number, basis: Rows, seed: number | bigint): Rows {
  const random = new Random(seed, ALIGNMENT);
  return Array.from({ length: count }, () => {
    const row = Float64Array.from({ length: dim }, () => random.sign());
    for (let pass = 0; pass < 2; pass++)
      for (const unit of basis) {
        let part = 0;
        for (let j = 0; j < dim; j++) part += unit[j]! * row[j]!;
        for (let j = 0; j < dim; j++) row[j]! -= part * unit[j]!;
      }
    return row;
  });
}

const cosineOf = ([inner, a, b]: readonly [number, number, number]) =>
  inner / (Math.sqrt(Math.max(0, a)) * Math.sqrt(Math.max(0, b)) || Number.NaN);

/**
 * How two symmetric operators lie to one another: tr(A B), their Frobenius norms and the cosine
 * between them. In the span of `basis` (k vectors) from products with it, exactly; in the rest from
 * random signs z without that span, E[A z . B z], E|A z|^2, E|B z|^2, all from the same z, so that
 * errors of the cosine, by the jackknife, are smaller than those of its parts. Costs
 * 2 (k + probes) products; where k + probes reach the dimension, all is exact, for 2 dim products.
 *
 * @throws OptionError where dimensions or precisions differ; AbortError; as products of A and B
 */
export async function operatorAlignment(
  A: LinearOperator,
  B: LinearOperator,
  options?: AlignmentOptions,
): Promise<OperatorAlignment> {
  for (const [name, operator] of Object.entries({ A, B }))
    if (!(operator instanceof LinearOperator))
      throw new OptionError(
        `operatorAlignment: ${name}: expected an operator, got ${describe(operator)}`,
      );
  if (A.dim !== B.dim || A.dtype !== B.dtype)
    throw new OptionError(
      `operatorAlignment: expected operators of one dimension and precision, got ${A.name} of ` +
        `${A.dim} in ${A.dtype} and ${B.name} of ${B.dim} in ${B.dtype}`,
    );
  const given = checkOptions("operatorAlignment", options, ALIGNMENT_OPTIONS);
  const { probes: wanted = 32, seed = 0, blockSize = 16, signal, onProgress } = given;
  const basis = given.basis ? basisOf("operatorAlignment", "basis", given.basis) : [];
  if (given.basis && given.basis.dim !== A.dim)
    throw new OptionError(
      `operatorAlignment: basis: expected vectors of ${A.dim} numbers, got ${given.basis.dim}`,
    );
  const { dim } = A;
  const exact = basis.length + wanted >= dim;
  const begin = performance.now();
  const whole = exact ? dim + basis.length : basis.length + wanted;
  let before = 0;
  const progress = (done: number) =>
    onProgress?.({
      products: 2 * (before + done),
      fraction: (before + done) / whole,
      seconds: (performance.now() - begin) / 1000,
    });
  const run = (rows: Rows) => formsOf(A, B, rows, blockSize, { signal }, progress);
  const inBasis = await run(basis);
  before = basis.length;
  const basisForms = Float64Array.from(inBasis, ([, , , form]) => form);
  if (exact) {
    const unit = (i: number) => {
      const row = new Float64Array(dim);
      row[i] = 1;
      return row;
    };
    const all = await run(Array.from({ length: dim }, (_, i) => unit(i)));
    const sums = sumOf(all);
    const certain = (value: number): Measured => ({ value, standardError: 0 });
    return {
      inner: certain(sums[0]),
      squares: [certain(sums[1]), certain(sums[2])],
      cosine: certain(cosineOf(sums)),
      basisForms,
      probes: 0,
      products: 2 * (dim + basis.length),
    };
  }
  const fixed = sumOf(inBasis);
  const sampled = await run(probesOf(wanted, dim, basis, seed));
  const sums = sumOf(sampled);
  const estimate = (part: 0 | 1 | 2): Measured => {
    const mean = sums[part] / wanted;
    const spread = sampled.reduce((sum, forms) => sum + (forms[part] - mean) ** 2, 0);
    return {
      value: fixed[part] + mean,
      standardError: Math.sqrt(spread / (wanted * (wanted - 1))),
    };
  };
  const total = [0, 1, 2].map((part) => estimate(part as 0 | 1 | 2)) as [
    Measured,
    Measured,
    Measured,
  ];
  const cosine = cosineOf([total[0].value, total[1].value, total[2].value]);
  const without = sampled.map((forms) =>
    cosineOf([0, 1, 2].map((p) => fixed[p]! + (sums[p]! - forms[p]!) / (wanted - 1)) as Sums),
  );
  const mean = without.reduce((sum, x) => sum + x, 0) / wanted;
  const jackknife = without.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return {
    inner: total[0],
    squares: [total[1], total[2]],
    cosine: {
      value: cosine,
      standardError: Math.sqrt((jackknife * (wanted - 1)) / wanted),
    },
    basisForms,
    probes: wanted,
    products: 2 * (basis.length + wanted),
  };
}

type Sums = [number, number, number];

function sumOf(all: readonly Forms[]): Sums {
  const sums: Sums = [0, 0, 0];
  for (const forms of all) for (const part of [0, 1, 2] as const) sums[part] += forms[part];
  return sums;
}

export interface GradientNoiseOptions
  extends Omit<AlignmentOptions, "basis">,
    Omit<EvaluateOptions, "keepLinearisation"> {
  /** What the covariance is held against, over all parameters. Default: the Hessian. */
  curvature?: LinearOperator | undefined;
  /** Leading eigenvectors of the curvature. Default none: nothing is said of a top space. */
  top?: VectorSet | undefined;
}

/** The covariance C of the samples' gradients against a curvature H. */
export interface GradientNoise {
  /** ||g||^2 of the gradient. */
  readonly gradientSquare: number;
  /** tr(C), exact. */
  readonly trace: number;
  /** tr(H C). */
  readonly inner: Measured;
  /** tr(H C) / (||H||_F ||C||_F). */
  readonly cosine: Measured;
  /** ||H||_F and ||C||_F. */
  readonly norms: readonly [number, number];
  /** tr(V^T C V) / tr(C) for the first 1, 2, ... of the top vectors; k / P by chance. */
  readonly topShares: Float64Array;
  /** tr(C) / ||g||^2, a batch size: the simple noise scale of McCandlish et al. (2018). */
  readonly noiseScale: number;
  readonly probes: number;
  readonly products: number;
}

/**
 * The noise of stochastic gradients against the curvature: tr(C), tr(H C), the cosine between C and H
 * with its error, and the share of C in the top space of H. A gradient of a batch of B samples has
 * the covariance C / B. Costs a gradient, a backward pass a sample for tr(C), and
 * 2 (top + probes) products; see `operatorAlignment`.
 *
 * @throws as `gradientCovariance` and `operatorAlignment`
 */
export async function gradientNoise(
  model: Model,
  data: DataSet,
  options: GradientNoiseOptions = {},
): Promise<GradientNoise> {
  const { curvature, top, probes, seed, blockSize, signal, onProgress, ...evaluate } = options;
  const C = await gradientCovariance(model, data, { ...evaluate, signal });
  const moment = fisher(model, data, { ...evaluate, type: "empirical" });
  const H = curvature ?? hessian(model, data, evaluate);
  try {
    const { gradient: g } = await gradient(model, data, { ...evaluate, signal });
    const gradientSquare = g.reduce((sum, x) => sum + x * x, 0);
    // With reduction "sum" the moment is N times the mean of outer products, and g is N times too.
    const { value } = await trace(moment, { method: "exact", signal });
    const given = evaluate.loss ?? model.loss;
    const sums = typeof given === "object" && given?.reduction === "sum";
    const total = value - (sums ? gradientSquare / data.samples : gradientSquare);
    const found = await operatorAlignment(H, C, {
      ...{ basis: top, probes, seed, blockSize, signal, onProgress },
    });
    let inside = 0;
    return {
      gradientSquare,
      trace: total,
      inner: found.inner,
      cosine: found.cosine,
      norms: [Math.sqrt(found.squares[0].value), Math.sqrt(found.squares[1].value)],
      topShares: found.basisForms.map((form) => {
        inside += form;
        return inside / total;
      }),
      noiseScale: total / gradientSquare,
      probes: found.probes,
      products: found.products,
    };
  } finally {
    C.dispose();
    moment.dispose();
    if (!curvature) H.dispose();
  }
}
