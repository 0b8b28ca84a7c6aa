/** Subspaces of parameter space as orthonormal rows, and how they lie to the kernel of an operator. */
import { matrixProduct, orthonormalBasis, singularValues, singularVectors } from "../dense";

/** Orthonormal rows, row-major. */
export interface Space {
  readonly vectors: Float64Array;
  readonly rank: number;
}

type Signal = { readonly signal?: AbortSignal | undefined };

/** What of some rows lies outside of a space: twice, as Gram-Schmidt needs. */
export async function withoutSpace(
  rows: Float64Array,
  space: Space,
  dim: number,
  options: Signal,
): Promise<Float64Array> {
  const count = rows.length / dim;
  if (space.rank === 0 || count === 0) return rows;
  let rest = rows;
  for (let pass = 0; pass < 2; pass++) {
    const parts = await matrixProduct(rest, space.vectors, count, dim, space.rank, {
      transposed: true,
      ...options,
    });
    const inside = await matrixProduct(parts, space.vectors, count, space.rank, dim, options);
    rest = rest.map((x, i) => x - inside[i]!);
  }
  return rest;
}

/** What orthonormal rows add to a space: rows whose sine to it is above `least`. */
export async function addedTo(
  space: Space,
  rows: Space,
  dim: number,
  least: number,
  options: Signal,
): Promise<Space> {
  if (rows.rank === 0 || space.rank === 0) return rows;
  const rest = await withoutSpace(rows.vectors, space, dim, options);
  const { values, right } = await singularVectors(rest, rows.rank, dim, options);
  const rank = values.filter((value) => value > least).length;
  return { vectors: right.slice(0, rank * dim), rank };
}

/** Both spaces together, where the second is orthogonal to the first. */
export function joined(a: Space, b: Space): Space {
  const vectors = new Float64Array(a.vectors.length + b.vectors.length);
  vectors.set(a.vectors);
  vectors.set(b.vectors, a.vectors.length);
  return { vectors, rank: a.rank + b.rank };
}

/** How a space lies to the kernel of an operator A of which the range is known. */
export interface Containment {
  /** Sine of the largest angle between the space and the kernel. */
  readonly largestSine: number;
  /** The part of the space on which |A v| is at most the tolerance, for unit vectors. */
  readonly inside: Space;
  /** The largest |A v| / |lambda|_max of that part. */
  readonly residual: number;
}

/**
 * @param range eigenvectors of what is not 0, with the eigenvalues
 * @param tolerance of |A v|
 */
export async function containment(
  space: Space,
  range: { readonly space: Space; readonly values: Float64Array },
  dim: number,
  tolerance: number,
  options: Signal,
): Promise<Containment> {
  const { rank, vectors } = space;
  const outside = range.space.rank;
  if (rank === 0 || outside === 0) return { largestSine: 0, inside: space, residual: 0 };
  const parts = await matrixProduct(vectors, range.space.vectors, rank, dim, outside, {
    transposed: true,
    ...options,
  });
  const [largestSine] = await singularValues(parts, rank, outside, options);
  // A v in the basis of the range, in full for directions that have no part in it at all.
  const wide = Math.max(rank, outside);
  const products = new Float64Array(rank * wide);
  for (let i = 0; i < rank; i++)
    for (let j = 0; j < outside; j++)
      products[i * wide + j] = parts[i * outside + j]! * range.values[j]!;
  const { values, left } = await singularVectors(products, rank, wide, options);
  const first = values.findIndex((value) => value <= tolerance);
  const kept = first < 0 ? 0 : rank - first;
  const inside = {
    vectors: await matrixProduct(
      left.subarray((rank - kept) * rank),
      vectors,
      kept,
      rank,
      dim,
      options,
    ),
    rank: kept,
  };
  const largest = range.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return {
    largestSine: Math.min(1, largestSine!),
    inside,
    residual: kept === 0 ? 0 : values[first]! / largest,
  };
}

/** An orthonormal basis of what rows span, which may depend on one another. */
export async function spanOf(rows: Float64Array, dim: number, options: Signal): Promise<Space> {
  if (rows.length === 0) return { vectors: rows, rank: 0 };
  // Generators are sums of parameters; so what is 1e-10 of the rest is rounding.
  const { vectors, rank } = await orthonormalBasis(rows, dim, { tol: 1e-10, ...options });
  return { vectors, rank };
}
