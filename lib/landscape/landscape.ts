/** The loss along lines and over planes through a model's parameters. */
import type { CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { DataMismatchError, OptionError } from "../errors";
import { vectors } from "../linear-operator";
import type { Model } from "../model/model";
import type { NativeLoss, NativeRunOptions } from "../native";
import {
  EVALUATE_OPTIONS,
  type EvaluateOptions,
  gradient,
  hessian,
  jacobianHolder,
  lossOf,
} from "../operators";
import { type Check, check, checkOptions, describe, typeName } from "../options";
import { dot } from "../vectors";
import { parameterVector } from "./directions";
import { lossAt } from "./loss-at";
import { digestOf, PointFile } from "./points";

export interface LandscapeOptions extends EvaluateOptions {
  /** First and last step, in multiples of the direction. Default [-1, 1]. */
  range?: readonly [number, number] | undefined;
  /** Steps, evenly spread over the range, its ends included. Default 21. */
  points?: number | undefined;
  /**
   * Whether to compute what gradient and Hessian at the model predict as well, for a gradient and a
   * Hessian product a direction. Default true.
   */
  quadratic?: boolean | undefined;
  /**
   * A folder that keeps each point as it is computed. A later call with the same model, data, loss,
   * directions, steps and precision computes what is missing only.
   */
  resume?: string | undefined;
}

const LANDSCAPE_OPTIONS: { [K in keyof Required<LandscapeOptions>]: Check } = {
  ...EVALUATE_OPTIONS,
  range: {
    expected: "[first, last], finite numbers with first < last",
    fits: (value) =>
      Array.isArray(value) &&
      value.length === 2 &&
      value.every(Number.isFinite) &&
      value[0] < value[1],
  },
  points: {
    expected: "a whole number of at least 2",
    fits: (value) => Number.isSafeInteger(value) && (value as number) >= 2,
  },
  quadratic: check.boolean,
  resume: { expected: "a folder", fits: (value) => typeof value === "string" && value !== "" },
};

/** What every landscape tells of how it was made. */
export interface LandscapeReport {
  /** Points that were computed, and that were found in the folder. */
  evaluated: number;
  reused: number;
  seconds: number;
}

/** The expansion of second order at the model. */
export interface LineQuadratic {
  loss: number;
  /** g^T d. */
  slope: number;
  /** d^T H d. */
  curvature: number;
  /** loss + t slope + t^2 curvature / 2 at the steps. */
  losses: Float64Array;
}

export interface LossLine extends LandscapeReport {
  steps: Float64Array;
  /** At each step; NaN where the loss is not finite. */
  losses: Float64Array;
  quadratic?: LineQuadratic;
}

export interface PlaneQuadratic {
  loss: number;
  slopes: [number, number];
  /** d1^T H d1, d1^T H d2, d2^T H d2. */
  curvature: [number, number, number];
  losses: Float64Array;
}

export interface LossPlane extends LandscapeReport {
  /** Along each of the two directions. */
  steps: Float64Array;
  /** steps.length x steps.length, row-major: row i has the step i of the first direction. */
  losses: Float64Array;
  quadratic?: PlaneQuadratic;
}

/** Evenly spread, with both ends exactly, and 0 where the range has it in its middle. */
function stepsOf([first, last]: readonly [number, number], points: number): Float64Array {
  const end = points - 1;
  return Float64Array.from({ length: points }, (_, i) => {
    if (i === end) return last;
    if (first === -last) return (last * (2 * i - end)) / end;
    return (first * (end - i) + last * i) / end;
  });
}

function checkDirection(where: string, model: Model, direction: Float64Array): void {
  if (typeof model?.requireSupported !== "function")
    throw new OptionError(`${where}: expected a model of loadModel, got ${describe(model)}`);
  const kind = typeName(direction);
  if (!/^Float(32|64)Array$/.test(kind) || direction.length !== model.parameterCount)
    throw new OptionError(
      `${where}: direction: expected a Float64Array of ${model.parameterCount} numbers, one a ` +
        `parameter, got ${describe(direction)}`,
    );
  const bad = direction.findIndex((x) => !Number.isFinite(x));
  if (bad >= 0)
    throw new DataMismatchError(
      `${where}: direction: expected finite numbers, got ${direction[bad]} at index ${bad}`,
    );
}

/** What a loss is computed of, and how. */
interface Place {
  model: Model;
  data: DataSet;
  loss: NativeLoss;
  run: NativeRunOptions;
}

/** What a call of one of the functions below works with. */
interface Task {
  place: Place;
  directions: Float64Array[];
  options: EvaluateOptions;
  call: CallOptions;
  range: readonly [number, number];
  points: number;
  quadratic: boolean;
  resume: string | undefined;
}

function taskOf(
  where: string,
  model: Model,
  data: DataSet,
  directions: readonly (Float64Array | Float32Array)[],
  options: LandscapeOptions | undefined,
): Task {
  const checked = checkOptions(where, options, LANDSCAPE_OPTIONS);
  const { range = [-1, 1], points = 21, quadratic = true, resume, ...rest } = checked;
  for (const direction of directions) checkDirection(where, model, direction as Float64Array);
  if (data?.native === undefined)
    throw new OptionError(`${where}: expected data of loadData, got ${describe(data)}`);
  model.requireSupported();
  const { loss, signal, onProgress, ...run } = rest;
  return {
    place: { model, data, loss: lossOf(where, model, loss), run },
    directions: directions.map((direction) => Float64Array.from(direction)),
    options: { ...run, loss },
    call: { signal, onProgress },
    range,
    points,
    quadratic,
    resume,
  };
}

/** Points agree to this when they are computed again. */
const AGAIN = { float32: 1e-5, float64: 1e-10 };

/**
 * The losses at combinations of directions. `offsets` has the coefficients of each point.
 */
async function evaluate(
  task: Task,
  offsets: readonly (readonly number[])[],
): Promise<{ losses: Float64Array } & LandscapeReport> {
  const begin = performance.now();
  const { place, directions, call, resume } = task;
  const { model, data, loss, run } = place;
  const precision = run.precision ?? "float32";
  let file: PointFile | undefined;
  if (resume !== undefined) {
    // Neither threads nor memory change a loss.
    const settings = { data: data.toString(), loss, precision, batch: run.batch, offsets };
    const digest = digestOf(settings, [parameterVector(model), ...directions]);
    file = await PointFile.open(resume, "points.jsonl", digest);
  }
  using holder = jacobianHolder("landscape", model, data, task.options);
  const at = new Float64Array(model.parameterCount);
  const compute = (offset: readonly number[]): Promise<number> => {
    at.fill(0);
    directions.forEach((direction, d) => {
      const factor = offset[d]!;
      if (factor !== 0) for (let i = 0; i < at.length; i++) at[i]! += factor * direction[i]!;
    });
    return lossAt(holder, at, call);
  };

  const reused = file?.stored().size ?? 0;
  for (const [point, stored] of file?.stored() ?? []) {
    // One of them again: the digest does not cover the numbers of the data.
    const now = await compute(offsets[point] ?? []);
    if (!(Math.abs(now - stored) <= AGAIN[precision] * Math.abs(stored)) && !Object.is(now, stored))
      throw new OptionError(
        `${file!.path}: holds ${stored} where the loss is now ${now}: the data have changed; give ` +
          "another folder, or remove the file",
      );
    break;
  }
  const losses = new Float64Array(offsets.length);
  let evaluated = 0;
  for (const [point, offset] of offsets.entries()) {
    const stored = file?.get(point);
    if (stored === undefined) {
      losses[point] = await compute(offset);
      evaluated++;
      await file?.put(point, losses[point]!);
    } else losses[point] = stored;
    call.onProgress?.({
      products: 0,
      fraction: (point + 1) / offsets.length,
      seconds: (performance.now() - begin) / 1000,
    });
  }
  return { losses, evaluated, reused, seconds: (performance.now() - begin) / 1000 };
}

/** Loss, slopes and all d_i^T H d_j at the model. */
async function expand({ place, directions, options, call }: Task) {
  const { model, data } = place;
  const { signal } = call;
  const { loss, gradient: g } = await gradient(model, data, { ...options, signal });
  using H = hessian(model, data, options);
  const P = model.parameterCount;
  // Of length 1, for float32's range.
  const lengths = directions.map((direction) => Math.sqrt(dot(direction, direction)));
  const block = vectors(H.dtype, directions.length * P);
  directions.forEach((direction, d) => {
    if (lengths[d]! > 0) for (let i = 0; i < P; i++) block[d * P + i] = direction[i]! / lengths[d]!;
  });
  const products = await H.apply(block, { signal });
  const row = (d: number) => products.subarray(d * P, (d + 1) * P);
  return {
    loss,
    slopes: directions.map((direction) => dot(direction, g)),
    curvature: directions.map((direction) =>
      directions.map((_, e) => lengths[e]! * dot(direction, row(e))),
    ),
  };
}

/**
 * The loss along a line through the model's parameters, theta + t d. Costs a forward pass a point;
 * with `quadratic` a gradient and a Hessian product more.
 *
 * ```ts
 * const top = await eigsh(hessian(model, data), { k: 1 });
 * const line = await lossLine(model, data, Float64Array.from(top.vector(0)), { range: [-2, 2] });
 * ```
 *
 * @param direction one number a parameter: an eigenvector, `randomDirection`, `directionTo`
 * @throws OptionError; DataMismatchError where the loss at the model is not finite; AbortError
 */
export async function lossLine(
  model: Model,
  data: DataSet,
  direction: Float64Array | Float32Array,
  options?: LandscapeOptions,
): Promise<LossLine> {
  const task = taskOf("lossLine", model, data, [direction], options);
  const steps = stepsOf(task.range, task.points);
  const found = await evaluate(
    task,
    Array.from(steps, (t) => [t]),
  );
  return {
    steps,
    ...found,
    ...(task.quadratic && { quadratic: await lineQuadratic(task, steps) }),
  };
}

async function lineQuadratic(task: Task, steps: Float64Array): Promise<LineQuadratic> {
  const { loss, slopes, curvature } = await expand(task);
  const [slope, bend] = [slopes[0]!, curvature[0]![0]!];
  const losses = steps.map((t) => loss + t * slope + (t * t * bend) / 2);
  return { loss, slope, curvature: bend, losses };
}

/**
 * The loss over a plane through the model's parameters, theta + s d1 + t d2, on a grid of `points`
 * times `points`. Costs a forward pass a point. Throws as `lossLine`.
 */
export async function lossPlane(
  model: Model,
  data: DataSet,
  directions: readonly [Float64Array | Float32Array, Float64Array | Float32Array],
  options?: LandscapeOptions,
): Promise<LossPlane> {
  if (!Array.isArray(directions) || directions.length !== 2)
    throw new OptionError(`lossPlane: directions: expected two, got ${describe(directions)}`);
  const task = taskOf("lossPlane", model, data, directions, options);
  const steps = stepsOf(task.range, task.points);
  const offsets = Array.from(steps).flatMap((s) => Array.from(steps, (t) => [s, t]));
  const found = await evaluate(task, offsets);
  if (!task.quadratic) return { steps, ...found };
  const { loss, slopes, curvature } = await expand(task);
  const [a, b, c] = [curvature[0]![0]!, curvature[0]![1]!, curvature[1]![1]!];
  const losses = Float64Array.from(
    offsets,
    ([s, t]) =>
      loss + s! * slopes[0]! + t! * slopes[1]! + (s! * s! * a + 2 * s! * t! * b + t! * t! * c) / 2,
  );
  const quadratic: PlaneQuadratic = {
    loss,
    slopes: [slopes[0]!, slopes[1]!],
    curvature: [a, b, c],
    losses,
  };
  return { steps, ...found, quadratic };
}

export interface Interpolation extends LandscapeReport {
  /** From 0, the model, to 1, the checkpoint. */
  steps: Float64Array;
  losses: Float64Array;
  /** losses minus the chord (1 - t) L(0) + t L(1). */
  aboveChord: Float64Array;
  /** The largest of them for t from 0 to 1, at least 0: the ends lie on the chord. NaN as losses. */
  barrier: number;
  /** The step of the barrier. */
  at: number;
  quadratic?: LineQuadratic & {
    /** What the Hessian at the model predicts: max(0, -d^T H d / 8). */
    barrier: number;
  };
}

/**
 * The loss on the straight line from a model to a checkpoint of the same architecture, and the loss
 * barrier on it: max over t in [0, 1] of L(t) - (1 - t) L(0) - t L(1) (Frankle et al. 2020 take the
 * mean of the ends instead of the chord; the two agree for ends of equal loss). Statistics of
 * normalisations stay those of the model.
 *
 * @param direction `directionTo(model, checkpoint)`; with its option `params` some layers move only
 * @param options as for `lossLine`, with the range [0, 1], and 0 and 1 among the steps always
 */
export async function interpolate(
  model: Model,
  data: DataSet,
  direction: Float64Array | Float32Array,
  options?: LandscapeOptions,
): Promise<Interpolation> {
  const task = taskOf("interpolate", model, data, [direction], {
    ...options,
    range: options?.range ?? [0, 1],
  });
  const [first, last] = task.range;
  if (first > 0 || last < 1)
    throw new OptionError(
      `interpolate: range: expected a range that holds 0 and 1, got [${first}, ${last}]`,
    );
  const spread = Array.from(stepsOf(task.range, task.points)).filter(
    (t) => Math.min(Math.abs(t), Math.abs(t - 1)) > 1e-9 * (last - first),
  );
  const steps = Float64Array.from([...spread, 0, 1]).sort();
  const found = await evaluate(
    task,
    Array.from(steps, (t) => [t]),
  );
  const { losses } = found;
  const [start, end] = [losses[steps.indexOf(0)]!, losses[steps.indexOf(1)]!];
  const aboveChord = losses.map((value, i) => value - (1 - steps[i]!) * start - steps[i]! * end);
  let [barrier, at] = [0, 0];
  aboveChord.forEach((height, i) => {
    const inside = steps[i]! > 0 && steps[i]! < 1;
    // A loss that is not finite is a barrier without height.
    if (inside && (height > barrier || Number.isNaN(height))) [barrier, at] = [height, steps[i]!];
  });
  const result: Interpolation = { steps, ...found, aboveChord, barrier, at };
  if (task.quadratic) {
    const quadratic = await lineQuadratic(task, steps);
    result.quadratic = { ...quadratic, barrier: Math.max(0, -quadratic.curvature / 8) };
  }
  return result;
}
