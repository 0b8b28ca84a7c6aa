/** Masks of a model by any criterion, with what the criterion needs computed. */
import { CALL_OPTIONS, type CallOptions, run } from "../call";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import { blockDiagonal, exactDiagonal } from "../exact";
import { type Checkpoint, parametersOf, parameterVector } from "../landscape/directions";
import { LinearOperator } from "../linear-operator";
import type { Model } from "../model/model";
import { native } from "../native";
import {
  checkSubject,
  EVALUATE_OPTIONS,
  type EvaluateOptions,
  ggn,
  gradient,
  lossOf,
} from "../operators";
import { type Check, check, checkOptions, describe, nearest, typeName } from "../options";
import { Random } from "../random";
import { eigsh } from "../spectra";
import { rowsOf, type VectorSet } from "../subspaces/orthonormal";
import { inverseDiagonalOf } from "./blocks";
import { CRITERIA, type Criterion, type Ingredient, type Ingredients, TABLE } from "./criteria";
import { KEEP_OPTIONS, type KeepOptions, keepBy } from "./keep";
import type { Mask } from "./mask";

/** What criteria may need. */
export interface ScoreOptions extends EvaluateOptions {
  /** The parameters that training began with: a model, or all of them one after the other. */
  initial?: Checkpoint | undefined;
  /** What gradients and curvature are of. */
  data?: DataSet | undefined;
  /** Of the loss at the model, where it is known. Default: computed from data. */
  gradient?: Float64Array | Float32Array | undefined;
  /** Of the loss at the initial weights. Default: computed from data. */
  initialGradient?: Float64Array | Float32Array | undefined;
  /**
   * Whose diagonal, blocks and eigenvectors count, over all parameters of the model. Default: the
   * Gauss-Newton matrix of model, data and loss.
   */
  curvature?: LinearOperator | undefined;
  /** Of the curvature, where it is known. Default: exactDiagonal. */
  diagonal?: Float64Array | Float32Array | undefined;
  /** Eigenvectors with their values, where they are known. Default: the k leading of the curvature. */
  vectors?: (VectorSet & { readonly values?: ArrayLike<number> }) | undefined;
  /** How many eigenvectors are computed. Default 10. */
  k?: number | undefined;
  /** obs: entries a diagonal block of the curvature; consecutive ones of a tensor. Default 64. */
  blockSize?: number | undefined;
  /**
   * obs: what is added to the diagonal of each block, as a share of the mean of the whole diagonal.
   * Default 1e-3.
   */
  damping?: number | undefined;
  /** random: default 0. */
  seed?: number | bigint | undefined;
}

const floats: Check = {
  expected: "a Float64Array",
  fits: (value) => /^Float(32|64)Array$/.test(typeName(value)),
};

/** @internal */
export const SCORE_OPTIONS: { [K in keyof Required<ScoreOptions>]: Check } = {
  ...EVALUATE_OPTIONS,
  ...CALL_OPTIONS,
  initial: check.anything, // parametersOf does it
  data: check.anything,
  gradient: floats,
  initialGradient: floats,
  curvature: { expected: "an operator", fits: (value) => value instanceof LinearOperator },
  diagonal: floats,
  vectors: check.anything, // rowsOf does it
  k: check.positiveInteger,
  blockSize: check.positiveInteger,
  damping: check.notNegative,
  seed: check.seed,
};

export interface MaskOptions extends KeepOptions, ScoreOptions {
  /** What makes a weight worth keeping: a name of CRITERIA, or a score for each parameter. */
  criterion: Criterion | ArrayLike<number>;
}

const MASK_OPTIONS: { [K in keyof Required<MaskOptions>]: Check } = {
  ...KEEP_OPTIONS,
  ...SCORE_OPTIONS,
  criterion: check.anything, // rowOf does it
};

/** @internal @throws OptionError */
export function requireCriterion(where: string, name: unknown): Criterion {
  if (typeof name === "string" && Object.hasOwn(TABLE, name)) return name as Criterion;
  const meant = typeof name === "string" ? nearest(name, CRITERIA) : undefined;
  throw new OptionError(
    `${where}: criterion: expected one of ${CRITERIA.join(", ")}, got ${describe(name)}` +
      (meant ? `; "${meant}" was probably meant` : ""),
  );
}

/** Options by what they are about. */
function parted<T extends ScoreOptions>(options: T): { scores: ScoreOptions; rest: KeepOptions } {
  const scores: Record<string, unknown> = {};
  const rest: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options))
    (Object.hasOwn(SCORE_OPTIONS, name) ? scores : rest)[name] = value;
  return { scores, rest };
}

/** What masks of several criteria share, computed when it is first needed, and once. */
export class Gatherer {
  readonly #model: Model;
  readonly #options: ScoreOptions;
  readonly #where: string;
  readonly #found: Partial<Ingredients> = {};
  #ggn: LinearOperator | undefined;

  constructor(where: string, model: Model, options: ScoreOptions) {
    if (typeof model?.requireSupported !== "function")
      throw new OptionError(`${where}: expected a model of loadModel, got ${describe(model)}`);
    this.#where = where;
    this.#model = model;
    this.#options = options;
  }

  /** One score a parameter. */
  async scores(criterion: Criterion): Promise<Float64Array> {
    const { needs, score } = TABLE[criterion];
    // Random numbers begin anew, so that masks do not depend on which others were made.
    const random = new Random(this.#options.seed ?? 0, CRITERIA_STREAM);
    for (const need of needs)
      if (need !== "random" && this.#found[need] === undefined) await this.#gather(need, criterion);
    const tensors = this.#model.parameters;
    const of = score({ ...this.#found, random, tensors } as Ingredients);
    const found = new Float64Array(this.#model.parameterCount);
    for (let i = 0; i < found.length; i++) found[i] = of(i);
    return found;
  }

  async #gather(need: Exclude<Ingredient, "random">, criterion: Criterion): Promise<void> {
    const found = this.#found;
    const { initial, data, gradient: given, initialGradient, diagonal, vectors } = this.#options;
    const missing = (option: string): never => {
      throw new OptionError(`${this.#where}: ${criterion}: needs the option ${option}`);
    };
    if (need === "final") found.final = parameterVector(this.#model);
    else if (need === "initial")
      found.initial =
        initial === undefined
          ? missing("initial, the parameters that training began with")
          : parametersOf(`${this.#where}: initial`, this.#model, initial);
    else if (need === "gradient")
      found.gradient = given
        ? this.#sized("gradient", given)
        : (await gradient(this.#model, data ?? missing("data, or gradient"), this.#run())).gradient;
    else if (need === "initialGradient")
      found.initialGradient = initialGradient
        ? this.#sized("initialGradient", initialGradient)
        : await this.#gradientAtStart(data ?? missing("data, or initialGradient"), found.initial!);
    else if (need === "diagonal")
      found.diagonal = diagonal
        ? this.#sized("diagonal", diagonal)
        : (await exactDiagonal(this.#curvature(missing), this.#call())).diagonal;
    else if (need === "inverseDiagonal") {
      const { blockSize = 64, damping = 1e-3 } = this.#options;
      const blocks = blocksOf(this.#model, blockSize);
      const matrices = await blockDiagonal(this.#curvature(missing), { blocks, ...this.#call() });
      found.inverseDiagonal = inverseDiagonalOf(this.#where, matrices, damping);
    } else {
      await this.#eigenvectors(vectors, missing);
      if (need === "values" && !found.values) missing("vectors with their values");
    }
  }

  async #eigenvectors(
    given: ScoreOptions["vectors"],
    missing: (option: string) => never,
  ): Promise<void> {
    let pairs = given;
    if (!pairs) {
      const { k = 10, seed = 0 } = this.#options;
      const curvature = this.#curvature(missing);
      const top = await eigsh(curvature, { k: Math.min(k, curvature.dim), seed, ...this.#call() });
      if (!top.converged)
        throw new OptionError(`${this.#where}: the eigenvectors did not converge: ${top.reason}`);
      pairs = top;
    }
    const rows = rowsOf(this.#where, "vectors", pairs);
    if (pairs.dim !== this.#model.parameterCount)
      throw new OptionError(
        `${this.#where}: vectors: expected ${this.#model.parameterCount} numbers each, one a ` +
          `parameter, got ${pairs.dim}`,
      );
    this.#found.vectors = rows;
    if (pairs.values) this.#found.values = Float64Array.from(pairs.values);
    if ((this.#found.values?.length ?? rows.length) !== rows.length)
      throw new OptionError(
        `${this.#where}: vectors: expected ${rows.length} values, one a vector, got ` +
          `${this.#found.values!.length}`,
      );
  }

  #curvature(missing: (option: string) => never): LinearOperator {
    const { curvature, data } = this.#options;
    if (curvature) {
      if (curvature.dim !== this.#model.parameterCount)
        throw new OptionError(
          `${this.#where}: curvature: expected an operator over all ` +
            `${this.#model.parameterCount} parameters, got ${curvature.name} of ${curvature.dim}`,
        );
      return curvature;
    }
    const { loss, precision, threads, batch, maxMemory, keepLinearisation } = this.#options;
    const run = { loss, precision, threads, batch, maxMemory, keepLinearisation };
    this.#ggn ??= ggn(this.#model, data ?? missing("data, or curvature"), run);
    return this.#ggn;
  }

  async #gradientAtStart(data: DataSet, initial: Float64Array): Promise<Float64Array> {
    const model = this.#model;
    checkSubject(this.#where, model, data);
    const { precision, threads, batch, maxMemory, loss } = this.#options;
    const there = parameterVector(model);
    const direction = initial.map((value, i) => value - there[i]!);
    const found = new Float64Array(model.parameterCount);
    await run(
      (onProgress) =>
        native().evaluateRisk(
          model.native,
          data.native,
          lossOf(this.#where, model, loss),
          { precision, threads, batch, maxMemory, direction, step: 1 },
          found,
          onProgress,
        ),
      this.#call(),
    );
    return found;
  }

  #sized(option: string, values: ArrayLike<number>): Float64Array {
    const { parameterCount } = this.#model;
    if (values.length !== parameterCount)
      throw new OptionError(
        `${this.#where}: ${option}: expected ${parameterCount} numbers, one a parameter, got ` +
          `${values.length}`,
      );
    return Float64Array.from(values);
  }

  #run(): EvaluateOptions {
    const { loss, precision, threads, batch, maxMemory, keepLinearisation } = this.#options;
    return { loss, precision, threads, batch, maxMemory, keepLinearisation, ...this.#call() };
  }

  #call(): CallOptions {
    const { signal, onProgress } = this.#options;
    return { signal, onProgress };
  }

  dispose(): void {
    this.#ggn?.dispose();
    this.#ggn = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Streams of one seed. */
const CRITERIA_STREAM = 4;

/** Runs of at most `length` entries of each tensor. */
function blocksOf(model: Model, length: number) {
  return model.parameters.flatMap(({ name, offset, size }) =>
    Array.from({ length: Math.ceil(size / length) }, (_, b) => ({
      name,
      indices: Int32Array.from(
        { length: Math.min(length, size - b * length) },
        (_, i) => offset + b * length + i,
      ),
    })),
  );
}

/**
 * The scores of all parameters by a criterion; those of largest score are the ones to keep.
 *
 * Costs nothing for criteria of weights alone; a gradient for snip and taylor; C backward passes a
 * sample for obd, fisher (`exactDiagonal`) and obs (`blockDiagonal`, and 8 blockSize bytes a
 * parameter); the products of `eigsh` for eigenvectors.
 *
 * @throws OptionError, where the criterion needs an option that is missing as well; what gradients
 * and operators throw
 */
export async function weightScores(
  model: Model,
  criterion: Criterion,
  options?: ScoreOptions,
): Promise<Float64Array> {
  const checked = checkOptions("weightScores", options, SCORE_OPTIONS);
  using gatherer = new Gatherer("weightScores", model, checked);
  return await gatherer.scores(requireCriterion("weightScores", criterion));
}

/**
 * The mask of a model's sub-network by a criterion: of weights, changes, gradients or curvature; see
 * CRITERIA and docs/methods.md for their formulas. Biases and the parameters of normalisations are
 * kept. Ties go to the smaller index, so that the same options give the same mask. Costs as
 * `weightScores`.
 *
 * ```ts
 * const ticket = await mask(trained, { criterion: "movement", initial: untrained, keep: 0.1 });
 * const fisherOf = fisher(trained, data, { type: "type-2" }).restrict(ticket);
 * ```
 *
 * @throws OptionError; DataMismatchError where a score is NaN; as `weightScores`
 */
export async function mask(model: Model, options: MaskOptions): Promise<Mask> {
  const { criterion, ...rest } = checkOptions("mask", options, MASK_OPTIONS);
  const { scores, rest: keep } = parted(rest);
  using gatherer = new Gatherer("mask", model, scores);
  if (typeof criterion === "object" && typeof criterion?.length === "number")
    return keepBy("mask", model.parameters, criterion, { name: "scores", ...keep });
  const name = requireCriterion("mask", criterion);
  return keepBy("mask", model.parameters, await gatherer.scores(name), { name, ...keep });
}

/**
 * Masks by several criteria, named after them; what they share is computed once. Throws as `mask`.
 */
export async function masks(
  model: Model,
  criteria: readonly Criterion[],
  options: Omit<MaskOptions, "criterion" | "name">,
): Promise<Mask[]> {
  const { scores, rest } = parted(checkOptions("masks", options, MASK_OPTIONS));
  if (!Array.isArray(criteria) || criteria.length === 0)
    throw new OptionError(`masks: expected an array of criteria, got ${describe(criteria)}`);
  const names = criteria.map((name) => requireCriterion("masks", name));
  using gatherer = new Gatherer("masks", model, scores);
  const found: Mask[] = [];
  for (const name of names)
    found.push(keepBy("masks", model.parameters, await gatherer.scores(name), { ...rest, name }));
  return found;
}
