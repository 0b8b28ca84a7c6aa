/** How eigenspaces lie to one another, to gradients and to parameters. */
import { OptionError } from "../errors";
import { Mask, type Segment } from "../masks/mask";
import { type Check, check, checkOptions, describe } from "../options";
import { Random } from "../random";
import { dot } from "../vectors";
import { type Baseline, bandOf, randomOverlap } from "./baseline";
import {
  basisOf,
  gramOf,
  outside,
  type Rows,
  rowsOf,
  singularValues,
  triangleOf,
  type VectorSet,
} from "./orthonormal";

export interface BaselineOptions {
  /** Random draws for the band. Default 1000. */
  draws?: number | undefined;
  /** Of them. Default 0. */
  seed?: number | bigint | undefined;
}

const BASELINE_OPTIONS: { [K in keyof Required<BaselineOptions>]: Check } = {
  draws: check.positiveInteger,
  seed: check.seed,
};

/** Streams of one seed. */
const OVERLAPS = 1;
const MASKS = 2;

function pair(where: string, V: VectorSet, W: VectorSet): [smaller: Rows, larger: Rows] {
  const [v, w] = [basisOf(where, "V", V), basisOf(where, "W", W)];
  if (V.dim !== W.dim)
    throw new OptionError(`${where}: expected vectors of one dimension, got ${V.dim} and ${W.dim}`);
  return v.length <= w.length ? [v, w] : [w, v];
}

interface Angles {
  angles: Float64Array;
  cosines: Float64Array;
  sines: Float64Array;
}

/** Cosines from the inner products, sines from what lies outside: each where it is accurate. */
function anglesOf([small, large]: [Rows, Rows]): Angles {
  const cosines = singularValues(gramOf(small, large)).map((x) => Math.min(1, x));
  const sines = singularValues(triangleOf(outside(small, large)))
    .reverse()
    .map((x) => Math.min(1, x));
  const angles = cosines.map((cosine, i) =>
    cosine ** 2 < 0.5 ? Math.acos(cosine) : Math.asin(sines[i]!),
  );
  return { angles, cosines, sines };
}

/**
 * Principal angles of the spaces that two sets of vectors span, in radians, smallest first; as many
 * as the smaller set has vectors. Small angles are taken from their sines, and so accurate to
 * 1e-16 (Bjorck and Golub 1973; Knyazev and Argentati 2002). The vectors need not be orthonormal.
 *
 * @throws OptionError where dimensions differ or vectors of a set depend on one another
 */
export function principalAngles(V: VectorSet, W: VectorSet): Float64Array {
  return anglesOf(pair("principalAngles", V, W)).angles;
}

/**
 * ||V^T W||_F^2 / k for orthonormal bases, the mean squared cosine of the principal angles (Gur-Ari,
 * Roberts and Dyer 2018); k is the smaller number of vectors. 1 where one space holds the other, 0
 * where they are orthogonal; max(k, l) / p by chance.
 */
export function subspaceOverlap(V: VectorSet, W: VectorSet): number {
  const [small, large] = pair("subspaceOverlap", V, W);
  return overlapOf(small, large);
}

function overlapOf(small: Rows, large: Rows): number {
  const total = gramOf(small, large).reduce((sum, row) => sum + dot(row, row), 0);
  return Math.min(1, total / small.length);
}

export interface SubspaceComparison {
  /** Of each space, and of the space around them. */
  k: number;
  l: number;
  dim: number;
  /** As `principalAngles`. */
  angles: Float64Array;
  /** As `subspaceOverlap`. */
  overlap: number;
  /** ||P - P'||_2: the sine of the largest angle, 1 where k and l differ. */
  spectralDistance: number;
  /** ||P - P'||_F, from 0 to sqrt(k + l). */
  frobeniusDistance: number;
  /** The overlap of a random space of dimension k with any one of dimension l. */
  baseline: Baseline;
}

/**
 * Angles, overlap and distance of projectors of two spaces, beside what the overlap is by chance:
 * max(k, l) / p exactly, and the middle 95 % of random draws.
 *
 * ```ts
 * const before = await eigsh(hessian(first, data), { k: 10 });
 * const after = await eigsh(hessian(last, data), { k: 10 });
 * compareSubspaces(before, after).overlap;
 * ```
 *
 * @throws OptionError where dimensions differ or vectors of a set depend on one another
 */
export function compareSubspaces(
  V: VectorSet,
  W: VectorSet,
  options?: BaselineOptions,
): SubspaceComparison {
  const given = checkOptions("compareSubspaces", options, BASELINE_OPTIONS);
  const [small, large] = pair("compareSubspaces", V, W);
  const { angles, sines } = anglesOf([small, large]);
  const [k, l, dim] = [V.vectors.length / V.dim, W.vectors.length / W.dim, V.dim];
  const squares = sines.reduce((sum, sine, i) => {
    // Near a right angle the sine is accurate as well.
    return sum + (angles[i]! < 1 ? Math.sin(angles[i]!) : sine) ** 2;
  }, 0);
  return {
    k,
    l,
    dim,
    angles,
    overlap: overlapOf(small, large),
    spectralDistance: k === l ? Math.sin(angles.at(-1)!) : 1,
    frobeniusDistance: Math.sqrt(Math.abs(k - l) + 2 * squares),
    baseline: overlapBaseline(k, l, dim, given),
  };
}

/**
 * The overlap ||V^T W||_F^2 / min(k, l) of a random subspace of dimension k of R^p with any one of
 * dimension l. Costs draws times min(k, l)^2 (k + l), whatever p is.
 */
export function overlapBaseline(
  k: number,
  l: number,
  p: number,
  options?: BaselineOptions,
): Baseline {
  const { draws = 1000, seed = 0 } = checkOptions("overlapBaseline", options, BASELINE_OPTIONS);
  for (const [name, value] of Object.entries({ k, l }))
    if (!Number.isSafeInteger(value) || value < 1 || value > p)
      throw new OptionError(
        `overlapBaseline: ${name}: expected a whole number from 1 to p = ${p}, got ${describe(value)}`,
      );
  const random = new Random(seed, OVERLAPS);
  const drawn = Array.from(
    { length: draws },
    () => randomOverlap(k, l, p, random) / Math.min(k, l),
  );
  return { expected: Math.max(k, l) / p, band: bandOf(drawn), draws };
}

export interface VectorShare {
  /** ||V V^T g||^2 / ||g||^2. */
  share: number;
  /** What lies outside: 1 - share, computed from what is left. */
  rest: number;
  /** Of a random vector. */
  baseline: Baseline;
}

/**
 * The share of a vector, such as a gradient, a step or the way from the initial weights, in the
 * space of leading eigenvectors (Gur-Ari, Roberts and Dyer 2018); k / p by chance.
 *
 * @throws OptionError where lengths differ or the vector is zero
 */
export function gradientShare(
  V: VectorSet,
  g: ArrayLike<number>,
  options?: BaselineOptions,
): VectorShare {
  const given = checkOptions("gradientShare", options, BASELINE_OPTIONS);
  const basis = basisOf("gradientShare", "V", V);
  if (typeof g?.length !== "number" || g.length !== V.dim)
    throw new OptionError(
      `gradientShare: g: expected ${V.dim} numbers, the dimension of V, got ${describe(g)}`,
    );
  const most = Array.from(g).reduce((max, x) => Math.max(max, Math.abs(x)), 0);
  if (!(most > 0) || !Number.isFinite(most))
    throw new OptionError(
      `gradientShare: g: expected finite numbers, not all zero, got a largest of ${most}`,
    );
  const row = Float64Array.from(g, (x) => x / most);
  const [rest] = outside([row], basis);
  const inside = basis.reduce((sum, unit) => sum + dot(unit, row) ** 2, 0);
  const whole = dot(row, row);
  return {
    share: Math.min(1, inside / whole),
    rest: dot(rest!, rest!) / whole,
    baseline: overlapBaseline(1, basis.length, V.dim, given),
  };
}

/**
 * The inverse participation ratio sum v_j^4 of each vector, taken to length 1: 1 on a single
 * parameter, 1 / p spread evenly, 3 / (p + 2) by chance.
 */
export function inverseParticipation(V: VectorSet): Float64Array {
  return Float64Array.from(rowsOf("inverseParticipation", "V", V), (row) => {
    const length = dot(row, row);
    if (length === 0)
      throw new OptionError("inverseParticipation: V: expected vectors that are not zero");
    return row.reduce((sum, x) => sum + (x * x) ** 2, 0) / length ** 2;
  });
}

export interface TensorShare {
  name: string;
  size: number;
  /** sum of v_j^2 over the tensor, for each vector, taken to length 1. */
  shares: Float64Array;
  /** Their mean: the overlap of the space with the tensor's coordinates. */
  mean: number;
  /** By chance: size / p. */
  expected: number;
}

/**
 * How much of each vector lies in each tensor.
 *
 * @param parameters `operator.parameters` or `model.parameters`
 * @throws OptionError where they do not add up to the vectors' dimension
 */
export function tensorShares(V: VectorSet, parameters: readonly Segment[]): TensorShare[] {
  const rows = rowsOf("tensorShares", "V", V);
  const total = Array.isArray(parameters) ? parameters.reduce((n, { size }) => n + size, 0) : -1;
  if (total !== V.dim)
    throw new OptionError(
      `tensorShares: parameters: expected tensors of ${V.dim} numbers together, the dimension of ` +
        `V, got ${total < 0 ? describe(parameters) : total}`,
    );
  return parameters.map(({ name, offset, size }) => {
    const shares = Float64Array.from(rows, (row) => {
      const part = row.subarray(offset, offset + size);
      return dot(part, part) / dot(row, row);
    });
    const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
    return { name, size, shares, mean, expected: size / V.dim };
  });
}

export interface MaskOverlap {
  /** E_k(m) = (1/k) sum_i ||m o v_i||^2. */
  energy: number;
  /** energy over |m| / p: 1 where mask and space have nothing to do with one another. */
  lift: number;
  /** Of random masks that keep as many entries of each tensor. */
  baseline: Baseline;
  /** Of the energy, over such masks, exactly. */
  standardDeviation: number;
  /** (energy - expected) / standardDeviation. */
  z: number;
}

/**
 * How much of a space lies on the weights that a mask keeps, against random masks with the same
 * number of kept entries in each tensor; without that, sizes of layers would pass for a relation.
 *
 * @throws OptionError where mask and vectors differ in length
 */
export function maskOverlap(V: VectorSet, mask: Mask, options?: BaselineOptions): MaskOverlap {
  const { draws = 200, seed = 0 } = checkOptions("maskOverlap", options, BASELINE_OPTIONS);
  const basis = basisOf("maskOverlap", "V", V);
  if (!(mask instanceof Mask) || mask.size !== V.dim)
    throw new OptionError(
      `maskOverlap: mask: expected a Mask of ${V.dim} entries, the dimension of V, got ` +
        `${mask instanceof Mask ? mask.size : describe(mask)}`,
    );
  const energies = new Float64Array(V.dim);
  for (const row of basis)
    for (let j = 0; j < V.dim; j++) energies[j]! += row[j]! ** 2 / basis.length;
  let energy = 0;
  let expected = 0;
  let variance = 0;
  const tensors = mask.layers().map(({ kept, size }, i) => {
    const { offset } = mask.parameters[i]!;
    const part = energies.slice(offset, offset + size);
    const mean = part.reduce((sum, x) => sum + x, 0) / size;
    const spread = part.reduce((sum, x) => sum + (x - mean) ** 2, 0) / Math.max(1, size - 1);
    for (let j = 0; j < size; j++) if (mask.bits[offset + j]) energy += part[j]!;
    expected += kept * mean;
    // Of a sum of `kept` entries drawn without replacement.
    variance += kept * (1 - kept / size) * spread;
    return { part, kept };
  });
  const random = new Random(seed, MASKS);
  const drawn = Array.from({ length: draws }, () =>
    tensors.reduce((sum, { part, kept }) => {
      if (kept === part.length) return sum + part.reduce((a, b) => a + b, 0);
      for (let j = 0; j < kept; j++) {
        const other = j + random.below(part.length - j);
        [part[j], part[other]] = [part[other]!, part[j]!];
        sum += part[j]!;
      }
      return sum;
    }, 0),
  );
  const standardDeviation = Math.sqrt(variance);
  return {
    energy,
    lift: energy / (mask.count / V.dim),
    baseline: { expected, band: bandOf(drawn), draws },
    standardDeviation,
    z: (energy - expected) / standardDeviation,
  };
}
