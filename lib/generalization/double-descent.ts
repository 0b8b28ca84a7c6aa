/** Sweeps over the size of a model or of its data that show double descent. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import { type Check, check, checkOptions, describe } from "../options";
import { RECIPE_OPTIONS, type RecipeOptions } from "../training/train";
import { leastSquares } from "./least-squares";
import { networks } from "./network-sweep";
import { randomFeatures } from "./random-features";
import { SweepFile } from "./sweep-file";

interface Shared extends CallOptions {
  /** Runs with other random numbers at each size. Default 50 for least-squares, else 3. */
  repeats?: number | undefined;
  /** Default 0. */
  seed?: number | bigint | undefined;
  /** A folder: points are kept there as they are computed, and the same sweep goes on from them. */
  resume?: string | undefined;
}

/** Minimum-norm least squares on Gaussian inputs, where the answer is known. */
export interface LeastSquaresOptions extends Shared {
  problem: "least-squares";
  /** p. Default 50. */
  parameters?: number | undefined;
  /** n at each point. Default 25, 40, 50, 60, 100, 200. */
  sizes?: readonly number[] | undefined;
  /** Standard deviation of the noise of targets. Default 0.5. */
  noise?: number | undefined;
  /** Length of the true weights. Default 1. */
  weightNorm?: number | undefined;
}

interface OfData extends Shared {
  /** Inputs and labels; all of it is trained on, so choose by `samples` of `loadData`. */
  train: DataSet;
  test: DataSet;
  /** Hidden units at each point. */
  sizes: readonly number[];
  /** Share of the training labels that are made wrong. Default 0. */
  labelNoise?: number | undefined;
  /** Images become means over squares of so many pixels a side. Default 1: as they are. */
  pool?: number | undefined;
  /** What the target array is called. Default "y". */
  target?: string | undefined;
}

/** Random relu features with trained outputs, solved in closed form with least norm. */
export interface RandomFeatureOptions extends OfData {
  problem: "random-features";
}

/** Networks with one hidden layer, trained on the mse of one-hot targets. */
export interface NetworkSweepOptions extends OfData, Omit<RecipeOptions, "epochs"> {
  problem: "networks";
  /** Default 2000. */
  epochs?: number | undefined;
}

export type DoubleDescentOptions = LeastSquaresOptions | RandomFeatureOptions | NetworkSweepOptions;

/** A number over the repeats. */
export interface Repeated {
  readonly mean: number;
  readonly median: number;
  /** Of the mean; NaN for one repeat. */
  readonly standardError: number;
}

/** Names of what is measured at each point. */
export const MEASURES = [
  "trainLoss",
  "testLoss",
  "trainError",
  "testError",
  "lambdaMinPlus",
  "lambdaMax",
  "traceInverseOverN",
  "rank",
] as const;

export type SweepMeasure = (typeof MEASURES)[number];

export interface SweepPoint {
  /** Samples for least-squares, else hidden units. */
  readonly size: number;
  /** P, trained ones. */
  readonly parameters: number;
  readonly samples: number;
  /** P over n times the outputs (random features: features over n, as each output has its own). */
  readonly ratio: number;
  readonly repeats: number;
  /** Absent where there is no such number: errors of regression. */
  readonly measures: Partial<Readonly<Record<SweepMeasure, Repeated>>>;
  /** What is known: Marchenko and Pastur's edge, and exact means; least-squares only. */
  readonly theory?:
    | { readonly edge: number; readonly testLoss: number; readonly traceInverseOverN: number }
    | undefined;
}

export interface DoubleDescent {
  readonly problem: DoubleDescentOptions["problem"];
  /** What size counts: "samples" or "hidden units". */
  readonly sizeName: string;
  readonly points: readonly SweepPoint[];
  /** The size at which ratio is 1. */
  readonly threshold: number;
  /** The size with the largest median of tr(H^+)/n, and of the test loss. */
  readonly peaks: { readonly traceInverseOverN: number; readonly testLoss: number };
  /** Points that were computed by this call, and that were there. */
  readonly evaluated: number;
  readonly reused: number;
  /** What was done, with every constant. */
  readonly settings: Readonly<Record<string, string | number>>;
  readonly seconds: number;
}

/** @internal One problem, ready to be measured. */
export interface Problem {
  sizes: readonly number[];
  sizeName: string;
  repeats: number;
  threshold: number;
  settings: Record<string, string | number>;
  at: (size: number) => Pick<SweepPoint, "parameters" | "samples" | "ratio" | "theory">;
  measure: (size: number, repeat: number, call: CallOptions) => Promise<Measured>;
}

/** @internal */
export type Measured = Partial<Record<SweepMeasure, number>>;

const WHERE = "doubleDescent";

const SIZES: Check = {
  expected: "an array of whole numbers of at least 1",
  fits: (value) =>
    Array.isArray(value) && value.length > 0 && value.every(check.positiveInteger.fits),
};

const SHARED: { [K in keyof Required<Shared>]: Check } = {
  ...CALL_OPTIONS,
  repeats: check.positiveInteger,
  seed: check.seed,
  resume: { expected: "the path of a folder", fits: (value) => typeof value === "string" },
};

const dataSet: Check = {
  expected: "data of loadData",
  fits: (value) => (value as DataSet | undefined)?.native !== undefined,
};

const OF_DATA: { [K in keyof Required<OfData>]: Check } = {
  ...SHARED,
  train: dataSet,
  test: dataSet,
  sizes: SIZES,
  labelNoise: {
    expected: "a share from 0 to below 1",
    fits: (value) => typeof value === "number" && value >= 0 && value < 1,
  },
  pool: check.positiveInteger,
  target: { expected: "a name", fits: (value) => typeof value === "string" && value !== "" },
};

const problem = check.anything;

const TABLES = {
  "least-squares": {
    ...SHARED,
    problem,
    parameters: check.positiveInteger,
    sizes: SIZES,
    noise: check.notNegative,
    weightNorm: check.notNegative,
  } satisfies { [K in keyof Required<LeastSquaresOptions>]: Check },
  "random-features": { ...OF_DATA, problem } satisfies {
    [K in keyof Required<RandomFeatureOptions>]: Check;
  },
  networks: { ...OF_DATA, ...RECIPE_OPTIONS, problem } satisfies {
    [K in keyof Required<NetworkSweepOptions>]: Check;
  },
};

function prepare(options: DoubleDescentOptions): Problem | Promise<Problem> {
  switch (options?.problem) {
    case "least-squares":
      return leastSquares(checkOptions(WHERE, options, TABLES["least-squares"]));
    case "random-features":
      return randomFeatures(WHERE, checkData(options, TABLES["random-features"]));
    case "networks":
      return networks(WHERE, checkData(options, TABLES.networks));
    default:
      throw new OptionError(
        `${WHERE}: problem: expected one of "least-squares", "random-features", "networks", got ` +
          describe((options as { problem?: unknown } | undefined)?.problem),
      );
  }
}

function checkData<T extends OfData>(options: T, table: { [K in keyof Required<T>]: Check }): T {
  const checked = checkOptions(WHERE, options, table);
  for (const name of ["train", "test", "sizes"] as const)
    if (checked[name] === undefined)
      throw new OptionError(`${WHERE}: ${name}: expected ${OF_DATA[name].expected}, got undefined`);
  return checked;
}

/**
 * Measures models of growing size (or of growing data) on both sides of the interpolation threshold:
 * training and test loss, smallest nonzero eigenvalue of the curvature, tr(H^+)/n. Near the threshold
 * the smallest eigenvalue vanishes and tr(H^+)/n and the test loss rise (Belkin et al. 2019; Singh et
 * al. 2022).
 *
 * - "least-squares": minimum-norm least squares, y = x w + noise with Gaussian x, over n. H = X^T X / n.
 *   Test losses are exact, with the noise; `theory` has their mean over all data.
 * - "random-features": outputs trained on relu(W x + b) with random W and b, least norm, over the
 *   features p. H = Phi^T Phi / n for each output; the threshold is p = n.
 * - "networks": one hidden relu layer, all trained (`train`) on the mse of one-hot targets. H is the
 *   GGN of that loss; the threshold is P = n K.
 *
 * @throws OptionError, DataMismatchError, AbortError; what `train` throws
 */
export async function doubleDescent(options: DoubleDescentOptions): Promise<DoubleDescent> {
  const begin = performance.now();
  const found = await prepare(options);
  const { signal, onProgress, resume } = options;
  const file = await SweepFile.open(resume, found.settings);
  const total = found.sizes.length * found.repeats;
  let [evaluated, reused, done] = [0, 0, 0];
  const points: SweepPoint[] = [];
  for (const size of found.sizes) {
    const all: Measured[] = [];
    for (let repeat = 0; repeat < found.repeats; repeat++) {
      const key = `${size} ${repeat}`;
      const there = file.get(key);
      if (there) reused++;
      else {
        const measured = await found.measure(size, repeat, { signal });
        await file.put(key, measured as Record<string, number>);
        evaluated++;
      }
      // As it is read again, where what is not finite is null.
      const point = file.get(key)!;
      all.push(
        Object.fromEntries(
          Object.entries(point).map(([name, value]) => [name, value ?? Number.NaN]),
        ),
      );
      done++;
      const seconds = (performance.now() - begin) / 1000;
      onProgress?.({ products: 0, fraction: done / total, seconds });
    }
    points.push({ size, ...found.at(size), repeats: all.length, measures: summary(all) });
  }
  const peak = (name: SweepMeasure) =>
    points.reduce((best, next) =>
      (next.measures[name]?.median ?? 0) > (best.measures[name]?.median ?? 0) ? next : best,
    ).size;
  return {
    problem: options.problem,
    sizeName: found.sizeName,
    points,
    threshold: found.threshold,
    peaks: { traceInverseOverN: peak("traceInverseOverN"), testLoss: peak("testLoss") },
    ...{ evaluated, reused, settings: found.settings },
    seconds: (performance.now() - begin) / 1000,
  };
}

function summary(all: readonly Measured[]): SweepPoint["measures"] {
  const measures: Partial<Record<SweepMeasure, Repeated>> = {};
  for (const name of MEASURES) {
    const values = all.flatMap((one) => one[name] ?? []);
    if (values.length > 0) measures[name] = repeated(values);
  }
  return measures;
}

function repeated(values: readonly number[]): Repeated {
  const n = values.length;
  const sorted = [...values].sort((a, b) => a - b);
  const mean = values.reduce((sum, x) => sum + x, 0) / n;
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return {
    mean,
    median: (sorted[Math.floor((n - 1) / 2)]! + sorted[Math.ceil((n - 1) / 2)]!) / 2,
    standardError: n > 1 ? Math.sqrt(squares / (n - 1) / n) : Number.NaN,
  };
}
