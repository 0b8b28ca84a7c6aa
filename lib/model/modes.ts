/** How nodes act that have a way for training and one for inference, and inputs that are no data. */
import { OptionError } from "../errors";
import { check, describe } from "../options";
import type { BindValue, BoundInput } from "./bind";

/** Options of `loadModel` that choose what function the file stands for. */
export interface ModeOptions {
  /**
   * What BatchNormalization normalises with: "running", the stored statistics; "batch", those of
   * each batch, as PyTorch does in training mode, with biased variance. Default: stored ones, and
   * nodes exported in training mode are not supported.
   *
   * The risk is then that of batches of consecutive samples. `{ batch: 64 }` states their size; with
   * "batch" it is the option `batch` of what is made of the model, by default all samples. The
   * samples must make whole batches. Per-sample quantities (empirical and mc Fisher, rows of single
   * samples, KFAC, training) are refused, as a sample's loss depends on its batch.
   */
  batchNorm?: "running" | "batch" | { readonly batch: number };
  /**
   * Makes Dropout act, with a fixed mask for each seed, node and sample, scaled by 1/(1 - ratio).
   * The mask does not depend on batches, order or threads. Nodes whose training_mode is false stay
   * the identity, as all are by default.
   */
  dropout?: { readonly seed: number | bigint };
  /**
   * Constants for inputs that are no data (a mask, a flag, a state), by name: they are part of the
   * network from the start, and no data is expected for them.
   */
  bind?: Readonly<Record<string, BindValue>>;
}

/** The modes that a model was loaded in. */
export interface ModelModes {
  /** Undefined: as each node says. */
  readonly batchNorm: "running" | "batch" | undefined;
  /** Samples whose statistics count together, where `loadModel` was told. */
  readonly statisticsBatch: number | undefined;
  /** Undefined: Dropout is the identity. */
  readonly dropoutSeed: number | bigint | undefined;
  /** Inputs that are constants. */
  readonly bound: readonly BoundInput[];
}

/** @internal Checks the options but for those of `bind`, which needs the model. */
export function checkModes({
  batchNorm,
  dropout,
}: Pick<ModeOptions, "batchNorm" | "dropout">): Omit<ModelModes, "bound"> {
  const sized = typeof batchNorm === "object" && batchNorm !== null;
  const batch = sized ? batchNorm.batch : undefined;
  const fits = sized
    ? check.positiveInteger.fits(batch) && Object.keys(batchNorm).length === 1
    : [undefined, "running", "batch"].includes(batchNorm);
  if (!fits)
    throw new OptionError(
      'batchNorm: expected "running", "batch" or { batch: samples of a batch }, got ' +
        (sized ? JSON.stringify(batchNorm) : describe(batchNorm)),
    );
  const seeded =
    dropout === undefined ||
    (typeof dropout === "object" &&
      dropout !== null &&
      Object.keys(dropout).length === 1 &&
      check.seed.fits(dropout.seed));
  if (!seeded)
    throw new OptionError(
      `dropout: expected { seed: ${check.seed.expected} }, got ` +
        (typeof dropout === "object" && dropout !== null
          ? `{ ${Object.entries(dropout).map(([key, value]) => `${key}: ${describe(value)}`)} }`
          : describe(dropout)),
    );
  return {
    batchNorm: sized ? "batch" : (batchNorm as "running" | "batch" | undefined),
    statisticsBatch: batch,
    dropoutSeed: dropout?.seed,
  };
}

/** @internal The modes in words, for people; nothing where all is as files have it. */
export function describeModes(
  { batchNorm, statisticsBatch, dropoutSeed, bound }: ModelModes,
  operators: Readonly<Record<string, number>>,
): string[] {
  const lines: string[] = [];
  const normalises = operators.BatchNormalization || operators.MeanVarianceNormalization;
  if (batchNorm === "batch" && normalises) {
    const batches = statisticsBatch === undefined ? "each batch" : `batches of ${statisticsBatch}`;
    lines.push(`batch norm: statistics of ${batches}`);
  } else if (operators.BatchNormalization) lines.push("batch norm: stored statistics");
  if (operators.Dropout)
    lines.push(
      `dropout: ${dropoutSeed === undefined ? "off" : `fixed masks of seed ${dropoutSeed}`}`,
    );
  for (const { name, shape, values } of bound) {
    const text = values.length <= 6 ? values.join(", ") : `${values.length} numbers`;
    const free = shape.some((length) => length < 0);
    const where = values.length > 1 || free || shape.length > 0 ? ` in ${shapeText(shape)}` : "";
    lines.push(`input ${name}: bound to ${text}${where}`);
  }
  return lines;
}

/** @internal The same where `loadModel` was told any. */
export function chosenModes({
  modes,
  operators,
}: {
  modes: ModelModes;
  operators: Readonly<Record<string, number>>;
}): string[] {
  const { batchNorm, dropoutSeed, bound } = modes;
  const chosen = batchNorm !== undefined || dropoutSeed !== undefined || bound.length > 0;
  return chosen ? describeModes(modes, operators) : [];
}

const shapeText = (shape: readonly number[]) =>
  `(${shape.map((length) => (length < 0 ? "?" : length)).join(", ")})`;
