/** Masks by the magnitude of trained weights. */
import { DataMismatchError, OptionError } from "../errors";
import { type Check, check, checkOptions, describe } from "../options";
import { Mask, type Segment } from "./mask";

export interface MagnitudeMaskOptions {
  /** The share of the scored entries to keep, over 0 and at most 1. */
  keep: number;
  /** The share is kept of each tensor ("layer", the default), or of all of them together. */
  scope?: "layer" | "global" | undefined;
  /**
   * Tensors of a smaller rank, by default those below 2, which are biases and the scales and
   * shifts of normalisations, are kept whole and not counted. 0 scores all tensors.
   */
  minRank?: number | undefined;
}

const OPTIONS: { [K in keyof Required<MagnitudeMaskOptions>]: Check } = {
  keep: {
    expected: "a share over 0 and at most 1",
    fits: (value) => typeof value === "number" && value > 0 && value <= 1,
  },
  scope: check.oneOf("layer", "global"),
  minRank: check.naturalNumber,
};

/** A tensor with its numbers, as `model.parameters` has them. */
export interface WeightTensor extends Segment {
  readonly shape: readonly number[];
  values(): ArrayLike<number>;
}

/**
 * Keeps the weights of largest magnitude: the criterion "large_final" of Zhou et al. 2019
 * (arXiv:1905.01067), "magnitude" of Frankle and Carbin 2019 (arXiv:1803.03635). Of n scored
 * entries n - floor((1 - keep) n) are kept. Of equal magnitudes, those of smaller index are kept
 * first.
 *
 * @param parameters `model.parameters`
 * @throws OptionError; DataMismatchError where a weight is NaN
 */
export function magnitudeMask(
  parameters: readonly WeightTensor[],
  options: MagnitudeMaskOptions,
): Mask {
  if (!Array.isArray(parameters))
    throw new OptionError(
      `magnitudeMask: expected the parameters of a model, got ${describe(parameters)}`,
    );
  const { keep, scope = "layer", minRank = 2 } = checkOptions("magnitudeMask", options, OPTIONS);
  if (keep === undefined)
    throw new OptionError(`magnitudeMask: keep: expected ${OPTIONS.keep.expected}, got undefined`);

  const size = parameters.reduce((sum, { size }) => sum + size, 0);
  const bits = new Uint8Array(size).fill(1);
  const scored = parameters.filter(({ shape }) => shape.length >= minRank);
  const groups = scope === "layer" ? scored.map((tensor) => [tensor]) : [scored];
  for (const group of groups) keepLargest(group, keep, bits);
  return new Mask(parameters, bits);
}

function keepLargest(group: readonly WeightTensor[], keep: number, bits: Uint8Array): void {
  const magnitudes = new Float64Array(group.reduce((sum, { size }) => sum + size, 0));
  let end = 0;
  for (const tensor of group) {
    const values = tensor.values();
    for (let i = 0; i < tensor.size; i++) {
      const value = values[i]!;
      if (Number.isNaN(value))
        throw new DataMismatchError(`magnitudeMask: ${tensor.name} is NaN at flat index ${i}`);
      magnitudes[end++] = Math.abs(value);
    }
  }
  // A share such as 0.9 is not exact: the smallest excess does not count.
  const kept = magnitudes.length - Math.floor((1 - keep) * magnitudes.length + 1e-9);
  const ascending = magnitudes.slice().sort();
  const threshold = kept > 0 ? ascending[ascending.length - kept]! : Number.POSITIVE_INFINITY;
  let atThreshold = kept;
  for (const magnitude of magnitudes) if (magnitude > threshold) atThreshold--;

  let next = 0;
  for (const { offset, size } of group)
    for (let i = offset; i < offset + size; i++) {
      const magnitude = magnitudes[next++]!;
      const keeps = magnitude > threshold || (magnitude === threshold && atThreshold-- > 0);
      bits[i] = keeps ? 1 : 0;
    }
}
