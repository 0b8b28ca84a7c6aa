/** Masks by the magnitude of trained weights. */
import { OptionError } from "../errors";
import type { ShapedTensor } from "../model/units";
import { describe } from "../options";
import { type Ingredients, TABLE } from "./criteria";
import { type KeepOptions, keepBy } from "./keep";
import type { Mask } from "./mask";

export interface MagnitudeMaskOptions extends KeepOptions {
  /** The share of the scored entries to keep, over 0 and at most 1. */
  keep: number;
}

/** A tensor with its numbers, as `model.parameters` has them. */
export interface WeightTensor extends ShapedTensor {
  values(): ArrayLike<number>;
}

/**
 * Keeps the weights of largest magnitude: the criterion "large_final" of Zhou et al. 2019
 * (arXiv:1905.01067), "magnitude" of Frankle and Carbin 2019 (arXiv:1803.03635). Of n scored
 * entries n - floor((1 - keep) n) are kept. Of equal magnitudes, those of smaller index are kept
 * first. `mask` has the other criteria.
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
  const final = new Float64Array(parameters.reduce((sum, { size }) => sum + size, 0));
  for (const tensor of parameters) final.set(tensor.values(), tensor.offset);
  const score = TABLE.magnitude.score({ final } as Ingredients);
  const scores = final.map((_, i) => score(i));
  return keepBy("magnitudeMask", parameters, scores, { name: "magnitude", ...options });
}
