/** Inverses of the diagonal blocks of a curvature matrix. */
import { DataMismatchError } from "../errors";
import type { DenseBlock } from "../exact";

/**
 * The diagonal of the inverses of the blocks plus `damping` times the mean of all their diagonals,
 * one number a coordinate, by Cholesky factors: [A^-1]_jj is the squared length of column j of L^-1.
 *
 * @throws DataMismatchError where a damped block is not positive definite
 */
export function inverseDiagonalOf(
  where: string,
  blocks: readonly DenseBlock[],
  damping: number,
): Float64Array {
  let trace = 0;
  let dim = 0;
  for (const { matrix, indices } of blocks) {
    for (let i = 0; i < indices.length; i++) trace += matrix[i * indices.length + i]!;
    dim += indices.length;
  }
  const shift = (damping * trace) / dim;
  const diagonal = new Float64Array(dim);
  for (const { name, matrix, indices } of blocks) {
    const n = indices.length;
    const L = invertedFactor(matrix, n, shift);
    if (!L)
      throw new DataMismatchError(
        `${where}: expected blocks that are positive definite with a damping of ${damping} times ` +
          `the mean of the diagonal, ${trace / dim}, and one of ${name} is not; raise damping`,
      );
    for (let j = 0; j < n; j++)
      for (let i = j; i < n; i++) diagonal[indices[j]!]! += L[i * n + j]! ** 2;
  }
  return diagonal;
}

/** L^-1 of matrix + shift I = L L^T, lower; undefined where that is not positive definite. */
function invertedFactor(matrix: Float64Array, n: number, shift: number): Float64Array | undefined {
  const L = new Float64Array(n * n);
  for (let j = 0; j < n; j++) {
    let pivot = matrix[j * n + j]! + shift;
    for (let k = 0; k < j; k++) pivot -= L[j * n + k]! ** 2;
    // What rounding leaves of zero is none.
    if (!(pivot > n * Number.EPSILON * (matrix[j * n + j]! + shift))) return undefined;
    const root = Math.sqrt(pivot);
    L[j * n + j] = root;
    for (let i = j + 1; i < n; i++) {
      let sum = matrix[i * n + j]!;
      for (let k = 0; k < j; k++) sum -= L[i * n + k]! * L[j * n + k]!;
      L[i * n + j] = sum / root;
    }
  }
  // In place, column by column: row i of L^-1 needs the rows of L from i up only.
  for (let j = 0; j < n; j++) {
    L[j * n + j] = 1 / L[j * n + j]!;
    for (let i = j + 1; i < n; i++) {
      let sum = 0;
      for (let k = j; k < i; k++) sum += L[i * n + k]! * L[k * n + j]!;
      L[i * n + j] = -sum / L[i * n + i]!;
    }
  }
  return L;
}
