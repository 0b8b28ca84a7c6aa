/** The share of predictions that are right. */
import { DataMismatchError } from "./errors";
import type { Loss, LossName } from "./model/loss";

/** An output of a network, row-major. */
export interface Output {
  readonly values: Float64Array;
  readonly shape: readonly number[];
}

type Rule = (output: Output, targets: Float64Array, loss: Loss) => number;

/** How right is told from wrong, by loss; losses of regression have no row. */
const RULES: Partial<Record<LossName, Rule>> = {
  "cross-entropy": byLargest,
  nll: byLargest,
  "nll-probabilities": byLargest,
  "bce-with-logits": (output, targets) => byThreshold(output, targets, 0),
  bce: (output, targets) => byThreshold(output, targets, 0.5),
};

/** Whether `accuracy` is defined for a loss. */
export function hasAccuracy(loss: Loss): boolean {
  return RULES[loss.name] !== undefined;
}

/**
 * The share of right predictions: of the largest output of each sample (and position) that has the
 * target's label, or largest probability; for binary losses of outputs on the target's side of one
 * half. Targets of ignore_index do not count. NaN where nothing counts.
 *
 * @throws DataMismatchError where targets do not fit the output
 */
export function accuracyOf(loss: Loss, output: Output, targets: Float64Array): number {
  return RULES[loss.name]!(output, targets, loss);
}

/** Where the classes of an output lie. */
export interface ClassLayout {
  readonly classes: number;
  /** Numbers between two classes of one prediction. */
  readonly inner: number;
  /** How many predictions there are: of each sample and position. */
  readonly predictions: number;
  /** Targets are probabilities instead of labels. */
  readonly soft: boolean;
  /** The first class of a prediction. */
  firstOf(prediction: number): number;
}

/** @throws DataMismatchError where there are more or fewer targets than predictions */
export function classLayout(
  where: string,
  { values, shape }: Output,
  targets: Float64Array,
  { classAxis = 1 }: Loss,
): ClassLayout {
  const axis = Math.min(classAxis < 0 ? shape.length + classAxis : classAxis, shape.length - 1);
  const classes = shape[axis]!;
  const inner = shape.slice(axis + 1).reduce((product, n) => product * n, 1);
  const predictions = values.length / classes;
  const soft = targets.length === values.length && classes > 1;
  if (!soft && targets.length !== predictions)
    throw new DataMismatchError(
      `${where}: expected ${predictions} labels for outputs of the shape (${shape.join(", ")}), got ` +
        `${targets.length}`,
    );
  const firstOf = (i: number) => Math.floor(i / inner) * classes * inner + (i % inner);
  return { classes, inner, predictions, soft, firstOf };
}

function byLargest(output: Output, targets: Float64Array, loss: Loss): number {
  const { values } = output;
  const { ignoreIndex = -100 } = loss;
  const layout = classLayout("accuracy", output, targets, loss);
  const { classes, inner, predictions, soft, firstOf } = layout;
  const largest = (of: Float64Array, first: number) => {
    let best = 0;
    for (let c = 1; c < classes; c++)
      if (of[first + c * inner]! > of[first + best * inner]!) best = c;
    return best;
  };
  let [right, counted] = [0, 0];
  for (let i = 0; i < predictions; i++) {
    const first = firstOf(i);
    const label = soft ? largest(targets, first) : targets[i]!;
    if (!soft && label === ignoreIndex) continue;
    counted++;
    if (largest(values, first) === label) right++;
  }
  return right / counted;
}

function byThreshold({ values, shape }: Output, targets: Float64Array, half: number): number {
  if (targets.length !== values.length)
    throw new DataMismatchError(
      `accuracy: expected ${values.length} targets for outputs of the shape (${shape.join(", ")}), ` +
        `got ${targets.length}`,
    );
  let right = 0;
  values.forEach((value, i) => {
    if (value > half === targets[i]! > 0.5) right++;
  });
  return right / values.length;
}
