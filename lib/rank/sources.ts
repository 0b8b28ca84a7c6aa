/** Directions of parameter space in which a network does not move, by what makes them so. */
import type { CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { symmetricEigen } from "../dense";
import { blockDiagonal, exactDiagonal } from "../exact";
import { kfac } from "../kfac";
import { parameterVector } from "../landscape/directions";
import type { Loss, LossName } from "../model/loss";
import type { Model } from "../model/model";
import { unitIndices, unitsOf } from "../model/units";
import type { PrimitiveGraph } from "../native";
import { ggn, type RunOptions } from "../operators";
import { primitiveGraph } from "../symmetry/graph";
import { symmetries } from "../symmetry/symmetries";
import type { PermutationGroup, UnitPlace } from "../symmetry/types";

export type SourceKind =
  | "symmetry"
  | "dead"
  | "duplicate"
  | "data"
  | "activations"
  | "units"
  | "signals";

/** Directions that should lie in the kernel, with what says so. */
export interface KernelSource {
  readonly kind: SourceKind;
  /** "rescaling of fc1", "inputs of fc1.weight". */
  readonly name: string;
  /** In words, with numbers: "inputs span 4 of 10 directions". */
  readonly why: string;
  /** count x P, row-major; they may depend on one another. */
  readonly vectors: Float64Array;
}

export interface SourceOptions extends CallOptions, Pick<RunOptions, "threads"> {
  loss?: LossName | Loss | undefined;
}

/** Rows with a few numbers each, as a dense matrix. */
class SparseRows {
  readonly #rows: (readonly [number, number])[][] = [];

  add(...entries: (readonly [at: number, value: number])[]): void {
    this.#rows.push(entries);
  }

  get count(): number {
    return this.#rows.length;
  }

  dense(dim: number): Float64Array {
    const out = new Float64Array(this.#rows.length * dim);
    this.#rows.forEach((row, i) => {
      for (const [at, value] of row) out[i * dim + at]! += value;
    });
    return out;
  }
}

/** The orbits of the symmetries that the graph shows, family by family. */
export function symmetrySources(
  model: Model,
  data: DataSet,
  loss: LossName | Loss | undefined,
): KernelSource[] {
  const theta = parameterVector(model);
  return symmetries(model, { data, loss })
    .families.map(({ name, summary, instances: all }) => {
      // Changes of sign are discrete.
      const instances = all.filter(({ dimension }) => dimension > 0);
      const rows = new SparseRows();
      for (const instance of instances)
        for (const { indices, values } of instance.generators(theta))
          rows.add(...Array.from(indices, (index, i) => [index, values[i]!] as const));
      const names = instances.map(
        (instance) => `${instance.name}${instance.approximate ? " (approximately)" : ""}`,
      );
      return {
        kind: "symmetry" as const,
        name,
        why: `${summary}: ${names.slice(0, 3).join("; ")}${names.length > 3 ? `; and ${names.length - 3} more` : ""}`,
        vectors: rows.dense(model.parameterCount),
      };
    })
    .filter(({ vectors }) => vectors.length > 0);
}

/**
 * Units whose own parameters (rows of a weight, with the bias) change no output on any sample, as the
 * diagonal of the Gauss-Newton matrix is 0 there: relu units that are never active, units that
 * nothing reads. What reads them is silent, too.
 */
export async function deadUnits(
  model: Model,
  data: DataSet,
  groups: readonly PermutationGroup[],
  options: SourceOptions,
): Promise<KernelSource[]> {
  const { signal, loss, threads } = options;
  using operator = ggn(model, data, { loss, threads, precision: "float64" });
  const { diagonal } = await exactDiagonal(operator, { signal });
  const largest = diagonal.reduce((most, x) => Math.max(most, x), 0);
  const silent = (at: number) => diagonal[at]! <= largest * 2 ** -104;
  const found: KernelSource[] = [];
  const grouped = groups.map((group) => ({
    name: group.name,
    units: Array.from({ length: group.size }, (_, unit) => coordinatesOf(model, group, unit)),
  }));
  const covered = new Set(groups.flatMap(({ places }) => places.map(({ tensor }) => tensor)));
  const alone = model.parameters
    .filter(({ shape, name }) => shape.length > 1 && !covered.has(name))
    .map((tensor) => ({
      name: tensor.name,
      units: Array.from({ length: unitsOf(tensor) }, (_, unit) => ({
        in: unitIndices(tensor, unit),
        out: [] as number[],
      })),
    }));
  for (const { name, units } of [...grouped, ...alone]) {
    const rows = new SparseRows();
    const dead: number[] = [];
    units.forEach((unit, at) => {
      if (unit.in.length === 0 || !unit.in.every(silent)) return;
      dead.push(at);
      for (const index of [...unit.in, ...unit.out.filter(silent)]) rows.add([index, 1]);
    });
    if (dead.length > 0)
      found.push({
        kind: "dead",
        name: `dead units of ${name}`,
        why: `${dead.length} of ${units.length} units change no output on these data (${listed(dead)})`,
        vectors: rows.dense(model.parameterCount),
      });
  }
  return found;
}

/**
 * Units of a group that are alike: with the same parameters in front they compute the same, and what
 * reads them may be moved from one to the other; where it is the same too, so may what makes them.
 */
export function duplicateUnits(model: Model, groups: readonly PermutationGroup[]): KernelSource[] {
  const theta = parameterVector(model);
  const found: KernelSource[] = [];
  for (const group of groups) {
    const units = Array.from({ length: group.size }, (_, unit) =>
      coordinatesOf(model, group, unit),
    );
    const rows = new SparseRows();
    const pairs: string[] = [];
    for (const [b, second] of units.entries()) {
      const a = units.findIndex(
        (first) => first.in.length > 0 && alike(theta, first.in, second.in),
      );
      if (a < 0 || a >= b) continue;
      const first = units[a]!;
      pairs.push(`${a} and ${b}`);
      first.out.forEach((at, i) => {
        rows.add([at, 1], [second.out[i]!, -1]);
      });
      if (alike(theta, first.out, second.out))
        first.in.forEach((at, i) => {
          rows.add([at, 1], [second.in[i]!, -1]);
        });
    }
    if (pairs.length > 0)
      found.push({
        kind: "duplicate",
        name: `duplicate units of ${group.name}`,
        why: `units ${pairs.slice(0, 5).join(", ")}${pairs.length > 5 ? ", ..." : ""} compute the same`,
        vectors: rows.dense(model.parameterCount),
      });
  }
  return found;
}

function alike(theta: Float64Array, a: readonly number[], b: readonly number[]): boolean {
  let [difference, size] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    difference += (theta[a[i]!]! - theta[b[i]!]!) ** 2;
    size += theta[a[i]!]! ** 2 + theta[b[i]!]! ** 2;
  }
  return difference <= size * 1e-24;
}

/** Coordinates of a unit in the parameter vector: what makes it, and what reads it. */
export function coordinatesOf(
  model: Model,
  group: PermutationGroup,
  unit: number,
): { in: number[]; out: number[] } {
  const coordinates = { in: [] as number[], out: [] as number[] };
  for (const place of group.places) {
    const tensor = model.parameters[model.parameterIndex(place.tensor)];
    if (!place.parameter || !tensor || place.side === "both") continue;
    coordinates[place.side].push(...placeIndices(tensor, place, group.size, unit));
  }
  return coordinates;
}

function placeIndices(
  { shape, offset }: { readonly shape: readonly number[]; readonly offset: number },
  { axis, start, outer, inner, positions, where = [] }: UnitPlace,
  size: number,
  unit: number,
): number[] {
  const along =
    positions?.[unit] ??
    Array.from(
      { length: outer * inner },
      (_, i) => start + (Math.floor(i / inner) * size + unit) * inner + (i % inner),
    );
  let indices = [0];
  for (const [at, length] of shape.entries()) {
    const chosen =
      at === axis
        ? along
        : (where.find((each) => each.axis === at)?.positions ??
          Array.from({ length }, (_, i) => i));
    indices = indices.flatMap((index) => chosen.map((position) => index * length + position));
  }
  return indices.map((index) => offset + index);
}

function listed(units: readonly number[]): string {
  return `${units.slice(0, 8).join(", ")}${units.length > 8 ? ", ..." : ""}`;
}

/**
 * From the two factors of each dense or convolution layer (those of `kfac`): directions a that no
 * input of the layer has on any sample, times any output; and directions b of its outputs that no
 * derivative of the outputs sees, times any input. Both are in the kernel exactly.
 */
export async function layerSources(
  model: Model,
  data: DataSet,
  options: SourceOptions,
): Promise<{ inputs: KernelSource[]; signals: KernelSource[] }> {
  const { signal, loss, threads } = options;
  const inputs: KernelSource[] = [];
  const signals: KernelSource[] = [];
  using factored = await kfac(model, data, {
    ...{ loss, threads, signal, precision: "float64", joint: true },
    others: "identity",
  });
  const readsData = tensorsThatReadData(model, primitiveGraph(model, data));
  const P = model.parameterCount;
  for (const [at, { name, kind }] of (await factored.blocks({ signal })).entries()) {
    if (kind !== "kronecker") continue;
    const { parts, indices } = await factored.parts(at, { signal });
    const part = (wanted: string) => parts.find((each) => each.name === wanted);
    const [A, B] = [part("A"), part("B")];
    const wide = A?.shape[0] ?? 1;
    const outputs = B?.shape[0] ?? 1;
    const silentInputs = A ? await kernelOf(A.values, wide, signal) : [];
    if (silentInputs.length > 0) {
      const first = name.split(/[ ,+]/).some((tensor) => readsData.has(tensor));
      inputs.push({
        kind: first ? "data" : "activations",
        name: `inputs of ${name}`,
        why: `${first ? "the data span" : "the activations span"} ${wide - silentInputs.length} of ${wide} directions`,
        vectors: products(P, silentInputs, outputs, (a, o, i) => [indices[o * wide + i]!, a[i]!]),
      });
    }
    const silentOutputs = B ? await kernelOf(B.values, outputs, signal) : [];
    if (silentOutputs.length > 0)
      signals.push({
        kind: "signals",
        name: `outputs of ${name}`,
        why: `only ${outputs - silentOutputs.length} of ${outputs} directions reach the loss`,
        vectors: products(P, silentOutputs, wide, (b, i, o) => [indices[o * wide + i]!, b[o]!]),
      });
  }
  return { inputs, signals };
}

/**
 * What makes a unit, where the samples that move it span less than all samples: relu units that are
 * active on a few. The kernel of the unit's diagonal block of the Gauss-Newton matrix, which is a sum
 * of squares, so that it lies in the kernel of the whole.
 */
export async function unitSources(
  model: Model,
  data: DataSet,
  groups: readonly PermutationGroup[],
  options: SourceOptions,
): Promise<KernelSource[]> {
  const { signal, loss, threads } = options;
  const found: KernelSource[] = [];
  if (groups.length === 0) return found;
  using operator = ggn(model, data, { loss, threads, precision: "float64" });
  for (const group of groups) {
    const blocks = Array.from({ length: group.size }, (_, unit) => ({
      name: `${unit}`,
      indices: coordinatesOf(model, group, unit).in,
    }));
    const wide = blocks[0]!.indices.length;
    if (wide === 0) continue;
    const rows = new SparseRows();
    let [least, most] = [wide, 0];
    for (const { indices, matrix } of await blockDiagonal(operator, { blocks, signal })) {
      const kernel = await kernelOf(matrix, wide, signal);
      least = Math.min(least, wide - kernel.length);
      most = Math.max(most, wide - kernel.length);
      for (const vector of kernel)
        rows.add(...Array.from(vector, (value, i) => [indices[i]!, value] as const));
    }
    if (rows.count > 0)
      found.push({
        kind: "units",
        name: `single units of ${group.name}`,
        why: `${least === most ? least : `${least} to ${most}`} of ${wide} parameters of a unit matter on these data`,
        vectors: rows.dense(model.parameterCount),
      });
  }
  return found;
}

/** A row for each vector and each number below `count`. */
function products(
  dim: number,
  vectors: readonly Float64Array[],
  count: number,
  entry: (vector: Float64Array, other: number, at: number) => readonly [number, number],
): Float64Array {
  const out = new Float64Array(vectors.length * count * dim);
  vectors.forEach((vector, v) => {
    for (let other = 0; other < count; other++) {
      const row = (v * count + other) * dim;
      for (let at = 0; at < vector.length; at++) {
        const [index, value] = entry(vector, other, at);
        out[row + index] = value;
      }
    }
  });
  return out;
}

/** Eigenvectors of eigenvalue 0 of a semi-definite matrix, up to its rounding. */
async function kernelOf(
  matrix: Float64Array,
  n: number,
  signal: AbortSignal | undefined,
): Promise<Float64Array[]> {
  const { values, vectors } = await symmetricEigen(matrix, n, { signal });
  const least = n * 2 ** -52 * Math.max(values[0] ?? 0, 0);
  return Array.from({ length: n }, (_, i) => i)
    .filter((i) => values[i]! <= least)
    .map((i) => vectors.slice(i * n, (i + 1) * n));
}

/** Names of the weights whose other operand depends on no parameter. */
function tensorsThatReadData(model: Model, { nodes }: PrimitiveGraph): Set<string> {
  const sees: boolean[] = [];
  const from: (number | undefined)[] = [];
  const found = new Set<string>();
  nodes.forEach((node, at) => {
    sees[at] = node.op === "Param" || node.in.some((each) => sees[each]);
    from[at] =
      node.op === "Param" ? node.ints[0] : node.in.length === 1 ? from[node.in[0]!] : undefined;
    if (node.op !== "Dot" && node.op !== "Conv") return;
    const [a, b] = node.in as [number, number];
    for (const [weight, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const leaf = from[weight];
      const name = leaf === undefined ? undefined : model.parameters[leaf]?.name;
      if (name !== undefined && !sees[other]) found.add(name);
    }
  });
  return found;
}
