/** Leading eigenspaces of curvature along a path, and what of training lies in them. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import { digestOf } from "../landscape/points";
import { LinearOperator, vectors } from "../linear-operator";
import type { Model } from "../model/model";
import type { Vectors } from "../native";
import { EVALUATE_OPTIONS, type EvaluateOptions, gradient, hessian, loss } from "../operators";
import { type Check, check, checkOptions, describe } from "../options";
import { type Eigenpairs, type EigshOptions, eigsh } from "../spectra";
import type { Baseline } from "../subspaces/baseline";
import { basisOf, type Rows } from "../subspaces/orthonormal";
import { overlapBaseline } from "../subspaces/subspaces";
import { type GradientNoise, gradientNoise } from "./alignment";
import { eachPair } from "./pairs";
import { type Coordinates, coordinatesOf, nestedOverlaps, nestedShares } from "./spaces";
import { ResultStore } from "./store";
import {
  CHECKPOINT_CHOICE,
  chosenCheckpoints,
  requireTrajectory,
  type Trajectory,
} from "./trajectory";

export interface CurvatureAlongOptions
  extends Omit<EvaluateOptions, "keepLinearisation">,
    Pick<EigshOptions, "tol" | "maxProducts" | "seed"> {
  /** Makes the operator of the network at a checkpoint. Default: the Hessian. */
  operator?: ((model: Model) => LinearOperator) | undefined;
  /**
   * What the operator depends on besides network, data, loss and its name, such as the draws of a
   * Fisher matrix, so that `resume` can tell results of others.
   */
  key?: string | undefined;
  /** How many eigenpairs. Default 10. */
  k?: number | undefined;
  /** "LA", the largest (default), or "LM", those of largest magnitude. */
  which?: "LA" | "LM" | undefined;
  /** Positions of the checkpoints it is computed at. Default: all. */
  checkpoints?: readonly number[] | undefined;
  /** Dimensions that overlaps between checkpoints are given for. Default 1, 2, 5, 10, ... up to k. */
  dimensions?: readonly number[] | undefined;
  /**
   * Whether to find the largest eigenvalue of the Hessian as well. Default: where the operator is the
   * Hessian, or a learning rate is given.
   */
  sharpness?: boolean | undefined;
  /** Of plain or heavy-ball gradient descent, one number or one a checkpoint of the path. */
  learningRate?: number | ArrayLike<number> | undefined;
  /** Of heavy-ball descent. Default 0. */
  momentum?: number | undefined;
  /** What is added to the Hessian by weight decay. Default 0. */
  weightDecay?: number | undefined;
  /** Random vectors for the noise of gradients against the operator; 0 (default): not computed. */
  noiseProbes?: number | undefined;
  /**
   * A folder that keeps the result at each checkpoint. A later call with the same settings computes
   * what is missing only, and gives the same numbers.
   */
  resume?: string | undefined;
}

const { keepLinearisation: _, ...EVALUATE } = EVALUATE_OPTIONS;
const OPTIONS: { [K in keyof Required<CurvatureAlongOptions>]: Check } = {
  ...EVALUATE,
  ...CALL_OPTIONS,
  tol: check.notNegative,
  maxProducts: check.positiveInteger,
  seed: check.seed,
  operator: check.function,
  key: { expected: "a string", fits: (value) => typeof value === "string" },
  k: check.positiveInteger,
  which: check.oneOf("LA", "LM"),
  checkpoints: CHECKPOINT_CHOICE,
  dimensions: {
    expected: "ascending whole numbers of at least 1",
    fits: (value) =>
      Array.isArray(value) &&
      value.length > 0 &&
      value.every((n, i) => Number.isSafeInteger(n) && n > (i === 0 ? 0 : value[i - 1])),
  },
  sharpness: check.boolean,
  learningRate: {
    expected: "a number above 0, or one for each checkpoint",
    fits: (value) =>
      [value].flat().length > 0 &&
      Array.from(typeof value === "number" ? [value] : ((value as ArrayLike<number>) ?? [])).every(
        (rate) => Number.isFinite(rate) && rate > 0,
      ),
  },
  momentum: {
    expected: "a number from 0 to below 1",
    fits: (value) => typeof value === "number" && value >= 0 && value < 1,
  },
  weightDecay: check.notNegative,
  noiseProbes: check.naturalNumber,
  resume: { expected: "a folder", fits: (value) => typeof value === "string" && value !== "" },
};

/** What is stored of a checkpoint, but for arrays. */
interface PointNumbers {
  readonly loss: number;
  readonly gradientNorm: number;
  readonly values: readonly number[];
  readonly residuals: readonly number[];
  readonly converged: boolean;
  readonly reason: string;
  readonly products: number;
  readonly sharpness?: number | undefined;
  readonly noise?:
    | (Omit<GradientNoise, "topShares"> & { topShares: readonly number[] })
    | undefined;
}

/** Curvature at one checkpoint. Shares have an entry for each leading dimension 1 .. k. */
export interface CurvaturePoint {
  /** Position in the path. */
  readonly checkpoint: number;
  readonly step: number;
  readonly loss: number;
  readonly gradientNorm: number;
  readonly values: Float64Array;
  readonly residuals: Float64Array;
  readonly converged: boolean;
  /** The largest eigenvalue of the Hessian. */
  readonly sharpness?: number | undefined;
  /** Where descent with the learning rate stops being stable: 2 (1 + momentum) / rate - decay. */
  readonly threshold?: number | undefined;
  /** Of the gradient here, ||V_j V_j^T g||^2 / ||g||^2; NaN where it is 0. */
  readonly gradientShares: Float64Array;
  /** Of the way to the next checkpoint; undefined at the last. */
  readonly updateShares?: Float64Array | undefined;
  /** Of the way from the first checkpoint, in the space here: c_j(t). NaN at the first. */
  readonly displacementShares: Float64Array;
  /** Of the same in the space at the last of the chosen checkpoints. */
  readonly confinement: Float64Array;
  readonly noise?: PointNumbers["noise"];
}

/** Overlaps of the leading spaces of checkpoints. */
export interface SpaceOverlaps {
  /** Dimension of the spaces. */
  readonly k: number;
  /** n x n for n checkpoints: ||V_k(s)^T V_k(t)||_F^2 / k. */
  readonly matrix: Float64Array;
  /** Of random spaces: k / dim, with the middle 95 % of draws. */
  readonly chance: Baseline;
}

export interface CurvatureAlong {
  /** The operator's name and dimension. */
  readonly operator: string;
  readonly dim: number;
  readonly k: number;
  readonly points: readonly CurvaturePoint[];
  readonly overlaps: readonly SpaceOverlaps[];
  /** Share of any vector in a random space, for each dimension of `overlaps`. */
  readonly shareByChance: readonly { readonly k: number; readonly chance: Baseline }[];
  readonly converged: boolean;
  /** Which did not converge, and why; "" where all did. */
  readonly reason: string;
  /** Products with single vectors of this call; stored results cost none. */
  readonly products: number;
  /** Checkpoints that were computed and that were found in the folder. */
  readonly computed: number;
  readonly reused: number;
  readonly seconds: number;
  /** The leading vectors at an entry of `points`: k x dim, row-major. */
  spaceAt(point: number): Promise<{ readonly vectors: Float64Array; readonly dim: number }>;
}

/**
 * The largest curvature at which gradient descent is stable on a quadratic, 2 (1 + momentum) / rate
 * less weight decay (Cohen et al. 2021); with momentum 0 the 2 / rate of plain descent.
 */
export function stabilityThreshold(
  learningRate: number,
  { momentum = 0, weightDecay = 0 }: { momentum?: number; weightDecay?: number } = {},
): number {
  return (2 * (1 + momentum)) / learningRate - weightDecay;
}

function dimensionsOf(k: number, given: readonly number[] | undefined): number[] {
  if (given) {
    if (given.at(-1)! > k)
      throw new OptionError(
        `curvatureAlong: dimensions: expected at most k = ${k}, got ${given.at(-1)}`,
      );
    return [...given];
  }
  const round = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].filter((n) => n < k);
  return [...round, k];
}

/** Losses agree to this when they are computed again. */
const AGAIN = { float32: 1e-5, float64: 1e-10 };

/** What a call works with. */
interface Task {
  path: Trajectory;
  data: DataSet;
  options: CurvatureAlongOptions;
  store: ResultStore<PointNumbers>;
  run: Omit<EvaluateOptions, keyof CallOptions>;
  k: number;
  sharp: boolean;
}

/** Vectors to begin with: those of the checkpoint before. */
interface Start {
  top?: Vectors;
  sharpest?: Vectors;
}

function makeOperator({ options, data, run }: Task, model: Model): LinearOperator {
  const made = options.operator ? options.operator(model) : hessian(model, data, run);
  if (!(made instanceof LinearOperator))
    throw new OptionError(
      `curvatureAlong: operator: expected it to make an operator, got ${describe(made)}`,
    );
  return made;
}

async function compute(
  task: Task,
  model: Model,
  operator: LinearOperator,
  start: Start,
  onProgress: CallOptions["onProgress"],
): Promise<{ numbers: PointNumbers; arrays: Record<string, Vectors>; products: number }> {
  const { options, data, run, k, sharp } = task;
  const { tol, maxProducts, seed, which = "LA", noiseProbes = 0, signal } = options;
  const solve = (of: LinearOperator, more: EigshOptions): Promise<Eigenpairs> =>
    eigsh(of, { tol, maxProducts, seed, signal, onProgress, ...more });
  const g = await gradient(model, data, { ...run, signal });
  const top = await solve(operator, { k, which, start: start.top });
  let products = top.products;
  const arrays: Record<string, Vectors> = { vectors: top.vectors, gradient: g.gradient };
  let sharpness: number | undefined;
  let reason = top.reason;
  if (sharp && !options.operator && which === "LA") sharpness = top.values[0]!;
  else if (sharp) {
    using H = hessian(model, data, run);
    const found = await solve(H, { k: 1, which: "LA", start: start.sharpest });
    sharpness = found.values[0]!;
    products += found.products;
    arrays.sharpest = found.vectors;
    if (!found.converged) reason ||= `largest eigenvalue of the Hessian: ${found.reason}`;
  }
  let noise: PointNumbers["noise"];
  if (noiseProbes > 0) {
    const found = await gradientNoise(model, data, {
      ...{ ...run, signal, onProgress, seed, probes: noiseProbes, curvature: operator, top },
    });
    noise = { ...found, topShares: Array.from(found.topShares) };
    products += found.products;
  }
  return {
    numbers: {
      loss: g.loss,
      gradientNorm: g.norm,
      values: Array.from(top.values),
      residuals: Array.from(top.residuals),
      converged: reason === "",
      reason,
      products,
      sharpness,
      noise,
    },
    arrays,
    products,
  };
}

/**
 * The k leading eigenpairs of a curvature matrix at checkpoints of a path, each solve started from
 * the vectors of the one before; how much the spaces overlap; what of gradients, of the way to the
 * next checkpoint and of the way from the first lies in them (Gur-Ari, Roberts and Dyer 2018), in the
 * space at the same checkpoint and, as confinement c_k(t), in that at the last; each beside chance,
 * k / dim. What does not lie in the top is in the bulk: 1 - share.
 *
 * With a learning rate, sharpness (the largest eigenvalue of the Hessian) stands beside the edge of
 * stability; with `noiseProbes`, the covariance of gradients beside the operator (`gradientNoise`).
 *
 * ```ts
 * const path = await trajectory(model, "checkpoints");
 * const found = await curvatureAlong(path, data, {
 *   operator: (at) => fisher(at, data, { type: "type-2" }), k: 20, resume: "curvature",
 * });
 * found.points.at(-1).displacementShares[19];
 * ```
 *
 * Costs a gradient and the products of `eigsh` a checkpoint; without `resume`, k + 1 vectors a
 * checkpoint are held in memory. Not converging is no error: `converged`
 * is false then.
 *
 * @throws as `eigsh`, `gradient` and `loadCheckpoint`; OptionError where the folder of `resume` holds
 * results of other settings, or the operator acts on parts of tensors; AbortError
 */
export async function curvatureAlong(
  path: Trajectory,
  data: DataSet,
  options?: CurvatureAlongOptions,
): Promise<CurvatureAlong> {
  requireTrajectory("curvatureAlong", path);
  const given = checkOptions("curvatureAlong", options, OPTIONS);
  const begin = performance.now();
  const { loss: lossOption, precision = "float32", threads, batch, maxMemory, signal } = given;
  const { learningRate, momentum, weightDecay } = given;
  const k = given.k ?? Math.min(10, path.model.parameterCount);
  const chosen = chosenCheckpoints("curvatureAlong", path, given.checkpoints);
  const rates = learningRate === undefined ? undefined : ratesOf(learningRate, path);
  const task: Task = {
    ...{ path, data, options: given, k },
    run: { loss: lossOption, precision, threads, batch, maxMemory },
    store: await ResultStore.open<PointNumbers>(given.resume),
    sharp: given.sharpness ?? (!given.operator || rates !== undefined),
  };
  const found: PointNumbers[] = [];
  let [products, computed, reused] = [0, 0, 0];
  let coordinates: Coordinates | undefined;
  let name = "";
  for (const [place, i] of chosen.entries()) {
    using model = await path.at(i, { signal });
    using operator = makeOperator(task, model);
    coordinates ??= coordinatesOf("curvatureAlong", model, operator);
    name ||= operator.name;
    if (k > operator.dim)
      throw new OptionError(
        `curvatureAlong: k: expected at most ${operator.dim}, the dimension of ${name}, got ${k}`,
      );
    const step = path.steps[i]!;
    const settings = {
      ...{ operator: name, dim: operator.dim, dtype: operator.dtype, data: data.toString() },
      ...{ loss: lossOption ?? model.loss, precision, batch, k, which: given.which ?? "LA" },
      ...{ tol: given.tol, maxProducts: given.maxProducts, seed: `${given.seed ?? 0}` },
      ...{ noise: given.noiseProbes ?? 0, sharp: task.sharp, key: given.key },
    };
    const digest = digestOf(settings, [await path.parameters(i, { signal })]);
    let numbers = await task.store.find(step, digest);
    if (numbers) {
      if (reused++ === 0) await checkAgain(task, model, numbers, step);
    } else {
      const done = products;
      const onProgress: CallOptions["onProgress"] =
        given.onProgress &&
        ((progress) =>
          given.onProgress!({
            products: done + progress.products,
            fraction: (place + Math.min(0.95, progress.fraction ?? 0.5)) / chosen.length,
            seconds: (performance.now() - begin) / 1000,
          }));
      const start =
        place === 0 ? {} : await startFrom(task, path.steps[chosen[place - 1]!]!, operator.dtype);
      const result = await compute(task, model, operator, start, onProgress);
      await task.store.put(step, digest, result);
      numbers = result.numbers;
      products += result.products;
      computed++;
    }
    found.push(numbers);
  }

  const dims = dimensionsOf(k, given.dimensions);
  const dim = coordinates!.dim;
  const stepAt = (point: number) => path.steps[chosen[point]!]!;
  const spaceAt = async (point: number) => ({
    vectors: await task.store.array(stepAt(point), "vectors"),
    dim,
  });
  const rowsAt = async (point: number): Promise<Rows> => {
    const space = await spaceAt(point);
    // float32 leaves vectors orthonormal to 1e-6; in order, so that leading spaces stay.
    return basisOf("curvatureAlong", `vectors at step ${stepAt(point)}`, space);
  };
  const shares = await sharesOf(task, chosen, coordinates!, rowsAt, signal);
  const overlaps = await overlapsOf(task, chosen.length, dims, dim, rowsAt, signal);
  const points = found.map((numbers, place): CurvaturePoint => {
    const { values, residuals, noise, sharpness } = numbers;
    const i = chosen[place]!;
    return {
      ...{ checkpoint: i, step: path.steps[i]!, loss: numbers.loss },
      ...{ gradientNorm: numbers.gradientNorm, converged: numbers.converged },
      values: Float64Array.from(values),
      residuals: Float64Array.from(residuals),
      sharpness,
      threshold: rates && stabilityThreshold(rates[i]!, { momentum, weightDecay }),
      ...shares[place]!,
      noise,
    };
  });
  const failed = found.flatMap(({ reason }, place) =>
    reason === "" ? [] : [`step ${stepAt(place)}: ${reason}`],
  );
  return {
    ...{ operator: name, dim, k, points, overlaps },
    shareByChance: dims.map((n) => ({ k: n, chance: overlapBaseline(1, n, dim) })),
    converged: failed.length === 0,
    reason: failed.join("; "),
    ...{ products, computed, reused },
    seconds: (performance.now() - begin) / 1000,
    spaceAt,
  };
}

function ratesOf(given: number | ArrayLike<number>, path: Trajectory): Float64Array {
  if (typeof given === "number") return new Float64Array(path.length).fill(given);
  if (given.length !== path.length)
    throw new OptionError(
      `curvatureAlong: learningRate: expected ${path.length} numbers, one a checkpoint, got ` +
        `${given.length}`,
    );
  return Float64Array.from(given);
}

async function startFrom(task: Task, step: number, dtype: "float32" | "float64"): Promise<Start> {
  const read = async (name: string): Promise<Vectors> => {
    const values = await task.store.array(step, name);
    const result = vectors(dtype, values.length);
    result.set(values);
    return result;
  };
  const apart = task.sharp && (task.options.operator || task.options.which === "LM");
  return { top: await read("vectors"), ...(apart && { sharpest: await read("sharpest") }) };
}

/** The digest does not cover the numbers of the data. */
async function checkAgain(
  { data, run, options }: Task,
  model: Model,
  stored: PointNumbers,
  step: number,
): Promise<void> {
  const now = await loss(model, data, { ...run, signal: options.signal });
  if (!(Math.abs(now - stored.loss) <= AGAIN[run.precision ?? "float32"] * Math.abs(stored.loss)))
    throw new OptionError(
      `${options.resume}: holds the loss ${stored.loss} of step ${step} where it is now ${now}: the ` +
        "data have changed; give another folder, or remove the files",
    );
}

type Shares = Pick<
  CurvaturePoint,
  "gradientShares" | "updateShares" | "displacementShares" | "confinement"
>;

async function sharesOf(
  { path, store, k }: Task,
  chosen: readonly number[],
  { pick }: Coordinates,
  rowsAt: (point: number) => Promise<Rows>,
  signal: AbortSignal | undefined,
): Promise<Shares[]> {
  const first = pick(await path.parameters(0, { signal }));
  const last = await rowsAt(chosen.length - 1);
  const away = (x: Float64Array, from: Float64Array) => x.map((value, i) => value - from[i]!);
  const shares: Shares[] = [];
  for (const [place, i] of chosen.entries()) {
    const rows = place + 1 === chosen.length ? last : await rowsAt(place);
    const here = pick(await path.parameters(i, { signal }));
    const displacement = away(here, first);
    const g = pick(await store.array(path.steps[i]!, "gradient"));
    const none = new Float64Array(k).fill(Number.NaN);
    shares.push({
      gradientShares: nestedShares(rows, g),
      updateShares:
        i + 1 < path.length
          ? nestedShares(rows, away(pick(await path.parameters(i + 1, { signal })), here))
          : undefined,
      displacementShares: i === 0 ? none : nestedShares(rows, displacement),
      confinement: i === 0 ? none : nestedShares(last, displacement),
    });
  }
  return shares;
}

async function overlapsOf(
  { path, k }: Task,
  count: number,
  dims: readonly number[],
  dim: number,
  rowsAt: (point: number) => Promise<Rows>,
  signal: AbortSignal | undefined,
): Promise<SpaceOverlaps[]> {
  const matrices = dims.map(() => new Float64Array(count * count));
  const room = Math.max(1, Math.floor((path.spare * path.model.parameterCount) / (k * dim)) - 1);
  await eachPair(
    count,
    room,
    rowsAt,
    (first, block, j, rows) => {
      block.forEach((other, b) => {
        const i = first + b;
        const nested = i === j ? undefined : nestedOverlaps(other, rows);
        dims.forEach((n, d) => {
          const value = nested ? nested[n - 1]! : 1;
          matrices[d]![i * count + j] = value;
          matrices[d]![j * count + i] = value;
        });
      });
    },
    signal,
  );
  return dims.map((n, d) => ({
    k: n,
    matrix: matrices[d]!,
    // A draw costs n^3.
    chance: overlapBaseline(n, n, dim, { draws: Math.max(50, Math.min(1000, 1e8 / n ** 3) | 0) }),
  }));
}
