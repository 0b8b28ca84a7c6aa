/** Subspaces of parameter space as orthonormal rows, and how they lie to the kernel of an operator. */
import { matrixProduct, orthonormalBasis, singularVectors } from "../dense";

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

/** How a space lies to the kernel of an operator of which the range is known. */
export interface Containment {
  /** Sines of the angles between the space and the kernel, smallest first. */
  readonly sines: Float64Array;
  /** The part of the space within the kernel, up to `tolerance`. */
  readonly inside: Space;
  /** The largest |A v| / |lambda|_max over unit vectors of `inside`. */
  readonly residual: number;
}

export async function containment(
  space: Space,
  range: { readonly space: Space; readonly values: Float64Array },
  dim: number,
  tolerance: number,
  options: Signal,
): Promise<Containment> {
  const { rank, vectors } = space;
  const outside = range.space.rank;
  if (rank === 0 || outside === 0)
    return { sines: new Float64Array(rank), inside: space, residual: 0 };
  const parts = await matrixProduct(vectors, range.space.vectors, rank, dim, outside, {
    transposed: true,
    ...options,
  });
  // In full, for directions that have no part in the range at all.
  const wide = Math.max(rank, outside);
  const square = new Float64Array(rank * wide);
  for (let i = 0; i < rank; i++)
    square.set(parts.subarray(i * outside, (i + 1) * outside), i * wide);
  const { values, left } = await singularVectors(square, rank, wide, options);
  const sines = Float64Array.from(values).reverse();
  const first = values.findIndex((value) => value <= tolerance);
  const kept = first < 0 ? 0 : rank - first;
  const chosen = left.subarray((rank - kept) * rank);
  const inside = {
    vectors: await matrixProduct(chosen, vectors, kept, rank, dim, options),
    rank: kept,
  };
  const largest = range.values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const again = await matrixProduct(chosen, parts, kept, rank, outside, options);
  let residual = 0;
  for (let i = 0; i < kept; i++) {
    let square = 0;
    for (let j = 0; j < outside; j++) square += (again[i * outside + j]! * range.values[j]!) ** 2;
    residual = Math.max(residual, Math.sqrt(square) / largest);
  }
  return { sines, inside, residual };
}

/** An orthonormal basis of what rows span, which may depend on one another. */
export async function spanOf(rows: Float64Array, dim: number, options: Signal): Promise<Space> {
  if (rows.length === 0) return { vectors: rows, rank: 0 };
  // Generators are sums of parameters; so what is 1e-10 of the rest is rounding.
  const { vectors, rank } = await orthonormalBasis(rows, dim, { tol: 1e-10, ...options });
  return { vectors, rank };
}
