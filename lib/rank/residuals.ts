/** Derivatives of the loss by the network's outputs, and what their curvature leaves free. */
import { classLayout, type Output } from "../accuracy";
import { DataMismatchError } from "../errors";
import type { Loss } from "../model/loss";
import { norm } from "../vectors";

export interface Residuals {
  /** As the outputs (before a softmax or sigmoid that belongs to the loss), up to one factor. */
  readonly delta: Float64Array;
  /** The rank of the loss's curvature in the outputs of one sample: K'. */
  readonly curvatureRank: number;
  /** The length of what residuals are differences of: their rounding is relative to it. */
  readonly reference: number;
  /** Positions that do not count, as labels are ignored or of weight 0. */
  readonly ignored: boolean;
  /** Targets with which outputs z have these residuals, too; absent where there are none. */
  readonly targetsFor?: ((outputs: Float64Array) => Float64Array) | undefined;
}

type Rule = (output: Output, targets: Float64Array, loss: Loss, activation: string) => Residuals;

/** Losses whose curvature in the outputs is known without the outputs' values. */
const RULES: Record<string, Rule> = {
  mse: squares,
  "cross-entropy": byClass,
  nll: byClass,
  "nll-probabilities": byClass,
  "bce-with-logits": binary,
  bce: binary,
};

/** Whether ranks can be predicted in front of a loss, else why not. */
export function lossRefusal({ name }: Loss, activation: string): string | undefined {
  if (!RULES[name])
    return `the curvature of the loss ${name} vanishes for some outputs, or is unknown`;
  const needs: Record<string, string> = {
    nll: "LogSoftmax",
    "nll-probabilities": "Softmax",
    bce: "Sigmoid",
  };
  const needed = needs[name];
  if (needed && activation !== needed) return `the loss ${name} stands behind no ${needed}`;
  if (!needed && activation !== "" && name !== "mse" && activation !== "LogSoftmax")
    return `the loss ${name} stands behind a ${activation}`;
  return undefined;
}

/**
 * The residuals of outputs.
 *
 * @throws DataMismatchError where targets do not fit the output
 */
export function residualsOf(
  output: Output,
  targets: Float64Array,
  loss: Loss,
  activation: string,
): Residuals {
  return RULES[loss.name]!(output, targets, loss, activation);
}

function sameSize(targets: Float64Array, values: Float64Array): void {
  if (targets.length !== values.length)
    throw new DataMismatchError(
      `rank: expected as many targets as outputs, ${values.length}, got ${targets.length}`,
    );
}

function squares({ values, shape }: Output, targets: Float64Array): Residuals {
  sameSize(targets, values);
  const delta = values.map((z, i) => z - targets[i]!);
  return {
    delta,
    curvatureRank: values.length / shape[0]!,
    reference: Math.hypot(norm(values), norm(targets)),
    ignored: false,
    targetsFor: (outputs) => outputs.map((z, i) => z - delta[i]!),
  };
}

const logistic = (z: number) => (z >= 0 ? 1 / (1 + Math.exp(-z)) : 1 - 1 / (1 + Math.exp(z)));

function binary(
  { values, shape }: Output,
  targets: Float64Array,
  { posWeight }: Loss,
  activation: string,
): Residuals {
  sameSize(targets, values);
  const delta = values.map((z, i) => {
    const y = targets[i]!;
    if (activation === "Sigmoid") return z - y;
    const weight = posWeight ? posWeight[i % posWeight.length]! : 1;
    return 1 - y - (1 + (weight - 1) * y) * logistic(-z);
  });
  return {
    delta,
    curvatureRank: values.length / shape[0]!,
    reference: Math.sqrt(2 * values.length),
    ignored: false,
    targetsFor: posWeight ? undefined : (outputs) => outputs.map((z, i) => logistic(z) - delta[i]!),
  };
}

function byClass(output: Output, targets: Float64Array, loss: Loss, activation: string): Residuals {
  const { values, shape } = output;
  const { ignoreIndex = -100, classWeights, labelSmoothing = 0 } = loss;
  const layout = classLayout("rank", output, targets, loss);
  const { classes, inner, predictions, soft, firstOf } = layout;
  const softmax = (z: Float64Array): Float64Array => {
    const p = new Float64Array(z.length);
    for (let i = 0; i < predictions; i++) {
      const first = firstOf(i);
      let most = Number.NEGATIVE_INFINITY;
      for (let c = 0; c < classes; c++) most = Math.max(most, z[first + c * inner]!);
      let total = 0;
      for (let c = 0; c < classes; c++) {
        p[first + c * inner] = Math.exp(z[first + c * inner]! - most);
        total += p[first + c * inner]!;
      }
      for (let c = 0; c < classes; c++) p[first + c * inner]! /= total;
    }
    return p;
  };
  const p = activation === "Softmax" ? values : softmax(values);
  const delta = new Float64Array(values.length);
  const heaviest = soft ? 1 : Math.max(0, ...(classWeights ?? [1])) || 1;
  let ignored = false;
  for (let i = 0; i < predictions; i++) {
    const first = firstOf(i);
    const label = targets[i]!;
    const weight = soft || label === ignoreIndex ? 1 : (classWeights?.[label] ?? 1);
    if (!soft && (label === ignoreIndex || weight === 0)) {
      ignored = true;
      continue;
    }
    for (let c = 0; c < classes; c++) {
      const at = first + c * inner;
      const hard = soft ? targets[at]! : c === label ? 1 : 0;
      const y = (1 - labelSmoothing) * hard + labelSmoothing / classes;
      delta[at] = (weight / heaviest) * (p[at]! - y);
    }
  }
  return {
    delta,
    // Adding the same to all classes changes nothing.
    curvatureRank: (predictions / shape[0]!) * (classes - 1),
    reference: Math.sqrt(2 * predictions),
    ignored,
    targetsFor: ignored
      ? undefined
      : (outputs) => {
          const q = softmax(outputs);
          return q.map((x, i) => x - delta[i]!);
        },
  };
}
