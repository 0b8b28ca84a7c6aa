/** Loss and accuracy of a network at many places of its parameters. */
import { accuracyOf, hasAccuracy } from "./accuracy";
import { CALL_OPTIONS, type CallOptions, run } from "./call";
import type { DataSet } from "./data/data";
import { DataMismatchError, OptionError } from "./errors";
import { type Checkpoint, parametersOf, parameterVector } from "./landscape/directions";
import { lossAt } from "./landscape/loss-at";
import type { LinearOperator } from "./linear-operator";
import { checkLoss, type Loss, type LossName } from "./model/loss";
import type { Model } from "./model/model";
import { checkSubject, EVALUATE_OPTIONS, jacobianHolder, type RunOptions } from "./operators";
import { type Check, checkOptions } from "./options";

export interface EvaluatorOptions extends RunOptions {
  /** The loss. Default: the model's. */
  loss?: LossName | Loss | undefined;
  /** What the target array is called, as it was to `loadData`. Default "y". */
  target?: string | undefined;
}

const { signal: _, onProgress: __, ...LASTING_OPTIONS } = EVALUATE_OPTIONS;

const OPTIONS: { [K in keyof Required<EvaluatorOptions>]: Check } = {
  ...LASTING_OPTIONS,
  target: { expected: "a name", fits: (value) => typeof value === "string" && value !== "" },
};

/** How good a network is on a data set. */
export interface Evaluation {
  /** NaN where it is not finite. */
  readonly loss: number;
  /** The share of right predictions; undefined for losses of regression. */
  readonly accuracy: number | undefined;
}

/** A network on a data set, compiled once. Made by `evaluator`. */
export class Evaluator {
  readonly model: Model;
  readonly #holder: LinearOperator;
  readonly #data: DataSet;
  readonly #loss: Loss;
  readonly #target: string;
  readonly #here: Float64Array;
  #targets: Float64Array | undefined;

  /** @internal */
  constructor(
    model: Model,
    data: DataSet,
    loss: Loss,
    { target = "y", ...options }: EvaluatorOptions,
  ) {
    this.model = model;
    this.#data = data;
    this.#loss = loss;
    this.#target = target;
    this.#holder = jacobianHolder("evaluator", model, data, options);
    this.#here = parameterVector(model);
    const exists = data.arrays.some(({ name }) => name === target);
    if (hasAccuracy(loss) && !exists)
      throw new DataMismatchError(
        `evaluator: expected an array "${target}" of targets, got ${data}; name it by the option ` +
          "target",
      );
  }

  /**
   * Loss and accuracy at given parameters. They are taken in float64, whatever the precision of the
   * network. Costs two forward passes, one for losses without accuracy.
   *
   * @param parameters another model of the same architecture, or all parameters in their order.
   * Default: those of the model.
   * @throws OptionError; DataMismatchError; AbortError
   */
  async at(parameters?: Checkpoint, options?: CallOptions): Promise<Evaluation> {
    const { signal } = checkOptions("evaluator", options, CALL_OPTIONS);
    const there =
      parameters === undefined ? this.#here : parametersOf("evaluator", this.model, parameters);
    const direction = there.map((value, i) => value - this.#here[i]!);
    const loss = await lossAt(this.#holder, direction, { signal });
    if (!hasAccuracy(this.#loss)) return { loss, accuracy: undefined };
    this.#targets ??= await this.#read(signal);
    const output = await run(() => this.#holder.native.call("outputs", { direction }, undefined), {
      signal,
    });
    return { loss, accuracy: accuracyOf(this.#loss, output, this.#targets) };
  }

  async #read(signal: AbortSignal | undefined): Promise<Float64Array> {
    const { shape } = this.#data.arrays.find(({ name }) => name === this.#target)!;
    const targets = new Float64Array(shape.reduce((product, n) => product * n, 1));
    await run(() => this.#data.native.read(this.#target, targets), { signal });
    return targets;
  }

  dispose(): void {
    this.#holder.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Loss and accuracy of a network at many places: checkpoints, masked networks. Compiled at the first.
 *
 * ```ts
 * using worth = evaluator(model, data);
 * const { loss, accuracy } = await worth.at(maskedParameters(model, ticket));
 * ```
 *
 * @throws as `hessian`; DataMismatchError where the data have no such target
 */
export function evaluator(model: Model, data: DataSet, options?: EvaluatorOptions): Evaluator {
  const checked = checkOptions("evaluator", options, OPTIONS);
  checkSubject("evaluator", model, data);
  const loss = checked.loss === undefined ? model.loss : checkLoss(checked.loss);
  if (!loss)
    throw new OptionError(
      'evaluator: expected a loss, of the model or here: evaluator(model, data, { loss: "nll" })',
    );
  return new Evaluator(model, data, loss, checked);
}
