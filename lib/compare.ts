/** Several networks on one data set, side by side. */
import { mkdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { allEigenvalues } from "./all-eigenvalues";
import { anisotropy } from "./anisotropy/anisotropy";
import type { Uncertain } from "./anisotropy/estimated";
import { spectrumMeasures } from "./anisotropy/exact";
import { CALL_OPTIONS, type CallOptions } from "./call";
import type { DataSet } from "./data/data";
import { replaceFile } from "./data/replace-file";
import { AbortError, OptionError } from "./errors";
import { evaluator } from "./evaluator";
import { exactOrder } from "./exact";
import { parameterVector } from "./landscape/directions";
import { digestOf } from "./landscape/points";
import type { LinearOperator } from "./linear-operator";
import type { Loss, LossName } from "./model/loss";
import { Model } from "./model/model";
import { functionalHessian, ggn, hessian, type RunOptions } from "./operators";
import { type Check, check, checkOptions, describe } from "./options";
import { numericalRank } from "./rank/numerical";
import { permutationGroups } from "./symmetry/permutations";
import { symmetries } from "./symmetry/symmetries";

/** Operators that networks are compared by. */
const OPERATORS = { hessian, ggn, functional: functionalHessian } as const;
export type ComparedOperator = keyof typeof OPERATORS;

export interface CompareOptions
  extends Omit<RunOptions, "batch" | "keepLinearisation">,
    CallOptions {
  /** The loss. Default: each model's. */
  loss?: LossName | Loss | undefined;
  /** What the target array is called. Default "y". */
  target?: string | undefined;
  /** Default ["hessian", "ggn"]. */
  operators?: readonly ComparedOperator[] | undefined;
  /** Leading eigenvalues, and eigenpairs that estimates take out. Default 10. */
  k?: number | undefined;
  /**
   * The largest matrix that is decomposed as a whole, in float64: for the Hessian the number of
   * parameters, for the Gauss-Newton matrix that or samples times outputs. Above it measures are
   * estimated in `precision`, float32 by default, and ranks counted above a tolerance. Default 2000.
   */
  maxExact?: number | undefined;
  /** Estimates: what counts for the rank, over the largest |lambda|. Default 1e-3. */
  tol?: number | undefined;
  /** Estimates: random vectors. Default 16 for ranks, 64 for the rest. */
  probes?: number | undefined;
  /** Of everything random. Default 0. */
  seed?: number | bigint | undefined;
  /**
   * A folder that keeps each network's row as it is done. A later call with the same network, data,
   * loss and options takes it from there.
   */
  resume?: string | undefined;
}

const OPTIONS: { [K in keyof Required<CompareOptions>]: Check } = {
  ...CALL_OPTIONS,
  precision: check.oneOf("float32", "float64"),
  threads: check.positiveInteger,
  maxMemory: check.positiveInteger,
  loss: check.anything,
  target: { expected: "a name", fits: (value) => typeof value === "string" && value !== "" },
  operators: {
    expected: `some of ${Object.keys(OPERATORS).join(", ")}, each once`,
    fits: (value) =>
      Array.isArray(value) &&
      value.every((name) => Object.hasOwn(OPERATORS, name)) &&
      new Set(value).size === value.length,
  },
  k: check.positiveInteger,
  maxExact: check.positiveInteger,
  tol: check.notNegative,
  probes: {
    expected: "a whole number of at least 2",
    fits: (value) => Number.isSafeInteger(value) && (value as number) >= 2,
  },
  seed: check.seed,
  resume: { expected: "a folder", fits: (value) => typeof value === "string" && value !== "" },
};

/** A number of one network, or why there is none. */
export type ComparedCell =
  | {
      readonly value: number;
      /** Of an estimate: half the width of its 95 % interval. */
      readonly error?: number;
      readonly how: "exact" | "estimated";
    }
  | { readonly failed: string };

/** Eigenvalues of one operator of a network. */
export interface ComparedSpectrum {
  /** By magnitude, largest first, with signs; without those that are exactly 0. */
  readonly values: number[];
  /** How many are exactly 0: those that a smaller dual matrix does not have. */
  readonly zeros: number;
  /** Whether these are all; else the leading ones. */
  readonly complete: boolean;
}

/** One network. */
export interface ComparedRow {
  readonly name: string;
  readonly source: string;
  /** By column; a column that was not asked for is absent. */
  readonly cells: Readonly<Record<string, ComparedCell>>;
  /** By operator; absent where it failed. */
  readonly spectra: Readonly<Partial<Record<ComparedOperator, ComparedSpectrum>>>;
  /** Whether it was found in the folder of `resume`. */
  readonly reused: boolean;
  readonly seconds: number;
}

export interface Comparison {
  /** In the order of the table. */
  readonly columns: readonly ComparedColumn[];
  readonly rows: readonly ComparedRow[];
}

export interface ComparedColumn {
  /** "loss", or "ggn.rank" of an operator. */
  readonly key: string;
  readonly text: string;
  readonly operator: ComparedOperator | undefined;
}

/** A network with a name of its own. */
export interface NamedModel {
  readonly name: string;
  readonly model: Model;
}

/** What the measures of one network have in common. */
interface Task {
  model: Model;
  data: DataSet;
  options: CompareOptions;
  call: CallOptions;
}

type Cells = Record<string, ComparedCell>;

/** Columns that come of one computation: when it fails, all of them say why. */
interface Stage {
  readonly operator?: ComparedOperator;
  readonly columns: readonly (readonly [key: string, text: string])[];
  readonly run: (
    task: Task,
    operator: ComparedOperator,
  ) => Promise<{ cells: Cells; spectrum?: ComparedSpectrum }>;
}

const exact = (value: number): ComparedCell => ({ value, how: "exact" });
const estimated = ({ value, interval }: Uncertain): ComparedCell => ({
  value,
  error: (interval[1] - interval[0]) / 2,
  how: "estimated",
});

const WORTH: Stage = {
  columns: [
    ["loss", "loss"],
    ["accuracy", "accuracy"],
  ],
  run: async ({ model, data, options, call }) => {
    const { loss, target, precision, threads, maxMemory } = options;
    using worth = evaluator(model, data, { loss, target, precision, threads, maxMemory });
    const found = await worth.at(undefined, { signal: call.signal });
    return {
      cells: {
        loss: exact(found.loss),
        accuracy:
          found.accuracy === undefined
            ? { failed: "the loss is one of regression" }
            : exact(found.accuracy),
      },
    };
  },
};

const SYMMETRY: Stage = {
  columns: [
    ["groups", "groups"],
    ["units", "units"],
    ["orbit", "orbit dimension"],
  ],
  run: async (task) => ({ cells: await symmetryCells(task) }),
};

const CURVATURE: Stage = {
  columns: [
    ["rank", "rank"],
    ["redundancy", "redundancy"],
    ["largest", "largest"],
    ["trace", "trace"],
    ["participationRatio", "participation"],
    ["intrinsicDimension", "intrinsic dim"],
    ["effectiveRank", "effective rank"],
    ["topMass", "top share"],
  ],
  run: async (task, name) => {
    const { loss, threads, maxMemory, maxExact = 2000, precision } = task.options;
    const make = (of: RunOptions["precision"]) =>
      OPERATORS[name](task.model, task.data, { loss, threads, maxMemory, precision: of });
    using precise = make("float64");
    if ((await exactOrder(precise, task.call)) <= maxExact)
      return await wholeSpectrum(precise, task);
    using quick = make(precision);
    return await estimates(quick, task, name === "ggn" || undefined);
  },
};

async function wholeSpectrum(operator: LinearOperator, { options, call }: Task) {
  const { values } = await allEigenvalues(operator, call);
  const { k = 10 } = options;
  const top = Math.min(k, operator.dim);
  const measures = spectrumMeasures(values, { top: [top] }, "float64");
  const { rank } = numericalRank(values);
  const byMagnitude = Array.from(values).sort((a, b) => Math.abs(b) - Math.abs(a));
  return {
    cells: {
      rank: exact(rank),
      redundancy: exact(1 - rank / operator.dim),
      largest: exact(byMagnitude[0]!),
      trace: exact(measures.trace),
      participationRatio: exact(measures.participationRatio),
      intrinsicDimension: exact(measures.intrinsicDimension),
      effectiveRank: exact(measures.effectiveRank),
      topMass: exact(measures.topMass[0]!.share),
    },
    spectrum: {
      values: byMagnitude.filter((x) => x !== 0),
      zeros: byMagnitude.filter((x) => x === 0).length,
      complete: true,
    },
  };
}

async function estimates(
  operator: LinearOperator,
  { options, call }: Task,
  definite: true | undefined,
) {
  const { k = 10, tol = 1e-3, probes, seed } = options;
  const top = Math.min(k, operator.dim);
  const found = await anisotropy(operator, {
    ...{ method: "estimate", k: top, top: [top], probes, seed, definite },
    ...call,
  });
  if (found.source !== "estimated") throw new Error("expected an estimate");
  if (!found.converged) throw new OptionError(`eigenvalues did not converge: ${found.reason}`);
  const counted = await numericalRank(operator, { method: "count", tol, probes, seed, ...call });
  const half = (counted.interval[1] - counted.interval[0]) / 2;
  const rank: ComparedCell = { value: counted.rank, error: half, how: "estimated" };
  return {
    cells: {
      rank,
      redundancy: {
        value: 1 - counted.rank / operator.dim,
        error: half / operator.dim,
        how: "estimated" as const,
      },
      largest: exact(found.top[0]!),
      trace: estimated(found.trace),
      participationRatio: estimated(found.participationRatio),
      intrinsicDimension: estimated(found.intrinsicDimension),
      effectiveRank: { failed: "needs the whole spectrum: raise maxExact" },
      topMass: estimated(found.topMass[0]!.share),
    },
    spectrum: { values: Array.from(found.top), zeros: 0, complete: false },
  };
}

function stagesOf(operators: readonly ComparedOperator[]): Stage[] {
  return [WORTH, SYMMETRY, ...operators.map((operator) => ({ ...CURVATURE, operator }))];
}

function columnsOf(stages: readonly Stage[]): ComparedColumn[] {
  const [first, ...rest] = stages.flatMap(({ columns, operator }) =>
    columns.map(([key, text]) => ({ key: operator ? `${operator}.${key}` : key, text, operator })),
  );
  return [{ key: "parameters", text: "parameters", operator: undefined }, first!, ...rest];
}

const FORMAT = "eigenscope comparison 2";
/** Losses agree to this when they are computed again. */
const AGAIN = 1e-5;

/**
 * Networks on one data set, a row each: parameters, loss and accuracy, units that can be exchanged,
 * dimension of the symmetry orbit, and for each operator rank, redundancy 1 - rank / P, largest
 * eigenvalue, trace and measures of anisotropy. Exact where the matrix is at most of order
 * `maxExact`, else estimated, and each cell says which. What fails, such as a network whose outputs do
 * not fit the targets, fails in its cells and says why; the others go on.
 *
 * ```ts
 * const { rows } = await compare([mlp, lenet], data, { resume: "comparison" });
 * rows[0].cells["hessian.rank"];
 * ```
 *
 * Costs as `exactSpectrum`, or as `anisotropy` and `numericalRank` with method "count".
 *
 * @throws OptionError for options, names that stand twice, no network; AbortError
 */
export async function compare(
  models: readonly (Model | NamedModel)[],
  data: DataSet,
  options?: CompareOptions,
): Promise<Comparison> {
  const given = checkOptions("compare", options, OPTIONS);
  if (data?.native === undefined)
    throw new OptionError(`compare: expected data of loadData, got ${describe(data)}`);
  const entries = namesOf(models);
  const { operators = ["hessian", "ggn"], resume, signal, onProgress } = given;
  if (resume !== undefined) await mkdir(resume, { recursive: true });
  const stages = stagesOf(operators);
  const rows: ComparedRow[] = [];
  for (const [at, { name, model }] of entries.entries()) {
    const call: CallOptions = {
      signal,
      onProgress:
        onProgress &&
        ((step) => onProgress({ ...step, fraction: (at + (step.fraction ?? 0)) / entries.length })),
    };
    const task = { model, data, options: given, call };
    const file = resume && join(resume, `${fileName(name)}.json`);
    const digest = resume && digestOfRow(task, operators);
    const stored = file && (await storedRow(file, digest!, name, task));
    if (stored) {
      rows.push(stored);
      continue;
    }
    const row = await rowOf(name, task, stages);
    rows.push(row);
    if (file)
      await replaceFile(file, async (handle) => {
        await handle.writeFile(`${JSON.stringify({ format: FORMAT, digest, row })}\n`);
      });
  }
  return { columns: columnsOf(stages), rows };
}

function namesOf(models: readonly (Model | NamedModel)[]): NamedModel[] {
  if (!Array.isArray(models) || models.length === 0)
    throw new OptionError(`compare: expected an array of networks, got ${describe(models)}`);
  const entries = models.map((each: Model | NamedModel) =>
    each instanceof Model ? { name: basename(each.source, ".onnx"), model: each } : each,
  );
  const names = new Set<string>();
  for (const { name, model } of entries) {
    if (!(model instanceof Model) || typeof name !== "string" || name === "")
      throw new OptionError(
        `compare: expected models of loadModel or { name, model }, got ${describe(model)}`,
      );
    if (names.has(name))
      throw new OptionError(
        `compare: expected names that differ, got "${name}" twice; give { name, model }`,
      );
    names.add(name);
  }
  return entries;
}

const fileName = (name: string) => name.replace(/[^\w.-]+/g, "_");

async function rowOf(name: string, task: Task, stages: readonly Stage[]): Promise<ComparedRow> {
  const begin = performance.now();
  const cells: Cells = { parameters: exact(task.model.parameterCount) };
  const spectra: Partial<Record<ComparedOperator, ComparedSpectrum>> = {};
  for (const { operator, columns, run } of stages) {
    const key = (column: string) => (operator ? `${operator}.${column}` : column);
    try {
      const found = await run(task, operator ?? "hessian");
      for (const [column] of columns) cells[key(column)] = found.cells[column]!;
      if (operator && found.spectrum) spectra[operator] = found.spectrum;
    } catch (error) {
      if (error instanceof AbortError || task.call.signal?.aborted) throw error;
      const failed = (error as Error).message;
      for (const [column] of columns) cells[key(column)] = { failed };
    }
  }
  const seconds = (performance.now() - begin) / 1000;
  return { name, source: task.model.source, cells, spectra, reused: false, seconds };
}

/** Of everything that a row depends on; threads and memory change nothing. */
function digestOfRow({ model, data, options }: Task, operators: readonly string[]): string {
  const { loss, precision, target, k, maxExact, tol, probes, seed } = options;
  const settings = {
    ...{ operators, loss: loss ?? model.loss, precision, target, k, maxExact, tol, probes },
    ...{
      seed: `${seed ?? 0}`,
      data: data.toString(),
      output: model.output,
      nodes: model.operators,
    },
    parameters: model.parameters.map(({ name, shape }) => [name, shape]),
  };
  return digestOf(settings, [parameterVector(model)]);
}

/** A row that was done before, of the same network, data and options. */
async function storedRow(
  file: string,
  digest: string,
  name: string,
  task: Task,
): Promise<ComparedRow | undefined> {
  const text = await readFile(file, "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  let found: { format?: string; digest?: string; row?: ComparedRow };
  try {
    found = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (found.format !== FORMAT || found.digest !== digest || !found.row) return undefined;
  // The digest does not cover the numbers of the data: their loss does.
  const before = found.row.cells.loss!;
  const now = await WORTH.run(task, "hessian").then(
    ({ cells }) => cells.loss!,
    (error: Error): ComparedCell => ({ failed: error.message }),
  );
  const same =
    "failed" in before || "failed" in now
      ? "failed" in before && "failed" in now && before.failed === now.failed
      : Math.abs(before.value - now.value) <= AGAIN * Math.abs(now.value);
  return same ? { ...found.row, name, reused: true } : undefined;
}

/** What of the parameters the function does not depend on. */
async function symmetryCells({ model, data, options, call }: Task): Promise<Cells> {
  const groups = permutationGroups(model, data);
  const found = symmetries(model, { data, loss: options.loss });
  const { dimension, decomposed } = await found.orbitDimension(undefined, { signal: call.signal });
  return {
    groups: exact(groups.length),
    units: exact(groups.reduce((sum, { size }) => sum + size, 0)),
    orbit: { value: dimension, how: decomposed ? "exact" : "estimated" },
  };
}
