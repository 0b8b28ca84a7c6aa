/** What networks predict: the distributions over classes that their outputs stand for. */
import { CALL_OPTIONS } from "../call";
import type { DataSet } from "../data/data";
import { DataMismatchError, OptionError } from "../errors";
import { checkLoss, type Loss, type LossName } from "../model/loss";
import { EVALUATE_OPTIONS, type EvaluateOptions, forward } from "../operators";
import { type Check, checkOptions } from "../options";
import { requireTrajectory, type Trajectory } from "./trajectory";

/** Predictions of one model: log-probabilities of `classes` for each of `samples`. */
export interface Predictions {
  /** What the model is called. */
  readonly name: string;
  /** Predictions in all: positions of a map or sequence count each. */
  readonly samples: number;
  readonly classes: number;
  /** samples x classes, natural logarithms. */
  readonly logs: Float64Array;
  /** Which run it is of, and when. */
  readonly run?: string | undefined;
  readonly step?: number | undefined;
}

interface Output {
  readonly values: Float64Array;
  readonly shape: readonly number[];
}

type Rule = (output: Output, classAxis: number) => Omit<Predictions, "name">;

/** How outputs stand for distributions, by loss; losses of regression have no row. */
const RULES: Partial<Record<LossName, Rule>> = {
  "cross-entropy": (output, axis) => byClass(output, axis, true, (x) => x),
  nll: (output, axis) => byClass(output, axis, true, (x) => x),
  "nll-probabilities": (output, axis) => byClass(output, axis, false, Math.log),
  // Each output is a distribution over two: log sigmoid(z) and log sigmoid(-z).
  "bce-with-logits": (output) => byPair(output, (z) => [logSigmoid(z), logSigmoid(-z)]),
  bce: (output) => byPair(output, (p) => [Math.log(p), Math.log1p(-p)]),
};

const logSigmoid = (z: number) => (z < 0 ? z - Math.log1p(Math.exp(z)) : -Math.log1p(Math.exp(-z)));

function byPair({ values }: Output, pair: (x: number) => [number, number]) {
  const logs = new Float64Array(2 * values.length);
  values.forEach((x, i) => {
    logs.set(pair(x), 2 * i);
  });
  return { samples: values.length, classes: 2, logs };
}

function byClass(
  { values, shape }: Output,
  classAxis: number,
  normalize: boolean,
  log: (x: number) => number,
) {
  const axis = Math.min(classAxis < 0 ? shape.length + classAxis : classAxis, shape.length - 1);
  const classes = shape[axis]!;
  const inner = shape.slice(axis + 1).reduce((product, n) => product * n, 1);
  const samples = values.length / classes;
  const logs = new Float64Array(values.length);
  for (let s = 0; s < samples; s++) {
    const first = Math.floor(s / inner) * classes * inner + (s % inner);
    let largest = Number.NEGATIVE_INFINITY;
    for (let c = 0; c < classes; c++) {
      const value = log(values[first + c * inner]!);
      logs[s * classes + c] = value;
      largest = Math.max(largest, value);
    }
    if (!normalize) continue;
    let sum = 0;
    for (let c = 0; c < classes; c++) sum += Math.exp(logs[s * classes + c]! - largest);
    const shift = largest + Math.log(sum);
    for (let c = 0; c < classes; c++) logs[s * classes + c]! -= shift;
  }
  return { samples, classes, logs };
}

function lossOf(where: string, path: Trajectory, given: LossName | Loss | undefined): Loss {
  const loss = given === undefined ? path.model.loss : checkLoss(given);
  if (!loss || !RULES[loss.name])
    throw new OptionError(
      `${where}: loss: expected one whose outputs are distributions over classes ` +
        `(${Object.keys(RULES).join(", ")}), got ${loss?.name ?? "none"}`,
    );
  return loss;
}

const { keepLinearisation: _, ...EVALUATE } = EVALUATE_OPTIONS;
const OPTIONS: { [K in keyof Required<Omit<EvaluateOptions, "keepLinearisation">>]: Check } = {
  ...EVALUATE,
  ...CALL_OPTIONS,
};

/**
 * What the networks of a path predict on data, as `inPca` takes it: log-softmax of the outputs for
 * cross-entropy, logarithms of probabilities for the other losses of classification; two classes for
 * each output of the binary ones. Targets are not needed. Costs a forward pass a checkpoint;
 * 8 samples classes bytes each.
 *
 * @throws OptionError for a loss of regression; DataMismatchError where outputs are not finite
 */
export async function predictionsAlong(
  path: Trajectory,
  data: DataSet,
  options?: Omit<EvaluateOptions, "keepLinearisation">,
): Promise<Predictions[]> {
  requireTrajectory("predictionsAlong", path);
  const { signal, onProgress, ...rest } = checkOptions("predictionsAlong", options, OPTIONS);
  const loss = lossOf("predictionsAlong", path, rest.loss);
  const { precision, threads, batch, maxMemory } = rest;
  const begin = performance.now();
  const found: Predictions[] = [];
  for (let t = 0; t < path.length; t++) {
    using model = await path.at(t, { signal });
    const output = await forward(model, data, { precision, threads, batch, maxMemory, signal });
    const bad = output.values.findIndex((x) => Number.isNaN(x));
    if (bad >= 0)
      throw new DataMismatchError(
        `predictionsAlong: ${path.label(t)}: expected finite outputs, got NaN at index ${bad}`,
      );
    const step = path.steps[t]!;
    const made = RULES[loss.name]!(output, loss.classAxis ?? 1);
    found.push({ name: `${path.name} ${step}`, run: path.name, step, ...made });
    onProgress?.({
      products: 0,
      fraction: (t + 1) / path.length,
      seconds: (performance.now() - begin) / 1000,
    });
  }
  return found;
}

/**
 * Given probabilities as predictions, such as of other programs.
 *
 * @param probabilities samples x classes
 */
export function predictionsOf(
  name: string,
  probabilities: ArrayLike<number>,
  classes: number,
): Predictions {
  const samples = probabilities.length / classes;
  const bad = Array.from(probabilities).findIndex((p) => !(p >= 0 && p <= 1 + 1e-6));
  if (!Number.isInteger(samples) || samples < 1 || bad >= 0)
    throw new OptionError(
      `predictionsOf: ${name}: expected samples times ${classes} probabilities, got ` +
        (bad >= 0 ? `${probabilities[bad]} at index ${bad}` : `${probabilities.length} numbers`),
    );
  const logs = Float64Array.from(probabilities, Math.log);
  return { name, samples, classes, logs };
}

/**
 * The truth as predictions: all probability on the labels.
 *
 * @param labels one a sample
 */
export function labelPredictions(labels: ArrayLike<number>, classes: number): Predictions {
  const logs = new Float64Array(labels.length * classes).fill(Number.NEGATIVE_INFINITY);
  Array.from(labels).forEach((label, n) => {
    if (!Number.isInteger(label) || label < 0 || label >= classes)
      throw new OptionError(
        `labelPredictions: expected labels from 0 to ${classes - 1}, got ${label} of sample ${n}`,
      );
    logs[n * classes + label] = 0;
  });
  return { name: "truth", samples: labels.length, classes, logs };
}

/** Ignorance as predictions: every class is as likely. */
export function uniformPredictions(samples: number, classes: number): Predictions {
  const logs = new Float64Array(samples * classes).fill(-Math.log(classes));
  return { name: "ignorance", samples, classes, logs };
}
