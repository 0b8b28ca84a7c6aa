/** Running statistics of normalisations as a network's own activations give them. */
import type { DataSet } from "../data/data";
import { native } from "../native";
import { type ActivationOptions, valueOn } from "./activations";
import type { Network } from "./network";

/** A normalisation by stored statistics: the value that goes in, and the names of the statistics. */
interface Normalisation {
  readonly input: string;
  readonly mean: string;
  readonly variance: string;
}

function normalisations(network: Network): Normalisation[] {
  const nodes = native().describeNodes(network.model.native);
  const made = new Set(nodes.flatMap(({ outputs }) => outputs));
  return nodes.flatMap(({ op, inputs }) => {
    const [input, , , mean, variance] = inputs;
    const stored = mean && variance && network.tensor(mean) && network.tensor(variance);
    return op === "BatchNormalization" && stored && made.has(input!)
      ? [{ input: input!, mean, variance }]
      : [];
  });
}

/** Mean and unbiased variance of each channel: axis 1 of a value. */
function momentsOf({ values, shape }: { values: Float64Array; shape: readonly number[] }) {
  const channels = shape[1]!;
  const stride = shape.slice(2).reduce((product, n) => product * n, 1);
  const count = values.length / channels;
  const mean = new Float64Array(channels);
  const variance = new Float64Array(channels);
  const channelOf = (i: number) => Math.floor(i / stride) % channels;
  for (let i = 0; i < values.length; i++) mean[channelOf(i)]! += values[i]! / count;
  for (let i = 0; i < values.length; i++)
    variance[channelOf(i)]! += (values[i]! - mean[channelOf(i)]!) ** 2 / Math.max(1, count - 1);
  return { mean, variance };
}

/**
 * A state with the running statistics of each BatchNormalization as data give them, from the input
 * to the output, so that each sees those before it as they are then. Costs a forward pass of the part
 * before each of them.
 */
export async function recomputedStatistics(
  network: Network,
  state: Float64Array,
  data: DataSet,
  options: ActivationOptions,
): Promise<Float64Array> {
  const out = state.slice();
  for (const { input, mean, variance } of normalisations(network)) {
    using model = network.modelAt(out);
    const moments = momentsOf(await valueOn(model, input, data, options));
    out.set(moments.mean, network.tensor(mean)!.offset);
    out.set(moments.variance, network.tensor(variance)!.offset);
  }
  return out;
}
