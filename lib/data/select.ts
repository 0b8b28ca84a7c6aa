/** Some samples of a data set, such as those of one class. */
import { type CallOptions, run } from "../call";
import { DataMismatchError, OptionError } from "../errors";
import type { ElementType } from "../native";
import { describe } from "../options";
import { type ArraySource, type ArrayValues, type DataArray, type DataSet, loadData } from "./data";

type Filled = Float32Array | Float64Array;

/** Integer types, the arrays that hold them and their ranges. */
const INTEGERS: Partial<
  Record<ElementType, { make: (values: Filled) => ArrayValues; low: number; high: number }>
> = {
  bool: { make: (values) => Uint8Array.from(values), low: 0, high: 1 },
  uint8: { make: (values) => Uint8Array.from(values), low: 0, high: 255 },
  int8: { make: (values) => Int8Array.from(values), low: -128, high: 127 },
  int16: { make: (values) => Int16Array.from(values), low: -(2 ** 15), high: 2 ** 15 - 1 },
  uint16: { make: (values) => Uint16Array.from(values), low: 0, high: 2 ** 16 - 1 },
  int32: { make: (values) => Int32Array.from(values), low: -(2 ** 31), high: 2 ** 31 - 1 },
  int64: {
    make: (values) => BigInt64Array.from(Array.from(values, BigInt)),
    low: -(2 ** 53),
    high: 2 ** 53,
  },
};

/** @internal All numbers of an array, as the network gets them. */
export async function readArray(
  data: DataSet,
  array: DataArray,
  signal?: AbortSignal,
): Promise<Float64Array> {
  const values = new Float64Array(array.shape.reduce((product, n) => product * n, 1));
  await run(() => data.native.read(array.name, values), { signal });
  return values;
}

/** Of the type that the array has, unless a normalisation has made fractions of integers. */
function source(values: Float64Array, { type }: DataArray, shape: number[]): ArraySource {
  const integer = INTEGERS[type];
  if (integer && values.every((x) => Number.isInteger(x) && integer.low <= x && x <= integer.high))
    return { data: integer.make(values), shape, ...(type === "bool" && { type }) };
  const narrow = values.every((x) => Object.is(Math.fround(x), x));
  return { data: narrow ? Float32Array.from(values) : values, shape };
}

export interface SelectOptions extends Pick<CallOptions, "signal"> {
  /** What the target array is called, as it was to `loadData`. Default "y". */
  target?: string | undefined;
}

/**
 * A data set of the chosen samples, in the order given; its numbers are those that the network would
 * get, normalisation included. Costs one reading of the whole data set, in float64, and a copy of the
 * chosen samples that is held in memory until `dispose`.
 *
 * @param indices positions of samples; a sample may be chosen several times
 * @throws OptionError where there is no such sample, or none is chosen
 */
export async function selectSamples(
  data: DataSet,
  indices: ArrayLike<number>,
  { target, signal }: SelectOptions = {},
): Promise<DataSet> {
  if (data?.native === undefined)
    throw new OptionError(`selectSamples: expected data of loadData, got ${describe(data)}`);
  const chosen = Array.from(indices ?? []);
  if (chosen.length === 0)
    throw new OptionError("selectSamples: indices: expected at least one sample, got none");
  for (const index of chosen)
    if (!Number.isInteger(index) || index < 0 || index >= data.samples)
      throw new OptionError(
        `selectSamples: indices: expected whole numbers from 0 to ${data.samples - 1}, got ` +
          describe(index),
      );
  const arrays: Record<string, ArraySource> = {};
  for (const array of data.arrays) {
    const all = await readArray(data, array, signal);
    const size = all.length / data.samples;
    const values = new Float64Array(chosen.length * size);
    chosen.forEach((index, i) => {
      values.set(all.subarray(index * size, (index + 1) * size), i * size);
    });
    arrays[array.name] = source(values, array, [chosen.length, ...array.shape.slice(1)]);
  }
  return loadData(arrays, { signal, ...(target !== undefined && { target }) });
}

/**
 * @internal A data set cut into parts of `size` samples in their order, the last perhaps smaller, each
 * as `selectSamples` makes it, from one reading. Held in memory until each is disposed of.
 */
export async function samplesInParts(
  data: DataSet,
  size: number,
  { target, signal }: SelectOptions = {},
): Promise<DataSet[]> {
  const firsts: number[] = [];
  for (let first = 0; first < data.samples; first += size) firsts.push(first);
  const parts: Record<string, ArraySource>[] = firsts.map(() => ({}));
  for (const array of data.arrays) {
    const all = await readArray(data, array, signal);
    const width = all.length / data.samples;
    firsts.forEach((first, i) => {
      const samples = Math.min(size, data.samples - first);
      const values = all.slice(first * width, (first + samples) * width);
      parts[i]![array.name] = source(values, array, [samples, ...array.shape.slice(1)]);
    });
  }
  const sets: DataSet[] = [];
  for (const arrays of parts)
    sets.push(await loadData(arrays, { signal, ...(target !== undefined && { target }) }));
  return sets;
}

/**
 * Positions of the samples of each class, by ascending label: the target holds one whole number a
 * sample.
 *
 * @throws DataMismatchError where there is no such array, or it holds no labels
 */
export async function samplesByClass(
  data: DataSet,
  { target = "y", signal }: SelectOptions = {},
): Promise<Map<number, number[]>> {
  if (data?.native === undefined)
    throw new OptionError(`samplesByClass: expected data of loadData, got ${describe(data)}`);
  const array = data.arrays.find(({ name }) => name === target);
  if (!array)
    throw new DataMismatchError(
      `samplesByClass: expected an array "${target}" of labels, got ${data}`,
    );
  const labels = await readArray(data, array, signal);
  if (labels.length !== data.samples)
    throw new DataMismatchError(
      `samplesByClass: ${target}: expected one label a sample, got the shape ` +
        `(${array.shape.join(", ")})`,
    );
  const classes = new Map<number, number[]>();
  labels.forEach((label, i) => {
    if (!Number.isInteger(label))
      throw new DataMismatchError(
        `samplesByClass: ${target}: expected whole numbers, got ${label} at sample ${i}`,
      );
    const samples = classes.get(label);
    if (samples) samples.push(i);
    else classes.set(label, [i]);
  });
  return new Map([...classes].sort(([a], [b]) => a - b));
}
