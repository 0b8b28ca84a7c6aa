/** What the generators of symmetries span at a place. */
import { orthonormalBasis, type SpanBasis, singularValues } from "../dense";
import type { SparseVector, SymmetryInstance } from "./instances";

/** More generators that hang together are not decomposed. */
const MOST_GENERATORS = 1200;

/** Singular values of unit generators below this are dependence. */
const DEPENDENT = 1e-10;

export interface OrbitDimension {
  /** Of the span of all generators. */
  readonly dimension: number;
  /** Whether all of it comes from a decomposition; else generators of large parts were counted. */
  readonly decomposed: boolean;
}

interface Call {
  readonly signal?: AbortSignal | undefined;
}

/** Instances that share no tensor with those of another part. */
function parts(instances: readonly SymmetryInstance[]): SymmetryInstance[][] {
  const found: { tensors: Set<string>; members: SymmetryInstance[] }[] = [];
  for (const instance of instances) {
    if (instance.dimension === 0) continue;
    const tensors = new Set(instance.tensors.map(({ name }) => name.replace(/\[[^\]]*\]$/, "")));
    const members = [instance];
    for (let i = found.length - 1; i >= 0; i--) {
      const other = found[i]!;
      if (![...other.tensors].some((name) => tensors.has(name))) continue;
      for (const name of other.tensors) tensors.add(name);
      members.unshift(...other.members);
      found.splice(i, 1);
    }
    found.push({ tensors, members });
  }
  return found.map(({ members }) => members);
}

const generatorsOf = (instances: readonly SymmetryInstance[], theta: Float64Array) =>
  instances.flatMap((instance) => [...instance.generators(theta)]);

/** Unit generators in the coordinates that any of them has. */
function dense(generators: readonly SparseVector[]): {
  matrix: Float64Array;
  coordinates: Int32Array;
} {
  const place = new Map<number, number>();
  for (const { indices } of generators)
    for (const index of indices) if (!place.has(index)) place.set(index, place.size);
  const matrix = new Float64Array(generators.length * place.size);
  generators.forEach(({ indices, values }, row) => {
    const norm = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
    indices.forEach((index, i) => {
      if (norm > 0) matrix[row * place.size + place.get(index)!]! += values[i]! / norm;
    });
  });
  return { matrix, coordinates: Int32Array.from(place.keys()) };
}

/**
 * The same rows in fewer columns: each coordinate is added to four of them with fixed random signs
 * (Clarkson and Woodruff 2013, with more entries), which keeps the rank.
 */
function sketched(generators: readonly SparseVector[], columns: number): Float64Array {
  const matrix = new Float64Array(generators.length * columns);
  generators.forEach(({ indices, values }, row) => {
    const norm = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
    if (norm === 0) return;
    indices.forEach((index, i) => {
      let hash = (index + 1) | 0;
      for (let k = 0; k < 4; k++) {
        hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
        hash = Math.imul(hash ^ (hash >>> 12), 0x297a2d39);
        hash ^= hash >>> 15;
        const column = (hash >>> 1) % columns;
        matrix[row * columns + column]! += ((hash & 1 ? 1 : -1) * values[i]!) / norm;
      }
    });
  });
  return matrix;
}

/**
 * The dimension of what all generators span at a place, part by part: instances without a common
 * tensor add up. A part of up to 1,200 generators is decomposed (singular values of the unit
 * generators, sketched to 2 n + 64 columns where there are more), a larger one counted, which is
 * right where its generators do not depend on one another.
 */
export async function orbitDimension(
  instances: readonly SymmetryInstance[],
  theta: Float64Array,
  { signal }: Call = {},
): Promise<OrbitDimension> {
  let dimension = 0;
  let decomposed = true;
  for (const part of parts(instances)) {
    const count = part.reduce((sum, instance) => sum + instance.dimension, 0);
    if (count > MOST_GENERATORS) {
      dimension += count;
      decomposed = false;
      continue;
    }
    const generators = generatorsOf(part, theta);
    const columns = 2 * count + 64;
    const wide = new Set(generators.flatMap(({ indices }) => [...indices])).size;
    const matrix = wide <= 2 * columns ? dense(generators).matrix : sketched(generators, columns);
    const values = await singularValues(matrix, count, matrix.length / count, { signal });
    dimension += values.filter((value) => value > DEPENDENT * values[0]!).length;
  }
  return { dimension, decomposed };
}

/**
 * An orthonormal basis of what the generators span at a place: rank x P, row-major, part by part.
 * Undefined where it takes more than `most` numbers.
 */
export async function orbitBasis(
  instances: readonly SymmetryInstance[],
  theta: Float64Array,
  { signal, most = 2 ** 27 }: Call & { most?: number } = {},
): Promise<SpanBasis | undefined> {
  const dim = theta.length;
  const count = instances.reduce((sum, instance) => sum + instance.dimension, 0);
  if (count * dim > most) return undefined;
  const rows: Float64Array[] = [];
  const values: number[] = [];
  for (const part of parts(instances)) {
    const { matrix, coordinates } = dense(generatorsOf(part, theta));
    const width = coordinates.length;
    if (width === 0) continue;
    const basis = await orthonormalBasis(matrix, width, { signal, tol: DEPENDENT });
    values.push(...basis.values);
    for (let row = 0; row < basis.rank; row++) {
      const full = new Float64Array(dim);
      coordinates.forEach((index, i) => {
        full[index] = basis.vectors[row * width + i]!;
      });
      rows.push(full);
    }
  }
  const vectors = new Float64Array(rows.length * dim);
  rows.forEach((row, i) => {
    vectors.set(row, i * dim);
  });
  return { vectors, dim, rank: rows.length, values: Float64Array.from(values).sort().reverse() };
}
