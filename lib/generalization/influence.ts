/** Influence of single samples: leverage, leave-one-out predictions and losses. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { matrixProduct } from "../dense";
import type { Model } from "../model/model";
import { checkSubject, gradient, type OperatorOptions } from "../operators";
import { type Check, check, checkOptions } from "../options";
import { dot } from "../vectors";
import { Inverse } from "./inverse";
import { type SampleOutputs, sampleOutputs } from "./outputs";
import { CURVATURES, OPERATOR_OPTIONS } from "./quantities";
import { requireMean, SampleRows } from "./rows";

export interface InfluenceOptions extends Omit<OperatorOptions, "precision">, CallOptions {
  /** The matrix A. Default "ggn". */
  curvature?: "ggn" | "hessian" | undefined;
  /** z of (A + z I)^-1. Default 0: the pseudo-inverse, on the range of A. */
  damping?: number | undefined;
}

export interface LeaveOneOutOptions extends InfluenceOptions {
  /** What the target array is called. Default "y". */
  target?: string | undefined;
}

const { precision: _, ...RUN } = OPERATOR_OPTIONS;

const OPTIONS: { [K in keyof Required<LeaveOneOutOptions>]: Check } = {
  ...RUN,
  ...CALL_OPTIONS,
  curvature: check.oneOf("ggn", "hessian"),
  damping: check.notNegative,
  target: check.anything,
};

/** Outputs and losses of each sample by a network that was trained without it. */
export interface LeftOut {
  /** samples x width. */
  readonly outputs: Float64Array;
  /** The loss of each sample there. NaN where the step is not defined: leverage 1. */
  readonly losses: Float64Array;
  /** Their mean; NaN where one is. */
  readonly mean: number;
}

export interface LeaveOneOut {
  readonly curvature: "ggn" | "hessian";
  readonly damping: number;
  readonly samples: number;
  /** Outputs of a sample. */
  readonly width: number;
  /** samples x width, as they are. */
  readonly outputs: Float64Array;
  /** samples x width: target less output; for mse of as many targets. */
  readonly residuals: Float64Array;
  /** Of each sample, and their mean: the training loss. */
  readonly losses: Float64Array;
  readonly loss: number;
  /** samples x width x width: J_n A^-1 J_n^T S_n / N, with S_n the second derivative of the loss. */
  readonly blocks: Float64Array;
  /** The trace of each block; A_nn for one output. With the GGN their sum is N_eff(z), or the rank. */
  readonly leverage: Float64Array;
  readonly leverageSum: number;
  /** By one Newton step on the loss of the others. */
  readonly newton: LeftOut;
  /** To first order in the weight of the sample: f_n + J_n A^-1 g_n / N. */
  readonly infinitesimal: LeftOut;
  /** g_n^T A^-1 g_n / N: what removing a sample adds to its own loss, to first order. */
  readonly selfInfluence: Float64Array;
  /** What leaving out says of the gap between test and training loss. */
  readonly gap: { newton: number; infinitesimal: number };
  /** Norm of the gradient, which is 0 at the optimum that all this supposes. */
  readonly gradientNorm: number;
  /** For what the Newton step is exact, in words. */
  readonly exactness: string;
  readonly rank: number;
  readonly warnings: readonly string[];
  readonly seconds: number;
}

const WHERE = "leaveOneOut";

/**
 * Leave-one-out outputs and losses from the curvature at the trained network, without training
 * again. With J_n the Jacobian of sample n, s_n and S_n first and second derivatives of its loss in
 * the outputs, M_n = J_n A^-1 J_n^T / N:
 *
 * - newton: f_n + (I - M_n S_n)^-1 M_n s_n, a Newton step on the loss without n from the optimum. Of
 *   models that are linear in their parameters with squared loss it is exact: residuals e / (1 -
 *   A_nn). Of others it is as good as their quadratic model.
 * - infinitesimal: f_n + M_n s_n (Koh and Liang 2017), the first order of it.
 *
 * Both suppose that the gradient over all samples is 0; `gradientNorm` says how far that holds.
 * Costs the spectrum of A with vectors (`exactSpectrum`, in the space of the samples where that is
 * smaller) and a backward pass for each output of each sample; in float64.
 *
 * @throws OptionError for losses other than mse, cross-entropy and bce-with-logits, and for sums;
 * MemoryBudgetError; AbortError
 */
export async function leaveOneOut(
  model: Model,
  data: DataSet,
  options: LeaveOneOutOptions = {},
): Promise<LeaveOneOut> {
  const begin = performance.now();
  const checked = checkOptions(WHERE, options, OPTIONS);
  checkSubject(WHERE, model, data);
  const { curvature = "ggn", damping = 0, target, signal, onProgress, ...run } = checked;
  const { params: _params, exclude: _exclude, ...whole } = run;
  requireMean(WHERE, model, run);
  const call = { signal, onProgress };
  const evaluate = { loss: run.loss, precision: "float64" as const, signal };
  const all = await sampleOutputs(WHERE, model, data, { ...evaluate, target });
  const { gradient: slope } = await gradient(model, data, { ...whole, ...evaluate });
  using operator = CURVATURES[curvature](model, data, { ...run, precision: "float64" });
  const inverse = await Inverse.of(WHERE, operator, damping, call);

  const { samples, width: K, outputs, targets } = all;
  const blocks = new Float64Array(samples * K * K);
  const newton = new Float64Array(samples * K);
  const infinitesimal = new Float64Array(samples * K);
  const losses = new Float64Array(samples);
  const selfInfluence = new Float64Array(samples);
  using rows = new SampleRows(WHERE, model, data, "jacobian", run);
  for await (const chunk of rows.chunks(call)) {
    const W = await inverse.coordinates(chunk.rows, chunk.samples * K, call);
    for (let i = 0; i < chunk.samples; i++) {
      const n = chunk.first + i;
      const f = outputs.subarray(n * K, (n + 1) * K);
      const t = targets.subarray(n * K, (n + 1) * K);
      const M = response(W, i * K, K, inverse.weights, samples);
      const s = all.loss.slope(f, t);
      const S = all.loss.curvature(f, t);
      const MS = product(M, S, K);
      const step = times(M, s, K);
      blocks.set(MS, n * K * K);
      losses[n] = all.loss.value(f, t);
      selfInfluence[n] = dot(s, step);
      infinitesimal.set(
        f.map((x, k) => x + step[k]!),
        n * K,
      );
      const rest = MS.map((x, at) => (at % (K + 1) === 0 ? 1 : 0) - x);
      const moved = solved(rest, step, K);
      newton.set(
        moved ? f.map((x, k) => x + moved[k]!) : new Float64Array(K).fill(Number.NaN),
        n * K,
      );
    }
  }
  const leverage = Float64Array.from({ length: samples }, (_, n) => {
    let sum = 0;
    for (let k = 0; k < K; k++) sum += blocks[n * K * K + k * (K + 1)]!;
    return sum;
  });
  const left = { newton: leftOut(all, newton), infinitesimal: leftOut(all, infinitesimal) };
  const loss = mean(losses);
  const stuck = left.newton.losses.filter(Number.isNaN).length;
  const warnings: string[] = [];
  if (damping === 0 && !inverse.rank.certain)
    warnings.push(
      "the smallest eigenvalue that counts is within 100 times the tolerance of the rank: what is " +
        "left out rests on rounding; give damping",
    );
  if (stuck > 0)
    warnings.push(
      `${stuck} samples have leverage 1: the others do not determine their outputs (interpolation), ` +
        "and leaving them out is not defined without damping",
    );
  return {
    ...{ curvature, damping, samples, width: K, outputs, losses, loss, blocks, leverage },
    residuals: targets.map((t, i) => t - outputs[i]!),
    leverageSum: leverage.reduce((a, b) => a + b, 0),
    ...left,
    selfInfluence,
    gap: { newton: left.newton.mean - loss, infinitesimal: left.infinitesimal.mean - loss },
    gradientNorm: Math.sqrt(dot(slope, slope)),
    exactness:
      all.name === "mse" && damping === 0
        ? "exact for a network that is linear in its parameters, at its optimum; else a Newton step"
        : "a Newton step: exact where the loss is quadratic in the parameters, at the optimum",
    rank: inverse.rank.rank,
    warnings,
    seconds: (performance.now() - begin) / 1000,
  };
}

const mean = (values: Float64Array) => values.reduce((a, b) => a + b, 0) / values.length;

function leftOut({ loss, samples, width, targets }: SampleOutputs, outputs: Float64Array): LeftOut {
  const of = (from: Float64Array, n: number) => from.subarray(n * width, (n + 1) * width);
  const losses = Float64Array.from({ length: samples }, (_, n) =>
    loss.value(of(outputs, n), of(targets, n)),
  );
  return { outputs, losses, mean: mean(losses) };
}

/** W diag(weights) W^T / n of rows [first, first + K). */
function response(
  W: Float64Array,
  first: number,
  K: number,
  weights: Float64Array,
  n: number,
): Float64Array {
  const length = weights.length;
  const M = new Float64Array(K * K);
  for (let a = 0; a < K; a++)
    for (let b = 0; b <= a; b++) {
      const [i, j] = [(first + a) * length, (first + b) * length];
      let sum = 0;
      for (let r = 0; r < length; r++) sum += W[i + r]! * weights[r]! * W[j + r]!;
      M[a * K + b] = M[b * K + a] = sum / n;
    }
  return M;
}

function product(A: Float64Array, B: Float64Array, K: number): Float64Array {
  const C = new Float64Array(K * K);
  for (let i = 0; i < K; i++)
    for (let k = 0; k < K; k++)
      for (let j = 0; j < K; j++) C[i * K + j]! += A[i * K + k]! * B[k * K + j]!;
  return C;
}

function times(A: Float64Array, v: Float64Array, K: number): Float64Array {
  return Float64Array.from({ length: K }, (_, i) => dot(A.subarray(i * K, (i + 1) * K), v));
}

/** A pivot below it, relative to the entries 0 to 1 of I - M S, is rounding. */
const LEAST_PIVOT = 1e-10;

/** x with A x = b by elimination with pivots; undefined where A is singular. */
function solved(matrix: Float64Array, b: Float64Array, K: number): Float64Array | undefined {
  const A = matrix.slice();
  const x = b.slice();
  const row = (i: number) => A.subarray(i * K, (i + 1) * K);
  for (let k = 0; k < K; k++) {
    let best = k;
    for (let i = k + 1; i < K; i++)
      if (Math.abs(A[i * K + k]!) > Math.abs(A[best * K + k]!)) best = i;
    if (!(Math.abs(A[best * K + k]!) > LEAST_PIVOT)) return undefined;
    if (best !== k) {
      const held = row(k).slice();
      row(k).set(row(best));
      row(best).set(held);
      [x[k], x[best]] = [x[best]!, x[k]!];
    }
    for (let i = k + 1; i < K; i++) {
      const factor = A[i * K + k]! / A[k * K + k]!;
      for (let j = k; j < K; j++) A[i * K + j]! -= factor * A[k * K + j]!;
      x[i]! -= factor * x[k]!;
    }
  }
  for (let k = K - 1; k >= 0; k--) {
    for (let j = k + 1; j < K; j++) x[k]! -= A[k * K + j]! * x[j]!;
    x[k]! /= A[k * K + k]!;
  }
  return x;
}

export interface Influence {
  /** test samples x training samples: grad_z'^T A^-1 grad_z / n, added to the loss of z' by removing z. */
  readonly values: Float64Array;
  readonly testSamples: number;
  readonly samples: number;
  readonly damping: number;
  readonly seconds: number;
}

/**
 * How leaving out each training sample changes the loss of each test sample, to first order:
 * grad l_z'^T (A + z I)^-1 grad l_z / n (Cook 1977; Koh and Liang 2017). Positive: the training
 * sample helps. Throws and costs as `leaveOneOut`, for any loss with mean reduction; both sets'
 * coordinates along the eigenvectors are held.
 */
export async function influence(
  model: Model,
  data: DataSet,
  test: DataSet,
  options: InfluenceOptions = {},
): Promise<Influence> {
  const begin = performance.now();
  const { target: _target, ...table } = OPTIONS;
  const checked = checkOptions("influence", options, table);
  checkSubject("influence", model, data);
  checkSubject("influence", model, test);
  const { curvature = "ggn", damping = 0, signal, onProgress, ...run } = checked;
  requireMean("influence", model, run);
  const call = { signal, onProgress };
  using operator = CURVATURES[curvature](model, data, { ...run, precision: "float64" });
  const inverse = await Inverse.of("influence", operator, damping, call);
  const { length } = inverse.weights;
  const along = async (set: DataSet): Promise<Float64Array> => {
    using rows = new SampleRows("influence", model, set, "gradients", run);
    const found = new Float64Array(set.samples * length);
    for await (const chunk of rows.chunks(call))
      found.set(await inverse.coordinates(chunk.rows, chunk.samples, call), chunk.first * length);
    return found;
  };
  const left = await along(test);
  const right = test === data ? left.slice() : await along(data);
  right.forEach((x, i) => {
    right[i] = (x * inverse.weights[i % length]!) / data.samples;
  });
  const values = await matrixProduct(left, right, test.samples, length, data.samples, {
    transposed: true,
    signal,
  });
  return {
    values,
    testSamples: test.samples,
    samples: data.samples,
    damping,
    seconds: (performance.now() - begin) / 1000,
  };
}
