/** Errors of a network with random weights. */
import { accuracyOf, hasAccuracy } from "../accuracy";
import { run } from "../call";
import type { DataSet } from "../data/data";
import { samplesInParts } from "../data/select";
import { DataMismatchError, OptionError } from "../errors";
import type { LinearOperator } from "../linear-operator";
import { checkLoss, type Loss } from "../model/loss";
import type { Model } from "../model/model";
import { jacobianHolder, type OperatorOptions } from "../operators";
import type { Normals } from "./normals";
import { targetsOf } from "./outputs";

/** Some of the samples, with the network compiled for them. */
interface Part {
  readonly samples: number;
  readonly holder: LinearOperator;
  readonly targets: Float64Array;
  /** Of data that were copied for it. */
  readonly own: DataSet | undefined;
}

type Settings = Omit<OperatorOptions, "params" | "exclude"> & { signal?: AbortSignal | undefined };

/**
 * A network whose parameters are drawn from N(theta, diag(s)), on a data set that is cut into parts.
 * Each draw is evaluated on one part, chosen with its share of the samples, so that its error is an
 * independent number in [0, 1] whose mean is the error of the randomised network on all samples.
 */
export class RandomisedNetwork {
  readonly #dim: number;
  readonly #parts: readonly Part[];
  readonly #loss: Loss;
  readonly #samples: number;
  /** Samples of a part; the last may have fewer. */
  readonly drawSamples: number;

  private constructor(dim: number, parts: Part[], loss: Loss, drawSamples: number) {
    this.#dim = dim;
    this.#parts = parts;
    this.#loss = loss;
    this.#samples = parts.reduce((sum, { samples }) => sum + samples, 0);
    this.drawSamples = drawSamples;
  }

  /**
   * @throws OptionError for losses without accuracy; DataMismatchError without targets; AbortError
   */
  static async of(
    where: string,
    model: Model,
    data: DataSet,
    drawSamples: number,
    target: string,
    { signal, ...settings }: Settings,
  ): Promise<RandomisedNetwork> {
    const loss = settings.loss === undefined ? model.loss : checkLoss(settings.loss);
    if (!loss || !hasAccuracy(loss))
      throw new OptionError(
        `${where}: expected a loss of classification, whose predictions are right or wrong, got ` +
          (loss?.name ?? "none"),
      );
    const cut = drawSamples < data.samples;
    const sets = cut ? await samplesInParts(data, drawSamples, { target, signal }) : [data];
    const parts: Part[] = [];
    try {
      for (const set of sets)
        parts.push({
          samples: set.samples,
          own: cut ? set : undefined,
          targets: await targetsOf(set, target, where, { signal }),
          holder: jacobianHolder(where, model, set, settings),
        });
    } catch (error) {
      for (const part of parts) part.holder.dispose();
      if (cut) for (const set of sets) set.dispose();
      throw error;
    }
    return new RandomisedNetwork(model.parameterCount, parts, loss, drawSamples);
  }

  /** The mean error of so many draws with variances s. */
  async mean(
    s: Float64Array,
    draws: number,
    random: Normals,
    signal: AbortSignal | undefined,
    onDraw?: (done: number) => void,
  ): Promise<number> {
    const deviations = s.map(Math.sqrt);
    const direction = new Float64Array(s.length);
    let sum = 0;
    for (let draw = 0; draw < draws; draw++) {
      let position = random.below(this.#samples);
      const part = this.#parts.find(({ samples }) => {
        position -= samples;
        return position < 0;
      })!;
      for (let i = 0; i < direction.length; i++) direction[i] = deviations[i]! * random.next();
      sum += await this.#error(part, direction, signal);
      onDraw?.(draw + 1);
    }
    return sum / draws;
  }

  /** The error at theta on all samples. */
  async atMean(signal: AbortSignal | undefined): Promise<number> {
    const still = new Float64Array(this.#dim);
    let wrong = 0;
    for (const part of this.#parts)
      wrong += part.samples * (await this.#error(part, still, signal));
    return wrong / this.#samples;
  }

  async #error(
    part: Part,
    direction: Float64Array,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const output = await run(() => part.holder.native.call("outputs", { direction }, undefined), {
      signal,
    });
    const error = 1 - accuracyOf(this.#loss, output, part.targets);
    if (Number.isNaN(error))
      throw new DataMismatchError("the error is not defined: all targets are ignored");
    return error;
  }

  /** The error of the best constant guess, from the targets. */
  get chance(): number {
    const counts = new Map<number, number>();
    for (const { targets } of this.#parts)
      for (const label of targets) counts.set(label, (counts.get(label) ?? 0) + 1);
    const total = this.#parts.reduce((sum, { targets }) => sum + targets.length, 0);
    return 1 - Math.max(...counts.values()) / total;
  }

  dispose(): void {
    for (const part of this.#parts) release(part);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function release({ holder, own }: Part): void {
  holder.dispose();
  own?.dispose();
}
