/** The places that training passed, in order, read one at a time or kept where they fit. */
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import type { CallOptions } from "../call";
import { listCheckpoints, loadCheckpoint } from "../checkpoints";
import { MemoryBudgetError, OptionError } from "../errors";
import type { Checkpoint } from "../landscape/directions";
import { Model } from "../model/model";
import { type Check, check, checkOptions, describe } from "../options";

/** A place of training: a file that `loadCheckpoint` reads, or a checkpoint at hand. */
export type CheckpointSource = string | Checkpoint;

export interface TrajectoryOptions {
  /**
   * The step of each checkpoint, ascending. Default: the last number in the name of each file, where
   * all have one and they ascend; else 0, 1, 2, ...
   */
  steps?: ArrayLike<number> | undefined;
  /** What it is called in tables and figures. Default "run". */
  name?: string | undefined;
  /**
   * Bytes for checkpoints that are kept in memory. Default 1 GiB. Where not all fit, they are read
   * again as often as needed; results are the same to the last bit.
   */
  maxMemory?: number | undefined;
}

const OPTIONS: { [K in keyof Required<TrajectoryOptions>]: Check } = {
  steps: {
    expected: "ascending numbers, one a checkpoint",
    fits: (value) => {
      const steps = Array.from((value as ArrayLike<number>) ?? []);
      return (
        steps.length > 0 &&
        steps.every((step, i) => Number.isFinite(step) && (i === 0 || step > steps[i - 1]!))
      );
    },
  },
  name: { expected: "a name", fits: (value) => typeof value === "string" && value !== "" },
  maxMemory: check.positiveInteger,
};

/** Vectors of parameters that every pass holds beside those that are kept. */
const WORKING = 8;

/** Checkpoints of one network, ordered by step. Made by `trajectory`. */
export class Trajectory {
  /** The network; its own parameters play no part. */
  readonly model: Model;
  readonly name: string;
  readonly steps: Float64Array;
  /** How many parameter vectors may be in memory at once. */
  readonly room: number;
  readonly #sources: readonly CheckpointSource[];
  readonly #kept: (Float64Array | undefined)[] = [];

  /** @internal */
  constructor(
    model: Model,
    sources: readonly CheckpointSource[],
    steps: Float64Array,
    { name = "run", maxMemory = 2 ** 30 }: TrajectoryOptions,
  ) {
    this.model = model;
    this.name = name;
    this.steps = steps;
    this.#sources = sources;
    const bytes = 8 * model.parameterCount;
    this.room = Math.floor(maxMemory / bytes) - WORKING;
    if (this.room < 1)
      throw new MemoryBudgetError(
        `trajectory: maxMemory: expected at least ${(WORKING + 1) * bytes} bytes, ` +
          `${WORKING + 1} vectors of ${model.parameterCount} parameters, got ${maxMemory}`,
      );
  }

  /** How many checkpoints there are. */
  get length(): number {
    return this.#sources.length;
  }

  /** Whether all checkpoints are kept in memory once they were read. */
  get fits(): boolean {
    return this.length <= this.room;
  }

  /** How many vectors may be held beside the checkpoints that are kept, at least 1. */
  get spare(): number {
    return Math.max(1, this.fits ? this.room - this.length : this.room);
  }

  /** The file of a checkpoint; undefined where it came from memory. */
  file(i: number): string | undefined {
    const source = this.#sources[i];
    return typeof source === "string" ? source : undefined;
  }

  /** What a checkpoint is called in messages. */
  label(i: number): string {
    const file = this.file(i);
    return file === undefined ? `checkpoint ${i}` : basename(file);
  }

  /**
   * The parameters of a checkpoint, in the model's order. Not to be changed.
   *
   * @throws as `loadCheckpoint`
   */
  async parameters(i: number, options?: Pick<CallOptions, "signal">): Promise<Float64Array> {
    if (!Number.isInteger(i) || i < 0 || i >= this.length)
      throw new OptionError(
        `trajectory: expected a checkpoint from 0 to ${this.length - 1}, got ${describe(i)}`,
      );
    const kept = this.#kept[i];
    if (kept) return kept;
    const theta = await loadCheckpoint(this.model, this.#sources[i]!, options);
    if (this.fits) this.#kept[i] = theta;
    return theta;
  }

  /** The network at a checkpoint: to be disposed of. */
  async at(i: number, options?: Pick<CallOptions, "signal">): Promise<Model> {
    return this.model.withParameters(await this.parameters(i, options));
  }

  /** Some of the checkpoints, in their order. */
  choose(indices: readonly number[]): Trajectory {
    const chosen = new Trajectory(
      this.model,
      indices.map((i) => this.#sources[i]!),
      Float64Array.from(indices, (i) => this.steps[i]!),
      { name: this.name, maxMemory: (this.room + WORKING) * 8 * this.model.parameterCount },
    );
    indices.forEach((from, to) => {
      const kept = this.#kept[from];
      if (kept && chosen.fits) chosen.#kept[to] = kept;
    });
    return chosen;
  }
}

/** The last number in a name, without its ending. */
function stepOf(source: CheckpointSource): number | undefined {
  if (typeof source !== "string") return undefined;
  const digits = basename(source)
    .replace(/\.[^.]*$/, "")
    .match(/\d+/g)
    ?.at(-1);
  return digits === undefined ? undefined : Number(digits);
}

function stepsOf(sources: readonly CheckpointSource[]): Float64Array {
  const named = sources.map(stepOf);
  const ascend = named.every((step, i) => step !== undefined && (i === 0 || step > named[i - 1]!));
  return Float64Array.from(sources, (_, i) => (ascend ? named[i]! : i));
}

/** Folders become the checkpoints in them. */
async function sourcesOf(
  checkpoints: CheckpointSource | readonly CheckpointSource[],
): Promise<CheckpointSource[]> {
  const given = Array.isArray(checkpoints) ? checkpoints : [checkpoints];
  const sources: CheckpointSource[] = [];
  for (const source of given) {
    if (typeof source !== "string") {
      sources.push(source);
      continue;
    }
    const found = await stat(source).catch((cause: Error) => {
      throw new OptionError(
        `trajectory: expected a folder or a file of parameters, got ${source}: ${cause.message}`,
        { cause },
      );
    });
    if (found.isDirectory()) {
      const files = await listCheckpoints(source);
      if (files.length === 0)
        throw new OptionError(
          `trajectory: expected a folder of checkpoints with numbers in their names, such as ` +
            `step-001000.safetensors, got ${source}, which has none`,
        );
      sources.push(...files.map(({ file }) => file));
    } else sources.push(source);
  }
  return sources;
}

/**
 * The places that training passed, for what is measured along them. Nothing is read yet.
 *
 * ```ts
 * const path = await trajectory(model, "checkpoints"); // a folder, or files, vectors, models
 * const { whole } = await pathGeometry(path);
 * whole.pca.explained;
 * ```
 *
 * @param checkpoints of the model's architecture: a folder, files (.onnx, .safetensors, .npz, .npy),
 * loaded models or vectors of all parameters; at least two
 * @throws OptionError; MemoryBudgetError where maxMemory holds less than nine vectors
 */
export async function trajectory(
  model: Model,
  checkpoints: CheckpointSource | readonly CheckpointSource[],
  options?: TrajectoryOptions,
): Promise<Trajectory> {
  if (!(model instanceof Model))
    throw new OptionError(`trajectory: expected a model of loadModel, got ${describe(model)}`);
  const checked = checkOptions("trajectory", options, OPTIONS);
  const sources = await sourcesOf(checkpoints);
  if (sources.length < 2)
    throw new OptionError(`trajectory: expected at least two checkpoints, got ${sources.length}`);
  const steps = checked.steps ? Float64Array.from(checked.steps) : stepsOf(sources);
  if (steps.length !== sources.length)
    throw new OptionError(
      `trajectory: steps: expected ${sources.length} numbers, one a checkpoint, got ${steps.length}`,
    );
  return new Trajectory(model, sources, steps, checked);
}

/** @internal @throws OptionError */
export function requireTrajectory(where: string, value: unknown): asserts value is Trajectory {
  if (!(value instanceof Trajectory))
    throw new OptionError(
      `${where}: expected a trajectory of \`trajectory\`, got ${describe(value)}`,
    );
}

/** @internal Positions of checkpoints, ascending, as an option names them. */
export const CHECKPOINT_CHOICE: Check = {
  expected: "positions of checkpoints, ascending whole numbers",
  fits: (value) =>
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((i, at) => Number.isSafeInteger(i) && i >= 0 && (at === 0 || i > value[at - 1])),
};

/** @internal @throws OptionError where a position lies beyond the end */
export function chosenCheckpoints(
  where: string,
  path: Trajectory,
  given: readonly number[] | undefined,
): number[] {
  const chosen = given ?? Array.from({ length: path.length }, (_, i) => i);
  if (chosen.at(-1)! >= path.length)
    throw new OptionError(
      `${where}: checkpoints: expected positions from 0 to ${path.length - 1}, got ${chosen.at(-1)}`,
    );
  return [...chosen];
}
