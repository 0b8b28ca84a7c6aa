/** Where the kernel of a Hessian or Gauss-Newton matrix comes from. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { EigenscopeError, OptionError } from "../errors";
import { exactOrder, exactSpectrum } from "../exact";
import type { LinearOperator } from "../linear-operator";
import type { Loss, LossName } from "../model/loss";
import type { Model } from "../model/model";
import { checkSubject, ggn, hessian, type RunOptions } from "../operators";
import { type Check, check, checkOptions } from "../options";
import { permutationGroups } from "../symmetry/permutations";
import type { PermutationGroup } from "../symmetry/types";
import { linearRanks } from "./formulas";
import { type NumericalRank, numericalRank } from "./numerical";
import { rankPrediction } from "./predict";
import {
  deadUnits,
  duplicateUnits,
  type KernelSource,
  layerSources,
  type SourceKind,
  symmetrySources,
  unitSources,
} from "./sources";
import { addedTo, containment, joined, type Space, spanOf } from "./spaces";

export interface RedundancyOptions extends CallOptions, Pick<RunOptions, "threads" | "maxMemory"> {
  /** Whose kernel. Default "ggn"; in that of the Hessian lies only a part of most sources. */
  operator?: "ggn" | "hessian" | undefined;
  /** Default: the model's. */
  loss?: LossName | Loss | undefined;
  /** Relative to the largest |lambda|: what counts as the kernel. Default P * 2^-52. */
  tol?: number | undefined;
  /** Count the orbits of `symmetries` (default true). */
  symmetries?: boolean | undefined;
  /** Sources of the caller's own, counted before all others. */
  sources?: readonly KernelSource[] | undefined;
  /** Of units that may be dead or alike. Default: `permutationGroups` of the model. */
  groups?: readonly PermutationGroup[] | undefined;
}

const OPTIONS: { [K in keyof Required<RedundancyOptions>]: Check } = {
  ...CALL_OPTIONS,
  operator: check.oneOf("ggn", "hessian"),
  loss: check.anything,
  tol: check.notNegative,
  symmetries: check.boolean,
  sources: { expected: "an array of { kind, name, why, vectors }", fits: Array.isArray },
  groups: { expected: "an array of permutation groups", fits: Array.isArray },
  threads: check.positiveInteger,
  maxMemory: check.positiveInteger,
};

/** One source, and how it lies to the measured kernel. */
export interface RedundancySource {
  readonly kind: SourceKind;
  readonly name: string;
  readonly why: string;
  /** Of what its directions span. */
  readonly dimension: number;
  /** Of the part of it that lies in the measured kernel. */
  readonly contained: number;
  /** The largest |A v| / |lambda|_max over unit vectors v of that part. */
  readonly residual: number;
  /** Sine of the largest angle between the source and the kernel; 0 where it lies in it. */
  readonly largestSine: number;
  /** contained / the dimension of the kernel. */
  readonly share: number;
  /** Dimensions that the contained part adds to the sources before it. */
  readonly adds: number;
}

export interface Redundancy {
  readonly operator: "ggn" | "hessian";
  readonly parameters: number;
  readonly rank: NumericalRank;
  /** parameters - rank. */
  readonly kernel: number;
  /** kernel / parameters. */
  readonly redundancy: number;
  readonly sources: readonly RedundancySource[];
  /** The dimension of all sources together, within the kernel. */
  readonly explained: number;
  /** Sine of the largest angle between that and the kernel. */
  readonly largestSine: number;
  readonly unexplained: number;
  /** The share of each tensor in the unexplained directions, largest first. */
  readonly unexplainedTensors: readonly { readonly name: string; readonly share: number }[];
  /**
   * The rank of the residuals sum_i delta_i x_i^T, what it could be, and by how much a smaller rank
   * enlarges the kernel of the Hessian: for deep linear networks without biases.
   */
  readonly residual:
    | { readonly rank: number; readonly generic: number; readonly adds: number }
    | undefined;
  /** What could not be looked at. */
  readonly notes: readonly string[];
  readonly seconds: number;
}

/** The most parameters. */
const LIMIT = 6000;

/** A unit vector v lies in the kernel where |A v| is at most so many tolerances of the rank. */
const SLACK = 10;

/**
 * Decomposes the kernel of the Gauss-Newton matrix (or Hessian) by what makes it: the orbits of
 * `symmetries`, family by family, dead units, duplicate units, inputs that the data do not have, activations that
 * span less than a layer's inputs, single units that few samples move, and directions of a layer's outputs that nothing behind it sees.
 * Each source is a subspace of parameter space; only its part within the measured kernel counts, and
 * each adds what those before it do not have. The rest is `unexplained`.
 *
 * Costs the spectrum with the eigenvectors of the range (P products for the Hessian, and a
 * decomposition of order P, or of the number of the samples' rows), one pass of `kfac`, and singular
 * values of the sources: of the order of P^3 operations, for up to 6,000 parameters.
 *
 * @throws as `numericalRank` and `kfac`; OptionError where a source has other than P numbers a vector
 */
export async function redundancy(
  model: Model,
  data: DataSet,
  options?: RedundancyOptions,
): Promise<Redundancy> {
  const checked = checkOptions("redundancy", options, OPTIONS);
  checkSubject("redundancy", model, data);
  const { operator: kind = "ggn", loss, tol, sources = [] } = checked;
  const { signal, onProgress, threads, maxMemory } = checked;
  const begin = performance.now();
  const P = model.parameterCount;
  if (P > LIMIT)
    throw new OptionError(
      `redundancy: expected at most ${LIMIT} parameters, as all work is of the order of their cube, ` +
        `got ${P}; choose some tensors by params of loadModel`,
    );
  for (const { name, vectors } of sources)
    if (vectors.length % P !== 0)
      throw new OptionError(
        `redundancy: sources: ${name}: expected vectors of ${P} numbers, got ${vectors.length} numbers`,
      );
  using operator = { ggn, hessian }[kind](model, data, { loss, threads, precision: "float64" });
  const { rank, range } = await rangeOf(operator, { signal, onProgress, maxMemory, tol });
  const notes: string[] = [];
  const all: KernelSource[] = [...sources];
  const call = { loss, threads, signal };
  const groups =
    checked.groups ?? (await attempt(notes, "units", async () => permutationGroups(model, data)));
  if (checked.symmetries !== false)
    all.push(
      ...(await attempt(notes, "symmetries", async () => symmetrySources(model, data, loss))),
    );
  all.push(...(await attempt(notes, "dead units", () => deadUnits(model, data, groups, call))));
  all.push(...duplicateUnits(model, groups));
  const layers = await attempt(notes, "inputs and outputs of layers", async () => [
    await layerSources(model, data, call),
  ]);
  const ofKind = (kind: SourceKind) =>
    layers.flatMap(({ inputs }) => inputs.filter((source) => source.kind === kind));
  all.push(...ofKind("data"), ...ofKind("activations"));
  all.push(...(await attempt(notes, "single units", () => unitSources(model, data, groups, call))));
  all.push(...layers.flatMap(({ signals }) => signals));
  const kernel = P - rank.rank;
  const tolerance = SLACK * rank.tolerance;
  const rows: RedundancySource[] = [];
  let union: Space = { vectors: new Float64Array(0), rank: 0 };
  for (const { kind: of, name, why, vectors } of all) {
    const space = await spanOf(vectors, P, { signal });
    const lying = await containment(space, range, P, tolerance, { signal });
    const { inside, residual, largestSine } = lying;
    const added = await addedTo(union, inside, P, 1e-6, { signal });
    union = joined(union, added);
    rows.push({
      ...{ kind: of, name, why, residual },
      dimension: space.rank,
      contained: inside.rank,
      largestSine,
      share: kernel === 0 ? 0 : inside.rank / kernel,
      adds: added.rank,
    });
  }
  const { largestSine } = await containment(union, range, P, tolerance, { signal });
  // More only where the rank is not certain.
  const unexplained = Math.max(0, kernel - union.rank);
  return {
    ...{ operator: kind, parameters: P, rank, kernel },
    redundancy: kernel / P,
    sources: rows,
    explained: union.rank,
    largestSine,
    unexplained,
    unexplainedTensors: sharesOf(model, [range.space, union], unexplained),
    residual:
      kind === "hessian" ? await residualOf(model, data, { loss, threads, signal }) : undefined,
    notes,
    seconds: (performance.now() - begin) / 1000,
  };
}

/** What the rank of the residuals does, where a formula says so. */
async function residualOf(
  model: Model,
  data: DataSet,
  call: Pick<RedundancyOptions, "loss" | "threads" | "signal">,
): Promise<Redundancy["residual"]> {
  const found = await rankPrediction(model, data, { ...call, generic: false });
  const { residual, widths, biased, hessian: whole } = found;
  if (found.form !== "linear" || biased || !widths || !whole) return undefined;
  const { hessian: full } = linearRanks({
    widths,
    dataRank: found.data.rank,
    curvatureRank: found.outputs.curvatureRank,
    residualRank: residual.generic,
  });
  return { ...residual, adds: full!.rank - whole.rank };
}

/** The eigenvectors of what is not 0, with the eigenvalues. */
async function rangeOf(
  operator: LinearOperator,
  { tol, ...call }: CallOptions & { maxMemory?: number | undefined; tol?: number | undefined },
): Promise<{ rank: NumericalRank; range: { space: Space; values: Float64Array } }> {
  const { dim } = operator;
  const vectors = await exactOrder(operator, call);
  const found = await exactSpectrum(operator, { ...call, vectors });
  const rank = numericalRank(found.values, { tol });
  const kept = Array.from({ length: vectors }, (_, i) => i).filter(
    (i) => Math.abs(found.values[i]!) > rank.tolerance,
  );
  const range = new Float64Array(kept.length * dim);
  kept.forEach((i, at) => {
    range.set(found.vectors.subarray(i * dim, (i + 1) * dim), at * dim);
  });
  return {
    rank,
    range: {
      space: { vectors: range, rank: kept.length },
      values: Float64Array.from(kept, (i) => found.values[i]!),
    },
  };
}

/** What a model or loss does not allow is a note, and no error. */
async function attempt<T>(notes: string[], what: string, work: () => Promise<T[]>): Promise<T[]> {
  try {
    return await work();
  } catch (error) {
    if (
      !(error instanceof EigenscopeError) ||
      !["Option", "UnsupportedOperator"].includes(error.kind)
    )
      throw error;
    notes.push(`${what} were not looked at: ${error.message}`);
    return [];
  }
}

/** How much of each tensor lies in what is orthogonal to all of the spaces. */
function sharesOf(
  { parameters, parameterCount: dim }: Model,
  spaces: readonly Space[],
  rest: number,
): { name: string; share: number }[] {
  if (rest === 0) return [];
  const left = new Float64Array(dim).fill(1);
  for (const { vectors } of spaces)
    for (let i = 0; i < vectors.length; i++) left[i % dim]! -= vectors[i]! ** 2;
  return parameters
    .map(({ name, offset, size }) => ({
      name,
      share: left.subarray(offset, offset + size).reduce((sum, x) => sum + x, 0) / rest,
    }))
    .filter(({ share }) => share > 1e-6)
    .sort((a, b) => b.share - a.share);
}
