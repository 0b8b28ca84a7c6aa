/** Traces, diagonals and norms of operators from random products, each with a measured error. */
import { CALL_OPTIONS, type CallOptions, run } from "./call";
import { OptionError } from "./errors";
import { exactDiagonal, requireOperator } from "./exact";
import { traceFunction } from "./functions";
import type { LinearOperator } from "./linear-operator";
import type { NativeCall, NativeSampled, NativeSampledOptions, Vectors } from "./native";
import { type Check, check, checkOptions, describe } from "./options";
import { eigsh } from "./spectra";

/** When sampling ends. */
export interface SamplingOptions extends CallOptions {
  /** Standard error to reach, relative to `scale` of the result. */
  tol?: number | undefined;
  /** Standard error to reach, absolute. With tol as well: the larger of the two. */
  standardError?: number | undefined;
  /** Products with single vectors to spend, whatever the error; neither tol nor standardError then. */
  products?: number | undefined;
  /** The most to spend on reaching tol or standardError. Default 1000. */
  maxProducts?: number | undefined;
  /** Of the random vectors, with the parameter's index. Default 0. */
  seed?: number | bigint | undefined;
  /** Vectors a product. Default 16. */
  blockSize?: number | undefined;
  /** Bytes for the vectors that a method keeps. Default: no limit. */
  maxMemory?: number | undefined;
}

const SAMPLING_OPTIONS: { [K in keyof Required<SamplingOptions>]: Check } = {
  ...CALL_OPTIONS,
  tol: check.notNegative,
  standardError: check.notNegative,
  products: check.positiveInteger,
  maxProducts: check.positiveInteger,
  seed: check.seed,
  blockSize: check.positiveInteger,
  maxMemory: check.positiveInteger,
};

/** Options that ask for sampling; a seed, and limits of memory, do not. */
const SAMPLING_NAMES = [
  "tol",
  "standardError",
  "products",
  "maxProducts",
  "blockSize",
  "probes",
  "known",
] as const;

/** Rows a sample up to which they are less work than the random products of a default call. */
const FEW_ROWS = 64;

async function defaultMethod<T extends string>(
  operator: LinearOperator,
  options: SamplingOptions,
  estimator: T,
): Promise<T | "exact"> {
  const { native } = operator;
  const given = options as Record<string, unknown>;
  if (!native.sumsRows || SAMPLING_NAMES.some((name) => given[name] !== undefined))
    return estimator;
  const { perSample } = await run(() => native.call("rowsShape", { rows: "own" }, undefined), {
    signal: options.signal,
  });
  return perSample <= FEW_ROWS ? "exact" : estimator;
}

/** A number estimated from random products. */
export interface SampledNumber {
  readonly value: number;
  /** One standard deviation of the value, rounding included. */
  readonly standardError: number;
  /** Holds the truth with probability 0.95. Need not be symmetric about the value. */
  readonly interval: readonly [low: number, high: number];
  /** Whether the requested error was reached, or none was requested. */
  readonly converged: boolean;
  /** Why not; "" when converged. */
  readonly reason: string;
  /** What ran; "exact": unit vectors, "samples": exact as well, from rows of single samples. */
  readonly method: string;
  /** Products with single vectors that were used. */
  readonly products: number;
  /** Random vectors; 0 where exact. */
  readonly samples: number;
  /** What tol is relative to. */
  readonly scale: number;
  readonly warnings: readonly string[];
  readonly seconds: number;
}

export interface TraceOptions extends SamplingOptions {
  /**
   * "xtrace" (Epperly, Tropp, Webber 2024): any symmetric operator, 2 products a sample.
   * "hutchinson" (1990): 1 product, little memory, best for flat spectra. "hutch++" (Meyer, Musco,
   * Musco, Woodruff 2021): 3 products. "xnystrace" (Epperly et al.): positive semi-definite
   * operators, 1 product, the fewest for them. "exact": for Gauss-Newton and Fisher matrices from
   * the rows of single samples (`exactDiagonal`), for others from dim products. Default: "exact"
   * where rows are and a sample has at most 64 of them, which is less work than sampling, unless
   * another option asks for sampling; else "xtrace".
   */
  method?: "xtrace" | "hutchinson" | "hutch++" | "xnystrace" | "exact" | undefined;
  /** Of hutchinson and hutch++: +-1 (default) or normal entries. */
  probes?: "rademacher" | "gaussian" | undefined;
  /** Eigenpairs that are known, of `eigsh`: only the rest is estimated. */
  known?: { readonly values: ArrayLike<number>; readonly vectors: Vectors } | undefined;
}

const TRACE_OPTIONS: { [K in keyof Required<TraceOptions>]: Check } = {
  ...SAMPLING_OPTIONS,
  method: check.oneOf("xtrace", "hutchinson", "hutch++", "xnystrace", "exact"),
  probes: check.oneOf("rademacher", "gaussian"),
  known: {
    expected: "eigenpairs { values, vectors }",
    fits: (value) => {
      const { values, vectors } = (value ?? {}) as {
        values?: { length?: unknown };
        vectors?: unknown;
      };
      return typeof values?.length === "number" && ArrayBuffer.isView(vectors);
    },
  },
};

/**
 * The trace of a symmetric operator, with a standard error and a 95 % interval that holds the truth
 * as often as it says. Without any of tol, standardError and products: tol 0.01. `scale`, what tol
 * is relative to, is the larger of |trace| and the Frobenius norm (of a positive semi-definite
 * operator always the trace), as a trace near zero has no relative error of use. Where sampling
 * would cost dim products or more, the exact trace is taken instead.
 *
 * An error that was not reached is no failure: `converged` is false then, and `reason` says why.
 *
 * @throws OptionError when an option is out of range or xnystrace meets an indefinite operator;
 * DataMismatchError when the operator returns NaN or infinity; MemoryBudgetError; AbortError; what
 * the function of a `linearOperator` throws
 */
export async function trace(
  operator: LinearOperator,
  options: TraceOptions = {},
): Promise<SampledNumber> {
  requireOperator("trace", operator);
  const checked = checkOptions("trace", options, TRACE_OPTIONS);
  const { known } = checked;
  const method = checked.method ?? (await defaultMethod(operator, checked, "xtrace"));
  if (method === "exact" && operator.native.sumsRows) {
    noneOf("trace", checked, SAMPLING_NAMES);
    const begin = performance.now();
    const { trace: value } = await exactDiagonal(operator, callOf(checked));
    return exactNumber(value, "samples", begin);
  }
  const vectors = known && { values: Float64Array.from(known.values), vectors: known.vectors };
  return sampled(checked, (given, onProgress) =>
    operator.native.call(
      "trace",
      { ...given, method, probes: checked.probes ?? "rademacher", ...vectors },
      onProgress,
    ),
  );
}

export interface DiagonalOptions extends SamplingOptions {
  /**
   * "xdiag" (Epperly, Tropp, Webber 2024): 2 products a sample, for spectra that decay.
   * "hutchinson" (Bekas, Kokiopoulou, Saad 2007): 1 product a sample, little memory. "exact" as for
   * `trace`. Default: as for `trace`, "exact" or "xdiag".
   */
  method?: "xdiag" | "hutchinson" | "exact" | undefined;
}

const DIAGONAL_OPTIONS: { [K in keyof Required<DiagonalOptions>]: Check } = {
  ...SAMPLING_OPTIONS,
  method: check.oneOf("xdiag", "hutchinson", "exact"),
};

/** A diagonal, with an error for each entry. */
export interface Diagonal {
  /** dim numbers. */
  readonly values: Float64Array;
  /** One standard deviation of each. */
  readonly standardErrors: Float64Array;
  /** Euclidean norm of `values`, to which tol is relative, and of `standardErrors`. */
  readonly norm: number;
  readonly errorNorm: number;
  readonly converged: boolean;
  readonly reason: string;
  readonly method: string;
  readonly products: number;
  readonly samples: number;
  readonly warnings: readonly string[];
  readonly seconds: number;
}

/**
 * The diagonal of a symmetric operator, entry by entry with its standard error. tol and
 * standardError are about the Euclidean norm of all errors; without any of tol, standardError and
 * products: 128 products, or dim where that is fewer, which give the exact diagonal.
 *
 * @throws as `trace`
 */
export async function diagonal(
  operator: LinearOperator,
  options: DiagonalOptions = {},
): Promise<Diagonal> {
  requireOperator("diagonal", operator);
  const checked = checkOptions("diagonal", options, DIAGONAL_OPTIONS);
  const method = checked.method ?? (await defaultMethod(operator, checked, "xdiag"));
  const errors = new Float64Array(operator.dim);
  if (method === "exact" && operator.native.sumsRows) {
    noneOf("diagonal", checked, SAMPLING_NAMES);
    const begin = performance.now();
    const { diagonal: values } = await exactDiagonal(operator, callOf(checked));
    const norm = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
    const { scale, interval, value, standardError, ...rest } = exactNumber(norm, "samples", begin);
    return { values, standardErrors: errors, norm, errorNorm: 0, ...rest };
  }
  const values = new Float64Array(operator.dim);
  const { value, standardError, scale, interval, ...rest } = await sampled(
    checked,
    (given, onProgress) =>
      operator.native.call("diagonal", { ...given, method, diagonal: values, errors }, onProgress),
  );
  return { values, standardErrors: errors, norm: value, errorNorm: standardError, ...rest };
}

export interface NormOptions extends SamplingOptions {
  /**
   * "xtrace" (default): XTrace for the powers of the operator, 2 products a sample. "hutchinson":
   * the mean of ||A z||^2, 1 product a sample. "exact": dim products.
   */
  method?: "xtrace" | "hutchinson" | "exact" | undefined;
}

const NORM_OPTIONS: { [K in keyof Required<NormOptions>]: Check } = {
  ...SAMPLING_OPTIONS,
  method: check.oneOf("xtrace", "hutchinson", "exact"),
};

/**
 * The Frobenius norm, the root of the sum of squared eigenvalues. tol is relative to it; without
 * any of tol, standardError and products: tol 0.01.
 *
 * @throws as `trace`
 */
export async function frobeniusNorm(
  operator: LinearOperator,
  options: NormOptions = {},
): Promise<SampledNumber> {
  requireOperator("frobeniusNorm", operator);
  return evenNorm(operator, 1, checkOptions("frobeniusNorm", options, NORM_OPTIONS));
}

/**
 * The Schatten p-norm (sum |lambda|^p)^(1/p). Even p: from p / 2 times the products of the Frobenius
 * norm. p = 1 of positive semi-definite operators: the trace, by xnystrace. p = Infinity, the
 * spectral norm: by `eigsh` for one pair of largest magnitude; the lower end of the interval is
 * certain, the upper one, value + residual, holds unless the solver missed a larger eigenvalue.
 * Other p from 1 to 64, among them the nuclear norm of indefinite operators: tr |A|^p by
 * `traceFunction`, 64 products for each of 16 random vectors, or as many as `products` pays for; the
 * interval has the error of the quadrature in it.
 *
 * @throws OptionError for p below 1; else as `trace`
 */
export async function schattenNorm(
  operator: LinearOperator,
  p: number,
  options: NormOptions = {},
): Promise<SampledNumber> {
  requireOperator("schattenNorm", operator);
  const checked = checkOptions("schattenNorm", options, NORM_OPTIONS);
  if (p === Number.POSITIVE_INFINITY) return spectralNorm(operator, checked);
  if (typeof p !== "number" || !(p >= 1 && p <= MOST_P))
    throw new OptionError(
      `schattenNorm: p: expected a number from 1 to ${MOST_P}, or Infinity, got ${describe(p)}`,
    );
  if (p === 1) return nuclearNorm(operator, checked);
  return p % 2 === 0 ? evenNorm(operator, p / 2, checked) : powerNorm(operator, p, checked);
}

const MOST_P = 64;

/** Lanczos steps that |x|^p is integrated by, and random vectors unless products are given. */
const [STEPS, PROBES] = [64, 16];

/** From tr |A|^p by stochastic Lanczos quadrature, relative to the spectral norm for the range. */
async function powerNorm(
  operator: LinearOperator,
  p: number,
  checked: NormOptions,
): Promise<SampledNumber> {
  noneOf("schattenNorm", checked, ["method", "tol", "standardError", "maxProducts", "blockSize"]);
  const begin = performance.now();
  const { seed, maxMemory, signal } = checked;
  const top = await eigsh(operator, { k: 1, tol: 0.01, seed, signal });
  const scale = Math.abs(top.values[0]!);
  if (scale === 0) return { ...exactNumber(0, "slq", begin), products: top.products };
  const probes = checked.products ? Math.floor(checked.products / STEPS) : PROBES;
  if (probes < 2)
    throw new OptionError(
      `schattenNorm: products: expected at least ${2 * STEPS}, ${STEPS} for each of two random ` +
        `vectors, got ${checked.products}`,
    );
  const found = await traceFunction(operator, (x) => (Math.abs(x) / scale) ** p, {
    ...callOf(checked),
    seed,
    maxMemory,
    probes,
    steps: STEPS,
  });
  const root = (sum: number) => scale * Math.max(sum, 0) ** (1 / p);
  const value = root(found.value);
  return {
    ...exactNumber(value, "slq", begin),
    // By the delta method.
    standardError: (value * found.standardError) / (p * found.value),
    interval: [root(found.interval[0]), root(found.interval[1])],
    products: top.products + found.products,
    samples: probes,
    warnings: found.warnings,
  };
}

function evenNorm(
  operator: LinearOperator,
  power: number,
  checked: NormOptions,
): Promise<SampledNumber> {
  const { method = "xtrace" } = checked;
  return sampled(checked, (given, onProgress) =>
    operator.native.call("evenNorm", { ...given, method, power }, onProgress),
  );
}

async function nuclearNorm(operator: LinearOperator, options: NormOptions): Promise<SampledNumber> {
  const { method, ...sampling } = options;
  if (method === "hutchinson" || method === "xtrace")
    throw new OptionError(
      `schattenNorm: method: p = 1 is found by xnystrace, which checks that the operator is ` +
        `positive semi-definite, got "${method}"`,
    );
  try {
    return await trace(operator, { ...sampling, method: "xnystrace" });
  } catch (cause) {
    if (!(cause instanceof OptionError) || !/semi-definite/.test(cause.message)) throw cause;
    if (SAMPLING_NAMES.every((name) => (options as Record<string, unknown>)[name] === undefined))
      return powerNorm(operator, 1, options);
    throw new OptionError(
      "schattenNorm: tol, products and their like are for positive semi-definite operators (ggn, " +
        "fisher), where p = 1 is the trace, and this one is not; leave them out for the nuclear " +
        "norm by quadrature",
      { cause },
    );
  }
}

async function spectralNorm(
  operator: LinearOperator,
  options: NormOptions,
): Promise<SampledNumber> {
  noneOf("schattenNorm: p = Infinity", options, ["products", "standardError", "method"]);
  const { tol, maxProducts, seed, blockSize, maxMemory, signal, onProgress } = options;
  const top = await eigsh(operator, {
    ...{ k: 1, which: "LM", tol, maxProducts, seed, blockSize, maxMemory, signal, onProgress },
  });
  const value = Math.abs(top.values[0]!);
  const residual = top.residuals[0]!;
  const rounding = value * (operator.dtype === "float32" ? 1e-6 : 1e-14);
  return {
    value,
    standardError: residual,
    interval: [value - rounding, value + residual + rounding],
    converged: top.converged,
    reason: top.reason,
    method: top.method,
    products: top.products,
    samples: 0,
    scale: value,
    warnings: top.warnings,
    seconds: top.seconds,
  };
}

type Report = Parameters<LinearOperator["native"]["call"]>[2];

/** Runs a call of the core with the sampling options of `checked`. */
async function sampled(
  checked: SamplingOptions,
  start: (given: NativeSampledOptions, onProgress: Report) => NativeCall<NativeSampled>,
): Promise<SampledNumber> {
  const begin = performance.now();
  const given: NativeSampledOptions = {
    tol: checked.tol ?? 0,
    standardError: checked.standardError ?? 0,
    products: checked.products ?? 0,
    maxProducts: checked.maxProducts ?? 0,
    memoryBudget: checked.maxMemory ?? 0,
    seed: checked.seed ?? 0,
    blockSize: checked.blockSize ?? 16,
  };
  const found = await run((onProgress) => start(given, onProgress), checked);
  const { low, high, ...fields } = found;
  return { ...fields, interval: [low, high], seconds: (performance.now() - begin) / 1000 };
}

function exactNumber(value: number, method: string, begin: number): SampledNumber {
  return {
    value,
    standardError: 0,
    interval: [value, value],
    converged: true,
    reason: "",
    method,
    products: 0,
    samples: 0,
    scale: Math.abs(value),
    warnings: [],
    seconds: (performance.now() - begin) / 1000,
  };
}

function callOf({ signal, onProgress }: CallOptions): CallOptions {
  return { signal, onProgress };
}

/** Refuses options that a method has no use for. */
function noneOf(where: string, options: object, names: readonly string[]): void {
  for (const name of names) {
    const value = (options as Record<string, unknown>)[name];
    if (value !== undefined && !(name in CALL_OPTIONS))
      throw new OptionError(`${where}: ${name} does not apply here, got ${describe(value)}`);
  }
}
