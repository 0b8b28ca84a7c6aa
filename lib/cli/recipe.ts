/** How a network is trained, as commands are told. */
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import type { RecipeOptions } from "../training/train";
import type { DataArguments } from "./arguments";
import { openData } from "./subject";

/** Data, and others held out. */
export interface HeldOutArguments extends DataArguments {
  test?: string;
  testInputs?: string[];
  testTargets?: string;
  testSamples?: number;
}

export interface RecipeArguments extends RecipeOptions, HeldOutArguments {}

export function recipeOptions(args: RecipeArguments): RecipeOptions {
  const { optimizer, learningRate, schedule, warmup, momentum, dampening, nesterov } = args;
  const { betas, epsilon, weightDecay, batchSize, epochs, steps, shuffle, dropLast } = args;
  return {
    ...{ optimizer, learningRate, schedule, warmup, momentum, dampening, nesterov },
    ...{ betas, epsilon, weightDecay, batchSize, epochs, steps, dropLast },
    // --no-shuffle makes commander give true without it.
    shuffle: shuffle === false ? false : undefined,
  };
}

/** The data held out, where there are any; scaled as the others are. */
export async function openTest(
  args: HeldOutArguments,
  signal: AbortSignal,
): Promise<DataSet | undefined> {
  const { test: data, testInputs: inputs, testTargets: targets, testSamples: samples } = args;
  if (data === undefined && inputs === undefined && targets === undefined) return undefined;
  if (data === undefined && inputs === undefined)
    throw new OptionError("--test-targets: expected --test-inputs as well");
  const { targetName, scale, normalize } = args;
  const given = { data, inputs, targets, samples, targetName, scale, normalize };
  const present = Object.entries(given).filter(([, value]) => value !== undefined);
  return openData(Object.fromEntries(present) as DataArguments, signal);
}
