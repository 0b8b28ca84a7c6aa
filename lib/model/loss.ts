/** Which loss is attached to the network's output. Names and formulas are PyTorch's. */
import { OptionError } from "../errors";

/** `output` takes the graph's own scalar output as the loss. */
export const LOSS_NAMES = [
  "cross-entropy",
  "nll",
  "nll-probabilities",
  "mse",
  "bce-with-logits",
  "bce",
  "huber",
  "smooth-l1",
  "l1",
  "output",
] as const;

export type LossName = (typeof LOSS_NAMES)[number];

/** A loss with its options; those of other losses are refused. */
export interface Loss {
  name: LossName;
  /** Default "mean", with PyTorch's denominator. */
  reduction?: "mean" | "sum";
  /** cross-entropy: from 0 to 1. */
  labelSmoothing?: number;
  /** cross-entropy, nll: targets with this label do not count. Default -100. */
  ignoreIndex?: number;
  /** cross-entropy, nll: a factor for each class. */
  classWeights?: readonly number[];
  /** bce-with-logits: a factor for the positive examples of each output. */
  posWeight?: readonly number[];
  /** huber: where the loss turns linear. Default 1. */
  delta?: number;
  /** smooth-l1: where the loss turns linear. Default 1. */
  beta?: number;
  /** The axis of the output that runs over classes. Default 1. */
  classAxis?: number;
}

type Check = "number" | "integer" | "numbers" | "reduction";

/** The options by name, and what they must be. */
const OPTIONS: Record<Exclude<keyof Loss, "name">, Check> = {
  reduction: "reduction",
  labelSmoothing: "number",
  ignoreIndex: "integer",
  classWeights: "numbers",
  posWeight: "numbers",
  delta: "number",
  beta: "number",
  classAxis: "integer",
};

const CHECKS: Record<Check, { expected: string; fits: (value: unknown) => boolean }> = {
  number: { expected: "a number", fits: Number.isFinite },
  integer: { expected: "a whole number", fits: Number.isSafeInteger },
  numbers: {
    expected: "an array of numbers",
    fits: (value) =>
      (Array.isArray(value) || ArrayBuffer.isView(value)) &&
      Array.from(value as ArrayLike<unknown>).every((x) => Number.isFinite(x)),
  },
  reduction: {
    expected: '"mean" or "sum"',
    fits: (value) => value === "mean" || value === "sum",
  },
};

/**
 * A loss as callers give it, a name or a name with options, checked. Whether an option belongs to
 * the loss, and the loss to the network, is checked when an operator is made.
 *
 * @throws OptionError
 */
export function checkLoss(loss: LossName | Loss): Loss {
  const given = typeof loss === "string" ? { name: loss } : loss;
  const names = LOSS_NAMES.join(", ");
  if (typeof given !== "object" || given === null)
    throw new OptionError(`loss: expected one of ${names}, got ${String(loss)}`);
  if (!LOSS_NAMES.includes(given.name))
    throw new OptionError(`loss: expected one of ${names}, got "${String(given.name)}"`);
  for (const [key, value] of Object.entries(given)) {
    if (key === "name" || value === undefined) continue;
    const check = OPTIONS[key as keyof typeof OPTIONS];
    if (!check)
      throw new OptionError(
        `loss: expected the options ${Object.keys(OPTIONS).join(", ")}, got "${key}"`,
      );
    const { expected, fits } = CHECKS[check];
    if (!fits(value)) throw new OptionError(`loss: ${key}: expected ${expected}, got ${value}`);
  }
  return given;
}
