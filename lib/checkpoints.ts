/** Places of a network's parameters in files: written, read by names and shapes, listed by step. */
import { readdir } from "node:fs/promises";
import { extname, join } from "node:path";
import { CALL_OPTIONS, type CallOptions } from "./call";
import { type NamedArray, writeNpz, writeSafetensors } from "./data/archive";
import { type StoredArray, withArrays } from "./data/read-arrays";
import { DataMismatchError, OptionError } from "./errors";
import { type Checkpoint, parametersOf } from "./landscape/directions";
import { loadModel, Model } from "./model/model";
import { fromStateDict } from "./model/state-dict";
import { writeModel } from "./model/write";
import { type Check, check, checkOptions, describe } from "./options";

export interface SaveCheckpointOptions {
  /** The step of training, kept in the metadata of safetensors. */
  step?: number | undefined;
}

const SAVE_OPTIONS: { [K in keyof Required<SaveCheckpointOptions>]: Check } = {
  step: check.naturalNumber,
};

/** How checkpoints are written, by the ending of the file. */
const WRITERS: Record<
  string,
  (
    file: string,
    model: Model,
    theta: Float64Array,
    metadata: Record<string, string>,
  ) => Promise<void>
> = {
  ".safetensors": (file, model, theta, metadata) =>
    writeSafetensors(file, namedTensors(model, theta), metadata),
  ".npz": (file, model, theta) => writeNpz(file, namedTensors(model, theta)),
  ".onnx": (file, model, parameters) => writeModel(file, model, { parameters }),
};

/** @internal The endings that a checkpoint may have, as messages show them. */
export const CHECKPOINT_FILES = ".onnx, .safetensors or .npz";

/** @internal */
export function isCheckpointFile(name: string): boolean {
  return Object.hasOwn(WRITERS, extname(name));
}

/**
 * @internal The tensors of a parameter vector under their names. They are float32 where that loses
 * nothing, else float64.
 */
export function namedTensors(model: Model, theta: Float64Array, prefix = ""): NamedArray[] {
  const single = Float32Array.from(theta);
  const values = single.every((x, i) => x === theta[i]) ? single : theta;
  return model.parameters.map(({ name, shape, offset, size }) => ({
    name: prefix + name,
    shape,
    values: values.slice(offset, offset + size),
  }));
}

/**
 * Writes the parameters of a network, each tensor under its name in the model: .safetensors, which
 * PyTorch's library reads, .npz, or .onnx, the model's file with other numbers. Tensors are float32
 * where all numbers are such, else float64, so that reading gives the same numbers again; in .onnx
 * they have the types of the model's file.
 *
 * @param parameters another model of the same architecture, or all parameters in their order
 * @throws OptionError where parameters do not fit the model or the file cannot be written
 */
export async function saveCheckpoint(
  file: string,
  model: Model,
  parameters: Checkpoint,
  options?: SaveCheckpointOptions,
): Promise<void> {
  const { step } = checkOptions("saveCheckpoint", options, SAVE_OPTIONS);
  const write = typeof file === "string" ? WRITERS[extname(file)] : undefined;
  if (!write)
    throw new OptionError(
      `saveCheckpoint: expected a file that ends in ${CHECKPOINT_FILES}, got ${describe(file)}`,
    );
  checkModel("saveCheckpoint", model);
  const theta = parametersOf("saveCheckpoint", model, parameters);
  await write(file, model, theta, step === undefined ? {} : { step: `${step}` });
}

/**
 * Reads a place of a network's parameters.
 *
 * @param source a file: .onnx, .safetensors or .npz by the names and shapes of the model's tensors
 * (an .onnx file without these names by the order of its tensors), .npy with all parameters in
 * their order; or a checkpoint at hand. Where the model was loaded with the option `stateDict`, the
 * names may be those of that state_dict, with tensors in its shapes. Arrays that are no parameters of the model are left aside,
 * so a PyTorch state_dict may hold buffers as well; buffers stay as the model's file has them.
 * @returns all parameters in the model's order
 * @throws DataMismatchError for a file that cannot be read, or without all tensors in their shapes;
 * OptionError; ModelFormatError; AbortError
 */
export async function loadCheckpoint(
  model: Model,
  source: string | Checkpoint,
  options?: Pick<CallOptions, "signal">,
): Promise<Float64Array> {
  const { signal } = checkOptions("loadCheckpoint", options, { signal: CALL_OPTIONS.signal });
  checkModel("loadCheckpoint", model);
  if (typeof source !== "string") return parametersOf("loadCheckpoint", model, source);
  if (extname(source) === ".onnx") return fromModel(model, source);
  if (![".safetensors", ".npz", ".npy"].includes(extname(source)))
    throw new OptionError(
      `loadCheckpoint: expected a file that ends in ${CHECKPOINT_FILES}, or .npy, got ` +
        `${describe(source)}; a state_dict of PyTorch is written as safetensors by ` +
        "safetensors.torch.save_file",
    );
  const theta = await withArrays(source, { signal }, (arrays) =>
    extname(source) === ".npy" ? flat(model, source, arrays) : byName(model, source, arrays),
  );
  const bad = theta.findIndex((x) => !Number.isFinite(x));
  if (bad >= 0) {
    const of = model.parameters.findLast(({ offset }) => offset <= bad)!;
    throw new DataMismatchError(
      `${source}: ${of.name}: expected finite numbers, got ${theta[bad]} at flat index ` +
        `${bad - of.offset}`,
    );
  }
  return theta;
}

function checkModel(where: string, model: Model): void {
  if (!(model instanceof Model))
    throw new OptionError(`${where}: expected a model of loadModel, got ${describe(model)}`);
}

const shapeText = (shape: readonly number[]) => `(${shape.join(", ")})`;

async function byName(
  model: Model,
  source: string,
  arrays: readonly StoredArray[],
): Promise<Float64Array> {
  const found = new Map(arrays.map((array) => [array.name, array]));
  const renamed = model.stateDict && !model.parameters.every(({ name }) => found.has(name));
  if (renamed) {
    const tensors: Record<string, Float64Array> = {};
    const needed = new Set(model.parameters.flatMap(({ stateDict }) => stateDict?.names ?? []));
    for (const name of needed) {
      const array = found.get(name);
      if (array) tensors[name] = await array.values();
    }
    return fromStateDict(model, tensors);
  }
  const missing = model.parameters.filter(({ name }) => !found.has(name));
  if (missing.length > 0)
    throw new DataMismatchError(
      `${source}: expected an array for each tensor of ${model.source}, got none for ` +
        `${few(missing.map(({ name }) => name))}; it has ${few([...found.keys()])}`,
    );
  const theta = new Float64Array(model.parameterCount);
  for (const { name, shape, offset } of model.parameters) {
    const array = found.get(name)!;
    if (array.shape.join() !== shape.join())
      throw new DataMismatchError(
        `${source}: ${name}: expected the shape ${shapeText(shape)}, got ` +
          `${shapeText(array.shape)}; a matrix that is stored transposed has to be turned before`,
      );
    theta.set(await array.values(), offset);
  }
  return theta;
}

function few(names: readonly string[], most = 6): string {
  const more = names.length - most;
  return names.slice(0, most).join(", ") + (more > 0 ? ` and ${more} more` : "") || "no arrays";
}

async function flat(
  model: Model,
  source: string,
  arrays: readonly StoredArray[],
): Promise<Float64Array> {
  const [array] = arrays;
  const P = model.parameterCount;
  const fits = array && (array.shape.join() === `${P}` || array.shape.join() === `1,${P}`);
  if (!fits)
    throw new DataMismatchError(
      `${source}: expected all ${P} parameters in one row, got the shape ` +
        shapeText(array?.shape ?? []),
    );
  return array.values();
}

async function fromModel(model: Model, source: string): Promise<Float64Array> {
  using other = await loadModel(source, { ties: model.ties });
  const names = model.parameters.map(({ name }) => name);
  const stored = new Set(other.tensors.map(({ name }) => name));
  // Tensors that were made parameters by name, or that another output depends on.
  const hidden = names.some((name) => other.parameterIndex(name) < 0);
  if (!hidden || !names.every((name) => stored.has(name)))
    return parametersOf("loadCheckpoint", model, other);
  using same = await loadModel(source, {
    ties: model.ties,
    output: model.output,
    params: { include: names },
  });
  return parametersOf("loadCheckpoint", model, same);
}

/** A checkpoint in a folder. */
export interface CheckpointFile {
  readonly file: string;
  /** The last number in the name of the file. */
  readonly step: number;
}

/**
 * The checkpoints in a folder, ordered by step: files that end in .onnx, .safetensors or .npz and
 * have a number in their name, such as `step-001000.safetensors` or `epoch12.onnx`. The last number
 * of the name is the step. Other files are left aside.
 *
 * @throws OptionError where the folder cannot be read, or two files have the same step
 */
export async function listCheckpoints(folder: string): Promise<CheckpointFile[]> {
  if (typeof folder !== "string")
    throw new OptionError(`listCheckpoints: expected a folder, got ${describe(folder)}`);
  const names = await readdir(folder).catch((cause: Error) => {
    throw new OptionError(
      `listCheckpoints: expected a folder that can be read, got ${folder}: ${cause.message}`,
      { cause },
    );
  });
  const found: CheckpointFile[] = [];
  for (const name of names) {
    const ending = extname(name);
    const digits = name.slice(0, -ending.length).match(/\d+/g)?.at(-1);
    if (name.startsWith(".") || !Object.hasOwn(WRITERS, ending) || digits === undefined) continue;
    found.push({ file: join(folder, name), step: Number(digits) });
  }
  found.sort((a, b) => a.step - b.step || (a.file < b.file ? -1 : 1));
  found.forEach(({ file, step }, i) => {
    if (found[i + 1]?.step === step)
      throw new OptionError(
        `listCheckpoints: expected one file a step, got ${file} and ${found[i + 1]!.file}`,
      );
  });
  return found;
}

/** @internal The file of a step: names in the order of steps. */
export function checkpointFile(folder: string, step: number): string {
  return join(folder, `step-${`${step}`.padStart(8, "0")}.safetensors`);
}
