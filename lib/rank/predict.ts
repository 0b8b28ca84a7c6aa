/** What the ranks of a Hessian and its parts should be, derived from network, loss and data. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { type ArraySource, loadData } from "../data/data";
import { readArray } from "../data/select";
import { matrixProduct, singularValues } from "../dense";
import { DataMismatchError } from "../errors";
import type { Loss, LossName } from "../model/loss";
import type { Model } from "../model/model";
import { checkSubject, forward, functionalHessian, ggn, hessian, requireLoss } from "../operators";
import { type Check, check, checkOptions } from "../options";
import { Random } from "../random";
import { norm } from "../vectors";
import { biasedRanks, type Formulas, hiddenLayerRanks, linearRanks } from "./formulas";
import { type DenseLayer, type FoundForm, networkForm } from "./network";
import { numericalRank } from "./numerical";
import { lossRefusal, type Residuals, residualsOf } from "./residuals";

/** The Gauss-Newton matrix H_o, the rest H_f, and their sum H. */
export type HessianPart = "ggn" | "functional" | "hessian";

export interface PredictedRank {
  readonly rank: number;
  /**
   * "closed form": of the literature or derived, see docs/methods.md. "generic": computed, the rank
   * at random parameters with the same inputs and residuals, which is that of almost all parameters.
   */
  readonly method: "closed form" | "generic";
  readonly formula: string;
}

/** Something that a prediction rests on. */
export interface RankCondition {
  readonly what: string;
  readonly holds: boolean;
}

export interface RankPrediction {
  /** What the network is: "linear", "linear convolutional", "one hidden layer", "other". */
  readonly form: "linear" | "linear convolutional" | "one hidden layer" | "other";
  readonly ggn: PredictedRank | undefined;
  readonly functional: PredictedRank | undefined;
  readonly hessian: PredictedRank | undefined;
  /** Why a part has no prediction, or no closed form; "" where all three have one. */
  readonly reason: string;
  /** Of the layers, where they are a chain. */
  readonly widths: readonly number[] | undefined;
  readonly biased: boolean;
  /** What stands between the layers: "relu"; "" for nothing. */
  readonly activation: string;
  /** Of dimension d, the rank r of the inputs, not centred. */
  readonly data: { readonly samples: number; readonly dimension: number; readonly rank: number };
  /** The rank s of sum_i delta_i x_i^T, and min(r, K'), which it has for generic residuals. */
  readonly residual: { readonly rank: number; readonly generic: number };
  /** Outputs of a sample, and the rank K' of the loss's curvature in them. */
  readonly outputs: { readonly count: number; readonly curvatureRank: number };
  /** n K': no Gauss-Newton matrix of these data has a larger rank. */
  readonly gramBound: number;
  readonly conditions: readonly RankCondition[];
}

export interface RankPredictionOptions extends CallOptions {
  /** Default: the model's. */
  loss?: LossName | Loss | undefined;
  /**
   * Whether ranks without a closed form are computed at random parameters, for linear networks of
   * up to 3,000 parameters (default true): three exact spectra.
   */
  generic?: boolean | undefined;
  /** Of the random parameters. Default 0. */
  seed?: number | bigint | undefined;
  threads?: number | undefined;
}

const OPTIONS: { [K in keyof Required<RankPredictionOptions>]: Check } = {
  ...CALL_OPTIONS,
  loss: check.anything,
  generic: check.boolean,
  seed: check.seed,
  threads: check.positiveInteger,
};

const EPSILON = 2 ** -52;
/** The largest number of parameters at which generic ranks are computed. */
const GENERIC_LIMIT = 3000;
const PLACES = 0x72616e6b;

/** What predictions are made of. */
interface Facts {
  readonly form: FoundForm;
  readonly loss: Loss;
  readonly residuals: Residuals;
  /** rows x dimension, the inputs of each sample (and position). */
  readonly x: Float64Array;
  readonly rows: number;
  readonly dimension: number;
}

/**
 * Predicts the ranks of the Gauss-Newton matrix H_o, of H_f and of H = H_o + H_f. What the network is
 * comes from its graph, the rest from the data: the rank of the inputs, and that of
 * Omega = sum_i delta_i x_i^T for the derivatives delta of the loss by the outputs.
 *
 * Chains of dense layers have closed forms (Singh, Bachmann and Hofmann 2021), with biases where
 * there is no bottleneck; networks with one hidden layer of relu, leaky relu, tanh or sigmoid have
 * those of docs/methods.md, at generic parameters. Other linear networks (convolutions, branches,
 * shared weights, biased ones with a bottleneck) get the rank at random parameters, as that of almost
 * all. For the rest there is no prediction, and `reason` names the node that is in the way.
 *
 * Costs a forward pass and singular values of the inputs; with `generic` up to three exact spectra.
 *
 * @throws OptionError without a loss; DataMismatchError where targets do not fit; AbortError
 */
export async function rankPrediction(
  model: Model,
  data: DataSet,
  options?: RankPredictionOptions,
): Promise<RankPrediction> {
  const checked = checkOptions("rankPrediction", options, OPTIONS);
  checkSubject("rankPrediction", model, data);
  const loss = requireLoss("rankPrediction", model, checked.loss);
  const form = networkForm(model, data, loss.name);
  const refusal = lossRefusal(loss, form.activation);
  const targets = await targetsOf(model, data, checked);
  const { values, shape } = await forward(model, data, {
    precision: "float64",
    threads: checked.threads,
    signal: checked.signal,
  });
  if (refusal || form.kind === "other" || !targets) {
    const why =
      form.kind === "other" ? form.why : (refusal ?? "targets were not found among the data");
    return nothing(form, why, data, values.length / data.samples);
  }
  const residuals = residualsOf({ values, shape }, targets, loss, form.activation);
  const positions = form.kind === "linear" ? 1 : form.positions;
  const rows = data.samples * positions;
  const x = await inputsOf(model, data, checked);
  const facts: Facts = { form, loss, residuals, x, rows, dimension: x.length / rows };
  return predict(model, data, facts, checked);
}

function nothing(form: FoundForm, reason: string, data: DataSet, count: number): RankPrediction {
  const layers =
    form.kind === "chain" || form.kind === "one-hidden-layer" ? form.layers : undefined;
  return {
    form: "other",
    ...{ ggn: undefined, functional: undefined, hessian: undefined, reason },
    widths: layers && widthsOf(layers),
    biased: layers?.some(({ bias }) => bias !== undefined) ?? false,
    activation: "",
    data: { samples: data.samples, dimension: Number.NaN, rank: Number.NaN },
    residual: { rank: Number.NaN, generic: Number.NaN },
    outputs: { count, curvatureRank: Number.NaN },
    gramBound: Number.NaN,
    conditions: [],
  };
}

const widthsOf = (layers: readonly DenseLayer[]) => [
  layers[0]!.inputs,
  ...layers.map(({ outputs }) => outputs),
];

/** A chain whose rows are the positions of samples has curvature and residuals of each. */
function perRow({ residuals, rows }: Facts, samples: number) {
  const share = rows / samples;
  return {
    count: residuals.delta.length / rows,
    curvatureRank: residuals.curvatureRank / share,
  };
}

async function predict(
  model: Model,
  data: DataSet,
  facts: Facts,
  options: RankPredictionOptions,
): Promise<RankPrediction> {
  const { form, residuals, rows, dimension } = facts;
  const { signal } = options;
  const outputs = perRow(facts, data.samples);
  const ranks = await ranksOfData(facts, outputs.count, signal);
  const { curvatureRank } = outputs;
  const generic = Math.min(ranks.data, curvatureRank);
  let formulas: Formulas = {};
  let reason = "";
  const conditions: RankCondition[] = [];
  if (form.kind === "chain") {
    const { layers } = form;
    const widths = widthsOf(layers);
    const biases = layers.filter(({ bias }) => bias !== undefined).length;
    const chain = { widths, curvatureRank, residualRank: ranks.residual };
    if (!Number.isInteger(curvatureRank)) reason = "classes are no features of the last layer";
    else if (biases === 0) formulas = linearRanks({ ...chain, dataRank: ranks.data });
    else if (biases === layers.length) {
      formulas = biasedRanks({
        ...chain,
        dataRank: ranks.centred,
        augmentedRank: ranks.augmented,
      });
      reason = "no closed form is known for biased networks with a bottleneck or few residuals";
    } else reason = "no closed form is known where only some layers have a bias";
    conditions.push(...(await fullRankConditions(model, layers, signal)));
  } else if (form.kind === "one-hidden-layer" && !Number.isInteger(curvatureRank))
    reason = "classes are no features of the last layer";
  else if (form.kind === "one-hidden-layer") {
    const layer = await hiddenLayer(model, facts, curvatureRank, signal);
    conditions.push(...layer.conditions);
    if (layer.conditions.every(({ holds }) => holds))
      formulas = hiddenLayerRanks({
        kind: form.between.kind,
        unitRanks: layer.unitRanks,
        alike: layer.alike,
        straight: layer.straight,
        residualSpan: await residualSpan(residuals, rows, outputs.count, signal),
        hiddenBias: form.layers[0].bias !== undefined,
        curvatureRank,
        outputBias: form.layers[1].bias !== undefined,
        samples: rows,
      });
    const broken = layer.conditions.filter(({ holds }) => !holds);
    reason =
      broken.length === 0
        ? "no formula is known for few samples, or residuals of low rank"
        : `the formulas for one hidden layer need that ${broken.map(({ what }) => what).join(", ")}`;
  } else if (form.kind === "linear") reason = form.why;

  const parts: Partial<Record<HessianPart, PredictedRank>> = {};
  for (const part of ["ggn", "functional", "hessian"] as const) {
    const found = formulas[part];
    if (!found) continue;
    const bound = part === "ggn" && found.rank > rows * curvatureRank;
    parts[part] = {
      method: "closed form",
      ...(bound ? { rank: rows * curvatureRank, formula: "n K'" } : found),
    };
  }
  const missing = (["ggn", "functional", "hessian"] as const).filter((part) => !parts[part]);
  if (missing.length > 0 && form.kind !== "one-hidden-layer") {
    const computed = await genericRanks(model, data, facts, missing, options);
    if (typeof computed === "string") reason = `${reason}; ${computed}`;
    else Object.assign(parts, computed);
  }
  const layers = form.kind === "linear" || form.kind === "other" ? undefined : form.layers;
  return {
    form:
      form.kind === "one-hidden-layer"
        ? "one hidden layer"
        : form.kind === "linear" && form.convolutional
          ? "linear convolutional"
          : "linear",
    ggn: parts.ggn,
    functional: parts.functional,
    hessian: parts.hessian,
    reason: missing.length > 0 ? reason : "",
    widths: layers && widthsOf(layers),
    biased: layers
      ? layers.some(({ bias }) => bias !== undefined)
      : model.parameters.some(({ shape }) => shape.length === 1),
    activation: form.kind === "one-hidden-layer" ? form.between.name : "",
    data: { samples: data.samples, dimension, rank: ranks.data },
    residual: { rank: ranks.residual, generic },
    outputs: {
      count: residuals.delta.length / data.samples,
      curvatureRank: residuals.curvatureRank,
    },
    gramBound: data.samples * residuals.curvatureRank,
    conditions,
  };
}

/** Numbers of the target array: "y", or the only one that is no input of the model. */
async function targetsOf(
  model: Model,
  data: DataSet,
  { signal }: CallOptions,
): Promise<Float64Array | undefined> {
  const inputs = model.inputs.map(({ name }) => name);
  const rest = data.arrays.filter(({ name }) => !inputs.includes(name));
  const target = rest.find(({ name }) => name === "y") ?? rest.at(-1);
  return target && rest.length > 0 ? readArray(data, target, signal) : undefined;
}

/** Numbers of the inputs, all of a sample one after the other. */
async function inputsOf(
  model: Model,
  data: DataSet,
  { signal }: CallOptions,
): Promise<Float64Array> {
  const named = data.arrays.filter(({ name }) => model.inputs.some((input) => input.name === name));
  const chosen = named.length > 0 ? named : data.arrays.slice(0, 1);
  const arrays = await Promise.all(chosen.map((array) => readArray(data, array, signal)));
  if (arrays.length === 1) return arrays[0]!;
  const sizes = arrays.map((values) => values.length / data.samples);
  const width = sizes.reduce((a, b) => a + b, 0);
  const x = new Float64Array(width * data.samples);
  let at = 0;
  arrays.forEach((values, k) => {
    for (let i = 0; i < data.samples; i++)
      x.set(values.subarray(i * sizes[k]!, (i + 1) * sizes[k]!), i * width + at);
    at += sizes[k]!;
  });
  return x;
}

/** How many singular values are above rounding, relative to the largest or to a given length. */
async function rankOf(
  matrix: Float64Array,
  rows: number,
  columns: number,
  signal: AbortSignal | undefined,
  scale = 0,
): Promise<number> {
  if (rows === 0 || columns === 0) return 0;
  const values = await singularValues(matrix, rows, columns, { signal });
  const tolerance = Math.max(rows, columns) * EPSILON * Math.max(values[0]!, scale);
  return values.filter((value) => value > tolerance).length;
}

async function ranksOfData(
  { residuals, x, rows, dimension }: Facts,
  outputs: number,
  signal: AbortSignal | undefined,
) {
  const { delta, reference } = residuals;
  if (delta.length !== rows * outputs)
    throw new DataMismatchError(
      `rankPrediction: expected ${outputs} outputs for each of ${rows} samples, got ${delta.length}`,
    );
  const wide = dimension + 1;
  const augmented = new Float64Array(rows * wide);
  const omega = new Float64Array(outputs * wide);
  for (let i = 0; i < rows; i++) {
    const row = augmented.subarray(i * wide, (i + 1) * wide);
    row.set(x.subarray(i * dimension, (i + 1) * dimension));
    row[dimension] = 1;
    for (let k = 0; k < outputs; k++) {
      const d = delta[i * outputs + k]!;
      if (d !== 0) for (let j = 0; j < wide; j++) omega[k * wide + j]! += d * row[j]!;
    }
  }
  const bare = Float64Array.from(
    { length: outputs * dimension },
    (_, at) => omega[Math.floor(at / dimension) * wide + (at % dimension)]!,
  );
  // Residuals are differences; so small ones may be nothing but rounding.
  const rounding = reference * norm(x);
  const largest = (values: Float64Array) =>
    values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const ones = reference * Math.hypot(norm(x), Math.sqrt(rows));
  return {
    data: await rankOf(x, rows, dimension, signal),
    /** Of [x; 1], without the 1. */
    centred: (await rankOf(augmented, rows, wide, signal)) - 1,
    residual: largest(bare) === 0 ? 0 : await rankOf(bare, outputs, dimension, signal, rounding),
    augmented: largest(omega) === 0 ? 0 : await rankOf(omega, outputs, wide, signal, ones),
  };
}

/** The rank of the residuals of all samples, rows x outputs. */
function residualSpan(
  { delta, reference }: Residuals,
  rows: number,
  outputs: number,
  signal: AbortSignal | undefined,
): Promise<number> {
  return rankOf(delta, rows, outputs, signal, reference);
}

/** The closed forms hold where all products of consecutive weights have full rank. */
async function fullRankConditions(
  model: Model,
  layers: readonly DenseLayer[],
  signal: AbortSignal | undefined,
): Promise<RankCondition[]> {
  const weights = layers.map((layer) => weightOf(model, layer));
  const poor: string[] = [];
  for (let first = 0; first < layers.length; first++) {
    let product = weights[first]!;
    let least = Math.min(layers[first]!.inputs, layers[first]!.outputs);
    for (let last = first; last < layers.length; last++) {
      const { inputs, outputs } = layers[last]!;
      const columns = layers[first]!.inputs;
      if (last > first)
        product = await matrixProduct(weights[last]!, product, outputs, inputs, columns, {
          signal,
        });
      least = Math.min(least, outputs);
      const rank = await rankOf(product, outputs, columns, signal);
      if (rank < least)
        poor.push(
          `${last > first ? "the product of weights " : "the weight "}` +
            `${model.parameters[layers[first]!.weight]!.name}` +
            `${last > first ? ` to ${model.parameters[layers[last]!.weight]!.name}` : ""} has ` +
            `rank ${rank} of ${least}`,
        );
    }
  }
  return poor.length === 0
    ? [{ what: "products of consecutive weights have full rank", holds: true }]
    : poor.map((what) => ({ what, holds: false }));
}

/** outputs x inputs. */
function weightOf(model: Model, { weight, inputs, outputs, rows }: DenseLayer): Float64Array {
  const values = model.parameters[weight]!.values();
  if (rows) return values;
  return Float64Array.from(
    { length: values.length },
    (_, at) => values[(at % inputs) * outputs + Math.floor(at / inputs)]!,
  );
}

/** Which inputs move each unit of a hidden layer. */
async function hiddenLayer(
  model: Model,
  { form, x, rows, dimension }: Facts,
  curvatureRank: number,
  signal: AbortSignal | undefined,
): Promise<{
  unitRanks: number[];
  alike: number[];
  straight: number;
  conditions: RankCondition[];
}> {
  if (form.kind !== "one-hidden-layer")
    return { unitRanks: [], alike: [], straight: 0, conditions: [] };
  const [first] = form.layers;
  const { bias, outputs: units } = first;
  const wide = dimension + (bias === undefined ? 0 : 1);
  const inputs = new Float64Array(rows * wide).fill(1);
  for (let i = 0; i < rows; i++)
    inputs.set(x.subarray(i * dimension, (i + 1) * dimension), i * wide);
  const all = await rankOf(inputs, rows, wide, signal);
  const { kind, name, slope } = form.between;
  const enough = (least: number): RankCondition => ({
    what: `inputs${bias === undefined ? "" : ", with the 1 of the biases,"} have rank ${least} at least`,
    holds: all >= least,
  });
  if (kind === "smooth")
    return {
      unitRanks: Array(units).fill(all),
      ...{ alike: [], straight: 0 },
      // In fewer dimensions units are so alike that float64 does not tell them apart.
      conditions: [enough(3)],
    };
  const z = await matrixProduct(x, weightOf(model, first), rows, dimension, units, {
    transposed: true,
    signal,
  });
  const shifts = bias === undefined ? undefined : model.parameters[bias]!.values();
  const unitRanks: number[] = [];
  const patterns: Uint8Array[] = [];
  let [dead, straight] = [0, 0];
  for (let unit = 0; unit < units; unit++) {
    const pattern = Uint8Array.from({ length: rows }, (_, i) =>
      z[i * units + unit]! + (shifts?.[unit] ?? 0) > 0 ? 1 : 0,
    );
    const on = pattern.reduce((total, value) => total + value, 0);
    if (on === 0 && slope === 0) {
      dead++;
      continue;
    }
    // On one side or the other, it is linear.
    patterns.push(on === 0 ? pattern.fill(1) : pattern);
    if (on === rows || on === 0) straight++;
    if (on === rows || slope !== 0) {
      unitRanks.push(all);
      continue;
    }
    const active = new Float64Array(on * wide);
    let at = 0;
    pattern.forEach((value, i) => {
      if (value) active.set(inputs.subarray(i * wide, (i + 1) * wide), wide * at++);
    });
    unitRanks.push(await rankOf(active, on, wide, signal));
  }
  // A sample that tells two units apart undoes two dimensions of their group, K' at most.
  const { alike, near } = groupsOf(patterns, Math.ceil(2 / curvatureRank));
  const most = Math.min(all, curvatureRank);
  const largest = Math.max(0, ...alike);
  const affine = bias !== undefined && form.layers[1].bias !== undefined;
  const mostStraight = affine ? Math.min(all - 1, curvatureRank) : most;
  const conditions: RankCondition[] = [
    {
      what:
        `at most ${most} units of ${name} bend on the same samples` +
        (largest > 1 ? `: ${largest} do` : ""),
      holds: largest <= Math.max(1, most),
    },
    {
      what:
        `at most ${mostStraight} units are linear on all samples` +
        (straight > 0 ? `: ${straight} are` : ""),
      holds: straight <= mostStraight,
    },
    { what: "no two units bend on almost the same samples", holds: !near },
    // On a line all units of a sign are multiples of one another.
    enough(bias === undefined ? 2 : 3),
  ];
  if (dead > 0)
    conditions.push({ what: `${dead} of ${units} units are dead and do not count`, holds: true });
  return { unitRanks, alike, straight, conditions };
}

/**
 * Sizes of the groups of units with the same pattern of signs, and whether two patterns differ on
 * fewer than `least` samples.
 */
function groupsOf(
  patterns: readonly Uint8Array[],
  least: number,
): { alike: number[]; near: boolean } {
  const firsts: Uint8Array[] = [];
  const alike: number[] = [];
  let near = false;
  for (const pattern of patterns) {
    let group = -1;
    for (const [at, first] of firsts.entries()) {
      let differences = 0;
      for (let i = 0; i < pattern.length; i++) if (pattern[i] !== first[i]) differences++;
      if (differences === 0) group = at;
      else if (differences < least) near = true;
    }
    if (group >= 0) alike[group]!++;
    else {
      firsts.push(pattern);
      alike.push(1);
    }
  }
  return { alike, near };
}

const MAKERS = { ggn, functional: functionalHessian, hessian };

/**
 * Ranks at random parameters, with targets that leave the residuals as they are. For a network that
 * is linear in its input, H_f depends on data through Omega alone and H_o through their span, so that
 * this is the rank at almost all parameters.
 *
 * @returns why not, where that cannot be
 */
async function genericRanks(
  model: Model,
  data: DataSet,
  { residuals, loss, form }: Facts,
  parts: readonly HessianPart[],
  { generic = true, seed = 0, threads, signal, onProgress }: RankPredictionOptions,
): Promise<Partial<Record<HessianPart, PredictedRank>> | string> {
  if (!generic) return "its rank at random parameters was not asked for";
  const { parameterCount } = model;
  if (parameterCount > GENERIC_LIMIT)
    return `its rank at random parameters is computed up to ${GENERIC_LIMIT} parameters, and it has ${parameterCount}`;
  const { targetsFor } = residuals;
  if (!targetsFor)
    return "its residuals cannot be had at other parameters (ignored labels, weights)";
  const random = new Random(seed, PLACES);
  const theta = new Float64Array(parameterCount);
  for (const { offset, size, shape, outputAxis } of model.parameters) {
    const fan = shape.length < 2 ? 1 : size / shape[outputAxis]!;
    for (let i = 0; i < size; i++) theta[offset + i] = random.normal() / Math.sqrt(fan);
  }
  using place = model.withParameters(theta);
  // In front of an activation of the loss, whose own targets must be probabilities.
  const outer = ["Softmax", "Sigmoid"].includes(form.activation) && loss.name !== "mse";
  const last = outer
    ? model.nodes.find(({ outputs }) => outputs.includes(model.output))
    : undefined;
  using moved = last ? place.withOutput(last.inputs[0]!) : undefined;
  const there = moved ?? place;
  const call = { signal, threads };
  const { values, shape } = await forward(there, data, { ...call, precision: "float64" });
  const arrays: Record<string, ArraySource> = {};
  for (const array of data.arrays)
    if (model.inputs.some(({ name }) => name === array.name) || array === data.arrays[0])
      arrays[array.name] = { data: await readArray(data, array, signal), shape: [...array.shape] };
  arrays.rank_target = { data: targetsFor(values), shape };
  using again = await loadData(arrays, { target: "rank_target", signal });
  const name: LossName =
    loss.name === "mse" ? "mse" : /^bce/.test(loss.name) ? "bce-with-logits" : "cross-entropy";
  const options = {
    loss: { name, ...(loss.classAxis !== undefined && { classAxis: loss.classAxis }) },
    precision: "float64",
    threads,
  } as const;
  const found: Partial<Record<HessianPart, PredictedRank>> = {};
  let scale: number | undefined;
  // The whole first: what is left of H_f is rounding relative to it.
  for (const part of ["hessian", "ggn", "functional"] as const) {
    if (!parts.includes(part) && !(part === "hessian" && parts.includes("functional"))) continue;
    using operator = MAKERS[part](there, again, options);
    const { rank, magnitudes } = await numericalRank(operator, {
      ...{ signal, onProgress },
      ...(part === "functional" && { scale: Math.max(scale!, Number.MIN_VALUE) }),
    });
    if (part === "hessian") scale = magnitudes[0]!;
    if (parts.includes(part))
      found[part] = { rank, method: "generic", formula: "at random parameters, same residuals" };
  }
  return found;
}
