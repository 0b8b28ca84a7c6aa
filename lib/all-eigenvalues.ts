/** Every eigenvalue of an operator, for what is computed from whole spectra. */
import type { CallOptions } from "./call";
import { MemoryBudgetError } from "./errors";
import { exactSpectrum } from "./exact";
import type { LinearOperator } from "./linear-operator";

/**
 * @internal All eigenvalues, largest first, by the smaller of the operator's matrix and, for
 * Gauss-Newton and Fisher matrices, the Gram matrix of its samples.
 *
 * @throws MemoryBudgetError where neither fits; AbortError
 */
export async function allEigenvalues(
  operator: LinearOperator,
  call: CallOptions,
): Promise<{ values: Float64Array; products: number }> {
  try {
    return await exactSpectrum(operator, call);
  } catch (error) {
    if (!(error instanceof MemoryBudgetError)) throw error;
    throw new MemoryBudgetError(
      `${error.message}. Restrict the operator to a layer or a mask, or take an estimate`,
      { cause: error },
    );
  }
}
