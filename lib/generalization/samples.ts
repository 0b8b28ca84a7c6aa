/** Data sets as matrices: inputs flattened, labels, images made smaller, labels made wrong. */
import type { CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { readArray } from "../data/select";
import { DataMismatchError, OptionError } from "../errors";
import type { Normals } from "./normals";
import { targetsOf } from "./outputs";

/** Inputs and class labels of a data set. */
export interface LabelledSamples {
  readonly samples: number;
  /** Numbers of an input. */
  readonly width: number;
  /** samples x width. */
  readonly x: Float64Array;
  readonly labels: Int32Array;
}

/**
 * @param pool images of (H, W) or (1, H, W) become means over squares of so many pixels a side
 * @throws DataMismatchError where there is not one input and a label a sample
 */
export async function labelledSamples(
  where: string,
  data: DataSet,
  target: string,
  pool: number,
  call: CallOptions,
): Promise<LabelledSamples> {
  const inputs = data.arrays.filter(({ name }) => name !== target);
  if (inputs.length !== 1)
    throw new DataMismatchError(`${where}: expected one input beside "${target}", got ${data}`);
  const labels = await targetsOf(data, target, where, call);
  const bad = labels.findIndex((label) => !Number.isInteger(label) || label < 0);
  if (labels.length !== data.samples || bad >= 0)
    throw new DataMismatchError(
      `${where}: ${target}: expected a label of 0 or more for each sample, got ` +
        (bad >= 0 ? `${labels[bad]} at sample ${bad}` : `${labels.length} numbers`),
    );
  const values = await readArray(data, inputs[0]!, call.signal);
  const shape = inputs[0]!.shape.slice(1);
  const x = pool > 1 ? pooled(where, values, data.samples, shape, pool) : values;
  return {
    samples: data.samples,
    width: x.length / data.samples,
    x,
    labels: Int32Array.from(labels),
  };
}

function pooled(
  where: string,
  values: Float64Array,
  samples: number,
  shape: readonly number[],
  pool: number,
): Float64Array {
  const [height = 0, width = 0] = shape.slice(-2);
  const plain = shape.slice(0, -2).every((n) => n === 1) && shape.length >= 2;
  if (!plain || height % pool !== 0 || width % pool !== 0)
    throw new OptionError(
      `${where}: pool: expected images of one channel whose sides are multiples of ${pool}, got ` +
        `(${shape.join(", ")})`,
    );
  const [h, w] = [height / pool, width / pool];
  const out = new Float64Array(samples * h * w);
  for (let n = 0; n < samples; n++)
    for (let i = 0; i < height; i++)
      for (let j = 0; j < width; j++)
        out[(n * h + Math.floor(i / pool)) * w + Math.floor(j / pool)]! +=
          values[(n * height + i) * width + j]! / pool ** 2;
  return out;
}

/** The labels with a share of them, chosen at random, changed to another class. */
export function noisyLabels(
  labels: Int32Array,
  classes: number,
  share: number,
  random: Normals,
): Int32Array {
  return labels.map((label) =>
    random.uniform() < share ? (label + 1 + random.below(classes - 1)) % classes : label,
  );
}

/** samples x classes: 1 at the label, else 0. */
export function oneHot(labels: Int32Array, classes: number): Float64Array {
  const rows = new Float64Array(labels.length * classes);
  labels.forEach((label, n) => {
    rows[n * classes + label] = 1;
  });
  return rows;
}
