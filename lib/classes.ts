/** What classes contribute to the Gauss-Newton matrix, and the covariance of gradients. */
import { type CallOptions, run } from "./call";
import type { DataSet } from "./data/data";
import { LinearOperator } from "./linear-operator";
import type { Model } from "./model/model";
import { native } from "./native";
import { fisher, ggn, gradient, type OperatorOptions } from "./operators";

/** Parts of the Gauss-Newton matrix G = class + cross + within. */
export interface ClassDecomposition {
  readonly classes: number;
  /** C x C: weight of the rows of (c, c'), their share of the second moment; sums to 1. */
  readonly weights: Float64Array;
  /** C x dim: delta_c, the weighted mean over c' != c of the cross-class means. */
  readonly classMeans: Float64Array;
  /** C x C x dim: delta_{c,c'}, the weighted mean of the rows of class c seen as c'. */
  readonly crossClassMeans: Float64Array;
  /** Rank at most C: sum over c of w_c delta_c delta_c^T. The outliers of the spectrum. */
  readonly class: LinearOperator;
  /** Rank at most C (C - 1): scatter of the cross-class means around the class means. */
  readonly cross: LinearOperator;
  /** The rest: scatter of samples around the means, and what samples give as their own class. */
  readonly within: LinearOperator;
  /** Exact traces; `own` is the part of `within` of rows with c' = c. Their sum but own is total. */
  readonly traces: {
    readonly class: number;
    readonly cross: number;
    readonly within: number;
    readonly own: number;
    readonly total: number;
  };
}

/**
 * Papyan's decomposition of the Gauss-Newton matrix of cross-entropy by classes (2019,
 * arXiv:1901.08244; 2020, arXiv:2008.11865). With p the probabilities of sample i of class c, the
 * row of (i, c') is delta = J^T (p - e_c') with weight p_c' / N, and
 *
 *   G = sum of weight * delta delta^T = class + cross + within
 *
 * by the law of total second moment, exactly. `within` is G minus the two low-rank parts. Costs C
 * backward passes a sample and 8 C^2 dim bytes; a product with `within` costs one with G.
 *
 * @throws OptionError unless the loss is cross-entropy with mean reduction on one label a sample,
 * without class weights and label smoothing, for up to 16 classes; AbortError; as `ggn`
 */
export async function classDecomposition(
  model: Model,
  data: DataSet,
  options: OperatorOptions & CallOptions = {},
): Promise<ClassDecomposition> {
  const { signal, onProgress, ...rest } = options;
  const G = ggn(model, data, rest);
  const found = await run((report) => G.native.call("classMeans", {}, report), {
    signal,
    onProgress,
  });
  const { classes: C, weights, means, squares } = found;
  const { dim } = G;

  const classMeans = new Float64Array(C * dim);
  const classWeights = new Float64Array(C);
  const crossMeans = new Float64Array(C * (C - 1) * dim);
  const crossWeights = new Float64Array(C * (C - 1));
  const pairs: [number, number][] = [];
  for (let c = 0; c < C; c++) for (let d = 0; d < C; d++) if (d !== c) pairs.push([c, d]);
  for (const [c, d] of pairs) {
    const w = weights[c * C + d]!;
    classWeights[c]! += w;
    for (let i = 0; i < dim; i++) classMeans[c * dim + i]! += w * means[(c * C + d) * dim + i]!;
  }
  for (let c = 0; c < C; c++)
    for (let i = 0; i < dim; i++)
      if (classWeights[c]! > 0) classMeans[c * dim + i]! /= classWeights[c]!;
  pairs.forEach(([c, d], at) => {
    crossWeights[at] = weights[c * C + d]!;
    for (let i = 0; i < dim; i++)
      crossMeans[at * dim + i] = means[(c * C + d) * dim + i]! - classMeans[c * dim + i]!;
  });

  const make = (name: string, vectors: Float64Array, factors: Float64Array) =>
    lowRank(name, G, vectors, factors);
  const classPart = make("class part of ggn", classMeans, classWeights);
  const crossPart = make("cross-class part of ggn", crossMeans, crossWeights);
  const both = new Float64Array(classMeans.length + crossMeans.length);
  both.set(classMeans);
  both.set(crossMeans, classMeans.length);
  const minus = Float64Array.of(...classWeights, ...crossWeights).map((w) => -w);
  const within = G.add(make("means", both, minus));

  const total = squares.reduce((sum, x) => sum + x, 0);
  const classTrace = weightedSquares(classMeans, classWeights, dim);
  const crossTrace = weightedSquares(crossMeans, crossWeights, dim);
  let own = 0;
  for (let c = 0; c < C; c++) own += squares[c * C + c]!;
  return {
    classes: C,
    weights,
    classMeans,
    crossClassMeans: means,
    class: classPart,
    cross: crossPart,
    within,
    traces: {
      class: classTrace,
      cross: crossTrace,
      within: total - classTrace - crossTrace,
      own,
      total,
    },
  };
}

function weightedSquares(vectors: Float64Array, weights: Float64Array, dim: number): number {
  return weights.reduce((sum, weight, k) => {
    let square = 0;
    for (let i = k * dim; i < (k + 1) * dim; i++) square += vectors[i]! ** 2;
    return sum + weight * square;
  }, 0);
}

/** The sum of weights[k] v_k v_k^T, over the coordinates of another operator. */
function lowRank(
  name: string,
  like: LinearOperator,
  vectors: Float64Array,
  weights: Float64Array,
): LinearOperator {
  const core = native().lowRankOperator(vectors, weights, like.dim, like.dtype);
  return new LinearOperator(core, name, like.parameters);
}

/** The numbers of the operator's tensors, of a vector over all parameters of the model. */
function chosen(model: Model, operator: LinearOperator, vector: Float64Array): Float64Array {
  const part = new Float64Array(operator.dim);
  for (const { name, offset, size } of operator.parameters ?? []) {
    const from = model.parameters.find((parameter) => parameter.name === name)!.offset;
    part.set(vector.subarray(from, from + size), offset);
  }
  return part;
}

/**
 * The covariance of the samples' gradients, (1/N) sum (g_n - g)(g_n - g)^T with g their mean: the
 * empirical Fisher (their second moment) less the outer product of the gradient. Costs a gradient;
 * a product costs one of the empirical Fisher.
 *
 * @throws as `fisher` of type "empirical"; OptionError unless the loss reduces by mean; AbortError
 */
export async function gradientCovariance(
  model: Model,
  data: DataSet,
  options: OperatorOptions & CallOptions = {},
): Promise<LinearOperator> {
  const { signal, onProgress, ...rest } = options;
  const moment = fisher(model, data, { ...rest, type: "empirical" });
  const { loss, precision, threads, batch, maxMemory } = rest;
  const run = { loss, precision, threads, batch, maxMemory };
  const { gradient: g } = await gradient(model, data, { ...run, signal, onProgress });
  const mean = chosen(model, moment, g);
  // With `sum` the moment is N times the mean of outer products, and g is N times their mean.
  const sum = (loss ?? model.loss) as { reduction?: string } | undefined;
  const weight = sum?.reduction === "sum" ? -1 / data.samples : -1;
  const part = lowRank("mean", moment, mean, Float64Array.of(weight));
  const covariance = moment.add(part);
  return new LinearOperator(covariance.native, "gradientCovariance", moment.parameters);
}
