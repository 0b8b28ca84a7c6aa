/** Model, data, loss and operator of a command line. */
import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { run } from "../call";
import { DataSet } from "../data/data";
import { OptionError } from "../errors";
import type { LinearOperator } from "../linear-operator";
import type { Loss } from "../model/loss";
import { loadModel, type Model } from "../model/model";
import { native } from "../native";
import {
  type FisherOptions,
  fisher,
  functionalHessian,
  ggn,
  hessian,
  type OperatorOptions,
  type RunOptions,
} from "../operators";
import type {
  DataArguments,
  LossArguments,
  ModelArguments,
  OperatorArguments,
  RunArguments,
  SubjectArguments,
} from "./arguments";

export function openModel(file: string, args: ModelArguments & LossArguments): Promise<Model> {
  const { modelOutput, params, exclude, ties, stateDict, batchNorm, dropoutSeed, bind } = args;
  const { batch } = args as RunArguments;
  return loadModel(file, {
    loss: lossOf(args),
    ...(modelOutput !== undefined && { output: modelOutput }),
    ...(ties && { ties }),
    ...(stateDict !== undefined && { stateDict }),
    ...(batchNorm !== undefined && {
      batchNorm: batchNorm === "batch" && batch !== undefined ? { batch } : batchNorm,
    }),
    ...(dropoutSeed !== undefined && { dropout: { seed: dropoutSeed } }),
    ...(bind && { bind: Object.fromEntries(bind) }),
    ...((params || exclude) && {
      params: { ...(params && { include: params }), ...(exclude && { exclude }) },
    }),
  });
}

export function lossOf(args: LossArguments): Loss {
  const { loss = "cross-entropy" } = args;
  const options = {
    reduction: args.reduction,
    classWeights: args.classWeights,
    labelSmoothing: args.labelSmoothing,
    ignoreIndex: args.ignoreIndex,
    posWeight: args.posWeight,
    delta: args.delta,
    beta: args.beta,
    classAxis: args.classAxis,
  };
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  return { name: loss, ...Object.fromEntries(given) };
}

export function hasData(args: DataArguments): boolean {
  return args.data !== undefined || args.inputs !== undefined;
}

export async function openData(args: DataArguments, signal: AbortSignal): Promise<DataSet> {
  if (!hasData(args))
    throw new OptionError(
      "expected data: --data FILE with inputs and targets, or --inputs FILE --targets FILE",
    );
  // Not loadData, as a file with names of its own may stand beside one that is given a name.
  const files = (args.inputs ?? []).map((given) => {
    const [, name, path] = /^([^=/]+)=(.+)$/.exec(given) ?? [];
    return { name: name ?? "", path: path ?? given };
  });
  if (args.data !== undefined) files.push({ name: "", path: args.data });
  const target = args.targetName ?? "y";
  if (args.targets !== undefined) files.push({ name: target, path: args.targets });
  const normalize =
    args.scale !== undefined || args.normalize !== undefined
      ? [{ name: "", scale: args.scale ?? 1, ...args.normalize }]
      : [];
  const options = { target, last: args.samples ?? -1, normalize };
  const core = await run(() => native().openData(files, [], options), { signal });
  try {
    return new DataSet(core);
  } catch (error) {
    core.dispose();
    throw error;
  }
}

export function runOptions(args: RunArguments): RunOptions {
  const { precision, threads, batch, maxMemory } = args;
  return { precision, threads, batch, maxMemory };
}

type Maker = (
  model: Model,
  data: DataSet,
  options: OperatorOptions,
  fisher: Pick<FisherOptions, "draws" | "seed">,
) => LinearOperator;

const MAKERS: Record<NonNullable<OperatorArguments["operator"]>, Maker> = {
  hessian,
  ggn,
  functional: functionalHessian,
  "fisher-type2": (m, d, options) => fisher(m, d, { ...options, type: "type-2" }),
  "fisher-mc": (m, d, options, draws) => fisher(m, d, { ...options, type: "mc", ...draws }),
  "fisher-empirical": (m, d, options) => fisher(m, d, { ...options, type: "empirical" }),
};

export function makeOperator(model: Model, data: DataSet, args: SubjectArguments): LinearOperator {
  const { operator = "hessian", draws, seed } = args;
  if (draws !== undefined && operator !== "fisher-mc")
    throw new OptionError(`--draws belongs to --operator fisher-mc, got --operator ${operator}`);
  return MAKERS[operator](model, data, runOptions(args), { draws, seed });
}

/**
 * Looks early whether a file can be written, before hours of work.
 *
 * @throws OptionError
 */
export async function checkWritable(option: string, path: string | undefined): Promise<void> {
  if (path === undefined) return;
  try {
    await access(dirname(path), constants.W_OK);
  } catch (cause) {
    throw new OptionError(
      `${option}: expected a file in a folder that can be written to, got ${path}: ` +
        (cause as Error).message,
      { cause },
    );
  }
  const there = await stat(path).catch(() => undefined);
  if (there?.isDirectory())
    throw new OptionError(`${option}: expected a file, got the folder ${path}`);
}
