/** Conserved quantities of symmetries along a path: how far training lets them drift, and why. */
import { CALL_OPTIONS } from "../call";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import { exactDiagonal } from "../exact";
import { EVALUATE_OPTIONS, type EvaluateOptions, fisher, gradient } from "../operators";
import { type Check, check, checkOptions, describe } from "../options";
import { norm } from "../vectors";
import { breath } from "./pairs";
import { requireTrajectory, type Trajectory } from "./trajectory";

/**
 * What gradient flow conserves because of a symmetry: linear in the parameters (degree 1, such as
 * the sum of weights that a softmax does not see), or quadratic (degree 2, such as
 * |incoming|^2 - |outgoing|^2 of a unit that can be rescaled).
 */
export interface Charge {
  readonly name: string;
  readonly degree: 1 | 2;
  /**
   * Of degree 2: whether each value is a sum of multiples of squares of single parameters (default
   * true), as of rescaled units, and not of products of two, as of W W^T.
   */
  readonly diagonal?: boolean | undefined;
  /** The values at given parameters, one a unit. */
  of(parameters: Float64Array): ArrayLike<number>;
}

export interface ChargeDriftOptions extends Omit<EvaluateOptions, "keepLinearisation"> {
  /** With a learning rate: what the drift should be is computed from gradients on these data. */
  data?: DataSet | undefined;
  /** Of gradient descent without momentum, one number or one a checkpoint. */
  learningRate?: number | ArrayLike<number> | undefined;
  /** The gradient of weightDecay ||theta||^2 / 2 is added to that of the loss. Default 0. */
  weightDecay?: number | undefined;
  /** Samples a step, drawn anew; adds their noise to the prediction. Default: all samples. */
  batchSize?: number | undefined;
}

const { keepLinearisation: _, ...EVALUATE } = EVALUATE_OPTIONS;
const OPTIONS: { [K in keyof Required<ChargeDriftOptions>]: Check } = {
  ...EVALUATE,
  ...CALL_OPTIONS,
  data: check.anything,
  learningRate: {
    expected: "a number above 0, or one for each checkpoint",
    fits: (value) => {
      const rates = typeof value === "number" ? [value] : Array.from(value as ArrayLike<number>);
      return rates.length > 0 && rates.every((rate) => Number.isFinite(rate) && rate > 0);
    },
  },
  weightDecay: check.notNegative,
  batchSize: check.positiveInteger,
};

/** One family of charges along a path of T checkpoints. */
export interface ChargeDrift {
  readonly name: string;
  readonly degree: 1 | 2;
  /** How many charges. */
  readonly size: number;
  /** T x size. */
  readonly values: Float64Array;
  /** Norm of q(t) - q(0), T of them. */
  readonly drift: Float64Array;
  /** The same over the norm of q(0); NaN where that is 0. */
  readonly relativeDrift: Float64Array;
  /** What weight decay alone would leave: norm of q(0) times (1 - rate decay)^(degree n). */
  readonly decayed?: Float64Array | undefined;
  /** Norm of q(t). */
  readonly norms: Float64Array;
  /** T x size: what discrete descent should have made of q(0); see `chargeDrift`. */
  readonly predicted?: Float64Array | undefined;
  /** Norm of predicted(t) - q(t) over that of q(t) - q(0); NaN at the first. */
  readonly predictionError?: Float64Array | undefined;
}

/**
 * Drift of conserved charges along checkpoints. Gradient flow keeps them; a step of discrete descent,
 * theta' = (1 - rate decay) theta - rate g, changes a charge of degree 2 to
 * (1 - rate decay)^2 q + rate^2 q(g), exactly, with q(g) the same function of the gradient, and one
 * of degree 1 to (1 - rate decay) q (Kunin et al. 2021; the identities follow from <g, generator> =
 * 0). With `data` and `learningRate`, `predicted` sums that up: exactly where each step of full-batch
 * descent is a checkpoint, else with q(g) interpolated between checkpoints; with `batchSize` the
 * expectation over batches, for which the covariance of gradients over the batch size is added.
 *
 * Steps of the path count updates. Costs nothing without data; else a gradient a checkpoint, and with
 * `batchSize` the diagonal of the empirical Fisher matrix.
 *
 * @throws OptionError; as `loadCheckpoint` and `gradient`; AbortError
 */
export async function chargeDrift(
  path: Trajectory,
  charges: readonly Charge[],
  options?: ChargeDriftOptions,
): Promise<ChargeDrift[]> {
  requireTrajectory("chargeDrift", path);
  const given = checkOptions("chargeDrift", options, OPTIONS);
  if (!Array.isArray(charges) || charges.some((charge) => typeof charge?.of !== "function"))
    throw new OptionError(
      `chargeDrift: charges: expected an array of them, got ${describe(charges)}`,
    );
  const { data, signal, batchSize, weightDecay = 0 } = given;
  const rates = ratesOf(path, given.learningRate);
  if (data && !rates)
    throw new OptionError("chargeDrift: expected a learningRate with data, got none");
  if (batchSize !== undefined && !data)
    throw new OptionError("chargeDrift: batchSize: expected data as well, got none");
  const values: Float64Array[][] = charges.map(() => []);
  const forces: Float64Array[][] = charges.map(() => []);
  for (let t = 0; t < path.length; t++) {
    const theta = await path.parameters(t, { signal });
    charges.forEach((charge, c) => {
      values[c]!.push(Float64Array.from(charge.of(theta)));
    });
    if (data) {
      const squares = await squaredStep(path, t, data, given);
      charges.forEach((charge, c) => {
        if (charge.degree === 2) forces[c]!.push(Float64Array.from(charge.of(squares(charge))));
      });
    }
    await breath(signal);
  }
  return charges.map((charge, c) => {
    const { name, degree } = charge;
    const all = values[c]!;
    const size = all[0]!.length;
    const drift = Float64Array.from(all, (q) => norm(q.map((x, i) => x - all[0]![i]!)));
    const start = norm(all[0]!);
    const flat = (rows: readonly Float64Array[]) => {
      const out = new Float64Array(rows.length * size);
      rows.forEach((row, t) => {
        out.set(row, t * size);
      });
      return out;
    };
    const plan = rates && planOf(path, rates, weightDecay, degree);
    const exact = degree === 1 || (data !== undefined && predictable(charge, batchSize));
    const predicted = plan && exact ? predict(all[0]!, forces[c]!, plan) : undefined;
    return {
      ...{ name, degree, size, values: flat(all), drift },
      relativeDrift: drift.map((x) => (start > 0 ? x / start : Number.NaN)),
      norms: Float64Array.from(all, norm),
      decayed: plan && weightDecay > 0 ? decayOf(start, plan) : undefined,
      predicted: predicted && flat(predicted),
      predictionError:
        predicted &&
        Float64Array.from(predicted, (q, t) =>
          t === 0 ? Number.NaN : norm(q.map((x, i) => x - all[t]![i]!)) / drift[t]!,
        ),
    };
  });
}

const predictable = ({ diagonal = true }: Charge, batchSize: number | undefined) =>
  diagonal || batchSize === undefined;

function ratesOf(
  path: Trajectory,
  given: number | ArrayLike<number> | undefined,
): Float64Array | undefined {
  if (given === undefined) return undefined;
  if (typeof given === "number") return new Float64Array(path.length).fill(given);
  if (given.length !== path.length)
    throw new OptionError(
      `chargeDrift: learningRate: expected ${path.length} numbers, one a checkpoint, got ` +
        `${given.length}`,
    );
  return Float64Array.from(given);
}

/** The gradient, or the root of its expected squares over batches, for charges that are diagonal. */
async function squaredStep(
  path: Trajectory,
  t: number,
  data: DataSet,
  options: ChargeDriftOptions,
): Promise<(charge: Charge) => Float64Array> {
  const { loss, precision, threads, batch, maxMemory, signal, batchSize } = options;
  const run = { loss, precision, threads, batch, maxMemory };
  using model = await path.at(t, { signal });
  const { gradient: g } = await gradient(model, data, { ...run, signal });
  const N = data.samples;
  if (batchSize === undefined || batchSize >= N) return () => g;
  using moment = fisher(model, data, { ...run, type: "empirical" });
  const { diagonal } = await exactDiagonal(moment, { signal });
  // Batches without replacement within an epoch.
  const factor = (N - batchSize) / (N - 1) / batchSize;
  const root = g.map((x, i) => Math.sqrt(x * x + factor * Math.max(0, diagonal[i]! - x * x)));
  return (charge) => (charge.diagonal === false ? g : root);
}

/** Between checkpoints: how many updates, the factor of each on a charge, and rate squared. */
interface Stretch {
  updates: number;
  factor: number;
  square: number;
}

function planOf(path: Trajectory, rates: Float64Array, decay: number, degree: 1 | 2): Stretch[] {
  return Array.from({ length: path.length - 1 }, (_, t) => ({
    updates: path.steps[t + 1]! - path.steps[t]!,
    factor: (1 - rates[t]! * decay) ** degree,
    square: rates[t]! ** 2,
  }));
}

function decayOf(start: number, plan: readonly Stretch[]): Float64Array {
  const left = [start];
  for (const { updates, factor } of plan) left.push(left.at(-1)! * factor ** updates);
  return Float64Array.from(left);
}

/** q(0), and what each stretch makes of it. */
function predict(
  start: Float64Array,
  forces: readonly Float64Array[],
  plan: readonly Stretch[],
): Float64Array[] {
  const found = [start];
  plan.forEach(({ updates, factor, square }, t) => {
    const kept = factor ** updates;
    const summed = factor === 1 ? updates : (1 - kept) / (1 - factor);
    found.push(
      found[t]!.map((q, i) => {
        if (forces.length === 0) return q * kept;
        const [here, next] = [forces[t]![i]!, forces[t + 1]?.[i] ?? forces[t]![i]!];
        // The mean over updates 0 .. n - 1 of what lies between the ends linearly.
        const mean = here + ((next - here) * (updates - 1)) / (2 * updates);
        return q * kept + square * summed * mean;
      }),
    );
  });
  return found;
}
