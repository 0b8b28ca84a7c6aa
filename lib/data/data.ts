/** The samples of an analysis: arrays by name, held by the core. */
import { type CallOptions, run } from "../call";
import { OptionError } from "../errors";
import {
  type ElementType,
  type NativeArray,
  type NativeData,
  type NativeDataOptions,
  native,
} from "../native";
import { type Check, check, checkOptions, describe, typeName } from "../options";

/** Numbers at hand; an array of numbers counts as float64. */
export type ArrayValues =
  | Float32Array
  | Float64Array
  | Uint8Array
  | Uint8ClampedArray
  | Int8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | BigInt64Array
  | readonly number[];

/** An array at hand: row-major, one row a sample. */
export interface ArraySource {
  data: ArrayValues;
  /** Default: one axis, the length of the data. */
  shape?: readonly number[];
  /** For what JavaScript has no array of: "bool" in bytes, "float16" and "bfloat16" in 16 bits. */
  type?: "bool" | "float16" | "bfloat16";
}

/**
 * Where samples come from: one file or several, which name their arrays themselves, or files and
 * arrays by name. A one-array file that is not named is called what its file is called.
 */
export type DataSource =
  | string
  | readonly string[]
  | { readonly [name: string]: string | ArrayValues | ArraySource };

/**
 * `(value * scale - mean) / std`, in double precision, as values are converted to floating point.
 * `mean` and `std` are one number, or one a channel (axis 1). For MNIST's bytes: scale 1/255, mean
 * 0.1307, std 0.3081.
 */
export interface Normalize {
  scale?: number;
  mean?: number | readonly number[];
  std?: number | readonly number[];
}

/** What `loadData` may be told about the data. */
export interface LoadDataOptions extends Pick<CallOptions, "signal"> {
  /**
   * The array that is the target; default "y". In a CSV table, the column that is: its name, its
   * position from 0, or from the end if negative; several make one array of several columns.
   */
  target?: string | number | readonly (string | number)[];
  /** The arrays to keep; default all. An array that the model does not take is an error later. */
  select?: readonly string[];
  /** The first so many samples, or those from the first number up to the second. */
  samples?: number | readonly [number, number];
  /** For every array but the target, or by name of array. */
  normalize?: Normalize | { readonly [name: string]: Normalize };
  /** CSV: whether the first line names the columns. Default: it does if it holds no numbers. */
  header?: boolean;
}

/** One array of a data set. */
export interface DataArray {
  readonly name: string;
  readonly type: ElementType;
  /** The samples, then the shape of one. */
  readonly shape: readonly number[];
  /** The file it is from, or its name. */
  readonly source: string;
}

/**
 * Arrays with one row a sample. They stay where they are: files are mapped, and what is compressed
 * or text is read once; numbers are converted as micro-batches need them. Made by `loadData`.
 */
export class DataSet {
  readonly arrays: readonly DataArray[];
  /** The length of the first axis, which all arrays share. */
  readonly samples: number;
  /** @internal */
  readonly native: NativeData;
  private readonly description: string;

  /** @internal */
  constructor(core: NativeData) {
    this.native = core;
    this.arrays = core.arrays;
    this.samples = core.samples;
    this.description = core.description;
  }

  /** "x float32 (1000, 784), y int64 (1000,)". */
  toString(): string {
    return this.description;
  }

  /** Releases files and memory. What was made from the data keeps what it needs. */
  dispose(): void {
    this.native.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** What holds each element type. */
const TYPES: Record<string, ElementType> = {
  Float32Array: "float32",
  Float64Array: "float64",
  Uint8Array: "uint8",
  Uint8ClampedArray: "uint8",
  Int8Array: "int8",
  Int16Array: "int16",
  Uint16Array: "uint16",
  Int32Array: "int32",
  BigInt64Array: "int64",
};

/** The arrays that hold the types of `ArraySource.type`. */
const STORED_AS: Record<NonNullable<ArraySource["type"]>, string> = {
  bool: "Uint8Array",
  float16: "Uint16Array",
  bfloat16: "Uint16Array",
};

const isName = (value: unknown) => typeof value === "string" || Number.isSafeInteger(value);
const isNumbers = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((number) => typeof number === "number");

const OPTIONS: { [K in keyof Required<LoadDataOptions>]: Check } = {
  target: {
    expected: "a name or a column, or an array of columns",
    fits: (value) =>
      isName(value) || (Array.isArray(value) && value.length > 0 && value.every(isName)),
  },
  select: {
    expected: "an array of names",
    fits: (value) => Array.isArray(value) && value.every((name) => typeof name === "string"),
  },
  samples: {
    expected: "a whole number of at least 1, or [first, last) with 0 <= first < last",
    fits: (value) => {
      const [first, last] = Array.isArray(value) ? value : [0, value];
      return (
        Number.isSafeInteger(first) && Number.isSafeInteger(last) && 0 <= first && first < last
      );
    },
  },
  normalize: {
    expected: "{scale, mean, std}, or that by name of array",
    fits: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  },
  header: check.boolean,
  signal: check.signal,
};

const perChannel: Check = {
  expected: "a number, or an array of one a channel",
  fits: (value) => Number.isFinite(value) || (isNumbers(value) && value.length > 0),
};
const NORMALIZE: { [K in keyof Required<Normalize>]: Check } = {
  scale: { expected: "a number", fits: Number.isFinite },
  mean: perChannel,
  std: perChannel,
};

/**
 * Opens a data set: .npy, .npz, safetensors, IDX or CSV files, also gzipped, or arrays at hand,
 * which are copied once.
 *
 * ```ts
 * await loadData("val.npz");
 * await loadData({ x: "t10k-images-idx3-ubyte", y: "t10k-labels-idx1-ubyte" },
 *   { samples: 2048, normalize: { scale: 1 / 255, mean: 0.1307, std: 0.3081 } });
 * await loadData({ x: { data: pixels, shape: [100, 784] }, y: labels });
 * ```
 *
 * Arrays are named like the model's inputs, and the target "y"; a model with one input takes an
 * array of any name. In a CSV table the column "y" is the target and the others, in order, are the
 * features of one input, or each an input of its name. Whether the arrays fit a model is checked
 * when an operator is made of both.
 *
 * @throws DataMismatchError when a file cannot be read, is cut off or damaged, when arrays differ
 * in their number of samples, or when there are none
 * @throws OptionError for options that do not fit the data
 */
export async function loadData(source: DataSource, options?: LoadDataOptions): Promise<DataSet> {
  const given = checkOptions("loadData", options, OPTIONS);
  const { files, arrays } = parts(source);
  const settings = nativeOptions(given);
  const core = await run(() => native().openData(files, arrays, settings), given);
  try {
    return new DataSet(core);
  } catch (error) {
    core.dispose();
    throw error;
  }
}

function parts(source: DataSource): {
  files: { name: string; path: string }[];
  arrays: NativeArray[];
} {
  if (typeof source === "string") return { files: [{ name: "", path: source }], arrays: [] };
  if (Array.isArray(source)) {
    for (const path of source)
      if (typeof path !== "string")
        throw new OptionError(`loadData: expected an array of paths, got ${describe(path)} in it`);
    return { files: source.map((path) => ({ name: "", path })), arrays: [] };
  }
  if (typeof source !== "object" || source === null || ArrayBuffer.isView(source))
    throw new OptionError(
      "loadData: expected a path, an array of paths, or an object of paths or arrays by name, " +
        `got ${describe(source)}`,
    );
  const entries = Object.entries(source);
  return {
    files: entries.flatMap(([name, value]) =>
      typeof value === "string" ? [{ name, path: value }] : [],
    ),
    arrays: entries.flatMap(([name, value]) =>
      typeof value === "string" ? [] : [arrayAtHand(name, value)],
    ),
  };
}

function arrayAtHand(name: string, value: ArrayValues | ArraySource): NativeArray {
  const bare = ArrayBuffer.isView(value) || Array.isArray(value);
  const { data, shape, type } = (bare ? { data: value } : value) as ArraySource;
  const fail = (expected: string, got: unknown): never => {
    throw new OptionError(`loadData: ${name}: expected ${expected}, got ${describe(got)}`);
  };
  if (isNumbers(data)) return withShape(name, "float64", Float64Array.from(data), shape);
  const holder = typeName(data);
  const stored = TYPES[holder] ?? fail(`numbers, or one of ${Object.keys(TYPES).join(", ")}`, data);
  if (type === undefined) return withShape(name, stored, data as Float64Array, shape);
  const wanted = STORED_AS[type] ?? fail(`type to be one of ${Object.keys(STORED_AS)}`, type);
  if (holder !== wanted) fail(`a ${wanted} for type ${type}`, data);
  return withShape(name, type, data as Float64Array, shape);
}

function withShape(
  name: string,
  type: ElementType,
  data: ArrayBufferView & { length: number },
  shape: readonly number[] = [data.length],
): NativeArray {
  const whole = Array.isArray(shape) && shape.every((n) => Number.isSafeInteger(n) && n >= 0);
  const size = whole ? shape.reduce((product, n) => product * n, 1) : undefined;
  if (size !== data.length)
    throw new OptionError(
      `loadData: ${name}: expected a shape of ${data.length} numbers, got (${shape}), which has ` +
        `${size ?? "no size"}`,
    );
  return { name, type, shape: [...shape], data };
}

function nativeOptions(given: LoadDataOptions): NativeDataOptions {
  const settings: NativeDataOptions = {};
  const { target, samples, normalize } = given;
  if (typeof target === "string") settings.target = target;
  if (target !== undefined) settings.targetColumns = [target].flat().map(String);
  if (given.select) settings.select = [...given.select];
  if (given.header !== undefined) settings.header = given.header;
  if (samples !== undefined)
    [settings.first, settings.last] = typeof samples === "number" ? [0, samples] : samples;
  if (normalize) settings.normalize = normalizeRows(normalize);
  return settings;
}

function normalizeRows(given: NonNullable<LoadDataOptions["normalize"]>) {
  const byName = Object.values(given).every(
    (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  );
  const rows: [string, Normalize][] = byName
    ? Object.entries(given as Record<string, Normalize>)
    : [["", given as Normalize]];
  return rows.map(([name, row]) => {
    const { scale, mean, std } = checkOptions(`normalize${name && ` of ${name}`}`, row, NORMALIZE);
    return {
      name,
      scale: scale ?? 1,
      mean: [mean ?? 0].flat(),
      std: [std ?? 1].flat(),
    };
  });
}
