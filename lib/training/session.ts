/** Runs of training on one network and data set, compiled once. */
import { type CallOptions, run } from "../call";
import type { DataSet } from "../data/data";
import type { LinearOperator } from "../linear-operator";
import type { Loss, LossName } from "../model/loss";
import type { Model } from "../model/model";
import { jacobianHolder, type RunOptions } from "../operators";

/** The update rules, as torch.optim has them. */
export interface OptimizerOptions {
  /** "sgd" (default), "adam", "adamw". */
  optimizer?: "sgd" | "adam" | "adamw" | undefined;
  /** sgd: default 0. */
  momentum?: number | undefined;
  /** sgd: of momentum, default 0. */
  dampening?: number | undefined;
  /** sgd: default false. */
  nesterov?: boolean | undefined;
  /** adam, adamw: decay of the means of gradients and of their squares; default [0.9, 0.999]. */
  betas?: readonly [number, number] | undefined;
  /** adam, adamw: added to the root; default 1e-8. */
  epsilon?: number | undefined;
  /**
   * Times a parameter, added to its gradient (sgd, adam), or, times the learning rate, taken off it
   * (adamw). Default 0, for adamw 0.01. It acts on every parameter that is not held.
   */
  weightDecay?: number | undefined;
}

/** Where a run stands. All arrays have a number a parameter. */
export interface TrainingState {
  /** Steps made, in the order of samples and of learning rates. */
  step: number;
  /** Updates that the moments have seen. */
  updates: number;
  theta: Float64Array;
  /** Momentum, or the mean of gradients; undefined where the optimizer has none. */
  first: Float64Array | undefined;
  /** The mean of their squares. */
  second: Float64Array | undefined;
}

/** How steps are made. */
export interface StepRule extends OptimizerOptions {
  batchSize: number;
  shuffle?: boolean | undefined;
  dropLast?: boolean | undefined;
  seed?: number | bigint | undefined;
  /** 1 where a parameter moves. */
  keep?: Uint8Array | undefined;
}

export interface SessionOptions extends Pick<RunOptions, "precision" | "threads" | "maxMemory"> {
  loss?: LossName | Loss | undefined;
}

/** @internal */
export class TrainingSession {
  readonly model: Model;
  readonly #holder: LinearOperator;
  readonly #single: boolean;

  constructor(where: string, model: Model, data: DataSet, options: SessionOptions) {
    this.model = model;
    this.#single = (options.precision ?? "float32") === "float32";
    this.#holder = jacobianHolder(where, model, data, options);
  }

  /** A state at the beginning of a run. Entries that the mask does not keep are `held`. */
  start(theta: Float64Array, step: number, rule: StepRule, held?: Float64Array): TrainingState {
    const { optimizer = "sgd", momentum = 0, keep } = rule;
    const zeros = () => new Float64Array(theta.length);
    const adam = optimizer !== "sgd";
    const masked = keep ? theta.map((x, i) => (keep[i] ? x : (held?.[i] ?? 0))) : theta;
    return {
      ...{ step, updates: 0 },
      theta: this.#single ? masked.map(Math.fround) : masked.slice(),
      first: adam || momentum !== 0 ? zeros() : undefined,
      second: adam ? zeros() : undefined,
    };
  }

  /**
   * A step for each rate, which changes the state; where that fails or is aborted, the state is to be
   * thrown away.
   *
   * @returns the loss of each minibatch before its step
   * @throws NotConvergedError where the loss is not finite; AbortError
   */
  async steps(
    state: TrainingState,
    rates: Float64Array,
    rule: StepRule,
    call: CallOptions,
  ): Promise<Float64Array> {
    const { optimizer = "sgd", betas, ...rest } = rule;
    const weightDecay = rule.weightDecay ?? (optimizer === "adamw" ? 0.01 : 0);
    const found = await run(
      (onProgress) =>
        this.#holder.native.call(
          "train",
          {
            ...rest,
            optimizer,
            weightDecay,
            beta1: betas?.[0],
            beta2: betas?.[1],
            ...state,
            rates,
          },
          onProgress,
        ),
      call,
    );
    state.step = found.step;
    state.updates = found.updates;
    return found.losses;
  }

  dispose(): void {
    this.#holder.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
