/** Every eigenvalue of an operator, for what is computed from whole spectra. */
import type { CallOptions } from "./call";
import { NotConvergedError } from "./errors";
import type { LinearOperator } from "./linear-operator";
import { eigsh } from "./spectra";

/**
 * @internal All eigenvalues, largest first. Costs dim products.
 *
 * @throws MemoryBudgetError where the matrix does not fit; AbortError
 */
export async function allEigenvalues(
  operator: LinearOperator,
  { signal, onProgress }: CallOptions,
): Promise<{ values: Float64Array; products: number }> {
  const found = await eigsh(operator, { k: operator.dim, which: "LA", signal, onProgress });
  if (found.values.length < operator.dim)
    throw new NotConvergedError(
      `expected all ${operator.dim} eigenvalues of ${operator.name}, got ${found.values.length}: ` +
        found.reason,
    );
  return { values: found.values, products: found.products };
}
