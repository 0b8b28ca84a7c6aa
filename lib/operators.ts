/**
 * The operators: Hessian, Gauss-Newton and Fisher matrices of a network's loss over a data set, and
 * what is composed of them. None is ever formed; each gives products with vectors.
 */
import { CALL_OPTIONS, type CallOptions, run } from "./call";
import type { DataSet } from "./data/data";

import { EigenscopeError, OptionError } from "./errors";
import { Mask, type Segment } from "./masks/mask";
import { type Globs, matchGlobs } from "./model/glob";
import { checkLoss, type Loss, type LossName } from "./model/loss";
import type { Model } from "./model/model";
import {
  type Dtype,
  type NativeLoss,
  type NativeOperator,
  type NativeReport,
  type NativeRunOptions,
  native,
  type OperatorKind,
  type Respond,
  type Vectors,
} from "./native";
import { type Check, check, checkOptions, describe, typeName } from "./options";

/** What a curvature operator tells of itself. */
export type OperatorReport = NativeReport;

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

const FISHER_OPTIONS: { [K in keyof Required<FisherOptions>]: Check } = {
  ...OPERATOR_OPTIONS,
  type: check.oneOf("type-2", "mc", "empirical"),
  draws: check.positiveInteger,
  seed: check.seed,
};

/** What `restrict` takes: patterns of tensor names, a mask, one bit a coordinate, or positions. */
export type Restriction =
  | Globs
  | Mask
  | Uint8Array
  | readonly boolean[]
  | { readonly indices: ArrayLike<number> };

/**
 * A real symmetric linear map of R^dim, given by its products. Two calls on one operator queue: the
 * products of one fall between those of the other.
 *
 * It holds memory that V8 does not see: `dispose()` it, or declare it with `using`. Operators made
 * of others share their memory; disposing of one that was composed frees it until the next product,
 * disposing of an original ends what was made of it as well.
 */
export class LinearOperator {
  readonly dim: number;
  /** What `apply` takes and returns: Float32Array or Float64Array. */
  readonly dtype: Dtype;
  /** Such as "hessian" or "restriction of hessian", for messages. */
  readonly name: string;
  /** The tensors that the coordinates belong to, in order; undefined where they are none. */
  readonly parameters: readonly Segment[] | undefined;
  /** @internal */
  readonly native: NativeOperator;
  /** Positions in the model's parameters, while it acts on whole tensors of one. */
  readonly #tensors: readonly number[] | undefined;

  /** @internal */
  constructor(
    core: NativeOperator,
    name: string,
    parameters?: readonly Segment[],
    tensors?: readonly number[],
  ) {
    this.native = core;
    this.dim = core.dim;
    this.dtype = core.dtype;
    this.name = name;
    this.parameters = parameters;
    this.#tensors = tensors;
  }

  /**
   * Products with a block of K vectors, K = V.length / dim: one pass over the data, cheaper than K
   * passes. V is K x dim, row-major; it is read in place and must not be changed or transferred
   * before the promise settles.
   *
   * @returns A V of the same length and type; costs K products
   * @throws OptionError when V is of another type or length, or the operator was disposed of;
   * DataMismatchError when V, the data or the loss is not finite; AbortError
   */
  async apply(V: Vectors, options?: CallOptions): Promise<Vectors> {
    checkOptions("apply", options, CALL_OPTIONS);
    const count = this.#countOf(V);
    const result = vectors(this.dtype, V.length);
    await run((onProgress) => this.native.apply(V, result, count, onProgress), options);
    return result;
  }

  #countOf(V: Vectors): number {
    const wanted = arrayName(this.dtype);
    const came = ArrayBuffer.isView(V) ? `a ${typeName(V)}` : describe(V);
    if (!ArrayBuffer.isView(V) || typeName(V) !== wanted)
      throw new OptionError(
        `apply: V: expected a ${wanted}, as ${this.name} computes in ${this.dtype}, got ${came}` +
          (/^a Float/.test(came) ? `; convert it with ${wanted}.from(V)` : ""),
      );
    const count = V.length / this.dim;
    if (!Number.isInteger(count) || count < 1)
      throw new OptionError(
        `apply: V: expected K times ${this.dim} numbers, the dimension of ${this.name}, ` +
          `got ${V.length}`,
      );
    return count;
  }

  /** This plus another of the same dimension, precision and parameters. */
  add(other: LinearOperator): LinearOperator {
    const sum = native().sumOperators(this.native, nativeOf(other, "add"));
    return new LinearOperator(sum, `${this.name} + ${other.name}`, this.parameters);
  }

  /** `factor` times this. */
  scale(factor: number): LinearOperator {
    checkFinite("scale: factor", factor);
    const scaled = native().scaleOperator(this.native, factor);
    return new LinearOperator(scaled, `${factor} (${this.name})`, this.parameters);
  }

  /** This plus `amount` times the identity: what weight decay of `amount` adds to a Hessian. */
  shift(amount: number): LinearOperator {
    checkFinite("shift: amount", amount);
    const shifted = native().shiftOperator(this.native, amount);
    return new LinearOperator(shifted, `${this.name} + ${amount} I`, this.parameters);
  }

  /**
   * The compressed operator: rows and columns of the chosen coordinates only, in their order. Whole
   * tensors of a model cost less than the full product; other choices cost a full product.
   *
   * @param choice patterns of tensor names, a Mask, one bit a coordinate, or `{ indices }`
   * @throws OptionError when nothing matches or lengths differ
   */
  restrict(choice: Restriction): LinearOperator {
    const name = `restriction of ${this.name}`;
    if (isGlobs(choice)) {
      const segments = this.#segments();
      const matched = matchGlobs(
        segments.map((segment) => segment.name),
        choice,
        "restrict",
      );
      const chosen = [...segments.keys()].filter((i) => matched[i]);
      const kept = packed(chosen.map((i) => segments[i]!));
      if (this.#tensors) {
        const tensors = chosen.map((i) => this.#tensors![i]!);
        return new LinearOperator(this.native.restrictTensors(tensors), name, kept, tensors);
      }
      const bits = this.#bits(choice);
      return new LinearOperator(native().restrictOperator(this.native, bits), name, kept);
    }
    const bits = this.#bits(choice);
    const kept = this.parameters?.map((segment) => ({
      ...segment,
      size: bits
        .subarray(segment.offset, segment.offset + segment.size)
        .reduce((sum, bit) => sum + bit, 0),
    }));
    const part = native().restrictOperator(this.native, bits);
    return new LinearOperator(part, name, kept && packed(kept.filter(({ size }) => size > 0)));
  }

  /**
   * P A P in the full dimension, where P zeroes the coordinates that are not chosen.
   *
   * @throws OptionError when nothing matches or lengths differ
   */
  project(choice: Restriction): LinearOperator {
    const projected = native().projectOperator(this.native, this.#bits(choice));
    return new LinearOperator(projected, `projection of ${this.name}`, this.parameters);
  }

  #segments(): readonly Segment[] {
    if (!this.parameters)
      throw new OptionError(
        `${this.name} has no named parameters; choose coordinates by a mask instead`,
      );
    return this.parameters;
  }

  #bits(choice: Restriction): Uint8Array {
    if (isGlobs(choice)) {
      const segments = this.#segments();
      const names = segments.map((segment) => segment.name);
      const bits = new Uint8Array(this.dim);
      matchGlobs(names, choice, "restrict").forEach((matches, i) => {
        const { offset, size } = segments[i]!;
        if (matches) bits.fill(1, offset, offset + size);
      });
      return bits;
    }
    if (choice instanceof Mask) return this.#checkedBits(choice.bits);
    if (Array.isArray(choice) || typeName(choice) === "Uint8Array")
      return this.#checkedBits(
        Uint8Array.from(choice as ArrayLike<number>, (bit) => (bit ? 1 : 0)),
      );
    const indices = (choice as { indices?: ArrayLike<number> } | undefined)?.indices;
    if (typeof indices?.length !== "number")
      throw new OptionError(
        "restrict: expected patterns of names, a Mask, one boolean a coordinate, or { indices }, " +
          `got ${describe(choice)}`,
      );
    const bits = new Uint8Array(this.dim);
    for (const index of Array.from(indices)) {
      if (!Number.isInteger(index) || index < 0 || index >= this.dim)
        throw new OptionError(
          `restrict: expected indices from 0 to ${this.dim - 1}, got ${describe(index)}`,
        );
      bits[index] = 1;
    }
    return bits;
  }

  #checkedBits(bits: Uint8Array): Uint8Array {
    if (bits.length !== this.dim)
      throw new OptionError(
        `restrict: expected a mask of ${this.dim} entries, the dimension of ${this.name}, ` +
          `got ${bits.length}`,
      );
    return bits;
  }

  /**
   * What the curvature operators in it tell of themselves, one entry each: where the Gauss-Newton
   * split lies, micro-batches, memory, warnings. Compiles those that were not used yet.
   */
  report(options?: CallOptions): Promise<OperatorReport[]> {
    checkOptions("report", options, CALL_OPTIONS);
    return run(() => this.native.report(), options);
  }

  /** The compiled programs, as text. */
  plan(options?: CallOptions): Promise<string> {
    checkOptions("plan", options, CALL_OPTIONS);
    return run(() => this.native.plan(), options);
  }

  /**
   * Frees what the operator holds. Calls under way finish first; new ones throw an OptionError.
   */
  dispose(): void {
    this.native.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function isGlobs(choice: Restriction): choice is Globs {
  return (
    typeof choice === "string" ||
    (Array.isArray(choice) && choice.length > 0 && typeof choice[0] === "string")
  );
}

/** The segments one after the other. */
function packed(segments: readonly Segment[]): Segment[] {
  let offset = 0;
  return segments.map(({ name, size }) => {
    offset += size;
    return { name, offset: offset - size, size };
  });
}

function checkFinite(where: string, value: unknown): void {
  if (typeof value !== "number" || !Number.isFinite(value))
    throw new OptionError(`${where}: expected a finite number, got ${describe(value)}`);
}

function nativeOf(operator: LinearOperator, where: string): NativeOperator {
  if (!(operator instanceof LinearOperator))
    throw new OptionError(`${where}: expected an operator, got ${describe(operator)}`);
  return operator.native;
}

/** "Float64Array" for "float64". */
export function arrayName(dtype: Dtype): "Float32Array" | "Float64Array" {
  return dtype === "float32" ? "Float32Array" : "Float64Array";
}

/** @internal Room for `length` numbers of an operator. */
export function vectors(dtype: Dtype, length: number): Vectors {
  return dtype === "float32" ? new Float32Array(length) : new Float64Array(length);
}

/**
 * @internal The loss that operators of the model use.
 *
 * @throws OptionError when neither the call nor the model names one
 */
export function lossOf(where: string, model: Model, loss: LossName | Loss | undefined): NativeLoss {
  const chosen = loss === undefined ? model.loss : checkLoss(loss);
  if (!chosen)
    throw new OptionError(
      `${where}: expected a loss, of the model or of the operator: ` +
        'loadModel(file, { loss: "cross-entropy" })',
    );
  const { beta, ...native } = chosen;
  return { ...native, delta: chosen.delta ?? beta };
}

function checkSubject(where: string, model: Model, data: DataSet): void {
  if (typeof model?.requireSupported !== "function")
    throw new OptionError(`${where}: expected a model of loadModel, got ${describe(model)}`);
  if (data?.native === undefined)
    throw new OptionError(`${where}: expected data of loadData, got ${describe(data)}`);
  model.requireSupported();
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
  const names = model.parameters.map((parameter) => parameter.name);
  const included = params ? matchGlobs(names, params, "params") : names.map(() => true);
  const excluded = exclude ? matchGlobs(names, exclude, "exclude") : [];
  const tensors = [...names.keys()].filter((i) => included[i] && !excluded[i]);
  if (tensors.length === 0)
    throw new OptionError(
      names.length === 0
        ? `${name}: expected a model with parameters, and ${model.source} has none`
        : `${name}: expected at least one parameter, and params and exclude leave none`,
    );
  const core = native().curvatureOperator(model.native, data.native, lossOf(name, model, loss), {
    ...rest,
    kind,
    tensors: tensors.length === names.length ? undefined : tensors,
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

const EVALUATE_OPTIONS: { [K in keyof Required<EvaluateOptions>]: Check } = {
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

/**
 * Computes the products of an operator with a block of `count` vectors, count x dim, row-major. The
 * block is a copy, and may be changed and returned.
 */
export type Apply = (block: Vectors, count: number) => Vectors | PromiseLike<Vectors>;

export interface LinearOperatorOptions {
  /** What `apply` gets and must return. Default "float64". */
  dtype?: Dtype | undefined;
  /** For messages. */
  name?: string | undefined;
}

const LINEAR_OPERATOR_OPTIONS: { [K in keyof Required<LinearOperatorOptions>]: Check } = {
  dtype: check.oneOf("float32", "float64"),
  name: { expected: "a string", fits: (value) => typeof value === "string" },
};

/**
 * An operator whose products a function computes; it works in every solver and composition. The
 * function runs on the JavaScript thread, the solver waits on its own. Solvers assume that it is
 * linear and symmetric. What it throws, or a promise of it rejects with, rejects the call
 * unchanged.
 *
 * @param apply may be async
 * @throws OptionError; calls reject with an OptionError or a DataMismatchError where the result is
 * of another type or length, or not finite
 */
export function linearOperator(
  dim: number,
  apply: Apply,
  options?: LinearOperatorOptions,
): LinearOperator {
  const checked = checkOptions("linearOperator", options, LINEAR_OPERATOR_OPTIONS);
  const { dtype = "float64", name = "linearOperator" } = checked;
  if (!Number.isSafeInteger(dim) || dim < 1)
    throw new OptionError(
      `linearOperator: dim: expected ${check.positiveInteger.expected}, got ${describe(dim)}`,
    );
  if (typeof apply !== "function")
    throw new OptionError(`linearOperator: apply: expected a function, got ${describe(apply)}`);
  return new LinearOperator(native().functionOperator(dim, dtype, responder(apply, dtype)), name);
}

function responder(apply: Apply, dtype: Dtype): Respond {
  return (block, count, answer) => {
    const fail = (error: unknown) => answer(asError(error));
    const give = (result: unknown) => {
      const wanted = arrayName(dtype);
      if (typeName(result) !== wanted)
        fail(
          new OptionError(
            `linearOperator: expected apply to return a ${wanted}, got ${describe(result)}`,
          ),
        );
      else if ((result as Vectors).length !== block.length)
        fail(
          new OptionError(
            `linearOperator: expected apply to return ${block.length} numbers, ${count} vectors ` +
              `of ${block.length / count}, got ${(result as Vectors).length}`,
          ),
        );
      else answer(undefined, result as Vectors);
    };
    try {
      const result = apply(block, count);
      if (typeof (result as PromiseLike<Vectors>)?.then === "function")
        (result as PromiseLike<Vectors>).then(give, fail);
      else give(result);
    } catch (error) {
      fail(error);
    }
  };
}

/** Errors of any realm as they are; what else was thrown as the cause of one. */
function asError(error: unknown): Error {
  const isError = error instanceof Error || typeName(error) === "Error";
  return isError
    ? (error as Error)
    : new EigenscopeError("Internal", `linearOperator: apply threw ${describe(error)}`, {
        cause: error,
      });
}
