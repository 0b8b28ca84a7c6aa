/** The loss away from a model's parameters. */
import { type CallOptions, run } from "../call";
import type { DataSet } from "../data/data";
import { DataMismatchError } from "../errors";
import type { Model } from "../model/model";
import { type NativeLoss, type NativeRunOptions, native } from "../native";

/** What a loss is computed of, and how. */
export interface Place {
  model: Model;
  data: DataSet;
  loss: NativeLoss;
  run: NativeRunOptions;
}

/**
 * The loss at the parameters plus `direction`, in all their number; NaN where it overflows, as it
 * may far away. Moved parameters are kept in float64, whatever the precision of the network.
 */
export async function lossAt(
  { model, data, loss, run: options }: Place,
  direction: Float64Array,
  { signal }: CallOptions,
): Promise<number> {
  try {
    const at = { ...options, direction, step: 1 };
    const { loss: value } = await run(
      () => native().evaluateRisk(model.native, data.native, loss, at, undefined, undefined),
      { signal },
    );
    return value;
  } catch (error) {
    const away = direction.some((x) => x !== 0);
    if (away && error instanceof DataMismatchError && /finite/.test(error.message)) return NaN;
    throw error;
  }
}
