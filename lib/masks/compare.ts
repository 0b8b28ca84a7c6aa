/** How much masks have in common, and how much they would have by chance. */
import { OptionError } from "../errors";
import { type Globs, matchGlobs } from "../model/glob";
import { type Check, check, checkOptions } from "../options";
import { type Mask, requireAlike } from "./mask";

/** What two masks share of a tensor, or of several. */
export interface Overlap {
  /** Entries, and how many of them each keeps. */
  readonly size: number;
  readonly kept: readonly [number, number];
  readonly intersection: number;
  /** Intersection over union (Jaccard's index); 1 where neither keeps anything. */
  readonly iou: number;
  /** The expectation of iou for random masks with the same numbers kept. */
  readonly chance: number;
  /** The intersection less its expectation, over its standard deviation; NaN where that is 0. */
  readonly z: number;
}

export interface MaskOverlaps extends Overlap {
  /** By tensor; those that both keep whole are left out. */
  readonly layers: readonly (Overlap & { readonly name: string })[];
}

export interface MaskIouOptions {
  /** Only these tensors, by patterns of names. Default: those that either of the masks prunes. */
  params?: Globs | undefined;
}

const OPTIONS: { [K in keyof Required<MaskIouOptions>]: Check } = { params: check.anything };

/** Of a sum of independent hypergeometric numbers. */
interface Moments {
  mean: number;
  variance: number;
}

/** How many of b random ones of n lie among a given ones. */
function moments(n: number, a: number, b: number): Moments {
  const mean = n === 0 ? 0 : (a * b) / n;
  return { mean, variance: n < 2 ? 0 : (mean * (n - a) * (n - b)) / (n * (n - 1)) };
}

/** E[X / (a + b - X)] for X hypergeometric, summed over what is likely. */
function chanceOf(n: number, a: number, b: number): number {
  if (a + b === 0) return 1;
  const { mean, variance } = moments(n, a, b);
  const low = Math.max(0, a + b - n);
  const high = Math.min(a, b);
  const spread = 12 * Math.sqrt(variance) + 12;
  const mode = Math.min(high, Math.max(low, Math.floor(((a + 1) * (b + 1)) / (n + 2))));
  let total = 0;
  let sum = 0;
  const add = (x: number, weight: number) => {
    total += weight;
    sum += (weight * x) / (a + b - x);
  };
  // By the ratio of neighbours, from the most likely number on both sides.
  add(mode, 1);
  let weight = 1;
  for (let x = mode; x < Math.min(high, mean + spread); x++) {
    weight *= ((a - x) * (b - x)) / ((x + 1) * (n - a - b + x + 1));
    add(x + 1, weight);
  }
  weight = 1;
  for (let x = mode; x > Math.max(low, mean - spread); x--) {
    weight *= (x * (n - a - b + x)) / ((a - x + 1) * (b - x + 1));
    add(x - 1, weight);
  }
  return sum / total;
}

/** The same for the sum over several tensors, to the second order of its spread. */
function chanceOfSum(both: number, { mean, variance }: Moments): number {
  if (both === 0) return 1;
  const left = both - mean;
  return mean / left + (both * variance) / left ** 3;
}

function overlap(
  size: number,
  kept: readonly [number, number],
  intersection: number,
  chance: number,
  { mean, variance }: Moments,
): Overlap {
  const union = kept[0] + kept[1] - intersection;
  const iou = union === 0 ? 1 : intersection / union;
  const z = variance > 0 ? (intersection - mean) / Math.sqrt(variance) : Number.NaN;
  return { size, kept, intersection, iou, chance, z };
}

/**
 * Intersection over union of two masks, over all tensors that either of them prunes and by tensor,
 * with the level that chance alone would give at the same numbers kept in each tensor. By tensor
 * chance is the exact expectation over the hypergeometric distribution of the intersection; of the
 * total it is taken to second order in its standard deviation.
 *
 * @throws OptionError for masks of different tensors
 */
export function maskIoU(a: Mask, b: Mask, options?: MaskIouOptions): MaskOverlaps {
  requireAlike("maskIoU", a, b);
  const { params } = checkOptions("maskIoU", options, OPTIONS);
  const names = a.parameters.map(({ name }) => name);
  const matched = params === undefined ? undefined : matchGlobs(names, params, "maskIoU: params");
  const total = { size: 0, kept: [0, 0] as [number, number], intersection: 0 };
  const sum: Moments = { mean: 0, variance: 0 };
  const layers = a.parameters.flatMap(({ name, offset, size }, i) => {
    const [first, second] = [a, b].map(({ bits }) => bits.subarray(offset, offset + size));
    const kept: [number, number] = [0, 0];
    let intersection = 0;
    for (let j = 0; j < size; j++) {
      kept[0] += first![j]!;
      kept[1] += second![j]!;
      intersection += first![j]! & second![j]!;
    }
    if (matched ? !matched[i] : kept[0] === size && kept[1] === size) return [];
    const byChance = moments(size, kept[0], kept[1]);
    total.size += size;
    total.kept[0] += kept[0];
    total.kept[1] += kept[1];
    total.intersection += intersection;
    sum.mean += byChance.mean;
    sum.variance += byChance.variance;
    const chance = chanceOf(size, kept[0], kept[1]);
    return [{ name, ...overlap(size, kept, intersection, chance, byChance) }];
  });
  if (matched && layers.length === 0)
    throw new OptionError("maskIoU: params: expected tensors of the masks, got none");
  const chance =
    layers.length === 1 ? layers[0]!.chance : chanceOfSum(total.kept[0] + total.kept[1], sum);
  return { ...overlap(total.size, total.kept, total.intersection, chance, sum), layers };
}
