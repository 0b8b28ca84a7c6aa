/** The loss away from a model's parameters. */
import { type CallOptions, run } from "../call";
import { DataMismatchError } from "../errors";
import type { LinearOperator } from "../linear-operator";

/**
 * The loss at the parameters plus `direction`, in all their number; NaN where it overflows, as it
 * may far away. Moved parameters are kept in float64, whatever the precision of the network.
 *
 * @param holder of network, data and loss (`jacobianHolder`): compiles the loss at its first call
 */
export async function lossAt(
  holder: LinearOperator,
  direction: Float64Array,
  { signal }: CallOptions,
): Promise<number> {
  try {
    const { loss } = await run(() => holder.native.call("risk", { direction }, undefined), {
      signal,
    });
    return loss;
  } catch (error) {
    const away = direction.some((x) => x !== 0);
    if (away && error instanceof DataMismatchError && /finite/.test(error.message)) return NaN;
    throw error;
  }
}
