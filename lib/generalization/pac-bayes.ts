/** A PAC-Bayes bound of the error of a randomised network. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { selectSamples } from "../data/select";
import { OptionError } from "../errors";
import { exactDiagonal } from "../exact";
import { type Checkpoint, parametersOf, parameterVector } from "../landscape/directions";
import type { Model } from "../model/model";
import { checkSubject, type OperatorOptions } from "../operators";
import { type Check, check, checkOptions } from "../options";
import { gaussianKl, inverseBernoulliKl, pacBayesBound } from "./kl";
import { Normals } from "./normals";
import { CURVATURES, OPERATOR_OPTIONS } from "./quantities";
import { RandomisedNetwork } from "./randomised";

export interface PacBayesOptions extends Omit<OperatorOptions, "params" | "exclude">, CallOptions {
  /**
   * The mean of the prior: where training began. The bound holds if it does not depend on the data,
   * as an initialisation does not, nor a network that was trained on other data.
   */
  initial: Checkpoint;
  /**
   * What shapes the variances of the posterior, 1 / (n beta h_i + 1 / lambda): the diagonal h of the
   * GGN (default) or of the empirical Fisher matrix, or nothing.
   */
  shape?: "ggn" | "fisher-empirical" | "isotropic" | undefined;
  /** Samples that the diagonal is of, the first so many. Default 2000. */
  shapeSamples?: number | undefined;
  /** Probability that the bound fails by the choice of the data. Default 0.025. */
  delta?: number | undefined;
  /** Probability that the Monte Carlo estimate of the empirical risk fails. Default 0.01. */
  deltaMonteCarlo?: number | undefined;
  /**
   * Prior variances are lambda = c exp(-j / b) for whole j from 1; each pays ln(pi^2 j^2 / 6).
   * Defaults 0.1 and 10.
   */
  c?: number | undefined;
  b?: number | undefined;
  /** The j that are tried. Default 1 to 6 b. */
  j?: readonly [first: number, last: number] | undefined;
  /** The beta that are tried; they cost nothing. Default 0, 1e-3, ..., 100. */
  beta?: readonly number[] | undefined;
  /** Networks drawn for the estimate of the empirical risk. Default 3000. */
  draws?: number | undefined;
  /** Samples that each drawn network is evaluated on: a random part of the data. Default 2000. */
  drawSamples?: number | undefined;
  /** Networks drawn for each candidate while lambda and beta are chosen. Default 4. */
  choiceDraws?: number | undefined;
  /** Other data, by name, on which the randomised network is evaluated as well, without a bound. */
  test?: Readonly<Record<string, DataSet>> | undefined;
  /** Of draws. Default 0. */
  seed?: number | bigint | undefined;
  /** What the target array is called. Default "y". */
  target?: string | undefined;
}

const { params: _params, exclude: _exclude, ...RUN } = OPERATOR_OPTIONS;
const probability: Check = {
  expected: "a number between 0 and 1",
  fits: (value) => typeof value === "number" && value > 0 && value < 1,
};
const positive: Check = {
  expected: "a number over 0",
  fits: (value) => Number.isFinite(value) && (value as number) > 0,
};

const OPTIONS: { [K in keyof Required<PacBayesOptions>]: Check } = {
  ...RUN,
  ...CALL_OPTIONS,
  initial: check.anything, // parametersOf does it
  shape: check.oneOf("ggn", "fisher-empirical", "isotropic"),
  shapeSamples: check.positiveInteger,
  delta: probability,
  deltaMonteCarlo: probability,
  c: positive,
  b: positive,
  j: {
    expected: "two whole numbers [first, last] with 1 <= first <= last",
    fits: (value) =>
      Array.isArray(value) &&
      value.length === 2 &&
      value.every(check.positiveInteger.fits) &&
      value[0] <= value[1],
  },
  beta: {
    expected: "an array of numbers of at least 0",
    fits: (value) =>
      Array.isArray(value) && value.length > 0 && value.every(check.notNegative.fits),
  },
  draws: check.positiveInteger,
  drawSamples: check.positiveInteger,
  choiceDraws: check.positiveInteger,
  test: {
    expected: "data sets by name",
    fits: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  },
  seed: check.seed,
  target: check.anything,
};

/** A pair of lambda and beta that was tried. */
export interface PacBayesCandidate {
  readonly j: number;
  readonly lambda: number;
  readonly beta: number;
  readonly kl: number;
  /** Mean error of a few draws on part of the data, and the bound that this would give. */
  readonly error: number;
  readonly bound: number;
}

export interface PacBayesResult {
  /** The error of the randomised network on new data is at most this, with probability `confidence`. */
  readonly bound: number;
  /** Whether it is below 1, and below the error of always predicting the most frequent class. */
  readonly nonVacuous: boolean;
  readonly belowChance: boolean;
  readonly confidence: number;
  readonly delta: number;
  readonly deltaMonteCarlo: number;
  /** n: samples of the bound, on which the mean of the posterior was trained. */
  readonly samples: number;
  /** KL of posterior and prior in nats, its part from the distance of the means, and over n. */
  readonly kl: number;
  readonly klMeans: number;
  readonly klOverN: number;
  /** (KL + ln(2 sqrt(n) / delta_j)) / n, what kl(empirical || true) may be. */
  readonly budget: number;
  /** Of the randomised network on the data: the estimate, and its upper confidence bound. */
  readonly empiricalRisk: number;
  readonly empiricalRiskUpper: number;
  /** Error of the network itself, at the posterior's mean, on the data. */
  readonly meanError: number;
  /** Errors on other data, of which nothing is proven. */
  readonly test: Readonly<Record<string, { error: number; meanError: number }>>;
  /** The prior N(initial, lambda I): j of the grid, delta_j = 6 delta / (pi^2 j^2). */
  readonly prior: {
    readonly j: number;
    readonly lambda: number;
    readonly sigma: number;
    readonly c: number;
    readonly b: number;
    readonly deltaJ: number;
  };
  /** The posterior N(theta, diag(s)), s_i = 1 / (n beta h_i + 1 / lambda). */
  readonly posterior: {
    readonly shape: string;
    readonly beta: number;
    readonly distance: number;
    readonly smallestVariance: number;
    readonly meanVariance: number;
    readonly largestVariance: number;
    readonly shapeSamples: number;
  };
  readonly draws: number;
  readonly drawSamples: number;
  readonly candidates: readonly PacBayesCandidate[];
  /** What the bound supposes, in words. */
  readonly supposes: readonly string[];
  readonly seconds: number;
}

const WHERE = "pacBayes";
/** Streams of one seed: the choice of lambda and beta must not share numbers with the estimate. */
const [CHOICE, ESTIMATE, OTHERS] = [31, 32, 33];
const BETAS = [0, 1e-3, 1e-2, 1e-1, 1, 10, 100];

/**
 * An upper bound of the 0-1 error of a randomised network N(theta, diag(s)) on new data, which holds
 * with probability 1 - delta - deltaMonteCarlo (Dziugaite and Roy 2017, with the variances of the
 * posterior shaped by curvature instead of trained).
 *
 * With probability 1 - delta over the data, for all posteriors and all j of the prior at once,
 * kl(empirical risk || risk) <= (KL + ln(2 sqrt(n) / delta_j)) / n, delta_j = 6 delta / (pi^2 j^2)
 * (Seeger 2002; Maurer 2004). The empirical risk is estimated from networks drawn anew after lambda
 * and beta were chosen, and with probability 1 - deltaMonteCarlo below the largest p with
 * kl(estimate || p) <= ln(1 / deltaMonteCarlo) / draws, as each draw is an independent number in
 * [0, 1] with that mean.
 *
 * @param data that the model's parameters were trained on; all of it
 * @param options.initial the mean of the prior, independent of the data
 * @throws OptionError for losses without accuracy; DataMismatchError; AbortError
 */
export async function pacBayes(
  model: Model,
  data: DataSet,
  options: PacBayesOptions,
): Promise<PacBayesResult> {
  const begin = performance.now();
  const checked = checkOptions(WHERE, options, OPTIONS);
  checkSubject(WHERE, model, data);
  const { initial, shape = "ggn", delta = 0.025, deltaMonteCarlo = 0.01, seed = 0 } = checked;
  const { c = 0.1, b = 10, beta: betas = shape === "isotropic" ? [0] : BETAS } = checked;
  const {
    draws = 3000,
    choiceDraws = 4,
    target = "y",
    signal,
    onProgress,
    loss,
    ...rest
  } = checked;
  const { precision, threads, batch, maxMemory, keepLinearisation } = rest;
  const settings = { precision, threads, batch, maxMemory, keepLinearisation, loss };
  const [firstJ, lastJ] = checked.j ?? [1, Math.ceil(6 * b)];
  if (initial === undefined)
    throw new OptionError(
      `${WHERE}: initial: expected the parameters that training began with (or others that do not ` +
        "depend on the data), got undefined",
    );
  const n = data.samples;
  const theta = parameterVector(model);
  const theta0 = parametersOf(`${WHERE}: initial`, model, initial);
  const distance = Math.sqrt(theta.reduce((sum, x, i) => sum + (x - theta0[i]!) ** 2, 0));
  const call = { signal, onProgress };

  const shapeSamples = Math.min(checked.shapeSamples ?? 2000, n);
  const h = await shapeOf(model, data, shape, shapeSamples, target, settings, call);
  const variances = (lambda: number, beta: number) =>
    h.map((value) => 1 / (n * beta * Math.max(value, 0) + 1 / lambda));
  const errors = await RandomisedNetwork.of(
    ...([WHERE, model, data, Math.min(checked.drawSamples ?? 2000, n), target] as const),
    { ...settings, signal },
  );
  try {
    const report = (done: number, total: number) =>
      onProgress?.({
        products: 0,
        fraction: done / total,
        seconds: (performance.now() - begin) / 1000,
      });
    const lambdaOf = (j: number) => c * Math.exp(-j / b);
    const deltaOf = (j: number) => (6 * delta) / (Math.PI * j) ** 2;
    const candidate = async (j: number, beta: number): Promise<PacBayesCandidate> => {
      const lambda = lambdaOf(j);
      const s = variances(lambda, beta);
      const kl = gaussianKl(theta, s, theta0, lambda);
      const least = pacBayesBound({ empiricalRisk: 0, kl, samples: n, delta: deltaOf(j) }).bound;
      // No error makes up for that.
      if (least > 0.9999) return { j, lambda, beta, kl, error: 0, bound: 1 };
      const random = new Normals(seed, CHOICE);
      const error = await errors.mean(s, choiceDraws, random, signal);
      const { bound } = pacBayesBound({ empiricalRisk: error, kl, samples: n, delta: deltaOf(j) });
      return { j, lambda, beta, kl, error, bound };
    };
    const candidates: PacBayesCandidate[] = [];
    const least = () => candidates.reduce((best, next) => (next.bound < best.bound ? next : best));
    const tried = new Set<string>();
    const tryAll = async (
      js: readonly number[],
      some: readonly number[],
      from: number,
      to: number,
    ) => {
      const pairs = some.flatMap((beta) => js.map((j) => [j, beta] as const));
      for (const [i, [j, beta]] of pairs.entries()) {
        if (tried.has(`${j} ${beta}`)) continue;
        tried.add(`${j} ${beta}`);
        candidates.push(await candidate(j, beta));
        report(from + ((to - from) * (i + 1)) / pairs.length, 1);
      }
    };
    // A coarse grid of j, then those beside the best.
    const coarse = Math.max(1, Math.floor((lastJ - firstJ) / 12));
    const grid: number[] = [];
    for (let j = firstJ; j <= lastJ; j += coarse) grid.push(j);
    await tryAll(grid, betas, 0, 0.3);
    const { j: near, beta: nearBeta } = least();
    const beside = Array.from({ length: 2 * coarse + 1 }, (_, i) => near - coarse + i).filter(
      (j) => j >= firstJ && j <= lastJ,
    );
    const at = betas.indexOf(nearBeta);
    await tryAll(beside, betas.slice(Math.max(0, at - 1), at + 2), 0.3, 0.4);

    const { j, lambda, beta, kl } = least();
    const s = variances(lambda, beta);
    const random = new Normals(seed, ESTIMATE);
    const empiricalRisk = await errors.mean(s, draws, random, signal, (done) =>
      report(0.4 + (0.5 * done) / draws, 1),
    );
    const empiricalRiskUpper = monteCarloBound(empiricalRisk, draws, deltaMonteCarlo);
    const deltaJ = deltaOf(j);
    const { bound, budget } = pacBayesBound({
      ...{ empiricalRisk: empiricalRiskUpper, kl, samples: n, delta: deltaJ },
    });
    const meanError = await errors.atMean(signal);
    const test: Record<string, { error: number; meanError: number }> = {};
    for (const [name, set] of Object.entries(checked.test ?? {})) {
      using others = await RandomisedNetwork.of(WHERE, model, set, set.samples, target, {
        ...settings,
        signal,
      });
      const some = new Normals(seed, OTHERS);
      const error = await others.mean(s, Math.min(draws, 100), some, signal);
      test[name] = { error, meanError: await others.atMean(signal) };
    }
    const sum = s.reduce((total, x) => total + x, 0);
    const klMeans = distance ** 2 / (2 * lambda);
    return {
      ...{ bound, nonVacuous: bound < 1, belowChance: bound < errors.chance },
      ...{ confidence: 1 - delta - deltaMonteCarlo, delta, deltaMonteCarlo, samples: n },
      ...{ kl, klMeans, klOverN: kl / n, budget },
      ...{ empiricalRisk, empiricalRiskUpper, meanError, test },
      prior: { j, lambda, sigma: Math.sqrt(lambda), c, b, deltaJ },
      posterior: {
        ...{ shape, beta, distance, shapeSamples: shape === "isotropic" ? 0 : shapeSamples },
        smallestVariance: s.reduce((a, x) => Math.min(a, x), Number.POSITIVE_INFINITY),
        meanVariance: sum / s.length,
        largestVariance: s.reduce((a, x) => Math.max(a, x), 0),
      },
      ...{ draws, drawSamples: errors.drawSamples, candidates },
      supposes: [
        `the ${n.toLocaleString("en-US")} samples are drawn independently from the distribution of new data`,
        "the mean of the prior, initial, does not depend on them",
        "it is about the randomised network, whose weights are drawn anew for each prediction",
      ],
      seconds: (performance.now() - begin) / 1000,
    };
  } finally {
    errors.dispose();
  }
}

/**
 * The upper confidence bound of a mean of independent numbers in [0, 1], from the mean of `draws`:
 * the largest p with kl(mean || p) <= ln(1 / delta) / draws (Chernoff; Hoeffding 1963, theorem 1).
 */
export function monteCarloBound(mean: number, draws: number, delta: number): number {
  return inverseBernoulliKl(mean, Math.log(1 / delta) / draws);
}

type Settings = Pick<
  OperatorOptions,
  "precision" | "threads" | "batch" | "maxMemory" | "keepLinearisation" | "loss"
>;

async function shapeOf(
  model: Model,
  data: DataSet,
  shape: NonNullable<PacBayesOptions["shape"]>,
  samples: number,
  target: string,
  settings: Settings,
  { signal, onProgress }: CallOptions,
): Promise<Float64Array> {
  if (shape === "isotropic") return new Float64Array(model.parameterCount);
  const few = samples < data.samples;
  const some = few ? await selectSamples(data, indices(0, samples), { target, signal }) : data;
  try {
    using operator = CURVATURES[shape](model, some, settings);
    return (await exactDiagonal(operator, { signal, onProgress })).diagonal;
  } finally {
    if (few) some.dispose();
  }
}

const indices = (first: number, last: number) =>
  Array.from({ length: last - first }, (_, i) => first + i);
