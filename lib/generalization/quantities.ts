/** What the spectrum of a curvature matrix says of generalisation: inverse traces, TIC, rank. */
import type { Uncertain } from "../anisotropy/estimated";
import { effectiveDimension } from "../anisotropy/measures";
import { CALL_OPTIONS, type CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { spectralDensity } from "../density";
import { meanOf, samplingOf, standardErrorOf } from "../density/estimate";
import { NotConvergedError, OptionError } from "../errors";
import type { LinearOperator } from "../linear-operator";
import type { Model } from "../model/model";
import {
  checkSubject,
  FISHER_OPTIONS,
  fisher,
  ggn,
  hessian,
  type OperatorOptions,
} from "../operators";
import { type Check, check, checkOptions } from "../options";
import { solve } from "../solve";
import { eigsh } from "../spectra";
import { trace } from "../trace";
import { Inverse, isSmall } from "./inverse";
import { Normals } from "./normals";
import { requireMean, SampleRows } from "./rows";

/** Matrices whose inverse weighs the gradients. */
export type CurvatureName = "hessian" | "ggn" | "fisher-type2" | "fisher-empirical";

/** @internal */
export const CURVATURES: Record<
  CurvatureName,
  (model: Model, data: DataSet, options: OperatorOptions) => LinearOperator
> = {
  hessian,
  ggn,
  "fisher-type2": (m, d, options) => fisher(m, d, { ...options, type: "type-2" }),
  "fisher-empirical": (m, d, options) => fisher(m, d, { ...options, type: "empirical" }),
};

const { type: _type, draws: _draws, seed: _seed, ...ALL } = FISHER_OPTIONS;

/** @internal The checks of OperatorOptions. */
export const OPERATOR_OPTIONS: { [K in keyof Required<OperatorOptions>]: Check } = ALL;

/** @internal */
export const curvatureName: Check = check.oneOf(...Object.keys(CURVATURES));

export interface QuantityOptions extends OperatorOptions, CallOptions {
  /** The matrix A. Default "ggn" (H_o). */
  curvature?: CurvatureName | undefined;
  /**
   * The data whose per-sample gradients C is of, by name; held-out data for an estimate of the gap.
   * Default: the data of the curvature, under the name "train".
   */
  gradients?: Readonly<Record<string, DataSet>> | undefined;
  /** z, over 0, in the units of A. Default 1e-3 of the largest |eigenvalue|. */
  damping?: number | undefined;
  /**
   * "exact": from all eigenvalues and eigenvectors. "estimated": from products with random vectors.
   * Default "auto": exact where the matrix, or the dual matrix of the samples, is of order 3000 or
   * less.
   */
  method?: "auto" | "exact" | "estimated" | undefined;
  /** estimated: random vectors. Default 8. */
  probes?: number | undefined;
  /** estimated: products a random vector. Default 64. */
  steps?: number | undefined;
  /** estimated: gradients of each data set, drawn without replacement. Default 32. */
  draws?: number | undefined;
  /** estimated: of random vectors and draws. Default 0. */
  seed?: number | bigint | undefined;
}

const OPTIONS: { [K in keyof Required<QuantityOptions>]: Check } = {
  ...OPERATOR_OPTIONS,
  ...CALL_OPTIONS,
  curvature: curvatureName,
  gradients: {
    expected: "data sets by name",
    fits: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  },
  damping: {
    expected: "a number over 0",
    fits: (value) => Number.isFinite(value) && (value as number) > 0,
  },
  method: check.oneOf("auto", "exact", "estimated"),
  probes: check.positiveInteger,
  steps: check.positiveInteger,
  draws: check.positiveInteger,
  seed: check.seed,
};

/** tr(A^+ C) for the second moment C of the gradients of some data, (1/m) sum of g g^T. */
export interface GradientTrace {
  readonly name: string;
  readonly samples: number;
  /** tr C: the mean squared length of a gradient. */
  readonly traceC: Uncertain;
  /** tr(A^+ C), on the range of A; undefined where estimated. */
  readonly traceInverseC: number | undefined;
  /** tr(A^+ C) / n with n the samples of A: Takeuchi's correction of the training loss. */
  readonly tic: number | undefined;
  /** Share of tr C outside of the range of A, where A^+ is 0; undefined where estimated. */
  readonly outside: number | undefined;
  /** tr((A + z)^-1 C), and that over n. */
  readonly dampedTraceC: Uncertain;
  readonly dampedTic: Uncertain;
}

export interface CurvatureQuantities {
  readonly curvature: CurvatureName;
  /** Whether numbers have errors. */
  readonly source: "exact" | "estimated";
  /** Why what is undefined is so; "" where nothing is. */
  readonly reason: string;
  readonly dim: number;
  /** n, of the curvature. */
  readonly samples: number;
  readonly lambdaMax: Uncertain;
  /** The most negative eigenvalue, of Hessians that have one. */
  readonly lambdaMin: number | undefined;
  /** Negative eigenvalues beyond the tolerance; undefined where estimated. */
  readonly negative: number | undefined;
  /** The |eigenvalue| that is smallest among those that are not zero. */
  readonly lambdaMinPlus: number | undefined;
  /** Exact: the numerical rank. Estimated: eigenvalues above `tolerance`, with an interval. */
  readonly rank: Uncertain;
  readonly tolerance: number;
  /** Smallest |eigenvalue| that counts over the largest that does not: what the rank rests on. */
  readonly gap: number | undefined;
  /** Whether the smallest that counts is 100 times the tolerance or more. */
  readonly certain: boolean | undefined;
  readonly trace: Uncertain;
  /** tr(A^+), and over n. */
  readonly traceInverse: number | undefined;
  readonly traceInverseOverN: number | undefined;
  /** z. */
  readonly damping: number;
  /** N_eff(z) = sum |l| / (|l| + z). */
  readonly effectiveDimension: Uncertain;
  /** tr(|A| (|A| + z)^-2), the variance of ridge regression; tends to tr(|A|^+) with z to 0. */
  readonly dampedTraceInverse: Uncertain;
  /** N_eff at z = 10^-1 .. 10^-6 of the largest |eigenvalue|; empty where estimated. */
  readonly effectiveDimensions: readonly { z: number; value: number }[];
  readonly gradients: readonly GradientTrace[];
  readonly products: number;
  readonly warnings: readonly string[];
  readonly seconds: number;
}

const WHERE = "curvatureQuantities";
/** Estimated: |eigenvalues| over so much of the largest count. */
const COUNTED = 1e-4;
/** Streams of one seed. */
const DRAWS = 21;

/** A number without an error. */
export const certainly = (value: number): Uncertain => ({
  value,
  standardError: 0,
  interval: [value, value],
});

/**
 * What a curvature matrix A (GGN, Hessian, Fisher matrix) says of generalisation: smallest nonzero
 * and largest eigenvalue, rank with its gap, tr(A^+), tr(A^+ C) for the gradients of given data,
 * Takeuchi's correction (1/n) tr(A^+ C), effective dimension.
 *
 * Exact costs as `exactSpectrum` with all vectors, and a backward pass for each gradient; it is in
 * float64 whatever the precision. Where A is large, quantities with damping z are estimated from
 * probes * steps products, the trace (exact for few rows a sample), and draws solutions of systems; those that depend on
 * the smallest eigenvalues are undefined, as products do not show them.
 *
 * At the optimum of a model that holds, C = A and tr(A^+ C) is the rank (Takeuchi 1976; Singh et al.
 * 2022 for the divergence of tr(A^+) at the interpolation threshold).
 *
 * @throws OptionError for losses that are sums; MemoryBudgetError; NotConvergedError where an estimate
 * was not reached; AbortError
 */
export async function curvatureQuantities(
  model: Model,
  data: DataSet,
  options: QuantityOptions = {},
): Promise<CurvatureQuantities> {
  const begin = performance.now();
  const checked = checkOptions(WHERE, options, OPTIONS);
  checkSubject(WHERE, model, data);
  const { curvature = "ggn", gradients, damping, method = "auto", probes, steps } = checked;
  const { draws, seed = 0, signal, onProgress, ...given } = checked;
  requireMean(WHERE, model, given);
  const { loss, params, exclude, precision, threads, batch, maxMemory, keepLinearisation } = given;
  const run = { loss, params, exclude, threads, batch, maxMemory, keepLinearisation };
  const call = { signal, onProgress };
  const sets = Object.entries(gradients ?? { train: data });
  using small = CURVATURES[curvature](model, data, { ...run, precision: "float64" });
  const exact = method === "exact" || (method === "auto" && (await isSmall(small, { signal })));
  const found = exact
    ? await exactly(model, data, sets, small, run, damping, call)
    : await estimated(
        model,
        data,
        sets,
        curvature,
        { ...run, precision },
        {
          ...{ damping, probes, steps, draws, seed },
          ...call,
        },
      );
  const seconds = (performance.now() - begin) / 1000;
  return { curvature, dim: small.dim, samples: data.samples, ...found, seconds };
}

type Found = Omit<CurvatureQuantities, "curvature" | "dim" | "samples" | "seconds">;
type Sets = readonly (readonly [string, DataSet])[];

async function exactly(
  model: Model,
  { samples: n }: DataSet,
  sets: Sets,
  operator: LinearOperator,
  run: OperatorOptions,
  given: number | undefined,
  call: CallOptions,
): Promise<Found> {
  const inverse = await Inverse.of(WHERE, operator, 0, call);
  const { values, rank, kept, products } = inverse;
  const size = rank.magnitudes[0] ?? 0;
  const damping = given ?? 1e-3 * size;
  const negative = kept.filter((value) => value < 0).length;
  const sum = (f: (value: number) => number) => kept.reduce((total, x) => total + f(x), 0);
  const traceInverse = sum((x) => 1 / x);
  const traces: GradientTrace[] = [];
  for (const [name, set] of sets) {
    using rows = new SampleRows(WHERE, model, set, "gradients", run);
    const length = kept.length;
    // Mean squared coordinate of the gradients along each eigenvector.
    const along = new Float64Array(length);
    let squares = 0;
    for await (const chunk of rows.chunks(call)) {
      const at = await inverse.coordinates(chunk.rows, chunk.samples, call);
      for (let i = 0; i < at.length; i++) along[i % length]! += at[i]! ** 2 / set.samples;
      for (const x of chunk.rows) squares += x * x;
    }
    const traceC = squares / set.samples;
    const outside = Math.max(0, traceC - along.reduce((a, b) => a + b, 0));
    const weighted = (f: (value: number) => number) =>
      along.reduce((total, x, i) => total + x * f(kept[i]!), 0);
    const traceInverseC = weighted((x) => 1 / x);
    const damped = weighted((x) => 1 / (x + damping)) + outside / damping;
    traces.push({
      ...{ name, samples: set.samples, traceC: certainly(traceC), traceInverseC },
      ...{ tic: traceInverseC / n, outside: traceC > 0 ? outside / traceC : 0 },
      ...{ dampedTraceC: certainly(damped), dampedTic: certainly(damped / n) },
    });
  }
  return {
    ...{ source: "exact", reason: "" },
    lambdaMax: certainly(values[0]!),
    lambdaMin: values.at(-1)! < -rank.tolerance ? values.at(-1)! : undefined,
    ...{ negative, lambdaMinPlus: rank.rank > 0 ? rank.smallestKept : undefined },
    ...{ rank: certainly(rank.rank), tolerance: rank.tolerance },
    ...{ gap: rank.gap, certain: rank.certain },
    trace: certainly(values.reduce((a, b) => a + b, 0)),
    ...{ traceInverse, traceInverseOverN: traceInverse / n, damping },
    effectiveDimension: certainly(damping > 0 ? effectiveDimension(values, damping) : 0),
    dampedTraceInverse: certainly(sum((x) => Math.abs(x) / (Math.abs(x) + damping) ** 2)),
    effectiveDimensions:
      size === 0
        ? []
        : SHARES.map((share) => share * size).map((z) => ({
            z,
            value: effectiveDimension(values, z),
          })),
    ...{ gradients: traces, products, warnings: warningsOf(rank.certain, negative) },
  };
}

const SHARES = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6];

function warningsOf(certain: boolean, negative: number): string[] {
  const warnings: string[] = [];
  if (!certain)
    warnings.push(
      "the smallest eigenvalue that counts is within 100 times the tolerance of the rank: the " +
        "pseudo-inverse rests on rounding; look at the gap, or at the numbers with damping",
    );
  if (negative > 0)
    warnings.push(
      `${negative} eigenvalues are negative, and this is no minimum: sums over 1 / lambda have terms ` +
        "of both signs",
    );
  return warnings;
}

interface Sampling extends CallOptions {
  damping: number | undefined;
  probes: number | undefined;
  steps: number | undefined;
  draws: number | undefined;
  seed: number | bigint;
}

async function estimated(
  model: Model,
  data: DataSet,
  sets: Sets,
  curvature: CurvatureName,
  run: OperatorOptions,
  { damping: given, probes = 8, steps = 64, draws = 32, seed, ...call }: Sampling,
): Promise<Found> {
  using operator = CURVATURES[curvature](model, data, run);
  // One quadrature for all functions of the spectrum.
  const density = await spectralDensity(operator, { probes, steps, seed, ...call });
  const { scale } = density;
  if (scale === 0) throw new OptionError(`${WHERE}: ${operator.name} is 0: there is no curvature`);
  const top = await eigsh(operator, { k: 1, which: "LA", seed, ...call });
  if (!top.converged)
    throw new NotConvergedError(
      `${WHERE}: the largest eigenvalue of ${operator.name} was not found: ${top.reason}`,
    );
  const damping = given ?? 1e-3 * scale;
  const missed = Math.exp(-4 * steps * Math.sqrt(damping / scale));
  const of = (f: (x: number) => number): Uncertain => {
    const sums = density.nodes.map((nodes, i) => {
      const weights = density.weights[i]!;
      return operator.dim * nodes.reduce((sum, x, k) => sum + weights[k]! * f(x), 0);
    });
    const value = meanOf(sums);
    const half = samplingOf(sums) + missed * value;
    return {
      value,
      standardError: standardErrorOf(sums) + missed * value,
      interval: [Math.max(0, value - half), value + half],
    };
  };
  const share = (x: number) => Math.abs(x) / (Math.abs(x) + damping);
  const effective = of(share);
  const inverse = of((x) => share(x) / (Math.abs(x) + damping));
  const total = await trace(operator, { seed, ...call });
  const tolerance = COUNTED * scale;
  const zeros = density.count(-tolerance, tolerance);
  const P = operator.dim;
  const traces: GradientTrace[] = [];
  let solved = 0;
  for (const [name, set] of sets) {
    const found = await sampledTrace(model, set, operator, run, { damping, draws, seed, ...call });
    solved += found.products;
    const { traceC, dampedTraceC } = found;
    const dampedTic = scaled(dampedTraceC, 1 / data.samples);
    traces.push({
      ...{ name, samples: set.samples, traceC, dampedTraceC, dampedTic },
      ...{ traceInverseC: undefined, tic: undefined, outside: undefined },
    });
  }
  const { low, high } = top.intervals[0]!;
  return {
    source: "estimated",
    reason:
      "the matrix is too large for its whole spectrum, and products with vectors do not tell its " +
      "smallest eigenvalues from 0: restrict it by params, take fewer samples, or read the numbers " +
      "with damping",
    lambdaMax: { value: top.values[0]!, standardError: top.residuals[0]!, interval: [low, high] },
    ...{ lambdaMin: undefined, negative: undefined, lambdaMinPlus: undefined },
    rank: {
      value: P - zeros.value,
      standardError: Math.max(zeros.sampling, (zeros.upper - zeros.lower) / 2) / 1.96,
      interval: [P - zeros.interval[1], P - zeros.interval[0]],
    },
    ...{ tolerance, gap: undefined, certain: undefined },
    trace: uncertain(total),
    ...{ traceInverse: undefined, traceInverseOverN: undefined, damping },
    effectiveDimension: effective,
    dampedTraceInverse: inverse,
    ...{ effectiveDimensions: [], gradients: traces },
    products: top.products + density.products + total.products + solved,
    warnings: [...density.warnings],
  };
}

function uncertain(found: {
  value: number;
  standardError: number;
  interval: readonly [number, number];
}): Uncertain {
  const { value, standardError, interval } = found;
  return { value, standardError, interval: [interval[0], interval[1]] };
}

function scaled({ value, standardError, interval }: Uncertain, factor: number): Uncertain {
  return {
    value: factor * value,
    standardError: factor * standardError,
    interval: [factor * interval[0], factor * interval[1]],
  };
}

/** The mean of g^T (A + z)^-1 g over some of the samples. */
async function sampledTrace(
  model: Model,
  data: DataSet,
  operator: LinearOperator,
  run: OperatorOptions,
  given: { damping: number; draws: number; seed: number | bigint } & CallOptions,
): Promise<{ traceC: Uncertain; dampedTraceC: Uncertain; products: number }> {
  const { damping, draws, seed, signal, onProgress } = given;
  const { dim, dtype } = operator;
  const n = data.samples;
  const random = new Normals(seed, DRAWS);
  const order = Array.from({ length: n }, (_, i) => i);
  const many = Math.min(draws, n);
  for (let i = 0; i < many; i++) {
    const j = i + random.below(n - i);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  using rows = new SampleRows(WHERE, model, data, "gradients", run);
  const B = new Float64Array(many * dim);
  for (let i = 0; i < many; i++) B.set(await rows.some(order[i]!, 1, 1, signal), i * dim);
  const { solution, converged, reason, products } = await solve(
    operator,
    dtype === "float32" ? Float32Array.from(B) : B,
    {
      ...{ damping, signal, onProgress },
      ...(!operator.native.sumsRows && { method: "minres" as const }),
    },
  );
  if (!converged)
    throw new NotConvergedError(
      `${WHERE}: damping: a system with ${damping.toPrecision(3)} was not solved (${reason}); raise ` +
        "damping",
    );
  const forms: number[] = new Array(many).fill(0);
  const squares: number[] = new Array(many).fill(0);
  for (let at = 0; at < B.length; at++) {
    const i = Math.floor(at / dim);
    forms[i]! += B[at]! * solution[at]!;
    squares[i]! += B[at]! ** 2;
  }
  // Without replacement.
  const correction = n > 1 ? Math.sqrt((n - many) / (n - 1)) : 0;
  const mean = (values: readonly number[]): Uncertain => {
    const value = values.reduce((sum, x) => sum + x, 0) / many;
    if (many === n) return certainly(value);
    const half = samplingOf(values) * correction;
    return {
      value,
      standardError: standardErrorOf(values) * correction,
      interval: [value - half, value + half],
    };
  };
  return { traceC: mean(squares), dampedTraceC: mean(forms), products };
}
