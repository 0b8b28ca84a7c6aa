/** Training: stochastic gradient descent in the core, with masks, checkpoints and resume. */
import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { CALL_OPTIONS, type CallOptions } from "../call";
import { checkpointFile, saveCheckpoint } from "../checkpoints";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import { type Evaluation, evaluator } from "../evaluator";
import { type Checkpoint, parametersOf, parameterVector } from "../landscape/directions";
import { Mask, requireAlike } from "../masks/mask";
import type { Loss, LossName } from "../model/loss";
import type { Model } from "../model/model";
import { checkSubject, EVALUATE_OPTIONS, type RunOptions } from "../operators";
import { type Check, check, checkOptions, describe } from "../options";
import { learningRates, type Schedule } from "./schedules";
import { type OptimizerOptions, type StepRule, TrainingSession } from "./session";
import { loadRun, type Settings, saveRun } from "./state-file";

/** How far a training run is. */
export interface TrainingProgress {
  /** Steps made, of all. */
  step: number;
  steps: number;
  epoch: number;
  /** About the mean over the last minibatches. */
  loss: number | undefined;
  /** Done share of the run, from 0 to 1. */
  fraction: number;
  /** Since the call, and about how many are left. */
  seconds: number;
  secondsLeft: number | undefined;
}

/** What a run does, without where it begins, what it writes and what it is measured on. */
export interface RecipeOptions extends OptimizerOptions {
  /** Default 0.1 for sgd, 0.001 for adam and adamw. */
  learningRate?: number | undefined;
  /** Default "constant". */
  schedule?: Schedule | undefined;
  /** Steps of linear warm-up; default 0. */
  warmup?: number | undefined;
  /** Samples a step; default 64. */
  batchSize?: number | undefined;
  /** How long; default one epoch. */
  epochs?: number | undefined;
  /** How many steps instead. */
  steps?: number | undefined;
  /** Default true: each epoch takes the samples in an order of its own, else as the data have them. */
  shuffle?: boolean | undefined;
  /** Whether an epoch's last minibatch, where it is smaller, is left out. Default false. */
  dropLast?: boolean | undefined;
}

export interface TrainOptions
  extends RecipeOptions,
    Pick<RunOptions, "precision" | "threads" | "maxMemory">,
    Pick<CallOptions, "signal"> {
  /** The loss. Default: the model's. */
  loss?: LossName | Loss | undefined;
  /** Of the order of samples; default 0. */
  seed?: number | bigint | undefined;
  /** Where training begins. Default: the model's parameters. */
  initial?: Checkpoint | undefined;
  /** The step that `initial` belongs to: order of samples and learning rates go on from it. */
  firstStep?: number | undefined;
  /** Entries that it does not keep are held. */
  mask?: Mask | undefined;
  /** What they are held at: "zero" (default), "initial", or a place in parameter space. */
  held?: "zero" | "initial" | Checkpoint | undefined;
  /**
   * Writes the parameters after every so many steps, also those of the first and last step, as
   * safetensors, and the state of the run, from which `resume` goes on.
   */
  checkpoints?: { readonly folder: string; readonly every?: number | undefined } | undefined;
  /**
   * Goes on from the state in the folder of `checkpoints`, to the same bits as a run that was never
   * stopped; begins anew where there is none. Default false.
   */
  resume?: boolean | undefined;
  /** Data held out, on which loss and accuracy are taken. */
  test?: DataSet | undefined;
  /** What the target array of `test` is called; default "y". */
  target?: string | undefined;
  /** Steps between two points of the history; default an epoch. */
  every?: number | undefined;
  /** Called up to ten times a second. */
  onProgress?: ((progress: TrainingProgress) => void) | undefined;
}

/** A point of the history. */
export interface TrainingPoint {
  readonly step: number;
  /** Steps over steps an epoch. */
  readonly epoch: number;
  /** Mean over the minibatches since the last point; null at the first. */
  readonly loss: number | null;
  /** Of the step before. */
  readonly learningRate: number | null;
  /** On the data held out. */
  readonly test: Evaluation | null;
}

/** A network that was trained. */
export interface Training {
  readonly parameters: Float64Array;
  /** All steps, with those of a run that this one went on from. */
  readonly steps: number;
  readonly stepsPerEpoch: number;
  /** The loss of each minibatch before its step. */
  readonly losses: Float64Array;
  readonly learningRates: Float64Array;
  readonly history: readonly TrainingPoint[];
  /** What was written, by step. */
  readonly checkpoints: readonly { readonly file: string; readonly step: number }[];
  /** The step that a resumed run went on from; undefined where it began anew. */
  readonly resumedFrom: number | undefined;
  /** Of this call. */
  readonly seconds: number;
  readonly warnings: readonly string[];
}

const positive: Check = {
  expected: "a number above 0",
  fits: (value) => Number.isFinite(value) && (value as number) > 0,
};
const share: Check = {
  expected: "a number from 0 to below 1",
  fits: (value) => Number.isFinite(value) && (value as number) >= 0 && (value as number) < 1,
};

/** @internal */
export const RECIPE_OPTIONS: { [K in keyof Required<RecipeOptions>]: Check } = {
  optimizer: check.oneOf("sgd", "adam", "adamw"),
  momentum: check.notNegative,
  dampening: { expected: "a number", fits: Number.isFinite },
  nesterov: check.boolean,
  betas: {
    expected: "two numbers from 0 to below 1",
    fits: (value) => Array.isArray(value) && value.length === 2 && value.every(share.fits),
  },
  epsilon: check.notNegative,
  weightDecay: check.notNegative,
  learningRate: check.notNegative,
  schedule: check.anything, // learningRates does it
  warmup: check.naturalNumber,
  batchSize: check.positiveInteger,
  epochs: positive,
  steps: check.naturalNumber,
  shuffle: check.boolean,
  dropLast: check.boolean,
};

const OPTIONS: { [K in keyof Required<TrainOptions>]: Check } = {
  ...RECIPE_OPTIONS,
  precision: EVALUATE_OPTIONS.precision,
  threads: check.positiveInteger,
  maxMemory: check.positiveInteger,
  signal: CALL_OPTIONS.signal,
  loss: check.anything, // checkLoss does it
  seed: check.seed,
  initial: check.anything, // parametersOf does it
  firstStep: check.naturalNumber,
  mask: { expected: "a Mask", fits: (value) => value instanceof Mask },
  held: check.anything,
  checkpoints: {
    expected: "{ folder, every }",
    fits: (value) => {
      const { folder, every = 1 } = (value ?? {}) as { folder?: unknown; every?: unknown };
      return typeof folder === "string" && folder !== "" && check.positiveInteger.fits(every);
    },
  },
  resume: check.boolean,
  test: check.anything,
  target: { expected: "a name", fits: (value) => typeof value === "string" && value !== "" },
  every: check.positiveInteger,
  onProgress: check.function,
};

/** @internal What a recipe comes to on a data set. */
export interface Recipe {
  steps: number;
  stepsPerEpoch: number;
  rates: Float64Array;
  /** For the core, without seed and mask. */
  rule: StepRule;
}

/**
 * @internal
 * @throws OptionError
 */
export function recipeOf(where: string, options: RecipeOptions, samples: number): Recipe {
  const { optimizer = "sgd", momentum = 0, dampening = 0, nesterov = false } = options;
  const { batchSize = 64, dropLast = false, shuffle = true, schedule, warmup } = options;
  const only = (names: readonly (keyof OptimizerOptions)[], of: string, fits: boolean) => {
    for (const name of names)
      if (!fits && options[name] !== undefined)
        throw new OptionError(
          `${where}: ${name} belongs to ${of}, and the optimizer is ${optimizer}`,
        );
  };
  only(["momentum", "dampening", "nesterov"], "sgd", optimizer === "sgd");
  only(["betas", "epsilon"], "adam and adamw", optimizer !== "sgd");
  if (nesterov && (momentum === 0 || dampening !== 0))
    throw new OptionError(`${where}: nesterov: expected momentum above 0 and no dampening`);
  if (options.steps !== undefined && options.epochs !== undefined)
    throw new OptionError(`${where}: expected steps or epochs, got both`);
  const stepsPerEpoch = dropLast ? Math.floor(samples / batchSize) : Math.ceil(samples / batchSize);
  if (stepsPerEpoch === 0)
    throw new OptionError(
      `${where}: batchSize: expected at most the ${samples} samples, as dropLast leaves out what is ` +
        `smaller, got ${batchSize}`,
    );
  const steps = options.steps ?? Math.round((options.epochs ?? 1) * stepsPerEpoch);
  const learningRate = options.learningRate ?? (optimizer === "sgd" ? 0.1 : 0.001);
  return {
    ...{ steps, stepsPerEpoch },
    rates: learningRates(where, steps, { learningRate, schedule, warmup }),
    rule: {
      ...{ optimizer, momentum, dampening, nesterov, batchSize, shuffle, dropLast },
      ...{ betas: options.betas, epsilon: options.epsilon, weightDecay: options.weightDecay },
    },
  };
}

/** What a file of inference does not do as training would. */
export function trainingWarnings(model: Model): string[] {
  const { operators } = model;
  const warnings: string[] = [];
  if (operators.BatchNormalization)
    warnings.push(
      "BatchNormalization uses the running statistics of the file, in training too; they are not " +
        "updated, and gradients do not pass through batch statistics",
    );
  if (operators.Dropout) warnings.push("Dropout does nothing, as in the file of inference");
  return warnings;
}

/** @internal */
export function hashOf(values: ArrayBufferView): string {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return createHash("sha256").update(bytes).digest("hex").slice(0, 16);
}

function heldAt(model: Model, held: TrainOptions["held"], initial: Float64Array) {
  if (held === undefined || held === "zero") return undefined;
  if (held === "initial") return initial;
  if (typeof held === "string")
    throw new OptionError(
      `train: held: expected "zero", "initial" or a checkpoint, got ${describe(held)}`,
    );
  return parametersOf("train: held", model, held);
}

/** Steps at which a run stops: multiples of `every`, and the last. */
function nextStop(step: number, steps: number, every: readonly number[]): number {
  return Math.min(steps, ...every.map((n) => (Math.floor(step / n) + 1) * n));
}

function requireSame(folder: string, saved: Settings, now: Settings): void {
  for (const name of new Set([...Object.keys(saved), ...Object.keys(now)]))
    if (saved[name] !== now[name])
      throw new OptionError(
        `train: resume: expected the run that ${folder} holds, with ${name} ` +
          `${describe(saved[name])}, got ${describe(now[name])}; use another folder for another run`,
      );
}

/**
 * Trains a network by SGD, Adam or AdamW as torch.optim defines them, on minibatches without
 * replacement. The steps run in the core on a thread of its own, minibatches in pieces on many; the
 * same options give the same bits for any number of threads. A step costs about three forward passes
 * of its minibatch.
 *
 * Training sees the graph of the file, which is one of inference: BatchNormalization keeps its
 * stored statistics and Dropout does nothing; `warnings` says so.
 *
 * ```ts
 * const { parameters, history } = await train(model, data, {
 *   learningRate: 0.05, momentum: 0.9, epochs: 5, batchSize: 128, test,
 *   checkpoints: { folder: "run", every: 100 },
 * });
 * ```
 *
 * @throws OptionError; DataMismatchError; NotConvergedError where the loss is not finite any more;
 * AbortError, after which the folder holds what was written until then
 */
export async function train(
  model: Model,
  data: DataSet,
  options?: TrainOptions,
): Promise<Training> {
  const begin = performance.now();
  const given = checkOptions("train", options, OPTIONS);
  checkSubject("train", model, data);
  const { seed = 0, mask, firstStep = 0, checkpoints, resume = false, test, signal } = given;
  const { precision = "float32", threads, maxMemory, onProgress, target } = given;
  const loss = given.loss ?? model.loss;
  const recipe = recipeOf("train", given, data.samples);
  const { steps, stepsPerEpoch, rates } = recipe;
  if (mask) requireAlike("train: mask", new Mask(model.parameters, mask.bits), mask);
  if (resume && !checkpoints)
    throw new OptionError("train: resume: expected the folder of checkpoints as well");
  if (firstStep > steps)
    throw new OptionError(`train: firstStep: expected at most ${steps}, got ${firstStep}`);
  const initial =
    given.initial === undefined
      ? parameterVector(model)
      : parametersOf("train: initial", model, given.initial);
  const held = heldAt(model, given.held, initial);
  const rule: StepRule = { ...recipe.rule, seed, keep: mask?.bits };
  const run = { precision, threads, maxMemory };
  using session = new TrainingSession("train", model, data, { ...run, loss });
  using worth = test && evaluator(model, test, { ...run, loss, target });

  const { folder, every: often = stepsPerEpoch } = checkpoints ?? {};
  if (folder !== undefined)
    await mkdir(folder, { recursive: true }).catch((cause: Error) => {
      throw new OptionError(
        `train: checkpoints: expected a folder that can be written to, got ${folder}: ` +
          cause.message,
        { cause },
      );
    });
  const settings: Settings = {
    ...Object.fromEntries(
      Object.entries(recipe.rule).flatMap(([name, value]) =>
        value === undefined ? [] : [[name, Array.isArray(value) ? value.join() : value]],
      ),
    ),
    ...{ precision, firstStep, seed: `${seed}`, data: `${data}` },
    loss: typeof loss === "object" ? JSON.stringify(loss) : `${loss}`,
    initial: hashOf(initial),
    mask: mask ? hashOf(mask.bits) : "none",
    held: held ? hashOf(held) : "zero",
    checkpoints: often,
    every: given.every ?? stepsPerEpoch,
    test: `${test ?? "none"}`,
  };
  const saved =
    folder !== undefined && resume
      ? await loadRun<TrainingPoint>(folder, model.parameterCount, { signal })
      : undefined;
  const state = saved?.state ?? session.start(initial, firstStep, rule, held);
  const resumedFrom = saved?.state.step;
  const losses: number[] = saved ? Array.from(saved.losses) : [];
  const history: TrainingPoint[] = saved ? [...saved.history] : [];
  if (saved) {
    requireSame(folder!, saved.settings, settings);
    if (saved.rates.some((rate, i) => rate !== rates[firstStep + i]))
      throw new OptionError(
        `train: resume: expected the learning rates of the steps that ${folder} holds; they differ`,
      );
  }

  const files = (step: number) => ({ file: checkpointFile(folder!, step), step });
  const isCheckpoint = (step: number) =>
    folder !== undefined && (step % often === 0 || step === steps || step === firstStep);
  const isPoint = (step: number) =>
    step % Number(settings.every) === 0 || step === steps || step === firstStep;
  const reached = async () => {
    const { step, theta } = state;
    if (isPoint(step)) {
      const from = (history.at(-1)?.step ?? firstStep) - firstStep;
      const since = losses.slice(from);
      history.push({
        step,
        epoch: step / stepsPerEpoch,
        loss: since.length > 0 ? since.reduce((a, b) => a + b, 0) / since.length : null,
        learningRate: step > firstStep ? rates[step - 1]! : null,
        test: worth ? await worth.at(theta, { signal }) : null,
      });
    }
    if (!isCheckpoint(step)) return;
    await saveCheckpoint(files(step).file, model, theta, { step });
    await saveRun(folder!, {
      ...{ state, settings, history },
      losses: Float64Array.from(losses),
      rates: rates.slice(firstStep, step),
    });
  };
  const first = state.step;
  if (!saved) await reached();
  while (state.step < steps) {
    const stops = [Number(settings.every), ...(folder === undefined ? [] : [often])];
    const stop = nextStop(state.step, steps, stops);
    const made = await session.steps(state, rates.slice(state.step, stop), rule, {
      signal,
      onProgress:
        onProgress &&
        (({ products: step, residual }) => {
          const seconds = (performance.now() - begin) / 1000;
          const left = (seconds * (steps - step)) / (step - first);
          onProgress({
            ...{ step, steps, seconds },
            epoch: step / stepsPerEpoch,
            loss: residual,
            fraction: step / steps,
            // The first steps have compiled as well.
            secondsLeft: step - first > 0.02 * (steps - first) ? left : undefined,
          });
        }),
    });
    for (const loss of made) losses.push(loss);
    await reached();
  }
  const written = Array.from({ length: steps + 1 - firstStep }, (_, i) => firstStep + i);
  return {
    parameters: state.theta,
    ...{ steps, stepsPerEpoch, history, resumedFrom },
    losses: Float64Array.from(losses),
    learningRates: rates,
    checkpoints: folder === undefined ? [] : written.filter(isCheckpoint).map(files),
    seconds: (performance.now() - begin) / 1000,
    warnings: trainingWarnings(model),
  };
}
