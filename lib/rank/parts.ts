/** Measured ranks of a Hessian and its two parts, beside the predicted ones. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import type { Checkpoint } from "../landscape/directions";
import { parametersOf } from "../landscape/directions";
import type { Loss, LossName } from "../model/loss";
import { Model } from "../model/model";
import { functionalHessian, ggn, hessian, type RunOptions } from "../operators";
import { type Check, check, checkOptions, describe } from "../options";
import { type NumericalRank, numericalRank } from "./numerical";
import { type HessianPart, type RankPrediction, rankPrediction } from "./predict";

export interface RankPartsOptions
  extends CallOptions,
    Pick<RunOptions, "threads" | "batch" | "maxMemory"> {
  /** Default: the model's. */
  loss?: LossName | Loss | undefined;
  /** Relative to the largest |lambda| of each, of H for H_f. Default P * 2^-52. */
  tol?: number | undefined;
  /** Also predict them (default true), see `rankPrediction`. */
  predict?: boolean | undefined;
  /** Of the prediction: ranks at random parameters where there is no closed form (default true). */
  generic?: boolean | undefined;
  /** Of those. Default 0. */
  seed?: number | bigint | undefined;
}

const OPTIONS: { [K in keyof Required<RankPartsOptions>]: Check } = {
  ...CALL_OPTIONS,
  loss: check.anything,
  tol: check.notNegative,
  predict: check.boolean,
  generic: check.boolean,
  seed: check.seed,
  threads: check.positiveInteger,
  batch: check.positiveInteger,
  maxMemory: check.positiveInteger,
};

export interface MeasuredRank extends NumericalRank {
  /** 1 - rank / P. */
  readonly redundancy: number;
  /** What was predicted; undefined where nothing was. */
  readonly predicted: number | undefined;
}

export interface RankParts {
  readonly parameters: number;
  /** J^T H_l J, the Gauss-Newton matrix H_o. */
  readonly ggn: MeasuredRank;
  /** H_f = H - H_o; its tolerance is relative to the largest |lambda| of H. */
  readonly functional: MeasuredRank;
  readonly hessian: MeasuredRank;
  readonly prediction: RankPrediction | undefined;
  readonly products: number;
  readonly seconds: number;
}

/**
 * The numerical ranks of H, of the Gauss-Newton matrix H_o and of H_f = H - H_o, each from all
 * eigenvalues in float64, with the redundancy 1 - rank / P, beside what `rankPrediction` says.
 *
 * Costs 2 P products and a decomposition of order P for H and H_f each, and for H_o the smaller of
 * that and one of the samples' rows.
 *
 * @throws as `numericalRank` and `rankPrediction`
 */
export async function rankParts(
  model: Model,
  data: DataSet,
  options?: RankPartsOptions,
): Promise<RankParts> {
  const checked = checkOptions("rankParts", options, OPTIONS);
  const { tol, predict = true, generic, seed, signal, onProgress, ...run } = checked;
  const { loss, threads } = run;
  const begin = performance.now();
  const prediction = predict
    ? await rankPrediction(model, data, { loss, generic, seed, threads, signal, onProgress })
    : undefined;
  let products = 0;
  const measure = async (part: HessianPart, scale?: number): Promise<MeasuredRank> => {
    const make = { ggn, functional: functionalHessian, hessian }[part];
    using operator = make(model, data, { ...run, precision: "float64" });
    const found = await numericalRank(operator, { tol, scale, signal, onProgress });
    products += found.products;
    const { products: _, seconds: __, ...rank } = found;
    const predicted = prediction?.[part]?.rank;
    return { ...rank, redundancy: 1 - rank.rank / rank.dim, predicted };
  };
  const whole = await measure("hessian");
  const outer = await measure("ggn");
  // With H = 0 nothing is left of H_f either.
  const functional = await measure("functional", whole.magnitudes[0]! || undefined);
  return {
    parameters: model.parameterCount,
    ggn: outer,
    functional,
    hessian: whole,
    prediction,
    products,
    seconds: (performance.now() - begin) / 1000,
  };
}

/** One of several: a checkpoint of a model, or a network of its own. */
export interface RankCase {
  readonly name: string;
  /** Parameters of the model, or another model; default the model itself. */
  readonly at?: Checkpoint | undefined;
  /** Other data than those of the call. */
  readonly data?: DataSet | undefined;
  /** Another loss than that of the call. */
  readonly loss?: LossName | Loss | undefined;
}

/** A row of a sweep. */
export interface RankSweepRow extends RankParts {
  readonly name: string;
}

/**
 * Ranks and predictions of several cases, one after the other: checkpoints along training, or
 * networks of several widths, depths, biases and activations (`mlp` makes them), or losses.
 *
 * A case that is a model stands for itself, with the loss of the call or its own; a vector of
 * parameters is a place in the parameter space of `model`.
 *
 * @throws OptionError for no case; as `rankParts`
 */
export async function rankSweep(
  model: Model,
  data: DataSet,
  cases: readonly RankCase[],
  options: RankPartsOptions = {},
): Promise<RankSweepRow[]> {
  if (!Array.isArray(cases) || cases.length === 0)
    throw new OptionError(
      `rankSweep: cases: expected at least one { name, at }, got ${describe(cases)}`,
    );
  const rows: RankSweepRow[] = [];
  for (const { name, at, data: other = data, loss = options.loss } of cases) {
    const begun = { ...options, ...(loss !== undefined && { loss }) };
    if (at instanceof Model || at === undefined) {
      rows.push({ name, ...(await rankParts(at ?? model, other, begun)) });
      continue;
    }
    using place = model.withParameters(parametersOf("rankSweep", model, at));
    rows.push({ name, ...(await rankParts(place, other, begun)) });
  }
  return rows;
}
