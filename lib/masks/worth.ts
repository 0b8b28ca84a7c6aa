/** What a sub-network is worth: loss and accuracy of masked networks, beside random ones. */
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import { type Evaluation, evaluator } from "../evaluator";
import { type Checkpoint, parametersOf, parameterVector } from "../landscape/directions";
import type { Model } from "../model/model";
import { type Check, check, checkOptions, describe } from "../options";
import { Random } from "../random";
import { bandOf } from "../subspaces/baseline";
import type { Criterion } from "./criteria";
import { KEEP_OPTIONS, type KeepOptions, keepBy, scoredTensors } from "./keep";
import { Gatherer, requireCriterion, SCORE_OPTIONS, type ScoreOptions } from "./make";
import { Mask, requireAlike } from "./mask";

export interface MaskedOptions {
  /**
   * What weights become that the mask does not keep. "zero" (default); "initial": frozen at init;
   * "mean": the mean of their tensor; "initial-or-zero": 0 where training moved the weight towards 0,
   * else its initial value (Zhou et al. 2019, section 5).
   */
  pruned?: "zero" | "initial" | "mean" | "initial-or-zero" | undefined;
  /** What weights are that it keeps: the model's ("final", default), or rewound ("initial"). */
  kept?: "final" | "initial" | undefined;
  /** The parameters that training began with. */
  initial?: Checkpoint | undefined;
}

const MASKED_OPTIONS: { [K in keyof Required<MaskedOptions>]: Check } = {
  pruned: check.oneOf("zero", "initial", "mean", "initial-or-zero"),
  kept: check.oneOf("final", "initial"),
  initial: check.anything, // parametersOf does it
};

/**
 * The parameters of a masked network.
 *
 * @param mask of all parameters of the model
 * @throws OptionError
 */
export function maskedParameters(model: Model, mask: Mask, options?: MaskedOptions): Float64Array {
  const checked = checkOptions("maskedParameters", options, MASKED_OPTIONS);
  return masked("maskedParameters", model, mask, checked);
}

function masked(
  where: string,
  model: Model,
  mask: Mask,
  { pruned = "zero", kept = "final", initial }: MaskedOptions,
): Float64Array {
  const final = parameterVector(model);
  requireAlike(where, new Mask(model.parameters, mask?.bits ?? []), mask);
  const rewinds = pruned.startsWith("initial") || kept === "initial";
  if (rewinds && initial === undefined)
    throw new OptionError(
      `${where}: initial: expected the parameters that training began with, got undefined`,
    );
  const start = rewinds ? parametersOf(`${where}: initial`, model, initial!) : final;
  const there = kept === "initial" ? start.slice() : final.slice();
  for (const { offset, size } of model.parameters) {
    const end = offset + size;
    const mean = final.subarray(offset, end).reduce((sum, x) => sum + x, 0) / (size || 1);
    for (let i = offset; i < end; i++) {
      if (mask.bits[i]) continue;
      if (pruned === "zero") there[i] = 0;
      else if (pruned === "mean") there[i] = mean;
      else {
        const shrank = Math.abs(final[i]!) < Math.abs(start[i]!);
        there[i] = pruned === "initial" || !shrank ? start[i]! : 0;
      }
    }
  }
  return there;
}

/** A number of several random masks. */
export interface Spread {
  readonly mean: number;
  readonly standardDeviation: number;
  /** The middle 95 % of the draws, interpolated between them. */
  readonly band: readonly [low: number, high: number];
  readonly values: readonly number[];
}

/** A sub-network on a curve. */
export interface CurvePoint extends Evaluation {
  readonly criterion: string;
  /** The share that was asked for. */
  readonly keep: number;
  /** Entries that are kept of the tensors that are pruned, and the share that this is. */
  readonly kept: number;
  readonly share: number;
  /** Tensors of which nothing is left (layer collapse). */
  readonly collapsed: readonly string[];
  /** Of random masks that keep as many of each tensor; undefined where none were asked for. */
  readonly random: { readonly loss: Spread; readonly accuracy: Spread | undefined } | undefined;
}

export interface SparsityCurves {
  readonly dense: Evaluation;
  /** By criterion, then by share, in the order given. */
  readonly points: readonly CurvePoint[];
  readonly seconds: number;
}

export interface SparsityCurveOptions
  extends Omit<ScoreOptions, "data">,
    Pick<MaskedOptions, "pruned" | "kept">,
    Pick<KeepOptions, "scope" | "structure" | "unitBiases" | "minRank" | "params" | "within"> {
  criteria: readonly Criterion[];
  /** The shares to keep. */
  keep: readonly number[];
  /** Random masks a point. Default 5. */
  random?: number | undefined;
  /** What gradients and curvature of the criteria are of. Default: the data. */
  scoreData?: DataSet | undefined;
  /** What the target array is called. Default "y". */
  target?: string | undefined;
}

const { data: _, ...OF_SCORES } = SCORE_OPTIONS;
const { scope, structure, unitBiases, minRank, params, within } = KEEP_OPTIONS;

const CURVE_OPTIONS: { [K in keyof Required<SparsityCurveOptions>]: Check } = {
  ...OF_SCORES,
  ...{ scope, structure, unitBiases, minRank, params, within },
  pruned: MASKED_OPTIONS.pruned,
  kept: MASKED_OPTIONS.kept,
  criteria: { expected: "an array of criteria", fits: (value) => Array.isArray(value) },
  keep: {
    expected: "an array of shares over 0 and at most 1",
    fits: (value) =>
      Array.isArray(value) && value.length > 0 && value.every(KEEP_OPTIONS.keep.fits),
  },
  random: check.naturalNumber,
  scoreData: check.anything,
  target: check.anything, // evaluator does it
};

/** Streams of one seed. */
const MATCHED = 5;

/** @internal */
export function spreadOf(values: number[]): Spread {
  const n = values.length;
  const mean = values.reduce((sum, x) => sum + x, 0) / n;
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return { mean, standardDeviation: Math.sqrt(squares / (n - 1)), band: bandOf(values), values };
}

/**
 * Loss and accuracy of sub-networks over sparsity, for several criteria, each beside random masks
 * that keep as many entries (or units) of each tensor: what a criterion gains over its distribution
 * of sparsity over layers. Compiled once; a point costs two forward passes (one without accuracy),
 * and as many for each random mask; masks of equal numbers share their random ones.
 *
 * @throws as `mask` and `evaluator`
 */
export async function sparsityCurves(
  model: Model,
  data: DataSet,
  options: SparsityCurveOptions,
): Promise<SparsityCurves> {
  const begin = performance.now();
  const where = "sparsityCurves";
  const checked = checkOptions(where, options, CURVE_OPTIONS);
  const { criteria, keep, random: draws = 5, scoreData = data, seed = 0, target } = checked;
  if (!criteria || !keep)
    throw new OptionError(
      `${where}: ${criteria ? "keep" : "criteria"}: expected ` +
        `${CURVE_OPTIONS[criteria ? "keep" : "criteria"].expected}, got ${describe(undefined)}`,
    );
  const names = criteria.map((name) => requireCriterion(where, name));
  const { scope, structure, unitBiases, minRank, params, within } = checked;
  const limits: KeepOptions = { structure, unitBiases, minRank, params, within };
  const { initial, gradient, initialGradient, curvature, diagonal, vectors, k } = checked;
  const { blockSize, damping, loss, signal, onProgress } = checked;
  const { precision, threads, batch, maxMemory, keepLinearisation } = checked;
  const run = { loss, precision, threads, batch, maxMemory, keepLinearisation };
  using gatherer = new Gatherer(where, model, {
    ...{ initial, gradient, initialGradient, curvature, diagonal, vectors, k, blockSize, damping },
    ...{ ...run, seed, signal, data: scoreData },
  });
  using worth = evaluator(model, data, { ...run, target });

  let done = 0;
  const total = 1 + names.length * keep.length * (1 + draws);
  const at = async (mask: Mask | undefined): Promise<Evaluation> => {
    const there = mask && masked(where, model, mask, checked);
    const found = await worth.at(there, { signal });
    done++;
    const seconds = (performance.now() - begin) / 1000;
    onProgress?.({ products: 0, fraction: done / total, seconds });
    return found;
  };

  const scored = scoredTensors(where, model.parameters, limits);
  const dense = await at(undefined);
  const matched = matchedRandom(model, { draws, seed, limits, at });
  const points: CurvePoint[] = [];
  for (const criterion of names) {
    const scores = await gatherer.scores(criterion);
    for (const share of keep) {
      const amount = /:/.test(structure ?? "") ? {} : { keep: share, scope };
      const mask = keepBy(where, model.parameters, scores, { ...limits, ...amount });
      const evaluation = await at(mask);
      const pruned = mask.layers().filter((_, i) => scored[i]);
      const kept = pruned.reduce((sum, layer) => sum + layer.kept, 0);
      const size = pruned.reduce((sum, layer) => sum + layer.size, 0);
      const random = draws > 0 ? await matched(mask) : undefined;
      if (random) done = 1 + (points.length + 1) * (1 + draws);
      points.push({
        ...{ criterion, keep: share, kept, share: kept / size, collapsed: mask.collapsed() },
        ...evaluation,
        random,
      });
    }
  }
  return { dense, points, seconds: (performance.now() - begin) / 1000 };
}

/** Evaluates random masks like a given one, once for equal numbers kept. */
function matchedRandom(
  model: Model,
  given: {
    draws: number;
    seed: number | bigint;
    limits: KeepOptions;
    at: (mask: Mask) => Promise<Evaluation>;
  },
): (mask: Mask) => Promise<NonNullable<CurvePoint["random"]>> {
  const { draws, seed, limits, at } = given;
  const known = new Map<string, NonNullable<CurvePoint["random"]>>();
  return async (mask) => {
    const key = mask
      .layers()
      .map(({ kept }) => kept)
      .join();
    const before = known.get(key);
    if (before) return before;
    const found: Evaluation[] = [];
    for (let draw = 0; draw < draws; draw++) {
      const random = new Random(BigInt.asUintN(64, BigInt(seed) + BigInt(draw)), MATCHED);
      const scores = new Float64Array(model.parameterCount).map(() => random.uniform());
      const counts = /:/.test(limits.structure ?? "") ? {} : { counts: mask };
      found.push(
        await at(keepBy("sparsityCurves", model.parameters, scores, { ...limits, ...counts })),
      );
    }
    const accuracies = found.flatMap(({ accuracy }) => (accuracy === undefined ? [] : [accuracy]));
    const spread = {
      loss: spreadOf(found.map(({ loss }) => loss)),
      accuracy: accuracies.length > 0 ? spreadOf(accuracies) : undefined,
    };
    known.set(key, spread);
    return spread;
  };
}
