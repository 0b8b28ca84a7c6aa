/** Principal components of points that are known by their inner products. */
import { symmetricEigen } from "../dense";

/** A symmetric n x n matrix less the means of its rows and columns: of points around their mean. */
export function centred(matrix: Float64Array, n: number): Float64Array {
  const means = Float64Array.from({ length: n }, (_, i) => {
    let sum = 0;
    for (let j = 0; j < n; j++) sum += matrix[i * n + j]!;
    return sum / n;
  });
  const mean = means.reduce((sum, x) => sum + x, 0) / n;
  return matrix.map((x, at) => x - means[Math.floor(at / n)]! - means[at % n]! + mean);
}

export interface Components {
  /** Of the matrix, by magnitude, largest first; a Gram matrix has none below 0. */
  readonly values: Float64Array;
  /** n x values.length: row i has the point i, sqrt(|value|) times its entry of the eigenvector. */
  readonly coordinates: Float64Array;
}

/** The `count` components of largest magnitude; the entry of largest magnitude is positive. */
export async function components(
  matrix: Float64Array,
  n: number,
  count: number,
  signal: AbortSignal | undefined,
): Promise<Components> {
  const { values, vectors } = await symmetricEigen(matrix, n, { signal });
  const order = Array.from(values.keys())
    .sort((a, b) => Math.abs(values[b]!) - Math.abs(values[a]!) || a - b)
    .slice(0, count);
  const coordinates = new Float64Array(n * order.length);
  order.forEach((from, c) => {
    const vector = vectors.subarray(from * n, (from + 1) * n);
    const largest = vector.reduce(
      (best, x) => (Math.abs(x) > Math.abs(best) * (1 + 1e-9) ? x : best),
      0,
    );
    const factor = Math.sign(largest) * Math.sqrt(Math.abs(values[from]!));
    vector.forEach((x, i) => {
      coordinates[i * order.length + c] = factor * x;
    });
  });
  return { values: Float64Array.from(order, (i) => values[i]!), coordinates };
}

/** The sum of a matrix's diagonal. */
export function traceOf(matrix: Float64Array, n: number): number {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += matrix[i * (n + 1)]!;
  return sum;
}
