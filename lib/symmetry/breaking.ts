/**
 * How far the units of a layer are from being exchangeable. The measures are ours; each stands for
 * one way in which units that started alike can come to differ, and has a formula of its own in
 * docs/methods.md.
 */
import { gini } from "../anisotropy/measures";
import { CALL_OPTIONS, type CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { matrixProduct } from "../dense";
import { AbortError, OptionError } from "../errors";
import { type Checkpoint, parametersOf, parameterVector } from "../landscape/directions";
import { Mask } from "../masks/mask";
import { Model } from "../model/model";
import { type Check, check, checkOptions, describe, typeName } from "../options";
import { Random } from "../random";
import { initialParameters } from "../training/initial";
import { sum } from "../vectors";
import { permutationGroups } from "./permutations";
import type { PermutationGroup } from "./types";
import { balanced, UnitGroup } from "./units";

/**
 * The measures, by name. "Balanced" ones are taken where rescaling of units has made what goes into
 * each as long as what comes out, so that they do not depend on such rescaling.
 */
export const BREAKING_MEASURES = {
  exchange: "S1: 1 - mean |cos| between units",
  exchangeBalanced: "S1, balanced",
  distinct: "effective number of distinct units",
  distinctBalanced: "the same, balanced",
  importance: "S2: unevenness of units' squared norms",
  importanceBalanced: "S2, balanced",
  importanceGini: "Gini index of units' norms",
  importanceGiniBalanced: "the same, balanced",
  fisherImportance: "S2 of the units' Fisher mass",
  fisherGini: "Gini index of the units' Fisher mass",
  weightShift: "Wasserstein distance of |w| from init, over the deviation there",
  kurtosis: "excess kurtosis of the weights",
  chargeSpread: "S3: spread of the rescaling charges",
  transposition: "S3: distance from the nearest exchange of two units",
  transpositionBalanced: "the same, balanced",
} as const;

export type BreakingMeasure = keyof typeof BREAKING_MEASURES;

const MEASURES = Object.keys(BREAKING_MEASURES) as BreakingMeasure[];

/** NaN where a measure is not defined: without initial weights, say, or with units all zero. */
export type BreakingValues = Record<BreakingMeasure, number>;

/** What a measure is in networks without a history. */
export interface NullModel {
  readonly mean: number;
  readonly standardDeviation: number;
  /** (value - mean) / standardDeviation; NaN where all draws are alike. */
  readonly z: number;
  readonly draws: number;
}

export interface MeasuredBreaking {
  readonly value: number;
  /** At the initial weights, and the value less that; undefined where none were given. */
  readonly initial: number | undefined;
  readonly delta: number | undefined;
  /** The numbers of each tensor in random order. */
  readonly permuted: NullModel | undefined;
  /** The network with other initial weights. */
  readonly reinitialised: NullModel | undefined;
}

/** The units of one permutation group. */
export interface GroupBreaking {
  readonly name: string;
  /** How many units, and how many numbers each has: into it and out of it. */
  readonly units: number;
  readonly length: number;
  /** The weights that make them. */
  readonly tensors: readonly string[];
  readonly measures: Readonly<Record<BreakingMeasure, MeasuredBreaking>>;
  /** The share of the weights into the units that each mask keeps, by the mask's name. */
  readonly kept: Readonly<Record<string, number>>;
}

export interface SymmetryBreaking {
  readonly groups: readonly GroupBreaking[];
  readonly seconds: number;
  readonly warnings: readonly string[];
}

export interface BreakingOptions extends CallOptions {
  /** Whose units. Default: those that `permutationGroups` finds in the graph. */
  groups?: readonly PermutationGroup[] | undefined;
  /** Needed to find them where the file leaves lengths other than the number of samples free. */
  data?: DataSet | undefined;
  /** The weights that training began with, for differences from them. */
  initial?: Checkpoint | undefined;
  /** The diagonal of a Fisher or Gauss-Newton matrix (`exactDiagonal`), for the units' mass. */
  diagonal?: Float64Array | Float32Array | undefined;
  /** Sub-networks whose shares of the layers are given beside the measures. */
  masks?: readonly Mask[] | undefined;
  /** Random networks of each null model. Default 20; 0 for none. */
  draws?: number | undefined;
  /** Of them. Default 0. */
  seed?: number | bigint | undefined;
  /** Initial weights as training would draw them, by number. Default: `initialParameters`. */
  reinitialise?: ((draw: number) => Float64Array) | undefined;
}

const OPTIONS: { [K in keyof Required<BreakingOptions>]: Check } = {
  ...CALL_OPTIONS,
  groups: { expected: "an array of permutation groups", fits: Array.isArray },
  data: check.anything,
  initial: check.anything, // parametersOf does it
  diagonal: {
    expected: "a Float64Array",
    fits: (value) => /^Float(32|64)Array$/.test(typeName(value)),
  },
  masks: {
    expected: "an array of masks",
    fits: (value) => Array.isArray(value) && value.every((mask) => mask instanceof Mask),
  },
  draws: check.naturalNumber,
  seed: check.seed,
  reinitialise: check.function,
};

/** What courses over checkpoints take. */
export type BreakingAlongOptions = Pick<BreakingOptions, "groups" | "data" | "initial"> &
  CallOptions;

const ALONG_OPTIONS: { [K in keyof Required<BreakingAlongOptions>]: Check } = {
  ...CALL_OPTIONS,
  groups: OPTIONS.groups,
  data: OPTIONS.data,
  initial: OPTIONS.initial,
};

/** Streams of one seed. */
const PERMUTED = 40;

/** What is measured of a place besides its numbers. */
interface Beside {
  /** Weights of the layer at the start, sorted by magnitude, by group. */
  readonly start: readonly (Spread | undefined)[];
  readonly diagonal: Float64Array | undefined;
}

interface Spread {
  readonly sorted: Float64Array;
  readonly deviation: number;
}

const NOTHING = Object.fromEntries(MEASURES.map((name) => [name, Number.NaN])) as BreakingValues;

/** 1 - exp(entropy of the shares) / number: 0 where all are equal, 1 - 1/number where one has all. */
function unevenness(masses: Float64Array): number {
  const total = sum(masses);
  if (!(total > 0)) return Number.NaN;
  let entropy = 0;
  for (const mass of masses) if (mass > 0) entropy -= (mass / total) * Math.log(mass / total);
  return 1 - Math.exp(entropy) / masses.length;
}

function giniOf(values: Float64Array): number {
  return sum(values) > 0 ? gini(values) : Number.NaN;
}

/** What the inner products of the units tell; units that are zero have no direction. */
async function betweenUnits(
  rows: Float64Array,
  units: number,
): Promise<{ exchange: number; distinct: number; transposition: number; norms: Float64Array }> {
  const length = rows.length / units;
  const gram = await matrixProduct(rows, rows, units, length, units, { transposed: true });
  const squares = Float64Array.from({ length: units }, (_, i) => gram[i * units + i]!);
  const live = squares.filter((square) => square > 0).length;
  let cosines = 0;
  let squaredCosines = 0;
  let nearest = { distance: Number.POSITIVE_INFINITY, i: 0, j: 0 };
  for (let i = 0; i < units; i++)
    for (let j = 0; j < i; j++) {
      const product = gram[i * units + j]!;
      const distance = squares[i]! + squares[j]! - 2 * product;
      if (distance < nearest.distance) nearest = { distance, i, j };
      if (squares[i] === 0 || squares[j] === 0) continue;
      const cosine = Math.min(1, Math.abs(product) / Math.sqrt(squares[i]! * squares[j]!));
      cosines += cosine;
      squaredCosines += cosine * cosine;
    }
  // Again from the vectors: a difference of products does not see small distances.
  let least = 0;
  for (let k = 0; k < length; k++)
    least += (rows[nearest.i * length + k]! - rows[nearest.j * length + k]!) ** 2;
  const pairs = (live * (live - 1)) / 2;
  const total = sum(squares);
  return {
    exchange: pairs > 0 ? 1 - cosines / pairs : Number.NaN,
    distinct: live > 0 ? live ** 2 / (live + 2 * squaredCosines) : Number.NaN,
    transposition: units > 1 && total > 0 ? least / total : Number.NaN,
    norms: squares,
  };
}

function weightsOf(theta: Float64Array, positions: Float64Array): Float64Array {
  return Float64Array.from(positions, (i) => theta[i]!);
}

function moments(values: Float64Array): { deviation: number; kurtosis: number } {
  const mean = sum(values) / values.length;
  const central = (power: number) =>
    values.reduce((total, x) => total + (x - mean) ** power, 0) / values.length;
  const variance = central(2);
  return {
    deviation: Math.sqrt(variance),
    kurtosis: variance > 0 ? central(4) / variance ** 2 - 3 : Number.NaN,
  };
}

const magnitudes = (values: Float64Array) => values.map(Math.abs).sort();

function shift(weights: Float64Array, start: Spread | undefined): number {
  if (!start || !(start.deviation > 0)) return Number.NaN;
  const distance = magnitudes(weights).reduce(
    (total, x, i) => total + Math.abs(x - start.sorted[i]!),
    0,
  );
  return distance / weights.length / start.deviation;
}

/** The groups of a model, and what measuring them needs once. */
class Layers {
  readonly groups: readonly UnitGroup[];
  readonly #weights: readonly Float64Array[];
  settled = true;

  constructor(groups: readonly UnitGroup[], parameterCount: number) {
    this.groups = groups;
    this.#weights = groups.map((group) => group.weightPositions(parameterCount));
  }

  startOf(theta: Float64Array): Spread[] {
    return this.#weights.map((positions) => {
      const weights = weightsOf(theta, positions);
      return { sorted: magnitudes(weights), deviation: moments(weights).deviation };
    });
  }

  kept({ bits }: Mask): number[] {
    return this.#weights.map(
      (positions) => positions.reduce((n, i) => n + bits[i]!, 0) / (positions.length || 1),
    );
  }

  /** All measures of each group. */
  async measure(theta: Float64Array, { start, diagonal }: Beside): Promise<BreakingValues[]> {
    const even = balanced(theta, this.groups);
    this.settled &&= even.settled;
    const found: BreakingValues[] = [];
    for (const [g, group] of this.groups.entries()) {
      const raw = await betweenUnits(group.vectors(theta), group.size);
      const balancedUnits = group.hasBothSides
        ? await betweenUnits(group.vectors(even.theta), group.size)
        : undefined;
      const weights = weightsOf(theta, this.#weights[g]!);
      const values = { ...NOTHING };
      Object.assign(values, {
        exchange: raw.exchange,
        distinct: raw.distinct,
        transposition: raw.transposition,
        importance: unevenness(raw.norms),
        importanceGini: giniOf(raw.norms.map(Math.sqrt)),
        weightShift: shift(weights, start[g]),
        kurtosis: weights.length > 0 ? moments(weights).kurtosis : Number.NaN,
      });
      if (balancedUnits)
        Object.assign(values, {
          exchangeBalanced: balancedUnits.exchange,
          distinctBalanced: balancedUnits.distinct,
          transpositionBalanced: balancedUnits.transposition,
          importanceBalanced: unevenness(balancedUnits.norms),
          importanceGiniBalanced: giniOf(balancedUnits.norms.map(Math.sqrt)),
          chargeSpread: chargeSpread(group, theta),
        });
      if (diagonal) {
        const mass = group.sums(diagonal, (x) => Math.max(0, x));
        values.fisherImportance = unevenness(mass);
        values.fisherGini = giniOf(mass);
      }
      found.push(values);
    }
    return found;
  }
}

/** The deviation of ||in||^2 - ||out||^2 over the units, over the mean of their sum. */
function chargeSpread(group: UnitGroup, theta: Float64Array): number {
  const [into, out] = (["in", "out"] as const).map((side) => group.sums(theta, (x) => x * x, side));
  const size = sum(into!) + sum(out!);
  if (!(size > 0)) return Number.NaN;
  const { deviation } = moments(into!.map((x, i) => x - out![i]!));
  return deviation / (size / group.size);
}

/** The numbers of each tensor in random order; those of `along` move with them. */
function permuted(
  theta: Float64Array,
  along: Float64Array | undefined,
  tensors: readonly { offset: number; size: number }[],
  random: Random,
): { theta: Float64Array; along: Float64Array | undefined } {
  const moved = { theta: theta.slice(), along: along?.slice() };
  for (const { offset, size } of tensors)
    for (let i = size - 1; i > 0; i--) {
      const [a, b] = [offset + i, offset + random.below(i + 1)];
      for (const values of [moved.theta, moved.along])
        if (values) [values[a], values[b]] = [values[b]!, values[a]!];
    }
  return moved;
}

function nullModel(value: number, drawn: number[]): NullModel {
  const n = drawn.length;
  const mean = drawn.reduce((total, x) => total + x, 0) / n;
  const squares = drawn.reduce((total, x) => total + (x - mean) ** 2, 0);
  const standardDeviation = n > 1 ? Math.sqrt(squares / (n - 1)) : Number.NaN;
  // Draws that differ by rounding alone are alike.
  const spread = standardDeviation > 1e-12 * Math.abs(mean) ? standardDeviation : Number.NaN;
  return { mean, standardDeviation, z: (value - mean) / spread, draws: n };
}

function requireModel(where: string, model: unknown): void {
  if (!(model instanceof Model))
    throw new OptionError(`${where}: expected a model of loadModel, got ${describe(model)}`);
}

function layersOf(
  where: string,
  model: Model,
  { groups, data }: Pick<BreakingOptions, "groups" | "data">,
): Layers {
  const found = groups ?? permutationGroups(model, data);
  return new Layers(
    found
      .map((group) => new UnitGroup(where, group, model.parameters))
      .filter(({ size }) => size > 1),
    model.parameterCount,
  );
}

function diagonalOf(where: string, model: Model, given: BreakingOptions["diagonal"]) {
  if (given && given.length !== model.parameterCount)
    throw new OptionError(
      `${where}: diagonal: expected ${model.parameterCount} numbers, one a parameter, got ` +
        `${given.length}`,
    );
  return given && Float64Array.from(given);
}

/**
 * How far the symmetry of each group of exchangeable units is broken, by all of BREAKING_MEASURES,
 * beside what it was at the initial weights and what it is in networks without a history: with the
 * numbers of each tensor permuted, and initialised again.
 *
 * ```ts
 * const { groups } = await symmetryBreaking(trained, { initial: untrained });
 * for (const { name, measures } of groups) console.log(name, measures.exchange.delta);
 * ```
 *
 * No products. For M units of D numbers, M^2 D operations a network and rescaling.
 *
 * @throws OptionError; AbortError
 */
export async function symmetryBreaking(
  model: Model,
  options?: BreakingOptions,
): Promise<SymmetryBreaking> {
  const where = "symmetryBreaking";
  const begin = performance.now();
  requireModel(where, model);
  const checked = checkOptions(where, options, OPTIONS);
  const { initial, masks = [], draws = 20, seed = 0, signal, onProgress } = checked;
  const {
    reinitialise = (draw) =>
      initialParameters(model, { seed: BigInt.asUintN(64, BigInt(seed) + BigInt(draw)) }),
  } = checked;
  const layers = layersOf(where, model, checked);
  const theta = parameterVector(model);
  const first =
    initial === undefined ? undefined : parametersOf(`${where}: initial`, model, initial);
  const diagonal = diagonalOf(where, model, checked.diagonal);
  for (const mask of masks)
    if (mask.size !== model.parameterCount)
      throw new OptionError(
        `${where}: masks: ${mask.name}: expected ${model.parameterCount} entries, one a ` +
          `parameter, got ${mask.size}`,
      );
  const start = first ? layers.startOf(first) : layers.groups.map(() => undefined);
  const values = await layers.measure(theta, { start, diagonal });
  const before = first && (await layers.measure(first, { start, diagonal: undefined }));

  const random = new Random(seed, PERMUTED);
  const makers = [
    async () => {
      const drawn = permuted(theta, diagonal, model.parameters, random);
      return layers.measure(drawn.theta, { start, diagonal: drawn.along });
    },
    async (draw: number) => {
      const drawn = parametersOf(`${where}: reinitialise`, model, reinitialise(draw));
      return layers.measure(drawn, { start, diagonal: undefined });
    },
  ];
  const nulls: (BreakingValues[][] | undefined)[] = [];
  for (const [i, make] of makers.entries()) {
    const found: BreakingValues[][] = [];
    for (let draw = 0; draw < draws; draw++) {
      if (signal?.aborted) throw new AbortError(undefined, { cause: signal.reason });
      found.push(await make(draw));
      const fraction = (i + (draw + 1) / draws) / makers.length;
      onProgress?.({ products: 0, fraction, seconds: (performance.now() - begin) / 1000 });
    }
    nulls.push(found.length > 0 ? found : undefined);
  }

  const shares = masks.map((mask) => layers.kept(mask));
  const groups = layers.groups.map(({ name, size, length, tensors }, g): GroupBreaking => {
    const measures = MEASURES.map((measure) => {
      const value = values[g]![measure];
      const initial = before?.[g]?.[measure];
      const [permuted, reinitialised] = nulls.map(
        (found) =>
          found &&
          nullModel(
            value,
            found.map((drawn) => drawn[g]![measure]),
          ),
      );
      const delta = initial === undefined ? undefined : value - initial;
      return [measure, { value, initial, delta, permuted, reinitialised }];
    });
    return {
      ...{ name, units: size, length, tensors },
      measures: Object.fromEntries(measures),
      kept: Object.fromEntries(masks.map((mask, i) => [mask.name, shares[i]![g]!])),
    };
  });
  const warnings = layers.settled
    ? []
    : ["rescaling of units did not settle: balanced measures are approximate"];
  return { groups, seconds: (performance.now() - begin) / 1000, warnings };
}

/** The measures of one group at each checkpoint. */
export interface BreakingCourse {
  readonly name: string;
  readonly units: number;
  readonly tensors: readonly string[];
  readonly measures: Readonly<Record<BreakingMeasure, Float64Array>>;
}

/**
 * The same measures at each of several checkpoints, without null models. What `weightShift` is
 * measured from is `initial`, by default the first checkpoint.
 *
 * @throws OptionError; AbortError
 */
export async function symmetryBreakingAlong(
  model: Model,
  checkpoints: readonly Checkpoint[],
  options?: BreakingAlongOptions,
): Promise<BreakingCourse[]> {
  const where = "symmetryBreakingAlong";
  const begin = performance.now();
  requireModel(where, model);
  const checked = checkOptions(where, options, ALONG_OPTIONS);
  const { initial, signal, onProgress } = checked;
  if (!Array.isArray(checkpoints) || checkpoints.length === 0)
    throw new OptionError(
      `${where}: expected an array of checkpoints, got ${describe(checkpoints)}`,
    );
  const layers = layersOf(where, model, checked);
  const start = layers.startOf(
    parametersOf(`${where}: initial`, model, initial ?? checkpoints[0]!),
  );
  const found: BreakingValues[][] = [];
  for (const [i, checkpoint] of checkpoints.entries()) {
    if (signal?.aborted) throw new AbortError(undefined, { cause: signal.reason });
    const theta = parametersOf(`${where}: checkpoint ${i}`, model, checkpoint);
    found.push(await layers.measure(theta, { start, diagonal: undefined }));
    const seconds = (performance.now() - begin) / 1000;
    onProgress?.({ products: 0, fraction: (i + 1) / checkpoints.length, seconds });
  }
  return layers.groups.map(({ name, size, tensors }, g) => ({
    ...{ name, units: size, tensors },
    measures: Object.fromEntries(
      MEASURES.map((measure) => [
        measure,
        Float64Array.from(found, (values) => values[g]![measure]),
      ]),
    ) as Record<BreakingMeasure, Float64Array>,
  }));
}
