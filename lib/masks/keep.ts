/** From scores to masks: how many entries or units are kept, of what, and which. */
import { DataMismatchError, OptionError } from "../errors";
import { type Globs, matchGlobs } from "../model/glob";
import { inputAxisOf, layerOf, type ShapedTensor } from "../model/units";
import { type Check, check, checkOptions, describe } from "../options";
import { Mask, requireAlike } from "./mask";

/** How many are kept, and of what. One of keep, count, threshold and counts, or N:M alone. */
export interface KeepOptions {
  /** The share to keep, over 0 and at most 1: of n are n - floor((1 - keep) n) kept. */
  keep?: number | undefined;
  /** So many are kept. */
  count?: number | undefined;
  /** Those of a larger score are kept. */
  threshold?: number | undefined;
  /** So many of each tensor: numbers by name, or as many as a mask keeps, such as of another criterion. */
  counts?: Mask | Readonly<Record<string, number>> | undefined;
  /** keep and count are of each tensor ("layer", the default), or of all of them together. */
  scope?: "layer" | "global" | undefined;
  /**
   * `keep` is applied so many times, each to what the time before left: keep^rounds, rounded each
   * time (the schedule of iterative pruning). Default 1.
   */
  rounds?: number | undefined;
  /** Only what this mask keeps is counted and kept: the next round of iterative pruning. */
  within?: Mask | undefined;
  /**
   * What is kept or not as one. "weights" (default): each entry. "outputs": all weights of an output
   * of a layer, a neuron or channel, by the sum of their scores. "inputs": those of an input. "2:4"
   * and other N:M: of every M entries along the inputs those N of largest score; where fewer than M
   * are left at the end, at most N of them.
   */
  structure?: "weights" | "outputs" | "inputs" | `${number}:${number}` | undefined;
  /** Structure "outputs": whether a unit's bias is kept only where the unit is. Default false. */
  unitBiases?: boolean | undefined;
  /**
   * Tensors of a smaller rank, by default those below 2, which are biases and the scales and shifts
   * of normalisations, are kept whole and not counted. 0 scores all tensors.
   */
  minRank?: number | undefined;
  /** Only these tensors are pruned, by patterns of their names; others are kept whole. */
  params?: Globs | undefined;
  /** What the mask is called. */
  name?: string | undefined;
}

const PATTERN = /^([1-9]\d*):([1-9]\d*)$/;

const patternOf = (structure: string): { n: number; m: number } | undefined => {
  const [, n, m] = PATTERN.exec(structure)?.map(Number) ?? [];
  return n === undefined || m === undefined ? undefined : { n, m };
};

/** @internal */
export const KEEP_OPTIONS: { [K in keyof Required<KeepOptions>]: Check } = {
  keep: {
    expected: "a share over 0 and at most 1",
    fits: (value) => typeof value === "number" && value > 0 && value <= 1,
  },
  count: check.naturalNumber,
  threshold: {
    expected: "a number",
    fits: (value) => typeof value === "number" && !Number.isNaN(value),
  },
  counts: {
    expected: "a Mask, or whole numbers by tensor name",
    fits: (value) =>
      value instanceof Mask ||
      (typeof value === "object" &&
        value !== null &&
        !Array.isArray(value) &&
        Object.values(value).every((n) => Number.isSafeInteger(n) && n >= 0)),
  },
  scope: check.oneOf("layer", "global"),
  rounds: check.positiveInteger,
  within: { expected: "a Mask", fits: (value) => value instanceof Mask },
  structure: {
    expected: '"weights", "outputs", "inputs" or N:M with N <= M, such as "2:4"',
    fits: (value) => {
      if (typeof value !== "string") return false;
      const pattern = patternOf(value);
      return pattern ? pattern.n <= pattern.m : /^(weights|outputs|inputs)$/.test(value);
    },
  },
  unitBiases: check.boolean,
  minRank: check.naturalNumber,
  params: check.anything,
  name: { expected: "a name", fits: (value) => typeof value === "string" && value !== "" },
};

/** How many of n are left when each round prunes floor((1 - keep) of what is left). */
export function remaining(n: number, keep: number, rounds = 1): number {
  let left = n;
  // A share such as 0.9 is not exact: the smallest excess does not count.
  for (let round = 0; round < rounds; round++) left -= Math.floor((1 - keep) * left + 1e-9);
  return left;
}

/** A tensor whose entries are scored, alone or in units. */
interface Scored extends ShapedTensor {
  /** How many things of it are kept or not. */
  items: number;
  /** The item of an entry, from its position in the tensor. */
  itemOf: (i: number) => number;
}

function scoredBy(axis: number | undefined, tensor: ShapedTensor): Scored {
  if (axis === undefined) return { ...tensor, items: tensor.size, itemOf: (i) => i };
  const items = tensor.shape[axis] ?? 1;
  const inner = tensor.shape.slice(axis + 1).reduce((product, n) => product * n, 1);
  return { ...tensor, items, itemOf: (i) => Math.floor(i / inner) % items };
}

/** Chooses `kept` of the scores, those of smaller index among equals: 1 for each that is chosen. */
function largest(scores: Float64Array, kept: number): Uint8Array {
  const ascending = scores.slice().sort();
  const threshold = kept > 0 ? ascending[scores.length - kept]! : Number.POSITIVE_INFINITY;
  let atThreshold = kept;
  for (let i = 0; i < scores.length; i++) if (scores[i]! > threshold) atThreshold--;
  const chosen = new Uint8Array(scores.length);
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i]!;
    if (score > threshold || (score === threshold && atThreshold-- > 0)) chosen[i] = 1;
  }
  return chosen;
}

/**
 * The mask of the largest scores. Of equal scores, those of smaller index are kept first.
 *
 * @param parameters `model.parameters`
 * @param scores one a parameter; those of tensors that are not pruned do not matter
 * @throws OptionError; DataMismatchError where a score is NaN
 */
export function keepLargest(
  parameters: readonly ShapedTensor[],
  scores: ArrayLike<number>,
  options: KeepOptions,
): Mask {
  return keepBy("keepLargest", parameters, scores, options);
}

/** @internal The same under another name in messages. */
export function keepBy(
  where: string,
  parameters: readonly ShapedTensor[],
  scores: ArrayLike<number>,
  options: KeepOptions,
): Mask {
  if (!Array.isArray(parameters))
    throw new OptionError(
      `${where}: expected the parameters of a model, got ${describe(parameters)}`,
    );
  const given = checkOptions(where, options, KEEP_OPTIONS);
  const { structure = "weights", within, name } = given;
  const pattern = patternOf(structure);
  checkAmounts(where, given, pattern !== undefined);
  const size = parameters.reduce((sum, { size }) => sum + size, 0);
  if (typeof scores?.length !== "number" || scores.length !== size)
    throw new OptionError(
      `${where}: expected ${size} scores, one a parameter, got ${describe(scores)}`,
    );

  const isScored = scoredTensors(where, parameters, given);
  const axisOf = { outputs: ({ outputAxis = 0 }: ShapedTensor) => outputAxis, inputs: inputAxisOf };
  const scored = parameters
    .filter((_, i) => isScored[i])
    .map((tensor) => scoredBy(axisOf[structure as "outputs" | "inputs"]?.(tensor), tensor));
  requireScores(where, scored, scores);

  const whole = new Mask(parameters, new Uint8Array(size).fill(1), name);
  if (within) requireAlike(where, whole, within);
  const bits = within ? within.bits.slice() : whole.bits.slice();
  if (pattern) for (const tensor of scored) keepPattern(tensor, scores, pattern, bits);
  else {
    const alone = given.scope !== "global" || given.counts !== undefined;
    const groups = alone ? scored.map((tensor) => [tensor]) : [scored];
    const biases = given.unitBiases ? parameters.filter(({ shape }) => shape.length < 2) : [];
    for (const group of groups) keepGroup(where, group, scores, given, biases, bits);
  }
  return new Mask(parameters, bits, name);
}

/** @internal Which tensors the options prune, whatever the scores. */
export function scoredTensors(
  where: string,
  parameters: readonly ShapedTensor[],
  { structure = "weights", minRank = 2, params }: KeepOptions,
): boolean[] {
  const names = parameters.map(({ name }) => name);
  const chosen = params === undefined ? undefined : matchGlobs(names, params, `${where}: params`);
  const least = structure === "weights" ? minRank : Math.max(2, minRank);
  return parameters.map(({ shape }, i) => shape.length >= least && (!chosen || chosen[i]!));
}

function checkAmounts(where: string, given: KeepOptions, pattern: boolean): void {
  const names = ["keep", "count", "threshold", "counts"] as const;
  const amounts = names.filter((name) => given[name] !== undefined);
  if (pattern && amounts.length > 0)
    throw new OptionError(
      `${where}: ${amounts[0]}: expected none, as structure "${given.structure}" says how many`,
    );
  if (!pattern && amounts.length !== 1)
    throw new OptionError(
      amounts.length > 1
        ? `${where}: expected one of ${names.join(", ")}, got ${amounts.join(" and ")}`
        : `${where}: keep: expected ${KEEP_OPTIONS.keep.expected}, got undefined`,
    );
  if (given.rounds !== undefined && given.keep === undefined)
    throw new OptionError(`${where}: rounds: expected it with keep, got it without`);
  if (given.counts !== undefined && given.scope === "global")
    throw new OptionError(`${where}: counts: expected the scope "layer", got "global"`);
  if (given.unitBiases && given.structure !== "outputs")
    throw new OptionError(
      `${where}: unitBiases: expected the structure "outputs", got ${describe(given.structure)}`,
    );
}

function requireScores(where: string, tensors: readonly Scored[], scores: ArrayLike<number>): void {
  for (const { name, offset, size } of tensors)
    for (let i = 0; i < size; i++)
      if (Number.isNaN(scores[offset + i]!))
        throw new DataMismatchError(`${where}: the score of ${name} is NaN at flat index ${i}`);
}

/** Keeps the best items of some tensors together. */
function keepGroup(
  where: string,
  group: readonly Scored[],
  scores: ArrayLike<number>,
  given: KeepOptions,
  biases: readonly ShapedTensor[],
  bits: Uint8Array,
): void {
  const total = group.reduce((sum, { items }) => sum + items, 0);
  const sums = new Float64Array(total);
  const alive = new Uint8Array(total);
  let begin = 0;
  for (const { offset, size, items, itemOf } of group) {
    for (let i = 0; i < size; i++)
      if (bits[offset + i]) {
        const item = begin + itemOf(i);
        alive[item] = 1;
        sums[item]! += scores[offset + i]!;
      }
    begin += items;
  }
  const candidates = sums.filter((_, item) => alive[item]);
  if (candidates.some(Number.isNaN))
    throw new DataMismatchError(
      `${where}: expected scores whose sums over units are numbers, got both infinities in a unit`,
    );
  const kept = amountOf(where, group, candidates, given);
  const chosen = largest(candidates, kept);
  const keeps = new Uint8Array(total);
  let next = 0;
  for (let item = 0; item < total; item++) if (alive[item]) keeps[item] = chosen[next++]!;

  begin = 0;
  for (const { name, offset, size, items, itemOf } of group) {
    for (let i = 0; i < size; i++) if (!keeps[begin + itemOf(i)]) bits[offset + i] = 0;
    for (const bias of biases)
      if (layerOf(bias.name) === layerOf(name) && bias.size === items)
        for (let i = 0; i < items; i++) if (!keeps[begin + i]) bits[bias.offset + i] = 0;
    begin += items;
  }
}

/** How many of the candidates of a group are kept. */
function amountOf(
  where: string,
  group: readonly Scored[],
  candidates: Float64Array,
  { keep, count, threshold, counts, rounds }: KeepOptions,
): number {
  const n = candidates.length;
  if (keep !== undefined) return remaining(n, keep, rounds);
  if (threshold !== undefined)
    return candidates.reduce((sum, score) => sum + (score > threshold ? 1 : 0), 0);
  const { name, size, items } = group[0] ?? { name: "", size: 0, items: 0 };
  const what = group.length === 1 ? name : "all tensors";
  const fail = (option: string, expected: string, got: unknown): never => {
    throw new OptionError(`${where}: ${option}: ${what}: expected ${expected}, got ${got}`);
  };
  if (count !== undefined) return count <= n ? count : fail("count", `at most ${n}`, count);
  if (!(counts instanceof Mask)) {
    const wanted = Object.hasOwn(counts!, name)
      ? counts![name]!
      : fail("counts", "a number", "none");
    return wanted <= n ? wanted : fail("counts", `at most ${n}`, wanted);
  }
  const layer = counts.layers().find((other) => other.name === name && other.size === size);
  if (!layer) return fail("counts", `a mask that has it, of ${size} entries`, "none");
  const wanted = (layer.kept * items) / (size || 1);
  if (!Number.isInteger(wanted)) fail("counts", "whole units", `${layer.kept} entries`);
  return wanted <= n ? wanted : fail("counts", `at most ${n}`, wanted);
}

/** Of every m entries along the inputs, the n best that are still there. */
function keepPattern(
  tensor: Scored,
  scores: ArrayLike<number>,
  { n, m }: { n: number; m: number },
  bits: Uint8Array,
): void {
  const { shape, offset, size } = tensor;
  const axis = inputAxisOf(tensor);
  const length = shape[axis] ?? 1;
  const stride = shape.slice(axis + 1).reduce((product, k) => product * k, 1);
  const best: number[] = [];
  for (let outer = 0; outer < size; outer += length * stride)
    for (let inner = 0; inner < stride; inner++)
      for (let first = 0; first < length; first += m) {
        best.length = 0;
        for (let k = first; k < Math.min(first + m, length); k++) {
          const at = offset + outer + k * stride + inner;
          if (bits[at]) best.push(at);
        }
        best.sort((a, b) => (scores[a]! === scores[b]! ? a - b : scores[b]! > scores[a]! ? 1 : -1));
        for (const at of best.slice(n)) bits[at] = 0;
      }
}
