/** Losses as functions of a sample's outputs, with their derivatives. */
import type { CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { readArray } from "../data/select";
import { DataMismatchError, OptionError } from "../errors";
import { checkLoss, type Loss, type LossName } from "../model/loss";
import type { Model } from "../model/model";
import { forward, type RunOptions } from "../operators";
import { sum } from "../vectors";

/** Of one sample, with K outputs and target t. */
interface LossRow {
  value: (f: Float64Array, t: Float64Array) => number;
  /** d l / d f. */
  slope: (f: Float64Array, t: Float64Array) => Float64Array;
  /** d^2 l / d f^2, K x K. */
  curvature: (f: Float64Array, t: Float64Array) => Float64Array;
}

function softmax(f: Float64Array): Float64Array {
  const most = f.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const powers = f.map((x) => Math.exp(x - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((x) => x / sum);
}

const logSumExp = (f: Float64Array) => {
  const most = f.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  return most + Math.log(f.reduce((sum, x) => sum + Math.exp(x - most), 0));
};

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
/** ln(1 + e^x). */
const softplus = (x: number) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
function diagonal(values: Float64Array): Float64Array {
  const K = values.length;
  const matrix = new Float64Array(K * K);
  values.forEach((value, i) => {
    matrix[i * (K + 1)] = value;
  });
  return matrix;
}

/** The losses that are known here. */
const ROWS: Partial<Record<LossName, LossRow>> = {
  mse: {
    value: (f, t) => f.reduce((sum, x, i) => sum + (x - t[i]!) ** 2, 0) / f.length,
    slope: (f, t) => f.map((x, i) => (2 * (x - t[i]!)) / f.length),
    curvature: (f) => diagonal(new Float64Array(f.length).fill(2 / f.length)),
  },
  "cross-entropy": {
    value: (f, t) => sum(t) * logSumExp(f) - f.reduce((sum, x, i) => sum + x * t[i]!, 0),
    slope: (f, t) => softmax(f).map((p, i) => sum(t) * p - t[i]!),
    curvature: (f, t) => {
      const p = softmax(f);
      const weight = sum(t);
      return diagonal(p).map(
        (value, at) => weight * (value - p[Math.floor(at / f.length)]! * p[at % f.length]!),
      );
    },
  },
  "bce-with-logits": {
    value: (f, t) => f.reduce((sum, x, i) => sum + softplus(x) - x * t[i]!, 0) / f.length,
    slope: (f, t) => f.map((x, i) => (sigmoid(x) - t[i]!) / f.length),
    curvature: (f) => diagonal(f.map((x) => (sigmoid(x) * sigmoid(-x)) / f.length)),
  },
};

/** A network's outputs for a data set, and the loss of each sample as a function of them. */
export interface SampleOutputs {
  readonly loss: LossRow;
  readonly name: LossName;
  readonly samples: number;
  /** Outputs of a sample. */
  readonly width: number;
  /** samples x width. */
  readonly outputs: Float64Array;
  /** samples x width; labels as one-hot rows. */
  readonly targets: Float64Array;
}

export interface OutputOptions extends RunOptions, CallOptions {
  loss?: LossName | Loss | undefined;
  target?: string | undefined;
}

/** All numbers of the array of targets. */
export async function targetsOf(
  data: DataSet,
  name: string,
  where: string,
  { signal }: CallOptions,
): Promise<Float64Array> {
  const array = data.arrays.find((candidate) => candidate.name === name);
  if (!array)
    throw new DataMismatchError(
      `${where}: expected an array "${name}" of targets, got ${data}; name it by the option target`,
    );
  return readArray(data, array, signal);
}

const PLAIN: readonly (keyof Loss)[] = ["name", "reduction", "ignoreIndex", "classAxis"];

/**
 * @throws OptionError for losses other than mse, cross-entropy and bce-with-logits, with weights, or
 * of several positions a sample
 */
export async function sampleOutputs(
  where: string,
  model: Model,
  data: DataSet,
  { loss: given, target = "y", ...rest }: OutputOptions,
): Promise<SampleOutputs> {
  const spec = given === undefined ? model.loss : checkLoss(given);
  const row = spec && ROWS[spec.name];
  const fail = (got: string): never => {
    throw new OptionError(
      `${where}: expected the loss ${Object.keys(ROWS).join(", ")} with mean reduction, without ` +
        `weights, on one row of outputs a sample, got ${got}`,
    );
  };
  if (!row) return fail(spec?.name ?? "none");
  const { reduction = "mean", ignoreIndex = -100 } = spec;
  if (reduction !== "mean") fail(`reduction "${reduction}"`);
  for (const [key, value] of Object.entries(spec))
    if (value !== undefined && value !== 0 && !PLAIN.includes(key as keyof Loss)) fail(key);
  const { precision, threads, batch, maxMemory, signal } = rest;
  const run = { precision: precision ?? "float64", threads, batch, maxMemory, signal };
  const { values: outputs, shape } = await forward(model, data, run);
  const { samples } = data;
  const width = outputs.length / samples;
  if (spec.name === "cross-entropy" && shape.length !== 2) fail(`outputs of shape (${shape})`);
  const stored = await targetsOf(data, target, where, rest);
  let targets = stored;
  if (spec.name === "cross-entropy" && stored.length === samples) {
    targets = new Float64Array(samples * width);
    stored.forEach((label, n) => {
      if (label === ignoreIndex) fail(`a target that is ignored, sample ${n}`);
      if (!Number.isInteger(label) || label < 0 || label >= width)
        throw new DataMismatchError(
          `${where}: ${target}: expected labels from 0 to ${width - 1}, got ${label} at sample ${n}`,
        );
      targets[n * width + label] = 1;
    });
  }
  if (targets.length !== outputs.length)
    throw new DataMismatchError(
      `${where}: ${target}: expected ${outputs.length} targets for outputs of the shape (${shape}), ` +
        `got ${stored.length}`,
    );
  return { loss: row, name: spec.name, samples, width, outputs, targets };
}
