/** Random relu features of data, with outputs solved in closed form. */
import { createHash } from "node:crypto";
import type { CallOptions } from "../call";
import { matrixProduct } from "../dense";
import type { Problem, RandomFeatureOptions } from "./double-descent";
import { leastNorm, spectrumOf } from "./least-squares";
import { Normals } from "./normals";
import { type LabelledSamples, labelledSamples, noisyLabels, oneHot } from "./samples";

/** Streams of one seed: labels, and features of each size and repeat. */
const [LABELS, FEATURES] = [41, 2000];

/** @internal Training and test data of a sweep, with wrong labels of each repeat. */
export interface SweepData {
  train: LabelledSamples;
  test: LabelledSamples;
  classes: number;
  labels: (repeat: number) => Int32Array;
  /** Of all numbers. */
  digest: string;
}

export async function sweepData(
  where: string,
  options: Pick<
    RandomFeatureOptions,
    "train" | "test" | "labelNoise" | "pool" | "target" | "seed" | "signal"
  >,
): Promise<SweepData> {
  const { labelNoise = 0, pool = 1, target = "y", seed = 0, signal } = options;
  const train = await labelledSamples(where, options.train, target, pool, { signal });
  const test = await labelledSamples(where, options.test, target, pool, { signal });
  const most = (labels: Int32Array) => labels.reduce((a, b) => Math.max(a, b), 0);
  const classes = Math.max(2, 1 + Math.max(most(train.labels), most(test.labels)));
  const hash = createHash("sha256");
  for (const { x, labels } of [train, test]) hash.update(x).update(labels);
  return {
    ...{ train, test, classes, digest: hash.digest("hex").slice(0, 16) },
    labels: (repeat) =>
      noisyLabels(train.labels, classes, labelNoise, new Normals(seed, LABELS + 10_007 * repeat)),
  };
}

/** @internal Mean squared error over all outputs, and the share of wrong predictions. */
export function scoreOf(
  outputs: Float64Array,
  labels: Int32Array,
  classes: number,
): { loss: number; error: number } {
  const targets = oneHot(labels, classes);
  let [squares, wrong] = [0, 0];
  for (let i = 0; i < outputs.length; i++) squares += (outputs[i]! - targets[i]!) ** 2;
  labels.forEach((label, n) => {
    const row = outputs.subarray(n * classes, (n + 1) * classes);
    if (row.indexOf(row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)) !== label)
      wrong++;
  });
  return { loss: squares / outputs.length, error: wrong / labels.length };
}

export async function randomFeatures(
  where: string,
  options: RandomFeatureOptions,
): Promise<Problem> {
  const { sizes, repeats = 3, seed = 0, labelNoise = 0, pool = 1, target = "y" } = options;
  const data = await sweepData(where, options);
  const { train, test, classes } = data;
  const n = train.samples;
  return {
    sizes,
    sizeName: "features",
    repeats,
    threshold: n,
    settings: {
      ...{ problem: "random-features", train: `${options.train}`, test: `${options.test}` },
      data: data.digest,
      ...{ inputs: train.width, classes, labelNoise, pool, target, seed: `${seed}` },
    },
    at: (p) => ({ parameters: p * classes, samples: n, ratio: p / n }),
    measure: async (p, repeat, { signal }) => {
      const random = new Normals(seed, FEATURES + 100_000 * p + repeat);
      // x -> relu(W x + b) / sqrt(p), W of variance 2 / d.
      const d = train.width;
      const W = random.fill(new Float64Array(p * d)).map((x) => x * Math.sqrt(2 / d));
      const b = random.fill(new Float64Array(p)).map((x) => 0.1 * x);
      const features = (set: LabelledSamples) => featuresOf(set, W, b, p, { signal });
      const phi = await features(train);
      const labels = data.labels(repeat);
      const Y = oneHot(labels, classes);
      const { coefficients, values } = await leastNorm(phi, Y, n, p, classes, signal);
      const fitted = await matrixProduct(phi, coefficients, n, p, classes, { signal });
      const phiTest = await features(test);
      const predicted = await matrixProduct(phiTest, coefficients, test.samples, p, classes, {
        signal,
      });
      const [own, held] = [
        scoreOf(fitted, labels, classes),
        scoreOf(predicted, test.labels, classes),
      ];
      return {
        ...{ trainLoss: own.loss, testLoss: held.loss },
        ...{ trainError: own.error, testError: held.error },
        ...spectrumOf(values, n),
      };
    },
  };
}

async function featuresOf(
  { x, samples, width }: LabelledSamples,
  W: Float64Array,
  b: Float64Array,
  p: number,
  { signal }: CallOptions,
): Promise<Float64Array> {
  const sums = await matrixProduct(x, W, samples, width, p, { transposed: true, signal });
  const scale = 1 / Math.sqrt(p);
  for (let i = 0; i < sums.length; i++) sums[i] = scale * Math.max(0, sums[i]! + b[i % p]!);
  return sums;
}
