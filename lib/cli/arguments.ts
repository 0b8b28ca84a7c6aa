/** The options that commands share, and how their values are read. */
import { OptionError } from "../errors";
import type { BindValue } from "../model/bind";
import { LOSS_NAMES } from "../model/loss";

/** What every command is given besides its options. */
export interface Globals {
  /** Aborted by Ctrl-C. */
  signal: AbortSignal;
  json: boolean;
}

export const text = (value: string) => value;

/** Names by commas. */
export const names = (value: string) => value.split(",").map((name) => name.trim());

export function oneOf<T extends string>(...values: readonly T[]): (value: string) => T {
  return (value) => {
    if (!values.includes(value as T))
      throw new OptionError(`expected one of ${values.join(", ")}, got "${value}"`);
    return value as T;
  };
}

export function whole(least: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (!/^[+-]?\d+$/.test(value) || !Number.isSafeInteger(number) || number < least)
      throw new OptionError(`expected a whole number of at least ${least}, got "${value}"`);
    return number;
  };
}

/** A number, or a fraction such as 1/255. */
export function number(value: string): number {
  const [top, bottom, ...rest] = value.split("/").map((part) => (part.trim() ? Number(part) : NaN));
  const result = bottom === undefined ? top! : top! / bottom;
  if (rest.length > 0 || !Number.isFinite(result))
    throw new OptionError(`expected a number or a fraction such as 1/255, got "${value}"`);
  return result;
}

export function notNegative(value: string): number {
  const result = number(value);
  if (result < 0) throw new OptionError(`expected a number of at least 0, got "${value}"`);
  return result;
}

/** FIRST,LAST. */
export function interval(value: string): [number, number] {
  const ends = value.split(",");
  const [first, last] = ends.length === 2 ? ends.map(number) : [];
  if (first === undefined || last === undefined || first >= last)
    throw new OptionError(`expected FIRST,LAST with FIRST < LAST, such as -1,1, got "${value}"`);
  return [first, last];
}

/** A,B with ends that may be infinite. */
export function countEnds(value: string): [number, number] {
  const ends = value.split(",").map((part) => {
    const infinite = /^\s*([+-]?)inf(inity)?\s*$/i.exec(part);
    if (infinite) return infinite[1] === "-" ? -1 / 0 : 1 / 0;
    return number(part);
  });
  if (ends.length !== 2 || !(ends[0]! <= ends[1]!))
    throw new OptionError(`expected A,B with A <= B, such as 0.1,inf, got "${value}"`);
  return ends as [number, number];
}

export function positive(value: string): number {
  const result = number(value);
  if (!(result > 0)) throw new OptionError(`expected a number above 0, got "${value}"`);
  return result;
}

export function numbers(value: string): number[] {
  return value.split(",").map(number);
}

const UNITS: Record<string, number> = {
  "": 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  t: 1e12,
  ki: 2 ** 10,
  mi: 2 ** 20,
  gi: 2 ** 30,
  ti: 2 ** 40,
};

/** A=B. */
function tie(value: string): [string, string] {
  const pair = value.split("=");
  if (pair.length !== 2 || pair.includes(""))
    throw new OptionError(`expected two names as in a.weight=b.weight, got "${value}"`);
  return pair as [string, string];
}

/** A number of bytes: 8GiB, 500MB, 2e9. */
export function bytes(value: string): number {
  const [, amount, unit] = /^([\d.]+(?:e\d+)?)\s*([kmgt]?i?)b?$/i.exec(value.trim()) ?? [];
  const factor = unit === undefined ? undefined : UNITS[unit.toLowerCase()];
  const result = Math.floor(Number(amount) * (factor ?? NaN));
  if (!Number.isSafeInteger(result) || result < 1)
    throw new OptionError(`expected a size such as 8GiB or 500MB, got "${value}"`);
  return result;
}

function seed(value: string): bigint {
  if (!/^\d+$/.test(value) || BigInt(value) >= 1n << 64n)
    throw new OptionError(`expected a whole number from 0 to 2^64 - 1, got "${value}"`);
  return BigInt(value);
}

/** NAME=VALUE, where VALUE is a number, several, true, false or else a file. */
function binding(value: string): [string, BindValue] {
  const [, name, given] = /^([^=]+)=(.+)$/s.exec(value) ?? [];
  if (name === undefined || given === undefined)
    throw new OptionError(`expected NAME=VALUE, such as mask=1 or state=state.npy, got "${value}"`);
  if (given === "true" || given === "false") return [name, given === "true"];
  const parts = given.split(",").map((part) => part.trim());
  const wholes = parts.every((part) => /^[-+]?\d+$/.test(part));
  const all = wholes
    ? parts.map((part) => exact(part))
    : parts.map((part) => (/^-?inf(inity)?$/i.test(part) ? infinity(part) : Number(part)));
  if (parts.includes("") || all.some((each) => Number.isNaN(each))) return [name, given];
  return [name, all.length === 1 ? all[0]! : all];
}

const infinity = (text: string) =>
  text.startsWith("-") ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;

/** Integers beyond 2^53 keep all their digits. */
function exact(text: string): number | bigint {
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : BigInt(text);
}

export interface Normalization {
  mean: number[];
  std: number[];
}

/** MEAN/STD, each a number or one a channel. */
function normalization(value: string): Normalization {
  const parts = value.split("/");
  if (parts.length !== 2)
    throw new OptionError(`expected MEAN/STD, such as 0.1307/0.3081, got "${value}"`);
  return { mean: numbers(parts[0]!), std: numbers(parts[1]!) };
}

export const OPERATORS = [
  "hessian",
  "ggn",
  "functional",
  "fisher-type2",
  "fisher-mc",
  "fisher-empirical",
] as const;

/** An option: its value is read by `parse`, none means that it takes no value. */
export type OptionRow = readonly [flags: string, text: string, parse?: (text: string) => unknown];

export type OptionGroup = "data" | "loss" | "model" | "operator" | "curvature" | "run" | "out";

function operatorOptions(standard: (typeof OPERATORS)[number]): readonly OptionRow[] {
  const text = `one of ${OPERATORS.join(", ")} (default ${standard})`;
  return [
    ["--operator <name>", text, oneOf(...OPERATORS)],
    ["--draws <n>", "fisher-mc: targets drawn a sample (default 1)", whole(1)],
  ];
}

/** Groups of options; the flags say how a value is named: `...` may be given several times. */
export const shared: Record<OptionGroup, readonly OptionRow[]> = {
  data: [
    ["--data <file>", "inputs and targets in one file: .npz, safetensors, CSV", text],
    ["--inputs <file...>", "inputs: a file, or NAME=FILE for each of several inputs", text],
    ["--targets <file>", "targets: .npy, IDX, CSV", text],
    ["--target-name <name>", 'what the target is called in --data (default "y")', text],
    ["--samples <n>", "only the first n samples", whole(1)],
    ["--scale <x>", "multiply inputs by x, such as 1/255 for bytes of images", number],
    [
      "--normalize <mean/std>",
      "then subtract and divide, one number or one a channel",
      normalization,
    ],
  ],
  loss: [
    [
      "--loss <name>",
      `one of ${LOSS_NAMES.join(", ")} (default cross-entropy)`,
      oneOf(...LOSS_NAMES),
    ],
    ["--reduction <r>", "mean (default, PyTorch's denominators) or sum", oneOf("mean", "sum")],
    ["--class-weights <w>", "cross-entropy, nll: a factor for each class, by commas", numbers],
    ["--label-smoothing <e>", "cross-entropy: from 0 to 1", number],
    [
      "--ignore-index <i>",
      "cross-entropy, nll: targets with this label do not count",
      whole(-(2 ** 31)),
    ],
    ["--pos-weight <w>", "bce-with-logits: factors for positive examples, by commas", numbers],
    ["--delta <x>", "huber: where the loss turns linear", number],
    ["--beta <x>", "smooth-l1: where the loss turns linear", number],
    ["--class-axis <i>", "the axis of the output that runs over classes (default 1)", whole(-16)],
  ],
  model: [
    ["--model-output <name>", "the output that counts, where there are several", text],
    ["--params <glob...>", "only these tensors, by patterns of their names", text],
    ["--exclude <glob...>", "not these", text],
    ["--ties <a=b...>", "tensors that the network shares and the file stores apart", tie],
    [
      "--state-dict <file>",
      "PyTorch's state_dict (.safetensors): its names, and what the export changed",
      text,
    ],
    [
      "--batch-norm <mode>",
      "running: stored statistics; batch: those of each batch of --batch samples",
      oneOf("running", "batch"),
    ],
    ["--dropout-seed <n>", "Dropout acts, with a fixed mask a sample (default: it is off)", seed],
    [
      "--bind <name=value...>",
      "a constant for an input that is no data: a number, numbers by commas, a .npy file",
      binding,
    ],
    ["--json", "one JSON document on standard output, and nothing else"],
  ],
  operator: operatorOptions("hessian"),
  // Of commands that want a semi-definite matrix unless told otherwise.
  curvature: operatorOptions("ggn"),
  run: [
    ["--precision <p>", "float32 (default) or float64", oneOf("float32", "float64")],
    ["--seed <n>", "of everything random (default 0)", seed],
    ["--threads <n>", "default: all cores; results do not depend on it", whole(1)],
    ["--batch <n>", "samples a micro-batch (default: chosen)", whole(1)],
    ["--max-memory <size>", "such as 8GiB (default: what is available)", bytes],
  ],
  out: [["--out <folder>", "writes result.json there, and arrays as .npy", text]],
};

/** Values of the options above, by the names that commander gives them. */
export interface DataArguments {
  data?: string;
  inputs?: string[];
  targets?: string;
  targetName?: string;
  samples?: number;
  scale?: number;
  normalize?: Normalization;
}

export interface LossArguments {
  loss?: (typeof LOSS_NAMES)[number];
  reduction?: "mean" | "sum";
  classWeights?: number[];
  labelSmoothing?: number;
  ignoreIndex?: number;
  posWeight?: number[];
  delta?: number;
  beta?: number;
  classAxis?: number;
}

export interface ModelArguments {
  modelOutput?: string;
  params?: string[];
  exclude?: string[];
  ties?: [string, string][];
  stateDict?: string;
  batchNorm?: "running" | "batch";
  dropoutSeed?: bigint;
  bind?: [string, BindValue][];
  json?: boolean;
}

export interface OperatorArguments {
  operator?: (typeof OPERATORS)[number];
  draws?: number;
}

export interface RunArguments {
  precision?: "float32" | "float64";
  seed?: bigint;
  threads?: number;
  batch?: number;
  maxMemory?: number;
}

export type SubjectArguments = DataArguments &
  LossArguments &
  ModelArguments &
  OperatorArguments &
  RunArguments;
