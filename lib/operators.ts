/**
 * The Hessian, Gauss-Newton and Fisher matrices of a network's loss over a data set as operators,
 * and the loss itself with its gradient. No matrix is ever formed.
 */
import { CALL_OPTIONS, type CallOptions, run } from "./call";
import type { DataSet } from "./data/data";
import { OptionError } from "./errors";
import { LinearOperator, type OperatorReport, packed } from "./linear-operator";
import { type Globs, matchGlobs } from "./model/glob";
import { checkLoss, type Loss, type LossName } from "./model/loss";
import type { Model } from "./model/model";
import {
  type Dtype,
  type NativeLoss,
  type NativeRunOptions,
  native,
  type OperatorKind,
} from "./native";
import { type Check, check, checkOptions, describe } from "./options";

/** How products are computed; none of it changes what is computed, but for rounding. */
export interface RunOptions {
  /**
   * What products are computed in and vectors are stored in. "float32" (default) sums over the data
   * set in float64 and agrees with exact products to about 1e-6; "float64" to about 1e-14.
   */
  precision?: Dtype | undefined;
  /** Default: all cores. Results are bit-identical for any number. */
  threads?: number | undefined;
  /** Samples a micro-batch. Default: chosen from model, shapes and precision. */
  batch?: number | undefined;
  /** Bytes of working memory. Default: what is available. */
  maxMemory?: number | undefined;
  /**
   * Keep the linearisation of as many micro-batches as memory allows from one product to the next
   * (default true). It saves two of eight matrix products a layer; without it a product needs the
   * memory of one micro-batch a thread.
   */
  keepLinearisation?: boolean | undefined;
}

export interface OperatorOptions extends RunOptions {
  /** The loss. Default: the model's, see `loadModel`. */
  loss?: LossName | Loss | undefined;
  /** Only these tensors of the model, by patterns of their names. Default: all parameters. */
  params?: Globs | undefined;
  /** Taken away from those. */
  exclude?: Globs | undefined;
}

export interface FisherOptions extends OperatorOptions {
  /**
   * "type-2": the exact expectation over the model's own distribution, for likelihood losses equal
   * to the Gauss-Newton matrix. "mc": the same with `draws` sampled targets a sample; its mean is
   * type-2. "empirical": (1/N) sum of g g^T over the gradients at the given targets, not centred.
   */
  type: "type-2" | "mc" | "empirical";
  /** mc: targets drawn a sample. Default 1. */
  draws?: number | undefined;
  /** mc: draws are keyed by seed, sample and draw. Default 0. */
  seed?: number | bigint | undefined;
}

const RUN_OPTIONS: { [K in keyof Required<RunOptions>]: Check } = {
  precision: check.oneOf("float32", "float64"),
  threads: check.positiveInteger,
  batch: check.positiveInteger,
  maxMemory: check.positiveInteger,
  keepLinearisation: check.boolean,
};

const globs: Check = {
  expected: "a pattern of names or an array of them",
  fits: (value) =>
    typeof value === "string" ||
    (Array.isArray(value) && value.every((pattern) => typeof pattern === "string")),
};

const OPERATOR_OPTIONS: { [K in keyof Required<OperatorOptions>]: Check } = {
  ...RUN_OPTIONS,
  loss: check.anything, // checkLoss does it
  params: globs,
  exclude: globs,
};

/** @internal The checks of FisherOptions. */
export const FISHER_OPTIONS: { [K in keyof Required<FisherOptions>]: Check } = {
  ...OPERATOR_OPTIONS,
  type: check.oneOf("type-2", "mc", "empirical"),
  draws: check.positiveInteger,
  seed: check.seed,
};

/**
 * @internal The loss of a call, or else of the model.
 *
 * @throws OptionError when neither the call nor the model names one
 */
export function requireLoss(where: string, model: Model, loss: LossName | Loss | undefined): Loss {
  const chosen = loss === undefined ? model.loss : checkLoss(loss);
  if (!chosen)
    throw new OptionError(
      `${where}: expected a loss, of the model or of the operator: ` +
        'loadModel(file, { loss: "cross-entropy" })',
    );
  return chosen;
}

/** @internal The same as the core takes it. */
export function lossOf(where: string, model: Model, loss: LossName | Loss | undefined): NativeLoss {
  const { beta, ...native } = requireLoss(where, model, loss);
  return { ...native, delta: native.delta ?? beta };
}

/** @internal */
export function checkSubject(where: string, model: Model, data: DataSet): void {
  if (typeof model?.requireSupported !== "function")
    throw new OptionError(`${where}: expected a model of loadModel, got ${describe(model)}`);
  if (data?.native === undefined)
    throw new OptionError(`${where}: expected data of loadData, got ${describe(data)}`);
  model.requireSupported();
}

/**
 * @internal Positions of the tensors that an operator acts on.
 *
 * @throws OptionError when none is left
 */
export function chosenTensors(
  where: string,
  model: Model,
  { params, exclude }: Pick<OperatorOptions, "params" | "exclude">,
): number[] {
  const names = model.parameters.map((parameter) => parameter.name);
  const included = params ? matchGlobs(names, params, "params") : names.map(() => true);
  const excluded = exclude ? matchGlobs(names, exclude, "exclude") : [];
  const tensors = [...names.keys()].filter((i) => included[i] && !excluded[i]);
  if (tensors.length === 0)
    throw new OptionError(
      names.length === 0
        ? `${where}: expected a model with parameters, and ${model.source} has none`
        : `${where}: expected at least one parameter, and params and exclude leave none`,
    );
  return tensors;
}

function curvature(
  name: string,
  kind: OperatorKind,
  model: Model,
  data: DataSet,
  options: OperatorOptions & Pick<FisherOptions, "draws" | "seed">,
): LinearOperator {
  checkSubject(name, model, data);
  const { loss, params, exclude, ...rest } = options;
  const tensors = chosenTensors(name, model, { params, exclude });
  const core = native().curvatureOperator(model.native, data.native, lossOf(name, model, loss), {
    ...rest,
    kind,
    tensors: tensors.length === model.parameters.length ? undefined : tensors,
  });
  return new LinearOperator(core, name, packed(tensors.map((i) => model.parameters[i]!)), tensors);
}

/**
 * The Hessian of the loss, over all parameters of the model in their order. Compiled on its first
 * product; a product costs about 6 forward passes, in a solver.
 *
 * @throws OptionError, UnsupportedOperatorError, DataMismatchError when model, data and loss do not
 * fit; what only the data show comes with the first product
 */
export function hessian(model: Model, data: DataSet, options?: OperatorOptions): LinearOperator {
  const checked = checkOptions("hessian", options, OPERATOR_OPTIONS);
  return curvature("hessian", "hessian", model, data, checked);
}

/**
 * The generalised Gauss-Newton matrix J^T H_l J: positive semi-definite for convex losses. `report`
 * says where the network is split from the loss. A product costs about 4 forward passes. Throws as
 * `hessian`, and OptionError where the matrix is zero or undefined for the loss.
 */
export function ggn(model: Model, data: DataSet, options?: OperatorOptions): LinearOperator {
  const checked = checkOptions("ggn", options, OPERATOR_OPTIONS);
  return curvature("ggn", "ggn", model, data, checked);
}

/** @internal An operator that stands for network, data and loss: what asks for the Jacobian. */
export function jacobianHolder(
  where: string,
  model: Model,
  data: DataSet,
  options: OperatorOptions,
): LinearOperator {
  return curvature(where, "hessian", model, data, checkOptions(where, options, OPERATOR_OPTIONS));
}

/**
 * The rest of the Hessian, H - J^T H_l J, computed directly and not as a difference: the curvature
 * of the network itself, weighted by the derivative of the loss. Costs and throws as `hessian`.
 */
export function functionalHessian(
  model: Model,
  data: DataSet,
  options?: OperatorOptions,
): LinearOperator {
  const checked = checkOptions("functionalHessian", options, OPERATOR_OPTIONS);
  return curvature("functionalHessian", "functional", model, data, checked);
}

/**
 * A Fisher information matrix; see FisherOptions for the types and docs/conventions.md for the
 * normalisations. Costs and throws as `ggn`; type-2 and mc need a loss that is a likelihood.
 */
export function fisher(model: Model, data: DataSet, options: FisherOptions): LinearOperator {
  const { type, ...rest } = checkOptions("fisher", options, FISHER_OPTIONS);
  if (type === undefined)
    throw new OptionError(`fisher: type: expected ${FISHER_OPTIONS.type.expected}, got undefined`);
  if (type !== "mc" && (rest.draws !== undefined || rest.seed !== undefined))
    throw new OptionError(`fisher: draws and seed belong to type "mc", got type "${type}"`);
  const kind = {
    "type-2": "fisher-type2",
    mc: "fisher-mc",
    empirical: "fisher-empirical",
  } as const;
  return curvature(`fisher (${type})`, kind[type], model, data, rest);
}

/** What `loss`, `gradient` and `forward` take. */
export interface EvaluateOptions extends RunOptions, CallOptions {
  /** The loss. Default: the model's. */
  loss?: LossName | Loss | undefined;
}

/** @internal */
export const EVALUATE_OPTIONS: { [K in keyof Required<EvaluateOptions>]: Check } = {
  ...RUN_OPTIONS,
  ...CALL_OPTIONS,
  loss: check.anything,
};

function runOptions(options: RunOptions): NativeRunOptions {
  const { precision, threads, batch, maxMemory, keepLinearisation } = options;
  return { precision, threads, batch, maxMemory, keepLinearisation };
}

/**
 * The loss over the data set. Costs a forward pass. Throws as `hessian`; AbortError.
 */
export async function loss(
  model: Model,
  data: DataSet,
  options?: EvaluateOptions,
): Promise<number> {
  const checked = checkOptions("loss", options, EVALUATE_OPTIONS);
  checkSubject("loss", model, data);
  const spec = lossOf("loss", model, checked.loss);
  const { loss: value } = await run(
    (onProgress) =>
      native().evaluateRisk(
        model.native,
        data.native,
        spec,
        runOptions(checked),
        undefined,
        onProgress,
      ),
    checked,
  );
  return value;
}

export interface Gradient {
  loss: number;
  /** Over all parameters of the model, in float64 whatever the precision. */
  gradient: Float64Array;
  /** Its Euclidean norm. */
  norm: number;
  report: OperatorReport;
}

/**
 * The loss and its gradient over the data set. Costs about 3 forward passes. Throws as `hessian`;
 * AbortError.
 */
export async function gradient(
  model: Model,
  data: DataSet,
  options?: EvaluateOptions,
): Promise<Gradient> {
  const checked = checkOptions("gradient", options, EVALUATE_OPTIONS);
  checkSubject("gradient", model, data);
  const spec = lossOf("gradient", model, checked.loss);
  const gradient = new Float64Array(model.parameterCount);
  const result = await run(
    (onProgress) =>
      native().evaluateRisk(
        model.native,
        data.native,
        spec,
        runOptions(checked),
        gradient,
        onProgress,
      ),
    checked,
  );
  return { loss: result.loss, gradient, norm: result.gradientNorm, report: result.report };
}

export interface ForwardOptions extends RunOptions, CallOptions {
  /** The first so many. Default: all. */
  samples?: number | undefined;
}

const FORWARD_OPTIONS: { [K in keyof Required<ForwardOptions>]: Check } = {
  ...RUN_OPTIONS,
  ...CALL_OPTIONS,
  samples: check.positiveInteger,
};

/**
 * The network's output for the samples, row-major, in float64 whatever the precision. Targets are
 * not needed. Throws as `hessian`; AbortError.
 */
export function forward(
  model: Model,
  data: DataSet,
  options?: ForwardOptions,
): Promise<{ values: Float64Array; shape: number[] }> {
  const checked = checkOptions("forward", options, FORWARD_OPTIONS);
  checkSubject("forward", model, data);
  return run(
    (onProgress) =>
      native().evaluateForward(
        model.native,
        data.native,
        runOptions(checked),
        checked.samples,
        onProgress,
      ),
    checked,
  );
}
