/** Data sets shifted on purpose: noise on inputs, images turned. */
import type { CallOptions } from "../call";
import { type ArraySource, type DataSet, loadData } from "../data/data";
import { readArray, selectSamples } from "../data/select";
import { OptionError } from "../errors";
import { type Check, check, checkOptions, describe } from "../options";
import { Normals } from "./normals";

export interface ShiftOptions extends Pick<CallOptions, "signal"> {
  /** Standard deviation of normal noise that is added to inputs, as the network gets them. */
  noise?: number | undefined;
  /** Degrees, against the clock, by which images are turned about their centre. */
  rotate?: number | undefined;
  /** Of the noise. Default 0. */
  seed?: number | bigint | undefined;
  /** What the target array is called; it stays as it is. Default "y". */
  target?: string | undefined;
}

const OPTIONS: { [K in keyof Required<ShiftOptions>]: Check } = {
  signal: check.signal,
  noise: check.notNegative,
  rotate: { expected: "a number of degrees", fits: Number.isFinite },
  seed: check.seed,
  target: { expected: "a name", fits: (value) => typeof value === "string" && value !== "" },
};

const WHERE = "shiftedData";
const NOISE = 51;

/**
 * The same samples with noise on their inputs or images turned (bilinear; what comes from outside has
 * the least value of the data), targets unchanged. Integer inputs, such as tokens, stay.
 *
 * @throws OptionError where nothing is asked for, or inputs to turn are no images (..., H, W)
 */
export async function shiftedData(data: DataSet, options: ShiftOptions): Promise<DataSet> {
  const { signal, noise, rotate, seed = 0, target = "y" } = checkOptions(WHERE, options, OPTIONS);
  if (data?.native === undefined)
    throw new OptionError(`${WHERE}: expected data of loadData, got ${describe(data)}`);
  if (noise === undefined && rotate === undefined)
    throw new OptionError(`${WHERE}: expected noise or rotate, got neither`);
  // Targets keep their type that way.
  using copy = await selectSamples(
    data,
    Array.from({ length: data.samples }, (_, i) => i),
    { signal, target },
  );
  const random = new Normals(seed, NOISE);
  const arrays: Record<string, ArraySource> = {};
  for (const array of copy.arrays) {
    const { name, shape, type } = array;
    let values = await readArray(copy, array, signal);
    if (name !== target && !/int(32|64)/.test(type)) {
      if (rotate !== undefined) values = turned(values, shape, rotate);
      if (noise !== undefined) values = values.map((x) => x + noise * random.next());
      arrays[name] = { data: Float32Array.from(values), shape };
    } else {
      const whole = values.every(Number.isInteger);
      arrays[name] = {
        data: whole ? BigInt64Array.from(Array.from(values, BigInt)) : values,
        shape,
      };
    }
  }
  return loadData(arrays, { signal, target });
}

function turned(values: Float64Array, shape: readonly number[], degrees: number): Float64Array {
  const [height = 0, width = 0] = shape.slice(-2);
  if (shape.length < 3)
    throw new OptionError(
      `${WHERE}: rotate: expected images of shape (..., H, W), got (${shape.join(", ")})`,
    );
  const least = values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const [cos, sin] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
  const [ci, cj] = [(height - 1) / 2, (width - 1) / 2];
  const size = height * width;
  const out = new Float64Array(values.length);
  for (let image = 0; image < values.length; image += size) {
    const at = (i: number, j: number) =>
      i < 0 || j < 0 || i >= height || j >= width ? least : values[image + i * width + j]!;
    for (let i = 0; i < height; i++)
      for (let j = 0; j < width; j++) {
        // Where the pixel was before; rows run downwards.
        const [y, x] = [i - ci, j - cj];
        const [si, sj] = [ci + cos * y + sin * x, cj - sin * y + cos * x];
        const [fi, fj] = [Math.floor(si), Math.floor(sj)];
        const [di, dj] = [si - fi, sj - fj];
        out[image + i * width + j] =
          (1 - di) * ((1 - dj) * at(fi, fj) + dj * at(fi, fj + 1)) +
          di * ((1 - dj) * at(fi + 1, fj) + dj * at(fi + 1, fj + 1));
      }
  }
  return out;
}
