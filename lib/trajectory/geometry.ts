/** The shape of the path that training took: lengths, angles, directions, principal components. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import { symmetricEigenvalues } from "../dense";
import { OptionError } from "../errors";
import type { Segment } from "../masks/mask";
import { layersOf } from "../model/units";
import { type Check, check, checkOptions } from "../options";
import { centred, components, traceOf } from "./components";
import { breath, dotOf, gramMatrices } from "./pairs";
import { requireTrajectory, type Trajectory } from "./trajectory";

export interface PathOptions extends CallOptions {
  /** What is measured beside the whole: each layer (default), each tensor, or nothing. */
  by?: "layer" | "tensor" | "none" | undefined;
  /** Principal components that are kept. Default 10. */
  components?: number | undefined;
}

const OPTIONS: { [K in keyof Required<PathOptions>]: Check } = {
  ...CALL_OPTIONS,
  by: check.oneOf("layer", "tensor", "none"),
  components: check.positiveInteger,
};

/** Pairwise cosines of places, and their mean. */
export interface TrajectoryMap {
  /** How many places: rows and columns of the map. */
  readonly size: number;
  /** size x size; NaN for a place at the origin. */
  readonly cosines: Float64Array;
  /** Mean directional similarity: the mean of all cosines, those of the diagonal included. */
  readonly omega: number;
}

export interface PathComponents {
  /** Along each component, largest first: mean squared distance from the mean. */
  readonly variances: Float64Array;
  /** Shares of the total variance. */
  readonly explained: Float64Array;
  /** length x variances.length: the places in the components, around their mean. */
  readonly coordinates: Float64Array;
  /** All variance: the square of `radius`. */
  readonly total: number;
}

/** What a random walk with the same lengths of steps gives in infinitely many dimensions. */
export interface RandomWalk {
  /** Of the map relative to the first place. */
  readonly omega: number;
  /** Shares of the total variance along principal components. */
  readonly explained: Float64Array;
  /** Distance of the ends over the length of the path. */
  readonly straightness: number;
}

/** Of all parameters, or of those of one layer or tensor. T is the number of checkpoints. */
export interface PathMeasures {
  readonly name: string;
  readonly size: number;
  /** ||theta_t||, T of them. */
  readonly norms: Float64Array;
  /** ||theta_t - theta_0||, T of them. */
  readonly displacements: Float64Array;
  /** ||theta_(t+1) - theta_t||, T - 1. */
  readonly stepLengths: Float64Array;
  /** Their sum. */
  readonly pathLength: number;
  /** The last displacement. */
  readonly displacement: number;
  /** displacement / pathLength: 1 on a straight line. */
  readonly straightness: number;
  /** Between a step and the next, radians, T - 2; NaN where one of them has no length. */
  readonly turns: Float64Array;
  /** Between theta_t - theta_0 and theta_(t+1) - theta_0, t = 1 .. T - 2. */
  readonly apexAtStart: Float64Array;
  /** Between theta_t and theta_(t+1), T - 1. */
  readonly apexAtOrigin: Float64Array;
  /** Root of the mean squared distance of the places from their mean. Ours. */
  readonly radius: number;
  /** Of theta_t - theta_0, t = 1 .. T - 1. */
  readonly relativeMap: TrajectoryMap;
  /** Of theta_t. */
  readonly rawMap: TrajectoryMap;
  readonly pca: PathComponents;
  readonly randomWalk: RandomWalk;
}

export interface PathGeometry {
  readonly steps: Float64Array;
  readonly whole: PathMeasures;
  /** By layer or tensor, in the order of the parameters; empty for by: "none". */
  readonly parts: readonly PathMeasures[];
}

/** Tensors that are measured together. */
interface Group {
  name: string;
  tensors: readonly Segment[];
  /** Positions of the tensors among the parameters. */
  positions: readonly number[];
}

function groupsOf(parameters: readonly Segment[], by: "layer" | "tensor" | "none"): Group[] {
  const place = new Map(parameters.map(({ name }, i) => [name, i]));
  const group = (name: string, tensors: readonly Segment[]) => ({
    ...{ name, tensors },
    positions: tensors.map((tensor) => place.get(tensor.name)!),
  });
  const parts =
    by === "none"
      ? []
      : by === "tensor"
        ? parameters.map((tensor) => group(tensor.name, [tensor]))
        : Array.from(layersOf(parameters), ([name, tensors]) => group(name, tensors));
  return [group("all", parameters), ...parts];
}

function squares({ tensors }: Group, x: Float64Array): number {
  return tensors.reduce((sum, { offset, size }) => sum + dotOf(x, x, offset, offset + size), 0);
}

/** Between two vectors, accurate for small angles too (Kahan 2006); NaN for one of no length. */
function angle({ tensors }: Group, a: Float64Array, b: Float64Array, aa: number, bb: number) {
  if (!(aa > 0 && bb > 0)) return Number.NaN;
  const [p, q] = [1 / Math.sqrt(aa), 1 / Math.sqrt(bb)];
  let [apart, along] = [0, 0];
  for (const { offset, size } of tensors)
    for (let i = offset; i < offset + size; i++) {
      const [x, y] = [a[i]! * p, b[i]! * q];
      apart += (x - y) ** 2;
      along += (x + y) ** 2;
    }
  return 2 * Math.atan2(Math.sqrt(apart), Math.sqrt(along));
}

/** What one pass along the path gives of a group. */
interface Walk {
  norms: number[];
  displacements: number[];
  stepLengths: number[];
  turns: number[];
  apexAtStart: number[];
  apexAtOrigin: number[];
}

const difference = (a: Float64Array, b: Float64Array): Float64Array => {
  const result = new Float64Array(a.length);
  for (let i = 0; i < a.length; i++) result[i] = a[i]! - b[i]!;
  return result;
};

async function walk(
  path: Trajectory,
  groups: readonly Group[],
  signal: AbortSignal | undefined,
): Promise<Walk[]> {
  const walks = groups.map(
    (): Walk => ({
      ...{ norms: [], displacements: [], stepLengths: [] },
      ...{ turns: [], apexAtStart: [], apexAtOrigin: [] },
    }),
  );
  const start = await path.parameters(0, { signal });
  let before = start;
  let away: Float64Array | undefined;
  let step: Float64Array | undefined;
  for (let t = 0; t < path.length; t++) {
    const here = t === 0 ? start : await path.parameters(t, { signal });
    const nextAway = t === 0 ? undefined : difference(here, start);
    const nextStep = t === 0 ? undefined : difference(here, before);
    groups.forEach((group, g) => {
      const of = walks[g]!;
      of.norms.push(Math.sqrt(squares(group, here)));
      of.displacements.push(nextAway ? Math.sqrt(squares(group, nextAway)) : 0);
      if (!nextStep || !nextAway) return;
      of.stepLengths.push(Math.sqrt(squares(group, nextStep)));
      const [norm, last] = [of.norms[t]!, of.norms[t - 1]!];
      of.apexAtOrigin.push(angle(group, before, here, last ** 2, norm ** 2));
      if (!step || !away) return;
      const [now, then] = [of.stepLengths[t - 1]!, of.stepLengths[t - 2]!];
      of.turns.push(angle(group, step, nextStep, then ** 2, now ** 2));
      const [far, near] = [of.displacements[t]!, of.displacements[t - 1]!];
      of.apexAtStart.push(angle(group, away, nextAway, near ** 2, far ** 2));
    });
    [before, away, step] = [here, nextAway, nextStep];
    await breath(signal);
  }
  return walks;
}

/** Cosines of vectors of which `gram` holds the inner products. */
export function mapOf(gram: Float64Array, size: number): TrajectoryMap {
  const cosines = new Float64Array(size * size);
  let [sum, count] = [0, 0];
  for (let i = 0; i < size; i++)
    for (let j = 0; j < size; j++) {
      const [ii, ij, jj] = [gram[i * (size + 1)]!, gram[i * size + j]!, gram[j * (size + 1)]!];
      // Not the root of a product, which under- and overflows.
      const cosine =
        ii > 0 && jj > 0
          ? i === j
            ? 1
            : Math.max(-1, Math.min(1, ij / Math.sqrt(ii) / Math.sqrt(jj)))
          : Number.NaN;
      cosines[i * size + j] = cosine;
      if (Number.isNaN(cosine)) continue;
      sum += cosine;
      count++;
    }
  return { size, cosines, omega: count > 0 ? sum / count : Number.NaN };
}

/** Of the places 0 .. T - 1, from their positions' squares along a walk of independent steps. */
async function randomWalkOf(
  stepLengths: readonly number[],
  count: number,
  signal: AbortSignal | undefined,
): Promise<RandomWalk> {
  const T = stepLengths.length + 1;
  const longest = Math.max(...stepLengths);
  const reached = [0];
  for (const step of stepLengths) reached.push(reached.at(-1)! + (step / (longest || 1)) ** 2);
  const gram = Float64Array.from(
    { length: T * T },
    (_, at) => reached[Math.min(Math.floor(at / T), at % T)]!,
  );
  const around = centred(gram, T);
  const total = traceOf(around, T);
  const values = await symmetricEigenvalues(around, T, { signal });
  const relative = Float64Array.from(
    { length: (T - 1) ** 2 },
    (_, at) => reached[1 + Math.min(Math.floor(at / (T - 1)), at % (T - 1))]!,
  );
  const length = stepLengths.reduce((sum, step) => sum + step / (longest || 1), 0);
  return {
    omega: mapOf(relative, T - 1).omega,
    explained: values.slice(0, count).map((value) => Math.max(0, value) / total),
    straightness: Math.sqrt(reached.at(-1)!) / length,
  };
}

/** Inner products of theta_0 (row 0) and of theta_t - theta_0 (row t), summed over tensors. */
function sumOf(grams: readonly Float64Array[], { positions }: Group): Float64Array {
  const sum = new Float64Array(grams[0]!.length);
  for (const position of positions)
    grams[position]!.forEach((x, at) => {
      sum[at]! += x;
    });
  return sum;
}

async function measures(
  group: Group,
  track: Walk,
  gram: Float64Array,
  kept: number,
  signal: AbortSignal | undefined,
): Promise<PathMeasures> {
  const T = track.norms.length;
  const at = (i: number, j: number) => gram[i * T + j]!;
  const relative = Float64Array.from({ length: (T - 1) ** 2 }, (_, place) =>
    at(1 + Math.floor(place / (T - 1)), 1 + (place % (T - 1))),
  );
  const away = Float64Array.from({ length: T * T }, (_, place) => {
    const [i, j] = [Math.floor(place / T), place % T];
    return i === 0 || j === 0 ? 0 : at(i, j);
  });
  const raw = Float64Array.from({ length: T * T }, (_, place) => {
    const [i, j] = [Math.floor(place / T), place % T];
    return at(0, 0) + (i ? at(i, 0) : 0) + (j ? at(0, j) : 0) + away[place]!;
  });
  const around = centred(away, T);
  const spread = Math.max(0, traceOf(around, T));
  const { values, coordinates } = await components(around, T, kept, signal);
  const pathLength = track.stepLengths.reduce((sum, step) => sum + step, 0);
  const displacement = track.displacements.at(-1)!;
  const { stepLengths, ...rest } = track;
  return {
    name: group.name,
    size: group.tensors.reduce((sum, { size }) => sum + size, 0),
    norms: Float64Array.from(rest.norms),
    displacements: Float64Array.from(rest.displacements),
    stepLengths: Float64Array.from(stepLengths),
    pathLength,
    displacement,
    straightness: displacement / pathLength,
    turns: Float64Array.from(rest.turns),
    apexAtStart: Float64Array.from(rest.apexAtStart),
    apexAtOrigin: Float64Array.from(rest.apexAtOrigin),
    radius: Math.sqrt(spread / T),
    relativeMap: mapOf(relative, T - 1),
    rawMap: mapOf(raw, T),
    pca: {
      variances: values.map((value) => Math.max(0, value) / T),
      explained: values.map((value) => Math.max(0, value) / spread),
      coordinates,
      total: spread / T,
    },
    randomWalk: await randomWalkOf(stepLengths, kept, signal),
  };
}

/**
 * Lengths, angles, the trajectory map with its mean directional similarity omega (Singh, He, Hofmann
 * and Schoelkopf 2025, arXiv:2403.07379), and principal components of the places that training
 * passed, of all parameters and by layer; see docs/methods.md. No data and no products: each
 * checkpoint is read once, or where they do not fit into memory about T / room times more, and T^2 / 2
 * inner products are taken. What the same walk with random directions would give stands beside.
 *
 * All of it depends on which checkpoints were kept, and none of it on their step numbers.
 *
 * @throws as `trajectory` and `loadCheckpoint`; AbortError
 */
export async function pathGeometry(path: Trajectory, options?: PathOptions): Promise<PathGeometry> {
  requireTrajectory("pathGeometry", path);
  const given = checkOptions("pathGeometry", options, OPTIONS);
  const { by = "layer", components: wanted = 10, signal, onProgress } = given;
  const begin = performance.now();
  const kept = Math.min(wanted, path.length - 1);
  const { parameters } = path.model;
  const groups = groupsOf(parameters, by);
  const walks = await walk(path, groups, signal);
  const start = await path.parameters(0, { signal });
  const grams = await gramMatrices(
    path.length,
    path.spare,
    async (i) => (i === 0 ? start : difference(await path.parameters(i, { signal }), start)),
    parameters,
    signal,
    (fraction) =>
      onProgress?.({ products: 0, fraction, seconds: (performance.now() - begin) / 1000 }),
  );
  const found: PathMeasures[] = [];
  for (const [g, group] of groups.entries())
    found.push(await measures(group, walks[g]!, sumOf(grams, group), kept, signal));
  const [whole, ...parts] = found;
  return { steps: path.steps.slice(), whole: whole!, parts };
}

export interface PathDirectionsOptions extends Pick<CallOptions, "signal"> {
  /** How many. Default 2. */
  k?: number | undefined;
}

/** Principal directions of a path. */
export interface PathDirections {
  /** k x dim, row-major, orthonormal. */
  readonly vectors: Float64Array;
  readonly dim: number;
  /** The mean of the places, which the coordinates of `pathGeometry` are around. */
  readonly mean: Float64Array;
}

/**
 * The first principal directions as vectors of parameters: for planes of `lossPlane`, and to project
 * other places on. One more pass over the checkpoints; holds k + 2 vectors.
 *
 * @throws OptionError where the path has fewer components; as `pathGeometry`
 */
export async function pathDirections(
  path: Trajectory,
  options?: PathDirectionsOptions,
): Promise<PathDirections> {
  requireTrajectory("pathDirections", path);
  const table = { signal: CALL_OPTIONS.signal, k: check.positiveInteger };
  const { k = 2, signal } = checkOptions("pathDirections", options, table);
  const { whole } = await pathGeometry(path, { by: "none", components: k, signal });
  const { variances, coordinates } = whole.pca;
  // Below, rounding of the inner products is larger than the component.
  const real = variances.filter((x) => x > 1e-12 * variances[0]!).length;
  if (real < k)
    throw new OptionError(
      `pathDirections: k: expected at most ${real}, the components that ${path.length} checkpoints ` +
        `have, got ${k}`,
    );
  const dim = path.model.parameterCount;
  const T = path.length;
  const mean = new Float64Array(dim);
  const vectors = new Float64Array(k * dim);
  for (let t = 0; t < T; t++) {
    const here = await path.parameters(t, { signal });
    for (let i = 0; i < dim; i++) mean[i]! += here[i]! / T;
  }
  for (let t = 0; t < T; t++) {
    const here = await path.parameters(t, { signal });
    for (let c = 0; c < k; c++) {
      const factor = coordinates[t * k + c]! / (T * variances[c]!);
      for (let i = 0; i < dim; i++) vectors[c * dim + i]! += factor * (here[i]! - mean[i]!);
    }
    await breath(signal);
  }
  for (let c = 0; c < k; c++) {
    const row = vectors.subarray(c * dim, (c + 1) * dim);
    const length = Math.sqrt(dotOf(row, row));
    for (let i = 0; i < dim; i++) row[i]! /= length;
  }
  return { vectors, dim, mean };
}
