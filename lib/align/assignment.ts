/** The linear assignment problem. */
import { munkres } from "munkres";
import { DataMismatchError } from "../errors";

/**
 * The permutation with the largest sum of scores[i][order[i]], by the Hungarian algorithm.
 *
 * @param scores n x n, row-major
 */
export function assign(scores: Float64Array, n: number): Int32Array {
  const bad = scores.findIndex((x) => !Number.isFinite(x));
  if (bad >= 0)
    throw new DataMismatchError(
      `assignment: expected finite scores, got ${scores[bad]} of units ${Math.floor(bad / n)} and ` +
        `${bad % n}`,
    );
  const costs = Array.from({ length: n }, (_, i) =>
    Array.from(scores.subarray(i * n, (i + 1) * n), (x) => -x),
  );
  const order = new Int32Array(n);
  for (const [i, j] of munkres(costs)) order[i] = j;
  return order;
}

/** The sum of scores along an order. */
export function scoreOf(scores: Float64Array, order: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < order.length; i++) sum += scores[i * order.length + order[i]!]!;
  return sum;
}
